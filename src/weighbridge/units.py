"""Sizes, counts and energies as people write them, and back: the only place where GB and GiB appear in code.

1 GB is 10^9 bytes, 1 GiB is 2^30 bytes (IEC 80000-13). A number without a unit is never guessed to have one: bytes
are whole numbers or carry a unit; parameter counts may carry K, M, B or T (10^3 to 10^12).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from weighbridge.errors import UnitError

if TYPE_CHECKING:
    from fractions import Fraction

_BYTE_UNITS = {
    "": 1, "b": 1, "byte": 1, "bytes": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12, "pb": 10**15,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40, "pib": 2**50,
}  # fmt: skip
_COUNT_UNITS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_SMALL_ENERGY_UNITS = {"mJ": 1e-3, "mWh": 3.6}
_ENERGY_UNITS = {"j": 1.0, "kj": 1e3, "mj": 1e6, "gj": 1e9, "wh": 3.6e3, "kwh": 3.6e6, "mwh": 3.6e9, "gwh": 3.6e12}
_QUANTITY = re.compile(r"\s*([0-9][0-9_,]*(?:\.[0-9]+)?(?:[eE][0-9]{1,2})?)\s*([A-Za-z/]*)\s*")

_RANGE = re.compile(r"(?P<low>[0-9.]+(?:e[-+]?[0-9]+)?)(?:-(?P<high>[0-9.]+(?:e[-+]?[0-9]+)?))?", re.IGNORECASE)
MOST_OF_RANGE = 1e15
"""No range that is asked for goes so far."""


def _split(text: str, kind: str, example: str) -> tuple[Fraction, str]:
    from fractions import Fraction  # which loads `decimal`: a plain `weigh inspect` parses no quantity

    match = _QUANTITY.fullmatch(text[:100])
    if match is None:
        raise UnitError(f"{text[:100]!r} is not a {kind}", f"a number and a unit such as {example}", "write it so")
    return Fraction(match[1].replace("_", "").replace(",", "")), match[2]


def parse_bytes(text: str) -> int:
    """Bytes from text such as `80MB`, `1.5GiB` or `4096`.

    Raises:
        UnitError: for bits (`Gb`, `Gbit`), for rates, for fractions of a byte and for unknown units.

    Example:
        >>> parse_bytes("1.5GiB"), parse_bytes("80 MB"), parse_bytes("4096")
        (1610612736, 80000000, 4096)
    """
    number, unit = _split(text, "size", "80MB, 1.5GiB or 4096")
    if re.fullmatch(r"(?i:[kmgtp]?i?bits?)|[KMGTP]i?b", unit):
        raise UnitError(f"{text!r} counts bits", "bytes such as 80MB or 1.5GiB", "divide by 8 and write B for bytes")
    scale = _BYTE_UNITS.get(unit.lower())
    if scale is None:
        raise UnitError(
            f"{text!r} has the unit {unit!r}", "B, KB, MB, GB, TB, KiB, MiB, GiB or TiB", "use one of these"
        )
    size = number * scale
    if size.denominator != 1:
        raise UnitError(f"{text!r} is not a whole number of bytes", "whole bytes", "round it")
    return int(size)


def parse_count(text: str) -> int:
    """A count of parameters, tokens or layers from text such as `1.3B`, `50k` or `32_000`.

    Raises:
        UnitError: when the unit is one of bytes (`GB`) or unknown, or the count is not whole.

    Example:
        >>> parse_count("1.3B"), parse_count("50k"), parse_count("32,000")
        (1300000000, 50000, 32000)
    """
    number, unit = _split(text, "count", "1.3B, 50k or 32000")
    scale = _COUNT_UNITS.get(unit.lower())
    if scale is None:
        raise UnitError(f"{text!r} has the unit {unit!r}", "a count: K, M, B, T or none", "leave units of size out")
    count = number * scale
    if count.denominator != 1:
        raise UnitError(f"{text!r} is not a whole count", "a whole number", "round it")
    return int(count)


def parse_energy(text: str) -> float:
    """Joules from text such as `144J`, `0.04Wh` or `0.00004 kWh`.

    Case matters for m alone: `mJ` is a thousandth of a joule, `MJ` a million; `mj`, which may be either, is refused.

    Raises:
        UnitError: for a number without a unit, or with one that is none of energy, such as `kW`.

    Example:
        >>> parse_energy("144J"), round(parse_energy("0.00004 kWh"), 9)
        (144.0, 144.0)
    """
    number, unit = _split(text, "energy", "144J or 0.00004kWh")
    scale = _SMALL_ENERGY_UNITS.get(unit)
    if scale is None and not unit.startswith("m"):
        scale = _ENERGY_UNITS.get(unit.lower())
    if scale is None:
        raise UnitError(f"{text!r} has the unit {unit!r}", "mJ, J, kJ, MJ, Wh, kWh or MWh", "use one of these")
    return float(number) * scale


def format_energy(joules: float) -> str:
    """Joules for people: J, Wh, kWh, MWh or GWh.

    Example:
        >>> format_energy(144.0), format_energy(1.44e11), format_energy(0.0)
        ('144 J', '40 MWh', '0 J')
    """
    scale, unit = next(((s, u) for s, u in ((3.6e12, "GWh"), (3.6e9, "MWh"), (3.6e6, "kWh"), (3.6e3, "Wh"))
                        if joules >= s), (1.0, "J"))  # fmt: skip
    return f"{_four_digits(joules / scale)} {unit}"


def format_mass(grams: float) -> str:
    """Grams for people: mg, g, kg or t.

    Example:
        >>> format_mass(291_070_000.0), format_mass(0.0179), format_mass(8.465e10)
        ('291.1 t', '17.9 mg', '84,650 t')
    """
    scale, unit = next(((s, u) for s, u in ((1e6, "t"), (1e3, "kg"), (1.0, "g")) if grams >= s), (1e-3, "mg"))
    return f"{_four_digits(grams / scale)} {unit}"


def _four_digits(number: float) -> str:
    """Four digits that count, or all before the point where there are more of these."""
    return f"{number:,.0f}" if 9999.5 <= number < 1e15 else f"{number:,.4g}"


def format_bytes(size: int) -> str:
    """Bytes for people, in both spellings above a megabyte, so that neither can be taken for the other.

    Example:
        >>> format_bytes(137_953_296_384)
        '137.95 GB (128.48 GiB)'
        >>> format_bytes(1500)
        '1,500 B'
    """
    if abs(size) < 10**6:
        return f"{size:,} B"
    exponent, name = next((e, n) for e, n in ((5, "P"), (4, "T"), (3, "G"), (2, "M")) if abs(size) >= 1000**e)
    return f"{size / 1000**exponent:,.2f} {name}B ({size / 1024**exponent:,.2f} {name}iB)"


def format_count(count: int) -> str:
    """A count for people: short, with the unit K, M, B or T.

    Example:
        >>> format_count(134_515_008), format_count(1_571_308_810_240), format_count(512)
        ('134.5M', '1.571T', '512')
    """
    for scale, name in ((10**12, "T"), (10**9, "B"), (10**6, "M"), (10**3, "K")):
        if abs(count) >= scale:
            return f"{count / scale:.4g}{name}"
    return str(count)


_SECOND_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "day": 86_400.0,
                 "days": 86_400.0, "month": 2_629_800.0, "year": 31_557_600.0}  # fmt: skip


def parse_seconds(text: str) -> float:
    """Seconds from text such as `50ms`, `2s`, `10min` or `24h`; a number alone has no unit and is refused.

    Raises:
        UnitError: without a unit of time.

    Example:
        >>> parse_seconds("50ms"), parse_seconds("24h")
        (0.05, 86400.0)
    """
    number, unit = _split(text, "time", "50ms, 2s or 24h")
    if unit not in _SECOND_UNITS:
        read = f"{text!r} has the unit {unit!r}" if unit else f"{text!r} has no unit"
        raise UnitError(read, "us, ms, s, min, h or d", "write one, as in 50ms or 2s")
    return float(number) * _SECOND_UNITS[unit]


def parse_rate(text: str) -> float:
    """Events a second from text such as `115.7`, `10M/day` or `600/min`; a number alone is a second's.

    Raises:
        UnitError: when it is none.

    Example:
        >>> parse_rate("2.5"), parse_rate("600/min"), round(parse_rate("10M/day"), 2)
        (2.5, 10.0, 115.74)
    """
    amount, slash, unit = text.partition("/")
    number, scale = _split(amount, "rate", "2.5, 600/min or 10M/day")
    time = unit.strip()
    if scale.lower() not in _COUNT_UNITS or (slash and time not in _SECOND_UNITS):
        raise UnitError(f"{text!r} is not a rate", "a number a second, or 600/min or 10M/day", "write it so")
    return float(number) * _COUNT_UNITS[scale.lower()] / (_SECOND_UNITS[time] if slash else 1.0)


def parse_range(text: str) -> tuple[float, float]:
    """The least and the most of what is written as one number, or as two with a dash between.

    Raises:
        UnitError: when it is none, below 0, or the first is the larger.

    Example:
        >>> parse_range("2"), parse_range("50-100"), parse_range("1e-3-2.5")
        ((2.0, 2.0), (50.0, 100.0), (0.001, 2.5))
    """
    both = _RANGE.fullmatch(text.strip())
    try:
        low, high = (float(both["low"]), float(both["high"] or both["low"])) if both else (1.0, 0.0)
    except ValueError:
        low, high = 1.0, 0.0
    if not 0 <= low <= high < MOST_OF_RANGE:
        raise UnitError(f"{text!r} is no range", "a number of 0 or more, or two such as 50-100", "write it so")
    return low, high


def format_seconds(seconds: float) -> str:
    """A time for people.

    Example:
        >>> format_seconds(0.0123), format_seconds(90.0), format_seconds(86_400.0), format_seconds(2.5)
        ('12.3 ms', '1.5 min', '24 h', '2.5 s')
    """
    for scale, name in ((172_800.0, "d"), (7200.0, "h"), (90.0, "min"), (1.0, "s"), (1e-3, "ms")):
        if seconds >= scale or name == "ms":
            unit = {"d": 86_400.0, "h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3}[name]
            return f"{seconds / unit:,.3g} {name}" if seconds / unit < 1000 else f"{seconds / unit:,.0f} {name}"
    raise AssertionError
