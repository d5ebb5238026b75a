"""Where do the tensors of a PyTorch file lie, and what are their bytes? Common to its zip, legacy and script files.

A tensor is a view of a storage: a place in it, a shape and a stride. Where the elements of a view lie one after the
other, they are read as they lie; where they do not (a transposed matrix), they are gathered. A storage lies in a
stretch of the file or in an entry of an archive, stored or deflated.

Two tensors of one storage, offset and shape are tied; other views that overlap are not told.
"""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, Protocol

from weighbridge.errors import FormatError
from weighbridge.formats import zip_archive
from weighbridge.formats.byte_source import ByteSource, Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.torch_pickle import Entry, Storage, Tensor
from weighbridge.formats.zip_archive import DEFLATE_RATIO, ZipArchive
from weighbridge.model.tensors import TensorSpec, Weight

MAX_EXPANDED = 1000
"""Tensors of an archive with more elements than they store: each takes a read."""
PIECE_BYTES = 8 * 2**20
GATHER_BYTES = 64 * 2**20
"""The longest stretch that is held whole to gather the elements of a view from it."""

_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
_DO_NOT_USE = "do not use this file: torch.save never writes such a one"


class Places(Protocol):
    """Where storages lie."""

    def begin(self, storage: Storage) -> int | None:
        """Where a storage begins in the file, as it is; None when it is packed."""

    def bytes(self, storage: Storage, begin: int, length: int) -> Iterator[bytes]:
        """A stretch of a storage in pieces of any size."""


@dataclass(frozen=True, slots=True)
class StretchPlaces:
    """Storages that lie in the file one after the other: where each begins, by its key."""

    source: ByteSource
    begins: Mapping[str, int]

    def begin(self, storage: Storage) -> int:
        """Where a storage begins."""
        return self.begins[storage.key]

    def bytes(self, storage: Storage, begin: int, length: int) -> Iterator[bytes]:
        """A stretch of a storage."""
        yield from _read(self.source, self.begin(storage) + begin, length)


