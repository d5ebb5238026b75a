"""What does a GGUF file hold? Its header read exactly; its weights never.

Layout (version 3; version 2 is the same without big-endian files):

    "GGUF"  version u32  tensors u64  pairs u64
    pairs   x (key string, value type u32, value)           string: length u64, UTF-8 bytes
    tensors x (name string, n_dims u32, ne u64 x n_dims, type u32, offset u64)
    padding to `general.alignment` (32 by default), then each tensor's bytes, padded to the alignment

`ne` has the row first; shapes here have the row last, as in the reference implementation: ne = [576, 49152] is
(49152, 576). Offsets count from the start of the data. As in llama.cpp, each must be the padded sum of the sizes before
it, which rules out holes, overlaps and misalignment at once. The last tensor's padding may be absent, and bytes after
it are counted as padding, as no tensor is made of them.

Stricter than llama.cpp: a dimension of zero, a NUL in a name and a boolean other than 0 and 1 are refused. More
lenient: arrays may be nested, as the specification allows.

Sources: `docs/gguf.md` of ggml-org/ggml at 01f0d4d (the layout); of ggml-org/llama.cpp, `ggml/src/gguf.cpp` at 067d44f
(limits, alignment, offsets) and `src/llama-model-loader.cpp` (split files).
"""

from __future__ import annotations

import hashlib
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats.byte_source import ByteSource, Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.model.encodings import BY_GGUF_TYPE, Encoding
from weighbridge.model.tensors import TensorSpec

FIRST_WINDOW = 64 * 1024
"""Bytes of the first read. Each further read is four times the one before, up to `LARGEST_WINDOW`."""
LARGEST_WINDOW = 4 * 1024 * 1024
MAX_HEADER_BYTES = 64_000_000
"""The bound that safetensors sets; the largest tokenizers of 2026 take about 20 MB."""
MAX_STRING_BYTES = 16 * 1024 * 1024
"""llama.cpp allows 1 GiB; chat templates, the longest strings in use, take less than 1 MiB."""
MAX_TENSORS = 2**17
"""llama.cpp compares each name with every other one: far fewer already stall it."""
MAX_PAIRS = 2**16
MAX_ARRAYS = 2**16
MAX_STRINGS = 2**21
"""Of a file's arrays together: the largest vocabularies have 262,144 tokens, and twice as many merges."""
MAX_KEPT_ITEMS = 4096
"""A longer array is checked and skipped."""
MAX_KEPT_ITEMS_PER_FILE = 2**17
MAX_ARRAY_DEPTH = 4
MAX_NAME_BYTES = 63
"""GGML_MAX_NAME is 64, with the closing NUL."""
MAX_KEY_BYTES = 2**16 - 1
MAX_DIMS = 4

_STRING, _ARRAY, _BOOL, _UINT32 = 8, 9, 7, 4
_VALUE_TYPES = {
    0: ("uint8", "B", 1), 1: ("int8", "b", 1), 2: ("uint16", "H", 2), 3: ("int16", "h", 2), 4: ("uint32", "I", 4),
    5: ("int32", "i", 4), 6: ("float32", "f", 4), 7: ("bool", "?", 1), 8: ("string", "", 8), 9: ("array", "", 12),
    10: ("uint64", "Q", 8), 11: ("int64", "q", 8), 12: ("float64", "d", 8),
}  # fmt: skip
"""Number: name, struct code, fewest bytes of a value."""
_REMOVED_TYPES = {
    4: "Q4_2", 5: "Q4_3", 31: "Q4_0_4_4", 32: "Q4_0_4_8", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 37: "IQ4_NL_4_8",
    38: "IQ4_NL_8_8",
}  # fmt: skip
_FEWEST_PAIR_BYTES = 8 + 1 + 4 + 1
_FEWEST_TENSOR_BYTES = 8 + 4 + 4 + 8
_SHARD_NAME = re.compile(r"(.+)-([0-9]{5})-of-([0-9]{5})\.gguf", re.DOTALL)
_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
_CONVERT = "convert the original model again with a current converter"
_DO_NOT_USE = "do not use this file: no known writer makes such a header"


@dataclass(frozen=True, slots=True)
class MetadataArray:
    """An array among the metadata. `values` is None for a long one: more than `MAX_KEPT_ITEMS` items, or past the
    `MAX_KEPT_ITEMS_PER_FILE` of a whole file. The strings of such an array are walked but not decoded.
    """

    value_type: str
    length: int
    values: tuple[Any, ...] | None


