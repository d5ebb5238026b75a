"""What do publications say that contradict each other? Every answer with its source, and never one number for all.

Answers are those of `disputed.toml`. `claimed` ones show nothing that they rest on; none enters into any other number.
"""

from __future__ import annotations

import datetime
import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import UnknownNameError

FILE = Path(__file__).parent / "disputed.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What one publication says: from `low` to `high`, each None where it names none, of what, and on what basis."""

    of: str
    basis: str
    source: str
    checked: datetime.date
    low: float | None = None
    high: float | None = None
    url: str = ""

    @property
    def has_bounds(self) -> bool:
        """Whether it names a number."""
        return self.low is not None or self.high is not None

    def to_json(self) -> dict[str, Any]:
        """One entry of `answers`."""
        return {"low": self.low, "high": self.high, "of": self.of, "basis": self.basis, "source": self.source,
                "url": self.url, "date": self.checked.isoformat()}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A question and its answers. `method` is the way to train that it is about, where it is about one."""

    name: str
    title: str
    unit: str
    answers: tuple[Answer, ...]
    method: str = ""

    @property
    def common(self) -> tuple[float, float] | None:
        """The least and the most that all answers with numbers allow; None where no number lies in all of them.

        Example:
            >>> find_dispute("emergence").common is None, find_dispute("lora-price").common
            (True, (500, 500))
        """
        named = [one for one in self.answers if one.has_bounds]
        low = max(-math.inf if one.low is None else one.low for one in named)
        high = min(math.inf if one.high is None else one.high for one in named)
        return (low, high) if low <= high else None

    def to_json(self) -> dict[str, Any]:
        """One entry of `weigh scaling claims`."""
        common = self.common
        return {
            "name": self.name, "title": self.title, "unit": self.unit,
            "answers": [one.to_json() for one in self.answers],
            "common": None if common is None else dict(zip(("low", "high"), common, strict=True)),
        }  # fmt: skip


@functools.cache
def disputes() -> Mapping[str, Dispute]:
    """All questions, in the order of the file."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {
        name: Dispute(name=name, title=table["title"], unit=table["unit"], method=table.get("method", ""),
                      answers=tuple(Answer(**one) for one in table["said"]))
        for name, table in tables.items()
    }  # fmt: skip


def find_dispute(name: str) -> Dispute:
    """The question of this name.

    Raises:
        UnknownNameError: when there is none.
    """
    key = name.strip().lower().replace("_", "-")
    if key not in disputes():
        raise UnknownNameError("disputed question", name, disputes(), "see `weigh scaling claims`")
    return disputes()[key]


def dispute_of_method(method: str) -> Dispute | None:
    """What is said of the price of a way to train; None where nothing is.

    Example:
        >>> found = dispute_of_method("prompt")
        >>> [(one.low, one.high) for one in found.answers], found.common
        ([(10, 100), (500, 5000)], None)
    """
    return next((one for one in disputes().values() if one.method == method), None)
