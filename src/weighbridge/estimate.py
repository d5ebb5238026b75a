"""Numbers that are not exact, and what each rests on.

Exact counts are plain `int`. Everything else is an `Estimate`: a value with a 90% interval, a unit and a basis. The
bases weaken in the order written; a sum carries the weakest basis of its parts, and its bounds add.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

UNKNOWN_PART = "a part is unknown: "


class Basis(Enum):
    """What a number rests on, from the strongest to the weakest."""

    EXACT = "exact"
    SPECIFIED = "specified"
    MEASURED = "measured"
    MODELLED = "modelled"
    ASSUMED = "assumed"

    @property
    def strength(self) -> int:
        """0 for the strongest basis; larger is weaker."""
        return list(Basis).index(self)


def weakest(bases: Iterable[Basis]) -> Basis:
    """The basis of what is worked out from several.

    Example:
        >>> weakest([Basis.EXACT, Basis.ASSUMED, Basis.MEASURED]).value
        'assumed'
    """
    return max(bases, key=lambda basis: basis.strength)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 90% interval, unit and basis. An unknown number is None with a note, never 0.

    Example:
        >>> total = Estimate.sum([Estimate(2, 2, 2, "B", Basis.EXACT), Estimate(3, 1, 5, "B", Basis.MODELLED)])
        >>> (total.value, total.low, total.high, total.basis.value)
        (5, 3, 7, 'modelled')
    """

    value: float | None
    low: float | None
    high: float | None
    unit: str
    basis: Basis
    note: str = ""

    def __post_init__(self) -> None:
        bounds = (self.low, self.value, self.high)
        known = [x for x in bounds if x is not None]
        assert len(known) in (0, 3), f"value and bounds are all known or all unknown: {bounds}"
        assert known == sorted(known), f"low <= value <= high: {bounds}"
        assert known or self.note, "an unknown value says why"

    @staticmethod
    def exact(value: int, unit: str, note: str = "") -> Estimate:
        """An exact count, for places that hold estimates."""
        return Estimate(value, value, value, unit, Basis.EXACT, note)

    @staticmethod
    def sum(parts: Iterable[Estimate]) -> Estimate:
        """The sum of estimates of one unit; unknown as soon as one part is unknown.

        Raises:
            ValueError: when there are no parts or their units differ.
        """
        parts = list(parts)
        units = {part.unit for part in parts}
        if len(units) != 1:
            raise ValueError(f"a sum needs parts of one unit, got {sorted(units)}")
        basis = weakest(part.basis for part in parts)
        unknown = [part for part in parts if part.value is None]
        if unknown:
            note = unknown[0].note.removeprefix(UNKNOWN_PART)
            return Estimate(None, None, None, units.pop(), basis, UNKNOWN_PART + note)
        value, low, high = (sum(x for x in column if x is not None) for column in zip(
            *((p.value, p.low, p.high) for p in parts), strict=True))  # fmt: skip
        return Estimate(value, low, high, units.pop(), basis)

    def times(self, factor: float) -> Estimate:
        """The estimate of so many times as much.

        Example:
            >>> Estimate(2, 1, 4, "s", Basis.MODELLED).times(3).high
            12
        """
        if self.value is None or self.low is None or self.high is None:
            return self
        return replace(self, value=factor * self.value, low=factor * self.low, high=factor * self.high)

    def to_json(self) -> dict[str, Any]:
        """The form `E` of the JSON contract."""
        return {"value": self.value, "low": self.low, "high": self.high, "unit": self.unit,
                "basis": self.basis.value, "note": self.note}  # fmt: skip

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> Estimate:
        """The estimate of a form `E`.

        Example:
            >>> Estimate.from_json(Estimate.exact(3, "B").to_json()) == Estimate.exact(3, "B")
            True
        """
        return Estimate(**{**document, "basis": Basis(document["basis"])})
