"""Where do the bytes of a pickle come from? Read forwards, in growing pieces, with what is not wanted stepped over.

A pickle's length shows only at its end, and long byte strings in it are weights that need not be read. So a stream has
the `read`, `readline` and `tell` that Python's `pickletools` asks for, and `skip`. Each kind bounds what it keeps.
"""

from __future__ import annotations

import hashlib
import io
import zlib
from collections.abc import Iterator
from typing import Protocol

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import ByteSource

FIRST_BYTES = 64 * 1024
MOST_BYTES = 4 * 1024 * 1024
"""The first and the largest piece that is asked for; each is twice as long as the one before it."""
MAX_READ_BYTES = 32 * 1024 * 1024
"""Of a file's pickles without their long byte strings."""
MAX_RATIO = 20
"""How many times the file's size a packed pickle may have, without its long byte strings, beyond a megabyte."""
MAX_INFLATED_BYTES = 4 * 1024 * 1024 * 1024

_SHORT = "it ends before its last value"


class Stream(Protocol):
    """Bytes from the first to the last. What cannot be had is a ValueError, as `pickletools` raises for damage."""

    def read(self, count: int, /) -> bytes:
        """The next `count` bytes, or fewer where the bytes end."""

    def readline(self) -> bytes:
        """The bytes up to the next line feed, with it."""

    def tell(self) -> int:
        """How many bytes lie before the next one."""

    def skip(self, count: int) -> None:
        """Steps over `count` bytes; a ValueError when there are fewer."""


class MemoryStream(io.BytesIO):
    """A pickle that was read as a whole."""

    def skip(self, count: int) -> None:
        """Steps over `count` bytes."""
        if count > len(self.getbuffer()) - self.tell():
            raise ValueError(_SHORT)
        self.seek(count, io.SEEK_CUR)


class _Window:
    """The pieces that were asked for and are not used up. `digest` is over the bytes that were read, not over others.

    Its subclasses say what comes after the window (`more`), and whether it can be left out (`leave_out`).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._window, self._at, self._passed = b"", 0, 0
        self._hash, self._hashed_to, self._hashed = hashlib.sha256(), 0, 0
        self._piece = FIRST_BYTES
        self.most_read = MAX_READ_BYTES

    def more(self, count: int) -> bytes:
        """At least the next `count` bytes after the window, or all that there are."""
        raise NotImplementedError

    def leave_out(self, count: int) -> None:
        """Steps over `count` bytes after the window."""
        raise NotImplementedError

    def tell(self) -> int:
        """How many bytes lie before the next one."""
        return self._passed + self._at

    def read(self, count: int, /) -> bytes:
        """The next `count` bytes, or fewer where the bytes end."""
        end = self._at + count
        if end > len(self._window):
            self._extend(count)
            end = self._at + count
        data = self._window[self._at : end]
        self._at += len(data)
        return data

    def readline(self) -> bytes:
        """The bytes up to the next line feed, with it."""
        held = searched = 0
        while (found := self._window.find(b"\n", self._at + searched)) < 0:
            held, searched = len(self._window) - self._at, len(self._window) - self._at
            self._extend(held + 1)
            if len(self._window) - self._at == held:
                return self.read(held)
        return self.read(found + 1 - self._at)

    def skip(self, count: int) -> None:
        """Steps over `count` bytes, which are not read unless they lie in the window."""
        inside = min(count, len(self._window) - self._at)
        self._digest()
        self._at += inside
        self._hashed_to = self._at
        if count > inside:
            self._passed, self._window, self._at, self._hashed_to = self.tell() + count - inside, b"", 0, 0
            self._piece = FIRST_BYTES
            self.leave_out(count - inside)

    def held(self, begin: int, count: int) -> bytes | None:
        """`count` bytes from `begin`, where they lie in the piece that was read last; None where they do not."""
        at = begin - self._passed
        return self._window[at : at + count] if 0 <= at <= len(self._window) - count else None

    def digest(self) -> str:
        """The SHA-256 of all bytes that were read and not stepped over."""
        self._digest()
        return self._hash.hexdigest()

    def _digest(self) -> None:
        self._hash.update(self._window[self._hashed_to : self._at])
        self._hashed += self._at - self._hashed_to
        self._hashed_to = self._at

    def _extend(self, count: int) -> None:
        """Asks for what `count` bytes from here need beyond the window."""
        self._digest()
        rest = self._window[self._at :]
        self._passed, self._at, self._hashed_to = self.tell(), 0, 0
        if self._hashed + count > self.most_read:
            read = f"{self.name}: its pickle has more than {self.most_read:,} bytes beside its arrays"
            raise FormatError(read, "a pickle of a model", "save its weights in a format for weights")
        self._window = rest + self.more(count - len(rest))

    def _step(self) -> int:
        piece, self._piece = self._piece, min(2 * self._piece, MOST_BYTES)
        return piece


class SourceStream(_Window):
    """The bytes of a file from its beginning; stepping over costs nothing."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__(source.name)
        self.source = source
        self._next = 0

    def more(self, count: int) -> bytes:
        """A piece of the file."""
        count = min(max(count, self._step()), self.source.size - self._next)
        data = self.source.read(self._next, count)
        self._next += count
        return data

    def leave_out(self, count: int) -> None:
        """Goes on behind them."""
        if count > self.source.size - self._next:
            raise ValueError(_SHORT)
        self._next += count


class InflatedStream(_Window):
    """The bytes that a zlib or gzip file inflates to; what is stepped over is inflated and dropped."""

    def __init__(self, source: ByteSource) -> None:
        super().__init__(source.name)
        self.source = source
        self._next = self._inflated = 0
        self._pending = b""
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 32)
        self.most_read = min(MAX_READ_BYTES, 2**20 + MAX_RATIO * source.size)

    def more(self, count: int) -> bytes:
        """As much as was asked for, inflated."""
        wanted = max(count, self._step())
        parts, have = [], 0
        while have < wanted and (part := self._inflate(wanted - have)):
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def leave_out(self, count: int) -> None:
        """Inflates and drops them."""
        while count:
            part = self._inflate(min(count, MOST_BYTES))
            if not part:
                raise ValueError(_SHORT)
            count -= len(part)

    def stretch(self, begin: int, length: int) -> Iterator[bytes]:
        """The bytes from `begin`, in pieces, of a stream from which nothing was read.

        Raises:
            ValueError: when it does not inflate to as many.
        """
        self.leave_out(begin)
        while length:
            part = self._inflate(min(length, FIRST_BYTES))
            if not part:
                raise ValueError(_SHORT)
            yield part
            length -= len(part)

    def _inflate(self, most: int) -> bytes:
        """Up to `most` bytes; none at the end."""
        while not self._inflater.eof:
            if not self._pending:
                count = min(MOST_BYTES, self.source.size - self._next)
                self._pending = self.source.read(self._next, count)
                self._next += count
            ended = not self._pending
            try:
                part = self._inflater.decompress(self._pending, most)
            except zlib.error as error:
                raise ValueError(f"it does not inflate: {error}") from error
            self._pending = self._inflater.unconsumed_tail
            self._inflated += len(part)
            if self._inflated > MAX_INFLATED_BYTES:
                read = f"{self.name} inflates to more than {MAX_INFLATED_BYTES:,} bytes"
                raise FormatError(read, "a model that can be read packed", "unpack it and name the unpacked file")
            if part or ended:
                return part
        return b""
