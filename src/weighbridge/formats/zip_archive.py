"""Where does each file of a zip archive lie? Read from the archive's own records, without unpacking any of it.

Few reads: the tail of the file, its central directory (mostly in the tail) and the local header of an entry that is
asked for. The archive is parsed here and not by `zipfile`, which takes some archives otherwise than other readers do
(repeated names, data before the archive, overlapping entries): all of these are refused. What inflates is bounded
before it does.

Source: PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.5.3.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import ByteSource

MAX_ENTRIES = 100_000
MAX_DIRECTORY_BYTES = 32 * 1024 * 1024
DEFLATE_RATIO = 1032
"""The most that deflate can shrink anything."""
PIECE_BYTES = 1 << 20

_TAIL_BYTES = 22 + 0xFFFF
_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
_DO_NOT_USE = "do not use this file: no library writes such a one"


class Entry(NamedTuple):
    """One file of an archive. `stored` are its bytes in the archive, `size` those unpacked (zip method 0 or 8).

    Its record begins at `offset` and ends before `end`, where the next entry or the directory begins.
    """

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    offset: int
    end: int


class ZipArchive:
    """The entries of an archive, in the order of its directory, checked to have names of their own and to lie apart.

    Names that differ by their case alone are one name, as they are to torch's reader, unless `tells_case`: to Python's
    they are two, and NumPy writes them.

    Raises:
        FormatError: for damage, encryption, more than one disk, and what readers would take in several ways.

    Example:
        >>> import io, zipfile
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> with zipfile.ZipFile(file := io.BytesIO(), "w") as made:
        ...     made.writestr("a.txt", b"abc")
        >>> archive = ZipArchive(MemoryFile("a.zip", file.getvalue()))
        >>> archive.read(archive.entries["a.txt"], 100)
        b'abc'
    """

    def __init__(self, source: ByteSource, tells_case: bool = False) -> None:
        self.source = source
        self.directory, count, offset = _directory(source)
        found = _entries(source, self.directory, count, offset, tells_case)
        self.entries = {entry.name: entry for entry in found}

    def data_start(self, entry: Entry) -> int:
        """Where an entry's bytes begin, from its local header: one read.

        Raises:
            FormatError: when that header disagrees with the directory.
        """
        return _data_start(self.source, entry)

    def read(self, entry: Entry, max_bytes: int, max_ratio: int = DEFLATE_RATIO) -> bytes:
        """The bytes of an entry, inflated where they are deflated, never more than the directory says.

        Raises:
            FormatError: when they are more than `max_bytes`, or more than `max_ratio` times what is stored; when they
                have another size or checksum than the directory says.
        """
        limit = min(max_bytes, max_ratio * entry.stored)
        if entry.size > limit or entry.method not in (0, 8) or entry.stored > max_bytes:
            read = f"{entry.name[:100]} has {entry.size:,} bytes in {entry.stored:,} (zip method {entry.method})"
            _fail(self.source, read, f"at most {limit:,} bytes, stored or deflated", _DO_NOT_USE)
        data = self.source.read(self.data_start(entry), entry.stored)
        if entry.method == 8:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size + 1)
            except zlib.error:
                data = b""
        # torch.serialization.set_crc32_options(False) writes 0.
        if len(data) != entry.size or entry.crc not in (0, zlib.crc32(data)):
            self._damaged(entry)
        return data

    def pieces(self, entry: Entry) -> Iterator[bytes]:
        """The bytes of an entry of any size, a piece at a time.

        Raises:
            FormatError: as `read`, once the pieces are through.
        """
        if entry.method not in (0, 8):
            read = f"{entry.name[:100]} is packed by zip method {entry.method}"
            _fail(self.source, read, "stored or deflated", "write it anew with a common tool")
        at, left = self.data_start(entry), entry.stored
        size = crc = 0
        inflater = zlib.decompressobj(-zlib.MAX_WBITS) if entry.method == 8 else None
        pending, more = b"", False
        while left or pending or more:
            if not pending and not more:
                pending = self.source.read(at, min(PIECE_BYTES, left))
                at, left = at + len(pending), left - len(pending)
            piece, pending = pending, b""
            if inflater is not None:
                try:
                    piece, pending = inflater.decompress(piece, PIECE_BYTES), inflater.unconsumed_tail
                except zlib.error:
                    self._damaged(entry)
                more = len(piece) == PIECE_BYTES
            size, crc = size + len(piece), zlib.crc32(piece, crc)
            if size > entry.size:
                self._damaged(entry)
            if piece:
                yield piece
        if size != entry.size or entry.crc not in (0, crc):
            self._damaged(entry)

    def _damaged(self, entry: Entry) -> NoReturn:
        read = f"{entry.name[:100]} has another size or checksum than the zip directory says"
        _fail(self.source, read, "the entry as it was written", _GET_AGAIN)


def _directory(source: ByteSource) -> tuple[bytes, int, int]:
    """The central directory's bytes, its number of entries and its offset, from the records at the file's end."""
    start = max(0, source.size - _TAIL_BYTES)
    tail = source.read(start, source.size - start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        _fail(source, "it has no zip directory at its end", "a whole zip file", _GET_AGAIN)
    disk, other_disk, here, count, size, offset, comment = struct.unpack_from("<4H2LH", tail, at + 4)
    end = start + at
    if at + 22 + comment != len(tail):
        _fail(source, "it has bytes after its zip directory", "a zip file that ends with its directory", _GET_AGAIN)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        (end,) = struct.unpack_from("<Q", tail, at - 12)
        record = source.read(end, 56)
        wide = struct.unpack_from("<4Q", record, 24)
        narrow = (here, count, size, offset)
        for is_, of, top in zip(narrow, wide, (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True):
            if record[:4] != b"PK\6\6" or is_ not in (of, top):
                _fail(source, "it has two zip directories that disagree", "one ZIP64 directory", _DO_NOT_USE)
        here, count, size, offset = wide
    if here != count or (disk, other_disk) not in ((0, 0), (0xFFFF, 0xFFFF)):
        _fail(source, "it is a zip split over several disks", "a single zip file", "join its parts first")
    if count > MAX_ENTRIES or size > MAX_DIRECTORY_BYTES:
        read = f"it has a zip directory of {count:,} entries in {size:,} bytes"
        _fail(source, read, f"at most {MAX_ENTRIES:,} entries in {MAX_DIRECTORY_BYTES:,} bytes", _DO_NOT_USE)
    if offset + size > end or size < 46 * count:
        _fail(source, "its zip directory does not fit into the file", "a whole zip file", _GET_AGAIN)
    return tail[offset - start :][:size] if offset >= start else source.read(offset, size), count, offset


def _entries(
    source: ByteSource, directory: bytes, count: int, directory_offset: int, tells_case: bool
) -> list[Entry]:  # fmt: skip
    """The directory's entries in its order, checked to have names of their own and to lie apart."""
    found: list[Entry] = []
    names: set[str] = set()
    at = 0
    for _ in range(count):
        if len(directory) - at < 46 or directory[at : at + 4] != b"PK\1\2":
            _fail(source, f"its zip directory is damaged at entry {len(found)}", "a directory record", _GET_AGAIN)
        flags, method, crc, stored, size, n, extra, note, _, offset = struct.unpack_from(
            "<8x2H4x3L4H6xL", directory, at
        )
        raw_name = directory[at + 46 : at + 46 + n]
        fields = directory[at + 46 + n : at + 46 + n + extra]
        at += 46 + n + extra + note
        name = raw_name.decode("utf-8", "replace")
        if at > len(directory) or not name or not name.isprintable() or "\ufffd" in name:
            _fail(source, f"it has the zip entry name {name[:100]!r}", "a readable name", _GET_AGAIN)
        folded = name if tells_case else name.lower()
        if folded in names:
            _fail(source, f"it has two zip entries named {name[:100]!r}", "names of their own", _DO_NOT_USE)
        names.add(folded)
        if flags & 0x2041:
            _fail(source, f"the zip entry {name[:100]!r} is encrypted", "open entries", "save it without a password")
        wide = iter(_zip64(fields))
        size, stored, offset = (next(wide, x) if x == 0xFFFFFFFF else x for x in (size, stored, offset))
        found.append(Entry(name, raw_name, flags, method, crc, stored, size, offset, directory_offset))
    if at != len(directory):
        _fail(source, "its zip directory has bytes left over", "a directory of whole records", _GET_AGAIN)
    order = sorted(range(count), key=lambda i: found[i].offset)
    for i, j in itertools.pairwise(order):
        found[i] = found[i]._replace(end=found[j].offset)
    for entry in found:
        if entry.offset + 30 + len(entry.raw_name) + entry.stored > entry.end:
            read = f"the zip entry {entry.name[:100]!r} reaches into what follows it"
            _fail(source, read, "entries that lie apart", _DO_NOT_USE)
    return found


