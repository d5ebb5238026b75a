"""Which number does each code of a type of 8 or 16 bits stand for?

There are 256 or 65,536 of them, so that how often each occurs answers most questions on a tensor.

Sources: IEEE 754 (fp16); bfloat16, the upper half of fp32; the OCP specification of 8-bit floating point, revision 1.0
(E4M3, E5M2); the OCP Microscaling specification 1.0 (E8M0); Noune and others, arXiv:2206.02915 (the `fnuz` types, whose
one NaN is the code of minus zero).
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from weighbridge.model.encodings import Encoding

_IEEE = {"fp16": (5, 10), "bf16": (8, 7), "fp8_e5m2": (5, 2)}
_FINITE = {"fp8": (4, 3, 7), "fp8_e4m3fnuz": (4, 3, 8), "fp8_e5m2fnuz": (5, 2, 16)}
_INTEGERS = {"int8": "i1", "int16": "i2", "uint8": "u1", "uint16": "u2"}
CODED = (*_IEEE, *_FINITE, *_INTEGERS, "bool", "fp8_e8m0")
"""The encodings that `numbers` has a table for."""


@functools.cache
def numbers(encoding: Encoding) -> NDArray[np.float64]:
    """The number of each code: (256,) or (65536,), infinities and NaN among them.

    Example:
        >>> from weighbridge.model.encodings import find
        >>> numbers(find("fp8"))[[0x38, 0x7E, 0x7F, 0x80]].tolist()
        [1.0, 448.0, nan, -0.0]
    """
    name, bits = encoding.name, 8 * encoding.bytes_per_block
    codes = np.arange(2**bits)
    if name in _INTEGERS:
        return codes.astype(f"u{bits // 8}").view(_INTEGERS[name]).astype(np.float64)
    if name == "bool":
        return np.minimum(codes, 1).astype(np.float64)
    if name == "fp8_e8m0":
        return np.append(np.ldexp(1.0, codes[:-1] - 127), np.nan)
    if name in _IEEE:
        exponent, fraction = _IEEE[name]
        found = _floats(codes, exponent, fraction, 2 ** (exponent - 1) - 1)
        special = codes >> fraction & (2**exponent - 1) == 2**exponent - 1
        is_infinite = special & (codes & (2**fraction - 1) == 0)
        found[special] = np.nan
        found[is_infinite] = np.where(codes[is_infinite] >> (bits - 1), -np.inf, np.inf)
        return found
    found = _floats(codes, *_FINITE[name])
    found[[0x7F, 0xFF] if name == "fp8" else [0x80]] = np.nan
    return found


def _floats(codes: NDArray[np.int64], exponent_bits: int, fraction_bits: int, bias: int) -> NDArray[np.float64]:
    """Sign, exponent and fraction as numbers, without any special ones."""
    fraction = codes & (2**fraction_bits - 1)
    exponent = codes >> fraction_bits & (2**exponent_bits - 1)
    sign = 1.0 - 2.0 * (codes >> (exponent_bits + fraction_bits))
    whole = np.where(exponent > 0, fraction + 2**fraction_bits, fraction)
    scale = np.ldexp(1.0, np.maximum(exponent, 1) - bias - fraction_bits)
    return np.asarray(sign * whole * scale, dtype=np.float64)
