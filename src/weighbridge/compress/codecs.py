"""What bytes do weights become in an encoding, and what numbers are they then?

Block encodings are ggml's own, through the shared object of the wheel `xllamacpp`: `ggml_quantize_chunk` encodes rows,
with an importance for each column where one is known, and the function `to_float` of a type decodes them
(`ggml/include/ggml.h`, `ggml/src/ggml-quants.c`). Before a type is used its block size there is held against ours.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.hardware.ggml import library
from weighbridge.model.encodings import Encoding

Values = NDArray[np.float32]
_DECODE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
PLAIN = {"fp32": "<f4", "fp16": "<f2", "fp64": "<f8"}


class _Traits(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleaved", ctypes.c_int64),
                ("size", ctypes.c_size_t), ("is_quantized", ctypes.c_bool), ("to_float", _DECODE),
                ("from_float", ctypes.c_void_p))  # fmt: skip


@functools.cache
def _ggml() -> Any:
    ggml = library()
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    ggml.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
    ggml.ggml_get_type_traits.argtypes = (ctypes.c_int,)
    ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
    ggml.ggml_quantize_chunk.argtypes = (ctypes.c_int, pointer, pointer, number, number, number, pointer)
    ggml.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
    ggml.ggml_quantize_requires_imatrix.argtypes = (ctypes.c_int,)
    return ggml


@functools.cache
def _traits(encoding: Encoding) -> _Traits:
    if encoding.gguf_type is None:
        raise ConfigError(f"{encoding.name} is no encoding of GGUF", "one that is", "see `weigh encodings`")
    found: _Traits = _ggml().ggml_get_type_traits(encoding.gguf_type).contents
    if (found.block, found.size) != (encoding.elements_per_block, encoding.bytes_per_block):
        read = f"this xllamacpp has {found.block} elements in {found.size} bytes as type {encoding.gguf_type}"
        raise ConfigError(read, f"{encoding.elements_per_block} in {encoding.bytes_per_block}, {encoding.name}",
                          "install another release of xllamacpp")  # fmt: skip
    return found


def needs_importance(encoding: Encoding) -> bool:
    """Whether an encoding cannot be made without an importance for each column."""
    return bool(_ggml().ggml_quantize_requires_imatrix(_traits(encoding) and encoding.gguf_type))


def encode(rows: Values, encoding: Encoding, importance: Values | None = None) -> bytes:
    """The bytes of rows of weights.

    Args:
        rows: (rows, columns), fp32.
        encoding: a plain type, or one of GGUF's whose blocks fit the columns.
        importance: for each column, larger where an error costs more.

    Raises:
        ConfigError: when the encoding is not known to the engine, or a weight is no finite number.

    Example:
        >>> from weighbridge.model.encodings import find
        >>> encode(np.array([[1.0, -2.0]], dtype=np.float32), find("fp16")).hex()
        '003c00c0'
    """
    if not np.isfinite(rows).all():
        raise ConfigError("a weight is no finite number", "numbers", "check the file with `weigh inspect --values`")
    if encoding.name in PLAIN:
        with np.errstate(over="ignore"):
            found = rows.astype(PLAIN[encoding.name])
        if not np.isfinite(found).all():
            raise ConfigError(f"a weight is too large for {encoding.name}", "a type that reaches it", "choose bf16")
        return found.tobytes()
    if encoding.name == "bf16":
        bits = rows.view(np.uint32)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2").tobytes()
    _traits(encoding)
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    data = np.empty(encoding.size_bytes(rows.shape), dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    made = _ggml().ggml_quantize_chunk(encoding.gguf_type, rows.ctypes.data, data.ctypes.data, 0, len(rows),
                                       rows.shape[1], None if weights is None else weights.ctypes.data)  # fmt: skip
    assert made == len(data), (made, len(data))
    return data.tobytes()


def decode(data: bytes, encoding: Encoding, columns: int) -> Values:
    """The weights of bytes, as rows of so many columns.

    Example:
        >>> from weighbridge.model.encodings import find
        >>> decode(bytes.fromhex("803f00c0"), find("bf16"), 2).tolist()
        [[1.0, -2.0]]
    """
    if encoding.name in PLAIN:
        return np.frombuffer(data, PLAIN[encoding.name]).astype(np.float32).reshape(-1, columns)
    if encoding.name == "bf16":
        wide = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(-1, columns)
    traits = _traits(encoding)
    if not traits.to_float:
        raise ConfigError(f"{encoding.name} cannot be decoded", "weights that can be read", "name another file")
    given = np.frombuffer(data, np.uint8)
    found = np.empty(len(data) // encoding.bytes_per_block * encoding.elements_per_block, dtype=np.float32)
    traits.to_float(given.ctypes.data, found.ctypes.data, found.size)
    return found.reshape(-1, columns)
