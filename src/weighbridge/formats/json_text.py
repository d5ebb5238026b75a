"""What does a JSON text that nobody vouches for say? One parser for headers, indexes and configurations.

The grammar is RFC 8259, without what Python's own parser lets through beside it: repeated keys, `NaN`, half of a
surrogate pair. Size, depth and the number of values are bounded before anything is built, as 100 MB of `[[],[],...`
make gigabytes of objects. Files that people and Python write may begin with a byte order mark and hold `NaN`, where
the caller allows it; headers may not.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from weighbridge.errors import FormatError

MAX_BYTES = 100_000_000
"""The longest text, unless the caller knows better; safetensors sets the same bound to its header."""
MAX_DEPTH = 64
"""Arrays and objects inside each other. Real configurations stay below 12."""
MAX_ITEMS = 10_000_000
"""Commas and colons: a header of a million tensors has about as many."""

_ACTION = "get the file again from its publisher, or ask them to write it anew"
_BLANK = re.compile(r"[ \t\n\r]*")
_NOT_STRUCTURE = bytes(byte for byte in range(256) if byte not in b'[]{}"')
_STRING_OR_BRACKET = re.compile(r'"(?:[^"\\]|\\.)*+"?|[][{}]', re.DOTALL)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F])|.)", re.DOTALL)

_Pairs = list[tuple[str, Any]]


def parse(
    data: bytes,
    name: str,
    *,
    allow_bom: bool = False,
    allow_constants: bool = False,
    allow_trailing: bool = False,
    notes: list[str] | None = None,
    max_bytes: int = MAX_BYTES,
    max_depth: int = MAX_DEPTH,
    max_items: int = MAX_ITEMS,
) -> Any:
    """The value of a JSON text in UTF-8; `name` is what messages call it.

    Args:
        data: the text.
        name: the file or the part of it that was read.
        allow_bom: skip a byte order mark at the start.
        allow_constants: accept `NaN`, `Infinity`, `-Infinity` and numbers beyond the range of a double.
        allow_trailing: ignore what follows the first value, and say so in `notes`.
        notes: takes the sentence about what was ignored.
        max_bytes: the longest text.
        max_depth: the most arrays and objects inside each other.
        max_items: the most commas and colons.

    Raises:
        FormatError: with line and column where they are known.

    Example:
        >>> parse(b'{"hidden_size": 576}', "config.json")
        {'hidden_size': 576}
        >>> parse(b'{"a": 1, "a": 2}', "config.json")
        Traceback (most recent call last):
        weighbridge.errors.FormatError: config.json holds the key 'a' twice; expected each key once in an object; \
get the file again from its publisher, or ask them to write it anew.
    """
    if len(data) > max_bytes:
        raise FormatError(f"{name} has {len(data):,} bytes of JSON", f"at most {max_bytes:,}", _ACTION)
    items = data.count(b",") + data.count(b":")
    if items > max_items:
        raise FormatError(f"{name} holds up to {items:,} values", f"JSON of at most {max_items:,}", _ACTION)
    text = _decode(data, name, allow_bom)
    _check_depth(data, text, name, max_depth)
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique_keys(name),
        parse_constant=None if allow_constants else _refuse_constant(name),
        parse_float=None if allow_constants else _finite(name),
    )
    start = _blank_end(text, 0)
    try:
        value, end = decoder.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise _not_json(name, error.lineno, error.colno, error.msg) from error
    except ValueError as error:
        # Python refuses to convert integers of more than some 4,300 digits, as that takes quadratic time.
        raise FormatError(
            f"{name} holds a number of thousands of digits", "numbers that fit a double", _ACTION
        ) from error
    except RecursionError as error:
        raise _too_deep(name, max_depth) from error
    _check_surrogates(text, name)
    rest = _blank_end(text, end)
    if rest < len(text):
        if not allow_trailing:
            raise _not_json(name, *_position(text, rest), "more data follows the first value")
        if notes is not None:
            notes.append(
                f"{name} goes on for {len(text) - rest:,} characters after its first JSON value; they are ignored"
            )
    return value


def _blank_end(text: str, start: int) -> int:
    match = _BLANK.match(text, start)
    assert match is not None, "the pattern matches nothing at all, too"
    return match.end()


def _position(text: str, index: int) -> tuple[int, int]:
    """Line and column, both from 1."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def _not_json(name: str, line: int, column: int, reason: str) -> FormatError:
    return FormatError(f"{name} is not valid JSON at line {line} column {column} ({reason})", "JSON in UTF-8", _ACTION)


def _too_deep(name: str, max_depth: int) -> FormatError:
    return FormatError(f"{name} nests more than {max_depth} arrays and objects", "JSON of that depth at most", _ACTION)


def _decode(data: bytes, name: str, allow_bom: bool) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _position(data[: error.start].decode("utf-8"), error.start)
        # The column counts characters, of which the bytes before the bad one may hold fewer.
        column -= error.start - len(data[: error.start].decode("utf-8"))
        raise _not_json(name, line, column, f"byte {data[error.start]:#04x} is not UTF-8") from error
    if text.startswith("\ufeff"):
        if not allow_bom:
            raise _not_json(name, 1, 1, "it begins with a byte order mark")
        text = text[1:]
    return text


def _check_depth(data: bytes, text: str, name: str, max_depth: int) -> None:
    """Refuses nesting that would exhaust the stack, before the parser meets it."""
    # In C, and enough for nearly every file: without escapes each quote ends or begins a string; a string without
    # brackets leaves two quotes, which go; then each round takes the innermost level away. A bracket inside a string
    # leaves a single quote behind, so that nothing in a string can hide a level.
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    structure = data.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    for _ in range(min(8, max_depth)):
        structure = structure.replace(b"[]", b"").replace(b"{}", b"")
        if not structure:
            return
    depth = 0
    for match in _STRING_OR_BRACKET.finditer(text):
        token = match[0]
        if token in "[{":
            depth += 1
            if depth > max_depth:
                raise _too_deep(name, max_depth)
        elif token in "]}":
            depth -= 1
            if depth <= 0:
                return  # the first value ends here; the parser judges what follows


def _check_surrogates(text: str, name: str) -> None:
    """Refuses half of a surrogate pair: such a string cannot be printed or written."""
    if not _SURROGATE.search(text):
        return
    for match in _ESCAPE.finditer(text):
        if match[1] is not None:
            raise _not_json(name, *_position(text, match.start()), "half of a surrogate pair")


def _unique_keys(name: str) -> Callable[[_Pairs], dict[str, Any]]:
    def unique(pairs: _Pairs) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            key = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
            raise FormatError(f"{name} holds the key {key[:100]!r} twice", "each key once in an object", _ACTION)
        return value

    return unique


def _refuse_constant(name: str) -> Callable[[str], NoReturn]:
    def refuse(constant: str) -> NoReturn:
        raise FormatError(f"{name} holds {constant}", "JSON, which has finite numbers only", _ACTION)

    return refuse


def _finite(name: str) -> Callable[[str], float]:
    def finite(digits: str) -> float:
        value = float(digits)
        if not math.isfinite(value):
            raise FormatError(f"{name} holds the number {digits[:40]}", "numbers that fit a double", _ACTION)
        return value

    return finite
