"""What does a page of HTML say? Its paragraphs, items, headings and tables, read tag by tag.

Tags are told from text as the tokenizer of the standard does (https://html.spec.whatwg.org/multipage/parsing.html):
a comment or tag that is never closed lasts to the end. `html.parser` is not used: before Python 3.11.14 such input
costs it quadratic time (CVE-2025-6069). Each pattern here takes what it began, or gives up at the next sign of its
kind.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

from weighbridge.claims.passage import MOST_TITLE, Draft, Kind, headers_of, joined, row_text
from weighbridge.claims.sentence import BREAK, END
from weighbridge.claims.signs import plain, raised, typed, without_tex

SKIPPED = frozenset((
    "script", "style", "nav", "template", "svg", "pre", "noscript", "iframe", "object", "audio", "video",
    "canvas", "button", "select", "textarea", "del", "s", "strike",
))  # fmt: skip
"""Elements that say nothing to a reader of the text."""
_RAW = frozenset(("script", "style", "textarea", "iframe", "noscript"))
"""Elements in which tags are no tags."""
_BLOCKS = frozenset((
    "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "head", "header", "hr", "html", "li", "main", "ol", "p",
    "section", "summary", "ul", "caption", "title",
))  # fmt: skip
_TOKEN = re.compile(
    r"<!--(?:-?>|(?:[^-]++|-(?!->))*+(?:-->|\Z))"
    r"|<(?P<close>/?)(?P<name>[A-Za-z][^\s/>]*+)(?P<rest>(?:[^>=]++|=\s*+(?:\"[^\"]*+(?:\"|\Z)|'[^']*+(?:'|\Z))?)*+)(?:>|\Z)"
    r"|<[!?/][^>]*+(?:>|\Z)"
)
_SPAN = re.compile(r"\b(colspan|rowspan)\s*+=\s*+[\"']?(\d{1,3})(?!\d)", re.I)
_HIDDEN = re.compile(r"aria-hidden\s*+=\s*+[\"']?true", re.I)
_LONG_NUMBER = re.compile(r"&#(?:[xX][0-9a-fA-F]{7,}+|\d{8,}+);?")
_TEX = re.compile(r"<annotation[^<>]*+>([^<]*+)<", re.I)
_POWER = re.compile(r"<msup>\s*+<m\w++>([^<]*+)</m\w++>\s*+<m\w++>([^<]*+)</m\w++>\s*+</msup>", re.I)
MOST_CARRIED = 8
"""Columns of a table whose cells may reach into rows below."""
MOST_SPAN = 50
"""Columns that a cell reaches over."""
MOST_HEADS = 4
"""Rows of headers."""
MOST_MARK = 30
"""Characters of what marks a note; more that is set high, as where a tag is not closed, is text."""


def entities(text: str) -> str:
    r"""Text with its entities read. A number that is too long is no sign: `html.unescape` fails on thousands of digits.

    Example:
        >>> entities("1 &lt; 2&nbsp;GB") == "1 < 2\N{NO-BREAK SPACE}GB", entities("&#" + "9" * 5000)
        (True, '�')
    """
    return html.unescape(_LONG_NUMBER.sub("\ufffd", text)) if "&" in text else text


@dataclass(slots=True)
class _Cell:
    text: str
    line: int
    is_header: bool
    columns: int
    rows: int


@dataclass(slots=True)
class _Table:
    """A table as it is read: its rows, and whether it only arranges a page."""

    rows: list[list[_Cell]] = field(default_factory=list)
    heads: int = 0
    """Rows of its head."""
    is_in_head: bool = False
    is_layout: bool = False


class Page:
    """A page, or a piece of one, that begins at a line of a document."""

    def __init__(self, draft: Draft, line: int = 1) -> None:
        self.draft, self.line = draft, line
        self.text: list[str] = []
        self.begin = line
        self.lists = 0
        self.level = 0
        """Of the heading that is open, 0 for none; 7 for the title of the page."""
        self.tables: list[_Table] = []
        self.cell: _Cell | None = None
        self.high: list[str] | None = None
        self.is_note = False

    def read(self, text: str) -> None:
        """All of it."""
        at = 0
        while match := _TOKEN.search(text, at):
            self._say(text[at : match.start()])
            at = match.end()
            name = (match["name"] or "").lower()
            if name and not match["close"] and (end := self._end_of_skipped(text, match, name)) is not None:
                self._pass(text[match.start() : end])
                at = end
                continue
            self._pass(match[0])
            if name:
                (self._close if match["close"] else self._open)(name, match["rest"])
        self._say(text[at:])
        while self.tables:
            self._end_table()
        self._flush()

    def _say(self, text: str) -> None:
        if not text:
            return
        if self.high is not None:
            self.high.append(entities(text))
        else:
            if not self.text:
                blank = text[: len(text) - len(text.lstrip())]
                self.line += blank.count("\n")
                self.begin, text = self.line, text[len(blank) :]
            if text:
                self.text.append(entities(text))
        self.line += text.count("\n")

    def _pass(self, markup: str) -> None:
        """Counts the lines of what says nothing."""
        lines = markup.count("\n")
        self.line += lines
        if self.text and lines:
            self.text.append(BREAK * lines)

    def _end_of_skipped(self, text: str, match: re.Match[str], name: str) -> int | None:
        """Where an element that says nothing ends; formulas are said as they were typed."""
        if name == "math":
            end = _after(text, match.end(), name, is_raw=True)
            self._formula(text[match.end() : end])
            return end
        if name in SKIPPED or (name == "span" and _HIDDEN.search(match["rest"])):
            if match["rest"].endswith("/") and name not in _RAW:
                return match.end()
            return _after(text, match.end(), name, is_raw=name in _RAW)
        return None

    def _formula(self, math: str) -> None:
        typed_in = _TEX.search(math)
        said = typed(typed_in[1]) if typed_in else re.sub(r"<[^<>]*+>", "", _POWER.sub(r"\1^\2", math))
        if not self.text:
            self.begin = self.line
        self.text.append(joined(entities(said)))

    def _open(self, name: str, rest: str) -> None:
        if name == "sup":
            if self.high is not None:
                self._lower()
            self.high, self.is_note = [], False
        elif name == "a" and self.high is not None:
            self.is_note = True
        elif name == "br":
            if self.text:
                self.text.append(END)
        elif re.fullmatch("h[1-6]", name):
            self._part()
            self.level = int(name[1]) if self.cell is None else 0
        elif name == "title":
            self._flush()
            self.level = 7
        elif name in ("ul", "ol", "dl"):
            self._flush()
            self.lists += 1
        elif name in ("table", "thead", "tbody", "tfoot", "tr", "td", "th"):
            self._open_table(name, rest)
        elif name in _BLOCKS:
            self._part()

    def _close(self, name: str, rest: str) -> None:
        del rest
        if name == "sup" and self.high is not None:
            self._lower()
        elif name in ("ul", "ol", "dl"):
            self._part()
            self.lists = max(0, self.lists - 1)
        elif name == "table" and self.tables:
            self._end_table()
        elif name in ("td", "th", "tr"):
            self._end_cell()
        elif name == "thead" and self.tables:
            self._end_cell()
            self.tables[-1].is_in_head = False
        elif name in _BLOCKS or re.fullmatch("h[1-6]", name):
            self._part()

    def _lower(self) -> None:
        said = "".join(self.high or ())
        self.high = None
        if len(said) > MOST_MARK or not self.is_note:
            if not self.text:
                self.begin = self.line
            self.text.append(said if len(said) > MOST_MARK else raised(said))

    def _part(self) -> None:
        """A block begins or ends: a paragraph, or in a cell a line."""
        if self.cell is None:
            self._flush()
        elif self.text:
            self.text.append(END)

    def _flush(self) -> None:
        """Ends the paragraph or heading that is open."""
        if self.high is not None:
            self._lower()
        if self.cell is not None:
            self._end_cell()
        text, level = plain(without_tex("".join(self.text))), self.level
        self.text, self.level = [], 0
        if level == 7:
            self.draft.page_title = self.draft.page_title or joined(text) or None
        elif level:
            self.draft.heading(level, text, self.begin)
        elif text:
            kind: Kind = "item" if self.lists else "sentence"
            self.draft.prose(text, self.begin, kind)

    def _open_table(self, name: str, rest: str) -> None:
        if name == "table":
            if self.tables:
                self._end_cell()
                self.tables[-1].is_layout = True
                self._say_layout(self.tables[-1])
            self._flush()
            self.tables.append(_Table())
        elif not self.tables:
            self._part()
        elif name in ("thead", "tbody", "tfoot"):
            self._end_cell()
            self.tables[-1].is_in_head = name == "thead"
        elif name == "tr":
            self._end_cell()
            self.tables[-1].rows.append([])
        else:
            self._end_cell()
            if not self.text:
                self.begin = self.line
            spans = {match[1].lower(): int(match[2]) for match in _SPAN.finditer(rest)}
            self.cell = _Cell(
                "",
                self.line,
                name == "th" or self.tables[-1].is_in_head,
                spans.get("colspan", 1) or 1,
                spans.get("rowspan", 1) or 1,
            )

    def _end_cell(self) -> None:
        if self.cell is None or not self.tables:
            return
        if self.high is not None:
            self._lower()
        cell, table = self.cell, self.tables[-1]
        said = plain(without_tex("".join(self.text))).strip(END + BREAK + " \n")
        cell.text, self.cell, self.text = said, None, []
        cell.line = self.begin
        if not table.rows:
            table.rows.append([])
        table.rows[-1].append(cell)
        if table.is_in_head:
            table.heads = len(table.rows)

    def _end_table(self) -> None:
        self._end_cell()
        self._flush()
        table = self.tables.pop()
        table.rows = [row for row in table.rows if row]
        if table.is_layout or all(len(row) == 1 for row in table.rows):
            self._say_layout(table)
        else:
            self._say_rows(table)

    def _say_layout(self, table: _Table) -> None:
        """The cells of a table that only arranges a page are paragraphs."""
        for cell in (cell for row in table.rows for cell in row):
            self.draft.prose(cell.text, cell.line)
        table.rows = []

    def _say_rows(self, table: _Table) -> None:
        heads = _heads(table)
        placed = _placed(table.rows)
        headers: list[str] = []
        for row in placed[:heads]:
            headers = [" ".join(dict.fromkeys(filter(None, both))) for both in _zipped(headers, headers_of(row))]
        body = list(zip(table.rows, placed, strict=True))[heads:]
        for cells, row in body or zip(table.rows, placed, strict=True):
            if headers and body:
                text = row_text(headers, row)
            else:
                said = [cell for cell in row if cell]
                text = f"{said[0]}: {'; '.join(said[1:])}" if len(said) > 1 else "".join(said)
            self.draft.row(text, cells[0].line)


def _after(text: str, at: int, name: str, *, is_raw: bool) -> int:
    """Where an element ends that began before `at`: after its own closing tag, or at the end of the text."""
    depth = 1
    for match in re.compile(rf"<(/?){name}(?=[\s/>])[^>]*+>?", re.I).finditer(text, at):
        depth += -1 if match[1] else 0 if is_raw else 1
        if not depth:
            return match.end()
    return len(text)


def _heads(table: _Table) -> int:
    """How many rows are headers: those of its head, those of header cells alone, or else the first.

    A table of names and values has none: two columns, of which the first is of header cells or the second begins with a
    number.
    """
    if table.heads:
        return min(table.heads, MOST_HEADS)
    heads = next((at for at, row in enumerate(table.rows) if not all(cell.is_header for cell in row)), 1)
    if heads:
        return min(heads, MOST_HEADS)
    first = table.rows[0]
    is_pairs = max(map(len, table.rows)) == 2 and (first[0].is_header or any(map(str.isdigit, first[-1].text)))
    return 0 if is_pairs else 1


def _placed(rows: list[list[_Cell]]) -> list[list[str]]:
    """The texts of each row by column: a cell that spans rows is repeated, one that spans columns only in headers."""
    carried: dict[int, tuple[int, str]] = {}
    placed: list[list[str]] = []
    for row in rows:
        line: list[str] = []
        is_head = all(cell.is_header for cell in row)
        for cell in row:
            _carry(carried, line)
            text = joined(cell.text.replace(END, " " if cell.is_header else ", "))
            if cell.rows > 1 and len(line) < MOST_CARRIED:
                carried[len(line)] = (cell.rows - 1, text[:MOST_TITLE])
            line.append(text)
            line.extend([text if is_head else ""] * (min(cell.columns, MOST_SPAN) - 1))
        _carry(carried, line)
        placed.append(line)
    return placed


def _carry(carried: dict[int, tuple[int, str]], line: list[str]) -> None:
    while len(line) in carried:
        rows, text = carried.pop(len(line))
        if rows > 1:
            carried[len(line)] = (rows - 1, text)
        line.append(text)


def _zipped(one: list[str], other: list[str]) -> list[tuple[str, str]]:
    length = max(len(one), len(other))
    return list(zip(one + [""] * (length - len(one)), other + [""] * (length - len(other)), strict=True))
