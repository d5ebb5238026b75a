"""How much carbon does a kilowatt-hour of a grid stand for? Dated yearly means, by country, cloud region and subregion.

The facts are in `grids.toml`, each with its source. A region of AWS or Azure is taken to draw from the grid of its
place: the country's, or in the United States that of eGRID's subregion. Google publishes its regions itself.
"""

from __future__ import annotations

import datetime
import functools
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.errors import UnknownNameError
from weighbridge.names import plain

FILE = Path(__file__).parent / "grids.toml"
CLOUDS = {"aws": "AWS", "azure": "Azure"}
YEARLY_CHANGE = 0.18
"""What nine in ten of 49 grids stayed within from 2023 to 2024 in the tables that `grids.toml` names."""
YEARLY_CHANGE_G = 20.0
"""Grams that a clean grid moves by in a year, where that is more: with it 42 of Google's 44 regions stayed within from
2024 to 2025, and with the share alone 36; a dry year takes a grid of water power from 3 g to 19."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A grid: grams of CO2 equivalent a kilowatt-hour in a year, and where that is from."""

    name: str
    title: str
    g_per_kwh: float
    year: int
    source: str
    url: str
    checked: datetime.date
    aliases: tuple[str, ...] = ()
    note: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""
        return tuple(dict.fromkeys((self.name, self.title, *self.aliases)))

    @property
    def bounds(self) -> tuple[float, float]:
        """Between what it may be in another year, in grams a kilowatt-hour."""
        change = max(YEARLY_CHANGE * self.g_per_kwh, YEARLY_CHANGE_G)
        return max(0.0, self.g_per_kwh - change), self.g_per_kwh + change

    def to_json(self) -> dict[str, Any]:
        """One entry of the document of `weigh grids --json`."""
        return {"name": self.name, "title": self.title, "aliases": list(self.aliases), "g_per_kwh": self.g_per_kwh,
                "year": self.year, "source": self.source, "url": self.url, "checked": self.checked.isoformat(),
                "note": self.note}  # fmt: skip


@functools.cache
def grids() -> tuple[Grid, ...]:
    """Every grid in the order of the file, then the clouds' regions that draw from one of them.

    Example:
        >>> len(grids()) > 300
        True
    """
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    found = {name: _grid(name, facts, tables["sources"]) for name, facts in tables["grids"].items()}
    return (*found.values(), *(
        replace(found[place], name=region, title=f"{CLOUDS[cloud]} {region}, {found[place].title}", aliases=(),
                note="which grid a region draws from is our choice by its place")
        for cloud, regions in tables["regions"].items() for region, place in regions.items()
    ))  # fmt: skip


def _grid(name: str, facts: Mapping[str, Any], sources: Mapping[str, Mapping[str, Any]]) -> Grid:
    source = sources[facts["source"]]
    return Grid(name=name, title=facts["title"], g_per_kwh=float(facts["g_per_kwh"]), year=facts["year"],
                source=source["text"], url=source["url"], checked=source["checked"],
                aliases=tuple(facts.get("aliases", ())))  # fmt: skip


def find_grid(name: str) -> Grid:
    """The grid of this name: a country by its name or code, a subregion of eGRID, a region of a cloud.

    Raises:
        UnknownNameError: when none has it; it names the nearest.

    Example:
        >>> find_grid("France").g_per_kwh, find_grid("fr").year
        (44.18, 2024)
        >>> find_grid("us-east-1").title, find_grid("us-east1").title
        ('AWS us-east-1, United States, SERC Virginia/Carolina', 'Google Cloud, South Carolina')
    """
    found = _by_name().get(_spelled(name))
    if found is None:
        names = [*(grid.name for grid in grids()), *(grid.title for grid in grids())]
        raise UnknownNameError("grid", name, names, "run `weigh grids`, or give grams of CO2e a kilowatt-hour")
    return found


@functools.cache
def _by_name() -> dict[str, Grid]:
    return {_spelled(name): grid for grid in reversed(grids()) for name in grid.names}


def _spelled(name: str) -> str:
    """A name as it is compared. Signs stay: `us-west-1` is of one cloud and `us-west1` of another."""
    return plain(name[:200])


def matching(text: str) -> Iterator[Grid]:
    """The grids that have a name, or a part of one, of this text."""
    wanted = plain(text)
    return (grid for grid in grids() if any(wanted in plain(name) for name in grid.names))
