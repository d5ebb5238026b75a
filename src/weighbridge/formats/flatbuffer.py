"""Which values does a FlatBuffers file hold? Tables and vectors found by their offsets, each checked before it is read.

A table begins with the signed distance back to its vtable: 2 bytes of the vtable's length, 2 of the table's, and 2 for
each field: its place in the table, 0 for a field that is left out. Texts, vectors and tables inside of it are reached
by an unsigned distance forward. A file can name one table many times over, so that the number of tables is bounded.

Source: google/flatbuffers, "FlatBuffers Internals", release 25.
"""

from __future__ import annotations

import hashlib
import struct
from typing import NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import ByteSource

PAGE_BYTES = 64 * 1024
MAX_PAGES = 256
MAX_READ_RATIO = 8
"""How often the bytes of a file may be read, all together."""
MIN_TABLE_BYTES = 8
"""What a table takes at least; a file holds no more tables than that, and some that are looked at again."""

_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"


class FlatBuffer:
    """One file, with some pages of bytes kept.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> table = struct.pack("<IHHHHi", 12, 6, 8, 4, 0, 8) + struct.pack("<I", 7)
        >>> root = FlatBuffer(MemoryFile("a.fb", table)).root()
        >>> root.number(0, 4), root.number(1, 4)
        (7, 0)
    """

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.digest = hashlib.sha256()
        self._pages: dict[int, bytes] = {}
        self._left = MAX_READ_RATIO * source.size + PAGE_BYTES
        self._tables = source.size // MIN_TABLE_BYTES + 1000

    def root(self) -> Table:
        """The table that the file begins with."""
        return Table(self, self.unsigned(0, 4))

    def read(self, at: int, length: int) -> bytes:
        """Bytes of tables, vectors and texts.

        Raises:
            FormatError: when they are not in the file, or too many were read.
        """
        if at < 0 or length < 0 or at + length > self.source.size:
            self.fail(f"{length:,} bytes at byte {at:,} are not in it", "offsets that stay inside of the file")
        self._left -= length
        if self._left < 0:
            self.fail("its offsets lead to the same bytes again and again", "each table named once")
        within = at % PAGE_BYTES
        if within + length <= PAGE_BYTES:
            data = self._page(at - within)[within : within + length]
        elif length > PAGE_BYTES:
            data = self.source.read(at, length)
        else:
            starts = range(at - at % PAGE_BYTES, at + length, PAGE_BYTES)
            data = b"".join([self._page(start)[max(0, at - start) : at + length - start] for start in starts])
        self.digest.update(data)
        return data

    def _page(self, start: int) -> bytes:
        if start not in self._pages:
            if len(self._pages) >= MAX_PAGES:
                self._pages.pop(next(iter(self._pages)))
            self._pages[start] = self.source.read(start, min(PAGE_BYTES, self.source.size - start))
        return self._pages[start]

    def unsigned(self, at: int, length: int) -> int:
        """A little-endian number."""
        return int.from_bytes(self.read(at, length), "little")

    def counted(self) -> None:
        """Notes that one more table was opened."""
        self._tables -= 1
        if self._tables < 0:
            self.fail("its offsets lead to the same tables again and again", "each table named once")

    def fail(self, read: str, expected: str) -> NoReturn:
        """Refuses the file."""
        raise FormatError(f"{self.source.name}: {read}", expected, _GET_AGAIN)


class Table:
    """One table; its fields are numbered from 0 in the order of the schema."""

    def __init__(self, file: FlatBuffer, at: int) -> None:
        file.counted()
        self.file, self.at = file, at
        self._vtable_at = at - int.from_bytes(file.read(at, 4), "little", signed=True)
        self._vtable_bytes, self._bytes = struct.unpack("<2H", file.read(self._vtable_at, 4))
        if self._vtable_bytes < 4 or self._vtable_bytes % 2 or self._bytes < 4:
            file.fail(f"a vtable of {self._vtable_bytes} bytes at byte {self._vtable_at:,}", "a vtable")

    def _place(self, field: int, length: int) -> int | None:
        """Where a field of so many bytes lies; None when it is left out."""
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_bytes:
            return None
        offset = self.file.unsigned(self._vtable_at + entry, 2)
        if offset == 0:
            return None
        if offset < 4 or offset + length > self._bytes:
            self.file.fail(f"a field outside of its table at byte {self.at:,}", "fields inside of tables")
        return self.at + offset

    def number(self, field: int, length: int, default: int = 0, *, signed: bool = False) -> int:
        """The number in a field of so many bytes."""
        at = self._place(field, length)
        return default if at is None else int.from_bytes(self.file.read(at, length), "little", signed=signed)

    def _target(self, field: int) -> int | None:
        at = self._place(field, 4)
        return None if at is None else at + self.file.unsigned(at, 4)

    def table(self, field: int) -> Table | None:
        """The table that a field leads to."""
        at = self._target(field)
        return None if at is None else Table(self.file, at)

    def vector(self, field: int, item_bytes: int) -> tuple[int, int]:
        """Where the items of a vector begin, and how many they are; none for a field that is left out.

        Raises:
            FormatError: when they are not all in the file.
        """
        at = self._target(field)
        if at is None:
            return 0, 0
        count = self.file.unsigned(at, 4)
        if at + 4 + count * item_bytes > self.file.source.size:
            self.file.fail(f"a vector of {count:,} items at byte {at:,}", "as many bytes as they take")
        return at + 4, count

    def numbers(self, field: int, item_bytes: int, max_count: int) -> tuple[int, ...]:
        """The signed numbers of a vector."""
        at, count = self.vector(field, item_bytes)
        if count > max_count:
            self.file.fail(f"a vector of {count:,} numbers at byte {at:,}", f"at most {max_count:,}")
        code = {1: "b", 2: "h", 4: "i", 8: "q"}[item_bytes]
        return struct.unpack(f"<{count}{code}", self.file.read(at, count * item_bytes))

    def tables(self, field: int, max_count: int) -> list[Table]:
        """The tables of a vector."""
        at, count = self.vector(field, 4)
        if count > max_count:
            self.file.fail(f"a vector of {count:,} tables at byte {at:,}", f"at most {max_count:,}")
        distances = struct.unpack(f"<{count}I", self.file.read(at, 4 * count))
        return [Table(self.file, at + 4 * i + distance) for i, distance in enumerate(distances)]

    def text(self, field: int, max_bytes: int) -> str:
        """The text of a field, with what is no UTF-8 replaced."""
        at, count = self.vector(field, 1)
        if count > max_bytes:
            self.file.fail(f"a text of {count:,} bytes at byte {at:,}", f"at most {max_bytes:,}")
        return self.file.read(at, count).decode("utf-8", "replace")
