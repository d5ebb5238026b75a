"""How many bytes do so many weights take, in one encoding?

An encoding packs a fixed number of elements into a block of a fixed number of bytes. GGUF's blocks run along rows, so
that a row must be a whole number of blocks; the plain types have blocks of one element. Scales that lie inside a
block are counted here; scales that lie beside the tensor belong to a recipe.

Sources: ggml's `ggml-common.h` and `ggml.h` (block structures and type numbers, release of 2026-11), the
safetensors format (element types), bitsandbytes (NF4 blocks of 64 with one fp32 scale), the OCP Microscaling
specification 1.0 (MXFP4), NVIDIA's NVFP4 (blocks of 16 with one FP8 scale, one fp32 scale a tensor).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from weighbridge.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Encoding:
    """A way to store elements: `elements_per_block` of them in `bytes_per_block` bytes.

    `bytes_per_tensor` is a constant beside the blocks (the one scale of an NVFP4 tensor). `is_float` says whether an
    element stands for a real number (then it can be a parameter) or for an index, a mask or a packed word.
    """

    name: str
    elements_per_block: int
    bytes_per_block: int
    is_float: bool = True
    gguf_type: int | None = None
    bytes_per_tensor: int = 0
    aliases: tuple[str, ...] = ()

    @property
    def bits_per_weight(self) -> float:
        """Bits for one element of a long row, block overhead included.

        Example:
            >>> find("q4_k").bits_per_weight, find("mxfp4").bits_per_weight
            (4.5, 4.25)
        """
        return self.bytes_per_block * 8 / self.elements_per_block

    def fits(self, row_elements: int) -> bool:
        """Whether rows of this length are whole numbers of blocks. Two-to-a-byte types may leave half a byte over."""
        return self.elements_per_block <= 8 or row_elements % self.elements_per_block == 0

    def size_bytes(self, shape: Sequence[int]) -> int:
        """Bytes of a tensor of this shape, whose last axis is the row.

        Raises:
            ValueError: when the row is not a whole number of blocks.

        Example:
            >>> find("q4_k").size_bytes((2, 512)), find("bf16").size_bytes((3, 5)), find("int4").size_bytes((3,))
            (576, 30, 2)
        """
        elements = math.prod(shape)
        if not self.fits(shape[-1] if shape else 1):
            raise ValueError(f"a row of {shape[-1]} is not a whole number of {self.name} blocks")
        blocks = -(-elements // self.elements_per_block)
        return blocks * self.bytes_per_block + self.bytes_per_tensor


def _gguf(name: str, gguf_type: int, elements: int, size: int) -> Encoding:
    return Encoding(name, elements, size, gguf_type=gguf_type)


_TABLE = (
    Encoding("fp64", 1, 8, gguf_type=28, aliases=("f64", "float64", "double")),
    Encoding("fp32", 1, 4, gguf_type=0, aliases=("f32", "float32", "float", "all_f32")),
    Encoding("fp16", 1, 2, gguf_type=1, aliases=("f16", "float16", "half")),
    Encoding("bf16", 1, 2, gguf_type=30, aliases=("bfloat16",)),
    Encoding("fp8", 1, 1, aliases=("f8_e4m3", "fp8_e4m3", "float8_e4m3fn", "f8_e4m3fn", "float8", "f8")),
    Encoding("fp8_e4m3fnuz", 1, 1, aliases=("f8_e4m3fnuz", "float8_e4m3fnuz")),
    Encoding("fp8_e5m2", 1, 1, aliases=("f8_e5m2", "float8_e5m2")),
    Encoding("fp8_e5m2fnuz", 1, 1, aliases=("f8_e5m2fnuz", "float8_e5m2fnuz")),
    Encoding("fp8_e8m0", 1, 1, aliases=("f8_e8m0", "float8_e8m0fnu")),
    Encoding("fp6_e2m3", 4, 3, aliases=("f6_e2m3",)),
    Encoding("fp6_e3m2", 4, 3, aliases=("f6_e3m2",)),
    Encoding("fp4", 2, 1, aliases=("f4", "float4_e2m1fn_x2")),
    Encoding("complex64", 1, 8, aliases=("c64",)),
    Encoding("complex128", 1, 16, aliases=("c128",)),
    Encoding("int64", 1, 8, is_float=False, gguf_type=27, aliases=("i64", "long")),
    Encoding("int32", 1, 4, is_float=False, gguf_type=26, aliases=("i32", "int")),
    Encoding("int16", 1, 2, is_float=False, gguf_type=25, aliases=("i16", "short")),
    Encoding("int8", 1, 1, is_float=False, gguf_type=24, aliases=("i8", "w8")),
    Encoding("uint64", 1, 8, is_float=False, aliases=("u64",)),
    Encoding("uint32", 1, 4, is_float=False, aliases=("u32",)),
    Encoding("uint16", 1, 2, is_float=False, aliases=("u16",)),
    Encoding("uint8", 1, 1, is_float=False, aliases=("u8", "byte")),
    Encoding("bool", 1, 1, is_float=False),
    Encoding("int4", 2, 1, is_float=False, aliases=("i4", "w4")),
    Encoding("uint4", 2, 1, is_float=False, aliases=("u4",)),
    Encoding("int2", 4, 1, is_float=False, aliases=("i2",)),
    Encoding("uint2", 4, 1, is_float=False, aliases=("u2",)),
    Encoding("uint1", 8, 1, is_float=False, aliases=("u1",)),
    Encoding("nf4", 64, 36, aliases=("bnb_nf4",)),
    Encoding("mxfp4", 32, 17, gguf_type=39),
    Encoding("nvfp4", 16, 9, bytes_per_tensor=4),
    _gguf("nvfp4_gguf", 40, 64, 36),
    _gguf("q4_0", 2, 32, 18), _gguf("q4_1", 3, 32, 20), _gguf("q5_0", 6, 32, 22), _gguf("q5_1", 7, 32, 24),
    _gguf("q8_0", 8, 32, 34), _gguf("q8_1", 9, 32, 40),
    _gguf("q2_k", 10, 256, 84), _gguf("q3_k", 11, 256, 110), _gguf("q4_k", 12, 256, 144),
    _gguf("q5_k", 13, 256, 176), _gguf("q6_k", 14, 256, 210), _gguf("q8_k", 15, 256, 292),
    _gguf("iq2_xxs", 16, 256, 66), _gguf("iq2_xs", 17, 256, 74), _gguf("iq3_xxs", 18, 256, 98),
    _gguf("iq1_s", 19, 256, 50), _gguf("iq4_nl", 20, 32, 18), _gguf("iq3_s", 21, 256, 110),
    _gguf("iq2_s", 22, 256, 82), _gguf("iq4_xs", 23, 256, 136), _gguf("iq1_m", 29, 256, 56),
    _gguf("tq1_0", 34, 256, 54), _gguf("tq2_0", 35, 256, 66),
    _gguf("q1_0", 41, 128, 18), _gguf("q2_0", 42, 64, 18),
)  # fmt: skip

ENCODINGS: dict[str, Encoding] = {encoding.name: encoding for encoding in _TABLE}
"""Every encoding by its name."""

BY_GGUF_TYPE: dict[int, Encoding] = {e.gguf_type: e for e in _TABLE if e.gguf_type is not None}
"""Every encoding of a GGUF file by its type number in the header."""

_SPELLINGS = {spelling: encoding for encoding in _TABLE for spelling in (encoding.name, *encoding.aliases)}


def plain_spelling(name: str) -> str:
    """A name without the differences that people and tools put in: case, blanks, dashes, prefixes.

    Example:
        >>> plain_spelling("Q4_K - Medium"), plain_spelling("torch.BFloat16"), plain_spelling("IQ3_XS - 3.3 bpw")
        ('q4_k_m', 'bfloat16', 'iq3_xs')
    """
    name = name.strip().lower().removeprefix("torch.").removeprefix("mostly_").removeprefix("mostly ")
    name = re.sub(r"\s*-\s*[0-9.]+\s*bpw.*$", "", name)
    name = re.sub(r"\s*-\s*(small|medium|large)$", lambda match: "_" + match[1][0], name)
    return re.sub(r"[\s-]+", "_", name)


def find(name: str) -> Encoding:
    """The encoding of this name, in any common spelling.

    Raises:
        UnknownNameError: for a name in no table; it lists the nearest ones.

    Example:
        >>> find("float16").name, find("BF16").name, find("F8_E4M3").name
        ('fp16', 'bf16', 'fp8')
    """
    encoding = _SPELLINGS.get(plain_spelling(name))
    if encoding is None:
        raise UnknownNameError("encoding", name, _SPELLINGS, "run `weigh encodings` for the whole list")
    return encoding