@dataclass(frozen=True, slots=True)
class ArchivePlaces:
    """Storages that are entries of a zip archive below the folder `top`, checked to be as long as they say.

    Raises:
        FormatError: when an entry is missing, of another length, or packed more than deflate can.
    """

    archive: ZipArchive
    top: str
    storages: tuple[Storage, ...]
    _begins: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for storage in self.storages:
            key, item = storage.key[:100], storage.encoding.bytes_per_block
            entry = self.archive.entries.get(f"{self.top}/{storage.key}")
            if entry is None:
                self._fail(f"storage {key!r} has no entry", "an entry for each storage", _GET_AGAIN)
            if not storage.elements * item <= entry.size < (storage.elements + 1) * item:
                read = f"storage {key!r} has {entry.size:,} bytes"
                self._fail(read, f"its {storage.elements:,} elements of {item} bytes", _GET_AGAIN)
            if entry.method not in (0, 8) or entry.size > entry.stored * (DEFLATE_RATIO if entry.method else 1):
                read = f"storage {key!r} claims {entry.size:,} bytes in {entry.stored:,} (zip method {entry.method})"
                self._fail(read, "storages stored or deflated, as large as they say", _DO_NOT_USE)

    def begin(self, storage: Storage) -> int | None:
        """Where a storage begins, from the local header of its entry, which is read once."""
        entry = self._entry(storage)
        if entry.method != 0:
            return None
        if storage.key not in self._begins:
            self._begins[storage.key] = self.archive.data_start(entry)
        return self._begins[storage.key]

    def bytes(self, storage: Storage, begin: int, length: int) -> Iterator[bytes]:
        """A stretch of a storage; a packed one is unpacked from its beginning."""
        place = self.begin(storage)
        if place is not None:
            yield from _read(self.archive.source, place + begin, length)
            return
        end, at = begin + length, 0
        for piece in self.archive.pieces(self._entry(storage)):
            if part := piece[max(begin - at, 0) : max(end - at, 0)]:
                yield part
            at += len(piece)
        if at < end:
            self._fail(f"storage {storage.key[:100]!r} unpacks to {at:,} bytes", f"at least {end:,}", _GET_AGAIN)

    def _entry(self, storage: Storage) -> zip_archive.Entry:
        return self.archive.entries[f"{self.top}/{storage.key}"]

    def _fail(self, read: str, expected: str, action: str) -> NoReturn:
        raise FormatError(f"{self.archive.source.name}: {read}", expected, action)


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that was read: its checkpoint, and for each name the view that the tensor is."""

    checkpoint: Checkpoint
    tensors: Mapping[str, Tensor]
    places: Places


def tensor_pieces(folder: Folder, spec: TensorSpec, open_file: Callable[[ByteSource], Opened]) -> Iterator[bytes]:
    """The elements of a tensor that a reader returned, as `pieces`; a file's table is read once for a `folder`.

    Args:
        folder: the folder of the tensor's file.
        spec: the tensor.
        open_file: reads the table of such a file.

    Raises:
        FormatError: when the file has no such tensor any more, or is damaged.
        SourceError: when it cannot be read any more.
    """
    files = _OPENED.setdefault(folder, {})
    source = folder.open(spec.file)
    size, found = files.get(spec.file, (-1, None))
    if found is None or size != source.size:
        found = open_file(source)
        files[spec.file] = (source.size, found)
    view = found.tensors.get(spec.name)
    if view is None or (view.shape, view.encoding) != (spec.shape, spec.encoding):
        read = f"{source.name}: {spec.name[:100]} is not there as it was"
        raise FormatError(read, "an unchanged file", "read its table again")
    yield from pieces(view, found.places)


def opened(checkpoint: Checkpoint, rows: tuple[Entry, ...], places: Places) -> Opened:
    """A file that was read, with the views of its table."""
    return Opened(checkpoint, {row.name: row.tensor for row in rows}, places)


def specs(source: ByteSource, rows: tuple[Entry, ...], places: Places) -> tuple[TensorSpec, ...]:
    """The rows of a table as specifications; of tensors on one place of a storage, all but the first are tied.

    A tensor has its byte range where the file tells it without a further read. In an archive only a tensor with more
    elements than it stores has one, for which a header is read.

    Raises:
        FormatError: when too many such headers would be read, or such a tensor is packed.
    """
    owners: dict[tuple[str, int, tuple[int, ...]], str] = {}
    expanded = 0
    made = []
    for row in rows:
        tensor, span = row.tensor, None
        is_expanded = tensor.elements > tensor.extent
        in_archive = isinstance(places, ArchivePlaces)
        if is_expanded or (tensor.is_contiguous and not in_archive):
            begin = places.begin(tensor.storage) if expanded < MAX_EXPANDED or not in_archive else None
            expanded += is_expanded
            if begin is None:
                read = f"{row.name[:100]} is a view with more elements than it stores, of a kind that is not read"
                expected = f"at most {MAX_EXPANDED:,} of these, uncompressed"
                raise FormatError(f"{source.name}: {read}", expected, "save them as whole tensors")
            item = tensor.encoding.bytes_per_block
            begin += tensor.offset * item
            span = (begin, begin + tensor.extent * item)
        owner = owners.setdefault((tensor.storage.key, tensor.offset, tensor.shape), row.name)
        made.append(
            TensorSpec(
                row.name, tensor.shape, tensor.encoding, role=row.role, kind=row.kind,
                tied_to=None if owner == row.name else owner, file=file_name(source), byte_range=span,
                stands_for=Weight(row.name, tensor.shape) if tensor.is_quantized else None,
            )
        )  # fmt: skip
    return tuple(made)


def account(source: ByteSource, storages: list[zip_archive.Entry]) -> StoredFile:
    """The bytes of an archive. In a storage's place, what is no header, name, data or descriptor is padding."""
    tensor_bytes = padding = 0
    for entry in storages:
        descriptor = 0
        if entry.flags & 8:
            descriptor = 24 if max(entry.offset, entry.size) >= 0xFFFFFFFF else 16
        tensor_bytes += entry.stored
        padding += max(0, entry.end - entry.offset - 30 - len(entry.raw_name) - entry.stored - descriptor)
    return StoredFile(file_name(source), source.size, source.size - tensor_bytes - padding, tensor_bytes, padding)


