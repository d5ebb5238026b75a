"""Which constants does a TensorFlow graph hold? Its `Const` nodes, in the graph and in the library of its functions.

A graph has nodes (1) and a library (2) of functions (1), which have a signature (1) and nodes (3). A node has a name
(1), an operation (2), inputs (3) and attributes (5); the attribute `value` of a constant is a tensor (8) with type (1),
shape (2) and either all its bytes (4) or numbers of its type. Fewer numbers than elements stand for a fill: the last is
repeated.

The rule of what counts: constants of floats with a dimension are weights or tables; what has none, fills, integers and
texts are settings and are left out. The same numbers in several functions are one constant, stored again; the same
numbers twice in one function are two.

Source: tensorflow/tensorflow, `core/framework/graph.proto`, `node_def.proto`, `function.proto`, `attr_value.proto`,
`tensor.proto`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from weighbridge.formats.byte_source import ByteSource
from weighbridge.formats.protobuf import BYTES, Field, Fields
from weighbridge.formats.tensor_bundle import read_shape, read_type
from weighbridge.model.encodings import Encoding

MAX_COMPARED_BYTES = 64 * 2**20
"""Of all constants together; beyond it each constant counts, also when it is another's copy."""

_STATISTICS = ("FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3")
"""Operations whose fourth and fifth inputs are mean and variance."""
_PASSES = ("Identity", "ReadVariableOp")
_VALUES = {"fp32": (5, 4), "fp64": (6, 8)}
"""Where numbers of a type lie in place of bytes: field number and width."""


@dataclass(frozen=True, slots=True)
class Constant:
    """One constant. `place` is [begin, end) in the file; `is_statistic` says that it is a batch norm's."""

    name: str
    encoding: Encoding
    shape: tuple[int, ...]
    place: tuple[int, int]
    is_statistic: bool


@dataclass(slots=True)
class Found:
    """The distinct constants, and how many are stored again."""

    constants: list[Constant]
    copies: int = 0


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    operation: str
    inputs: tuple[str, ...]
    value: Field | None


def constants(source: ByteSource, walk: Fields, graphs: list[tuple[int, int]]) -> Found:
    """The constants of the graphs at these places of a file.

    Raises:
        FormatError: for what is no such message.
    """
    found = Found([])
    compared = 0
    seen: Counter[tuple[str, tuple[int, ...], bytes]] = Counter()
    for graph in graphs:
        for name, nodes in _bodies(walk, graph):
            own: Counter[tuple[str, tuple[int, ...], bytes]] = Counter()
            for constant in _of_body(walk, name, nodes):
                size = constant.place[1] - constant.place[0]
                compared += size
                if compared > MAX_COMPARED_BYTES:
                    found.constants.append(constant)
                    continue
                key = constant.encoding.name, constant.shape, sha256(source.read(constant.place[0], size)).digest()
                own[key] += 1
                if name and own[key] <= seen[key]:
                    found.copies += 1
                else:
                    found.constants.append(constant)
            for key, count in own.items():
                seen[key] = max(seen[key], count)
    return found


def _bodies(walk: Fields, graph: tuple[int, int]) -> Iterator[tuple[str, list[_Node]]]:
    """The nodes of a graph, under no name, and those of each function of its library."""
    parts = [part for part in walk.of(*graph) if part.wire == BYTES]
    yield "", [_node(walk, part) for part in parts if part.number == 1]
    for library in (part for part in parts if part.number == 2):
        for function in walk.of(library.begin, library.end):
            if function.number != 1 or function.wire != BYTES:
                continue
            inside = [part for part in walk.of(function.begin, function.end) if part.wire == BYTES]
            names = [
                walk.text(field) for part in inside if part.number == 1
                for field in walk.of(part.begin, part.end) if field.number == 1 and field.wire == BYTES
            ]  # fmt: skip
            yield next(iter(names), "function"), [_node(walk, part) for part in inside if part.number == 3]


def _node(walk: Fields, node: Field) -> _Node:
    name = operation = ""
    inputs = []
    value = None
    for part in walk.of(node.begin, node.end):
        if part.wire != BYTES:
            continue
        if part.number == 1:
            name = walk.text(part)
        elif part.number == 2:
            operation = walk.text(part)
        elif part.number == 3:
            inputs.append(walk.text(part).removeprefix("^").partition(":")[0])
        elif part.number == 5 and operation == "Const":
            entry = [inner for inner in walk.of(part.begin, part.end) if inner.wire == BYTES]
            if [walk.text(inner) for inner in entry if inner.number == 1] == ["value"]:
                value = next((inner for inner in entry if inner.number == 2), None)
    return _Node(name, operation, tuple(inputs), value)


def _of_body(walk: Fields, body: str, nodes: list[_Node]) -> Iterator[Constant]:
    passed = {node.name: node.inputs[0] for node in nodes if node.operation in _PASSES and node.inputs}
    statistics = {
        passed.get(name, name) for node in nodes if node.operation in _STATISTICS for name in node.inputs[3:5]
    }
    for node in nodes:
        if node.operation != "Const" or node.value is None:
            continue
        told = _tensor(walk, node.value)
        if told is not None:
            name = f"{body}/{node.name}" if body else node.name
            yield Constant(name, *told, node.name in statistics)


def _tensor(walk: Fields, attribute: Field) -> tuple[Encoding, tuple[int, ...], tuple[int, int]] | None:
    """Type, shape and place of an attribute's tensor, when it holds floats with a dimension, and all of them."""
    tensors = [f for f in walk.of(attribute.begin, attribute.end) if f.number == 8 and f.wire == BYTES]
    if not tensors:
        return None
    encoding, shape, held = None, None, {}
    for part in walk.of(tensors[0].begin, tensors[0].end):
        if part.number == 1:
            encoding = read_type(part.value)
        elif part.number == 2:
            shape = read_shape(walk, part)
        elif part.wire == BYTES:
            held[part.number] = part.begin, part.end
    if encoding is None or not encoding.is_float or not shape:
        return None
    size = math.prod(shape) * encoding.bytes_per_block
    number, _ = _VALUES.get(encoding.name, (4, 0))
    for place in (held.get(4), held.get(number)):
        if place is not None and size and place[1] - place[0] == size:
            return encoding, shape, place
    return None
