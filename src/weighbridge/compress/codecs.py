"""What bytes do weights become in an encoding, and what numbers are they then?

Block encodings are ggml's own, through the shared object of the wheel `xllamacpp`: `ggml_quantize_chunk` encodes rows,
with an importance for each column where one is known, and the function `to_float` of a type decodes them
(`ggml/include/ggml.h`, `ggml/src/ggml-quants.c`). Where that wheel cannot be had, the wheel `libgguf`, which is made
of the same C files, does both. Before a type is used its block size there is held against ours.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.hardware.ggml import library
from weighbridge.model.encodings import Encoding

Values = NDArray[np.float32]
Bytes = NDArray[np.uint8]
_DECODE = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
LARGEST, LARGEST_IMPORTANCE = 65504.0 * 4096, 1e20
"""Of what blocks are made of: a scale in fp16 times the widest numbers reaches no further. Beyond either the sums of
ggml's encoders leave fp32, and those of the `iq2` and `iq3` types then end the process."""
PLAIN = {"fp32": "<f4", "fp16": "<f2", "fp64": "<f8"}


class Engine(Protocol):
    """What encodes and decodes blocks. A type is GGUF's number; arrays are contiguous, and those to fill are given."""

    name: str

    def block(self, kind: int) -> tuple[int, int]:
        """Elements and bytes of a block; (0, 0) for a type that is not known."""

    def needs_importance(self, kind: int) -> bool:
        """Whether a type cannot be made without an importance for each column."""

    def encode(self, kind: int, rows: Values, importance: Values | None, data: Bytes) -> None:
        """Fills `data` with the blocks of (rows, columns)."""

    def decode(self, kind: int, data: Bytes, rows: Values) -> bool:
        """Fills (rows, columns) with the weights; False when the type has no way back."""


class _Traits(ctypes.Structure):
    _fields_ = (("name", ctypes.c_char_p), ("block", ctypes.c_int64), ("interleaved", ctypes.c_int64),
                ("size", ctypes.c_size_t), ("is_quantized", ctypes.c_bool), ("to_float", _DECODE),
                ("from_float", ctypes.c_void_p))  # fmt: skip


class Ggml:
    """ggml in the shared object of `xllamacpp`."""

    name = "xllamacpp"

    def __init__(self) -> None:
        """Loads it.

        Raises:
            ConfigError: when the wheel is not installed.
        """
        self._ggml = ggml = library()
        pointer, number = ctypes.c_void_p, ctypes.c_int64
        ggml.ggml_get_type_traits.restype = ctypes.POINTER(_Traits)
        ggml.ggml_get_type_traits.argtypes = (ctypes.c_int,)
        ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
        ggml.ggml_quantize_chunk.argtypes = (ctypes.c_int, pointer, pointer, number, number, number, pointer)
        ggml.ggml_quantize_requires_imatrix.restype = ctypes.c_bool
        ggml.ggml_quantize_requires_imatrix.argtypes = (ctypes.c_int,)

    def _traits(self, kind: int) -> _Traits:
        found: _Traits = self._ggml.ggml_get_type_traits(kind).contents
        return found

    def block(self, kind: int) -> tuple[int, int]:
        """Elements and bytes of a block."""
        found = self._traits(kind)
        return found.block, found.size

    def needs_importance(self, kind: int) -> bool:
        """Whether `ggml_quantize_chunk` ends the process when it is given none."""
        return bool(self._ggml.ggml_quantize_requires_imatrix(kind))

    def encode(self, kind: int, rows: Values, importance: Values | None, data: Bytes) -> None:
        """Through `ggml_quantize_chunk`."""
        weights = None if importance is None else importance.ctypes.data
        made = self._ggml.ggml_quantize_chunk(kind, rows.ctypes.data, data.ctypes.data, 0, *rows.shape, weights)
        assert made == data.size, (made, data.size)

    def decode(self, kind: int, data: Bytes, rows: Values) -> bool:
        """Through `to_float`."""
        to_float = self._traits(kind).to_float
        if to_float:
            to_float(data.ctypes.data, rows.ctypes.data, rows.size)
        return bool(to_float)


