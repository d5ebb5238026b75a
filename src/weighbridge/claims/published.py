"""Which numbers of explanations are published ones, since no engine can work them out? Those of `published.toml`."""

from __future__ import annotations

import datetime
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from weighbridge.claims.figure import Figure
from weighbridge.estimate import Basis, Estimate

FILE = Path(__file__).parent / "published.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A number with its source, and the day on which that was read."""

    title: str
    value: float
    unit: str
    basis: str
    source: str
    checked: datetime.date
    url: str = ""

    @property
    def figure(self) -> Figure:
        """The number, its source in the note."""
        source = "; ".join(filter(None, (self.source, self.url)))
        return Figure(self.title, Estimate(self.value, self.value, self.value, self.unit, Basis(self.basis), source))


@functools.cache
def _facts() -> Mapping[str, Published]:
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {name: Published(**facts) for name, facts in tables.items()}


def published(name: str) -> Figure:
    """The number of this name.

    Example:
        >>> published("synapses").amount.value
        100000000000000.0
    """
    return _facts()[name].figure
