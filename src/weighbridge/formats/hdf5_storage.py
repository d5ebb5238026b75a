"""Where are the bytes of an HDF5 dataset, and how are they unpacked? Its layout message, the index of its chunks and
its filters.

A dataset lies in its object header (compact), in one stretch (contiguous) or in chunks of one shape, which an index
leads to: a tree of version 1 (what HDF5 writes by default), a single chunk, chunks in a row, a fixed array, or a tree
of version 2. Chunks at the edges are stored whole. Filters turn a chunk into what is stored: shuffle (bytes of one
rank together), deflate, fletcher32 (4 bytes of checksum, which is not held against the data). Others are named and
only refused where the bytes are asked for.

Source: HDF5 File Format Specification, version 3.0, sections III.A.1, III.A.2, IV.A.2.i and IV.A.2.l, VII (indexes).
"""

from __future__ import annotations

import itertools
import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from weighbridge.formats.hdf5_blocks import Blocks, Cursor, fail

MAX_CHUNKS = 200_000
MAX_CHUNK_BYTES = 32 * 2**20
"""Of one chunk, unpacked, when it is read."""
MAX_BAND_BYTES = 64 * 2**20
"""Of the chunks beside each other, unpacked, when they are read."""
DEFLATE_RATIO = 1032
"""The most that deflate can shrink anything."""

_DEFLATE, _SHUFFLE, _FLETCHER32 = 1, 2, 3
_FILTERS = {4: "szip", 5: "nbit", 6: "scaleoffset", 32000: "lzf", 32001: "blosc", 32004: "lz4", 32015: "zstd"}
_NEVER_WRITTEN = "was never written, so that the file holds none of its elements"


class Space(NamedTuple):
    """A shape, and the one that it may grow to."""

    shape: tuple[int, ...]
    largest: tuple[int, ...]


class Chunk(NamedTuple):
    """One stored chunk: its place in the grid of chunks, its bytes in the file, and which filters it skips."""

    place: tuple[int, ...]
    begin: int
    stored: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Storage:
    """Where a dataset's bytes are. `begin` is their place in the file, None for chunks; `stored_bytes` all of them."""

    begin: int | None
    stored_bytes: int
    chunk_shape: tuple[int, ...] = ()
    filters: tuple[tuple[int, int], ...] = ()
    """Number and first value of each filter, in the order in which they were applied."""
    keeps_edges: bool = False
    """Whether chunks that reach over the dataset's edge are stored without filters."""
    chunks: tuple[Chunk, ...] = ()


def read_storage(
    blocks: Blocks, layout: bytes, layout_at: int, filters: bytes | None, space: Space, element_bytes: int
) -> Storage | str:
    """What a layout message says, or the reason why the dataset is left out.

    Args:
        blocks: the file.
        layout: the layout message.
        layout_at: the address at which it begins.
        filters: the filter message, where there is one.
        space: the dataset's shape.
        element_bytes: bytes of an element.

    Raises:
        FormatError: when it leads out of the file, or gives more elements than its bytes can hold.
    """
    size = math.prod(space.shape) * element_bytes
    cursor = Cursor(blocks.name, layout)
    version, kind = cursor.number(1), cursor.number(1)
    if version not in (3, 4, 5):
        return f"has a layout of version {version}"
    if kind == 0:
        stored = cursor.number(2)
        begin = blocks.place(layout_at + cursor.at, stored)
    elif kind == 1:
        address, stored = cursor.number(blocks.offset_bytes), cursor.number(blocks.length_bytes)
        if address == blocks.none:
            return _NEVER_WRITTEN if size else Storage(None, 0)
        begin = blocks.place(address, stored)
    elif kind == 2:
        return _Chunked(blocks, cursor, version, _filters(blocks, filters), space, element_bytes).storage()
    else:
        return "puts together parts of other datasets" if kind == 3 else f"has a layout of class {kind}"
    if stored != size:
        blocks.fail(f"a dataset of {size:,} bytes is stored in {stored:,}", "its shape's bytes")
    return Storage(begin, stored)


