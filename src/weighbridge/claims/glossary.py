"""What does a word of the field mean? Definitions in plain sentences, each with a number that the engine computes."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.claims.example import EXAMPLES, Example
from weighbridge.errors import UnknownNameError
from weighbridge.names import index, plain

FILE = Path(__file__).parent / "glossary.toml"


@dataclass(frozen=True, slots=True)
class Term:
    """One word: what it means, its formula, and the words near it. `source` is where a fact about a work is stated."""

    name: str
    text: str
    formula: str = ""
    also: tuple[str, ...] = ()
    see: tuple[str, ...] = ()
    source: str = ""
    example: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""
        return (self.name, *self.also)

    def computed(self) -> Example | None:
        """Its number for a model that everybody can look up, computed now; None where it has none."""
        return EXAMPLES[self.example]() if self.example else None

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh explain TERM --json`."""
        found = self.computed()
        return {
            "term": self.name, "text": self.text, "formula": self.formula or None, "also": list(self.also),
            "see": list(self.see), "source": self.source or None,
            "example": None if found is None else {"text": found.text, "value": found.value},
        }  # fmt: skip


@functools.cache
def terms() -> tuple[Term, ...]:
    """All terms, by their names.

    Example:
        >>> len(terms()) > 90
        True
    """
    facts = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(_term(name, facts[name]) for name in sorted(facts, key=str.lower))


def _term(name: str, facts: Mapping[str, Any]) -> Term:
    lists = {key: tuple(facts.get(key, ())) for key in ("also", "see")}
    return Term(name=name, **{**facts, **lists})


def explain(name: str) -> Term:
    """The term of a name; case, and the sign between words, do not matter.

    Raises:
        UnknownNameError: when there is none; it lists the nearest.

    Example:
        >>> explain("kv-cache").computed().text
        'Llama 2 70B keeps 327,680 bytes a token, 1.34 GB (1.25 GiB) of 4,096 tokens'
    """
    known = index(terms())
    found = known.get(plain(name)) or known.get(plain(name).removesuffix("s"))
    if found is None:
        raise UnknownNameError("term", name, known, "`weigh explain` without it lists all")
    return found
