"""The layouts of compressed-tensors that change a weight's shape: packed integers, packed floats, sparse bit masks.

For a weight of `out` rows and `in` columns:

- pack-quantized: `weight_packed` int32 [out, in·bits/32 rounded up], `weight_scale` [out, G], [out, 1] or [1], with
  `weight_zero_point` [out·bits/32, G], `weight_g_idx` [in] and `weight_shape`, two numbers that lie in the data. Up to
  0.15 at least a word held whole weights only: ten of 3 bits. Several matrices may be stacked.
- nvfp4-pack-quantized: `weight_packed` uint8 [out, in/2], `weight_scale` fp8 [out, in/16], `weight_global_scale` [1].
- mxfp4-pack-quantized: `weight_packed` uint8 [out, in/2], `weight_scale` uint8 [out, in/32]; mxfp6 has [out, 3·in/4].
- 2:4 sparse: `compressed` [out, in/2], `bitmask` uint8 [out, in/8 rounded up]; unstructured: `compressed` [non-zeros],
  `row_offsets` [out], and `shape` with the two numbers. They stand below the module's name or the weight's.

Sources: compressed-tensors 0.20 `compressors/{pack_quantized,nvfp4,mxfp4,mxfp6}/base.py`, 0.15
`compressors/pack_quantized/helpers.py`, 0.9.4 `compressors/sparse_compressors/{sparse_bitmask,sparse_24_bitmask}.py`.
"""

from __future__ import annotations

from weighbridge.formats.packing.module import Found, MismatchError, Module, Scheme, Shape, matrix, require
from weighbridge.model.tensors import TensorSpec

WIDEST = 8
MICRO = (("nvfp4", 8, 16, 4), ("mxfp4", 16, 32, 4), ("mxfp6", 24, 32, 6))
"""Small floats: the method, bytes and weights of a group, bits of a weight."""


def packed(module: Module) -> Found | None:
    """What `weight_packed` holds, by its type: words of integers, or bytes of small floats."""
    data, scale = module.need("weight_packed", "weight_scale")
    lead, rows, columns = matrix(data)
    if data.encoding.name == "uint8":
        return _micro(module, data, scale)
    require(data.encoding.name == "int32", data, why="holds no words of 32 bits")
    groups = scale.shape[-1] if scale.shape else 1
    require(scale.elements == 1 or scale.shape == (*lead, rows, groups), data, scale)
    groups = 1 if scale.elements == 1 else groups
    schemes = module.declared.of(module.stem)
    fits = {width for scheme in schemes for width in _widths(scheme, columns, groups)}
    if schemes and not fits:
        said = " or ".join(str(scheme) for scheme in schemes[:3])
        require(False, data, scale, why=f"do not fit what the configuration says: {said}")
    read = _read(module, "weight_shape") if len(fits) != 1 else None
    if read is None:
        if not fits:
            raise MismatchError("the bits of its weights are declared nowhere, and its weight_shape was not read")
        read = (*lead, rows, max(fits))
    is_possible = read[-1] in fits if fits else any(_is_wide(read[-1], bits, columns) for bits in range(1, WIDEST + 1))
    if read[:-1] != (*lead, rows) or not is_possible:
        raise MismatchError(f"its weight_shape says {list(read)}, which does not fit the {columns:,} words of a row")
    return Found("compressed-tensors", data, module.named(read))


def _is_wide(width: int, bits: int, words: int) -> bool:
    """Whether rows of so many weights take so many words: without a gap, or with whole weights in each."""
    return words in (-(-width * bits // 32), -(-width // (32 // bits)))


def _widths(scheme: Scheme, words: int, groups: int) -> list[int]:
    """How many weights a row of so many words and groups may have by a scheme."""
    bits, group = scheme.bits, scheme.group
    if type(bits) is not int or not 1 <= bits <= WIDEST:
        return []
    if type(group) is int and group > 0:
        return [groups * group] if _is_wide(groups * group, bits, words) else []
    if groups != 1 or group not in (None, -1, 0):
        return []
    whole = 32 // bits
    return [
        *range((words - 1) * whole + 1, words * whole + 1),
        *range((words - 1) * 32 // bits + 1, words * 32 // bits + 1),
    ]


def _read(module: Module, ending: str) -> Shape | None:
    """The numbers of a small tensor that names a shape; None where it cannot be read."""
    tensor = module.parts.get(ending)
    if tensor is None or not 2 <= tensor.elements <= 4 or tensor.encoding.name not in ("int64", "int32"):
        return None
    raw, size = module.peek(tensor), tensor.encoding.bytes_per_block
    if raw is None:
        return None
    return tuple(int.from_bytes(raw[at : at + size], "little", signed=True) for at in range(0, len(raw), size))


def _micro(module: Module, data: TensorSpec, scale: TensorSpec) -> Found:
    """Floats of 4 or 6 bits with a scale for 16 or 32 of them."""
    lead, rows, columns = matrix(data)
    scale_lead, scale_rows, groups = matrix(scale)
    require(lead == scale_lead and rows == scale_rows, data, scale)
    for method, bytes_of_group, group, bits in MICRO:
        if columns == bytes_of_group * groups:
            module.check(bits, group * groups, groups)
            return Found(method, data, module.named((*lead, rows, group * groups)))
    raise MismatchError(f"{groups:,} scales for {columns:,} bytes of a row are neither NVFP4 nor MXFP4 nor MXFP6")


def sparse(module: Module) -> Found | None:
    """Values that are not zero, and a bit for each place."""
    if "compressed" not in module.parts:
        return None
    data, mask = module.need("compressed", "bitmask")
    lead, rows, width = matrix(mask)
    require(mask.encoding.name == "uint8" and not lead, mask)
    if len(data.shape) == 2:
        columns = 2 * data.shape[1]
        require(data.shape[0] == rows and -(-columns // 8) == width, data, mask)
        return Found("sparse 2:4", data, module.named((rows, columns)))
    require(len(data.shape) == 1 and data.elements <= 8 * rows * width, data, mask)
    shape = _read(module, "shape") or (rows, 8 * width)
    if len(shape) != 2 or shape[0] != rows or -(-shape[1] // 8) != width:
        raise MismatchError(
            f"its shape says {list(shape)}, which does not fit {rows:,} rows of {width:,} bytes of bits"
        )
    return Found("sparse", data, module.named(shape))
