"""How does an explanation read, on a terminal and in the pages of the documentation? Words first, then the numbers."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterable, Iterator, Sequence

from weighbridge.claims.entry import Entry, Explanation
from weighbridge.claims.figure import Figures
from weighbridge.claims.setting import KINDS, Settings
from weighbridge.errors import printable
from weighbridge.show.plans import basis
from weighbridge.show.tables import bold, table

WIDTH = 100


def explanation_lines(found: Explanation) -> Iterator[str]:
    """One term, question or myth, with its numbers and what each rests on."""
    entry = found.entry
    yield bold(heading(found))
    if entry.aliases:
        yield f"also: {', '.join(entry.aliases)}"
    yield from textwrap.wrap(entry.text, WIDTH)
    if entry.plain:
        yield f"in plain words: {entry.plain}"
    if entry.formula:
        yield f"formula: {entry.formula}"
    if found.example:
        yield from textwrap.wrap(found.example, WIDTH)
    yield ""
    if found.figures:
        yield from table("numbers", ("what", "value", "basis"), figure_rows(found.figures), right=(1,))
    if entry.related:
        yield f"related: {', '.join(entry.related)}"
    yield from (f"see: {command}" for command in entry.commands)
    yield from sources(found)


def heading(found: Explanation) -> str:
    """What is explained, in one line; a myth with its verdict, a question with its number."""
    entry = found.entry
    if entry.kind == "myth":
        return f"{entry.name}: {entry.title} {found.verdict.capitalize()}."
    return f"{entry.name}: {entry.title}" if entry.kind == "question" else entry.title


def figure_rows(figures: Figures) -> list[tuple[str, str, str]]:
    """What, value and basis of each number."""
    return [(figure.label, figure.text, basis(figure.amount)) for figure in figures.values()]


def sources(found: Explanation) -> Iterator[str]:
    """The source of the text, then those of the numbers that somebody published."""
    entry = found.entry
    if entry.source:
        checked = f", checked {entry.checked}" if entry.checked else ""
        yield f"source: {entry.source}{checked}{f': {entry.url}' if entry.url else ''}"
    yield from (f"note: {note}" for note in number_notes(found))


def number_notes(found: Explanation) -> Iterator[str]:
    """What the numbers rest on beside their basis: sources and limits, each once."""
    notes = (f"{figure.label}: {figure.amount.note}" for figure in found.figures.values() if figure.amount.note)
    yield from map(printable, dict.fromkeys(notes))


def listing_lines(chosen: Sequence[Entry]) -> Iterator[str]:
    """The table of `weigh explain` without a term."""
    rows = [(entry.name, entry.title, ", ".join(entry.aliases)) for entry in chosen]
    yield from table(f"{len(rows)} terms", ("name", "term", "also"), rows, right=())


def answer_lines(found: Iterable[Explanation]) -> Iterator[str]:
    """Questions or myths, each with its answer."""
    for one in found:
        yield bold(heading(one))
        yield from textwrap.wrap(f"{one.entry.text} {one.example}", WIDTH)
        yield ""


def settings_lines(found: Settings) -> Iterator[str]:
    """The table of `weigh explain --settings`, and what it proves."""
    yield bold(printable(found.source))
    for kind, meaning in KINDS.items():
        rows = [(one.key, json.dumps(one.value, ensure_ascii=False)[:60]) for one in found.of(kind)]
        if rows:
            yield from table(meaning, ("setting", "value"), rows, right=())
    yield f"{found.parameters:,} parameters (exact), none of them a setting"
    yield f"{found.parameters_without:,} parameters without those of training and decoding (exact)"


def markdown(found: Explanation) -> Iterator[str]:
    """An entry as a section of a page."""
    entry = found.entry
    yield f"## {heading(found) if entry.kind != 'term' else entry.title}"
    yield ""
    yield from textwrap.wrap(entry.text, 120)
    yield ""
    if entry.plain:
        yield f"In plain words: {entry.plain}"
        yield ""
    if entry.formula:
        yield f"Formula: `{entry.formula}`"
        yield ""
    if found.example:
        yield from textwrap.wrap(found.example, 120)
        yield ""
    if found.figures:
        yield "| number | value | basis |"
        yield "| --- | ---: | --- |"
        yield from (f"| {' | '.join(row)} |" for row in figure_rows(found.figures))
        yield ""
    if notes := list(number_notes(found)):
        yield from (f"- {note}" for note in notes)
        yield ""
    if entry.source:
        checked = f", read on {entry.checked}" if entry.checked else ""
        yield f"Source: [{entry.source}]({entry.url}){checked}." if entry.url else f"Source: {entry.source}{checked}."
        yield ""
    if entry.commands:
        yield "```bash"
        yield from entry.commands
        yield "```"
        yield ""
