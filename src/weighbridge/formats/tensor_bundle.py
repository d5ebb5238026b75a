"""Which tensors does a TensorFlow checkpoint hold, and where? Read from its index, a sorted table of keys and values.

A checkpoint `NAME` is `NAME.index` and the data files `NAME.data-00000-of-00002`. The index is a table as LevelDB has
it: at its end 48 bytes with the places of two blocks (varint offset and size) and the number 0xdb4775248b80fb57; a
block is entries, each with the bytes that its key shares with the one before, the rest of the key and the value, then
restart points and their number; behind it lie its compression (0: none) and a checksum. The values of the index block
are the places of the data blocks. The value of the empty key tells the number of data files, every other value the
type, shape, file, offset and size of one tensor; the parts of a partitioned one have keys that begin with a zero byte.

Source: tensorflow/tensorflow, `core/protobuf/tensor_bundle.proto`, `core/util/tensor_bundle/tensor_bundle.cc`,
`core/lib/io/format.cc` and `block.cc`, `core/framework/types.proto`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import ByteSource, Folder, MemoryFile
from weighbridge.formats.checkpoint import StoredFile
from weighbridge.formats.protobuf import BYTES, Field, Fields
from weighbridge.model.encodings import ENCODINGS, Encoding

MAX_INDEX_BYTES = 100_000_000
MAX_ENTRIES = 1_000_000
MAX_KEY_BYTES = 10_000
MAX_SHARDS = 10_000
MAX_RANK = 254
"""TensorFlow's own limit."""
FOOTER_BYTES = 48
MAGIC = 0xDB4775248B80FB57

TYPES: dict[int, Encoding] = {
    number: ENCODINGS[name]
    for number, name in {
        1: "fp32", 2: "fp64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 8: "complex64", 9: "int64", 10: "bool",
        11: "int8", 12: "uint8", 13: "int32", 14: "bf16", 15: "int16", 16: "uint16", 17: "uint16", 18: "complex128",
        19: "fp16", 22: "uint32", 23: "uint64", 24: "fp8_e5m2", 25: "fp8", 29: "int8", 30: "uint8",
    }.items()
}  # fmt: skip
"""The encoding of each `DataType` that is stored as numbers; 4-bit integers take a byte each. Texts are 7."""
_REFERENCE = 100
"""What the type numbers of references lie above those of values."""
_GET_AGAIN = "it is cut short or damaged: get it again, with all its files"


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor. `place` is [begin, end) in `file`; a partitioned one has none, its parts have."""

    key: str
    encoding: Encoding | None
    """None for texts, resources and the like."""
    shape: tuple[int, ...]
    file: str
    place: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A checkpoint: its tensors in the order of their keys, its files, and whether its numbers are big-endian."""

    entries: tuple[Entry, ...]
    files: tuple[StoredFile, ...]
    is_big_endian: bool
    index: bytes


def read(folder: Folder, name: str) -> Bundle:
    """The checkpoint of this name in a folder, such as `variables`.

    Raises:
        FormatError: when the index is no such table, a tensor lies outside its file or on another one.
        SourceError: when a file is missing.
    """
    source = folder.open(f"{name}.index")
    if not FOOTER_BYTES <= source.size <= MAX_INDEX_BYTES:
        _fail(source, f"{source.size:,} bytes")
    data = source.read(0, source.size)
    table = list(_table(source, data))
    shards, is_big_endian = _header(source, table)
    names = [f"{name}.data-{number:05d}-of-{shards:05d}" for number in range(shards)]
    files = {shard: folder.open(shard) for shard in names}
    entries, parts = [], []
    for key, value in table[1:]:
        if key[:1] == b"\0":
            parts.append(_entry(source, "a part of a tensor", value, names, files))
            continue
        try:
            text = key.decode("utf-8")
        except UnicodeDecodeError:
            _fail(source, f"the key {key[:60]!r}")
        entries.append(_entry(source, text, value, names, files))
    stored = [StoredFile(f"{name}.index", source.size, source.size, 0, 0)]
    stored += [_account(files[shard], shard, [*entries, *parts]) for shard in names]
    return Bundle(tuple(entries), tuple(stored), is_big_endian, data)


