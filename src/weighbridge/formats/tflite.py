"""Which constants does a TensorFlow Lite model hold? Those of its tensors whose buffer holds data.

A model is one table of FlatBuffers: operator codes, subgraphs (tensors, and operators with the numbers of the tensors
they take), buffers, metadata. A buffer's bytes lie in the table or, in files above 2 GB, behind it at `offset`. Tensors
without data are activations. Tensors of one buffer share it: the first in the file owns it, the others are tied to it.

What a constant is follows from its type and from what takes it:

    floating-point             a parameter, unless its name says that it belongs to a fixed transform (a constant-Q or
                               mel layer): then a buffer
    int2, int4, int8, uint8,   with scales, taken as weights by an operator that has weights (`_WEIGHTS`): the
    int16                      parameters themselves, quantized (`stands_for`)
    int32, int64               with scales, taken as the bias of such an operator: biases, quantized
    the rest                   shapes, axes, paddings, tables: no parameters

Scales and zero points of blocks (`BlockwiseQuantization`) are constants of their own. The others lie in the tables and
are counted as tensors `<name>.scale` and `<name>.zero_point`, with their place in the file; zero points that are all 0
are left out (the converter writes one for each channel). A sparse tensor stands for its dense shape; its stored
elements are those of its buffer.

Source: tensorflow/tensorflow `tensorflow/compiler/mlir/lite/schema/schema.fbs` (schema version 3c, release 2.20),
and the TFLite 8-bit quantization specification for which operators have weights and biases.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.flatbuffer import FlatBuffer, Table
from weighbridge.formats.unique_names import UniqueNames
from weighbridge.model.encodings import Encoding, find
from weighbridge.model.tensors import Kind, TensorSpec, Weight

MAX_TENSORS = 500_000
"""Of each vector of tables."""
MAX_RANK = 64
MAX_NAME_BYTES = 20_000
MAX_SCALES = 1_000_000

_BLOCKWISE = 2
"""The kind of quantization details that name the tensors of scales and zero points for blocks of a row."""

_TYPES = {
    0: "fp32", 1: "fp16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 8: "complex64", 9: "int8",
    10: "fp64", 11: "complex128", 12: "uint64", 15: "uint32", 16: "uint16", 17: "int4", 18: "bf16", 19: "int2",
    20: "uint4", 21: "fp8", 22: "fp8_e5m2",
}  # fmt: skip
# Which inputs of an operator are weights, and which one is the bias: CONV_2D, DEPTHWISE_CONV_2D, EMBEDDING_LOOKUP,
# FULLY_CONNECTED, LSTM, RNN, SVDF, EMBEDDING_LOOKUP_SPARSE, UNIDIRECTIONAL_SEQUENCE_RNN, GATHER,
# UNIDIRECTIONAL_SEQUENCE_LSTM, BIDIRECTIONAL_SEQUENCE_RNN, BIDIRECTIONAL_SEQUENCE_LSTM, PRELU, TRANSPOSE_CONV,
# BATCH_MATMUL, CONV_3D, CONV_3D_TRANSPOSE; MUL and ADD with a constant are folded normalisations.
_LSTM = frozenset({*range(1, 12), 16, 20, 21, 22, 23})
_WEIGHTS: dict[int, frozenset[int]] = {
    3: frozenset({1}), 4: frozenset({1}), 7: frozenset({1}), 9: frozenset({1}), 16: _LSTM, 24: frozenset({1, 2}),
    27: frozenset({1, 2}), 33: frozenset({4}), 35: frozenset({1, 2}), 36: frozenset({0}), 44: _LSTM,
    46: frozenset({1, 2, 5, 6, 10, 11}), 52: frozenset({*range(1, 12), 16, *range(18, 29), 33, *range(40, 48)}),
    54: frozenset({1}), 67: frozenset({1}), 126: frozenset({0, 1}), 132: frozenset({1}), 141: frozenset({1}),
    18: frozenset({0, 1}), 0: frozenset({0, 1}),
}  # fmt: skip
_LSTM_BIASES = frozenset({12, 13, 14, 15, 17})
_BIASES: dict[int, frozenset[int]] = {
    3: frozenset({2}), 4: frozenset({2}), 9: frozenset({2}), 16: _LSTM_BIASES, 24: frozenset({3}),
    27: frozenset({3}), 35: frozenset({3}), 44: _LSTM_BIASES, 46: frozenset({3, 7}),
    52: frozenset({12, 13, 14, 15, 17, 29, 30, 31, 32, 34}), 67: frozenset({3}), 132: frozenset({2}),
    141: frozenset({3}),
}  # fmt: skip
_PASSES_ON = frozenset({6, 22, 39, 124})
"""DEQUANTIZE, RESHAPE, TRANSPOSE and DENSIFY: a quantized constant that only passes through them is still weights."""
_FIXED = re.compile(r"(^|[/;])(cqt|cq_t|stft|rfft|mel_?spec|log_?mel|mel_?filter|mfcc)[^/;]*/", re.IGNORECASE)
_NO_FILE = "check that it is a TensorFlow Lite model, of schema version 3"


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Where the bytes of a buffer lie."""

    begin: int
    size: int


