"""What does a data centre take beside its machines, and what did making a device emit? Published, dated figures.

PUE is the energy of a data centre over that of its machines (ISO/IEC 30134-2).
"""

from __future__ import annotations

import datetime
import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from weighbridge.errors import UnknownNameError
from weighbridge.names import index, plain

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """An operator's data centres: their mean PUE in a year."""

    name: str
    title: str
    pue: float
    year: int
    source: str
    checked: datetime.date
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""
        return tuple(dict.fromkeys((self.name, self.title, *self.aliases)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What making one device emitted, in grams of CO2 equivalent, with the spread of the published figures."""

    carbon_g: float
    low_g: float
    high_g: float
    source: str
    url: str
    checked: datetime.date


@functools.cache
def fleets() -> tuple[Fleet, ...]:
    """Every operator whose figure is known."""
    tables = tomllib.loads((FOLDER / "facilities.toml").read_text(encoding="utf-8"))
    return tuple(Fleet(name=name, **{**facts, "aliases": tuple(facts.get("aliases", ()))})
                 for name, facts in tables.items())  # fmt: skip


def find_fleet(name: str) -> Fleet:
    """The operator of this name.

    Raises:
        UnknownNameError: when none has it.

    Example:
        >>> find_fleet("Azure").pue
        1.17
    """
    found = index(fleets()).get(plain(name))
    if found is None:
        raise UnknownNameError("operator", name, (fleet.name for fleet in fleets()), "name one, or give a PUE")
    return found


@functools.cache
def makings() -> Mapping[str, Making]:
    """What making a device emitted, by the name of the device; most makers publish nothing."""
    tables = tomllib.loads((FOLDER / "embodied.toml").read_text(encoding="utf-8"))
    return {device: Making(**{key: value for key, value in facts.items() if key != "devices"})
            for facts in tables.values() for device in facts["devices"]}  # fmt: skip