def _filters(blocks: Blocks, message: bytes | None) -> tuple[tuple[int, int], ...]:
    """Number and first value of each filter."""
    if message is None:
        return ()
    cursor = Cursor(blocks.name, message)
    version, count = cursor.number(1), cursor.number(1)
    if version not in (1, 2) or count > 32:
        blocks.fail(f"a filter message of version {version} with {count} filters", "version 1 or 2, at most 32")
    cursor.take(6 if version == 1 else 0)
    found = []
    for _ in range(count):
        number = cursor.number(2)
        name_bytes = cursor.number(2) if version == 1 or number >= 256 else 0
        cursor.take(2)
        values = cursor.number(2)
        cursor.take(name_bytes + (-name_bytes % 8 if version == 1 else 0))
        found.append((number, cursor.number(4) if values else 0))
        cursor.take(4 * max(0, values - 1) + (4 * (values % 2) if version == 1 else 0))
    return tuple(found)


class _Chunked:
    """The chunks of one dataset, as its index lists them."""

    def __init__(
        self, blocks: Blocks, layout: Cursor, version: int, filters: tuple[tuple[int, int], ...],
        space: Space, element_bytes: int,
    ) -> None:  # fmt: skip
        self._blocks, self._layout, self._version = blocks, layout, version
        self._filters = filters
        self._flags = layout.number(1) if version > 3 else 0
        rank = layout.number(1) - 1
        width = layout.number(1) if version > 3 else 4
        self._address = layout.number(blocks.offset_bytes) if version == 3 else blocks.none
        self._chunk_shape = tuple(layout.number(width) for _ in range(max(0, rank)))
        if rank != len(space.shape) or not rank or 0 in self._chunk_shape or layout.number(width) != element_bytes:
            blocks.fail(f"chunks of {rank} axes for a dataset of {len(space.shape)}", "chunks of the dataset's rank")
        self._chunk_bytes = math.prod(self._chunk_shape) * element_bytes
        self._grid, self._largest_grid = (
            tuple(-(-length // step) for length, step in zip(lengths, self._chunk_shape, strict=True))
            for lengths in space
        )

    def storage(self) -> Storage | str:
        """Where the chunks are, or the reason why the dataset is left out."""
        total = math.prod(self._grid)
        known = all(number in (_DEFLATE, _SHUFFLE, _FLETCHER32) for number, _ in self._filters)
        ratio = DEFLATE_RATIO if any(number == _DEFLATE for number, _ in self._filters) else 1
        if total > MAX_CHUNKS:
            return f"has {total:,} chunks, more than {MAX_CHUNKS:,}"
        chunks = self._chunks()
        if isinstance(chunks, str):
            return chunks
        found: list[Chunk] = []
        for chunk in chunks:
            if not all(map(int.__lt__, chunk.place, self._grid)):
                self._blocks.fail("a chunk that lies outside of its dataset", "chunks of the dataset")
            if known and chunk.stored * ratio < self._chunk_bytes:
                self._blocks.fail(f"a chunk of {self._chunk_bytes:,} bytes in {chunk.stored:,}", "chunks that fit")
            found.append(chunk)
            if len(found) > total:
                self._blocks.fail(f"more than {total:,} chunks in a dataset", "one chunk for each place")
        if len(found) < total:
            return _NEVER_WRITTEN if not found else f"was written in part: {len(found):,} of {total:,} chunks"
        stored = sum(chunk.stored for chunk in found)
        return Storage(None, stored, self._chunk_shape, self._filters, bool(self._flags & 1), tuple(found))

    def _chunks(self) -> Iterator[Chunk] | str:
        """The chunks that the index lists, in any order; or why it is not read."""
        blocks, layout = self._blocks, self._layout
        if self._version == 3:
            return iter(()) if self._address == blocks.none else self._tree_1()
        kind = layout.number(1)
        if kind == 1:
            stored, skipped = self._chunk_bytes, 0
            if self._flags & 2:
                stored = layout.number(blocks.length_bytes)
                skipped = layout.number(4)
            address = layout.number(blocks.offset_bytes)
            return iter(self._chunk((0,) * len(self._grid), address, stored, skipped))
        layout.take({2: 0, 3: 1, 4: 5, 5: 6}.get(kind, 0))
        address = layout.number(blocks.offset_bytes)
        if address == blocks.none:
            return iter(())
        if kind == 2:
            return self._in_a_row(address)
        if kind == 3:
            return self._fixed_array(address)
        if kind == 5:
            return self._tree_2(address)
        return "can grow without limit along one axis, and the index of its chunks (an extensible array) is not read"

    def _chunk(self, place: tuple[int, ...], address: int, stored: int, skipped: int) -> list[Chunk]:
        """One chunk, or none when it was never written."""
        if address == self._blocks.none:
            return []
        return [Chunk(place, self._blocks.place(address, stored), stored, skipped)]

    def _tree_1(self) -> Iterator[Chunk]:
        nodes = [self._address]
        while nodes:
            level, entries = self._blocks.tree_entries(nodes.pop(), 1, 8 + 8 * (len(self._grid) + 1))
            if level:
                nodes += [child for _, child in entries]
                continue
            for key, address in entries:
                cursor = Cursor(self._blocks.name, key)
                stored, skipped = cursor.number(4), cursor.number(4)
                place = tuple(cursor.number(8) // step for step in self._chunk_shape)
                yield from self._chunk(place, address, stored, skipped)

    def _tree_2(self, address: int) -> Iterator[Chunk]:
        offset, rank = self._blocks.offset_bytes, len(self._grid)
        for record in self._blocks.records(address):
            cursor = Cursor(self._blocks.name, record)
            at, stored, skipped = cursor.number(offset), self._chunk_bytes, 0
            if self._filters:
                stored, skipped = cursor.number(len(record) - offset - 4 - 8 * rank), cursor.number(4)
            yield from self._chunk(tuple(cursor.number(8) for _ in range(rank)), at, stored, skipped)

    def _in_a_row(self, address: int) -> Iterator[Chunk]:
        for number, place in enumerate(self._places()):
            yield from self._chunk(place, address + number * self._chunk_bytes, self._chunk_bytes, 0)

    def _places(self) -> Iterator[tuple[int, ...]]:
        """The places of the largest grid, in order: what indexes without places of their own count."""
        if math.prod(self._largest_grid) > MAX_CHUNKS:
            self._blocks.fail(f"an index of more than {MAX_CHUNKS:,} chunks", "fewer")
        return itertools.product(*map(range, self._largest_grid))

    def _fixed_array(self, address: int) -> Iterator[Chunk]:
        blocks, offset = self._blocks, self._blocks.offset_bytes
        head = blocks.cursor(address, 8 + blocks.length_bytes + offset).signed_as(b"FAHD", 0)
        client, entry_bytes, page_bits = head.number(1), head.number(1), head.number(1)
        count, data = head.number(blocks.length_bytes), head.number(offset)
        if entry_bytes < offset + (5 if client else 0) or page_bits > 32 or count != math.prod(self._largest_grid):
            blocks.fail(f"an index of {count:,} chunks of {entry_bytes} bytes", "one entry for each chunk")
        if data == blocks.none:
            return
        places = self._places()
        at, page = data + 6 + offset, 1 << page_bits
        blocks.cursor(data, 4).signed_as(b"FADB")
        pages = -(-count // page) if count > page else 0
        written = blocks.read(at, -(-pages // 8))
        # Each page has a checksum; so has what is before the first one.
        at += len(written) + (4 if pages else 0)
        for number in range(max(1, pages)):
            held = min(page, count - number * page) if pages else count
            # A bit for each page, the first one highest.
            if pages and not written[number // 8] >> 7 - number % 8 & 1:
                list(itertools.islice(places, held))
            else:
                entries = blocks.cursor(at, held * entry_bytes)
                for place in itertools.islice(places, held):
                    entry = Cursor(blocks.name, entries.take(entry_bytes))
                    where, stored, skipped = entry.number(offset), self._chunk_bytes, 0
                    if client:
                        stored, skipped = entry.number(entry_bytes - offset - 4), entry.number(4)
                    yield from self._chunk(place, where, stored, skipped)
            at += held * entry_bytes + 4


def pieces(blocks: Blocks, storage: Storage, shape: tuple[int, ...], element_bytes: int) -> Iterator[bytes]:
    """The bytes of a dataset, its last axis running fastest, a band of chunks at a time.

    Raises:
        FormatError: when a chunk does not unpack to its size, and for filters and sizes that are not read.
    """
    if storage.begin is not None:
        step = MAX_CHUNK_BYTES // element_bytes * element_bytes
        for at in range(storage.begin, storage.begin + storage.stored_bytes, step):
            yield blocks.source.read(at, min(step, storage.begin + storage.stored_bytes - at))
        return
    import numpy as np

    row_bytes = math.prod(shape[1:]) * element_bytes
    step = storage.chunk_shape[0] if storage.chunk_shape else 1
    chunk_bytes = math.prod(storage.chunk_shape) * element_bytes
    if chunk_bytes > MAX_CHUNK_BYTES or min(step, shape[0] if shape else 1) * row_bytes > MAX_BAND_BYTES:
        read = f"chunks of {chunk_bytes:,} bytes in rows of {row_bytes:,}"
        fail(blocks.name, read, f"chunks of at most {MAX_CHUNK_BYTES:,}", "write it anew in smaller chunks")
    by_band: dict[int, list[Chunk]] = {}
    for chunk in storage.chunks:
        by_band.setdefault(chunk.place[0], []).append(chunk)
    for number in sorted(by_band):
        first = number * step
        band = np.zeros((min(step, shape[0] - first), *shape[1:], element_bytes), np.uint8)
        for chunk in by_band[number]:
            starts = [0, *(p * c for p, c in zip(chunk.place[1:], storage.chunk_shape[1:], strict=True))]
            lengths = [min(c, n - s) for c, n, s in zip(storage.chunk_shape, band.shape, starts, strict=False)]
            whole = unpack(blocks, storage, chunk, chunk_bytes, tuple(lengths) != storage.chunk_shape)
            cells = np.frombuffer(whole, np.uint8).reshape(*storage.chunk_shape, element_bytes)
            into = tuple(slice(s, s + n) for s, n in zip(starts, lengths, strict=True))
            band[into] = cells[tuple(slice(n) for n in lengths)]
        yield band.tobytes()


def unpack(blocks: Blocks, storage: Storage, chunk: Chunk, chunk_bytes: int, is_edge: bool) -> bytes:
    """A chunk as it was before the filters.

    Raises:
        FormatError: when it does not have its size, and for filters that are not read.
    """
    if chunk.stored > MAX_BAND_BYTES:
        fail(blocks.name, f"a chunk stored in {chunk.stored:,} bytes", f"at most {MAX_BAND_BYTES:,}")
    data = blocks.source.read(chunk.begin, chunk.stored)
    steps = [] if is_edge and storage.keeps_edges else list(enumerate(storage.filters))
    for number, (kind, value) in reversed(steps):
        if chunk.skipped >> number & 1:
            continue
        if kind == _DEFLATE:
            try:
                data = zlib.decompressobj().decompress(data, chunk_bytes + 4 * len(steps) + 1)
            except zlib.error:
                data = b""
        elif kind == _SHUFFLE:
            data = _unshuffle(data, value)
        elif kind == _FLETCHER32:
            data = data[:-4]
        else:
            packed = _FILTERS.get(kind, f"filter {kind}")
            fail(blocks.name, f"chunks packed by {packed}", "deflate or shuffle", "write it anew with gzip or plainly")
    if len(data) != chunk_bytes:
        fail(blocks.name, f"a chunk that unpacks to {len(data):,} bytes or more", f"{chunk_bytes:,}")
    return data


def _unshuffle(data: bytes, element_bytes: int) -> bytes:
    """Bytes that were sorted by their rank in their element, put together again; a rest stays as it is."""
    import numpy as np

    if element_bytes < 2:
        return data
    count = len(data) // element_bytes
    cells: Any = np.frombuffer(data[: count * element_bytes], np.uint8).reshape(element_bytes, count)
    return bytes(cells.T.tobytes()) + data[count * element_bytes :]