@dataclass(frozen=True, slots=True)
class Header:
    """One file's header: what `read` joins into a `Checkpoint`. `byte_order` is `little` or `big`.

    `split_count` is the number of files of the model; `content` is the bytes of the header itself, of which those from
    `pairs_at[0]` to `pairs_at[1]` are the metadata, `pairs` of them; `pair_places` tells the same of each by its key.
    """

    version: int
    byte_order: str
    alignment: int
    metadata: Mapping[str, Any]
    tensors: tuple[TensorSpec, ...]
    file: StoredFile
    split_count: int
    pairs: int
    pairs_at: tuple[int, int]
    pair_places: Mapping[str, tuple[int, int]]
    content: bytes = field(repr=False)


class _Cursor:
    """A position in a header that is held from its first byte on and grows window by window."""

    def __init__(self, source: ByteSource) -> None:
        self.source, self.size = source, source.size
        self.held = bytearray()
        self.window = FIRST_WINDOW
        self.position = 0
        self.order = "<"
        self.part = "its first 24 bytes"
        self.arrays = self.kept_items = self.strings = 0

    def fail(self, read: str, expected: str, action: str) -> NoReturn:
        raise FormatError(f"{self.source.name}: {read}", expected, action)

    def hold(self, end: int) -> None:
        """Reads on until the bytes up to `end` are held; refuses before it reads or allocates too much."""
        if end > self.size:
            self.fail(
                f"{self.part} would end at byte {end} but the file has {self.size}",
                "a file at least as long as its header says", _GET_AGAIN,
            )  # fmt: skip
        if end > MAX_HEADER_BYTES:
            self.fail(
                f"{self.part} would end at byte {end}", f"a header of at most {MAX_HEADER_BYTES:,} bytes", _DO_NOT_USE
            )
        while len(self.held) < end:
            self.held += self.source.read(len(self.held), min(self.window, self.size - len(self.held)))
            self.window = min(4 * self.window, LARGEST_WINDOW)

    def take(self, length: int) -> bytearray:
        end = self.position + length
        if end > len(self.held):
            self.hold(end)
        taken = self.held[self.position : end]
        self.position = end
        return taken

    def numbers(self, code: str) -> tuple[Any, ...]:
        layout = self.order + code
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def string(self, longest: int = MAX_STRING_BYTES) -> str:
        (length,) = self.numbers("Q")
        if length > longest and self.position + length <= self.size:
            self.fail(f"{self.part} is {length} bytes long", f"at most {longest} bytes", _DO_NOT_USE)
        taken = self.take(length)
        try:
            return taken.decode()
        except UnicodeDecodeError as error:
            self.fail(f"{self.part} has the byte {taken[error.start]:#04x} at {error.start}", "UTF-8 text", _GET_AGAIN)

    def value(self, number: int) -> Any:
        if number == _STRING:
            return self.string()
        if number == _ARRAY:
            return self.array(1)
        if number == _BOOL:
            return self.booleans(1)[0] == 1
        return self.numbers(self.value_type(number)[1])[0]

    def value_type(self, number: int) -> tuple[str, str, int]:
        if number not in _VALUE_TYPES:
            self.fail(f"{self.part} has the value type {number}", "a value type from 0 to 12", _GET_AGAIN)
        return _VALUE_TYPES[number]

    def booleans(self, length: int) -> bytearray:
        taken = self.take(length)
        if wrong := taken.translate(None, b"\0\1"):
            self.fail(f"{self.part} has the boolean {wrong[0]}", "0 or 1", _GET_AGAIN)
        return taken

    def array(self, depth: int, is_kept: bool = True) -> MetadataArray:
        number, length = self.numbers("IQ")
        name, code, fewest = self.value_type(number)
        if length * fewest > self.size - self.position:
            self.fail(
                f"{self.part} has {length} items of {name}, with {self.size - self.position} bytes left in the file",
                "an array that fits into the file", _GET_AGAIN,
            )  # fmt: skip
        self.arrays += 1
        if self.arrays > MAX_ARRAYS or depth > MAX_ARRAY_DEPTH:
            self.fail(
                f"{self.part} is array {self.arrays} of the file, at depth {depth}",
                f"at most {MAX_ARRAYS} arrays, nested at most {MAX_ARRAY_DEPTH} deep", _DO_NOT_USE,
            )  # fmt: skip
        self.strings += length if number == _STRING else 0
        if self.strings > MAX_STRINGS:
            self.fail(f"{self.part} brings the strings to {self.strings}", f"at most {MAX_STRINGS}", _DO_NOT_USE)
        is_kept = is_kept and length <= min(MAX_KEPT_ITEMS, MAX_KEPT_ITEMS_PER_FILE - self.kept_items)
        self.kept_items += length if is_kept else 0
        values: tuple[Any, ...] | None = None
        if number == _ARRAY:
            items = tuple(self.array(depth + 1, is_kept) for _ in range(length))
            values = items if is_kept else None
        elif number == _BOOL:
            taken = self.booleans(length)
            values = tuple(byte == 1 for byte in taken) if is_kept else None
        elif number == _STRING and is_kept:
            values = tuple(self.string() for _ in range(length))
        elif number == _STRING:
            self.skip_strings(length)
        elif is_kept:
            values = self.numbers(f"{length}{code}")
        else:
            self.hold(self.position + length * fewest)
            self.position += length * fewest
        return MetadataArray(name, length, values)

    def skip_strings(self, count: int) -> None:
        """Walks from length to length: a tokenizer has 260,000 of them, and nothing here needs their text."""
        length_at = struct.Struct(self.order + "Q").unpack_from
        position, held = self.position, self.held
        last = len(held) - 8
        for _ in range(count):
            if position > last:
                self.hold(position + 8)
                last = len(held) - 8
            position += length_at(held, position)[0] + 8
        self.hold(position)
        self.position = position


