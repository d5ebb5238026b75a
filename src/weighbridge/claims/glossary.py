"""What does a term mean, what is the answer to a common question, does a myth hold? With numbers worked out when asked.

Terms are in `glossary.toml`, questions in `questions.toml`, myths in `myths.toml`. A term is found by any of its names,
a question by `q5` or `question 5`, a myth by `myth3` or `myth 3`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from weighbridge.claims.entry import Entry, Explanation, entries
from weighbridge.errors import UnknownNameError
from weighbridge.names import index, plain

_NUMBERED = {"q": "q", "question": "q", "myth": "myth", "m": "myth"}
_ACTION = "`weigh explain` lists the terms, --questions and --myths the others"


def terms() -> tuple[Entry, ...]:
    """Every term, in the order of the file.

    Example:
        >>> len(terms()) >= 95
        True
    """
    return entries("glossary.toml", "term")


def questions() -> tuple[Entry, ...]:
    """The questions that are asked most, in their order.

    Example:
        >>> questions()[0].name
        'q1'
    """
    return entries("questions.toml", "question")


def myths() -> tuple[Entry, ...]:
    """Statements that computation refutes, or does not.

    Example:
        >>> len(myths())
        9
    """
    return entries("myths.toml", "myth")


@functools.cache
def _by_name() -> Mapping[str, Entry]:
    return index((*terms(), *questions(), *myths()))


def find_entry(name: str) -> Entry:
    """The term, question or myth of this name; case, signs and a plural s do not matter.

    Raises:
        UnknownNameError: when there is none; it lists the nearest.

    Example:
        >>> find_entry("KV cache").name, find_entry("Question 5").name, find_entry("embeddings").name
        ('kv-cache', 'q5', 'embedding')
    """
    wanted = plain(name)
    if numbered := re.fullmatch(r"([a-z]+)-?(\d+)", wanted):
        wanted = _NUMBERED.get(numbered[1], numbered[1]) + str(int(numbered[2][:9]))
    found = _by_name().get(wanted) or _by_name().get(wanted.removesuffix("s"))
    if found is None:
        known = {plain(other) for entry in terms() for other in entry.names}
        raise UnknownNameError("term", name, known, _ACTION)
    return found


def explain(name: str) -> Explanation:
    """What a term means, the answer to a question, or the verdict on a myth, with numbers by the engine.

    Raises:
        UnknownNameError: when there is no such term, question or myth.

    Example:
        >>> explain("kv cache").figures["token"].amount.value
        327680
        >>> explain("myth 4").verdict
        'refuted'
    """
    return explained(find_entry(name))


def explained(entry: Entry) -> Explanation:
    """An entry with its numbers."""
    if entry.kind == "myth":
        from weighbridge.claims import myth_figures

        found = myth_figures.FIGURES[entry.name]()
        return Explanation(entry, found.figures, found.verdict)
    if entry.kind == "question":
        from weighbridge.claims import question_figures

        return Explanation(entry, question_figures.FIGURES[entry.name]())
    from weighbridge.claims import term_figures

    return Explanation(entry, term_figures.FIGURES.get(entry.name, dict)())


def listing(chosen: tuple[Entry, ...]) -> list[dict[str, Any]]:
    """Entries without their numbers: the document of `weigh explain --json` without a term."""
    return [entry.to_json() for entry in chosen]
