"""What is explained: a term, a question or a myth, as the TOML files beside this module have it.

An entry's `text` says it in words; `example` is a sentence with names in braces, whose numbers the engine computes. No
number of a model, a machine or a price stands in these files: `filled` takes them from the figures of the entry.
"""

from __future__ import annotations

import datetime
import functools
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.claims.figure import Figure, Figures, filled

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A term, a question or a myth. `kind` is one of these words; `name` is that by which it is asked for.

    `plain` is the same for somebody who has never heard of it. `source` says whose work it is; where a fact of it
    is stated, `checked` is the day on which that was read. `commands` show the same numbers.
    """

    kind: str
    name: str
    title: str
    text: str
    plain: str = ""
    aliases: tuple[str, ...] = ()
    formula: str = ""
    example: str = ""
    related: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    source: str = ""
    url: str = ""
    checked: datetime.date | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""
        return tuple(dict.fromkeys((self.name, self.title, *self.aliases)))

    def to_json(self) -> dict[str, Any]:
        """One entry of the document of `weigh explain --json` without a term."""
        return {"kind": self.kind, "name": self.name, "title": self.title, "aliases": list(self.aliases)}


@dataclass(frozen=True, slots=True)
class Explanation:
    """An entry, with the numbers that were computed for it. `verdict` is that of a myth, else empty."""

    entry: Entry
    figures: Figures
    verdict: str = ""

    @property
    def example(self) -> str:
        """The example with its numbers; empty where there is none."""
        return filled(self.entry.example, self.figures)

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh explain TERM --json`."""
        entry = self.entry
        return {
            **entry.to_json(), "text": entry.text, "plain": entry.plain or None, "formula": entry.formula or None,
            "example": self.example or None, "verdict": self.verdict or None,
            "figures": {name: figure.to_json() for name, figure in self.figures.items()},
            "related": list(entry.related), "commands": list(entry.commands), "source": entry.source or None,
            "url": entry.url or None, "checked": entry.checked.isoformat() if entry.checked else None,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settled:
    """What a computation says of a myth: its numbers, whether they refute it, and whether it still holds in a part."""

    figures: Figures
    refuted: bool
    holds_in_part: bool = False

    @property
    def verdict(self) -> str:
        """In words.

        Example:
            >>> Settled({}, refuted=True, holds_in_part=True).verdict
            'refuted in part'
        """
        if not self.refuted:
            return "not refuted"
        return "refuted in part" if self.holds_in_part else "refuted"


Compute = Callable[[], Mapping[str, Figure]]


@functools.cache
def entries(file: str, kind: str) -> tuple[Entry, ...]:
    """The entries of one of the files, in its order.

    Example:
        >>> entries("glossary.toml", "term")[0].kind
        'term'
    """
    tables = tomllib.loads((FOLDER / file).read_text(encoding="utf-8"))
    return tuple(_entry(kind, name, facts) for name, facts in tables.items())


def _entry(kind: str, name: str, facts: Mapping[str, Any]) -> Entry:
    lists = {key: tuple(facts[key]) for key in ("aliases", "related", "commands") if key in facts}
    return Entry(kind=kind, name=name, **{**facts, **lists})
