"""A number of an answer: what it is, what it rests on, and how it stands in a sentence.

An answer is a sentence with names in braces. Each name is that of a figure, which the engine computes when it is asked:
`filled` puts them in, and a name that no figure has is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.estimate import Estimate
from weighbridge.units import format_bytes, format_count, format_energy, format_mass, format_seconds

_WHOLE = 9_999.5
"""From here on a number is written out, below it four digits count."""
_LARGE = 1e15
"""From here on a power of ten is written."""
_ROUND = 1e6
"""From here on tokens, and parameters that nobody counted, are told as K, M, B or T."""
_ONE = {"parameters": "parameter", "tokens": "token", "layers": "layer", "times": "times"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One number: what it is in words, and the estimate."""

    label: str
    amount: Estimate

    @property
    def text(self) -> str:
        """As a sentence has it: with its unit, and with its interval where it is not exact.

        Example:
            >>> from weighbridge.estimate import Basis
            >>> Figure("weights", Estimate.exact(137_953_296_384, "B")).text
            '137.95 GB (128.48 GiB)'
            >>> Figure("speed", Estimate(32.1, 19.9, 45.2, "token/s", Basis.MODELLED)).text
            '32.1 (19.9 to 45.2) tokens a second'
        """
        found = self.amount
        if found.value is None or found.low is None or found.high is None:
            return "unknown"
        if found.low == found.high:
            return _told(found.value, found.unit)
        text, low, high = (_told(float(end), found.unit) for end in (found.value, found.low, found.high))
        number, unit = _parted(text)
        if _parted(low)[1] == _parted(high)[1] == unit:
            low, high = _parted(low)[0], _parted(high)[0]
            return f"{number} ({low} to {high}) {unit}".rstrip()
        return f"{number} {unit} ({low} to {high})"

    def to_json(self) -> dict[str, Any]:
        """One entry of `figures`: the form `E` of the JSON contract, with what it is."""
        return {"label": self.label, **self.amount.to_json()}


Figures = Mapping[str, Figure]


def count(label: str, number: int, unit: str = "parameters") -> Figure:
    """A figure of an exact count.

    Example:
        >>> count("all", 5050).text
        '5,050 parameters'
    """
    return Figure(label, Estimate.exact(number, unit))


def filled(sentence: str, figures: Figures) -> str:
    """A sentence with its figures put in.

    Example:
        >>> filled("It has {all}.", {"all": count("all", 5050)})
        'It has 5,050 parameters.'
    """
    return sentence.format_map({name: figure.text for name, figure in figures.items()})


def _parted(text: str) -> tuple[str, str]:
    """A number and its unit; money has its unit before the number, and a share has none."""
    if text.startswith("USD "):
        return text, ""
    number, _, unit = text.partition(" ")
    return number, unit


def _told(value: float, unit: str) -> str:
    """A value in its unit, as people write it."""
    if unit == "B":
        text = format_bytes(round(value))
        return text if isinstance(value, int) else text.partition(" (")[0]
    if unit == "share":
        return f"{_digits(100 * value)}%"
    if unit == "USD":
        return f"USD {value:,.2f}" if value < 10 else f"USD {_digits(value)}"
    if unit == "J":
        return format_energy(value)
    if unit == "g":
        return format_mass(value)
    if unit == "s":
        return format_seconds(value)
    if unit == "FLOP":
        return f"{value:.3g} FLOPs".replace("e+", "e")
    if unit in ("tokens", "parameters") and value >= _ROUND and (unit == "tokens" or isinstance(value, float)):
        return f"{format_count(round(value))} {unit}"
    number = f"{value:,}" if isinstance(value, int) else _digits(value)
    words = {"token/s": "tokens a second", "nats/token": "nats a token", "day": "days", "h": "hours"}.get(unit, unit)
    return f"{number} {_ONE.get(words, words) if number == '1' else words}".rstrip()


def _digits(value: float) -> str:
    return f"{value:.3g}" if value >= _LARGE else f"{value:,.0f}" if value >= _WHOLE else f"{value:,.4g}"
