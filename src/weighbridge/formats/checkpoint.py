"""What does a stored model consist of? The type that every reader returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from weighbridge.model.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file of a checkpoint, accounted for to the byte.

    `size_bytes` = `header_bytes` + `tensor_bytes` + `padding_bytes`. The header is all that is not tensor data: length
    fields, JSON, metadata, tensor table, archive records. Padding is what alignment leaves between and after tensors.
    """

    name: str
    size_bytes: int
    header_bytes: int
    tensor_bytes: int
    padding_bytes: int

    def __post_init__(self) -> None:
        assert self.size_bytes == self.header_bytes + self.tensor_bytes + self.padding_bytes, self
        assert min(self.header_bytes, self.tensor_bytes, self.padding_bytes) >= 0, self


@dataclass(frozen=True, slots=True)
class Remote:
    """What reading a model from afar took: requests, bytes received, and of a repository the commit.

    `cached` says that every file that was read lay in the cache that programs of the hub share.
    """

    requests: int
    bytes_read: int
    cached: bool
    revision: str | None

    def to_json(self) -> dict[str, Any]:
        """The part `remote` of the JSON document."""
        return {"requests": self.requests, "bytes": self.bytes_read, "cached": self.cached, "revision": self.revision}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A stored model as its header describes it: files, tensors, configuration, metadata.

    `format` is the contract's word (`safetensors`, `gguf`, `torch`, `config`). `config` is the parsed `config.json`
    beside the weights, where there is one. `digest` is the SHA-256 of the headers that were read, not of the weights.
    `byte_order` is that of the tensors; only GGUF has big-endian files. `parts` are the checkpoints of a pipeline by
    name; its own tensors are theirs, with the part's name in front. `packed_by` is the method that packed the weights,
    where `packed.unpacked` has found them packed. `remote` is there for what was read from afar.
    """

    source: str
    format: str
    files: tuple[StoredFile, ...]
    tensors: Sequence[TensorSpec]
    config: Mapping[str, Any] | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    digest: str = ""
    notes: tuple[str, ...] = ()
    byte_order: Literal["little", "big"] = "little"
    parts: Mapping[str, Checkpoint] = field(default_factory=dict)
    packed_by: str = ""
    remote: Remote | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the tensors' own storage; shared storage counts once."""
        return sum(file.tensor_bytes for file in self.files)
