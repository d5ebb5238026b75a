"""Which weights does a CoreML program (MIL) hold, and what uses them?

A program has functions, a function has one block for each opset, a block has operations. A constant is an operation
`const` whose attribute `val` has a type and a value: numbers in place, or an offset into a blob file, where a record of
64 bytes tells type, size and place. Compressed weights are operations called `constexpr_...`, whose inputs or
attributes have such values: integers with scale and zero point, indices with a look-up table, or what is not zero with
a mask.

The rule of what counts: a float constant with a dimension is a weight, except mean and variance of `batch_norm`; a
constant without one (an epsilon, an exponent) and constants of integers, truth values and texts are settings, and are
no tensors here. What a `constexpr` unpacks counts as the weight that it becomes.

Source: apple/coremltools, `mlmodel/format/MIL.proto`, `mlmodel/src/MILBlob/Blob/StorageFormat.hpp` and
`BlobDataType.hpp`, `coremltools/converters/mil/backend/mil/load.py`, `mil/ops/defs/iOS16/constexpr_ops.py` and
`iOS18/compression.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from weighbridge.formats.protobuf import BYTES, Field, Fields
from weighbridge.model.encodings import ENCODINGS, Encoding
from weighbridge.model.tensors import Kind, TensorSpec, Weight

MAX_DEPTH = 32
"""Blocks inside operations of blocks (loops, conditions)."""
MAX_RANK = 32
Place = tuple[int, int]
Blob = Callable[[str, int, str, int], tuple[str, Place]]
"""Where the elements lie that a file and an offset name: (file, offset, encoding, bytes) -> file and [begin, end)."""
Fail = Callable[[str], Exception]

TYPES = {
    40: "fp8", 41: "fp8_e5m2", 10: "fp16", 11: "fp32", 12: "fp64", 13: "bf16", 21: "int8", 22: "int16", 23: "int32",
    24: "int64", 25: "int4", 31: "uint8", 32: "uint16", 33: "uint32", 34: "uint64", 35: "uint4", 36: "uint2",
    37: "uint1",
}  # fmt: skip
"""The encoding of each `DataType`; the texts, truth values and those of `BITS` apart."""
BITS = {38: 6, 39: 3}
"""Types that pack elements across bytes."""
_HOLDS = ("quantized_data", "data", "nonzero_data", "indices_nonzero_data", "indices", "source_val")
"""The input of a `constexpr` that has the weights, in any of its forms."""
_ROLES = {"scale": "scale", "zero_point": "zero_point", "offset": "zero_point", "lut": "codebook", "mask": "metadata",
          "data_mask": "metadata", "indices_mask": "metadata"}  # fmt: skip


@dataclass(slots=True)
class _Value:
    """A constant of a program."""

    type: int
    shape: tuple[int, ...]
    blob: tuple[str, int] | None = None
    place: Place | None = None
    """Numbers in the program itself."""
    is_packed: bool = True
    """Whether these have their own width there; integers otherwise take as many bytes as they need."""


@dataclass(slots=True)
class _Operation:
    type: str
    outputs: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    names: dict[str, list[str]] = field(default_factory=dict)
    """Inputs that are names of other operations' outputs."""
    values: dict[str, _Value] = field(default_factory=dict)
    """Inputs and attributes that are given in place."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the programs of one file. `blob` finds what lies in blob files, `fail` makes the error of what is wrong."""

    fields: Fields
    file: str
    blob: Blob
    fail: Fail

    def program(self, place: Place) -> Iterator[TensorSpec]:
        """The tensors of a `Program`; where it has several functions, each name begins with its function's."""
        functions = list(self._map(place, 2))
        for name, function in functions:
            prefix = f"{name}." if len(functions) > 1 else ""
            opset = next((self.fields.text(f) for f in self._parts(function) if f.number == 2), "")
            blocks = dict(self._map((function.begin, function.end), 3))
            if opset not in blocks:
                raise self.fail(f"the function {name[:100]!r} has no block for its opset {opset[:100]!r}")
            operations = list(self._operations(blocks[opset], 0))
            yield from self._tensors(operations, prefix)

    def _tensors(self, operations: list[_Operation], prefix: str) -> Iterator[TensorSpec]:
        statistics = {
            name for operation in operations if operation.type == "batch_norm" for key in ("mean", "variance")
            for name in operation.names.get(key, [])
        }  # fmt: skip
        unpacked = _unpacked_shapes(operations)
        for operation in operations:
            name, shape = operation.outputs[0] if operation.outputs else ("", ())
            if operation.type == "const" and "val" in operation.values:
                value = operation.values["val"]
                if value.shape and _is_float(value.type):
                    kind = Kind.BUFFER if name in statistics else Kind.PARAMETER
                    yield self._tensor(prefix + name, value, kind)
            elif operation.type.startswith("constexpr_"):
                held = next((key for key in _HOLDS if key in operation.values), None)
                for key, value in operation.values.items():
                    if key == held:
                        weight = Weight(prefix + name, unpacked.get(name, shape))
                        yield self._tensor(prefix + name, value, Kind.PARAMETER, "", weight)
                    elif key in _ROLES:
                        yield self._tensor(f"{prefix}{name}.{key}", value, Kind.QUANTIZATION, _ROLES[key])
            else:
                for key, value in operation.values.items():
                    if value.shape and _is_float(value.type):
                        is_statistic = operation.type == "batch_norm" and key in ("mean", "variance")
                        kind = Kind.BUFFER if is_statistic else Kind.PARAMETER
                        yield self._tensor(f"{prefix}{name}.{key}", value, kind)

    def _tensor(
        self, name: str, value: _Value, kind: Kind, role: str = "", stands_for: Weight | None = None
    ) -> TensorSpec:
        encoding, shape, size = self._layout(name, value)
        file, place = self.file, value.place
        if value.blob is not None:
            file, place = self.blob(*value.blob, TYPES.get(value.type, f"uint{BITS.get(value.type, 0)}"), size)
        else:
            held = 0 if place is None else place[1] - place[0]
            if not value.is_packed and math.prod(shape) <= held:
                place = None
            elif held != size:
                raise self.fail(f"{name[:200]!r} with {held:,} bytes in place, where its type and shape need {size:,}")
        if stands_for is not None and encoding.is_float and stands_for.shape == shape:
            stands_for = None
        return TensorSpec(name, shape, encoding, role, kind=kind, file=file, byte_range=place, stands_for=stands_for)

    def _layout(self, name: str, value: _Value) -> tuple[Encoding, tuple[int, ...], int]:
        """Encoding, shape and bytes as stored."""
        if value.type in BITS:
            size = -(-math.prod(value.shape) * BITS[value.type] // 8)
            return ENCODINGS["uint8"], (size,), size
        if value.type not in TYPES:
            raise self.fail(f"{name[:200]!r} has the data type {value.type}")
        encoding = ENCODINGS[TYPES[value.type]]
        return encoding, value.shape, encoding.size_bytes(value.shape)

    def _operations(self, block: Field, depth: int) -> Iterator[_Operation]:
        """The operations of a block and of the blocks inside them."""
        if depth > MAX_DEPTH:
            raise self.fail(f"blocks inside each other, more than {MAX_DEPTH} deep")
        for part in self._parts(block):
            if part.number != 3:
                continue
            found = _Operation("")
            blocks = []
            for inner in self._parts(part):
                if inner.number == 1:
                    found.type = self.fields.text(inner)
                elif inner.number == 2:
                    self._argument(found, inner)
                elif inner.number == 3:
                    found.outputs.append(self._output(inner))
                elif inner.number == 4:
                    blocks.append(inner)
                elif inner.number == 5:
                    key, value = self._entry(inner)
                    if value is not None and (told := self._value(value)) is not None:
                        found.values[key] = told
            yield found
            for inner in blocks:
                yield from self._operations(inner, depth + 1)

    def _argument(self, operation: _Operation, entry: Field) -> None:
        key, argument = self._entry(entry)
        for binding in () if argument is None else self._parts(argument):
            for part in self._parts(binding) if binding.number == 1 else ():
                if part.number == 1:
                    operation.names.setdefault(key, []).append(self.fields.text(part))
                elif part.number == 2 and (value := self._value(part)) is not None:
                    operation.values[key] = value

    def _output(self, part: Field) -> tuple[str, tuple[int, ...]]:
        name = ""
        shape: tuple[int, ...] = ()
        for inner in self._parts(part):
            if inner.number == 1:
                name = self.fields.text(inner)
            elif inner.number == 2 and (told := self._type(inner)) is not None:
                shape = told[1]
        return name, shape

    def _type(self, part: Field) -> tuple[int, tuple[int, ...]] | None:
        """Data type and shape of a `ValueType`; None for lists and the like, and sizes that are not known."""
        for tensor in self._parts(part):
            if tensor.number == 1:
                number, shape = 0, []
                for inner in self.fields.of(tensor.begin, tensor.end):
                    if inner.number == 1:
                        number = inner.value
                    elif inner.number == 3 and inner.wire == BYTES:
                        constant = [f for f in self._parts(inner) if f.number == 1]
                        sizes = [f.value for c in constant for f in self.fields.of(c.begin, c.end) if f.number == 1]
                        shape.append(sizes[0] if sizes else 0 if constant else -1)
                if len(shape) > MAX_RANK:
                    raise self.fail(f"a shape of {len(shape):,} dimensions")
                return None if -1 in shape else (number, tuple(shape))
        return None

    def _value(self, part: Field) -> _Value | None:
        """A `Value` that is a tensor."""
        told, found = None, _Value(0, ())
        for inner in self._parts(part):
            if inner.number == 2:
                told = self._type(inner)
            elif inner.number == 3:
                for tensor in (f for f in self._parts(inner) if f.number == 1):
                    self._numbers(tensor, found)
            elif inner.number == 5:
                file, offset = "", 0
                for f in self.fields.of(inner.begin, inner.end):
                    if f.number == 1:
                        file = self.fields.text(f)
                    elif f.number == 2:
                        offset = f.value
                found.blob = (file, offset)
        if told is None:
            return None
        found.type, found.shape = told
        return found

    def _numbers(self, tensor: Field, value: _Value) -> None:
        """Finds the numbers of a `TensorValue`: packed floats, doubles or bytes, or integers without a fixed width."""
        for kind in self._parts(tensor):
            stretches = self._parts(kind)
            if len(stretches) == 1:
                value.place = stretches[0].begin, stretches[0].end
                value.is_packed = kind.number in (1, 6, 7)

    def _map(self, place: Place, number: int) -> Iterator[tuple[str, Field]]:
        for part in self.fields.of(*place):
            if part.number == number and part.wire == BYTES:
                key, value = self._entry(part)
                if value is not None:
                    yield key, value

    def _entry(self, entry: Field) -> tuple[str, Field | None]:
        key, value = "", None
        for part in self._parts(entry):
            if part.number == 1:
                key = self.fields.text(part)
            elif part.number == 2:
                value = part
        return key, value

    def _parts(self, part: Field) -> list[Field]:
        return [inner for inner in self.fields.of(part.begin, part.end) if inner.wire == BYTES]


def _is_float(number: int) -> bool:
    return number in TYPES and ENCODINGS[TYPES[number]].is_float


def _unpacked_shapes(operations: list[_Operation]) -> dict[str, tuple[int, ...]]:
    """What each `constexpr` finally becomes, by the name of its first output: some unpack what others made sparse."""
    shapes: dict[str, tuple[int, ...]] = {}
    maker = {name: op.outputs[0][0] for op in operations if op.type.startswith("constexpr_") for name, _ in op.outputs}
    for operation in reversed(operations):
        if not operation.type.startswith("constexpr_") or not operation.outputs:
            continue
        own, shape = operation.outputs[0]
        final = shapes.setdefault(own, shape)
        for key in _HOLDS:
            for name in operation.names.get(key, []):
                if name in maker:
                    shapes[maker[name]] = final
    return shapes
