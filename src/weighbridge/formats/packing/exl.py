"""Weights of ExLlama: EXL2, whose rows have bits of their own, and EXL3, whose weights are paths through a trellis.

- EXL2: `q_weight` int32 [words, out], `q_invperm` or `q_perm` [in], `q_scale` int32 [G, out/8] of 4-bit scales,
  `q_scale_max` [G], `q_groups` int16 [2·G] with the bits and the first word of each group.
- EXL3: `trellis` int16 [in/16, out/16, 16·K] of K bits, `suh` [in] and `svh` [out], or `su` and `sv` with 16 signs in a
  number; `mcg` or `mul1` name the codebook.

Both pad: EXL2 the rows to a multiple of 32, EXL3 both dimensions to 128; the header does not tell what was added.

Sources: exllamav2 `conversion/adaptivegptq.py` (`pack`), `exllamav2_ext/ext_qmatrix.cpp`; exllamav3
`modules/quant/exl3.py`, `modules/linear.py`.
"""

from __future__ import annotations

from weighbridge.formats.packing.module import Found, Module, matrix, require


def exl2(module: Module) -> Found | None:
    """Rows with 2 to 8 bits."""
    data, scale, most, groups = module.need("q_weight", "q_scale", "q_scale_max", "q_groups")
    order = module.parts.get("q_invperm") or module.need("q_perm")[0]
    (_, words, rows), (_, count, width) = matrix(data), matrix(scale)
    require(data.encoding.name == "int32" and len(order.shape) == 1 and order.elements > 0, data, order)
    columns = order.shape[0]
    require(rows == 8 * width and most.elements == count and groups.elements == 2 * count, data, scale, most, groups)
    require(columns <= 32 * words <= 9 * columns + 32 and count <= columns, data, order)
    return Found("exl2", data, module.named((rows, columns)))


def exl3(module: Module) -> Found | None:
    """1 to 8 bits, the same in a whole matrix."""
    data = module.parts["trellis"]
    require(len(data.shape) == 3 and data.encoding.name == "int16" and 0 not in data.shape, data)
    columns, rows, bits = data.shape[0] * 16, data.shape[1] * 16, data.shape[2] // 16
    require(data.shape[2] == 16 * bits and 1 <= bits <= 8, data)
    for half, packed, length in (("suh", "su", columns), ("svh", "sv", rows)):
        signs = module.parts.get(half) or module.need(packed)[0]
        require(signs.elements == (length if half in module.parts else length // 16), data, signs)
    return Found("exl3", data, module.named((rows, columns)))