def byte_order(archive: ZipArchive, top: str) -> Literal["little", "big"]:
    """The byte order of an archive's storages, told by the length of its record, which is not read; little without one.

    Raises:
        FormatError: when the record is neither of the two words.
    """
    entry = archive.entries.get(f"{top}/byteorder")
    if entry is None or (entry.size == 6 and entry.crc in (0, zlib.crc32(b"little"))):
        return "little"
    if entry.size == 3 and entry.crc in (0, zlib.crc32(b"big")):
        return "big"
    read = f"{archive.source.name}: its record of the byte order has {entry.size:,} bytes"
    raise FormatError(read, "the word little or big", _DO_NOT_USE)


def pieces(tensor: Tensor, places: Places) -> Iterator[bytes]:
    """The elements of a view, its last axis running fastest, in pieces of whole elements of at most `PIECE_BYTES`.

    Raises:
        FormatError: when what is packed does not unpack as it says, or a packed view is too large to be gathered.
        SourceError: when the file cannot be read any more.
    """
    item = tensor.encoding.bytes_per_block
    begin, length = tensor.offset * item, tensor.extent * item
    if tensor.is_contiguous:
        yield from _whole(places.bytes(tensor.storage, begin, length), PIECE_BYTES - PIECE_BYTES % item)
    elif length <= GATHER_BYTES:
        yield from _rows(_view(b"".join(places.bytes(tensor.storage, begin, length)), tensor))
    elif places.begin(tensor.storage) is not None:
        yield from _gathered(tensor, places)
    else:
        read = f"a packed storage holds a view of {length:,} bytes whose elements do not lie in their order"
        raise FormatError(read, f"at most {GATHER_BYTES:,}", "save the tensor contiguous, or the file unpacked")


_OPENED: weakref.WeakKeyDictionary[Folder, dict[str, tuple[int, Opened]]] = weakref.WeakKeyDictionary()
"""For each folder in use, its files whose tensors were asked for, with their sizes."""


def _read(source: ByteSource, begin: int, length: int) -> Iterator[bytes]:
    for at in range(begin, begin + length, PIECE_BYTES):
        yield source.read(at, min(PIECE_BYTES, begin + length - at))


def _whole(parts: Iterator[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of one size, but for the last."""
    held = b""
    for part in parts:
        held = held + part if held else part
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


def _view(data: bytes, tensor: Tensor) -> Any:
    """The view as an array of elements of no known type."""
    import numpy as np

    item = tensor.encoding.bytes_per_block
    elements = np.frombuffer(data, np.dtype(f"V{item}"))
    return np.lib.stride_tricks.as_strided(elements, tensor.shape, tuple(item * x for x in tensor.stride))


def _rows(array: Any) -> Iterator[bytes]:
    """The elements of an array in pieces of whole rows, or of parts of a row that is too long."""
    row = array.itemsize * (array.size // array.shape[0])
    if row > PIECE_BYTES:
        for part in array:
            yield from _rows(part)
        return
    step = PIECE_BYTES // row
    for i in range(0, array.shape[0], step):
        yield array[i : i + step].tobytes()


def _gathered(tensor: Tensor, places: Places) -> Iterator[bytes]:
    """The elements of a view that is too long to be held: for each piece the storage is read through once."""
    import numpy as np

    item = tensor.encoding.bytes_per_block
    dtype = np.dtype(f"V{item}")
    count = PIECE_BYTES // item
    for first in range(0, tensor.elements, count):
        positions = np.unravel_index(np.arange(first, min(first + count, tensor.elements)), tensor.shape)
        wanted = np.tensordot(np.array(tensor.stride), np.array(positions), 1)
        made = np.empty(len(wanted), dtype)
        lowest, highest = int(wanted.min()), int(wanted.max())
        at = lowest
        for part in _whole(
            places.bytes(tensor.storage, (tensor.offset + lowest) * item, (highest + 1 - lowest) * item), count * item
        ):
            held = np.frombuffer(part, dtype)
            inside = (wanted >= at) & (wanted < at + len(held))
            made[inside] = held[wanted[inside] - at]
            at += len(held)
        yield made.tobytes()
