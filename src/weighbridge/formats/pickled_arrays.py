"""Which NumPy arrays does a pickle hold (.pkl, .pickle, .sav, .joblib)? Nothing in it is ever run.

The pickle is walked over symbols (`pickle_symbols`). An array is one of these calls, whose bytes are stepped over:

    _reconstruct(type, (0,), b"b") and the state (1, shape, dtype, is_fortran, bytes)       protocols 2 to 4
    _frombuffer(bytes, dtype, shape, order)                                                 protocol 5
    a joblib NumpyArrayWrapper; the bytes follow in the stream, after a count of padding and the padding

joblib packs a whole stream with zlib or gzip, where it is asked to; it is then inflated from the beginning. Its other
packings, and the files of joblib before 0.10, whose arrays lie in files beside, are refused.

Names are the paths of attributes, keys and places: `coef_`, `steps.0.1.idf_`. No library is at hand to say what of a
pickled object is learned, so that every floating-point array counts as a parameter. An array of records gives one
tensor for each field of numbers. NumPy's scalars, and arrays of text, dates and long doubles are left out; those of
objects are walked as lists.

`Checkpoint.metadata` holds `foreign_names`, the classes that the library would import, `aliases` and `values` as
those of `torch_zip`.

Sources: numpy/numpy, 2.3: `array_reduce_ex` and `array_setstate` in `multiarray/methods.c`, `arraydescr_setstate` in
`multiarray/descriptor.c`; joblib/joblib, 1.6: `numpy_pickle.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import torch_storages
from weighbridge.formats.byte_source import ByteSource, Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.pickle_stream import InflatedStream, SourceStream, Stream
from weighbridge.formats.pickle_symbols import (
    BUILTINS,
    DO_NOT_USE,
    GET_AGAIN,
    PLAIN_NAMES,
    Name,
    Node,
    Paths,
    Stretch,
    Walk,
    kept_values,
)
from weighbridge.formats.torch_pickle import MAX_DIMS, Storage, Tensor
from weighbridge.formats.torch_storages import Opened
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import TensorSpec

PIECE_BYTES = 1 << 20

_NUMPY = ("numpy.core", "numpy._core")
_RECONSTRUCT = frozenset(f"{core}.multiarray._reconstruct" for core in _NUMPY)
_FROM_BUFFER = frozenset(f"{core}.numeric._frombuffer" for core in _NUMPY)
_SCALAR = frozenset(f"{core}.multiarray.scalar" for core in _NUMPY)
_BYTES = frozenset(f"{module}.{kind}" for module in BUILTINS for kind in ("bytes", "bytearray"))
_EXTRA_TYPES = {
    f"ml_dtypes.{name}": encodings.find(name)
    for name in ("bfloat16", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
}
_TYPES = {
    code: encodings.find(name)
    for code, name in {
        "f2": "fp16", "f4": "fp32", "f8": "fp64", "c8": "complex64", "c16": "complex128", "b1": "bool", "i1": "int8",
        "i2": "int16", "i4": "int32", "i8": "int64", "u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64",
    }.items()
}  # fmt: skip
_SCALAR_BITS = {"float": (16, 32, 64), "int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "complex": (64, 128)}
_WRAPPER, _OLD_WRAPPERS = ".numpy_pickle.NumpyArrayWrapper", ("NDArrayWrapper", "ZNDArrayWrapper")
_HARMLESS = (
    PLAIN_NAMES | _RECONSTRUCT | _FROM_BUFFER | _SCALAR | frozenset(_EXTRA_TYPES)
    | {"numpy.ndarray", "numpy.dtype", "numpy.matrix", "joblib.numpy_pickle.NumpyArrayWrapper"}
    | {f"numpy.{kind}{bits}" for kind, sizes in _SCALAR_BITS.items() for bits in sizes}
)  # fmt: skip
_PACKED = {
    b"BZh": "bz2",
    b"\xfd7zXZ": "xz",
    b"\x5d\0\0": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"ZF": "joblib before 0.10",
}
_SAVE_AGAIN = "load it where it is trusted and save its arrays with numpy.savez or safetensors"


class DType:
    """The type of an array's elements. Filled in by the state that follows it, as other objects may hold it already.

    `encoding` is that of numbers; None for objects, text, records and the rest.
    """

    __slots__ = ("encoding", "fields", "has_objects", "is_big", "item_bytes")

    def __init__(self, encoding: Encoding | None, item_bytes: int, has_objects: bool, is_big: bool) -> None:
        self.encoding, self.item_bytes, self.has_objects, self.is_big = encoding, item_bytes, has_objects, is_big
        self.fields: tuple[tuple[str, DType, int], ...] = ()
        """Name, type and place of the fields of a record."""


class Array(Node):
    """An array: where its bytes lie in the stream, or the text that they are the characters of.

    One of objects is a list. One that has no type yet was never filled.
    """

    __slots__ = ("data", "dtype", "is_fortran", "shape")

    def __init__(self) -> None:
        super().__init__(None, [], "numpy.ndarray")
        self.dtype: DType | None = None
        self.shape: tuple[int, ...] = ()
        self.is_fortran = False
        self.data: Stretch | str | None = None


def read(folder: Folder, name: str) -> Checkpoint:
    """The arrays of one pickle.

    Raises:
        FormatError: for damage, for packings that are not read, and for pickles without an array.
        SourceError: when the file cannot be read.

    Example:
        >>> import pickle, numpy
        >>> from weighbridge.formats.byte_source import MemoryFolder
        >>> model = pickle.dumps({"coef_": numpy.zeros((2, 3))})
        >>> [(t.name, t.shape, t.encoding.name) for t in read(MemoryFolder({"a.pkl": model}), "a.pkl").tensors]
        [('coef_', (2, 3), 'fp64')]
    """
    return open_file(folder.open(name)).checkpoint


def pieces(folder: Folder, tensor: TensorSpec) -> Iterator[bytes]:
    """The elements of an array, its last axis running fastest, in pieces of at most 8 MiB.

    Raises:
        FormatError: when the file has no such array any more, or its values cannot be had.
        SourceError: when it cannot be read any more.
    """
    return torch_storages.tensor_pieces(folder, tensor, open_file)


def open_file(source: ByteSource) -> Opened:
    """The checkpoint of one pickle, and where its arrays lie.

    Raises:
        FormatError: as `read`.
    """
    head = source.read(0, min(16, source.size))
    for mark, packing in _PACKED.items():
        if head.startswith(mark):
            _fail(source.name, f"it is packed by {packing}", "a pickle, plain or packed by zlib or gzip", _SAVE_AGAIN)
    is_packed = head[:2] == b"\x1f\x8b" or (head[:1] == b"\x78" and int.from_bytes(head[:2], "big") % 31 == 0)
    if not is_packed and not (head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5")):
        _fail(source.name, f"it begins with {head[:4]!r}", "a pickle of protocol 2 to 5", "check that it is one")
    stream = InflatedStream(source) if is_packed else SourceStream(source)
    walk = ArrayWalk(f"{source.name}: its pickle", stream, source.size if is_packed else None)
    root = walk.run()
    paths = _ArrayPaths(walk.where, root, Array)
    foreign = tuple(sorted(walk.foreign))
    if not paths.found:
        named = f"names {', '.join(foreign[:3])} and " if foreign else ""
        what = f"{walk.where} {named}holds no array of numbers"
        raise FormatError(what, "NumPy arrays", "do not load it with pickle, which would run what it says")
    places = _ArrayPlaces(source, is_packed)
    tensors, left_out = _tensors(walk.where, paths, places)
    # One byte has no order; a file where all others are big-endian is a big-endian file.
    orders = {big for _, tensor, big in tensors if tensor.encoding.bytes_per_block > 1}
    every_big = orders == {True}
    places.unreadable.update(tensor.storage.key for _, tensor, big in tensors if big and not every_big)
    notes = [_warning(foreign)]
    if left_out:
        shown = ", ".join(left_out[:5]) + (" ..." if len(left_out) > 5 else "")
        notes.append(f"arrays of text, dates or other types were left out ({len(left_out):,}): {shown}")
    rest = 0 if is_packed else source.size - stream.tell()
    if rest:
        notes.append(f"{rest:,} bytes after the pickle were not read")
    if is_packed:
        notes.append("it is packed, so that header and arrays are not told apart")
    stored = source.size if is_packed else sum(walk.stretches.values())
    header = source.size - stored - walk.padding * (not is_packed)
    checkpoint = Checkpoint(
        source.name, "pickle",
        (StoredFile(file_name(source), source.size, header, stored, source.size - header - stored),),
        _specs(source, tensors, places, every_big),
        metadata={"foreign_names": foreign, "aliases": paths.aliases, "values": kept_values(root)},
        digest=stream.digest(), notes=tuple(notes), byte_order="big" if every_big else "little",
    )  # fmt: skip
    return Opened(checkpoint, {name: tensor for name, tensor, _ in tensors}, places)


class ArrayWalk(Walk):
    """The walk that knows arrays, their types and joblib's wrappers; `is_inner` is that of an array of objects in it.

    `stretches` are the bytes of arrays, where each begins and how many; `padding` counts those that align them.
    """

    harmless = _HARMLESS

    def __init__(self, where: str, stream: Stream, stored_bytes: int | None = None, is_inner: bool = False) -> None:
        super().__init__(where, stream, stored_bytes)
        self.is_inner = is_inner
        self.stretches: dict[int, int] = {}
        self.padding = 0
        self.inner_opcodes = self.most_opcodes

    def call(self, callee: Any, arguments: Any) -> Any:
        """What a call would give: an empty array, a type, or an opaque node. Nothing is called."""
        name = callee.name if isinstance(callee, Name) else ""
        if name.rpartition(".")[2] in _OLD_WRAPPERS and "numpy_pickle" in name:
            self.fail("has its arrays in files beside it, as joblib before 0.10 wrote", "one file", _SAVE_AGAIN)
        match arguments:
            case (str(code) | Name(name=code), *_) if name == "numpy.dtype":
                return self.dtype(code)
            case (Stretch() | str() as data, DType() as dtype, tuple(shape), order) if name in _FROM_BUFFER:
                return self.filled(Array(), shape, dtype, order == "F", data)
            # Protocol 2 writes bytes as text, and none as a call without arguments.
            case (str() | Stretch() as data, *_) if name == "_codecs.encode" or name in _BYTES:
                return data
            case () if name in _BYTES:
                return ""
            case _ if name in _RECONSTRUCT:
                return Array()
            case _ if name in _SCALAR:
                return None
        return super().call(callee, arguments)

    def build(self, target: Any, state: Any) -> Any:
        """An array or a type with its state; joblib's wrapper becomes the array whose bytes follow."""
        if isinstance(target, DType):
            self.complete(target, state)
        elif isinstance(target, Array):
            match state:
                case (int(), tuple(shape), DType() as dtype, is_fortran, data) | (
                    tuple(shape), DType() as dtype, is_fortran, data
                ):  # fmt: skip
                    self.filled(target, shape, dtype, bool(is_fortran), data)
                case _:
                    self.fail("has an array with another state than NumPy's")
        elif isinstance(target, Node) and target.name.endswith(_WRAPPER):
            return self.wrapped(state)
        else:
            return super().build(target, state)
        return target

    def dtype(self, code: str) -> DType:
        """The type of this code, such as f8 or <i4."""
        if code in _EXTRA_TYPES:
            return DType(_EXTRA_TYPES[code], _EXTRA_TYPES[code].bytes_per_block, False, False)
        plain = code.lstrip("<>=|")
        digits = plain[1:]
        size = int(digits) if digits.isdecimal() and digits.isascii() and len(digits) < 10 else 0
        size *= 4 if plain[:1] == "U" else 1
        return DType(_TYPES.get(plain), size, plain[:1] == "O", code[:1] == ">")

    def complete(self, dtype: DType, state: Any) -> None:
        """Byte order, fields and size of a type."""
        match state:
            case (int(), str(order), None, None, None, *_):
                dtype.is_big = order == ">" and dtype.item_bytes > 1
            case (int(), str(), None, tuple(names), Node() as fields, int(size), *_) if fields.keys is not None:
                known = dict(zip((str(key)[:1000] for key in fields.keys), fields.values, strict=True))
                made = []
                for name in names:
                    match known.get(name) if type(name) is str else None:
                        case (DType() as inner, int(place), *_) if 0 <= place <= place + inner.item_bytes <= size:
                            made.append((name, inner, place))
                        case _:
                            self.fail("has a type with a field that does not lie in it")
                dtype.fields, dtype.item_bytes = tuple(made), size
                dtype.has_objects = any(inner.has_objects for _, inner, _ in made)
            case (int(), str(), tuple(), None, None, int(size), *_) if size >= 0:
                dtype.encoding, dtype.item_bytes = None, size
            case (int(), str(), None, None, _, int(), *_):
                pass
            case _:
                self.fail("has a type with another state than NumPy's")

    def filled(self, array: Array, shape: tuple[Any, ...], dtype: DType, is_fortran: bool, data: Any) -> Array:
        """An array with its bytes, which must be as many as its shape says."""
        count = self.elements(shape)
        array.shape, array.dtype, array.is_fortran = shape, dtype, is_fortran
        if dtype.has_objects:
            array.values = data.values if isinstance(data, Node) and data is not array else []
            return array
        length = data.length if isinstance(data, Stretch) else len(data) if type(data) is str else -1
        if length != count * dtype.item_bytes:
            self.fail(f"has an array of {count:,} elements of {dtype.item_bytes} bytes in {length:,}", action=GET_AGAIN)
        array.data = data
        if isinstance(data, Stretch):
            self.stretches[data.begin] = length
        return array

    def elements(self, shape: tuple[Any, ...]) -> int:
        """The product of a shape."""
        if len(shape) > MAX_DIMS or not all(type(n) is int and 0 <= n < 2**63 for n in shape):
            self.fail("has an array whose shape is no counts")
        count: int = math.prod(shape)
        if count >= 2**63:
            self.fail("has an array whose shape is no counts")
        return count

    def wrapped(self, state: Any) -> Array:
        """The array of a joblib wrapper, whose bytes are the next of the stream."""
        parts = [state.get(key) for key in ("shape", "dtype", "order")] if isinstance(state, Node) else []
        match parts:
            case [tuple(shape), DType() as dtype, order] if not self.is_inner:
                pass
            case _:
                self.fail("has an array wrapper with another state than joblib's")
        array = Array()
        if dtype.has_objects:
            inner = ArrayWalk(self.where, self.stream, is_inner=True)
            inner.most_opcodes = self.inner_opcodes
            found = inner.run()
            self.inner_opcodes -= inner.used
            self.foreign |= inner.foreign
            self.stretches |= inner.stretches
            return found if isinstance(found, Array) else array
        padding = 0
        if state.get("numpy_array_alignment_bytes") is not None:
            padding = int.from_bytes(self.stream.read(1), "little")
            self.stream.skip(padding)
        length = self.elements(shape) * dtype.item_bytes
        data = Stretch(self.stream.tell(), length)
        self.stream.skip(length)
        self.padding += padding
        return self.filled(array, shape, dtype, order == "F", data)


