"""What does an ONNX file (.onnx) hold? Its tensors wherever they are stored, and what the graph makes of each.

A file is one `ModelProto` message. Tensors lie in a graph's initializers and sparse initializers and in the values of
`Constant` nodes, in the main graph, in the graphs inside of its nodes (branches, loop bodies) and in local functions.
Their elements lie in the message, as raw bytes (`raw_data`) or as lists of numbers, or in another file beside it
(`external_data`: location, offset, length). Only headers are walked: elements are skipped.

What of this is a weight is told from the graph, by the rules of `graph_constants`. Packed weights of onnxruntime's
`MatMulNBits` and its kin stand for the matrix that their operator names.

`byte_range` is None for elements stored as numbers of varying length. A tensor that is stored twice counts twice; two
tensors of one range of an external file are tied. A sparse tensor stands for its full shape. `Checkpoint.metadata`
holds versions, producer, domains with their versions, properties, and how often each operator occurs. The digest is
that of the fields and texts in their order as they were walked, without elements.

Left out, with a note: strings, training graphs, numbers in attributes of other nodes (`ConstantOfShape`, classical
models of `ai.onnx.ml`).

Source: `onnx/onnx-ml.proto` of onnx/onnx, release 1.23 (IR version 14).
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import graph_constants
from weighbridge.formats.byte_source import ByteSource, Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.graph_constants import Constant, Node, Role
from weighbridge.formats.onnx_operators import MICROSOFT, RULES, unpacked
from weighbridge.formats.protobuf import BYTES, FIXED32, VARINT, Field, Fields
from weighbridge.formats.unique_names import UniqueNames
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import Kind, TensorSpec, Weight

MAX_DEPTH = 16
"""Graphs inside of graphs; exporters write two or three."""
MAX_RANK = 64
MAX_SETTINGS = 64
"""Whole-number attributes of one node that are kept; `MatMulNBits` has six."""
MAX_EXTERNAL_FILES = 10_000
SHOWN = 200
"""Operators and properties in the metadata."""

TYPES = {
    1: "fp32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool", 10: "fp16",
    11: "fp64", 12: "uint32", 13: "uint64", 14: "complex64", 15: "complex128", 16: "bf16", 17: "fp8",
    18: "fp8_e4m3fnuz", 19: "fp8_e5m2", 20: "fp8_e5m2fnuz", 21: "uint4", 22: "int4", 23: "fp4", 24: "fp8_e8m0",
    25: "uint2", 26: "int2", 27: "fp6_e2m3", 28: "fp6_e3m2",
}  # fmt: skip
"""`TensorProto.DataType` and our names; 8 is a string, 0 undefined."""
_STRING = 8

_STRINGS_ENCODING = Encoding("string", 1, 0, is_float=False)
"""Stands in for texts until they are left out."""
_FLOATS, _INTS, _LONGS, _RAW, _DOUBLES, _UNSIGNED = 4, 5, 7, 9, 10, 11
_FITTING = {
    _FLOATS: {"fp32": 4, "complex64": 8}, _DOUBLES: {"fp64": 8, "complex128": 16},
    _LONGS: {"int64": 0}, _UNSIGNED: {"uint32": 0, "uint64": 0},
}  # fmt: skip
"""Fields of numbers, the types that may lie in them and bytes of an element; 0 for varints."""

_NOT_AS_INTS = {"fp32", "fp64", "complex64", "complex128", "int64", "uint64", "uint32"}
"""Types that `int32_data` does not hold."""

_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
_DO_NOT_USE = "do not use this file: no exporter writes such a one"


@dataclass(slots=True)
class _Tensor:
    """One tensor as it is stored, before the graph says what it is."""

    name: str
    shape: tuple[int, ...]
    encoding: Encoding
    stored_bytes: int = 0
    span: tuple[int, int] | None = None
    file: str = ""
    value: int | None = None
    path: str = ""
    sparse: tuple[int, ...] | None = None
    is_indices: bool = False


@dataclass(slots=True)
class _Scope:
    """The names of one graph or function, and those of the graphs around it."""

    path: str
    outer: _Scope | None
    depth: int
    names: dict[str, int] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    nodes: list[_Operator] = field(default_factory=list)


@dataclass(slots=True)
class _Operator:
    """A node before its names are looked up."""

    op: str = ""
    domain: str = ""
    overload: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    settings: dict[str, int] = field(default_factory=dict)
    tables: int = 0
    values: list[_Tensor] = field(default_factory=list)
    graphs: list[_Scope] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The operator with its domain, as the tables have it."""
        return _key(self.domain, self.op, self.overload)


