"""How do explanations read on a terminal?"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from weighbridge.claims.explanation import Explanation
from weighbridge.claims.glossary import Term
from weighbridge.errors import printable
from weighbridge.show.tables import bold, table

WIDTH = 100


def explanation_lines(found: Explanation) -> Iterator[str]:
    """The report of `weigh explain`."""
    for term in found.terms:
        yield from _term_lines(term)
    if found.listed:
        yield from textwrap.wrap(", ".join(term.name for term in found.listed), WIDTH)
    for question in found.questions:
        yield bold(f"{question.number}. {question.text}")
        yield from textwrap.wrap(question.answer(), WIDTH)
        yield ""
    for myth in found.myths:
        settled = myth.settle()
        yield bold(f"{myth.number}. {myth.text} {settled.verdict.capitalize()}.")
        yield from textwrap.wrap(f"{settled.text}.", WIDTH)
        yield ""
    if found.parameters is not None:
        rows = [(printable(one.key), printable(str(one.value))[:60], one.kind) for one in found.settings]
        yield from table("settings, none of which is a parameter", ("key", "value", "sets"), rows)
        yield f"{found.parameters:,} parameters, which are in the weights"


def _term_lines(term: Term) -> Iterator[str]:
    yield bold(term.name + (f" ({', '.join(term.also)})" if term.also else ""))
    yield from textwrap.wrap(term.text, WIDTH)
    if term.formula:
        yield f"formula: {term.formula}"
    example = term.computed()
    if example is not None:
        yield from textwrap.wrap(f"computed: {example.text}", WIDTH)
    if term.see:
        yield f"see: {', '.join(term.see)}"
    if term.source:
        yield f"source: {term.source}"
