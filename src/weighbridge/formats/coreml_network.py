"""Which weights do the layers of a CoreML neural network hold?

Every layer type has its own message, whose weights are `WeightParams` at known field numbers: floats (1), half floats
(2), integers packed into bytes (30), int8 (31), and for integers how they were made (40): bits (1) and either scale and
bias (101) or a look-up table (102). The shape of a weight follows from other fields of its layer; where it is not told
here, the weight is shown flat, and integers narrower than a byte count up to a full last byte.

Source: apple/coremltools, `mlmodel/format/NeuralNetwork.proto`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from weighbridge.formats.protobuf import BYTES, FIXED32, Field, Fields
from weighbridge.model.encodings import ENCODINGS
from weighbridge.model.tensors import Kind, TensorSpec, Weight

MAX_DEPTH = 16
"""Networks inside branches and loops of networks."""
Fail = Callable[[str], Exception]
Place = tuple[int, int]

_STATISTICS = ("mean", "variance")
_LSTM = {
    1: "input_gate_weight", 2: "forget_gate_weight", 3: "block_input_weight", 4: "output_gate_weight",
    20: "input_gate_recursion", 21: "forget_gate_recursion", 22: "block_input_recursion",
    23: "output_gate_recursion", 40: "input_gate_bias", 41: "forget_gate_bias", 42: "block_input_bias",
    43: "output_gate_bias", 60: "input_gate_peephole", 61: "forget_gate_peephole", 62: "output_gate_peephole",
}  # fmt: skip
_WEIGHTS_AND_BIAS = {20: "weights", 21: "bias"}
_LAYERS: dict[int, dict[int, str]] = {
    100: {90: "weights", 91: "bias"}, 1471: {60: "weights", 61: "bias"}, 140: _WEIGHTS_AND_BIAS,
    150: _WEIGHTS_AND_BIAS, 1040: _WEIGHTS_AND_BIAS, 160: {15: "gamma", 16: "beta", 17: "mean", 18: "variance"},
    245: {2: "scale", 5: "bias"}, 250: {2: "bias"}, 290: {2: "data"}, 1070: {2: "data"},
    400: {30: "weight", 31: "recursion", 32: "bias"},
    410: {30: "update_gate_weight", 31: "reset_gate_weight", 32: "output_gate_weight", 50: "update_gate_recursion",
          51: "reset_gate_recursion", 52: "output_gate_recursion", 70: "update_gate_bias", 71: "reset_gate_bias",
          72: "output_gate_bias"},
    500: {20: "weights"}, 1045: {8: "weights", 9: "bias"}, 1350: {3: "gamma", 4: "beta"},
}  # fmt: skip
"""The fields with weights of each layer type, both by field number."""
_SIZES: dict[int, tuple[int, ...]] = {100: (1, 2, 10, 20, 60), 140: (1, 2), 150: (1, 2), 1040: (1, 2), 160: (1,)}
"""The fields that the shape of a layer type's weights follows from."""
_INSIDE: dict[int, dict[int, dict[int, str]]] = {
    130: {25: {1: "alpha"}, 71: {1: "alpha", 2: "beta"}}, 420: {20: _LSTM}, 430: {20: _LSTM},
}  # fmt: skip
"""Layer types whose weights lie one message deeper."""
_NETWORKS: dict[int, tuple[int, ...]] = {605: (1, 2), 615: (3, 4)}
"""Layer types with whole networks inside: branch and loop."""


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads the networks of one file. `fail` makes the error for what is wrong."""

    fields: Fields
    file: str
    fail: Fail

    def network(self, place: Place, prefix: str = "", depth: int = 0) -> Iterator[TensorSpec]:
        """The tensors of a `NeuralNetwork` at [begin, end) of the file, in the order of its layers."""
        if depth > MAX_DEPTH:
            raise self.fail(f"networks inside each other, more than {MAX_DEPTH} deep")
        number = 0
        for field in self.fields.of(*place):
            if field.number == 1 and field.wire == BYTES:
                yield from self._layer(field, prefix, number, depth)
                number += 1

    def _layer(self, layer: Field, prefix: str, number: int, depth: int) -> Iterator[TensorSpec]:
        parts = [field for field in self.fields.of(layer.begin, layer.end) if field.wire == BYTES]
        name = prefix + next((self.fields.text(field) for field in parts if field.number == 1), f"layer_{number}")
        for part in parts:
            if part.number in _LAYERS:
                yield from self._weights(part, name, _LAYERS[part.number], part.number)
            elif part.number in _NETWORKS:
                for inner in self.fields.of(part.begin, part.end):
                    if inner.number in _NETWORKS[part.number] and inner.wire == BYTES:
                        below = f"{name}.{inner.number}."
                        yield from self.network((inner.begin, inner.end), below, depth + 1)
            elif part.number in _INSIDE:
                inside = [f for f in self.fields.of(part.begin, part.end) if f.number in _INSIDE[part.number]]
                for count, inner in enumerate(field for field in inside if field.wire == BYTES):
                    below = name if len(inside) == 1 else f"{name}.{count}"
                    yield from self._weights(inner, below, _INSIDE[part.number][inner.number], 0)

    def _weights(self, layer: Field, name: str, known: Mapping[int, str], kind: int) -> Iterator[TensorSpec]:
        settings: dict[int, list[int]] = {}
        weights: list[tuple[str, Field]] = []
        seen: Counter[int] = Counter()
        for field in self.fields.of(layer.begin, layer.end):
            if field.number in known and field.wire == BYTES:
                count = seen[field.number]
                weights.append((known[field.number] + f"_{count}" * (count > 0), field))
                seen[field.number] += 1
            elif field.number in _SIZES.get(kind, ()):
                settings.setdefault(field.number, []).extend(f.value for f in self.fields.integers(field, 64))
        for told, field in weights:
            shape = _shape(kind, told, settings)
            yield from self._params(field, f"{name}.{told}", shape, told in _STATISTICS and kind == 160)

    def _params(
        self, params: Field, name: str, shape: tuple[int, ...] | None, is_statistic: bool
    ) -> Iterator[TensorSpec]:
        """One `WeightParams`, and what its integers need beside them."""
        held = list(self.fields.of(params.begin, params.end))
        tables = [field for field in held if field.number == 40 and field.wire == BYTES]
        bits = 8
        extra: list[TensorSpec] = []
        for table in tables:
            for field in self.fields.of(table.begin, table.end):
                if field.number == 1:
                    bits = field.value
                elif field.number in (101, 102) and field.wire == BYTES:
                    roles = {1: "scale", 2: "zero_point"} if field.number == 101 else {1: "codebook"}
                    inner = list(self.fields.of(field.begin, field.end))
                    for number, role in roles.items():
                        extra += self._floats([f for f in inner if f.number == number], f"{name}.{role}", role)
        yield from self._floats([field for field in held if field.number == 1], name, "", shape, is_statistic)
        for field in held:
            if field.number in (2, 30, 31) and field.wire == BYTES and field.end > field.begin:
                yield self._packed(field, name, bits if field.number == 30 else 8, shape, is_statistic)
        yield from extra

    def _packed(
        self, field: Field, name: str, bits: int, shape: tuple[int, ...] | None, is_statistic: bool
    ) -> TensorSpec:
        """Half floats, or integers of so many bits, which fill their bytes up to the last."""
        size, place = field.end - field.begin, (field.begin, field.end)
        if field.number == 2:
            if size % 2:
                raise self.fail(f"{name[:200]!r} has {size:,} bytes of half floats")
            kind = Kind.BUFFER if is_statistic else Kind.PARAMETER
            flat = (size // 2,)
            told = shape if shape is not None and math.prod(shape) == flat[0] else flat
            return TensorSpec(name, told, ENCODINGS["fp16"], kind=kind, file=self.file, byte_range=place)
        if not 1 <= bits <= 8:
            raise self.fail(f"{name[:200]!r} has integers of {bits:,} bits")
        count = size * 8 // bits
        fits = shape is not None and -(-math.prod(shape) * bits // 8) == size
        told = shape if shape is not None and fits else (count,)
        encoding = ENCODINGS[{1: "uint1", 2: "uint2", 4: "uint4"}.get(bits, "uint8")]
        if field.number == 31:
            encoding = ENCODINGS["int8"]
        stored = told if encoding.size_bytes(told) == size else (size,)
        if is_statistic:
            return TensorSpec(name, stored, encoding, kind=Kind.BUFFER, file=self.file, byte_range=place)
        return TensorSpec(name, stored, encoding, file=self.file, byte_range=place, stands_for=Weight(name, told))

    def _floats(
        self, fields: list[Field], name: str, role: str, shape: tuple[int, ...] | None = None,
        is_statistic: bool = False,
    ) -> Iterator[TensorSpec]:  # fmt: skip
        """A repeated float: one packed stretch, or one field for each number."""
        size = sum(field.end - field.begin for field in fields if field.wire in (BYTES, FIXED32))
        if not size:
            return
        if size % 4:
            raise self.fail(f"{name[:200]!r} has {size:,} bytes of floats")
        flat = (size // 4,)
        kind = Kind.QUANTIZATION if role else Kind.BUFFER if is_statistic else Kind.PARAMETER
        told = shape if shape is not None and math.prod(shape) == flat[0] else flat
        place = (fields[0].begin, fields[0].end) if len(fields) == 1 and fields[0].wire == BYTES else None
        yield TensorSpec(name, told, ENCODINGS["fp32"], role, kind=kind, file=self.file, byte_range=place)


def _shape(kind: int, told: str, settings: Mapping[int, list[int]]) -> tuple[int, ...] | None:
    """The shape of a layer's weights by its other fields; None for layer types where it is left flat."""

    def one(number: int, default: int = 1) -> int:
        return settings.get(number, [default])[0]

    if kind in _SIZES and told != "weights":
        return (one(1 if kind in (100, 160) else 2),)
    if kind == 100:
        kernel = settings.get(20) or [3, 3]
        if one(60, 0):
            return (one(2), one(1) // max(1, one(10)), *kernel)
        return (one(1), one(2), *kernel)
    if kind in (140, 150, 1040):
        return (one(2), one(1))
    return None