def read(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint of one `.tflite` file.

    Raises:
        FormatError: for other formats and schema versions, and for offsets, sizes and shapes that do not fit.
    """
    source = folder.open(name)
    if source.size < 8 or source.read(4, 4) != b"TFL3":
        raise FormatError(f"{source.name} has no TFL3 at byte 4", "a TensorFlow Lite model", _NO_FILE)
    file = FlatBuffer(source)
    model = file.root()
    version = model.number(0, 4)
    if version != 3:
        raise FormatError(f"{source.name} has schema version {version}", "version 3", _NO_FILE)
    buffers = [_buffer(file, table) for table in model.tables(4, MAX_TENSORS)]
    codes = [max(code.number(0, 1, signed=True), code.number(3, 4, signed=True))
             for code in model.tables(1, MAX_TENSORS)]  # fmt: skip
    graphs = model.tables(2, 10_000)
    found = _Constants(file, buffers)
    for graph in graphs:
        found.add(graph, codes)
    notes = found.notes()
    if len(graphs) > 1:
        notes.append(f"{len(graphs)} subgraphs; what several of them take counts once")
    tensor_bytes = found.tensor_bytes
    if tensor_bytes > source.size:
        raise FormatError(f"{source.name} has buffers of {tensor_bytes:,} bytes in {source.size:,}",
                          "buffers that lie apart", "do not use this file: no converter writes such a one")  # fmt: skip
    return Checkpoint(
        source.name, "tflite",
        (StoredFile(file_name(source), source.size, source.size - tensor_bytes, tensor_bytes, 0),),
        tuple(found.specs), metadata={"description": model.text(3, MAX_NAME_BYTES)}, digest=file.digest.hexdigest(),
        notes=tuple(notes),
    )  # fmt: skip


def _of_blocks(tensor: Table) -> dict[int, str]:
    """The tensors that hold the scales and zero points of a tensor's blocks, and their roles."""
    table = tensor.table(4)
    details = table.table(5) if table is not None and table.number(4, 1) == _BLOCKWISE else None
    if details is None:
        return {}
    places = {"scale": details.number(0, 4, signed=True), "zero_point": details.number(1, 4, signed=True)}
    return {number: role for role, number in places.items() if number > 0}


def _buffer(file: FlatBuffer, table: Table) -> _Buffer:
    begin, size = table.vector(0, 1)
    offset, length = table.number(1, 8), table.number(2, 8)
    if offset > 1:
        if offset + length > file.source.size:
            file.fail(f"a buffer of {length:,} bytes at byte {offset:,}", "buffers inside of the file")
        return _Buffer(offset, length)
    return _Buffer(begin, size)


class _Constants:
    """The constants of a model's subgraphs, put together one subgraph at a time."""

    def __init__(self, file: FlatBuffer, buffers: list[_Buffer]) -> None:
        self._file, self._buffers = file, buffers
        self._owners: dict[int, str] = {}
        self._names = UniqueNames()
        self._odd: list[str] = []
        self._zero_points = 0
        self._sparse = 0
        self.specs: list[TensorSpec] = []

    @property
    def tensor_bytes(self) -> int:
        """Bytes of the buffers that tensors name, each once, and of scales and zero points."""
        return sum(spec.size_bytes for spec in self.specs if spec.tied_to is None)

    def notes(self) -> list[str]:
        """What was left out."""
        notes = []
        if self._zero_points:
            notes.append(f"{self._zero_points:,} zero points are all 0 and not counted")
        if self._sparse:
            notes.append(f"{self._sparse} sparse tensors stand for their dense shapes")
        if self._odd:
            others = f", and {len(self._odd) - 1:,} others" if len(self._odd) > 1 else ""
            notes.append(f"left out: {self._odd[0]}{others}")
        return notes

    def add(self, graph: Table, codes: list[int]) -> None:
        """Takes the constants of a subgraph."""
        weights, biases = self._taken(graph, codes)
        tensors = graph.tables(0, MAX_TENSORS)
        of_blocks: dict[int, str] = {}
        for tensor in tensors:
            of_blocks |= _of_blocks(tensor)
        for number, tensor in enumerate(tensors):
            index = tensor.number(2, 4)
            if index >= len(self._buffers):
                self._file.fail(f"a tensor with buffer {index:,} of {len(self._buffers):,}", "buffers of the model")
            buffer = self._buffers[index]
            if index == 0 or buffer.size == 0:
                continue
            own = tensor.text(3, MAX_NAME_BYTES)
            name = self._names.take(own or f"#{number}", f"{own}#{number}")
            kind = tensor.number(1, 1)
            if kind not in _TYPES:
                self._odd.append(f"{name[:100]}, which holds {'texts' if kind == 5 else f'elements of type {kind}'}")
                continue
            taken = number in (biases if _TYPES[kind] in ("int32", "int64") else weights)
            self._take(name, tensor, index, find(_TYPES[kind]), taken, of_blocks.get(number, ""))

    def _taken(self, graph: Table, codes: list[int]) -> tuple[set[int], set[int]]:
        """The tensors that are taken as weights, and those that are taken as biases."""
        weights: set[int] = set()
        biases: set[int] = set()
        before: dict[int, int] = {}
        for operator in graph.tables(3, MAX_TENSORS):
            index = operator.number(0, 4)
            if index >= len(codes):
                self._file.fail(f"an operator with code {index:,} of {len(codes):,}", "codes of the model")
            inputs, code = operator.numbers(1, 4, MAX_TENSORS), codes[index]
            if code in _PASSES_ON and inputs:
                before |= dict.fromkeys(operator.numbers(2, 4, MAX_RANK), inputs[0])
            weights |= {inputs[place] for place in _WEIGHTS.get(code, ()) if place < len(inputs)}
            biases |= {inputs[place] for place in _BIASES.get(code, ()) if place < len(inputs)}
        # Operators come in the order in which they run, so that chains end; three steps are more than converters make.
        for _ in range(3):
            weights |= {before[tensor] for tensor in weights if tensor in before}
        return weights, biases

    def _take(self, name: str, tensor: Table, index: int, encoding: Encoding, is_weight: bool, of_blocks: str) -> None:
        shape = tensor.numbers(0, 4, MAX_RANK)
        if any(length < 0 for length in shape) or math.prod(shape) >= 2**63:
            self._file.fail(f"the shape of {name[:100]!r}", "lengths of 0 and more")
        buffer = self._buffers[index]
        stored = shape
        if tensor.table(6) is not None:
            self._sparse += 1
            stored = (buffer.size * encoding.elements_per_block // encoding.bytes_per_block,)
            if math.prod(shape) > 1000 * max(1, stored[0]):
                self._file.fail(f"{name[:100]!r} is sparse beyond 1 in 1,000", "a shape that its buffer can fill")
        if encoding.size_bytes(stored) != buffer.size:
            read = f"{name[:100]!r} has {buffer.size:,} bytes"
            self._file.fail(read, f"{encoding.size_bytes(stored):,} for its shape and type")
        source = file_name(self._file.source)
        spec = TensorSpec(name, stored, encoding, file=source, byte_range=(buffer.begin, buffer.begin + buffer.size))
        owner = self._owners.setdefault(index, name)
        if owner != name:
            self.specs.append(replace(spec, tied_to=owner))
            return
        if of_blocks:
            self.specs.append(replace(spec, kind=Kind.QUANTIZATION, role=of_blocks))
        elif encoding.is_float and not self._is_quantized(tensor):
            if stored != shape:
                spec = replace(spec, stands_for=Weight(name, shape))
            self.specs.append(replace(spec, kind=Kind.BUFFER) if _FIXED.search(name) else spec)
        elif is_weight and self._is_quantized(tensor):
            self.specs += [replace(spec, stands_for=Weight(name, shape)), *self._scales(name, tensor)]
        else:
            self.specs.append(spec)

    def _is_quantized(self, tensor: Table) -> bool:
        """Whether a tensor has scales, of its own or for its blocks."""
        table = tensor.table(4)
        return table is not None and (table.vector(2, 4)[1] > 0 or table.number(4, 1) == _BLOCKWISE)

    def _scales(self, name: str, tensor: Table) -> list[TensorSpec]:
        """The scales and zero points in a tensor's own table, as tensors."""
        table = tensor.table(4)
        assert table is not None, "it is quantized"
        source = file_name(self._file.source)
        at, count = table.vector(2, 4)
        zeros_at, zeros = table.vector(3, 8)
        if count > MAX_SCALES or zeros > MAX_SCALES:
            self._file.fail(f"{name[:100]!r} has {max(count, zeros):,} scales", f"at most {MAX_SCALES:,}")
        if not count:
            return []
        found = [TensorSpec(f"{name}.scale", (count,), find("fp32"), role="scale", kind=Kind.QUANTIZATION, file=source,
                            byte_range=(at, at + 4 * count))]  # fmt: skip
        if any(self._file.read(zeros_at, 8 * zeros)):
            found.append(TensorSpec(f"{name}.zero_point", (zeros,), find("int64"), role="zero_point",
                                    kind=Kind.QUANTIZATION, file=source,
                                    byte_range=(zeros_at, zeros_at + 8 * zeros)))  # fmt: skip
        else:
            self._zero_points += zeros
        return found
