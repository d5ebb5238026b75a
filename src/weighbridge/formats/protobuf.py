"""Which fields does a stretch of protocol-buffer bytes have? Walked field by field; payloads that nobody asks for are
skipped, so that a file of gigabytes costs a few reads.

A field is a varint tag, number x 8 + wire type, and a value: a varint (type 0), 8 bytes (1), a varint length and so
many bytes (2), or 4 bytes (5). Groups (3 and 4) are refused: no model format uses them. The caller knows what a field
means, and follows messages into messages itself, to the depth that it allows.

Source: the encoding guide of Protocol Buffers, as published with release 31.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import ByteSource

MAX_FIELDS = 3_000_000
"""Of all messages of a file together; a second or two of walking."""
WINDOW_BYTES = 64 * 1024
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

_U64 = 2**64 - 1
_GET_AGAIN = "it is cut short, damaged or of another format: get it again and compare its size with the publisher's"


class Field(NamedTuple):
    """One field. `value` is the number of a varint or fixed one, unsigned; the payload lies at [begin, end)."""

    number: int
    wire: int
    value: int
    begin: int
    end: int

    @property
    def signed(self) -> int:
        """The value as an int64, which a negative varint stands for."""
        return self.value - 2**64 if self.value >= 2**63 else self.value


class Fields:
    """The fields of messages in a file. One object walks one file, in any order, with a window of bytes kept.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> walk = Fields(MemoryFile("a.pb", bytes([8, 150, 1, 18, 2]) + b"hi"))
        >>> [(field.number, field.value) for field in walk.of()]
        [(1, 150), (2, 0)]
        >>> [walk.text(field) for field in walk.of() if field.wire == BYTES]
        ['hi']
    """

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        self._window, self._start = b"", 0
        self._walked = 0

    def of(self, begin: int = 0, end: int | None = None) -> Iterator[Field]:
        """The fields of the message at [begin, end), of the whole file when they are left out.

        Raises:
            FormatError: for what is no such message, and beyond `MAX_FIELDS` fields in the file.
        """
        at, end = begin, self._source.size if end is None else end
        while at < end:
            self._walked += 1
            if self._walked > MAX_FIELDS:
                self._fail(at, f"more than {MAX_FIELDS:,} fields")
            tag, at = self._varint(at, end)
            number, wire = tag >> 3, tag & 7
            value, stop = 0, at
            if not 0 < number < 2**29:
                self._fail(at, f"the field number {number}")
            if wire == VARINT:
                value, stop = self._varint(at, end)
            elif wire == BYTES:
                length, at = self._varint(at, end)
                stop = at + length
            elif wire in (FIXED64, FIXED32):
                stop = at + (8 if wire == FIXED64 else 4)
            else:
                self._fail(at, f"the wire type {wire}")
            if stop > end:
                self._fail(at, f"a field of {stop - at:,} bytes where {end - at:,} are left")
            if wire in (FIXED64, FIXED32):
                value = int.from_bytes(self._read(at, stop), "little")
            yield Field(number, wire, value, at, stop)
            at = stop

    def text(self, field: Field, max_bytes: int = 10_000) -> str:
        """The payload as UTF-8 text.

        Raises:
            FormatError: when it is longer, or not that.
        """
        try:
            return self.payload(field, max_bytes).decode("utf-8")
        except UnicodeDecodeError:
            self._fail(field.begin, "a text that is not UTF-8")

    def payload(self, field: Field, max_bytes: int) -> bytes:
        """The payload.

        Raises:
            FormatError: when it is longer, or the field has none.
        """
        if field.wire != BYTES or field.end - field.begin > max_bytes:
            self._fail(field.begin, f"field {field.number} with {field.end - field.begin:,} bytes of wire type "
                                    f"{field.wire}, where text or bytes up to {max_bytes:,} are due")  # fmt: skip
        return self._read(field.begin, field.end)

    def integers(self, field: Field, max_count: int) -> Iterator[Field]:
        """The numbers of a repeated varint field, packed or one by one, as fields of their own.

        Raises:
            FormatError: when they are more.
        """
        if field.wire == VARINT:
            yield field
            return
        if field.wire != BYTES or field.end - field.begin > 10 * max_count:
            self._fail(field.begin, f"field {field.number} as a list of {field.end - field.begin:,} bytes")
        at, count = field.begin, 0
        while at < field.end:
            count += 1
            if count > max_count:
                self._fail(at, f"a list of more than {max_count:,} numbers")
            value, stop = self._varint(at, field.end)
            yield Field(field.number, VARINT, value, at, stop)
            at = stop

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while at < end and shift < 70:
            if not self._start <= at < self._start + len(self._window):
                self._fill(at)
            byte = self._window[at - self._start]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & _U64, at
            shift += 7
        self._fail(at, "a number without an end")

    def _read(self, begin: int, end: int) -> bytes:
        if end - begin > WINDOW_BYTES:
            return self._source.read(begin, end - begin)
        if not self._start <= begin <= end <= self._start + len(self._window):
            self._fill(begin)
        return self._window[begin - self._start : end - self._start]

    def _fill(self, at: int) -> None:
        self._window = self._source.read(at, min(WINDOW_BYTES, self._source.size - at))
        self._start = at

    def _fail(self, at: int, what: str) -> NoReturn:
        raise FormatError(f"{self._source.name} has {what} at byte {at:,}", "protocol-buffer messages", _GET_AGAIN)
