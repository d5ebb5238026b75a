"""By how much does the loss fall with more parameters, where tokens do not hold it back?

gain = 1 - L(times x N) / L(N), each loss with more data than the model can use. By Kaplan's law, a power without a
floor, that is 1 - times^-0.076 at any size; laws with a floor give the less the larger the model is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.scaling_laws.forms import Law
from weighbridge.predict.scaling_laws.laws import laws
from weighbridge.predict.scaling_laws.optimum import RANGES, outside

MOST_TIMES = 1e6


@dataclass(frozen=True, slots=True)
class Gain:
    """The share by which the loss of a law falls with so many times the parameters."""

    law: Law
    times: float
    share: Estimate

    def to_json(self) -> dict[str, Any]:
        """One entry of `weigh scaling gain`."""
        return {"law": self.law.name, "counts": self.law.counts, "times": self.times, "gain": self.share.to_json()}


def gain_of(law: Law, parameters: float, times: float) -> float | None:
    """The share by which the loss falls; None where the law gives no loss.

    Example:
        >>> from weighbridge.predict.scaling_laws.laws import find_law
        >>> [round(gain_of(find_law("kaplan"), 70e9, times), 3) for times in (2, 3, 10)]
        [0.051, 0.08, 0.161]
    """
    before, after = (law.loss_with_plenty(size) for size in (parameters, times * parameters))
    return None if before is None or after is None else 1 - after / before


def gain(law: Law, parameters: float, times: float) -> Gain:
    """What a law says of more parameters. No errors of it are published: the interval is from the least to the most of
    all laws that give losses.

    Raises:
        UnitError: for a size that no model has, or times that are no more.

    Example:
        >>> from weighbridge.predict.scaling_laws.laws import find_law
        >>> found = gain(find_law("kaplan"), 1e9, 10).share
        >>> round(found.value, 3), found.basis.value
        (0.161, 'assumed')
    """
    _, least, most = RANGES["parameters"]
    if not (least <= parameters <= most and 1 < times <= MOST_TIMES):
        expected = f"{least:g} to {most:g} parameters, and times above 1, up to {MOST_TIMES:g}"
        raise UnitError(f"{times:g} times {parameters:g} parameters", expected, "correct them")
    value = gain_of(law, parameters, times)
    if value is None:
        told = "the law splits budgets and gives no loss"
        return Gain(law, times, Estimate(None, None, None, "", Basis.MODELLED, told))
    others = [share for one in laws().values() if (share := gain_of(one, parameters, times)) is not None]
    far = outside(law, times * parameters, (law.runs_tokens or (1.0, 1.0))[1])
    note = "; ".join(filter(None, (far, "from the least to the most of the laws that give losses")))
    basis = Basis.ASSUMED if far else Basis.MODELLED
    return Gain(law, times, Estimate(value, min(others), max(others), "", basis, note))


def gains(parameters: float, times: Sequence[float], chosen: Sequence[Law]) -> tuple[Gain, ...]:
    """Every law at every number of times."""
    return tuple(gain(law, parameters, one) for law in chosen for one in times)