class _ArrayPaths(Paths):
    """The paths to arrays of numbers and records."""

    def is_leaf(self, value: Any) -> bool:
        """Whether a value is an array that is no list of objects."""
        return isinstance(value, Array) and value.dtype is not None and not value.dtype.has_objects


@dataclass(frozen=True, slots=True)
class _ArrayPlaces:
    """The bytes of arrays, by the keys of their storages."""

    source: ByteSource
    is_packed: bool
    data: dict[str, Stretch | str] = field(default_factory=dict)
    unreadable: set[str] = field(default_factory=set)
    """Arrays whose values are not read: big-endian ones beside little-endian ones, fields of packed records."""

    def begin(self, storage: Storage) -> int | None:
        """Where the bytes begin in the file."""
        data = self.data[storage.key]
        return None if self.is_packed or isinstance(data, str) else data.begin

    def bytes(self, storage: Storage, begin: int, length: int) -> Iterator[bytes]:
        """A stretch of the bytes."""
        data = self.data[storage.key]
        if storage.key in self.unreadable:
            read_ = (
                "it has an array in another byte order than the rest, or a field that does not fit its record's size"
            )
            _fail(self.source.name, read_, "arrays of one byte order", _SAVE_AGAIN)
        if isinstance(data, str):
            yield data.encode("latin-1", "replace")[begin : begin + length]
        elif self.is_packed:
            try:
                yield from InflatedStream(self.source).stretch(data.begin + begin, length)
            except ValueError as error:
                _fail(self.source.name, f"it is damaged ({error})", "the file as it was", GET_AGAIN)
        else:
            for at in range(data.begin + begin, data.begin + begin + length, PIECE_BYTES):
                yield self.source.read(at, min(PIECE_BYTES, data.begin + begin + length - at))


