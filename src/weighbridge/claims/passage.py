"""What can be quoted of an article: sentences, items, headings, and rows of tables, with where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from weighbridge.claims.sentence import BREAK, sentences

Kind = Literal["sentence", "row", "heading", "item"]

MOST_TITLE = 120
"""Characters of a heading, or of a column's header, that are repeated beside what stands under it."""
MOST_COLUMNS = 1000


@dataclass(frozen=True, slots=True)
class Passage:
    """A sentence, an item, a heading or a row. `section` is the path of headings to it, as `Costs > Training`."""

    section: str
    text: str
    line: int
    kind: Kind


class Draft:
    """An article as it is read: its passages, and the headings that the next one stands under."""

    def __init__(self) -> None:
        self.title: str | None = None
        self.page_title: str | None = None
        self.passages: list[Passage] = []
        self.section = ""
        self._path: list[tuple[int, str]] = []

    def heading(self, level: int, text: str, line: int) -> None:
        """The first heading of the first level is the title, and no section."""
        text = joined(text)
        if not text:
            return
        if level == 1 and self.title in (None, text):
            self.title, self._path = text, []
        else:
            while self._path and self._path[-1][0] >= level:
                self._path.pop()
            self._path.append((level, text[:MOST_TITLE]))
        self.section = " > ".join(title for _, title in self._path)
        self._add(text, line, "heading")

    def prose(self, text: str, line: int, kind: Kind = "sentence") -> None:
        """Sentences of a text that begins at a line. What names an item, as `Llama 2.`, stays with the next."""
        spans = list(sentences(text))
        if kind == "item" and len(spans) > 1 and _is_name(text[: spans[0][1]]):
            spans[:2] = [(0, spans[1][1])]
        counted = 0
        for begin, end in spans:
            said = text[begin:end]
            start = begin + len(said) - len(said.lstrip())
            line += _breaks(text, counted, start)
            counted = start
            self._add(joined(said), line, kind)

    def row(self, text: str, line: int) -> None:
        """A row of a table."""
        self._add(text, line, "row")

    def _add(self, text: str, line: int, kind: Kind) -> None:
        if any(map(str.isalnum, text)):
            self.passages.append(Passage(self.section, text, line, kind))


def joined(text: str) -> str:
    """Text on one line, with single blanks."""
    return " ".join(text.replace(BREAK, "").split())


def _is_name(text: str) -> bool:
    return len(text) <= MOST_TITLE and ":" not in text and len(text.split()) <= 5


def _breaks(text: str, begin: int, end: int) -> int:
    return text.count("\n", begin, end) + text.count(BREAK, begin, end)


def row_text(headers: Sequence[str], cells: Sequence[str]) -> str:
    """Cells with the headers of their columns; an empty one says nothing."""
    named = [
        f"{headers[at]}: {cell}" if at < len(headers) and headers[at] else cell for at, cell in enumerate(cells) if cell
    ]
    return "; ".join(named)


def headers_of(cells: Sequence[str]) -> list[str]:
    """What stands before the cells of columns."""
    return [cell[:MOST_TITLE].rstrip(" :") for cell in cells[:MOST_COLUMNS]]
