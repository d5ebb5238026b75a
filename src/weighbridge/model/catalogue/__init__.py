"""Which models have a name here? Facts about published models, each with its source, in one TOML file a developer.

An entry says one of three things about a model's size, and nothing else is derived from it:

- `config`: its shape, in the keys of a `config.json`, from which everything is counted;
- `stated`: the count that its developer gave, where no shape is published or where the rounded number is in use;
- `claims`: ranges that others claim for a model that nobody outside has counted. They are never facts.

A fact without an entry of its own under `sources` comes from `source`. What an entry does not have is unknown.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weighbridge.errors import UnknownNameError
from weighbridge.names import index, plain

FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Claim:
    """A range of parameters that somebody claims for a model, with who and where."""

    low: int
    high: int
    by: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """The facts about one named model; None is unknown.

    `hub` is its name on the Hugging Face hub. `access` is `open weights` or `closed`. `stated` is the parameter count
    that its developer gave. `released` is the day on which its developer first presented it, by paper, post or weights,
    whichever came first: sizes that were published later keep the day of their announcement. `config` is its shape as
    a `config.json` spells it, empty where none is published.
    """

    name: str
    title: str
    developer: str
    access: str
    source: str
    checked: datetime.date
    released: datetime.date | None = None
    licence: str | None = None
    hub: str | None = None
    aliases: tuple[str, ...] = ()
    stated: int | None = None
    training_tokens: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def source_of(self, fact: str) -> str:
        """Where a fact of this entry comes from."""
        return self.sources.get(fact, self.source)

    @property
    def known_size(self) -> str:
        """What is known of its size without a shape, in words."""
        if self.stated is not None:
            return f"its developer states {self.stated:,} parameters ({self.source_of('stated')})"
        ranges = [f"{c.low:,}" + (f" to {c.high:,}" if c.high > c.low else "") + f" ({c.by})" for c in self.claims]
        return "its size is not disclosed" + (f"; claimed are {', '.join(ranges)}" if ranges else "")

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""
        return tuple(dict.fromkeys((self.name, self.title, *self.aliases, *([self.hub] if self.hub else []))))

    def to_json(self) -> dict[str, Any]:
        """One entry of the document of `weigh models --json`; null is unknown."""
        return {
            "name": self.name, "title": self.title, "aliases": list(self.aliases), "hub": self.hub,
            "developer": self.developer, "access": self.access, "licence": self.licence,
            "released": self.released.isoformat() if self.released else None, "stated": self.stated,
            "training_tokens": self.training_tokens, "config": dict(self.config) or None,
            "claims": [{"low": c.low, "high": c.high, "by": c.by, "source": c.source} for c in self.claims],
            "source": self.source, "sources": dict(self.sources), "checked": self.checked.isoformat(),
            "notes": list(self.notes),
        }  # fmt: skip


def _entry(name: str, facts: Mapping[str, Any]) -> NamedModel:
    claims = tuple(Claim(**claim) for claim in facts.get("claims", ()))
    lists = {key: tuple(facts[key]) for key in ("aliases", "notes") if key in facts}
    return NamedModel(name=name, **{**facts, **lists, "claims": claims})


@functools.cache
def models() -> tuple[NamedModel, ...]:
    """Every named model, by developer and then in the order of its file.

    Example:
        >>> len(models()) >= 150
        True
    """
    import tomllib

    return tuple(
        _entry(name, facts)
        for path in sorted(FOLDER.glob("*.toml"))
        for name, facts in tomllib.loads(path.read_text(encoding="utf-8")).items()
    )


@functools.cache
def _by_name() -> dict[str, NamedModel]:
    return index(models())


def find_model(name: str) -> NamedModel:
    """The model of this name; case and the signs between the parts of a name do not matter.

    Raises:
        UnknownNameError: when none has it; it lists the nearest.

    Example:
        >>> find_model("Llama 2 70B").title, find_model("meta-llama/Llama-2-70b-hf").name
        ('Llama 2 70B', 'llama-2-70b')
    """
    found = _by_name().get(plain(name))
    if found is None:
        raise UnknownNameError("model", name, _by_name(), "`weigh models` lists the names")
    return found


def may_name(name: str) -> bool:
    """Whether a name stands anywhere in the catalogue's files, case and signs aside: if not, `find_model` finds none.

    It takes a hundredth of the time, as nothing is parsed.

    Example:
        >>> may_name("meta-llama/Llama-2-70b-hf"), may_name("somebody/a-model-of-theirs")
        (True, False)
    """
    signs = b"_- \t\r\n"
    wanted = name.lower().encode().translate(None, signs)
    files = (path.read_bytes().lower().translate(None, signs) for path in FOLDER.glob("*.toml"))
    return not name.isascii() or any(wanted in file for file in files)


def matching(text: str) -> Iterator[NamedModel]:
    """The models whose names or developer hold a text."""
    wanted = plain(text)
    return (m for m in models() if any(wanted in plain(part) for part in (*m.names, m.developer)))
