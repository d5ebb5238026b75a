"""How is a name found that people spell in several ways? By lower case, and one sign between all of its parts."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol, TypeVar


class Named(Protocol):
    """An entry of a catalogue."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that finds it."""


Entry = TypeVar("Entry", bound=Named)


def plain(name: str) -> str:
    """A name as it is compared.

    Example:
        >>> plain("Llama 2_70B"), plain("meta-llama/Llama-2-70b-hf")
        ('llama-2-70b', 'meta-llama/llama-2-70b-hf')
    """
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


def index(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Every entry under each of its names as they are compared; no two may share one."""
    found: dict[str, Entry] = {}
    for entry in entries:
        for name in entry.names:
            other = found.setdefault(plain(name), entry)
            assert other is entry, f"{other.name} and {entry.name} are both called {name}"
    return found
