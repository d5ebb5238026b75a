"""What does an article in Markdown or plain text say? Read by lines, after CommonMark and GitHub's tables.

CommonMark 0.31 (https://spec.commonmark.org/0.31.2/): headings, paragraphs, lists, quotes, code, pages in between; of
its inline markup links keep their text, and images, struck-out words, addresses and marks of notes are dropped.
Plain text has the same headings, lists and tables, a short line alone is a heading too, and every other sign stands for
itself.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from weighbridge.claims.page import SKIPPED, Page, entities
from weighbridge.claims.passage import Draft, Kind, headers_of, joined, row_text
from weighbridge.claims.sentence import END
from weighbridge.claims.signs import plain, raised, without_tex

LINE_WIDTH = 120
"""In plain text with a longer line, each line is a paragraph; otherwise blank lines part them."""
MOST_FRONT = 200
"""Lines among which the end of what stands before a text, as its title and date, is looked for."""
_QUOTE = re.compile(r"(?: {0,3}> ?)++")
_FENCE = re.compile(r"(`{3,}+|~{3,}+)(?!.*`)")
_HEADING = re.compile(r"(#{1,6})(?:\s++|$)")
_ITEM = re.compile(r"(?:[-*+•‣◦]|(\d{1,9})[.)])\s++(?:\[[ xX]\]\s++)?")
_LINK = re.compile(r"\[[^\[\]^][^\[\]]*+\]:\s")
_NOTE = re.compile(r"\[\^[^\[\]\s]++\]:\s*+")
_PAGE = re.compile(
    r"<(?:!--|/?(address|article|aside|blockquote|body|caption|center|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure"
    r"|footer|form|h[1-6]|head|header|hr|html|li|main|nav|ol|p|pre|script|section|style|summary|svg|table|tbody|td"
    r"|template|tfoot|th|thead|title|tr|ul)(?=[\s/>]|$))", re.I
)  # fmt: skip
_CLOSED = SKIPPED | {"table"}
"""What ends with its own tag rather than with a blank line."""
_NUMBERED = re.compile(r"\d{1,2}(?:\.\d{1,2}){0,4}\.?\s++(?=\D)")
_MOST_LONE = 80
"""Characters of a line of plain text that may be a heading."""


def read_lines(draft: Draft, text: str, name: str) -> None:
    """Reads Markdown, or plain text where the name ends in `.txt`, into a draft."""
    _Lines(draft, text.split("\n"), is_markdown=PurePath(name).suffix.lower() not in (".txt", ".text")).read()


class _Lines:
    """The lines of a text, and the paragraph that is being read."""

    def __init__(self, draft: Draft, lines: list[str], *, is_markdown: bool) -> None:
        self.draft, self.lines, self.is_markdown = draft, lines, is_markdown
        self.is_wrapped = is_markdown or max(map(len, lines)) <= LINE_WIDTH
        self.paragraph: list[str] = []
        self.begin = 0
        self.kind: Kind = "sentence"
        self.content = 0
        """Blanks before what belongs to the last item; 0 outside lists."""

    def read(self) -> None:
        """All of them."""
        at = self._front() if self.is_markdown else 0
        while at < len(self.lines):
            at = self._block(at)
        self._flush()

    def _front(self) -> int:
        """Where the text begins after front matter, whose title is the article's."""
        if self.lines[0].strip() not in ("---", "+++"):
            return 0
        mark = self.lines[0].strip()
        for at, line in enumerate(self.lines[1:MOST_FRONT], 1):
            if line.strip() == mark:
                return at + 1
            if found := re.match(r"title\s*+[:=]\s*+(.++)", line):
                self.draft.title = joined(plain(found[1].strip().strip("\"'")))
        self.draft.title = None
        return 0

    def _line(self, at: int) -> str:
        line = self.lines[at]
        if self.is_markdown and (quote := _QUOTE.match(line)):
            return line[quote.end() :]
        return line

    def _block(self, at: int) -> int:
        """Reads a line and what belongs to it; where the next stands."""
        line = self._line(at)
        text = line.strip()
        if not text:
            self._flush()
            return at + 1
        indent = len(line[: len(line) - len(line.lstrip())].expandtabs(4))
        if not self.paragraph and indent < min(self.content, 2):
            self.content, self.kind = 0, "sentence"
        if self.is_markdown and (following := self._markup(at, text, indent)) is not None:
            return following
        if heading := _HEADING.match(text):
            self._flush()
            self._heading(len(heading[1]), _without_closing(text[heading.end() :]), at)
            return at + 1
        if text[0] in "-=*_" and len(text) > 1 and len(set(text) - {" "}) == 1 and (text[0] == "=" or len(text) > 2):
            return self._rule(at, text)
        if (end := self._table(at)) is not None:
            return end
        item = _ITEM.match(text)
        if item and not (self.paragraph and self.kind == "sentence" and item[1] not in (None, "1")):
            self._flush()
            self.kind, self.content = "item", indent + min(item.end(), 4)
            text = text[item.end() :]
        if not self.paragraph:
            self.begin = at
        is_ended = self.is_markdown and (line.endswith("  ") or text.endswith("\\"))
        self.paragraph.append(text.rstrip("\\") + END if is_ended else text)
        if not self.is_wrapped:
            self._flush()
        return at + 1

    def _markup(self, at: int, text: str, indent: int) -> int | None:
        """What Markdown alone has: code, pages, and where links and notes lead to."""
        if fence := _FENCE.match(text):
            self._flush()
            return self._after_code(at + 1, fence[1])
        if not self.paragraph and indent >= self.content + 4 and not (self.content and _ITEM.match(text)):
            return at + 1
        if page := _PAGE.match(text):
            self._flush()
            return self._page(at, (page[1] or "--").lower())
        if _LINK.match(text) and not self.paragraph:
            return at + 1
        if note := _NOTE.match(text):
            self._flush()
            self.begin, self.paragraph = at, [text[note.end() :]]
            self.kind, self.content = "sentence", 0
            return at + 1
        return None

    def _after_code(self, at: int, fence: str) -> int:
        while at < len(self.lines):
            text = self._line(at).strip()
            at += 1
            if text.startswith(fence) and not text.strip(fence[0]):
                break
        return at

    def _page(self, at: int, tag: str) -> int:
        """A piece of HTML: to the end of what it opens, or to a blank line."""
        end = at
        closing = "-->" if tag == "--" else f"</{tag}" if tag in _CLOSED else ""
        while end < len(self.lines):
            line = self.lines[end].lower()
            if not closing and not line.strip():
                break
            end += 1
            if closing and closing in line:
                break
        Page(self.draft, at + 1).read("\n".join(self.lines[at:end]))
        return end

    def _rule(self, at: int, text: str) -> int:
        """A line below a paragraph makes it a heading; elsewhere it parts."""
        is_below = text[0] in "=-" and " " not in text and self.paragraph and self.kind == "sentence"
        if is_below:
            heading = "\n".join(self.paragraph)
            self.paragraph = []
            self._heading(1 if text[0] == "=" else 2, heading, self.begin)
        self._flush()
        return at + 1

    def _table(self, at: int) -> int | None:
        """Reads a table of GitHub's kind: headers, a line of dashes, and rows until a line has no bar."""
        if at + 1 >= len(self.lines) or "|" not in self._line(at) or not _is_ruler(below := self._line(at + 1)):
            return None
        headers = self._cells(self._line(at), " ")
        if len(headers) != len(_parted(below)):
            return None
        self._flush()
        begin, named = at, headers_of(headers)
        at += 2
        while at < len(self.lines) and "|" in (line := self._line(at)):
            self.draft.row(row_text(named, self._cells(line)), at + 1)
            at += 1
        if at == begin + 2:
            self.draft.row(row_text((), headers), begin + 1)
        return at

    def _cells(self, line: str, between: str = ", ") -> list[str]:
        return [joined(restored(cell).replace(END, between)) for cell in _parted(self._inline(line))]

    def _inline(self, text: str) -> str:
        return plain(without_markup(text) if self.is_markdown else without_tex(text))

    def _heading(self, level: int, text: str, at: int) -> None:
        self.draft.heading(level, restored(self._inline(text)), at + 1)
        self.kind, self.content = "sentence", 0

    def _flush(self) -> None:
        """Ends the paragraph."""
        if not self.paragraph:
            return
        text, self.paragraph = "\n".join(self.paragraph), []
        if not self.is_markdown and self.kind == "sentence" and (level := self._lone(text)):
            self._heading(level, text, self.begin)
            return
        self.draft.prose(restored(self._inline(text)), self.begin + 1, self.kind)

    def _lone(self, text: str) -> int:
        """The level of a line of plain text that is a heading by its looks; 0 where it is none.

        One with numbers other than its own is rather a statement.
        """
        numbered = _NUMBERED.match(text)
        words = text[numbered.end() :] if numbered else text
        is_heading = (len(text) <= _MOST_LONE and "\n" not in text and text[-1] not in ".!?:;,|"
                      and words[:1].isupper() and ":" not in words)  # fmt: skip
        if not is_heading:
            return 0
        if not self.draft.passages:
            return 1
        if any(map(str.isdigit, words)):
            return 0
        return 1 + len(numbered[0].strip(" .").split(".")) if numbered else 2