def _table(source: ByteSource, data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The keys and values of a table, sorted."""
    footer = data[-FOOTER_BYTES:]
    if int.from_bytes(footer[-8:], "little") != MAGIC:
        _fail(source, f"the number {footer[-8:].hex()} at its end")
    _, at = _place(source, footer, 0)
    index, _ = _place(source, footer, at)
    count = 0
    last = None
    for _, value in _block(source, data, index):
        for key, held in _block(source, data, _place(source, value, 0)[0]):
            count += 1
            if count > MAX_ENTRIES:
                _fail(source, f"more than {MAX_ENTRIES:,} entries")
            if last is not None and key <= last:
                _fail(source, f"the key {key[:60]!r} after {last[:60]!r}")
            last = key
            yield key, held


def _block(source: ByteSource, data: bytes, place: tuple[int, int]) -> Iterator[tuple[bytes, bytes]]:
    """The entries of a block at [begin, end), behind which lies its trailer of five bytes."""
    begin, end = place
    if end + 5 > len(data) - FOOTER_BYTES or end - begin < 4:
        _fail(source, f"a block at {begin:,} to {end:,}")
    if data[end] != 0:
        _fail(source, f"a block with the compression {data[end]}, which TensorFlow does not write since 1.2")
    restarts = int.from_bytes(data[end - 4 : end], "little")
    stop = end - 4 - 4 * restarts
    if stop < begin:
        _fail(source, f"a block with {restarts:,} restart points")
    key, at = b"", begin
    while at < stop:
        shared, at = _varint(source, data, at, stop)
        rest, at = _varint(source, data, at, stop)
        length, at = _varint(source, data, at, stop)
        if shared > len(key) or rest + length > stop - at or shared + rest > MAX_KEY_BYTES:
            _fail(source, f"an entry of {shared:,} + {rest:,} + {length:,} bytes at {at:,}")
        key = key[:shared] + data[at : at + rest]
        yield key, data[at + rest : at + rest + length]
        at += rest + length


def _place(source: ByteSource, data: bytes, at: int) -> tuple[tuple[int, int], int]:
    """A block's place, and where its two numbers end."""
    offset, at = _varint(source, data, at, len(data))
    size, at = _varint(source, data, at, len(data))
    return (offset, offset + size), at


def _varint(source: ByteSource, data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
    _fail(source, f"a number without an end at {at:,}")


def _header(source: ByteSource, table: list[tuple[bytes, bytes]]) -> tuple[int, bool]:
    """The number of data files and the byte order, from the entry of the empty key."""
    if not table or table[0][0]:
        _fail(source, "no entry of the empty key")
    shards, is_big_endian = 0, False
    for field in _fields(source, table[0][1]):
        if field.number == 1:
            shards = field.value
        elif field.number == 2:
            is_big_endian = field.value == 1
    if not 0 < shards <= MAX_SHARDS:
        _fail(source, f"{shards:,} data files")
    return shards, is_big_endian


def _entry(source: ByteSource, key: str, value: bytes, names: list[str], files: dict[str, ByteSource]) -> Entry:
    kind = shard = offset = size = 0
    shape: tuple[int, ...] = ()
    is_partitioned = False
    walk = Fields(MemoryFile(source.name, value))
    for field in walk.of():
        if field.number == 1:
            kind = field.value
        elif field.number == 2:
            told = read_shape(walk, field)
            if told is None:
                _fail(source, f"{key[:200]!r} without a shape")
            shape = told
        elif field.number == 3:
            shard = field.value
        elif field.number == 4:
            offset = field.value
        elif field.number == 5:
            size = field.value
        is_partitioned |= field.number == 7
    if shard >= len(names):
        _fail(source, f"{key[:200]!r} in data file {shard:,} of {len(names):,}")
    file, encoding = names[shard], read_type(kind)
    if is_partitioned:
        return Entry(key, encoding, shape, file, None)
    if offset + size > files[file].size:
        _fail(source, f"{key[:200]!r} at {offset:,} to {offset + size:,} of {files[file].size:,} bytes")
    if encoding is not None and encoding.size_bytes(shape) != size:
        _fail(source, f"{key[:200]!r} with {size:,} bytes for {encoding.name} of shape {str(shape)[:200]}")
    return Entry(key, encoding, shape, file, (offset, offset + size))


def read_type(number: int) -> Encoding | None:
    """The encoding of a `DataType`, of values or references; None for what is no number."""
    return TYPES.get(number - _REFERENCE if number > _REFERENCE else number)


def read_shape(walk: Fields, field: Field) -> tuple[int, ...] | None:
    """A `TensorShapeProto`; None when it is unknown, in whole or in part, or of more dimensions than TensorFlow has."""
    shape: list[int] = []
    if field.wire != BYTES:
        return None
    for part in walk.of(field.begin, field.end):
        if part.number == 3 and part.value:
            return None
        if part.number == 2 and part.wire == BYTES:
            sizes = [inner.signed for inner in walk.of(part.begin, part.end) if inner.number == 1]
            shape.append(sizes[-1] if sizes else 0)
    return None if min(shape, default=0) < 0 or len(shape) > MAX_RANK else tuple(shape)


def _fields(source: ByteSource, value: bytes) -> Iterator[Field]:
    yield from Fields(MemoryFile(source.name, value)).of()


def _account(source: ByteSource, file: str, entries: list[Entry]) -> StoredFile:
    """A data file's bytes: numbers, texts and what lies between."""
    places = sorted(
        (*entry.place, entry.encoding is not None)
        for entry in entries
        if entry.file == file and entry.place is not None and entry.place[0] < entry.place[1]
    )
    for before, after in pairwise(places):
        if after[0] < before[1]:
            _fail(source, f"two tensors at byte {after[0]:,}")
    held = sum(end - begin for begin, end, is_number in places if is_number)
    other = sum(end - begin for begin, end, is_number in places if not is_number)
    return StoredFile(file, source.size, other, held, source.size - held - other)


def below(files: tuple[StoredFile, ...], folder: str) -> tuple[StoredFile, ...]:
    """The files under the names that they have from the folder above."""
    return tuple(replace(file, name=f"{folder}/{file.name}") for file in files)


def _fail(source: ByteSource, read_: str) -> NoReturn:
    raise FormatError(f"{source.name} has {read_}", "the index of a TensorFlow checkpoint and its data", _GET_AGAIN)
