"""In which forms may a weight lie in a checkpoint of compressed-tensors, and what numbers is it then?

A scheme stores each weight as a small number q and, for a group of columns of one row or for the whole row, a scale s
in bf16: the weight is q*s, or (q - z)*s with a zero point z. Integers are packed into words of 32 bits, the first
column in the lowest bits, after an offset that makes them unsigned; zero points are packed down the rows. Integers of
8 bits are packed too: vLLM runs weights in int8 beside plain activations in this form only.

Sources: compressed-tensors 0.20, `compressors/pack_quantized/{base,helpers}.py`, `compressors/naive_quantized/base.py`,
`quantization/lifecycle/forward_helpers.py`; vLLM, `quantization/compressed_tensors/compressed_tensors.py`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.compress import codecs
from weighbridge.compress.codecs import Values
from weighbridge.errors import ConfigError
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding

RATIOS = (1.07, 1.0, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72)
"""Of the widest range of a group: what is tried in its place. A narrower one cuts the largest weights off."""
_CHUNK = 1 << 16
"""Weights that are worked on at once, so that what lies between stays in the processor's caches."""
_SMALLEST = float(np.finfo(np.float32).tiny)
_BF16 = encodings.find("bf16")
_LARGEST_FP8 = 448.0
Parts = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor of the file that a weight becomes: its last name, what it holds, and its shape."""

    name: str
    encoding: Encoding
    shape: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the part."""
        return self.encoding.size_bytes(self.shape)