def _zip64(fields: bytes) -> tuple[int, ...]:
    """The 64-bit sizes and offset in an entry's extra fields, in the record's order; empty when there are none."""
    at = 0
    while len(fields) - at >= 4:
        key, length = struct.unpack_from("<2H", fields, at)
        if key == 1:
            count = len(fields[at + 4 : at + 4 + min(length, 24)]) // 8
            return struct.unpack_from(f"<{count}Q", fields, at + 4)
        at += 4 + length
    return ()


def _data_start(source: ByteSource, entry: Entry) -> int:
    """Where an entry's bytes begin, from its local header."""
    header = source.read(entry.offset, 30 + len(entry.raw_name))
    n, extra = struct.unpack_from("<2H", header, 26)
    begin: int = entry.offset + 30 + n + extra
    if header[:4] != b"PK\3\4" or header[30:] != entry.raw_name or n != len(entry.raw_name):
        _fail(
            source,
            f"the local header of {entry.name[:100]!r} disagrees with the zip directory",
            "one name",
            _DO_NOT_USE,
        )
    if begin + entry.stored > entry.end:
        _fail(source, f"the zip entry {entry.name[:100]!r} overruns its place", "entries that lie apart", _DO_NOT_USE)
    return begin


def _fail(source: ByteSource, read: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{source.name}: {read}", expected, action)
