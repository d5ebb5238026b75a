r"""What does a MessagePack file say, and where do its long binary values lie? Those are stepped over, never held.

A value begins with a byte that tells its kind and, for short ones, its length. Binary values come back as their place
in the file, as keys of maps as what they are; everything else as what it is.

Source: the specification of MessagePack, https://github.com/msgpack/msgpack/blob/master/spec.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weighbridge.formats.binary_cursor import BinaryCursor

MAX_VALUES = 20_000
"""The largest component of spaCy's small English pipeline has 1,488."""
MAX_DEPTH = 64
MAX_TEXT_BYTES = 1_000_000
MAX_KEY_BYTES = 64

_NUMBERS = {
    0xCA: "f",
    0xCB: "d",
    0xCC: "B",
    0xCD: "H",
    0xCE: "I",
    0xCF: "Q",
    0xD0: "b",
    0xD1: "h",
    0xD2: "i",
    0xD3: "q",
}
_BYTES = {0xC4: "B", 0xC5: "H", 0xC6: "I", 0xC7: "B", 0xC8: "H", 0xC9: "I"}
_TEXTS = {0xD9: "B", 0xDA: "H", 0xDB: "I"}
_ARRAYS = {0xDC: "H", 0xDD: "I"}
_MAPS = {0xDE: "H", 0xDF: "I"}
_CONSTANTS = {0xC0: None, 0xC2: False, 0xC3: True}


@dataclass(frozen=True, slots=True)
class Binary:
    """A binary value: its place in the file."""

    begin: int
    end: int


class Unpacker:
    r"""Unpacks the values of one file, from where its cursor stands. The numbers of big-endian MessagePack are turned.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> Unpacker(BinaryCursor(MemoryFile("a", b"\x82\xa1W\x92\x01\xc0\xc4\1b\xc4\x41" + bytes(65)), "x")).value()
        {'W': [1, None], b'b': Binary(begin=11, end=76)}
    """

    def __init__(self, cursor: BinaryCursor) -> None:
        self._cursor = cursor
        self._count = 0

    def value(self, depth: int = 0) -> Any:
        """The next value: None, a truth value, number, text, `Binary`, list or dict.

        Raises:
            FormatError: for what is none, beyond the limits to count and depth, and for keys that come twice.
        """
        cursor = self._cursor
        self._count += 1
        if self._count > MAX_VALUES or depth > MAX_DEPTH:
            cursor.fail(f"more than {MAX_VALUES:,} values, or {MAX_DEPTH} inside each other")
        kind = cursor.number("B", "a value")
        if kind <= 0x7F or kind >= 0xE0:
            return kind if kind <= 0x7F else kind - 256
        if kind <= 0x8F:
            return self._map(kind & 0x0F, depth)
        if kind <= 0x9F:
            return self._array(kind & 0x0F, depth)
        if kind <= 0xBF:
            return cursor.text(kind & 0x1F, "a text")
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind in _BYTES:
            length = self._number(_BYTES[kind])
            return self._bytes(length + (kind >= 0xC7))  # an extension has one byte of its type in front
        if kind in _TEXTS:
            return cursor.text(self._number(_TEXTS[kind]), "a text", MAX_TEXT_BYTES)
        if kind in _ARRAYS:
            return self._array(self._number(_ARRAYS[kind]), depth)
        if kind in _MAPS:
            return self._map(self._number(_MAPS[kind]), depth)
        if 0xD4 <= kind <= 0xD8:
            return self._bytes(1 + 2 ** (kind - 0xD4))
        return cursor.fail(f"the value type {kind:#x}")

    def _number(self, code: str) -> Any:
        return self._cursor.number(code, "a number", order=">")

    def _bytes(self, length: int) -> Binary:
        return Binary(*self._cursor.step(length, "bytes"))

    def _key(self, depth: int) -> str | bytes | int:
        key = self.value(depth)
        if isinstance(key, Binary) and key.end - key.begin <= MAX_KEY_BYTES:
            return self._cursor.source.read(key.begin, key.end - key.begin)
        if not isinstance(key, str | int):
            self._cursor.fail(f"the key {str(key)[:60]!r}")
        return key

    def _array(self, count: int, depth: int) -> list[Any]:
        if count > self._cursor.left:
            self._cursor.fail(f"a list of {count:,} values")
        return [self.value(depth + 1) for _ in range(count)]

    def _map(self, count: int, depth: int) -> dict[Any, Any]:
        if 2 * count > self._cursor.left:
            self._cursor.fail(f"a map of {count:,} keys")
        found: dict[Any, Any] = {}
        for _ in range(count):
            key = self._key(depth + 1)
            if key in found:
                self._cursor.fail(f"the key {str(key)[:60]!r} a second time")
            found[key] = self.value(depth + 1)
        return found
