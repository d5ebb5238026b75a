"""How many of the stored weights are not zero? The one question here that needs the weights themselves.

Pruned weights are stored as zeros, so the count of elements and the count of those that do something differ. Tensors
are read in pieces, so memory stays small whatever the model's size. Block-quantized tensors are left out and said so:
whether an element of a block is zero only shows when it is decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weighbridge.formats.byte_source import ByteSource
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.model.tensors import TensorSpec

PIECE_BYTES = 8 * 2**20

# An element is zero when all its bits but the sign are: the mask by the size of an element.
_WITHOUT_SIGN = {1: 0x7F, 2: 0x7FFF, 4: 0x7FFFFFFF, 8: 0x7FFFFFFFFFFFFFFF}
_ALL_BITS = {1: 0xFF, 2: 0xFFFF, 4: 0xFFFFFFFF, 8: 0xFFFFFFFFFFFFFFFF}
_UNREADABLE = ("fp8_e8m0", "complex64", "complex128")  # no zero, or two numbers in an element


@dataclass(frozen=True, slots=True)
class TensorValues:
    """One tensor's elements and how many of them are not zero; None where that was not read."""

    name: str
    elements: int
    nonzero: int | None


@dataclass(frozen=True, slots=True)
class ValueCount:
    """Elements read and not zero, over all tensors; tensors that share storage count once."""

    tensors: tuple[TensorValues, ...]
    notes: tuple[str, ...]

    @property
    def read(self) -> int:
        """Elements whose values were read."""
        return sum(t.elements for t in self.tensors if t.nonzero is not None)

    @property
    def nonzero(self) -> int:
        """Those of them that are not zero."""
        return sum(t.nonzero for t in self.tensors if t.nonzero is not None)

    @property
    def unread(self) -> int:
        """Elements whose values cannot be read without decoding."""
        return sum(t.elements for t in self.tensors if t.nonzero is None)

    def to_json(self) -> dict[str, Any]:
        """The part `values` of the JSON document."""
        return {
            "elements_read": self.read, "nonzero": self.nonzero, "zero": self.read - self.nonzero,
            "elements_unread": self.unread, "notes": list(self.notes),
            "tensors": [{"name": t.name, "elements": t.elements, "nonzero": t.nonzero} for t in self.tensors],
        }  # fmt: skip


def readable(tensor: TensorSpec) -> bool:
    """Whether the elements of a stored tensor can be told apart without decoding blocks."""
    encoding = tensor.encoding
    return tensor.byte_range is not None and encoding.elements_per_block == 1 and encoding.name not in _UNREADABLE


def count_zeros(
    checkpoint: Checkpoint,
    open_file: Callable[[str], ByteSource],
    progress: Callable[[int], object] = lambda size: None,
) -> ValueCount:
    """Reads every plain tensor once and counts what is not zero.

    Args:
        checkpoint: what a reader returned.
        open_file: opens a file of the checkpoint by its name, such as `LocalFolder(path).open`.
        progress: is told the bytes of each piece that was read.

    Raises:
        SourceError: when a file cannot be read any more.
    """
    files: dict[str, ByteSource] = {}
    found, skipped = [], set()
    for tensor in checkpoint.tensors:
        if tensor.tied_to is not None:
            continue
        nonzero = None
        if readable(tensor):
            if tensor.file not in files:
                files[tensor.file] = open_file(tensor.file)
            nonzero = _count(tensor, files[tensor.file], checkpoint.byte_order, progress)
        else:
            skipped.add(tensor.encoding.name if tensor.byte_range is not None else f"{checkpoint.format} storage")
        found.append(TensorValues(tensor.name, tensor.elements, nonzero))
    notes = tuple(f"values of {name} are not read" for name in sorted(skipped))
    return ValueCount(tuple(found), notes)


def _count(tensor: TensorSpec, file: ByteSource, byte_order: str, progress: Callable[[int], object]) -> int:
    import numpy as np

    assert tensor.byte_range is not None
    size = tensor.encoding.bytes_per_block
    masks = _WITHOUT_SIGN if tensor.encoding.is_float and not tensor.encoding.name.endswith("fnuz") else _ALL_BITS
    dtype = np.dtype(f"u{size}").newbyteorder("<" if byte_order == "little" else ">")
    mask = np.array(masks[size], dtype)
    begin, end = tensor.byte_range
    nonzero = 0
    while begin < end:
        piece = min(PIECE_BYTES, end - begin)
        nonzero += int(np.count_nonzero(np.frombuffer(file.read(begin, piece), dtype) & mask))
        progress(piece)
        begin += piece
    return nonzero
