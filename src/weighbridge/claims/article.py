"""What does an article say, sentence by sentence and row by row? Markdown, HTML and plain text, in any usual encoding.

A passage is what one can quote: a sentence, an item of a list, a heading, or a row of a table with the headers of its
columns (`Model: 7B; VRAM: 20 GB`), beside the path of headings that it stands under and the line that it begins at.
Signs are written one way, whatever the format: `10²⁵`, `10<sup>25</sup>` and `$10^{25}$` are `10^25`, `50–80` is
`50-80`, spaces are blanks. Code, scripts, images, struck-out words and marks of notes say nothing and are left out.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass
from pathlib import PurePath

from weighbridge.claims.markdown import read_lines
from weighbridge.claims.page import Page
from weighbridge.claims.passage import Draft, Passage
from weighbridge.errors import SourceError

__all__ = ["Article", "Passage", "read_article", "text_of"]

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
"""UTF-32 before UTF-16, whose mark it begins with."""
_OTHERS = (
    (b"%PDF", "a PDF"), (b"PK\x03\x04", "a zip archive or an office document"), (b"{\\rtf", "rich text"),
    (b"\x1f\x8b", "compressed"), (b"\x89PNG", "an image"), (b"\xff\xd8\xff", "an image"), (b"GIF8", "an image"),
)  # fmt: skip
_EXPECTED = "an article in Markdown, HTML or plain text"
_DECLARED = re.compile(
    rb"<\?xml[^>]{1,99}?encoding\s*=\s*[\"']([\w.:-]{1,40})|<meta[^>]{1,199}?charset\s*=\s*[\"']?\s*([\w.:-]{1,40})",
    re.I,
)
_DECLARABLE = ("utf", "iso8859", "iso2022", "cp", "koi8", "mac", "gb", "big5", "euc", "shift", "johab")
"""What names of encodings of texts begin with: `codecs` knows others, which are none (`rot13`) or slow (`punycode`)."""
_HEAD = 4096
"""Bytes of a page in which its encoding is looked for; browsers look at the first 1,024."""
_NO_TEXT = re.compile(r"[\x01-\x08\x0e-\x1a\x1c-\x1f]")
_CONTROLS = {
    **dict.fromkeys([*range(9), 11, 12, *range(14, 32), *range(127, 160)], " "), 0x85: "\n", 0x2028: "\n", 0x2029: "\n",
}  # fmt: skip
_PAGE = re.compile(r"\s*+(?:<!--(?:[^-]|-(?!->))*+-->\s*+)?<(?:!doctype\s+html|html|\?xml)\b", re.I)


@dataclass(frozen=True, slots=True)
class Article:
    """What an article says, in its order. `encoding` is the one that its bytes were read in."""

    title: str | None
    encoding: str
    passages: tuple[Passage, ...]


def read_article(data: bytes, name: str) -> Article:
    r"""The passages of an article, of the format that its name ends in: `.html`, `.txt`, and Markdown otherwise.

    Raises:
        SourceError: when the bytes are no text, or there is none.

    Example:
        >>> for one in read_article(b"# Costs\n\nA 7B model takes 14 GB. It is *small*.", "a.md").passages:
        ...     print(one.line, one.kind, one.text)
        1 heading Costs
        3 sentence A 7B model takes 14 GB.
        3 sentence It is small.
    """
    text, encoding = text_of(data, name)
    text = text.translate(_CONTROLS).replace("\r\n", "\n").replace("\r", "\n")
    draft = Draft()
    if _is_page(name, text):
        Page(draft).read(text)
    else:
        read_lines(draft, text, name)
    return Article(draft.title or draft.page_title, encoding, tuple(draft.passages))


def text_of(data: bytes, name: str) -> tuple[str, str]:
    r"""Bytes as text, and the encoding that they were read in: by mark, as declared, UTF-8 or else Windows-1252.

    A few bad bytes among UTF-8 are replaced, as browsers do.

    Raises:
        SourceError: when they are no text, or there is none.

    Example:
        >>> text_of("30 €".encode("utf-16"), "a.txt"), text_of(b"30 \x80", "a.txt")
        (('30 €', 'utf-16'), ('30 €', 'windows-1252'))
    """
    for sign, what in _OTHERS:
        if data.startswith(sign):
            raise SourceError(f"{name} is {what}", _EXPECTED, "save its text as one of these")
    text, encoding = _decoded(data, name)
    controls = len(_NO_TEXT.findall(text[:100_000]))
    if "\0" in text or controls > min(len(text), 100_000) / 50:
        raise SourceError(
            f"{name} is binary", _EXPECTED, "name a text; save UTF-16 with its byte order mark, or as UTF-8"
        )
    if not text.strip():
        raise SourceError(f"{name} is empty", _EXPECTED, "name another file")
    return text, encoding


def _decoded(data: bytes, name: str) -> tuple[str, str]:
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            try:
                return data[len(mark) :].decode("utf-8", "replace") if mark == codecs.BOM_UTF8 else data.decode(
                    encoding
                ), encoding
            except UnicodeDecodeError as error:
                read = f"{name} is marked as {encoding} and is not ({error.reason} at byte {error.start:,})"
                raise SourceError(read, _EXPECTED, "save it again as UTF-8") from error
    declared = _declared(data[:_HEAD]) if _is_page(name, data[:_HEAD].decode("latin-1")) else None
    for likely in filter(None, (declared, "utf-8")):
        try:
            return data.decode(likely), likely
        except UnicodeDecodeError:
            continue
    text = data.decode("utf-8", "replace")
    if text.count("\ufffd") * 2 < len(text) - len(text.encode("ascii", "ignore")):
        return text, "utf-8"
    try:
        return data.decode("windows-1252"), "windows-1252"
    except UnicodeDecodeError:
        return data.decode("latin-1"), "latin-1"


def _declared(head: bytes) -> str | None:
    """The encoding that a page says it is in; ISO-8859-1 means Windows-1252, and UTF-16 cannot be (WHATWG Encoding)."""
    match = _DECLARED.search(head)
    if match is None:
        return None
    try:
        known = codecs.lookup((match[1] or match[2]).decode("ascii", "replace")).name
    except LookupError:
        return None
    if known in ("iso8859-1", "ascii"):
        return "windows-1252"
    return "utf-8" if known.startswith(("utf-16", "utf-32")) else known if known.startswith(_DECLARABLE) else None


def _is_page(name: str, text: str) -> bool:
    return PurePath(name).suffix.lower() in (".html", ".htm", ".xhtml") or _PAGE.match(text[:_HEAD]) is not None
