"""What does an OpenVINO model (.xml with a .bin of the same name) hold? The constants of its graph.

The XML lists layers, with their attributes and ports, and edges between ports; the bodies of branches and loops are
lists of their own inside of a layer. A `Const` layer gives a range of the .bin (`offset`, `size`), a type and a shape.
Constants of the same content are written once, so that two of one range are common: the second is tied.

What a constant is, is told from the graph by the rules of `graph_constants`: compressed weights (`Const` of 8 bits or
fewer, `Convert`, `Subtract`, `Multiply`) stand for the matrix that they unpack to. All of the .xml is header; bytes of
the .bin that no constant of numbers owns are padding. `Checkpoint.metadata` holds the version of the IR and how often
each operation occurs. The digest is the SHA-256 of the .xml.

Sources: OpenVINO 2026.4: the documentation of IR v10 and v11 and of the operation sets 1 to 16, and files of its
`save_model`.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn
from xml.parsers import expat

from weighbridge.errors import FormatError
from weighbridge.formats import graph_constants
from weighbridge.formats.byte_source import ByteSource, Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.graph_constants import EVERY, Constant, Node, Role, Rules, places
from weighbridge.formats.unique_names import UniqueNames
from weighbridge.model import encodings
from weighbridge.model.tensors import TensorSpec, Weight

MAX_XML_BYTES = 256 * 2**20
MAX_ELEMENTS = 5_000_000
MAX_DEPTH = 100
MAX_RANK = 64
PIECE_BYTES = 2**20
SHOWN = 200
"""Operations in the metadata."""

TYPES = {
    "boolean": "bool", "bf16": "bf16", "f16": "fp16", "f32": "fp32", "f64": "fp64", "i4": "int4", "i8": "int8",
    "i16": "int16", "i32": "int32", "i64": "int64", "u1": "uint1", "u2": "uint2", "u4": "uint4", "u8": "uint8",
    "u16": "uint16", "u32": "uint32", "u64": "uint64", "nf4": "uint4", "f4e2m1": "fp4", "f8e4m3": "fp8",
    "f8e5m2": "fp8_e5m2", "f8e8m0": "fp8_e8m0",
}  # fmt: skip
"""Element types and our names; the codes of nf4 are numbers of 4 bits. Texts (`string`) are left out."""

_COMPARISONS = (
    "Equal", "NotEqual", "Greater", "GreaterEqual", "Less", "LessEqual", "Maximum", "Minimum", "Range", "MVN", "OneHot",
)  # fmt: skip
RULES = Rules(
    weights={
        "MatMul": places(0, 1), "Einsum": EVERY, "Convolution": places(1), "GroupConvolution": places(1),
        "ConvolutionBackpropData": places(1), "GroupConvolutionBackpropData": places(1), "PRelu": places(1),
        "LSTMSequence": places(4, 5, 6), "GRUSequence": places(3, 4, 5), "RNNSequence": places(3, 4, 5),
        "LSTMCell": places(3, 4, 5), "GRUCell": places(2, 3, 4), "RNNCell": places(2, 3, 4),
        "GroupNormalization": places(1, 2),
    },
    scales={"FakeQuantize": places(1, 2, 3, 4), "FakeConvert": places(1)},
    zero_points={"FakeConvert": places(2)},
    statistics={"BatchNormInference": places(3, 4)},
    transforms={"STFT": places(1)},
    settings={
        "Power": places(1), "Pad": places(1, 2, 3), "Interpolate": places(1, 2, 3), "NormalizeL2": places(1),
        "NonMaxSuppression": places(2, 3, 4, 5),
    } | dict.fromkeys(_COMPARISONS, EVERY),
    views=frozenset({
        "Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "StridedSlice", "Slice", "Split", "VariadicSplit",
        "Broadcast", "Tile", "FakeQuantize", "FakeConvert",
    }),
    joins=frozenset({"Concat"}),
    casts=frozenset({"Convert", "ConvertLike"}),
    look_ups=frozenset({"Gather"}),
    linear=frozenset({"MatMul", "Convolution"}),
    convolutions=frozenset({"Convolution"}),
    signs_and_pads=frozenset({"Negative", "Pad"}),
    add="Add", subtract="Subtract", multiply="Multiply", power="Power",
    sums=frozenset({"ReduceSum"}), sums_of_squares=frozenset({"ReduceL2"}),
)  # fmt: skip

_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
_DO_NOT_USE = "do not use this file: OpenVINO never writes such a one"
_BODIES = ("net", "body", "then_body", "else_body")


@dataclass(slots=True)
class _Layer:
    """One layer as the XML has it."""

    id: str
    name: str
    type: str
    data: Mapping[str, str] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    bodies: dict[str, _Body] = field(default_factory=dict)
    maps: list[tuple[str, str, str, str]] = field(default_factory=list)
    """For each port of a body: the map's name, `input` or `output`, the port outside and the layer inside."""