def _tensors(where: str, paths: Paths, places: _ArrayPlaces) -> tuple[list[tuple[str, Tensor, bool]], list[str]]:
    """Name, view and whether it is big-endian of each array, or field of an array; and the names of those left out."""
    made: list[tuple[str, Tensor, bool]] = []
    left_out: list[str] = []
    keys: dict[tuple[int, int], Storage] = {}
    taken: set[str] = set()
    for path, array, _ in paths.found:
        dtype: DType = array.dtype
        parts = [("", dtype, 0)] if not dtype.fields else [("." + name, inner, at) for name, inner, at in dtype.fields]
        for part, inner, at in parts:
            name = path + part
            encoding = inner.encoding if not inner.fields else None
            if encoding is None or not name.isprintable() or len(name) > 2000:
                left_out.append(name[:200] if name.isprintable() else path)
                continue
            if name in taken:
                raise FormatError(f"{where} has two arrays named {name[:100]!r}", "names of their own", DO_NOT_USE)
            taken.add(name)
            made.append((name, _view(array, encoding, dtype.item_bytes, at, keys, places), inner.is_big))
    return made, left_out


def _view(
    array: Array, encoding: Encoding, item: int, at: int, keys: dict[tuple[int, int], Storage], places: _ArrayPlaces
) -> Tensor:
    """An array, or a field `at` a place in its records of `item` bytes, as a view of its bytes."""
    size = encoding.bytes_per_block
    count = math.prod(array.shape)
    storage = keys.get((id(array), at))
    if storage is None:
        storage = keys[id(array), at] = Storage(encoding, str(len(keys)), count * item // size)
        assert array.data is not None
        data = array.data
        places.data[storage.key] = data[at:] if isinstance(data, str) else replace(data, begin=data.begin + at)
        if item % size:
            places.unreadable.add(storage.key)
    axes = range(len(array.shape))
    strides = [0] * len(array.shape)
    step = max(item // size, 1)
    for axis in axes if array.is_fortran else reversed(axes):
        strides[axis] = step
        step *= array.shape[axis]
    return Tensor(storage, encoding, 0, array.shape, tuple(strides))


def _specs(
    source: ByteSource, tensors: list[tuple[str, Tensor, bool]], places: _ArrayPlaces, every_big: bool
) -> tuple[TensorSpec, ...]:
    """The views as specifications; of two names of one array the second is tied."""
    owners: dict[str, str] = {}
    made = []
    for name, tensor, _ in tensors:
        owner = owners.setdefault(tensor.storage.key, name)
        begin = places.begin(tensor.storage) if tensor.is_contiguous else None
        span = None
        if begin is not None and tensor.storage.key not in places.unreadable:
            span = (begin, begin + tensor.elements * tensor.encoding.bytes_per_block)
        tied_to = None if owner == name else owner
        made.append(
            TensorSpec(name, tensor.shape, tensor.encoding, tied_to=tied_to, file=file_name(source), byte_range=span)
        )
    return tuple(made)


def _warning(foreign: tuple[str, ...]) -> str:
    """What a user should know of any pickle."""
    if not foreign:
        return "it is a pickle; it was read without running it"
    shown = ", ".join(foreign[:5]) + (" ..." if len(foreign) > 5 else "")
    return (
        f"it is a pickle, which runs code of its own choice when pickle or joblib loads it (its classes: {shown}); it "
        "was read without running it, and every floating-point array in it counts as a parameter"
    )


def _fail(name: str, read_: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{name}: {read_}", expected, action)