class Libgguf:
    """The wheel `libgguf`, for machines that `xllamacpp` has no wheel for."""

    name = "libgguf"

    def __init__(self) -> None:
        """Loads it.

        Raises:
            ImportError: when the wheel is not installed.
        """
        self._libgguf: Any = importlib.import_module("libgguf")

    def block(self, kind: int) -> tuple[int, int]:
        """Elements and bytes of a block."""
        return self._libgguf.GGML_QUANT_SIZES.get(kind, (0, 0))  # type: ignore[no-any-return]

    def needs_importance(self, kind: int) -> bool:
        """As ggml says."""
        return bool(self._libgguf.quantize_requires_imatrix(kind))

    def encode(self, kind: int, rows: Values, importance: Values | None, data: Bytes) -> None:
        """Through `quantize_rows_into_raw`."""
        self._libgguf.quantize_rows_into_raw(kind, rows, data, *rows.shape, importance)

    def decode(self, kind: int, data: Bytes, rows: Values) -> bool:
        """Through `dequantize_rows_into_raw`."""
        try:
            self._libgguf.dequantize_rows_into_raw(kind, data, rows, *rows.shape)
        except ValueError:
            return False
        return True


@functools.cache
def engine() -> Engine:
    """What encodes blocks here: ggml in `xllamacpp`, else `libgguf`.

    Raises:
        ConfigError: when neither is installed.
    """
    try:
        return Ggml()
    except ConfigError as missing:
        try:
            return Libgguf()
        except ImportError:
            raise ConfigError("neither xllamacpp nor libgguf is installed, which encode blocks of weights",
                              "the extra `run`", "run: pip install 'weighbridge[run]'") from missing  # fmt: skip


def _known(encoding: Encoding) -> int:
    """GGUF's number of an encoding whose blocks the engine knows as we do."""
    kind = encoding.gguf_type
    if kind is None:
        raise ConfigError(f"{encoding.name} is no encoding of GGUF", "one that is", "see `weigh encodings`")
    found = engine().block(kind)
    if found != (encoding.elements_per_block, encoding.bytes_per_block):
        read = f"this {engine().name} has {found[0]} elements in {found[1]} bytes as type {kind}"
        raise ConfigError(read, f"{encoding.elements_per_block} in {encoding.bytes_per_block}, {encoding.name}",
                          f"install another release of {engine().name}")  # fmt: skip
    return kind


def needs_importance(encoding: Encoding) -> bool:
    """Whether an encoding cannot be made without an importance for each column."""
    return engine().needs_importance(_known(encoding))


def encode(rows: Values, encoding: Encoding, importance: Values | None = None) -> bytes:
    """The bytes of rows of weights.

    Args:
        rows: (rows, columns), fp32.
        encoding: a plain type, or one of GGUF's whose blocks fit the columns.
        importance: for each column, larger where an error costs more.

    Raises:
        ConfigError: when the encoding is not known to the engine or needs an importance, when the importance does not
            fit the columns, or when a weight is no finite number.

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
        short = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
        if ((short & 0x7F80) == 0x7F80).any():
            raise ConfigError("a weight is too large for bf16", "a type that reaches it", "choose fp32")
        return short.tobytes()
    kind = _known(encoding)
    if importance is None and engine().needs_importance(kind):
        raise ConfigError(f"there is no importance matrix, which {encoding.name} cannot do without", "one",
                          "make one, or choose another encoding")  # fmt: skip
    if importance is not None and importance.shape != rows.shape[1:]:
        read = f"the importance has the shape {importance.shape}"
        raise ConfigError(read, f"one number for each of {rows.shape[1]} columns", "name the matrix of this model")
    if np.abs(rows).max(initial=0.0) > LARGEST:
        raise ConfigError(f"a weight is too large for {encoding.name}", "a type that reaches it", "choose bf16")
    if importance is not None and not (importance <= LARGEST_IMPORTANCE).all():
        raise ConfigError(f"an importance of {importance.max():g}", f"numbers up to {LARGEST_IMPORTANCE:g}",
                          "make the matrix again")  # fmt: skip
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    data = np.empty(encoding.size_bytes(rows.shape), dtype=np.uint8)
    weights = None if importance is None else np.ascontiguousarray(importance, dtype=np.float32)
    engine().encode(kind, rows, weights, data)
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
    given = np.frombuffer(data, np.uint8)
    found = np.empty(
        (len(data) // encoding.bytes_per_block * encoding.elements_per_block // columns, columns), np.float32
    )
    if not engine().decode(_known(encoding), given, found):
        raise ConfigError(f"{encoding.name} cannot be decoded", "weights that can be read", "name another file")
    return found