def _counts(cursor: _Cursor) -> tuple[int, int, int]:
    """Version, number of tensors and number of pairs; sets the byte order."""
    if cursor.size < 24:
        cursor.fail(f"the file has {cursor.size} bytes", "a GGUF header of at least 24 bytes", _GET_AGAIN)
    magic = bytes(cursor.take(4))
    if magic != b"GGUF":
        cursor.fail(
            f"the file begins with {magic!r}",
            "b'GGUF'",
            "give a GGUF file, not a page or a pointer saved under its name",
        )
    (version,) = cursor.numbers("I")
    if version & 0xFFFF == 0 and version:
        # A version number of another byte order has its low half empty; llama.cpp tells them apart the same way.
        version, cursor.order = int.from_bytes(version.to_bytes(4, "little"), "big"), ">"
    if version == 1:
        cursor.fail("the file is GGUF version 1, which llama.cpp no longer reads", "version 2 or 3", _CONVERT)
    if version not in (2, 3):
        cursor.fail(
            f"the file says that it is GGUF version {version}", "version 2 or 3", "update weighbridge, or " + _CONVERT
        )
    tensors, pairs = cursor.numbers("QQ")
    for kind, count, fewest, most in (
        ("tensors", tensors, _FEWEST_TENSOR_BYTES, MAX_TENSORS),
        ("metadata pairs", pairs, _FEWEST_PAIR_BYTES, MAX_PAIRS),
    ):
        fitting = (cursor.size - cursor.position) // fewest
        if count > min(fitting, most):
            action = _GET_AGAIN if count > fitting else _DO_NOT_USE
            cursor.fail(
                f"the header counts {count} {kind}", f"at most {min(fitting, most)} in a file this long", action
            )
    return version, tensors, pairs


def _metadata(cursor: _Cursor, pairs: int) -> tuple[dict[str, Any], dict[str, tuple[int, int]], int]:
    """The pairs, where each lies, and the alignment that they set."""
    metadata: dict[str, Any] = {}
    places: dict[str, tuple[int, int]] = {}
    alignment = 32
    for index in range(pairs):
        cursor.part = f"metadata key {index}"
        begin = cursor.position
        key = cursor.string(MAX_KEY_BYTES)
        if not key or key in metadata:
            fault = f"the second {key[:100]!r}" if key else "empty"
            cursor.fail(f"metadata key {index} is {fault}", "keys that differ and are not empty", _GET_AGAIN)
        cursor.part = f"the value of {key[:100]!r}"
        (number,) = cursor.numbers("I")
        value = metadata[key] = cursor.value(number)
        places[key] = begin, cursor.position
        if key == "general.alignment":
            if number != _UINT32 or value == 0 or value & (value - 1):
                name = cursor.value_type(number)[0]
                cursor.fail(f"general.alignment is {str(value)[:100]} as {name}", "a power of two as uint32", _CONVERT)
            alignment = value
    return metadata, places, alignment


