"""What do people know that emits or takes as much? Published figures of `equivalents.toml`, each with its source."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.estimate import Estimate

FILE = Path(__file__).parent / "equivalents.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalent:
    """A thing that people know: what one of it emits, in grams of CO2 equivalent, or takes, in joules."""

    name: str
    title: str
    year: int
    source: str
    url: str
    carbon_g: float | None = None
    energy_j: float | None = None

    def count(self, energy_j: Estimate, carbon_g: Estimate) -> Estimate:
        """How many of it are as much."""
        if self.carbon_g is not None:
            return carbon_g.times(1 / self.carbon_g)
        assert self.energy_j is not None
        return energy_j.times(1 / self.energy_j)


@functools.cache
def equivalents() -> tuple[Equivalent, ...]:
    """All of them, in the order of the file."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(Equivalent(name=name, **facts) for name, facts in tables.items())


def pictured(energy_j: Estimate, carbon_g: Estimate) -> list[dict[str, Any]]:
    """The part `equivalents` of a document: joules and grams in things that people know.

    Example:
        >>> from weighbridge.estimate import Basis
        >>> tonnes = Estimate(291e6, 291e6, 291e6, "g", Basis.SPECIFIED)
        >>> round(pictured(tonnes, tonnes)[0]["count"]["value"], 1)
        63.3
    """
    return [{"name": one.name, "title": one.title, "count": one.count(energy_j, carbon_g).to_json(), "year": one.year,
             "source": one.source, "url": one.url} for one in equivalents()]  # fmt: skip