def _key(domain: str, name: str, overload: str) -> str:
    """The name of an operator or function in tables."""
    return ("" if domain in ("", "ai.onnx") else f"{domain}.") + name + (f":{overload}" if overload else "")


class _Walk:
    """One walk over a file."""

    def __init__(self, folder: Folder, source: ByteSource) -> None:
        self.folder, self.source = folder, source
        self.fields = Fields(source)
        self.digest = hashlib.sha256()
        self.tensors: list[_Tensor] = []
        self.functions: dict[str, _Scope] = {}
        self.scopes: list[_Scope] = []
        self.operators: Counter[str] = Counter()
        self.external: dict[str, ByteSource] = {}
        self.metadata: dict[str, object] = {}
        self.numbers = itertools.count(1)
        self.strings = self.other_numbers = self.training = 0

    def model(self) -> _Scope:
        """Walks the `ModelProto` and returns its main graph."""
        graph: _Scope | None = None
        domains: dict[str, int] = {}
        properties: dict[str, str] = {}
        for item in self._message(0, self.source.size):
            match item.number:
                case 1:
                    self.metadata["ir_version"] = item.signed
                case 2 | 3 | 4:
                    self.metadata[("producer_name", "producer_version", "domain")[item.number - 2]] = self._text(item)
                case 5:
                    self.metadata["model_version"] = item.signed
                case 7 if graph is None:
                    graph = self._graph(self._span(item), "", None, 0)
                case 7:
                    self.fail("it has two main graphs", "one", _DO_NOT_USE)
                case 8:
                    name, version = self._pair(item)
                    domains[str(name) or "ai.onnx"] = version if isinstance(version, int) else 0
                case 14 if len(properties) < SHOWN and item.end - item.begin <= 10_000:
                    key, value = self._pair(item)
                    properties[str(key)] = str(value)
                case 20:
                    self.training += 1
                case 25:
                    self._function(item)
        if graph is None or "ir_version" not in self.metadata:
            self.fail("it has no graph or no IR version", "an ONNX model", "check that it is an .onnx file and whole")
        self.metadata |= {"opset_import": dict(list(domains.items())[:SHOWN]), "metadata_props": properties}
        return graph

    def _function(self, item: Field) -> None:
        """A local function: a graph without initializers, called by the nodes of its name."""
        scope = _Scope("", None, 1)
        name = domain = overload = ""
        self.scopes.append(scope)
        for part in self._message(*self._span(item)):
            match part.number:
                case 1:
                    name = scope.path = self._text(part)
                case 10:
                    domain = self._text(part)
                case 13:
                    overload = self._text(part)
                case 4:
                    scope.inputs.append(self._text(part))
                case 5:
                    scope.outputs.append(self._text(part))
                case 7:
                    self._node(part, scope)
        self.functions[_key(domain, name, overload)] = scope

    def _graph(self, span: tuple[int, int], path: str, outer: _Scope | None, depth: int) -> _Scope:
        if depth > MAX_DEPTH:
            self.fail(f"graphs nest more than {MAX_DEPTH} deep", "branches and loops", _DO_NOT_USE)
        scope = _Scope(path, outer, depth)
        self.scopes.append(scope)
        for item in self._message(*span):
            match item.number:
                case 1:
                    self._node(item, scope)
                case 5:
                    self._keep(self._tensor(item), scope)
                case 15:
                    self._sparse(item, scope)
                case 11:
                    scope.inputs.append(self._name(item))
                case 12:
                    scope.outputs.append(self._name(item))
        return scope

    def _node(self, item: Field, scope: _Scope) -> None:
        node = _Operator()
        for part in self._message(*self._span(item)):
            match part.number:
                case 1:
                    node.inputs.append(self._text(part))
                case 2:
                    node.outputs.append(self._text(part))
                case 3:
                    node.name = self._text(part)
                case 4:
                    node.op = self._text(part)
                case 5:
                    self._attribute(part, node, scope)
                case 7:
                    node.domain = self._text(part)
                case 8:
                    node.overload = self._text(part)
        self.operators[node.key] += 1
        if node.key == "Constant":
            for tensor in node.values[:2]:
                tensor.name = node.outputs[0] if node.outputs else node.name
                if tensor.is_indices:
                    tensor.name += ".indices"
                self._keep(tensor, scope)
        else:
            self.other_numbers += node.tables + sum(_count(tensor) > 1 for tensor in node.values)
        node.values = []
        scope.nodes.append(node)

    def _attribute(self, item: Field, node: _Operator, scope: _Scope) -> None:
        name, number, numbers, decimals = "", None, 0, 0
        number_bytes = decimal_bytes = 0
        span: tuple[int, int] | None = None
        for part in self._message(*self._span(item)):
            match part.number:
                case 1:
                    name = self._text(part)
                case 2 if part.wire == FIXED32:
                    span, decimals, decimal_bytes = (part.begin, part.end), 1, 4
                case 3 if part.wire == VARINT:
                    number, number_bytes = part.signed, part.end - part.begin
                case 5:
                    node.values.append(self._tensor(part))
                case 6 | 11:
                    path = "/".join(filter(None, (scope.path, node.name or "".join(node.outputs[:1]), name)))[:1000]
                    node.graphs.append(self._graph(self._span(part), path, scope, scope.depth + 1))
                case 7:
                    size = part.end - part.begin
                    span = (part.begin, part.end) if not decimals else None
                    decimals, decimal_bytes = decimals + size // 4, decimal_bytes + size
                case 8 if part.wire == VARINT:
                    numbers, number_bytes = numbers + 1, number_bytes + part.end - part.begin
                case 8:
                    for one in self.fields.integers(part, part.end - part.begin):
                        numbers, number_bytes = numbers + 1, number_bytes + one.end - one.begin
                case 22:
                    node.values += self._sparse_parts(part)
        shape = (numbers,) if name == "value_ints" else (decimals,) if name == "value_floats" else ()
        if name in ("value_float", "value_floats"):
            node.values.append(_Tensor("", shape, encodings.find("fp32"), decimal_bytes, span, file_name(self.source)))
        elif name in ("value_int", "value_ints"):
            node.values.append(_Tensor("", shape, encodings.find("int64"), number_bytes, None, file_name(self.source)))
        elif name in ("value_string", "value_strings"):
            self.strings += 1
        elif decimals > MAX_RANK:
            node.tables += 1
        elif number is not None and len(node.settings) < MAX_SETTINGS:
            node.settings[name] = number

    def _sparse(self, item: Field, scope: _Scope) -> None:
        for tensor in self._sparse_parts(item):
            self._keep(tensor, scope)

    def _sparse_parts(self, item: Field) -> list[_Tensor]:
        """The values of a sparse tensor, which stand for its whole shape, and their places."""
        parts: dict[int, _Tensor] = {}
        shape: list[int] = []
        for part in self._message(*self._span(item)):
            if part.number in (1, 2):
                parts[part.number] = self._tensor(part)
            elif part.number == 3:
                shape += self._dimensions(part, len(shape))
        if set(parts) != {1, 2}:
            self.fail("a sparse tensor lacks its values or their places", "both", _GET_AGAIN)
        if math.prod(shape) >= 2**63:
            self.fail("a sparse tensor stands for 2^63 elements or more", "fewer", _GET_AGAIN)
        values, places = parts[1], parts[2]
        values.sparse = tuple(shape)
        places.is_indices, places.name = True, f"{values.name}.indices"
        return [values, places]

    def _keep(self, tensor: _Tensor, scope: _Scope) -> None:
        """Gives a stored tensor its value in the graph; tensors of strings have no numbers to count."""
        if tensor.encoding.name == "string":
            self.strings += 1
            return
        if not tensor.is_indices:
            tensor.value = self.declare(tensor.name, scope) if tensor.name else None
        tensor.path = scope.path
        self.tensors.append(tensor)

    def declare(self, name: str, scope: _Scope) -> int:
        """The value of a name in its own graph."""
        return scope.names.setdefault(name, next(self.numbers))

    def look_up(self, name: str, scope: _Scope) -> int | None:
        """The value of a name in a graph or those around it; None for an input that is left out."""
        if not name:
            return None
        at: _Scope | None = scope
        while at is not None:
            if name in at.names:
                return at.names[name]
            at = at.outer
        return self.declare(name, scope)

    def _tensor(self, item: Field) -> _Tensor:
        """A `TensorProto`: its header, and where its elements are."""
        name, type_number, is_external = "", 0, False
        shape: list[int] = []
        places: dict[str, str] = {}
        data: dict[int, list[Field]] = {}
        for part in self._message(*self._span(item)):
            match part.number:
                case 1:
                    shape += self._dimensions(part, len(shape))
                case 2:
                    type_number = part.value
                case 3:
                    self.fail("a tensor in segments", "whole tensors", _DO_NOT_USE)
                case 4 | 5 | 6 | 7 | 9 | 10 | 11:
                    if part.end > part.begin:
                        data.setdefault(part.number, []).append(part)
                case 8:
                    name = self._text(part)
                case 13 if len(places) < 16:
                    key, value = self._pair(part)
                    places[str(key)] = str(value)
                case 14:
                    is_external = part.value == 1
        if type_number == _STRING:
            return _Tensor(name, tuple(shape), _STRINGS_ENCODING)
        if type_number not in TYPES:
            self.fail(f"the tensor {name[:100]!r} has the type {type_number}", "one of 1 to 28", _GET_AGAIN)
        tensor = _Tensor(name, tuple(shape), encodings.find(TYPES[type_number]), file=file_name(self.source))
        if _count(tensor) >= 2**63:
            self.fail(f"the tensor {name[:100]!r} has 2^63 elements or more", "fewer", _GET_AGAIN)
        if is_external and data:
            self.fail(f"the tensor {name[:100]!r} is stored twice", "in the file or beside it", _DO_NOT_USE)
        if is_external:
            self._place(tensor, places)
        else:
            self._store(tensor, data)
        return tensor

    def _store(self, tensor: _Tensor, data: Mapping[int, list[Field]]) -> None:
        """Takes a tensor's elements from the one field that holds them, when they are as many as its shape says."""
        elements, due = _count(tensor), _raw_bytes(tensor)
        if len(data) > 1 or (elements and not data):
            read = f"the tensor {tensor.name[:100]!r} has {elements:,} elements in {len(data)} fields"
            self.fail(read, "all in one", _GET_AGAIN)
        for number, parts in data.items():
            tensor.stored_bytes = sum(part.end - part.begin for part in parts)
            is_whole = len(parts) == 1 and parts[0].wire != VARINT
            if number == _RAW or number in (_FLOATS, _DOUBLES):
                width = due if number == _RAW else _FITTING[number].get(tensor.encoding.name, 0) * elements
                fits = tensor.stored_bytes == width and (number != _RAW or (parts[0].wire == BYTES and is_whole))
                tensor.span = (parts[0].begin, parts[0].end) if is_whole else None
            else:
                per_number = 8 // max(1, round(tensor.encoding.bits_per_weight)) or 1
                numbers = -(-elements // per_number) if tensor.encoding.bits_per_weight < 6 else elements
                fits = numbers <= tensor.stored_bytes <= 10 * numbers
                if number == _INTS:
                    fits = fits and tensor.encoding.name not in _NOT_AS_INTS
                else:
                    fits = fits and tensor.encoding.name in _FITTING.get(number, {})
            if not fits:
                read = f"the tensor {tensor.name[:100]!r} has {tensor.stored_bytes:,} bytes in field {number}"
                self.fail(read, f"its {elements:,} elements of {tensor.encoding.name}", _GET_AGAIN)

    def _place(self, tensor: _Tensor, places: Mapping[str, str]) -> None:
        """Finds the elements of a tensor in a file beside this one."""
        name = places.get("location", "").removeprefix("./")
        due = _raw_bytes(tensor)
        numbers = [places.get("offset", "0"), places.get("length", str(due))]
        if not all(text.isascii() and text.isdigit() and len(text) < 20 for text in numbers):
            self.fail(f"the tensor {tensor.name[:100]!r} lies at {numbers}"[:300], "whole numbers", _GET_AGAIN)
        begin, length = map(int, numbers)
        if name == file_name(self.source):
            self.fail(f"the tensor {tensor.name[:100]!r} lies in the file itself", "another file", _DO_NOT_USE)
        if name not in self.external:
            if len(self.external) >= MAX_EXTERNAL_FILES:
                self.fail(f"it names more than {MAX_EXTERNAL_FILES:,} files", "fewer", _DO_NOT_USE)
            self.external[name] = self.folder.open(name)
        if length != due or begin + length > self.external[name].size:
            read = f"the tensor {tensor.name[:100]!r} takes {length:,} bytes from byte {begin:,} of {name[:100]}"
            self.fail(read, f"{due:,} bytes within its {self.external[name].size:,}", _GET_AGAIN)
        tensor.file, tensor.span, tensor.stored_bytes = name, (begin, begin + length), length

    def _dimensions(self, item: Field, before: int) -> list[int]:
        found = [one.signed for one in self.fields.integers(item, MAX_RANK)]
        if before + len(found) > MAX_RANK or any(size < 0 for size in found):
            self.fail("a tensor has a shape of many or negative dimensions", f"up to {MAX_RANK} sizes", _GET_AGAIN)
        return found

    def _message(self, begin: int, end: int) -> Iterator[Field]:
        """The fields of a message, noted in the digest."""
        for item in self.fields.of(begin, end):
            self.digest.update(struct.pack("<IBQQ", item.number, item.wire, item.value, item.end - item.begin))
            yield item

    def _span(self, item: Field) -> tuple[int, int]:
        if item.wire != BYTES:
            self.fail(f"field {item.number} at byte {item.begin:,} is no message", "an ONNX model", _GET_AGAIN)
        return item.begin, item.end

    def _text(self, item: Field) -> str:
        text = self.fields.text(item)
        self.digest.update(text.encode())
        return text

    def _pair(self, item: Field) -> tuple[str, str | int]:
        """A key and a value: fields 1 and 2, the second a text or a number; other messages are left unread."""
        key, value = "", ""
        number: int | None = None
        for part in self._message(*self._span(item)):
            if part.number == 1 and part.wire == BYTES:
                key = self._text(part)
            elif part.number == 2 and part.wire == BYTES:
                value = self._text(part)
            elif part.number == 2:
                number = part.signed
        return key, value if number is None else number

    def _name(self, item: Field) -> str:
        """The name of a `ValueInfoProto`; its type is left unread."""
        names = [self._text(part) for part in self._message(*self._span(item)) if part.number == 1]
        return "".join(names[:1])

    def fail(self, read: str, expected: str, action: str) -> NoReturn:
        raise FormatError(f"{self.source.name}: {read}", expected, action)


def _count(tensor: _Tensor) -> int:
    return math.prod(tensor.shape)


def _raw_bytes(tensor: _Tensor) -> int:
    """Bytes of a tensor's elements without gaps; the last byte is filled up."""
    return -(-_count(tensor) * tensor.encoding.bytes_per_block // tensor.encoding.elements_per_block)


def _nodes(walk: _Walk) -> list[Node]:
    """All operators with their names looked up, and a view for each way into and out of graphs and functions."""
    for scope in walk.scopes:
        for name in scope.inputs:
            walk.declare(name, scope)
        for node in scope.nodes:
            for name in filter(None, node.outputs):
                walk.declare(name, scope)
    found = []
    for scope in walk.scopes:
        for node in scope.nodes:
            inputs = tuple(walk.look_up(name, scope) for name in node.inputs)
            outputs = tuple(walk.declare(name, scope) for name in node.outputs)
            called = [walk.functions[node.key]] if node.key in walk.functions else []
            if not called and node.key not in ("If", "Loop", "Scan"):
                found.append(Node(node.key, inputs, outputs, node.settings))
            for inner in (*node.graphs, *called):
                targets = (walk.look_up(name, inner) for name in inner.inputs)
                found += itertools.starmap(_view, zip(() if node.key == "If" else inputs, targets, strict=False))
                returned = itertools.islice(inner.outputs, node.key == "Loop", None)
                sources = (walk.look_up(name, inner) for name in returned)
                found += (_view(source, target) for target, source in zip(outputs, sources, strict=False))
    return found


def _view(source: int | None, target: int | None) -> Node:
    """A way into or out of a graph; it leads nowhere when one of its ends has no name."""
    return Node("Identity", (source,), () if target is None else (target,))


def _unpacked(walk: _Walk, nodes: Iterable[Node], constants: Mapping[int, Constant]) -> dict[int, tuple[int, ...]]:
    """The shapes of weights that operators of onnxruntime take packed in bytes, by the stored constant."""
    before = {
        node.outputs[0]: node.inputs[0] for node in nodes if node.op in RULES.views and node.inputs and node.outputs
    }
    found: dict[int, tuple[int, ...]] = {}
    for node in nodes:
        for place in RULES.packed.get(node.op, ()) if node.op.startswith(MICROSOFT) else ():
            value = node.inputs[place] if 0 <= place < len(node.inputs) else None
            for _ in range(8):
                value = before.get(value) if value is not None and value not in constants else value
            if value is None or value not in constants or value in found:
                continue
            try:
                shape = unpacked(node.op, place, node.settings, constants[value])
            except ValueError as error:
                read = f"{node.op} asks for {error}, and its input has {constants[value].elements:,}"
                walk.fail(read, "settings that fit what is stored", _GET_AGAIN)
            if shape is not None:
                found[value] = shape
    return found


def _specs(walk: _Walk, found: Mapping[int, Role], shapes: Mapping[int, tuple[int, ...]]) -> tuple[TensorSpec, ...]:
    """The stored tensors with a name of their own each, the main graph's first, and what the graph makes of them."""
    free = UniqueNames()
    names = {}
    for tensor in sorted(walk.tensors, key=lambda tensor: tensor.path != ""):
        names[id(tensor)] = free.take(name := tensor.name or "unnamed", tensor.path and f"{tensor.path}/{name}")
    owners: dict[tuple[str, tuple[int, int]], str] = {}
    specs = []
    role = Role.NONE
    for tensor in walk.tensors:
        role = role if tensor.is_indices else found.get(tensor.value or 0, Role.NONE)
        name = names[id(tensor)]
        spec = TensorSpec(name, tensor.shape, tensor.encoding, role=role.words, kind=role.kind, file=tensor.file,
                          byte_range=tensor.span)  # fmt: skip
        if tensor.is_indices:
            kind = Kind.QUANTIZATION if role.kind is Kind.PARAMETER else Kind.BUFFER
            spec = replace(spec, kind=kind, role="metadata")
        elif role.kind is Kind.PARAMETER and (tensor.sparse is not None or role is Role.PACKED):
            shape = tensor.sparse if tensor.sparse is not None else shapes.get(tensor.value or 0, tensor.shape)
            spec = replace(spec, stands_for=Weight(name, shape))
        if tensor.file in walk.external and tensor.span is not None and tensor.stored_bytes:
            owner = owners.setdefault((tensor.file, tensor.span), name)
            spec = replace(spec, tied_to=None if owner == name else owner)
        specs.append(spec)
    return tuple(specs)


def _files(walk: _Walk) -> tuple[StoredFile, ...]:
    """The file and those beside it. Ranges of external tensors lie apart or are the same.

    Raises:
        FormatError: when they overlap.
    """
    source = walk.source
    inside = sum(tensor.stored_bytes for tensor in walk.tensors if tensor.file not in walk.external)
    files = [StoredFile(file_name(source), source.size, source.size - inside, inside, 0)]
    spans: dict[str, set[tuple[int, int]]] = {name: set() for name in walk.external}
    for tensor in walk.tensors:
        if tensor.file in spans and tensor.span is not None and tensor.stored_bytes:
            spans[tensor.file].add(tensor.span)
    for name, file in walk.external.items():
        last = used = 0
        for begin, end in sorted(spans[name]):
            if begin < last:
                walk.fail(f"tensors overlap at byte {begin:,} of {name[:100]}", "ranges apart", _DO_NOT_USE)
            last, used = end, used + end - begin
        files.append(StoredFile(name, file.size, 0, used, file.size - used))
    return tuple(files)


def _notes(walk: _Walk) -> Iterator[str]:
    if walk.strings:
        yield f"{walk.strings:,} constants of text hold no numbers and were left out"
    if walk.training:
        yield f"{walk.training:,} training graphs were left out"
    if walk.other_numbers:
        yield f"{walk.other_numbers:,} tables in attributes of operators were left out"
    if any(tensor.sparse is not None for tensor in walk.tensors):
        yield "sparse tensors count with all elements of their shape"


def read(folder: Folder, name: str) -> Checkpoint:
    r"""The model of one ONNX file, with the files beside it that hold its tensors.

    Raises:
        FormatError: for other formats, for damage, for graphs nested too deep, for tensors whose elements are not
            where and as many as their header says, and for external data outside the file's folder.
        SourceError: when a file with external data is missing.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFolder
        >>> tensor = b"\x08\x02\x10\x01\x42\x01w\x4a\x08" + bytes(8)  # dims 2, type 1 (float), name, raw_data
        >>> graph = b"\x2a" + bytes([len(tensor)]) + tensor
        >>> model = read(MemoryFolder({"a.onnx": b"\x08\x08\x3a" + bytes([len(graph)]) + graph}), "a.onnx")
        >>> [(one.name, one.shape, one.byte_range) for one in model.tensors]
        [('w', (2,), (15, 23))]
    """
    source = folder.open(name)
    walk = _Walk(folder, source)
    main = walk.model()
    nodes = _nodes(walk)
    constants = {t.value: Constant(t.sparse or t.shape, t.encoding) for t in walk.tensors if t.value is not None}
    inputs = [value for value in map(main.names.get, main.inputs) if value is not None]
    outputs = [walk.look_up(name, main) for name in main.outputs]
    found = graph_constants.roles(nodes, constants, inputs, outputs, RULES)
    specs = _specs(walk, found, _unpacked(walk, nodes, constants))
    walk.metadata["operators"] = dict(walk.operators.most_common(SHOWN))
    return Checkpoint(
        source.name, "onnx", _files(walk), specs, metadata=walk.metadata, digest=walk.digest.hexdigest(),
        notes=tuple(_notes(walk)),
    )  # fmt: skip