@dataclass(slots=True)
class _Body:
    """The main graph, or that of a branch or loop."""

    path: str
    layers: dict[str, _Layer] = field(default_factory=dict)
    edges: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    values: dict[tuple[str, str], int] = field(default_factory=dict)


class _Document:
    """The XML, as a parser reports it."""

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self.bodies: list[_Body] = []
        self.version = ""
        self._path: list[str] = []
        self._open: list[_Body] = []
        self._layers: list[_Layer] = []
        self._elements = self._aside = 0
        self._parser = expat.ParserCreate("utf-8")
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.StartDoctypeDeclHandler = self._refuse
        self._parser.EntityDeclHandler = self._refuse

    def read(self) -> str:
        """Parses the file and returns its SHA-256.

        Raises:
            FormatError: for what is no XML, declares entities, nests too deep or is no OpenVINO model.
        """
        if self.source.size > MAX_XML_BYTES:
            self.fail(f"it has {self.source.size:,} bytes", f"up to {MAX_XML_BYTES:,}", _DO_NOT_USE)
        digest = hashlib.sha256()
        try:
            for at in range(0, self.source.size, PIECE_BYTES):
                piece = self.source.read(at, min(PIECE_BYTES, self.source.size - at))
                digest.update(piece)
                self._parser.Parse(piece, False)
            self._parser.Parse(b"", True)
        except expat.ExpatError as error:
            self.fail(f"it is no XML ({error})", "the XML of an OpenVINO model", _GET_AGAIN)
        if self.version not in ("10", "11"):
            read = f"it is an IR of version {self.version[:20]!r}" if self.bodies else "it has no element <net>"
            self.fail(read, "an OpenVINO model, IR version 10 or 11", "convert the model again with a current OpenVINO")
        return digest.hexdigest()

    def _refuse(self, *_: object) -> NoReturn:
        self.fail("it declares a document type or entities", "none", _DO_NOT_USE)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._elements += 1
        if self._elements > MAX_ELEMENTS or len(self._path) >= MAX_DEPTH:
            read = f"it has more than {MAX_ELEMENTS:,} elements, or nests more than {MAX_DEPTH} deep"
            self.fail(read, "fewer", _DO_NOT_USE)
        parent = self._path[-1] if self._path else ""
        self._path.append(tag)
        if self._aside or tag in ("rt_info", "meta_data"):
            self._aside += 1
            return
        layer = self._layers[-1] if self._layers else None
        if tag in _BODIES and parent == ("layer" if layer else ""):
            self._enter(tag, attributes, layer)
        elif tag == "layer" and parent == "layers" and self._open:
            self._layer(attributes)
        elif layer is None:
            if tag == "edge" and self._open:
                self._edge(attributes)
        elif tag == "data" and parent == "layer":
            layer.data = attributes
        elif tag == "port" and parent in ("input", "output"):
            (layer.inputs if parent == "input" else layer.outputs).append(attributes.get("id", ""))
        elif tag in ("input", "output") and parent.endswith("port_map"):
            ends = attributes.get("external_port_id", ""), attributes.get("internal_layer_id", "")
            layer.maps.append((parent, tag, *ends))
        elif tag == "edge":
            self._edge(attributes)

    def _end(self, tag: str) -> None:
        self._path.pop()
        if self._aside:
            self._aside -= 1
        elif tag in _BODIES and self._open and (not self._path or self._path[-1] == "layer"):
            self._open.pop()
        elif tag == "layer" and self._path and self._path[-1] == "layers" and self._layers:
            self._layers.pop()

    def _enter(self, tag: str, attributes: Mapping[str, str], layer: _Layer | None) -> None:
        """Begins the main graph, or a body of the layer that is open."""
        if layer is None:
            self.version = attributes.get("version", "")
            path = ""
        else:
            path = "/".join(filter(None, (self._open[-1].path, layer.name, tag)))[:1000]
        body = _Body(path)
        if layer is not None:
            layer.bodies[tag] = body
        self.bodies.append(body)
        self._open.append(body)

    def _layer(self, attributes: Mapping[str, str]) -> None:
        layer = _Layer(attributes.get("id", ""), attributes.get("name", ""), attributes.get("type", ""))
        layers = self._open[-1].layers
        if layer.id in layers:
            self.fail(f"two layers have the id {layer.id[:100]!r}", "each its own", _DO_NOT_USE)
        layers[layer.id] = layer
        self._layers.append(layer)

    def _edge(self, attributes: Mapping[str, str]) -> None:
        ends = [attributes.get(key, "") for key in ("to-layer", "to-port", "from-layer", "from-port")]
        self._open[-1].edges[ends[0], ends[1]] = (ends[2], ends[3])

    def fail(self, read: str, expected: str, action: str) -> NoReturn:
        raise FormatError(f"{self.source.name}: {read}", expected, action)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A constant of numbers, where it lies and what it is called."""

    name: str
    path: str
    value: int
    constant: Constant
    span: tuple[int, int]


def _graph(document: _Document) -> tuple[list[Node], list[int | None]]:
    """The operations with their values numbered, and the values that graphs return."""
    count = 0
    for body in document.bodies:
        for layer in body.layers.values():
            for port in layer.outputs:
                count += 1
                body.values[layer.id, port] = count
    nodes: list[Node] = []
    results: list[int | None] = []
    for body in document.bodies:
        for layer in body.layers.values():
            inputs = tuple(_value(body, (layer.id, port)) for port in layer.inputs)
            outputs = tuple(body.values[layer.id, port] for port in layer.outputs)
            if layer.type == "Result":
                results += inputs
            elif layer.type not in ("Const", "Parameter") and not layer.bodies:
                nodes.append(Node(layer.type, inputs, outputs))
            nodes += _ways(body, layer)
    return nodes, results


def _value(body: _Body, port: tuple[str, str]) -> int | None:
    """The value that comes in at a port."""
    return body.values.get(body.edges.get(port, ("", "")))


def _ways(body: _Body, layer: _Layer) -> Iterator[Node]:
    """Views for the ways into the bodies of a layer and out of them."""
    for name, direction, port, inner_id in layer.maps:
        inner = layer.bodies.get(name.removesuffix("port_map") + "body")
        other = None if inner is None else inner.layers.get(inner_id)
        if inner is None or other is None:
            continue
        ports = other.outputs if direction == "input" else other.inputs
        if direction == "input":
            ends = (_value(body, (layer.id, port)), inner.values.get((inner_id, "".join(ports[:1]))))
        else:
            ends = (_value(inner, (inner_id, "".join(ports[:1]))), body.values.get((layer.id, port)))
        if ends[0] is not None and ends[1] is not None:
            yield Node("Identity", (ends[0],), (ends[1],))


def _constants(document: _Document) -> Iterator[_Stored]:
    """The constants of numbers, their sizes held against their shapes."""
    for body in document.bodies:
        for layer in body.layers.values():
            if layer.type != "Const" or layer.data.get("element_type") == "string":
                continue
            named = f"the constant {layer.name[:100]!r}"
            kind = layer.data.get("element_type", "")
            if kind not in TYPES:
                document.fail(f"{named} has the type {kind[:50]!r}", f"one of {', '.join(TYPES)}", _GET_AGAIN)
            sizes = (
                [text.strip() for text in layer.data.get("shape", "").split(",", MAX_RANK)]
                if layer.data.get("shape", "").strip()
                else []
            )
            begin, size = _number(layer.data.get("offset", "")), _number(layer.data.get("size", ""))
            shape = [_number(text) for text in sizes]
            if begin is None or size is None or None in shape or len(shape) > MAX_RANK or not layer.outputs:
                document.fail(f"{named} has no range, shape or port", "whole numbers", _GET_AGAIN)
            whole = tuple(length for length in shape if length is not None)
            encoding = encodings.find(TYPES[kind])
            due = -(-math.prod(whole) * encoding.bytes_per_block // encoding.elements_per_block)
            if math.prod(whole) >= 2**63:
                document.fail(f"{named} has 2^63 elements or more", "fewer", _GET_AGAIN)
            if size != due:
                document.fail(f"{named} takes {size:,} bytes", f"{due:,} for its shape and type", _GET_AGAIN)
            value = body.values[layer.id, layer.outputs[0]]
            yield _Stored(layer.name, body.path, value, Constant(whole, encoding), (begin, begin + size))


def _number(text: str) -> int | None:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None


def _specs(stored: list[_Stored], found: Mapping[int, Role], weights: str) -> tuple[TensorSpec, ...]:
    """The constants with a name of their own each; all but the first of one range are tied."""
    free = UniqueNames()
    owners: dict[tuple[int, int], str] = {}
    specs = []
    for one in stored:
        name = free.take(one.name or "unnamed", one.path and f"{one.path}/{one.name}")
        role = found[one.value]
        owner = owners.setdefault(one.span, name) if one.span[0] < one.span[1] else name
        spec = TensorSpec(name, one.constant.shape, one.constant.encoding, role=role.words, kind=role.kind,
                          file=weights, byte_range=one.span, tied_to=None if owner == name else owner)  # fmt: skip
        if role is Role.PACKED:
            spec = replace(spec, stands_for=Weight(name, one.constant.shape))
        specs.append(spec)
    return tuple(specs)


def _account(document: _Document, weights: ByteSource | None, stored: list[_Stored]) -> tuple[StoredFile, ...]:
    """The .xml, all of it header, and the .bin.

    Raises:
        FormatError: for ranges outside the .bin, and for those that overlap without being the same.
    """
    size = document.source.size
    files = [StoredFile(file_name(document.source), size, size, 0, 0)]
    if weights is None:
        return tuple(files)
    last = used = 0
    for begin, end in sorted({one.span for one in stored if one.span[0] < one.span[1]}):
        if begin < last or end > weights.size:
            read = f"a constant takes bytes {begin:,} to {end:,} of {file_name(weights)}"
            document.fail(read, f"ranges apart within its {weights.size:,} bytes", _GET_AGAIN)
        last, used = end, used + end - begin
    files.append(StoredFile(file_name(weights), weights.size, 0, used, weights.size - used))
    return tuple(files)


def read(folder: Folder, name: str) -> Checkpoint:
    """The model of an .xml or .bin file, with its other half in the same folder.

    Raises:
        FormatError: for what is no OpenVINO model, for damage, and for an XML with a document type.
        SourceError: when the other half is missing.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFolder
        >>> xml = b'''<net version="11"><layers><layer id="0" name="w" type="Const"><data element_type="f16"
        ... shape="2, 3" offset="0" size="12"/><output><port id="0"/></output></layer></layers><edges/></net>'''
        >>> model = read(MemoryFolder({"a.xml": xml, "a.bin": bytes(12)}), "a.xml")
        >>> [(one.name, one.shape, one.byte_range) for one in model.tensors]
        [('w', (2, 3), (0, 12))]
    """
    stem = name.rpartition(".")[0]
    document = _Document(folder.open(f"{stem}.xml"))
    digest = document.read()
    nodes, results = _graph(document)
    stored = list(_constants(document))
    found = graph_constants.roles(
        nodes, {one.value: one.constant for one in stored}, _given(document.bodies[0]), results, RULES
    )
    is_empty = not any(one.span[0] < one.span[1] for one in stored)
    weights = None if is_empty and f"{stem}.bin" not in folder.names() else folder.open(f"{stem}.bin")
    operations = Counter(layer.type for body in document.bodies for layer in body.layers.values())
    metadata: dict[str, Any] = {"ir_version": int(document.version), "operators": dict(operations.most_common(SHOWN))}
    texts = sum(
        layer.data.get("element_type") == "string" for body in document.bodies for layer in body.layers.values()
    )
    notes = (f"{texts:,} constants of text hold no numbers and were left out",) if texts else ()
    return Checkpoint(
        document.source.name, "openvino", _account(document, weights, stored),
        _specs(stored, found, f"{stem}.bin"), metadata=metadata, digest=digest, notes=notes,
    )  # fmt: skip


def _given(body: _Body) -> list[int]:
    """The values that the main graph is given."""
    layers = [layer for layer in body.layers.values() if layer.type == "Parameter"]
    return [body.values[layer.id, port] for layer in layers for port in layer.outputs]
