"""What comes next in a binary file? A position that is read on from, with the payloads of tensors stepped over.

Formats whose small headers lie between large payloads (CTranslate2, fastText, Marian, thinc) are walked with few
requests: a window of bytes is kept, which grows while reading goes on where it stopped and is small again after a step.
Numbers are little-endian unless a format says otherwise. What is read as header is hashed for the checkpoint's digest.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import ByteSource

FIRST_WINDOW = 16 * 1024
LARGEST_WINDOW = 1024 * 1024
GET_AGAIN = "it is cut short, damaged or of another format: get it again and compare its size with the publisher's"


class BinaryCursor:
    r"""A position in a file.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> cursor = BinaryCursor(MemoryFile("a.bin", b"\x02\0hi" + bytes(8) + b"\x07"), "a file of this example")
        >>> cursor.text(cursor.number("H"), "a name"), cursor.step(8, "the data"), cursor.number("B"), cursor.left
        ('hi', (4, 12), 7, 0)
    """

    def __init__(self, source: ByteSource, expected: str) -> None:
        self.source, self.expected = source, expected
        self.position = 0
        self._window, self._start, self._next_size = b"", 0, FIRST_WINDOW
        self._hash = hashlib.sha256()
        self._hashed = 0

    @property
    def left(self) -> int:
        """Bytes from the position to the end of the file."""
        return self.source.size - self.position

    @property
    def header_bytes(self) -> int:
        """Bytes that were read as header so far."""
        return self._hashed

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes that were read as header so far."""
        return self._hash.hexdigest()

    def fail(self, read: str, action: str = GET_AGAIN) -> NoReturn:
        """Refuses the file for what was read at the position."""
        raise FormatError(f"{self.source.name}: {read} (at byte {self.position:,})", self.expected, action)

    def take(self, length: int, what: str) -> bytes:
        """The next bytes.

        Raises:
            FormatError: when the file ends before.
        """
        if length > self.left:
            self.fail(f"{what} of {length:,} bytes where {self.left:,} are left")
        begin, end = self.position, self.position + length
        if not self._start <= begin <= end <= self._start + len(self._window):
            self._fill(length)
        taken = self._window[begin - self._start : end - self._start]
        self.position = end
        self._hash.update(taken)
        self._hashed += length
        return taken

    def numbers(self, code: str, what: str = "a header", order: str = "<") -> tuple[Any, ...]:
        """Numbers by the letters of `struct`; the order is `>` where they are big-endian."""
        layout = order + code
        return struct.unpack(layout, self.take(struct.calcsize(layout), what))

    def number(self, code: str, what: str = "a header", order: str = "<") -> Any:
        """One number by its letter of `struct`."""
        return self.numbers(code, what, order)[0]

    def text(self, length: int, what: str, longest: int = 10_000) -> str:
        """So many bytes of UTF-8.

        Raises:
            FormatError: when they are more than `longest`, or not that.
        """
        if length > longest:
            self.fail(f"{what} of {length:,} bytes, where {longest:,} are the most")
        raw = self.take(length, what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            self.fail(f"{what} is no UTF-8: {raw[:40]!r}")

    def step_texts(self, count: int, tail: int, what: str, longest: int = 10_000) -> None:
        """Steps over records of a text with a closing zero and `tail` bytes, of which only the lengths matter.

        Raises:
            FormatError: when the file ends before, or a text is empty or longer than `longest`.
        """
        need = 0
        while count:
            if not self._is_inside() or need:
                self._fill(min(max(need, 1), self.left))
            data, begin = self._window, self.position - self._start
            at = begin
            while count:
                end = data.find(b"\0", at, at + longest + 1)
                if end <= at or end + 1 + tail > len(data):
                    break
                at = end + 1 + tail
                count -= 1
            self._hash.update(data[begin:at])
            self._hashed += at - begin
            self.position += at - begin
            if count and at == begin and (need or data[at : at + 1] == b"\0"):
                self.fail(f"{what} that is empty or has no end in {longest:,} bytes")
            need = longest + 1 + tail if count else 0

    def step(self, length: int, what: str) -> tuple[int, int]:
        """Steps over a payload, and returns where it lies: [begin, end) in the file.

        Raises:
            FormatError: when the file ends before.
        """
        if not 0 <= length <= self.left:
            self.fail(f"{what} of {length:,} bytes where {self.left:,} are left")
        begin = self.position
        self.position += length
        return begin, self.position

    def _is_inside(self) -> bool:
        return self._start <= self.position < self._start + len(self._window)

    def _fill(self, length: int) -> None:
        """A window from the position on with at least these bytes, which the file has."""
        follows = self._is_inside() or self.position == self._start + len(self._window)
        self._next_size = min(4 * self._next_size, LARGEST_WINDOW) if follows and self._window else FIRST_WINDOW
        size = min(max(length, self._next_size), self.left)
        self._window, self._start = self.source.read(self.position, size), self.position
