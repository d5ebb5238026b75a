"""Which bytes of a new file are whose? What is to be written, before any tensor is read.

A file is a header, then tensors at known places; what lies between them is zero. A tensor is never cut, so that a file
grows over the wanted size where a single tensor is larger.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from weighbridge.errors import ConfigError
from weighbridge.model.tensors import TensorSpec

_SHARD = re.compile(r"-\d{5}-of-\d{5}$")


@dataclass(frozen=True, slots=True)
class Slot:
    """A tensor of the source, and where its bytes lie in a new file: [begin, end)."""

    tensor: TensorSpec
    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class FilePlan:
    """A file to write: its header, its tensors in the order of their bytes, and its size with all padding."""

    name: str
    header: bytes
    slots: tuple[Slot, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """The files of a model; `index`, by its name, is the text that says which of them holds what."""

    files: tuple[FilePlan, ...]
    index: Mapping[str, str]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files) + sum(len(text.encode()) for text in self.index.values())


def stem_of(name: str) -> str:
    """A weight file's name without its ending and its number.

    Example:
        >>> stem_of("model-00001-of-00003.safetensors"), stem_of("SmolLM2.Q4_1.gguf")
        ('model', 'SmolLM2.Q4_1')
    """
    return _SHARD.sub("", name.rpartition(".")[0])


def names_of(stem: str, count: int, ending: str) -> list[str]:
    """What so many files are called.

    Raises:
        ConfigError: when there are more than five digits count.

    Example:
        >>> names_of("model", 2, ".gguf"), names_of("model", 1, ".gguf")
        (['model-00001-of-00002.gguf', 'model-00002-of-00002.gguf'], ['model.gguf'])
    """
    if count >= 10**5:
        raise ConfigError(f"{count:,} files", "at most 99,999", "ask for larger files")
    return [f"{stem}{ending}"] if count == 1 else [f"{stem}-{n:05}-of-{count:05}{ending}" for n in range(1, count + 1)]


def cut(sizes: Iterable[int], most: int | None) -> list[list[int]]:
    """The places of tensors in a row, file by file, of which none has more than so many bytes.

    As llama.cpp's `gguf-split` cuts: a file is closed by the tensor that it has no room for.

    Example:
        >>> cut([6, 6, 2, 6, 2, 2], 10)
        [[0], [1, 2], [3, 4, 5]]
        >>> cut([1, 12, 1], 10)
        [[0], [1], [2]]
    """
    files: list[list[int]] = [[]]
    held = 0
    for place, size in enumerate(sizes):
        if most is not None and files[-1] and held + size > most:
            files.append([])
            held = 0
        files[-1].append(place)
        held += size
    return files
