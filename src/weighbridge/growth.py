"""How did models grow? The dated models of the catalogue in order of time, each with its growth.

Growth compares the numbers that developers state, as people quote them (1.5B over 340M), and what is counted or
claimed where nothing is stated; a claimed range gives a range of growth.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import SourceError, UnknownNameError
from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.model import catalogue
from weighbridge.model.catalogue import NamedModel
from weighbridge.names import plain
from weighbridge.side_by_side import Cell, size


@dataclass(frozen=True, slots=True)
class Point:
    """A model in time. `quoted` is the number that growth is worked out from; `is_record` says that it was larger
    than all before it, and the largest of its day.

    `growth` compares with the point before it, `growth_from_first` with the first; None for the first of them.
    """

    model: NamedModel
    released: datetime.date
    parameters: Cell
    quoted: Estimate
    is_record: bool
    growth: Estimate | None
    growth_from_first: Estimate | None

    def to_json(self) -> dict[str, Any]:
        """One entry of the document of `weigh history --json`."""
        return {
            "name": self.model.name, "title": self.model.title, "developer": self.model.developer,
            "released": self.released.isoformat(), "parameters": self.parameters.to_json(),
            "quoted": self.quoted.to_json(), "record": self.is_record,
            "growth": self.growth.to_json() if self.growth else None,
            "growth_from_first": self.growth_from_first.to_json() if self.growth_from_first else None,
        }  # fmt: skip


def history(names: Sequence[str] = (), *, developer: str | None = None, records: bool = False) -> list[Point]:
    """The named models, or all of the catalogue, by date of release; those without a date or a size are left out.

    Args:
        names: models of the catalogue; all of them without any.
        developer: only what this developer released.
        records: only models that were larger than all before them among those that are asked for.

    Raises:
        UnknownNameError: for a name that is not in the catalogue, or a developer that has no model there.
        SourceError: for a named model whose date or size is unknown, or that another developer released.

    Example:
        >>> points = history(["bert-large", "gpt-2-xl", "gpt-3-175b", "palm-540b"])
        >>> [round(point.growth.value, 2) for point in points[1:]]
        [4.41, 116.67, 3.09]
    """
    found = [catalogue.find_model(name) for name in names] or list(catalogue.models())
    if developer is not None:
        wanted = plain(developer)
        developers = {model.developer for model in catalogue.models()}
        if wanted not in map(plain, developers):
            raise UnknownNameError("developer", developer, developers, "run `weigh models`")
        found = [model for model in found if plain(model.developer) == wanted]
        if not found:
            read = f"none of these is a model of {developer}"
            raise SourceError(read, "names of its models, or none", "leave --developer or the names out")
    dated = [(model, quoted) for model in found if model.released and (quoted := _quoted(model)).value is not None]
    if names and len(dated) < len(found):
        lacking = next(model for model in found if model not in [m for m, _ in dated])
        what = "date of release" if lacking.released is None else "size"
        raise SourceError(f"no {what} of {lacking.title} is known", "models with a date and a size", "leave it out")
    return list(_points(sorted(dated, key=lambda pair: (pair[0].released, pair[1].value)), records))


def _points(dated: Sequence[tuple[NamedModel, Estimate]], records: bool) -> Iterator[Point]:
    largest = 0.0
    first: Estimate | None = None
    before: Estimate | None = None
    for place, (model, quoted) in enumerate(dated):
        assert model.released is not None
        assert quoted.value is not None
        is_last_of_day = place + 1 == len(dated) or dated[place + 1][0].released != model.released
        is_record, largest = is_last_of_day and quoted.value > largest, max(largest, quoted.value)
        if records and not is_record:
            continue
        yield Point(model, model.released, size(model), quoted, is_record,
                    _ratio(quoted, before), _ratio(quoted, first))  # fmt: skip
        first, before = first or quoted, quoted


def _quoted(model: NamedModel) -> Estimate:
    """The size as people quote it: stated, or else counted or claimed."""
    if model.stated is not None:
        return Estimate(model.stated, model.stated, model.stated, "parameters", Basis.SPECIFIED, "as stated")
    content = size(model).content
    assert isinstance(content, Estimate)
    return content


def _ratio(one: Estimate, other: Estimate | None) -> Estimate | None:
    if other is None:
        return None
    assert one.value is not None and one.low is not None and one.high is not None
    assert other.value and other.low and other.high
    basis = weakest([one.basis, other.basis])
    return Estimate(one.value / other.value, one.low / other.high, one.high / other.low, "ratio", basis)