def _without_closing(heading: str) -> str:
    opened = heading.rstrip("#")
    return opened if not opened or opened[-1].isspace() else heading


def _is_ruler(line: str) -> bool:
    """Whether it is the line of dashes below the headers of a table."""
    return "|" in line and not set(line) - set("|-: \t") and all(
        cell.strip().strip(":") and not cell.strip().strip(":").strip("-") for cell in _parted(line)
    )  # fmt: skip


def _parted(line: str) -> list[str]:
    return line.strip().removeprefix("|").removesuffix("|").split("|")


_SIGNS = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_KEPT = {ord(sign): 0xE000 + ord(sign) for sign in _SIGNS}
_RESTORED = {kept: sign for sign, kept in _KEPT.items()}
_MARKED = re.compile(r"[\\`*_\[\]<&~$^]")
_CODE = re.compile(r"(?<!`)(`++)([^`]++)\1(?!`)")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_COMMENT = re.compile(r"<!--(?:[^-]++|-(?!->))*+(?:-->|\Z)")
_ADDRESS = re.compile(r"<((?:https?://|mailto:)[^<>\s]++|[^<>\s@]{1,64}@[^<>\s]++)>")
_HIGH = re.compile(r"<sup(?:\s[^<>]*+)?>([^<]*+)</sup>", re.I)
_STRUCK = re.compile(r"<(del|s|strike|sup)>(?:\s*+<a\s[^<>]*+>)?[^<]*+(?:</a>\s*+)?</\1>|~~(?=\S)[^~]++~~", re.I)
_BREAK = re.compile(r"<br\s*+/?>", re.I)
_TAG = re.compile(r"</?[A-Za-z](?:[^<>=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')?+)*+>")
_IMAGE = re.compile(r"!\[(?:[^\[\]]++|\[[^\[\]]*+\])*+\](?:\([^()]*+(?:\([^()]*+\)[^()]*+)?\)|\[[^\[\]]*+\])")
_LINKED = re.compile(r"\[((?:[^\[\]]++|\[[^\[\]]*+\])*+)\](?:\([^()]*+(?:\([^()]*+\)[^()]*+)?\)|\[[^\[\]]*+\])")
_NOTED = re.compile(r"\[\^[^\[\]\s]++\]")
_HIGH_SIGNED = re.compile(r"\^(-?\d{1,9})\^")
_STARRED = re.compile(r"(?<!\*)(\*{1,3})(?![\s*])([^*]++)(?<!\s)\1(?!\*)")
_UNDERLINED = re.compile(r"(?<![\w])(_{1,3})(?![\s_])([^_]++)(?<!\s)\1(?![\w])")


