"""Which inputs of ONNX operators are weights, packed weights, scales or settings? Tables for `graph_constants`.

Operators of the standard are named as they are, others with their domain in front. A weight of more than one element
needs no row here: `weights` also holds what may be a single number. Sources: the operator schemas of onnx 1.23 (all of
the `ai.onnx` domain) and `docs/ContribOperators.md` of microsoft/onnxruntime, read on 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge.formats.graph_constants import EVERY, Constant, Inputs, Rules, places

MICROSOFT = "com.microsoft."


def _both(table: dict[str, frozenset[int]]) -> Inputs:
    """A table with the operators that onnxruntime has under the same name in its own domain."""
    return table | {MICROSOFT + name: table[name] for name in ("DequantizeLinear", "QuantizeLinear") if name in table}


_QUANTIZED_UNARY = ("LeakyRelu", "Sigmoid", "Softmax", "AveragePool", "GlobalAveragePool", "ReduceMean")
_COMPARISONS = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Range")

RULES = Rules(
    weights={
        "MatMul": places(0, 1), "Gemm": places(0, 1, 2), "Einsum": EVERY,
        "Conv": places(1, 2), "ConvTranspose": places(1, 2), "DeformConv": places(1, 3),
        "LSTM": places(1, 2, 3, 7), "GRU": places(1, 2, 3), "RNN": places(1, 2, 3),
        "BatchNormalization": places(1, 2), "InstanceNormalization": places(1, 2), "LayerNormalization": places(1, 2),
        "GroupNormalization": places(1, 2), "RMSNormalization": places(1), "PRelu": places(1),
        MICROSOFT + "FusedMatMul": places(0, 1), MICROSOFT + "FusedGemm": places(0, 1, 2),
        MICROSOFT + "FusedConv": places(1, 2), MICROSOFT + "MatMulNBits": places(5),
        MICROSOFT + "DynamicQuantizeMatMul": places(4), MICROSOFT + "MatMulIntegerToFloat": places(6),
    },
    packed=_both({
        "DequantizeLinear": places(0), "MatMulInteger": places(0, 1), "ConvInteger": places(1),
        "QLinearMatMul": places(0, 3), "QLinearConv": places(3, 8),
        MICROSOFT + "QGemm": places(3, 6), MICROSOFT + "QAttention": places(1),
        MICROSOFT + "QLinearAdd": places(0, 3), MICROSOFT + "QLinearMul": places(0, 3),
        MICROSOFT + "DynamicQuantizeMatMul": places(1), MICROSOFT + "MatMulIntegerToFloat": places(1),
        MICROSOFT + "DynamicQuantizeLSTM": places(1, 2), MICROSOFT + "QEmbedLayerNormalization": places(2, 3, 4, 5, 6),
        MICROSOFT + "MatMulNBits": places(1), MICROSOFT + "MatMulBnb4": places(1),
        MICROSOFT + "MatMulNBitsMlp": places(3, 6), MICROSOFT + "MatMulNBitsQkv": places(3, 6, 9),
        MICROSOFT + "MatMulBlockQuantizedFp4Weight": places(1), MICROSOFT + "MatMulBlockQuantizedFp8Weight": places(1),
        MICROSOFT + "GatherBlockQuantized": places(0), MICROSOFT + "QMoE": places(2, 5, 8),
    }),
    scales=_both({
        "DequantizeLinear": places(1), "QuantizeLinear": places(1),
        "QLinearMatMul": places(1, 4, 6), "QLinearConv": places(1, 4, 6),
        MICROSOFT + "QGemm": places(1, 4, 7), MICROSOFT + "QAttention": places(3, 4),
        MICROSOFT + "QLinearAdd": places(1, 4, 6), MICROSOFT + "QLinearMul": places(1, 4, 6),
        MICROSOFT + "QLinearWhere": places(2, 5, 7),
        MICROSOFT + "QLinearConcat": frozenset({0, *range(3, 300, 3)}),
        MICROSOFT + "DynamicQuantizeMatMul": places(2), MICROSOFT + "MatMulIntegerToFloat": places(2, 3),
        MICROSOFT + "DynamicQuantizeLSTM": places(8, 10),
        MICROSOFT + "QEmbedLayerNormalization": frozenset(range(8, 13)),
        MICROSOFT + "MatMulNBits": places(2), MICROSOFT + "MatMulBnb4": places(2),
        MICROSOFT + "MatMulNBitsMlp": places(4, 7), MICROSOFT + "MatMulNBitsQkv": places(4, 7, 10),
        MICROSOFT + "MatMulBlockQuantizedFp4Weight": places(2, 3, 4),
        MICROSOFT + "MatMulBlockQuantizedFp8Weight": places(2, 3), MICROSOFT + "GemmFloat8": places(3, 4, 5),
        MICROSOFT + "GatherBlockQuantized": places(2), MICROSOFT + "QMoE": places(3, 6, 9, *range(15, 21)),
    } | {MICROSOFT + "QLinear" + name: places(1, 3) for name in _QUANTIZED_UNARY}),
    zero_points=_both({
        "DequantizeLinear": places(2), "QuantizeLinear": places(2), "MatMulInteger": places(2, 3),
        "ConvInteger": places(2, 3), "QLinearMatMul": places(2, 5, 7), "QLinearConv": places(2, 5, 7),
        MICROSOFT + "QGemm": places(2, 5, 8), MICROSOFT + "QAttention": places(6, 7),
        MICROSOFT + "QLinearAdd": places(2, 5, 7), MICROSOFT + "QLinearMul": places(2, 5, 7),
        MICROSOFT + "QLinearWhere": places(3, 6, 8),
        MICROSOFT + "QLinearConcat": frozenset({1, *range(4, 300, 3)}),
        MICROSOFT + "DynamicQuantizeMatMul": places(3), MICROSOFT + "MatMulIntegerToFloat": places(4, 5),
        MICROSOFT + "DynamicQuantizeLSTM": places(9, 11),
        MICROSOFT + "QEmbedLayerNormalization": frozenset(range(13, 18)),
        MICROSOFT + "MatMulNBits": places(3), MICROSOFT + "GatherBlockQuantized": places(3),
        MICROSOFT + "QMoE": places(11, 12, 13),
    } | {MICROSOFT + "QLinear" + name: places(2, 4) for name in _QUANTIZED_UNARY}),
    group_indexes={MICROSOFT + "MatMulNBits": places(4)},
    statistics={"BatchNormalization": places(3, 4)},
    transforms={
        "STFT": places(2), "RotaryEmbedding": places(1, 2), MICROSOFT + "RotaryEmbedding": places(2, 3),
        MICROSOFT + "MRotaryEmbedding": places(2, 3), MICROSOFT + "GroupQueryAttention": places(7, 8),
    },
    settings={
        "Pow": places(1), "Clip": places(1, 2), "Resize": places(1, 2, 3), "Upsample": places(1), "Pad": places(1, 2),
        "OneHot": places(2), "Dropout": places(1, 2), "NonMaxSuppression": places(2, 3, 4), "MelWeightMatrix": EVERY,
    } | dict.fromkeys(_COMPARISONS, EVERY),
    views=frozenset({
        "Identity", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Flatten", "Slice", "Split", "Expand", "Tile",
        "Dropout", "DequantizeLinear", "QuantizeLinear", MICROSOFT + "DequantizeLinear", MICROSOFT + "QuantizeLinear",
    }),
    joins=frozenset({"Concat"}),
    casts=frozenset({"Cast", "CastLike"}),
    look_ups=frozenset({"Gather"}),
    linear=frozenset({"MatMul", "Gemm", "Conv", "ConvTranspose", "MatMulInteger", "ConvInteger",
                      MICROSOFT + "FusedMatMul"}),
    convolutions=frozenset({"Conv"}),
    integer_products=frozenset({"MatMulInteger", "ConvInteger"}),
    signs_and_pads=frozenset({"Neg", "Pad"}),
    sums=frozenset({"ReduceSum"}),
    sums_of_squares=frozenset({"ReduceSumSquare", "ReduceL2"}),
    dynamic_scale="DynamicQuantizeLinear",
)  # fmt: skip

_MATRICES = {
    "MatMulNBits": {1: "N"}, "MatMulBnb4": {1: "N"}, "MatMulNBitsMlp": {3: "N", 6: "N"},
    "MatMulNBitsQkv": {3: "Nq", 6: "Nkv", 9: "Nkv"},
}  # fmt: skip
"""Operators whose packed inputs are matrices of K columns; the setting that names the rows."""
_LAST_AXIS = {"GatherBlockQuantized": "bits", "QMoE": "expert_weight_bits", "MatMulBlockQuantizedFp4Weight": ""}
"""Operators whose packed inputs have several weights in a byte of the last axis; the setting that names the bits."""


def unpacked(op: str, place: int, settings: Mapping[str, int], constant: Constant) -> tuple[int, ...] | None:
    """The shape of the weights that an input of an operator holds packed in bytes; None where it does not.

    Raises:
        ValueError: when the settings do not fit the bytes that are stored; the message says what they ask for.

    Example:
        >>> from weighbridge.model import encodings
        >>> packed = Constant((8, 2, 16), encodings.find("uint8"))
        >>> unpacked("com.microsoft.MatMulNBits", 1, {"K": 64, "N": 8, "bits": 4, "block_size": 32}, packed)
        (64, 8)
    """
    name = op.removeprefix(MICROSOFT)
    if op == name or constant.encoding.name != "uint8":
        return None
    if place in _MATRICES.get(name, ()):
        columns, rows = settings.get("K", 0), settings.get(_MATRICES[name][place], 0)
        bits, block = settings.get("bits", 4), settings.get("block_size", 1)
        if not (0 < columns < 2**31 and 0 < rows < 2**31 and 1 < bits <= 8 and 0 < block < 2**31):
            raise ValueError(f"{columns} x {rows} weights of {bits} bits in blocks of {block}")
        least, most = -(-columns * rows * bits // 8), rows * -(-columns // block) * -(-block * bits // 8)
        if not least <= constant.elements <= max(least, most):
            raise ValueError(f"{least:,} bytes for {columns} x {rows} weights of {bits} bits")
        return (columns, rows)
    if name in _LAST_AXIS and place in (RULES.packed[op]) and constant.shape:
        bits = settings.get(_LAST_AXIS[name], 4)
        if bits not in (2, 4, 8):
            raise ValueError(f"weights of {bits} bits")
        return (*constant.shape[:-1], constant.shape[-1] * 8 // bits)
    return None
