"""How is a folder of safetensors written as a GGUF file, with no file in between?

The folder is seen as the GGUF file that llama.cpp's converter would make of it: its names and shapes come from the
description of the family, its metadata from the configuration and the tokenizer, and rows of weights are read from the
shards when they are asked for. Three things change on the way (llama.cpp `conversion/*.py`, November 2026): rows of
Llama's queries and keys change places, as llama.cpp turns neighbours where transformers turns halves; GPT-2's maps are
transposed; and Gemma's norms have 1 added. Matrices keep their type, and what is a vector or is added to the tokens
becomes fp32.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.compress import gguf_metadata, gguf_tokenizer
from weighbridge.compress.codecs import Values, decode
from weighbridge.compress.gguf_file import file_type_of
from weighbridge.compress.gguf_metadata import Pairs
from weighbridge.errors import ConfigError
from weighbridge.formats.byte_source import LocalFolder
from weighbridge.inspection import Inspection, inspect, is_parameter
from weighbridge.model import encodings
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Attention
from weighbridge.model.encodings import Encoding
from weighbridge.model.layouts import TensorGroup, gguf_name, gguf_shape
from weighbridge.model.tensors import Kind, TensorSpec
from weighbridge.prove.engines import folder

READABLE = ("fp32", "bf16", "fp16")
"""Types that weights may be stored in."""
ADDED = frozenset({"position_embedding", "type_embedding"})
"""Tables that llama.cpp adds to the tokens' vectors; it wants them in fp32."""
LEFT_OUT = frozenset({"pooler", "head_transform", "head", "head_bias", "norm", "score"})
"""Of an encoder: what llama.cpp, which makes vectors with it, has no place for."""
BLOCK_BYTES = 8 << 20
"""Of a transposed matrix that are read at once."""
_ENCODERS = ("BertModel", "BertForMaskedLM", "BertForPreTraining")
_ROPE = "rope_freqs.weight"


@dataclass(frozen=True, slots=True)
class _Origin:
    """The stored tensor behind one of the file, and what changes: rows within each of so many heads, axes, or values.

    `shift` is added to each value.
    """

    stored: TensorSpec
    heads: int = 0
    transposed: bool = False
    shift: float = 0.0


