"""How does a model lie in safetensors files? As the reference library and the hub's client write them.

In a file the tensors are in the order of `safetensors` (release 0.8, `prepare` of `safetensors/src/tensor.rs`): by
type, the last of `Dtype` first, which puts long elements before short ones, then by name; the header has no spaces but
those that fill it to a multiple of 8. So a file that the library wrote comes back byte for byte.

Which file a tensor goes to is decided as by `split_state_dict_into_shards_factory` of huggingface_hub 2.4: one after
the other, and a tensor larger than a whole file gets one of its own, beside the file that is being filled. The index
has `metadata.total_size`, the sum of the tensors' bytes, and `weight_map`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.convert.layout import FilePlan, Layout, Slot, names_of
from weighbridge.errors import ConfigError
from weighbridge.formats.safetensors import DTYPES, MAX_HEADER_BYTES
from weighbridge.model.tensors import TensorSpec

INDEX = ".safetensors.index.json"
_WORDS = {encoding.name: word for word, encoding in DTYPES.items()}
_RANKS = {encoding.name: rank for rank, encoding in enumerate(DTYPES.values())}


def layout(
    tensors: Sequence[TensorSpec], stem: str, shard_bytes: int | None, metadata: Mapping[str, str],
    index_metadata: Mapping[str, Any],
) -> Layout:  # fmt: skip
    """The files for these tensors.

    Args:
        tensors: in the order in which files are filled.
        stem: what the files are called, without number and ending.
        shard_bytes: what the tensors of one file may have together; None for one file.
        metadata: `__metadata__` of each file.
        index_metadata: what the index says beside the total size; of one file, which has no index, the strings among
            it are metadata of the file, unless it has others of that name.

    Raises:
        ConfigError: when a tensor has an encoding or a name that the format lacks.
    """
    for tensor in tensors:
        if tensor.encoding.name not in _WORDS or tensor.name == "__metadata__":
            raise ConfigError(f"{tensor.name[:200]} holds {tensor.encoding.name}", f"one of {', '.join(_WORDS)}",
                              "leave this tensor out of the source")  # fmt: skip
    shards = _shards(tensors, shard_bytes)
    names = names_of(stem, len(shards), ".safetensors")
    if len(shards) == 1:
        words = {key: value for key, value in index_metadata.items() if isinstance(value, str)}
        return Layout((_file(names[0], shards[0], {**words, **metadata}),), {})
    files = tuple(_file(name, shard, metadata) for name, shard in zip(names, shards, strict=True))
    index = {
        "metadata": {"total_size": sum(map(_size, tensors)), **index_metadata},
        "weight_map": {tensor.name: name for name, shard in zip(names, shards, strict=True) for tensor in shard},
    }
    return Layout(files, {stem + INDEX: json.dumps(index, indent=2)})


def _shards(tensors: Sequence[TensorSpec], most: int | None) -> list[list[TensorSpec]]:
    if most is None:
        return [list(tensors)]
    shards: list[list[TensorSpec]] = []
    current: list[TensorSpec] = []
    held = 0
    for tensor in tensors:
        size = _size(tensor)
        if size > most:
            shards.append([tensor])
            continue
        if held + size > most:
            shards.append(current)
            current, held = [], 0
        current.append(tensor)
        held += size
    return [*shards, current] if current or not shards else shards


def _size(tensor: TensorSpec) -> int:
    return tensor.encoding.size_bytes(tensor.shape)


def _file(name: str, tensors: Sequence[TensorSpec], metadata: Mapping[str, str]) -> FilePlan:
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    places, offset = [], 0
    ordered = sorted(tensors, key=lambda tensor: (-_RANKS[tensor.encoding.name], tensor.name))
    for tensor in ordered:
        end = offset + _size(tensor)
        entries[tensor.name] = {
            "dtype": _WORDS[tensor.encoding.name], "shape": tensor.shape, "data_offsets": [offset, end],
        }  # fmt: skip
        places.append((offset, end))
        offset = end
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER_BYTES:
        raise ConfigError(f"{name} would have a header of {len(text):,} bytes", f"at most {MAX_HEADER_BYTES:,}",
                          "ask for smaller files")  # fmt: skip
    header = len(text).to_bytes(8, "little") + text
    slots = (Slot(tensor, len(header) + a, len(header) + b) for tensor, (a, b) in zip(ordered, places, strict=True))
    return FilePlan(name, header, tuple(slots), len(header) + offset)