def without_markup(text: str) -> str:
    r"""The words of a paragraph. Signs that stand for themselves are kept apart until `restored`.

    Example:
        >>> restored(without_markup("**7B** needs [14 GB](a.html)[^1], ~~28 GB~~ as 2 * 7 and `kv_cache` \\* 2"))
        '7B needs 14 GB,  as 2 * 7 and kv_cache * 2'
    """
    if _MARKED.search(text) is None:
        return text
    text = _CODE.sub(lambda match: match[2].translate(_KEPT), _COMMENT.sub(_lines_of, text))
    text = _ESCAPED.sub(lambda match: match[1].translate(_KEPT), without_tex(text))
    text = _HIGH.sub(lambda match: raised(match[1]), _ADDRESS.sub(r"\1", text))
    text = _TAG.sub(_lines_of, _BREAK.sub(END, _STRUCK.sub(_lines_of, text)))
    text = _NOTED.sub("", _LINKED.sub(_link, _IMAGE.sub(_lines_of, text)))
    text = _HIGH_SIGNED.sub(r"^\1", text)
    for _ in range(2):
        text = _UNDERLINED.sub(r"\2", _STARRED.sub(_unstarred, text))
    return entities(text)


def restored(text: str) -> str:
    """The text with the signs that `without_markup` kept apart."""
    return text if text.isascii() else text.translate(_RESTORED)


def _lines_of(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _link(match: re.Match[str]) -> str:
    """Its text, but for the number of a source."""
    return "" if re.fullmatch(r"\[\d{1,3}\]", match[1]) else match[1]


def _unstarred(match: re.Match[str]) -> str:
    """Stars between figures or letters multiply."""
    before, after = match.string[match.start() - 1 : match.start()], match.string[match.end() : match.end() + 1]
    return match[0] if (before.isalnum() and match.start()) or (after.isalnum() and len(match[1]) == 1) else match[2]
