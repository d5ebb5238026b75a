"""What does a binary model of Marian hold? Its items by name, type, shape and place in a `.bin` file.

A file is: the version 1 and the number of items (all numbers uint64), for each item the lengths of its name, shape and
data with its type between, all names with their closing zeros, all shapes (int32), the length of a gap and the gap,
which ends at a multiple of 256 bytes, and the data of all items. Data may be filled up to a multiple of 256 bytes.

How it counts. An item of type intgemm8 or intgemm16 holds the integers of a weight matrix and, behind them, one float,
the multiplier that made them; it is shown as `<name>_QuantMultB`. `<name>_QuantMultA` is the multiplier for what goes
into the matrix, measured beforehand. Both are quantization and no parameters. Matrices packed for one kind of processor
(FBGEMM) stand for the shape that they have. Items called `special:...` are texts: `metadata` has them.

Source: browsermt/marian-dev, `src/common/binary.cpp`, `src/common/types.h` (`TypeClass`, `Type`), `types.cpp`
(`requiredBytes`), `src/tensors/cpu/integer_common.h`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from weighbridge.formats.binary_cursor import BinaryCursor
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.model.encodings import ENCODINGS
from weighbridge.model.tensors import Kind, TensorSpec, Weight

MAX_ITEMS = 20_000
MAX_RANK = 16
MAX_TEXT_BYTES = 1_000_000
ALIGNMENT = 256

_SIGNED, _UNSIGNED, _FLOAT, _INTGEMM = 0x0100, 0x0200, 0x0400, 0x4000
_PLAIN = {
    _SIGNED + 1: "int8", _SIGNED + 2: "int16", _SIGNED + 4: "int32", _SIGNED + 8: "int64",
    _UNSIGNED + 1: "uint8", _UNSIGNED + 2: "uint16", _UNSIGNED + 4: "uint32", _UNSIGNED + 8: "uint64",
    _FLOAT + 2: "fp16", _FLOAT + 4: "fp32", _FLOAT + 8: "fp64",
    _INTGEMM + _SIGNED + 1: "int8", _INTGEMM + _SIGNED + 2: "int16",
}  # fmt: skip
_FBGEMM = {0x0802, 0x1801, 0x2801}
_FILE = "a binary model of Marian, version 1"


def read(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint of a binary model.

    Raises:
        FormatError: when a length does not fit into the file, a type is unknown, or a name comes twice.
    """
    source = folder.open(name)
    cursor = BinaryCursor(source, _FILE)
    version, count = cursor.numbers("QQ")
    if version != 1 or count > min(MAX_ITEMS, cursor.left // 32):
        cursor.fail(f"version {version:,} with {count:,} items")
    headers = [cursor.numbers("4Q", "an item's header") for _ in range(count)]
    names = [_name(cursor, header[0]) for header in headers]
    shapes = [_shape(cursor, header[2]) for header in headers]
    gap = cursor.number("Q", "the length of the gap")
    begin, end = cursor.step(gap, "the gap")
    padding = end - begin
    tensors: list[TensorSpec] = []
    metadata: dict[str, Any] = {}
    for (_, number, _, length), item, shape in zip(headers, names, shapes, strict=True):
        if item.startswith("special:"):
            metadata[item] = cursor.text(length, item, MAX_TEXT_BYTES).rstrip("\0")
            continue
        begin, end = cursor.step(length, f"the data of {item[:200]!r}")
        made = list(_tensors(cursor, item, number, shape, (begin, end), name))
        padding += length - sum(tensor.size_bytes for tensor in made)
        tensors += made
    if cursor.left:
        cursor.fail(f"{cursor.left:,} bytes follow the last item")
    if len({tensor.name for tensor in tensors}) < len(tensors):
        cursor.fail("two items have one name")
    held = sum(tensor.size_bytes for tensor in tensors)
    return Checkpoint(
        source.name, "marian", (StoredFile(name, source.size, source.size - held - padding, held, padding),),
        tuple(tensors), metadata=metadata, digest=cursor.digest,
    )  # fmt: skip


def _name(cursor: BinaryCursor, length: int) -> str:
    text = cursor.text(length, "an item's name")
    if not text.endswith("\0"):
        cursor.fail(f"the name {text[:60]!r} has no closing zero")
    return text[:-1]


def _shape(cursor: BinaryCursor, rank: int) -> tuple[int, ...]:
    if rank > MAX_RANK:
        cursor.fail(f"a shape of {rank:,} dimensions, where {MAX_RANK} are the most")
    shape = cursor.numbers(f"{rank}i", "a shape")
    if min(shape, default=0) < 0:
        cursor.fail(f"the shape {shape}")
    return shape


def _tensors(
    cursor: BinaryCursor, name: str, number: int, shape: tuple[int, ...], place: tuple[int, int], file: str
) -> Iterator[TensorSpec]:
    """The tensor of an item and, of integers for intgemm, the multiplier behind them."""
    begin, length = place[0], place[1] - place[0]
    if number in _FBGEMM:
        stands_for = Weight(name, shape)
        if stands_for.elements > 2 * length + ALIGNMENT:
            cursor.fail(f"{name[:200]!r} packs {stands_for.elements:,} weights into {length:,} bytes")
        yield TensorSpec(name, (length,), ENCODINGS["uint8"], file=file, byte_range=place, stands_for=stands_for)
        return
    if number not in _PLAIN:
        cursor.fail(f"{name[:200]!r} has the type {number:#x}", "get a newer Weighbridge")
    encoding, is_packed = ENCODINGS[_PLAIN[number]], bool(number & _INTGEMM)
    size = math.prod(shape) * encoding.bytes_per_block
    used = size + 4 * is_packed
    if not used <= length < used + ALIGNMENT:
        cursor.fail(f"{name[:200]!r} has {length:,} bytes for {used:,} of {encoding.name} of shape {shape}")
    is_multiplier = name.endswith("_QuantMultA")
    yield TensorSpec(
        name, shape, encoding, "scale" if is_multiplier else "",
        kind=Kind.QUANTIZATION if is_multiplier else Kind.PARAMETER, file=file, byte_range=(begin, begin + size),
        stands_for=Weight(name, shape) if is_packed and not is_multiplier else None,
    )  # fmt: skip
    if is_packed:
        yield TensorSpec(f"{name}_QuantMultB", (1,), ENCODINGS["fp32"], "scale", kind=Kind.QUANTIZATION, file=file,
                         byte_range=(begin + size, begin + used))  # fmt: skip
