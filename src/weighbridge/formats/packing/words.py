"""Weights in words of 32 bits: GPTQ, AWQ, Marlin and MLX.

For a weight of `out` rows and `in` columns, in `G` groups of columns:

- GPTQ: `qweight` [in·bits/32, out], `qzeros` [G, out·bits/32], `scales` [G, out], `g_idx` [in] where it was written.
  Each dimension is rounded up. Words may have 8, 16 or 64 bits in place of 32.
- AWQ, gemm: `qweight` [in, out·bits/32], `qzeros` [G, out·bits/32], `scales` [G, out].
- AWQ, gemv: `qweight` [out, in/8], `qzeros` [out, Z], `scales` [out, 8·Z], where Z words hold G zeros and padding.
- AWQ, gemv-fast: `qweight` int16 [out/4, in], `scales` and `qzeros` [8·Z, out], both in floating point.
- Marlin: `B` [in/16, 2·out] of 4-bit weights, `s` [G, out].
- MLX: `weight` uint32 [out, in·bits/32], `scales` [out, G] and, of the affine mode, `biases` [out, G]; bits and group
  size are known from the configuration only, or where no other pair fits.

Sources: GPTQModel 7.7 `nn_modules/qlinear/__init__.py` (`_register_gptq_buffers`); AutoAWQ 0.2.9
`modules/linear/{gemm,gemv,gemv_fast,marlin}.py`; what `mlx.core.quantize` of MLX 0.32.4 returns; transformers 5.23
`integrations/metal_quantization.py`.
"""

from __future__ import annotations

from weighbridge.formats.packing.module import Found, MismatchError, Module, matrix, only, require

BITS = (2, 3, 4, 5, 6, 7, 8)
MLX_BITS = (2, 3, 4, 5, 6, 8)
MLX_GROUPS = (16, 32, 64, 128)


def qweight(module: Module) -> Found | None:
    """GPTQ, or AWQ in one of its three layouts. An int8 `qweight` beside one scale is another method's."""
    data = module.parts["qweight"]
    if data.encoding.is_float or (data.encoding.name == "int8" and "qzeros" not in module.parts):
        return None
    scales, zeros = module.need("scales", "qzeros")
    (_, rows, columns), (_, groups, width), (_, zero_rows, zero_columns) = map(matrix, (data, scales, zeros))
    require(len(data.shape) == len(scales.shape) == len(zeros.shape) == 2, data, scales, zeros)
    if zeros.encoding.is_float:
        require(
            data.encoding.name == "int16" and scales.shape == zeros.shape and 4 * rows == width, data, scales, zeros
        )
        require(columns % 8 == 0 and groups % 8 == 0, data, scales)
        module.check(4, columns, _said_groups(module, columns, groups))
        return Found("awq", data, module.named((width, columns)))
    require(data.encoding == zeros.encoding, data, zeros)
    word = data.encoding.bytes_per_block * 8
    if columns == width and zero_rows == groups:
        return _gptq(module, word, groups)
    if columns == zero_columns and zero_rows == groups and width * BITS[-1] >= word * columns >= width:
        bits = word * columns // width
        require(bits in BITS and bits * width == word * columns and rows % groups == 0, data, scales, zeros)
        module.check(bits, rows, groups)
        return Found("awq", data, module.named((width, rows)))
    require(rows == groups == zero_rows and width == 8 * zero_columns and word == 32, data, scales, zeros)
    module.check(4, 8 * columns, _said_groups(module, 8 * columns, width))
    return Found("awq", data, module.named((rows, 8 * columns)))


def _said_groups(module: Module, columns: int, padded: int) -> int:
    """The groups of a layout that pads them, which only the configuration can name."""
    for scheme in module.declared.of(module.stem):
        if type(scheme.group) is int and (scheme.group > 0 or scheme.group == -1):
            groups = 1 if scheme.group == -1 else -(-columns // scheme.group)
            if groups <= padded:
                return groups
    return 0


def _gptq(module: Module, word: int, groups: int) -> Found:
    data, scales, zeros = module.need("qweight", "scales", "qzeros")
    rows, width = data.shape
    index = module.parts.get("g_idx")
    fits = []
    for bits in BITS:
        if -(-width * bits // word) != zeros.shape[1]:
            continue
        columns = rows * word // bits
        if index is not None and len(index.shape) == 1:
            columns = index.shape[0]
        if -(-columns * bits // word) == rows and 0 < groups <= columns:
            fits.append((bits, columns))
    parts = (data, scales, zeros, *([] if index is None else [index]))
    require(bool(fits), *parts)
    allowed = [(bits, columns) for bits, columns in fits
               if any(scheme.has(bits, columns, groups) for scheme in module.declared.of(module.stem))]  # fmt: skip
    if not allowed:
        module.check(*fits[0], groups)  # which says what is declared, or that nothing is
    columns = only([(columns,) for _, columns in allowed or fits], "several numbers of bits fit its shapes")[0]
    return Found("gptq", data, module.named((width, columns)))


def marlin(module: Module) -> Found | None:
    """4-bit weights in the order of the Marlin kernel."""
    if "s" not in module.parts or module.parts["B"].encoding.name != "int32":
        return None
    data, scales = module.need("B", "s")
    (_, rows, columns), (_, groups, width) = matrix(data), matrix(scales)
    require(columns == 2 * width and groups <= 16 * rows, data, scales)
    module.check(4, 16 * rows, groups)
    return Found("marlin", data, module.named((width, 16 * rows)))


def mlx(module: Module) -> Found | None:
    """MLX, whose packed tensor keeps the name of the weight."""
    data, scales = module.weight, module.parts["scales"]
    if data is None or data.encoding.name != "uint32":
        return None
    (lead, rows, words), (scale_lead, scale_rows, groups) = matrix(data), matrix(scales)
    require(lead == scale_lead and rows == scale_rows, data, scales)
    for ending in ("biases", "qbiases"):
        if ending in module.parts:
            require(module.parts[ending].shape == scales.shape, scales, module.parts[ending])
    fits = [(bits, group) for bits in MLX_BITS for group in MLX_GROUPS if words * 32 == groups * group * bits]
    require(bool(fits), data, scales)
    schemes = module.declared.of(module.stem)
    allowed = [(bits, group) for bits, group in fits
               if any(scheme.has(bits, groups * group, groups) for scheme in schemes)]  # fmt: skip
    if schemes and not allowed:
        raise MismatchError(
            f"its shapes give {' or '.join(f'{bits} bits in groups of {group}' for bits, group in fits)}, "
            f"the configuration says {schemes[0]}"
        )
    columns = only([(groups * group,) for _, group in allowed or fits], "several bits and group sizes fit its shapes")
    return Found("mlx", data, module.named((*lead, rows, *columns), data.name))
