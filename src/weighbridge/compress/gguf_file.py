"""How is a GGUF file made again with other encodings, tensor by tensor, without holding it?

Metadata are copied byte for byte, apart from the file's type and its parts. Tensors keep their order; each is read in
blocks of rows, decoded, encoded and written, so that memory is bounded by a number and not by the model. The result
grows beside its place, with a journal of the finished tensors and their SHA-256: a run that was killed goes on behind
the last of them, and only a whole file is renamed into its place. Layout: `docs/gguf.md` of ggml.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from weighbridge.compress import blocks, journal
from weighbridge.compress.codecs import Values, decode, encode
from weighbridge.compress.journal import Written
from weighbridge.errors import ConfigError, SourceError
from weighbridge.formats import gguf
from weighbridge.formats.byte_source import ByteSource, LocalFile, LocalFolder
from weighbridge.formats.reader import read
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import TensorSpec

MEMORY_BYTES = blocks.MEMORY_BYTES
"""What the blocks in work may take together, where nothing else is asked."""
PER_WEIGHT_BYTES = 16
"""Of a block in work: what is read, fp32, what encoding makes of it, and room for the encoder."""
FILE_TYPES = {"fp32": 0, "fp16": 1, "q4_0": 2, "q4_1": 3, "q8_0": 7, "q5_0": 8, "q5_1": 9, "q2_k": 10, "q3_k": 12,
              "q4_k": 15, "q5_k": 17, "q6_k": 18, "iq4_nl": 25, "iq4_xs": 30, "bf16": 32, "mxfp4": 38}  # fmt: skip
"""`general.file_type` by the encoding that most weights have (`llama_ftype` of llama.h)."""
_QUANTIZATION = struct.pack("<Q28sII", 28, b"general.quantization_version", 4, 2)


class GgufModel(Protocol):
    """What can be written as a GGUF file: metadata, and tensors that are read by rows."""

    @property
    def path(self) -> Path:
        """What was named."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files that are read."""

    @property
    def size_bytes(self) -> int:
        """The sum of the bytes of those that hold weights."""

    @property
    def digest(self) -> str:
        """Of the headers."""

    @property
    def alignment(self) -> int:
        """Bytes that tensors begin at multiples of."""

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        """Those of the file to write, by llama.cpp's names and in its shapes, in order."""

    def pairs(self, encodings: Mapping[str, Encoding]) -> tuple[int, bytes]:
        """How many metadata there are, and their bytes for a file with these encodings."""

    def bytes_of(self, tensor: TensorSpec, first_row: int, rows: int) -> bytes:
        """The bytes of rows of a tensor, in its own encoding."""

    def rows(self, tensor: TensorSpec, first_row: int, rows: int) -> Values:
        """Rows of a tensor in fp32."""


class GgufSource:
    """A GGUF file, or the parts of one, whose tensors are read by rows."""

    def __init__(self, path: str | Path) -> None:
        """Reads the header.

        Raises:
            ConfigError: when it is no GGUF file, or a big-endian one.
        """
        self.path = Path(path)
        self.checkpoint = read(path)
        if self.checkpoint.format != "gguf" or self.checkpoint.byte_order != "little":
            found = self.checkpoint.format if self.checkpoint.format != "gguf" else "a big-endian GGUF file"
            raise ConfigError(f"{path} is {found}", "a little-endian GGUF file", "name one")
        if not self.checkpoint.tensors:
            raise ConfigError(f"{path} has no tensors", "a model with weights", "name one")
        self.header = gguf.header_of(LocalFile(path))
        self._files: dict[str, ByteSource] = {}

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        """The tensors in the order of the files."""
        return self.checkpoint.tensors

    @property
    def paths(self) -> list[Path]:
        """The file, or its parts."""
        return [self.path.parent / file.name for file in self.checkpoint.files]

    @property
    def size_bytes(self) -> int:
        """Bytes of all parts."""
        return self.checkpoint.size_bytes

    @property
    def digest(self) -> str:
        """Of the header."""
        return self.checkpoint.digest

    @property
    def alignment(self) -> int:
        """Bytes that tensors begin at multiples of."""
        return self.header.alignment

    def pairs(self, encodings: Mapping[str, Encoding]) -> tuple[int, bytes]:
        """How many metadata there are, and their bytes for a file with these encodings."""
        begin, end = self.header.pairs_at
        data = bytearray(self.header.content[begin:end])
        _set(data, "general.file_type", "I", 4, file_type_of(self.tensors, encodings))
        _set(data, "split.count", "H", 2, 1)
        _set(data, "split.no", "H", 2, 0)
        if "general.quantization_version" in self.header.metadata:
            return self.header.pairs, bytes(data)
        return self.header.pairs + 1, bytes(data) + _QUANTIZATION

    def bytes_of(self, tensor: TensorSpec, first_row: int, rows: int) -> bytes:
        """The bytes of rows of a tensor."""
        assert tensor.byte_range is not None
        if tensor.file not in self._files:
            self._files[tensor.file] = LocalFolder(self.path.parent).open(tensor.file)
        each = tensor.encoding.size_bytes((1, _columns(tensor)))
        return self._files[tensor.file].read(tensor.byte_range[0] + first_row * each, rows * each)

    def rows(self, tensor: TensorSpec, first_row: int, rows: int) -> Values:
        """Rows of a tensor in fp32."""
        return decode(self.bytes_of(tensor, first_row, rows), tensor.encoding, _columns(tensor))