def _encoding(cursor: _Cursor, name: str, number: int) -> Encoding:
    if number in _REMOVED_TYPES:
        removed = f"tensor {name!r} has type {number} ({_REMOVED_TYPES[number]}), removed from the format"
        cursor.fail(removed, "a type that GGUF still has", _CONVERT)
    if number not in BY_GGUF_TYPE:
        cursor.fail(
            f"tensor {name!r} has the unknown type {number}", f"a type from 0 to {max(BY_GGUF_TYPE)}",
            "update weighbridge if the type is new; otherwise the file is damaged",
        )  # fmt: skip
    return BY_GGUF_TYPE[number]


def _table(cursor: _Cursor, count: int) -> list[tuple[str, tuple[int, ...], Encoding, int]]:
    """Name, shape in reference order, encoding and offset of each tensor."""
    rows: dict[str, tuple[str, tuple[int, ...], Encoding, int]] = {}
    for index in range(count):
        cursor.part = f"the name of tensor {index}"
        name = cursor.string(MAX_NAME_BYTES)
        if name in rows or "\0" in name:
            cursor.fail(f"tensor {index} is named {name!r}", "names that differ and have no NUL", _GET_AGAIN)
        cursor.part = f"the entry of tensor {name!r}"
        (n_dims,) = cursor.numbers("I")
        if n_dims > MAX_DIMS:
            cursor.fail(f"tensor {name!r} has {n_dims} dimensions", f"at most {MAX_DIMS}", _GET_AGAIN)
        *ne, number, offset = cursor.numbers(f"{n_dims}QIQ")
        if 0 in ne or math.prod(ne) >= 2**63:
            cursor.fail(f"tensor {name!r} has ne = {ne}", "dimensions above 0 and below 2^63 elements", _GET_AGAIN)
        encoding = _encoding(cursor, name, number)
        shape = tuple(reversed(ne))
        if not encoding.fits(shape[-1] if shape else 1):
            cursor.fail(
                f"tensor {name!r} in {encoding.name} has rows of {shape[-1] if shape else 1}",
                f"rows of a multiple of {encoding.elements_per_block}", _GET_AGAIN,
            )  # fmt: skip
        rows[name] = name, shape, encoding, offset
    return list(rows.values())


