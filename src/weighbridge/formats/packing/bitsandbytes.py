"""Weights of bitsandbytes: 4-bit codes in one long column, and int8 rows.

4 bits: `weight` [n, 1] with two codes in a byte, whatever type the bytes are stored as; `weight.absmax`, one number for
a block, which may itself be quantized (`weight.nested_absmax`, `weight.nested_quant_map`); `weight.quant_map`, the 16
values of the codes; `weight.quant_state.bitsandbytes__nf4`, the bytes of a JSON object with the block size and the
weight's shape. That shape is nowhere in the header: it is read from these few bytes where the file can be read, and
otherwise only the number of weights is known. Int8: `weight` int8 [out, in], `SCB` [out], `weight_format`.

Source: bitsandbytes 0.50 `functional.py` (`QuantState.as_dict`), `nn/modules.py` (`Linear8bitLt`).
"""

from __future__ import annotations

import math

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import json_text
from weighbridge.formats.packing.module import Found, MismatchError, Module, Shape, require
from weighbridge.model.tensors import TensorSpec

BLOCKS = (32, 64, 128, 256, 512, 1024, 2048, 4096)
MOST_STATE_BYTES = 4096
MOST_DIMENSIONS = 8


def four_bits(module: Module) -> Found | None:
    """NF4 and FP4, with or without nested scales."""
    data = module.tensors.get(module.stem)
    if data is None or ("quant_map" not in module.parts and "quant_state" not in module.parts):
        return None
    absmax, codes = module.need("absmax", "quant_map")
    weights = 2 * data.size_bytes
    require(weights > 0 and codes.elements == 16, data, codes)
    require(any(-(-weights // block) == absmax.elements for block in BLOCKS), data, absmax)
    shape = _shape(module, data, absmax) or (weights,)
    return Found("bitsandbytes", data, module.named(shape, data.name))


def _shape(module: Module, data: TensorSpec, absmax: TensorSpec) -> Shape | None:
    """What the state says; None where its bytes cannot be read."""
    state = module.parts.get("quant_state")
    raw = None if state is None or state.size_bytes > MOST_STATE_BYTES else module.peek(state)
    if raw is None:
        return None
    try:
        said = json_text.parse(raw, "the quant_state", max_depth=4)
    except WeighbridgeError as error:
        raise MismatchError(f"its quant_state is no JSON ({error.read})") from error
    shape, block = (said.get("shape"), said.get("blocksize")) if isinstance(said, dict) else (None, None)
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(
            type(length) is int and 0 < length < 2**48 for length in shape):  # fmt: skip
        raise MismatchError(f"its quant_state gives the shape {str(shape)[:60]}")
    weights = math.prod(shape)
    if weights not in (2 * data.size_bytes, 2 * data.size_bytes - 1):
        raise MismatchError(f"its quant_state gives {weights:,} weights, stored are {2 * data.size_bytes:,}")
    if type(block) is not int or block <= 0 or -(-weights // block) != absmax.elements:
        raise MismatchError(
            f"its quant_state gives blocks of {str(block)[:20]}, stored are {absmax.elements:,} of them"
        )
    return tuple(shape)


def eight_bits(module: Module) -> Found | None:
    """LLM.int8(): rows of int8 with one scale each."""
    data, (scales,) = module.weight, module.need("SCB")
    if data is None or data.encoding.name != "int8":
        return None
    require(len(data.shape) == 2 and scales.shape == data.shape[:1], data, scales)
    return Found("bitsandbytes", data, module.named(data.shape, data.name))
