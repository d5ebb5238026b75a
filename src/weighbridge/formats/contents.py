"""What are the bytes of a stored tensor? Read a piece at a time, so that memory stays small whatever the tensor's size.

Most formats keep a tensor's elements in one stretch of a file, which its header gives. Where they lie in several, or
are compressed, the format's own module knows how to get at them.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from weighbridge.formats.byte_source import Folder, open_path
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.model.tensors import TensorSpec

PIECE_BYTES = 8 * 2**20
SCATTERED = {"torch": "torch_zip", "pickle": "pickled_arrays", "keras": "keras", "npz": "npz"}
"""Formats whose tensors may have no byte range, and the module whose `pieces(folder, tensor)` reads them."""


def is_readable(checkpoint: Checkpoint, tensor: TensorSpec) -> bool:
    """Whether the bytes of a tensor can be had."""
    return tensor.byte_range is not None or hasattr(_module(checkpoint), "pieces")


def _module(checkpoint: Checkpoint) -> ModuleType | None:
    """The module that reads what lies scattered in a checkpoint's format; None without one."""
    name = SCATTERED.get(checkpoint.format)
    return None if name is None else importlib.import_module(f"weighbridge.formats.{name}")


def pieces(checkpoint: Checkpoint, tensor: TensorSpec, folder: Folder) -> Iterator[bytes]:
    """The stored bytes of a tensor, its last axis running fastest, in pieces of at most `PIECE_BYTES`.

    Every piece is a whole number of the encoding's blocks.

    Args:
        checkpoint: what a reader returned.
        tensor: one of its tensors, for which `is_readable` holds.
        folder: the folder of its files.

    Raises:
        SourceError: when the file has changed or cannot be read any more.
        FormatError: when what is compressed does not unpack to what the header says.

    Example:
        >>> from weighbridge.formats import safetensors
        >>> from weighbridge.formats.byte_source import MemoryFolder
        >>> header = b'{"w": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]}}'
        >>> folder = MemoryFolder({"a.safetensors": len(header).to_bytes(8, "little") + header + b"abc"})
        >>> model = safetensors.read(folder.open("a.safetensors"))
        >>> list(pieces(model, model.tensors[0], folder))
        [b'abc']
    """
    is_view = checkpoint.format == "torch"  # an expanded one has more elements than its range of bytes
    if tensor.byte_range is None or is_view:
        module: Any = _module(checkpoint)
        yield from module.pieces(folder, tensor)
        return
    file = open_path(folder, tensor.file)
    begin, end = tensor.byte_range
    step = PIECE_BYTES - PIECE_BYTES % tensor.encoding.bytes_per_block
    for at in range(begin, end, step):
        yield file.read(at, min(step, end - at))