def header_of(source: ByteSource) -> Header:
    """The header of one file, whether or not it is a part of a split model.

    Raises:
        FormatError: for anything but a whole GGUF header of version 2 or 3 that fits the file's length.
    """
    cursor = _Cursor(source)
    version, count, pairs = _counts(cursor)
    first_pair = cursor.position
    metadata, pair_places, alignment = _metadata(cursor, pairs)
    pairs_at = first_pair, cursor.position
    split_count = metadata.get("split.count", 1)
    if type(split_count) is not int:
        cursor.fail(f"split.count is {str(split_count)[:100]}", "a whole number", _CONVERT)
    rows = _table(cursor, count)
    header_bytes = cursor.position
    data_start = -(-header_bytes // alignment) * alignment
    name_in_folder = file_name(source)
    tensors: list[TensorSpec] = []
    expected = tensor_bytes = 0
    for name, shape, encoding, offset in rows:
        if offset != expected:
            fault = "leaves a hole" if offset > expected else "overlaps the tensor before"
            fault = f"is no multiple of the alignment {alignment}" if offset % alignment else fault
            cursor.fail(
                f"tensor {name!r} has offset {offset}, which {fault}",
                f"offset {expected}, the padded sum of the sizes before it", _GET_AGAIN,
            )  # fmt: skip
        size = encoding.size_bytes(shape)
        begin = data_start + offset
        if begin + size > source.size:
            cursor.fail(
                f"tensor {name!r} ends at byte {begin + size} but the file has {source.size}",
                "a file that holds every tensor", _GET_AGAIN,
            )  # fmt: skip
        tensors.append(TensorSpec(name, shape, encoding, file=name_in_folder, byte_range=(begin, begin + size)))
        tensor_bytes += size
        expected += -(-size // alignment) * alignment
    padding = source.size - header_bytes - tensor_bytes
    return Header(
        version=version,
        byte_order="big" if cursor.order == ">" else "little",
        alignment=alignment,
        metadata=metadata,
        tensors=tuple(tensors),
        file=StoredFile(name_in_folder, source.size, header_bytes, tensor_bytes, padding),
        split_count=split_count,
        pairs=pairs,
        pairs_at=pairs_at,
        pair_places=pair_places,
        content=bytes(memoryview(cursor.held)[:header_bytes]),
    )


def _shard_names(source: ByteSource, header: Header) -> list[str]:
    """The names of all shards, in order, after the given one's name and metadata agree."""
    count, index = header.split_count, header.metadata.get("split.no")
    match = _SHARD_NAME.fullmatch(header.file.name)
    if match is None or int(match[3]) != count or type(index) is not int or int(match[2]) != index + 1:
        raise FormatError(
            f"{source.name} says split.no = {str(index)[:20]} of split.count = {count}",
            "a name that says the same, such as model-00001-of-00003.gguf (split.no counts from 0)",
            "give the file its published name, or merge the shards with llama-gguf-split --merge",
        )
    return [f"{match[1]}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


def _shards(source: ByteSource, header: Header, folder: Folder | None) -> list[Header]:
    """All headers of a split model in order, after they agree with each other."""
    names = _shard_names(source, header)
    if folder is None:
        raise FormatError(
            f"{source.name} is one of {len(names)} shards", "the folder with all of them",
            "give the folder, or read the file from disk where its siblings lie beside it",
        )  # fmt: skip
    present = {header.file.name, *folder.names()}
    if missing := [name for name in names if name not in present]:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise SourceError(
            f"{folder.name} lacks {', '.join(missing[:3])}{more}", f"all {len(names)} shards beside each other",
            "get the missing files",
        )  # fmt: skip
    shards = [header if name == header.file.name else header_of(folder.open(name)) for name in names]
    keys = ("split.no", "split.count", "split.tensors.count")
    total = sum(len(shard.tensors) for shard in shards)
    for index, (name, shard) in enumerate(zip(names, shards, strict=True)):
        stored = tuple(shard.metadata.get(key) for key in keys)
        # Only the first shard must say how many tensors there are: llama.cpp asks no other.
        wanted = (index, len(names), total if index == 0 or stored[2] is not None else None)
        if stored != wanted or any(type(value) is bool for value in stored):
            raise FormatError(
                f"{name} says {', '.join(f'{k} = {str(v)[:20]}' for k, v in zip(keys, stored, strict=True))}",
                ", ".join(f"{k} = {v}" for k, v in zip(keys, wanted, strict=True)),
                "the shards belong to different models or one is damaged: get all of them again",
            )
    seen: dict[str, str] = {}
    for tensor in (tensor for shard in shards for tensor in shard.tensors):
        if tensor.name in seen:
            raise FormatError(
                f"tensor {tensor.name!r} is in {seen[tensor.name]} and in {tensor.file}", "each tensor in one shard",
                "the shards belong to different models: get all of them again",
            )  # fmt: skip
        seen[tensor.name] = tensor.file
    return shards


def read(source: ByteSource, folder: Folder | None = None) -> Checkpoint:
    r"""The model that a GGUF file holds, or begins, or continues: any shard of a split model leads to all of them.

    Metadata are those of the first shard, which has all that the others have. Arrays are `MetadataArray`.

    Args:
        source: the file, or any shard.
        folder: where the other shards lie; not used for a model in one file.

    Raises:
        FormatError: when a header is not valid, does not fit its file's length, or contradicts another shard.
        SourceError: when a shard is missing or cannot be read.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFile, file_name
        >>> entry = struct.pack("<Q1sI2QIQ", 1, b"w", 2, 4, 3, 0, 0)  # "w", ne = [4, 3], F32, offset 0
        >>> data = b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + entry
        >>> checkpoint = read(MemoryFile("tiny.gguf", data.ljust(96 + 48, b"\0")))
        >>> [(t.name, t.shape, t.encoding.name, t.byte_range) for t in checkpoint.tensors]
        [('w', (3, 4), 'fp32', (96, 144))]
        >>> checkpoint.files[0].header_bytes, checkpoint.files[0].tensor_bytes, checkpoint.files[0].padding_bytes
        (65, 48, 31)
    """
    header = header_of(source)
    shards = _shards(source, header, folder) if header.split_count > 1 else [header]
    digest = hashlib.sha256()
    for shard in shards:
        digest.update(shard.content)
    return Checkpoint(
        source=source.name,
        format="gguf",
        files=tuple(shard.file for shard in shards),
        tensors=tuple(tensor for shard in shards for tensor in shard.tensors),
        metadata=shards[0].metadata,
        digest=digest.hexdigest(),
        byte_order="big" if header.byte_order == "big" else "little",
    )
