"""How does a result read as a file that is kept? One page in HTML or Markdown, both made of the same parts.

Names, prompts and answers come from models, files and data that nobody vouches for: control characters are written out
when a part is made, and markup is escaped when it is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from weighbridge.errors import SourceError, UnitError, printable
from weighbridge.output_file import write_text
from weighbridge.show import chart, report

MOST_CHARACTERS = 300
"""Of a cell."""
MARKUP = re.compile(r"[\\`*\[\]<>|~&$]|(?<![^\W_])_|_(?![^\W_])")
STYLE = """
body{background:#fff}.weighbridge{margin:auto;max-width:72rem}.weighbridge .wide{overflow-x:auto;font-size:14px}
.weighbridge .wide td:first-child{min-width:4.5rem;max-width:24rem;overflow-wrap:anywhere}
.weighbridge .wide td.n{white-space:nowrap}.weighbridge .wide th{vertical-align:bottom}
.weighbridge .words td,.weighbridge .words th{text-align:left;vertical-align:top}
.weighbridge .words td.n{min-width:3rem;max-width:32rem;white-space:normal;overflow-wrap:anywhere}
.weighbridge pre{border:1px solid var(--line);padding:.6rem;white-space:pre-wrap;overflow-wrap:anywhere}
.weighbridge summary{cursor:pointer;font-weight:600}
@media (prefers-color-scheme:dark){body{background:#16181c}}
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A table, sentences, a picture, or text that stands as it is.

    `is_words` sets a table to the left, `is_folded` opens it only when it is asked for. A picture is SVG and for HTML;
    Markdown has `code` in its place, below its `legend`, or nothing.
    """

    title: str = ""
    heads: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    is_words: bool = False
    is_folded: bool = False
    texts: Sequence[str] = ()
    picture: str = ""
    legend: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A title, a heading with the verdict, the hue of `chart.HUES` that marks it, and what is below."""

    title: str
    heading: str
    hue: str
    parts: Sequence[Part]


def write(path: str, page: Page) -> None:
    """Writes a page; the ending of the path says in which format.

    Raises:
        UnitError: when the ending is another than .md, .markdown, .html and .htm.
        SourceError: when the file cannot be written.
    """
    write_text(path, check(path)(page))


def check(path: str) -> Callable[[Page], str]:
    """What makes a page of this ending, before the work that it is about.

    Raises:
        UnitError: when the ending is another.
        SourceError: when its folder does not exist.
    """
    made = {".md": markdown, ".markdown": markdown, ".html": html, ".htm": html}
    ending = Path(path).suffix.lower()
    if ending not in made:
        raise UnitError(f"the report {path} ends in {ending or 'nothing'}", ", ".join(made), "choose one of these")
    if not Path(path).resolve().parent.is_dir():
        raise SourceError(f"the folder of the report {path} does not exist", "a folder that does", "make it")
    return made[ending]


def html(page: Page) -> str:
    """One self-contained page, for light and dark.

    Example:
        >>> found = html(Page("a", "<b>", "grey", [Part("c", ("d",), [["&"]])]))
        >>> "&lt;b&gt;</h2>" in found, "<td>&amp;</td>" in found
        (True, True)
    """
    mark = f"border-left:.5rem solid {chart.HUES[page.hue][0]};padding-left:.7rem"
    heading = f'<h2 style="{mark}">{escape(printable(page.heading))}</h2>'
    body = f"<style>{report.STYLE}{STYLE}</style>{heading}{''.join(map(_html, page.parts))}"
    return report.document(printable(page.title), f'<div class="weighbridge">{body}</div>')


def markdown(page: Page) -> str:
    r"""The same in Markdown, without pictures.

    Example:
        >>> print(markdown(Page("a", "b|c", "grey", [Part("d", ("e", "f"), [["g", "1"]])])))
        # b\|c
        <BLANKLINE>
        ## d
        <BLANKLINE>
        | e | f |
        | :-- | --: |
        | g | 1 |
        <BLANKLINE>
    """
    heading = f"# {_plain(printable(page.heading))}\n"
    return "\n".join([heading, *filter(None, map(_markdown, page.parts))])


def to_repeat(command: str) -> Part:
    """The command that gives the same again; it may have lines."""
    return Part("To repeat it", code="\n".join(map(printable, command.split("\n"))))


def cut(rows: Iterable[Sequence[str]]) -> list[list[str]]:
    """Rows of words, without those that say nothing behind the first.

    Example:
        >>> cut([("data", "a" * 301), ("probe", "")])[0][1] == "a" * 300 + "…"
        True
    """
    return [[short(cell) for cell in row] for row in rows if any(row[1:])]


def short(cell: str) -> str:
    """The words of a cell, printable and not too many."""
    return printable(cell[:MOST_CHARACTERS]) + ("…" if len(cell) > MOST_CHARACTERS else "")


def _html(part: Part) -> str:
    if part.picture:
        return part.picture
    if part.heads:
        words = " words" if part.is_words else ""
        table = report.table("" if part.is_folded else part.title, part.heads, part.rows)
        shown = f'<div class="wide{words}">{table}</div>'
        return f"<details><summary>{escape(part.title)}</summary>{shown}</details>" if part.is_folded else shown
    title = f"<h3>{escape(part.title)}</h3>" if part.title else ""
    if part.code:
        return f"{title}<pre><code>{escape(part.code)}</code></pre>"
    return title + report.items(part.texts)


def _markdown(part: Part) -> str:
    title = f"## {_plain(part.title)}\n\n" if part.title else ""
    if part.heads:
        sides = [":--" if part.is_words or not place else "--:" for place in range(len(part.heads))]
        rows = (map(_plain, part.heads), sides, *(map(_plain, row) for row in part.rows))
        return title + "".join(f"| {' | '.join(row)} |\n" for row in rows)
    if part.code:
        fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", part.code)), default=0))
        legend = f"{part.legend}\n\n" if part.legend else ""
        return f"{title}{legend}{fence}\n{part.code}\n{fence}\n"
    return title + "".join(f"- {_plain(text)}\n" for text in part.texts) if part.texts else ""


def _plain(text: str) -> str:
    """Text with the signs escaped that Markdown would read as markup."""
    return MARKUP.sub(r"\\\g<0>", text)