class ConvertedFolder:
    """A folder with `config.json`, safetensors and `tokenizer.json`, seen as a GGUF file.

    `notes` say what llama.cpp does otherwise than the folder asks.
    """

    alignment = 32

    def __init__(self, path: str | Path) -> None:
        """Reads the headers, the configuration and the tokenizer.

        Raises:
            WeighbridgeError: when they cannot be read.
            ConfigError: when llama.cpp's files cannot hold the model: of another family than those that are converted,
                packed, with tensors that its description does not name, or with a tokenizer that llama.cpp has not.
        """
        self.path = Path(path)
        self.inspection = inspect(path)
        architecture, config = _convertible(self.path, self.inspection)
        settings = self.inspection.hyperparameters
        assert settings is not None
        shape, notes = gguf_metadata.shape_of(self.path, config, settings, architecture)
        self._origins = dict(_origins(self.path, self.inspection, architecture))
        self._folder = LocalFolder(self.path)
        self._made: dict[str, Values] = {}
        attention = next(one.block for one in architecture.placements if isinstance(one.block, Attention))
        factors = gguf_metadata.rope_factors(self.path, config, settings, attention.head_dim)
        if factors is not None:
            self._made[_ROPE] = factors
        self.tensors: Sequence[TensorSpec] = tuple(self._specs(architecture))
        rows = next(tensor.shape[0] for tensor in self.tensors if tensor.role == "token_embedding")
        words, told = gguf_tokenizer.tokenizer_of(self.path, config, rows)
        self.notes = (*notes, *told)
        self._architecture = str(architecture.gguf_architecture)
        self._rest: Pairs = {"general.type": ("string", "model"), "general.name": ("string", _name(self.path)),
                             **shape, **words}  # fmt: skip
        self._rest_bytes = gguf_metadata.stored(self._rest)

    def _specs(self, architecture: Architecture) -> Iterator[TensorSpec]:
        fp32 = encodings.find("fp32")
        for group, layer in _places(architecture):
            name = gguf_name(group, layer)
            if name in self._origins:
                shape, role = gguf_shape(group), group.weight.role
                kept = len(shape) > 1 and role not in ADDED
                encoding = self._origins[name].stored.encoding if kept else fp32
                yield TensorSpec(name, shape, encoding, role, group.component, layer)
        for name, values in self._made.items():
            yield TensorSpec(name, values.shape, fp32, kind=Kind.BUFFER)

    @property
    def paths(self) -> list[Path]:
        """The shards, the configuration and the files of the tokenizer."""
        beside = [self.path / name for name in (*folder.SETTINGS, *gguf_tokenizer.FILES)]
        weights = [self.path / file.name for file in self.inspection.checkpoint.files]
        return [*weights, *(one for one in beside if one.is_file())]

    @property
    def size_bytes(self) -> int:
        """Bytes of the shards."""
        return self.inspection.checkpoint.size_bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of the shards' headers, and of the metadata that follow from the other files."""
        headers = self.inspection.checkpoint.digest.encode()
        return hashlib.sha256(headers + self._architecture.encode() + self._rest_bytes).hexdigest()

    def pairs(self, encodings: Mapping[str, Encoding]) -> tuple[int, bytes]:
        """How many metadata there are, and their bytes for a file with these encodings."""
        first: Pairs = {
            "general.architecture": ("string", self._architecture),
            "general.file_type": ("uint32", file_type_of(self.tensors, encodings)),
            "general.quantization_version": ("uint32", 2),
        }
        return len(first) + len(self._rest), gguf_metadata.stored(first) + self._rest_bytes

    def bytes_of(self, tensor: TensorSpec, first_row: int, rows: int) -> bytes:
        """The bytes of rows of a tensor, in its own encoding; a vector is one row."""
        origin = self._origins.get(tensor.name)
        if origin is not None and origin.stored.encoding == tensor.encoding and not origin.shift:
            return self._stored(origin, first_row, rows).tobytes()
        return self.rows(tensor, first_row, rows).astype("<f4").tobytes()

    def rows(self, tensor: TensorSpec, first_row: int, rows: int) -> Values:
        """Rows of a tensor in fp32, (rows, columns); a vector is one row."""
        if tensor.name in self._made:
            return self._made[tensor.name][None]
        origin = self._origins[tensor.name]
        data = self._stored(origin, first_row, rows).tobytes()
        found = decode(data, origin.stored.encoding, tensor.shape[-1])
        return found + np.float32(origin.shift) if origin.shift else found

    def _stored(self, origin: _Origin, first: int, count: int) -> NDArray[Any]:
        """Rows as they are stored, in the order and with the axes of the file to write."""
        shape = origin.stored.shape
        if origin.transposed:
            return self._transposed(origin.stored, first, count)
        if len(shape) == 1:
            first, count = 0, shape[0]
        if not origin.heads:
            return self._lines(origin.stored, first, count)
        size = shape[0] // origin.heads
        head, end = first // size, -(-(first + count) // size)
        halves = self._lines(origin.stored, head * size, (end - head) * size)
        turned = halves.reshape(end - head, 2, size // 2, -1).swapaxes(1, 2).reshape(halves.shape)
        return turned[first - head * size :][:count]

    def _lines(self, stored: TensorSpec, first: int, count: int) -> NDArray[Any]:
        """Entries of the first axis as they are stored: (count, entries of the others)."""
        assert stored.byte_range is not None
        width, size = stored.elements // stored.shape[0], stored.encoding.bytes_per_block
        data = self._folder.open(stored.file).read(stored.byte_range[0] + first * width * size, count * width * size)
        return np.frombuffer(data, f"<u{size}").reshape(count, width)

    def _transposed(self, stored: TensorSpec, first: int, count: int) -> NDArray[Any]:
        """So many columns of a matrix as rows; it is read in blocks of rows."""
        inputs, outputs = stored.shape
        size = stored.encoding.bytes_per_block
        found = np.empty((count, inputs), dtype=f"<u{size}")
        step = max(1, BLOCK_BYTES // (outputs * size))
        for begin in range(0, inputs, step):
            block = self._lines(stored, begin, min(step, inputs - begin))
            found[:, begin : begin + len(block)] = block[:, first : first + count].T
        return found


def _name(path: Path) -> str:
    return path.resolve().name or "model"


def _convertible(path: Path, found: Inspection) -> tuple[Architecture, Mapping[str, Any]]:
    """The description of the folder's model, and its configuration."""
    config, architecture = found.checkpoint.config, found.architecture
    if not path.is_dir() or found.format != "safetensors" or config is None:
        raise ConfigError(f"{path} is {found.format}", "a folder with config.json, safetensors and tokenizer.json",
                          "name one")  # fmt: skip
    settings = found.hyperparameters
    if architecture is None or settings is None or settings.model_type not in gguf_metadata.DEFAULTS:
        kind = str(config.get("model_type"))[:60]
        raise ConfigError(f"{path} is a {kind}", f"one of {', '.join(gguf_metadata.DEFAULTS)}",
                          "convert it with llama.cpp's own converter first, and name the GGUF file")  # fmt: skip
    if settings.model_type == "bert":
        if settings.classes and settings.classes[0] not in _ENCODERS:
            raise ConfigError(f"{path} is a {settings.classes[0]}", f"one of {', '.join(_ENCODERS)}, for vectors",
                              "name an encoder without a classifier")  # fmt: skip
    elif not any(group.weight.role == "head" for group in architecture.groups):
        raise ConfigError(f"{path} has no language head", "a model that writes texts", "name another class of it")
    return architecture, config


def _places(architecture: Architecture) -> Iterator[tuple[TensorGroup, int | None]]:
    for group in architecture.groups:
        for layer in group.layers if group.layers is not None else (None,):
            yield group, layer


def _origins(path: Path, found: Inspection, architecture: Architecture) -> Iterator[tuple[str, _Origin]]:
    """The name of each tensor to write, with what it is made of.

    Raises:
        ConfigError: when the shards lack one, hold it in another shape or type, or hold what there is no place for.
    """
    held = {tensor.name: tensor for tensor in found.checkpoint.tensors}
    is_encoder = architecture.gguf_architecture == "bert"
    for group, layer in _places(architecture):
        spelling = group.name.format(layer=layer, expert=0)
        prefix = architecture.base_prefix
        stored = next((held.pop(one) for one in (spelling, spelling.removeprefix(prefix), prefix + spelling)
                       if one in held), None)  # fmt: skip
        name = gguf_name(group, layer)
        if group.weight.tied_to is not None or (is_encoder and group.weight.role in LEFT_OUT):
            continue
        if name is None:
            raise ConfigError(f"{path} has {spelling}", "weights that llama.cpp's files have a place for",
                              "name another class of the model")  # fmt: skip
        if stored is None or stored.shape != group.weight.shape or stored.encoding.name not in READABLE:
            read = f"{path} has {'no' if stored is None else f'{stored.encoding.name} of shape {stored.shape} as'}"
            raise ConfigError(f"{read} {spelling}", f"shape {group.weight.shape} in one of {', '.join(READABLE)}",
                              "get the files again, or name the model before it was packed")  # fmt: skip
        yield name, _origin(group, stored, architecture)
    if left := [tensor.name for tensor in held.values() if tensor.tied_to is None and is_parameter(tensor)]:
        raise ConfigError(f"{path} holds {len(left)} tensors that its config does not describe, {left[0][:100]} first",
                          "none", "check that weights and config.json belong together")  # fmt: skip


def _origin(group: TensorGroup, stored: TensorSpec, architecture: Architecture) -> _Origin:
    role, heads = group.weight.role, 0
    if architecture.gguf_architecture == "llama":
        heads = {"attention_q": architecture.num_heads, "attention_k": architecture.num_kv_heads}.get(role, 0)
    is_gemma_norm = architecture.gguf_architecture == "gemma3" and role.endswith("norm")
    return _Origin(stored, heads, group.weight.transposed, 1.0 if is_gemma_norm else 0.0)