@dataclass(frozen=True, slots=True)
class Scheme:
    """A form of a weight. `bits` is None for a plain type; `group` is the columns of a scale, None for the whole row.

    Example:
        >>> find("int4-g128").bits_per_weight, find("int4-g128-asym").bits_per_weight, find("fp16").bits_per_weight
        (4.125, 4.15625, 16.0)
    """

    name: str
    encoding: Encoding
    bits: int | None = None
    group: int | None = None
    symmetric: bool = True

    @property
    def is_packed(self) -> bool:
        """Whether the weights lie in words of 32 bits."""
        return self.bits is not None and not self.encoding.is_float

    @property
    def bits_per_weight(self) -> float:
        """Bits for one weight of a matrix with many rows and columns, scales and zero points included."""
        if self.bits is None:
            return self.encoding.bits_per_weight
        beside = 16 if self.symmetric else 16 + self.bits
        return self.bits + (beside / self.group if self.group else 0.0)

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether a tensor of this shape can take the form: matrices, whose rows are whole groups."""
        if self.bits is None:
            return True
        return len(shape) == 2 and math.prod(shape) > 0 and shape[1] % (self.group or 1) == 0

    def parts(self, shape: tuple[int, ...]) -> tuple[Part, ...]:
        """The tensors that a weight of this shape becomes; the first holds the weights proper."""
        if self.bits is None:
            return (Part("weight", self.encoding, shape),)
        rows, columns = shape
        groups = columns // self.group if self.group else 1
        scale = Part("weight_scale", _BF16, (rows, groups))
        if not self.is_packed:
            return Part("weight", self.encoding, shape), scale
        word, per_word = encodings.find("int32"), 32 // self.bits
        packed = Part("weight_packed", word, (rows, -(-columns // per_word)))
        zeros = Part("weight_zero_point", word, (-(-rows // per_word), groups))
        size = Part("weight_shape", encodings.find("int64"), (2,))
        return (packed, scale, size) if self.symmetric else (packed, scale, zeros, size)

    def size_bytes(self, shape: tuple[int, ...]) -> int:
        """Bytes of all parts of a tensor, exactly; their names in the header come on top.

        Example:
            >>> find("int4-g128").size_bytes((256, 1024)), 256 * 1024 * 4.125 / 8 + 16
            (135184, 135184.0)
        """
        return sum(part.size_bytes for part in self.parts(shape))


def plain(encoding: Encoding) -> Scheme:
    """The form of a tensor that is stored as elements of a type and nothing else."""
    return Scheme(encoding.name, encoding)


_INT4, _INT8 = encodings.find("int4"), encodings.find("int8")
QUANTIZED = (
    *(Scheme(f"int4-g{group}", _INT4, 4, group) for group in (128, 64, 32)),
    *(Scheme(f"int4-g{group}-asym", _INT4, 4, group, symmetric=False) for group in (128, 64, 32)),
    Scheme("int8", _INT8, 8),
    Scheme("fp8", encodings.find("fp8"), 8),
)
"""Those of the weights of a Linear module, with their scales."""
PLAIN = tuple(plain(encodings.find(name)) for name in ("bf16", "fp16", "fp32"))
READABLE = (*codecs.PLAIN, "bf16")
"""Types of stored elements that become something else."""
SCHEMES = {scheme.name: scheme for scheme in (*QUANTIZED, *PLAIN)}
"""Every scheme by its name."""


def find(name: str) -> Scheme:
    """The scheme of this name.

    Raises:
        ConfigError: when there is none.
    """
    if name not in SCHEMES:
        raise ConfigError(f"the scheme {name[:100]!r}", f"one of {', '.join(SCHEMES)}", "name one of these")
    return SCHEMES[name]


def schemes_for(shape: tuple[int, ...], is_linear: bool, stored: Encoding) -> list[Scheme]:
    """What a tensor may become: first what it is, then whatever is smaller and fits.

    Schemes with zero points are left to those who name them: vLLM loads them, and transformers 5.23 with
    compressed-tensors 0.20 only where it is told to `dequantize`.

    Args:
        shape: of the tensor.
        is_linear: whether it is the weight of a Linear module.
        stored: what its elements are now.

    Example:
        >>> [one.name for one in schemes_for((8, 96), True, encodings.find("bf16"))]
        ['bf16', 'int4-g32', 'int8', 'fp8']
        >>> [one.name for one in schemes_for((96,), False, encodings.find("fp32"))]
        ['fp32']
    """
    own = plain(stored)
    if len(shape) < 2 or stored.name not in READABLE:
        return [own]
    tried = (*QUANTIZED, *PLAIN) if is_linear else PLAIN
    size = own.size_bytes(shape)
    return [own, *(one for one in tried if one.symmetric and one.fits(shape) and one.size_bytes(shape) < size)]


def encode(rows: Values, scheme: Scheme, importance: Values | None = None) -> Parts:
    """The parts of rows of weights, apart from `weight_shape`, which belongs to the whole tensor.

    Ranges of 4-bit groups are searched for the least squared error, each column weighted with its importance; those of
    whole rows are the widest that occur.

    Args:
        rows: (rows, columns), fp32; of a scheme with zero points a multiple of 8 rows, but for the last of a tensor.
        scheme: one that fits the columns.
        importance: for each column, the mean square of what it is multiplied with.

    Raises:
        ConfigError: when a weight is no finite number, or too large for a plain type.

    Example:
        >>> parts = encode(np.array([[-127.0, 8.0, 0.0, 127.5]], dtype=np.float32), find("int8"))
        >>> parts["weight_packed"].view(np.uint8).tolist(), parts["weight_scale"].tolist()
        ([[1, 136, 128, 255]], [[16256]])
    """
    if scheme.bits is None:
        data = codecs.encode(rows, scheme.encoding)
        return {"weight": np.frombuffer(data, np.uint8).reshape(len(rows), -1)}
    if not np.isfinite(rows).all():
        raise ConfigError("a weight is no finite number", "numbers", "check the file with `weigh inspect --values`")
    step = max(8, _CHUNK // rows.shape[1] // 8 * 8)
    found = [_encoded(rows[first : first + step], scheme, importance) for first in range(0, len(rows), step)]
    return {name: np.concatenate([parts[name] for parts in found]) for name in found[0]}


def decode(parts: Mapping[str, NDArray[Any]], scheme: Scheme, columns: int) -> Values:
    """The weights of parts, (rows, columns) in fp32.

    Example:
        >>> rows = np.array([[-448.0, 30.0, 0.0, 17.0]], dtype=np.float32)
        >>> decode(encode(rows, find("fp8")), find("fp8"), 4).tolist()
        [[-448.0, 30.0, 0.0, 16.0]]
    """
    if scheme.bits is None:
        return codecs.decode(parts["weight"].tobytes(), scheme.encoding, columns)
    scale = codecs.decode(parts["weight_scale"].tobytes(), _BF16, parts["weight_scale"].shape[1])
    if not scheme.is_packed:
        values: Values = _fp8_values()[parts["weight"]] * scale
        return values
    found = _unpacked(parts["weight_packed"], scheme.bits, columns).astype(np.float32)
    grouped = found.reshape(len(found), scale.shape[1], -1)
    if not scheme.symmetric:
        grouped -= _unpacked(parts["weight_zero_point"].T, scheme.bits, len(found)).T[:, :, None]
    grouped *= scale[:, :, None]
    return found


def _encoded(rows: Values, scheme: Scheme, importance: Values | None) -> Parts:
    """The parts of a few rows."""
    grouped = rows.reshape(len(rows), -1, scheme.group or rows.shape[1])
    if not scheme.is_packed:
        scale = _rounded(np.abs(grouped).max(axis=-1) / _LARGEST_FP8, up=True)
        return {"weight": _fp8(rows / scale), "weight_scale": _bf16(scale)}
    assert scheme.bits is not None
    low, high = _ends(grouped, scheme)
    scale, zero = _scaled(low, high, scheme, up=True)
    if scheme.group is not None:
        with np.errstate(over="ignore", invalid="ignore"):  # an error that is no number is never the smaller one
            scale, zero = _searched(grouped, low, high, scale, zero, scheme, importance)
    whole = _quantized(grouped, scale, zero, scheme.bits).reshape(rows.shape)
    parts: Parts = {"weight_packed": _packed(whole, scheme.bits), "weight_scale": _bf16(scale)}
    if not scheme.symmetric:
        parts["weight_zero_point"] = np.ascontiguousarray(_packed(np.ascontiguousarray(zero.T), scheme.bits).T)
    return parts


def _ends(grouped: Values, scheme: Scheme) -> tuple[Values, Values]:
    """The range of each group, zero within it."""
    low, high = np.minimum(grouped.min(axis=-1), 0), np.maximum(grouped.max(axis=-1), 0)
    if scheme.symmetric:
        high = np.maximum(-low, high)
        low = -high
    return low, high


def _scaled(low: Values, high: Values, scheme: Scheme, *, up: bool) -> tuple[Values, Values]:
    """The scales and zero points that ranges ask for, as they are stored."""
    assert scheme.bits is not None
    steps = float((1 << scheme.bits) - 1)
    scale = _rounded(high / steps - low / steps, up=up)
    if scheme.symmetric:
        return scale, np.zeros_like(scale)
    half = 1 << (scheme.bits - 1)
    return scale, np.clip(np.rint(-half - low / scale), -half, half - 1)


def _quantized(grouped: Values, scale: Values, zero: Values, bits: int) -> Values:
    """Whole numbers in fp32; the order of the steps is that of compressed-tensors."""
    found: Values = grouped / scale[:, :, None]
    found += zero[:, :, None]
    np.clip(found, -(1 << (bits - 1)), (1 << (bits - 1)) - 1, out=found)
    np.rint(found, out=found)
    return found


def _searched(
    grouped: Values, low: Values, high: Values, scale: Values, zero: Values, scheme: Scheme, importance: Values | None
) -> tuple[Values, Values]:  # fmt: skip
    """For each group the range with the least squared error among the widest and what is tried."""
    assert scheme.bits is not None
    weights = None if importance is None else importance.astype(np.float32).reshape(1, grouped.shape[1], -1)
    best: Values | None = None
    for ratio in (None, *RATIOS):
        one, other = (scale, zero) if ratio is None else _scaled(low * ratio, high * ratio, scheme, up=False)
        apart = _quantized(grouped, one, other, scheme.bits)
        apart -= other[:, :, None]
        apart *= one[:, :, None]
        apart -= grouped
        np.square(apart, out=apart)
        if weights is not None:
            apart *= weights
        lost = apart.sum(axis=-1)
        if best is None:
            best = lost
        else:
            is_less = lost < best
            best = np.where(is_less, lost, best)
            scale, zero = np.where(is_less, one, scale), np.where(is_less, other, zero)
    return scale, zero


def _rounded(scale: Values, *, up: bool) -> Values:
    """Scales as bf16 can hold them, none of them zero: what is divided by a scale stays a number."""
    bits = np.maximum(scale, _SMALLEST).astype(np.float32).view(np.uint32)
    bits = bits + (0xFFFF if up else 0x7FFF + ((bits >> 16) & 1))
    return (bits & np.uint32(0xFFFF0000)).view(np.float32)


def _bf16(values: Values) -> NDArray[np.uint16]:
    return (values.view(np.uint32) >> 16).astype("<u2")


def _packed(whole: Values, bits: int) -> NDArray[np.int32]:
    """Rows of whole numbers as words, the first in the lowest bits; what a word has left is zero."""
    rows, columns = whole.shape
    per_word = 32 // bits
    wide = np.zeros((rows, -(-columns // per_word) * per_word), np.uint8)
    wide[:, :columns] = whole + (1 << (bits - 1))
    if bits == 4:
        wide = wide[:, ::2] | (wide[:, 1::2] << 4)
    return wide.view("<i4")


def _unpacked(words: NDArray[np.int32], bits: int, columns: int) -> NDArray[np.int16]:
    """Rows of whole numbers from words."""
    found = np.ascontiguousarray(words).view(np.uint8)
    if bits == 4:
        found = np.stack((found & 0xF, found >> 4), axis=-1).reshape(len(found), -1)
    return found[:, :columns].astype(np.int16) - (1 << (bits - 1))


def _fp8(values: Values) -> NDArray[np.uint8]:
    """E4M3 codes of values up to 448, rounded to the nearest, halves to even (OCP 8-bit floating point, E4M3)."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    size = bits & 0x7FFFFFFF
    normal = ((size + 0x7FFFF + ((size >> 20) & 1)) >> 20).astype(np.int32) - (120 << 3)
    small = np.rint(np.minimum(np.abs(values), 1) * 512).astype(np.int32)  # steps of 2^-9 below 2^-6
    code = np.minimum(np.where(np.abs(values) < 2**-6, small, normal), 0x7E)
    signed: NDArray[np.uint8] = (code | ((bits >> 24) & 0x80)).astype(np.uint8)
    return signed


@functools.cache
def _fp8_values() -> Values:
    """What each of the 256 codes stands for; the two that stand for no number are NaN."""
    code = np.arange(256)
    power, rest = (code >> 3) & 15, code & 7
    size = np.where(power == 0, rest * 2.0**-9, (8 + rest) * 2.0 ** (power - 10.0))
    size[(code & 0x7F) == 0x7F] = np.nan
    return np.where(code & 0x80, -size, size).astype(np.float32)