def _columns(tensor: TensorSpec) -> int:
    return tensor.shape[-1] if tensor.shape else 1


def _set(data: bytearray, key: str, code: str, number: int, value: int) -> None:
    """Sets a number in metadata, where the key is there with this type."""
    mark = struct.pack(f"<Q{len(key)}sI", len(key), key.encode(), number)
    place = data.find(mark)
    if place >= 0:
        struct.pack_into(f"<{code}", data, place + len(mark), value)


def file_type_of(tensors: Sequence[TensorSpec], encodings: Mapping[str, Encoding]) -> int:
    """`general.file_type` of a file with these encodings; 1024 says that it was guessed."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        name = encodings[tensor.name].name
        sizes[name] = sizes.get(name, 0) + tensor.elements
    return FILE_TYPES.get(max(sizes, key=lambda name: sizes[name]), 1024)


def header_bytes(source: GgufModel, encodings: Mapping[str, Encoding]) -> tuple[bytes, list[int]]:
    """The header of a file with these encodings, padded, and where each tensor begins behind it."""
    pairs, data = source.pairs(encodings)
    out = bytearray(b"GGUF" + struct.pack("<IQQ", 3, len(source.tensors), pairs) + data)
    places, place, step = [], 0, source.alignment
    for tensor in source.tensors:
        encoding, name = encodings[tensor.name], tensor.name.encode()
        if not tensor.elements:
            read = f"{tensor.name} has the shape {tensor.shape}"
            raise ConfigError(read, "at least one element, as readers of GGUF ask for", "leave this tensor out")
        out += struct.pack(f"<Q{len(name)}sI{len(tensor.shape)}QIQ", len(name), name, len(tensor.shape),
                           *reversed(tensor.shape), encoding.gguf_type, place)  # fmt: skip
        places.append(place)
        place += -(-encoding.size_bytes(tensor.shape) // step) * step
    out += bytes(-len(out) % step)
    return bytes(out), [len(out) + place for place in [*places, place]]


def size_of(source: GgufModel, encodings: Mapping[str, Encoding]) -> int:
    """Bytes of the file with these encodings, exactly."""
    return header_bytes(source, encodings)[1][-1]


def write(
    source: GgufModel,
    target: str | Path,
    encodings: Mapping[str, Encoding],
    *,
    importance: Mapping[str, Values] | None = None,
    memory_bytes: int = MEMORY_BYTES,
    jobs: int = 1,
    tell: Callable[[str, int, int], None] | None = None,
) -> Written:
    """Writes a model again with these encodings; a tensor whose encoding stays is copied.

    Args:
        source: what is read.
        target: the file; what is there is replaced when the new one is whole.
        encodings: for each tensor.
        importance: for each column of a tensor, where it is known; (experts, columns) where there are experts.
        memory_bytes: what the blocks in work may take together.
        jobs: blocks that are encoded at once.
        tell: is told the tensor, how many are done, and of how many.

    Raises:
        ConfigError: when a weight is no number or too large for its encoding, or a tensor has no elements.
        SourceError: when the target cannot be written.
    """
    place = Path(target)
    head, places = header_bytes(source, encodings)
    key = journal.key_of(source.digest, source.paths, {name: one.name for name, one in encodings.items()}, importance)
    part, diary = (place.with_name(f"{place.name}.{end}") for end in ("part", "part.json"))
    done = _finished(part, diary, key, head, places, source.tensors)
    errors = {entry["name"]: entry["error"] for entry in done}
    try:
        if not done:
            part.write_bytes(head)
        journal.begin(diary, key, done)
        with part.open("r+b") as out, diary.open("a", encoding="utf-8") as log:
            out.truncate(places[len(done)])
            out.seek(places[len(done)])
            for number, tensor in enumerate(source.tensors[len(done) :], start=len(done)):
                checksum, error, squares = hashlib.sha256(), 0.0, 0.0
                matrix = (importance or {}).get(tensor.name)
                for data, lost, all_of_it in encoded(
                    source, tensor, encodings[tensor.name], matrix, memory_bytes, jobs
                ):
                    out.write(data)
                    checksum.update(data)
                    error += lost
                    squares += all_of_it
                padding = bytes(places[number + 1] - out.tell())
                out.write(padding)
                out.flush()
                checksum.update(padding)
                errors[tensor.name] = error / squares if squares else 0.0
                journal.add(log, {"name": tensor.name, "sha256": checksum.hexdigest(), "error": errors[tensor.name]})
                if tell is not None:
                    tell(tensor.name, number + 1, len(source.tensors))
            os.fsync(out.fileno())
        part.replace(place)
        diary.unlink(missing_ok=True)
    except ConfigError:  # the same command would meet the same weight
        part.unlink(missing_ok=True)
        diary.unlink(missing_ok=True)
        raise
    except OSError as error:
        read = f"{target} cannot be written ({error.strerror})"
        raise SourceError(read, f"a folder that can be written to, with {places[-1]:,} bytes of room",
                          "make room; the same command then goes on") from error  # fmt: skip
    return Written(str(place), places[-1], errors, len(done))


def _finished(
    part: Path, diary: Path, key: str, head: bytes, places: Sequence[int], tensors: Sequence[TensorSpec]
) -> list[dict[str, Any]]:
    """The entries of tensors that an earlier run of the same work has finished, each held against its checksum."""
    found: list[dict[str, Any]] = []
    with contextlib.suppress(OSError, KeyError, ValueError, TypeError), part.open("rb") as file:
        if file.read(len(head)) != head:
            return []
        for tensor, entry in zip(tensors, journal.entries(diary, key) or [], strict=False):
            checksum = journal.checksum(file, places[len(found)], places[len(found) + 1])
            if (tensor.name, checksum) != (entry["name"], entry["sha256"]):
                break
            found.append({**entry, "error": float(entry["error"])})
    return found


def encoded(
    source: GgufModel, tensor: TensorSpec, encoding: Encoding, importance: Values | None = None,
    memory_bytes: int = MEMORY_BYTES, jobs: int = 1,
) -> Iterator[tuple[bytes, float, float]]:  # fmt: skip
    """A tensor in another encoding, block after block: the bytes, their squared error, and the weights' squares.

    Args:
        source: what is read.
        tensor: one of its tensors.
        encoding: of the bytes.
        importance: (columns,), or (experts, columns) for a tensor of (experts, rows, columns).
        memory_bytes: what the blocks in work may take together.
        jobs: blocks that are encoded at once.

    Raises:
        ConfigError: when a weight is no number, or too large for the encoding; when the importance does not fit.
    """
    columns = max(1, _columns(tensor))
    rows = tensor.elements // columns
    each = max(1, blocks.block_bytes(memory_bytes, jobs) // (columns * PER_WEIGHT_BYTES))
    of_experts = importance if importance is not None and importance.ndim == 2 else None
    expert = rows if of_experts is None else tensor.shape[-2]
    if of_experts is not None and len(of_experts) * expert != rows:
        read = f"{tensor.name}: the importance is of {len(of_experts)} experts"
        raise ConfigError(read, f"{rows // expert}, as the weights have", "name the matrix of this model")

    def made(first: int) -> tuple[bytes, float, float]:
        count = min(each, expert - first % expert)
        if encoding == tensor.encoding:
            return source.bytes_of(tensor, first, count), 0.0, 1.0
        values = source.rows(tensor, first, count)
        try:
            data = encode(values, encoding, importance if of_experts is None else of_experts[first // expert])
        except ConfigError as fault:
            raise ConfigError(f"{tensor.name}: {fault.read}", fault.expected, fault.action) from fault
        apart = decode(data, encoding, columns)
        lost = blocks.squares(np.subtract(apart, values, out=apart))
        if not np.isfinite(lost):  # the scale of a block is in fp16
            read = f"{tensor.name}: a weight is too large for {encoding.name}"
            raise ConfigError(read, "a type that reaches it", "choose bf16")
        return data, lost, blocks.squares(values)

    starts = [first for begin in range(0, rows, expert) for first in range(begin, begin + expert, each)]
    if jobs == 1:  # a thread of its own would take memory anew for each block
        yield from map(made, starts)
        return
    with ThreadPoolExecutor(jobs) as pool:
        yield from blocks.in_order(made, starts, pool, jobs)
