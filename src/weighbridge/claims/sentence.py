"""Where does a sentence end? At a full stop that is part of no number, name, address or short word.

A stop ends a sentence where a blank follows it, the word before is no abbreviation or initial, and the next word begins
with no small letter or is a name such as `vLLM`, `llama.cpp` or `gpt-oss-120b`. Time grows with length alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

BREAK = "\x0b"
"""A line that ends inside a tag: counted, and no blank."""
END = "\x0c"
"""A line that the author ended: a sentence ends there, unless the next begins small."""
_ENDS = re.compile(rf"(?<![.!?…])[.!?…]++[\"'”’»)\]]*+(?=\s)|{END}")
_FOLLOWING = re.compile(r"\s*+(\S{0,24})")
_OPENERS = "\"'“‘«([*_"
_NEVER = frozenset((
    "e.g", "eg", "i.e", "ie", "approx", "ca", "cf", "vs", "fig", "figs", "eq", "eqs", "resp", "incl", "excl",
    "dr", "mr", "mrs", "prof", "vol",
))  # fmt: skip
"""Short words, of which none ends a sentence."""
_BEFORE_NUMBERS = frozenset((
    "no", "nos", "nr", "sec", "tab", "art", "ver", "v", "ch", "p", "pp", "min", "max",
))  # fmt: skip
_SELDOM = frozenset((
    "al", "etc", "inc", "corp", "ltd", "co", "jr", "sr", "st", "dept", "univ", "avg", "est",
))  # fmt: skip
"""Short words that end a sentence only where the next begins as most do."""
_STARTERS = frozenset((
    "The", "This", "That", "These", "Those", "It", "Its", "In", "At", "A", "An", "And", "But", "For", "With",
    "By", "On", "We", "They", "If", "When", "There", "Each", "All", "Both", "However", "Then", "So", "Such", "As",
    "Of", "To", "From", "Our", "One", "Two",
))  # fmt: skip


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence of a text begins and ends, blanks before it included.

    Example:
        >>> text = "Llama 3.1 8B, e.g. in fp16, takes 16 GB. It fits."
        >>> [text[begin:end].strip() for begin, end in sentences(text)]
        ['Llama 3.1 8B, e.g. in fp16, takes 16 GB.', 'It fits.']
    """
    begin = 0
    for match in _ENDS.finditer(text):
        if match.start() >= begin and _is_end(text, begin, match):
            yield begin, match.end()
            begin = match.end()
    yield begin, len(text)


def _is_end(text: str, begin: int, match: re.Match[str]) -> bool:
    following = _FOLLOWING.match(text, match.end())
    assert following is not None  # as it matches nothing too
    word_after = following[1].strip(_OPENERS + "”’»)],;:.!?")
    first = word_after[:1]
    if first.islower() and not (any(c.isdigit() or c.isupper() for c in word_after) or "." in word_after):
        return False
    if match[0] == END:
        return True
    if not match[0].startswith(".") or match[0].startswith(".."):
        return True
    before = text[max(begin, match.start() - 40) : match.start()].split()[-2:]
    word = before[-1].lstrip(_OPENERS) if before else ""
    if len(before) < 2 and not any(c.isalpha() for c in word):
        return False  # the number of an item, as "1."
    small = word.lower()
    if small in _NEVER:
        return False
    if small in _BEFORE_NUMBERS:
        return not (first.isdigit() or (small in ("min", "max") and before[:1] and not before[0][-1:].isdigit()))
    is_initial = len(word) == 1 and word.isupper() and not (len(before) > 1 and before[0][-1:].isdigit())
    if small in _SELDOM or is_initial or re.fullmatch(r"(?:[^\W\d_]\.)+[^\W\d_]", word):
        return word_after in _STARTERS
    return True
