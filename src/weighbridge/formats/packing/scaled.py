"""Weights that keep their shape beside scales, and those with two or four of them in a byte.

- fp8 or int8 `weight` with `weight_scale`, `weight_scale_inv`, `scale_weight` or `scale`: one scale for the tensor, for
  a row, or for a block of rows and columns (128 by 128 in DeepSeek-V3); stacked experts have `gate_up_proj` and
  `gate_up_proj_scale_inv` or `gate_up_proj_scale`. A file without a configuration may call the pair `qweight` and
  `scale` or `W` and `W_scale`: an int8 tensor with a scale of its own is a weight.
- NVFP4 of modelopt: `weight` uint8 [out, in/2], `weight_scale` fp8 [out, in/16], `weight_scale_2`.
- MXFP4 of modelopt and Quark: `weight` uint8 [out, in/2], `weight_scale` uint8 [out, in/32]; DeepSeek-V4 keeps the
  bytes as int8 and the scales as E8M0.
- INT4-AWQ of modelopt: `weight` uint8 [out/2, in], `weight_scale` [out, in/128].
- BitNet: `weight` uint8 [out/4, in], `weight_scale` [1], where the configuration names it.
- MXFP4 of gpt-oss: `X_blocks` uint8 [experts, rows, G, 16], `X_scales` uint8 [experts, rows, G]; X is
  [experts, 32·G, rows]. OpenAI's own files have `X.blocks` and `X.scales`, and X is not turned.

Sources: transformers 5.23 `integrations/{finegrained_fp8,fbgemm_fp8,mxfp4,bitnet}.py`, `quantizers/quantizer_quark.py`
for Quark's names; compressed-tensors 0.20 `compressors/{naive_quantized,mxfp8}/base.py`; modelopt
`torch/export/{quant_utils,unified_export_hf}.py`.
"""

from __future__ import annotations

import functools
import math
import reprlib
from typing import Any

from weighbridge.formats.packing.compressed_tensors import MICRO
from weighbridge.formats.packing.endings import SCALES
from weighbridge.formats.packing.module import Found, MismatchError, Module, Shape, matrix, require
from weighbridge.model.tensors import TensorSpec

FP8 = frozenset({"fp8", "fp8_e5m2", "fp8_e4m3fnuz", "fp8_e5m2fnuz"})
MOST_DIMENSIONS = 8


def scaled(module: Module) -> Found | None:
    """A weight of one or half a byte each, beside its scale."""
    own = module.parts.get("qweight")
    data = own or module.weight
    if data is None or data.encoding.name not in (*FP8, "int8", "uint8"):
        return None
    scale = next((module.parts[ending] for ending in SCALES if ending in module.parts), None)
    if scale is None or not (scale.encoding.is_float or scale.encoding.name == "uint8"):
        return None
    if data.encoding.name == "uint8" or (data.encoding.name == "int8" and scale.encoding.name == "fp8_e8m0"):
        return _in_bytes(module, data, scale)
    if 0 in data.shape or len(data.shape) > MOST_DIMENSIONS:
        require(False, data, why="hold no weights")
    if not _covers(data.shape, scale.shape, _block(module.declared.block)):
        require(False, data, scale)
    is_grid = len(scale.shape) == len(data.shape) > 1
    module.check(8, data.shape[-1] if data.shape else 1, scale.shape[-1] if is_grid else 1)
    method = "int8" if data.encoding.name == "int8" else "fp8"
    return Found(method, data, module.named(data.shape, None if own else data.name))


def _block(declared: Any) -> Shape | None:
    """The declared rows and columns of a block.

    Raises:
        MismatchError: when it has none.
    """
    if declared is None:
        return None
    if not isinstance(declared, list) or len(declared) != 2 or any(type(b) is not int or b <= 0 for b in declared):
        raise MismatchError(f"the configuration gives blocks of {reprlib.repr(declared)}")
    return tuple(declared)


@functools.lru_cache(maxsize=1024)  # a model has tens of thousands of weights in a few shapes
def _covers(shape: Shape, scale: Shape, block: Shape | None) -> bool:
    """Whether scales are those of a whole tensor, of some of its axes, or of equal blocks along each of them."""
    if math.prod(scale) == 1:
        return True
    if len(scale) < len(shape):
        axes = iter(shape)
        return all(length in axes for length in scale)
    if len(scale) != len(shape) or 0 in scale:
        return False
    if block is not None and len(shape) >= 2:
        ends = tuple(-(-length // part) for length, part in zip(shape[-2:], block, strict=True))
        if scale[-2:] != ends:
            return False
    return all(part <= length and -(-length // -(-length // part)) == part
               for length, part in zip(shape, scale, strict=True))  # fmt: skip


def _in_bytes(module: Module, data: TensorSpec, scale: TensorSpec) -> Found | None:
    """Two or four weights in a byte; None for bytes that are no known layout's, such as a mask."""
    if scale.elements == 1:
        if module.declared.method != "bitnet":
            require("weight_scale" not in module.parts, data, scale, why="are those of no known layout")
            return None
        lead, rows, columns = matrix(data)
        return Found("bitnet", data, module.named((*lead, 4 * rows, columns), data.name))
    (lead, rows, columns), (scale_lead, scale_rows, groups) = matrix(data), matrix(scale)
    require(lead == scale_lead, data, scale)
    if rows == scale_rows:
        for method, bytes_of_group, group, bits in MICRO:
            if columns == bytes_of_group * groups:
                module.check(bits, group * groups, groups)
                return Found(method, data, module.named((*lead, rows, group * groups), data.name))
    if 2 * rows == scale_rows and columns % groups == 0:
        module.check(4, columns, groups)
        return Found("int4", data, module.named((*lead, 2 * rows, columns), data.name))
    if lead and columns == groups and rows == 8 * scale_rows:
        module.check(4, 2 * rows, scale_rows)
        return Found("nvfp4", data, module.named((*lead, 2 * rows, columns), data.name))
    raise MismatchError(f"bytes {list(data.shape)} and scales {list(scale.shape)} are those of no known layout")


def blocks(module: Module) -> Found | None:
    """MXFP4 as gpt-oss has it."""
    data = module.parts["blocks"]
    if data.encoding.name != "uint8":
        return None
    (scales,) = module.need("scales")
    require(3 <= len(data.shape) <= 5 and 0 not in data.shape and data.shape[-1] == 16, data, scales)
    require(scales.encoding.name == "uint8" and scales.shape == data.shape[:-1], data, scales)
    *lead, rows, groups, _ = data.shape
    is_turned = bool(lead) and data.name.endswith("_blocks")
    shape = (*lead, 32 * groups, rows) if is_turned else (*lead, rows, 32 * groups)
    return Found("mxfp4", data, module.named(shape, module.stem))
