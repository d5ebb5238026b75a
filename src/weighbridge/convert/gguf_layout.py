"""How does a model lie in GGUF files? As llama.cpp's `gguf-split` cuts and joins them, and with nothing left behind.

The first file has all metadata, in their order and byte for byte; each file of several ends its own with `split.no`,
`split.tensors.count` and `split.count`. Files are filled with padded tensors in their order. Three things differ from
`gguf-split`, and llama.cpp reads them: one file has no `split` keys (there they stay, `split.count` as 0), so that
joining gives back what was cut, byte for byte; an alignment other than 32 is kept, and said in every file; a tensor
larger than a whole file gets one of its own (there it is an error).

Source: ggml-org/llama.cpp, `tools/gguf-split/gguf-split.cpp` at 3e00f05 and `gguf_set_val_*` of `ggml/src/gguf.cpp`,
which put a key that is set again behind all others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from weighbridge.convert.layout import FilePlan, Layout, Slot, cut, names_of
from weighbridge.errors import ConfigError
from weighbridge.formats.gguf import Header
from weighbridge.model.tensors import TensorSpec

SPLIT = ("split.no", "split.tensors.count", "split.count")
_ALIGNMENT = "general.alignment"
_UINT16, _INT32 = 2, 5
_DEFAULT_ALIGNMENT = 32
_MOST_FILES = 2**16 - 1


def layout(tensors: Sequence[TensorSpec], header: Header, stem: str, shard_bytes: int | None) -> Layout:
    """The files for these tensors.

    Args:
        tensors: in their order.
        header: of the source's first file.
        stem: what the files are called, without number and ending.
        shard_bytes: what the padded tensors of one file may have together; None for one file.

    Raises:
        ConfigError: when there would be more files than `split.count` can tell.
    """
    step = header.alignment
    padded = [-(-tensor.size_bytes // step) * step for tensor in tensors]
    shards = cut(padded, shard_bytes)
    if len(shards) > _MOST_FILES:
        raise ConfigError(f"{len(shards):,} files", f"at most {_MOST_FILES:,}", "ask for larger files")
    names = names_of(stem, len(shards), ".gguf")
    files = []
    for number, (name, shard) in enumerate(zip(names, shards, strict=True)):
        pairs = _kept(header, number)
        if len(shards) > 1:
            pairs += _split_pairs(header, number, len(tensors), len(shards))
        files.append(_file(header, name, [tensors[place] for place in shard], pairs))
    return Layout(tuple(files), {})


def _kept(header: Header, number: int) -> list[bytes]:
    """The metadata of a file as they lie in the source: all in the first, the alignment alone in the others."""
    keys = [key for key in header.pair_places if key not in SPLIT]
    if number:
        keys = [_ALIGNMENT] if header.alignment != _DEFAULT_ALIGNMENT else []
    return [header.content[slice(*header.pair_places[key])] for key in keys]


def _split_pairs(header: Header, number: int, tensors: int, files: int) -> list[bytes]:
    order = _order(header)
    rows = zip(SPLIT, (_UINT16, _INT32, _UINT16), "HiH", (number, tensors, files), strict=True)
    return [struct.pack(f"{order}Q{len(key)}sI{code}", len(key), key.encode(), kind, value)
            for key, kind, code, value in rows]  # fmt: skip


def _file(header: Header, name: str, tensors: Sequence[TensorSpec], pairs: Sequence[bytes]) -> FilePlan:
    order, step = _order(header), header.alignment
    out = bytearray(header.content[:8] + struct.pack(f"{order}QQ", len(tensors), len(pairs)) + b"".join(pairs))
    places, place = [], 0
    for tensor in tensors:
        spelled = tensor.name.encode()
        out += struct.pack(f"{order}Q{len(spelled)}sI{len(tensor.shape)}QIQ", len(spelled), spelled, len(tensor.shape),
                           *reversed(tensor.shape), tensor.encoding.gguf_type, place)  # fmt: skip
        places.append(place)
        place += -(-tensor.size_bytes // step) * step
    start = -(-len(out) // step) * step
    slots = (Slot(tensor, start + begin, start + begin + tensor.size_bytes)
             for tensor, begin in zip(tensors, places, strict=True))  # fmt: skip
    return FilePlan(name, bytes(out), tuple(slots), start + place)


def _order(header: Header) -> str:
    return ">" if header.byte_order == "big" else "<"
