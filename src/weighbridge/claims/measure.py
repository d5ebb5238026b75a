"""In what is a quantity measured, and what may be added to, divided by or turned into what?

The units are those in which models are written about, and nothing is one unit with two names: a GB is 10^9 bytes and a
GiB 2^30, a token is not a word, a watt not a joule, a FLOP not a FLOP/s, a request not a request a day. Dimensions
multiply and divide by `pint`, over a registry of these units alone.
"""

from __future__ import annotations

import functools
from typing import Any

from weighbridge.errors import UnitError

_SCALES = (("kilo", 1e3), ("mega", 1e6), ("giga", 1e9), ("tera", 1e12), ("peta", 1e15), ("exa", 1e18))
_OWN = (
    "parameter", "token", "word", "request", "USD", "FLOP", "gram", "example", "image", "device", "layer", "expert",
    "head", "person", "car", "step", "synapse", "block", "copy", "thing",
)  # fmt: skip
"""Things that are counted or paid, each of a dimension of its own."""
_DEFINITIONS = (
    "byte = [information]", "bit = 0.125 byte",
    *(f"{name}byte = {scale:.0f} byte" for name, scale in _SCALES[:5]),
    *(f"{name}byte = {1024**power} byte" for power, name in enumerate(("kibi", "mebi", "gibi", "tebi", "pebi"), 1)),
    "second = [time]", "millisecond = 0.001 second", "microsecond = 1e-6 second", "minute = 60 second",
    "hour = 3600 second", "day = 86400 second", "week = 604800 second", "month = 2629800 second",
    "year = 31557600 second",
    "joule = [energy]", "kilojoule = 1e3 joule", "megajoule = 1e6 joule", "gigajoule = 1e9 joule",
    "watt = joule / second", "kilowatt = 1e3 watt", "megawatt = 1e6 watt", "gigawatt = 1e9 watt",
    "watthour = 3600 joule", "kilowatthour = 3.6e6 joule", "megawatthour = 3.6e9 joule", "gigawatthour = 3.6e12 joule",
    "terawatthour = 3.6e15 joule",
    *(f"{name} = [{name}]" for name in _OWN),
    "milligram = 0.001 gram", "kilogram = 1e3 gram", "tonne = 1e6 gram",
    *(f"{name}FLOP = {scale:.0f} FLOP" for name, scale in _SCALES),
    "percent = 0.01", "ratio = 1", "bit_width = [width]",
)  # fmt: skip

NOTHING = "1"
"""The unit of a number without one, and of a ratio."""


@functools.cache
def _registry() -> Any:
    import pint  # 0.2 s to load: only who checks claims pays for it

    registry: Any = pint.UnitRegistry(None)
    for definition in _DEFINITIONS:
        registry.define(definition)
    return registry


@functools.lru_cache(4096)
def base(unit: str) -> tuple[float, str]:
    """How many of its base unit a unit is, and the name of that.

    Raises:
        UnitError: when it is no unit that is known here.

    Example:
        >>> base("gibibyte"), base("kilowatthour"), base("gigabyte / second")
        ((1073741824.0, 'byte'), (3600000.0, 'joule'), (1000000000.0, 'byte / second'))
    """
    if unit == NOTHING:
        return 1.0, NOTHING
    registry = _registry()
    try:
        found = registry.Quantity(1.0, unit).to_base_units()
    except Exception as error:  # pint has several roots of errors, and some of Python's own
        read = f"the unit {unit[:40]!r}"
        raise UnitError(read, "one that claims are written in", "write it as in GB, kWh or tokens/s") from error
    return float(found.magnitude), str(found.units) if str(found.units) != "dimensionless" else NOTHING


@functools.lru_cache(4096)
def combined(one: str, other: str, power: int) -> tuple[float, str]:
    """The base unit of a product (power 1) or quotient (power -1) of two base units, and what its numbers change by.

    Example:
        >>> combined("watt", "second", 1), combined("token", "second", -1), combined("byte", "byte", -1)
        ((1.0, 'joule'), (1.0, 'token / second'), (1.0, '1'))
    """
    divided = {1: "*", -1: "/"}[power]
    left, right = (x if x != NOTHING else "ratio" for x in (one, other))
    return base(f"({left}) {divided} ({right})")


@functools.lru_cache(4096)
def dimensions(unit: str) -> tuple[tuple[str, float], ...]:
    """The dimensions of a base unit with their powers, in the order of their names.

    Example:
        >>> dimensions("byte / parameter")
        (('[information]', 1.0), ('[parameter]', -1.0))
    """
    if unit == NOTHING:
        return ()
    found = _registry().parse_units(unit).dimensionality
    return tuple(sorted((str(name), float(power)) for name, power in found.items()))
