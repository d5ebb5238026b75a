r"""Which arrays does a NumPy file hold? An `.npz` archive, a zip of `.npy` files, or one `.npy`.

A `.npy` is `\x93NUMPY`, a version of two bytes, the header's length (2 bytes in version 1, else 4), a header that is a
Python dict in text with `descr`, `fortran_order` and `shape`, and the elements. The header is read by a parser of its
own that knows texts, numbers, True, False, tuples and lists. Arrays of Python objects are pickles and never read;
they, texts, dates and records are left out with a note.

`byte_range` is None where an array is deflated, big-endian or stored column by column: `pieces` then reads it, turned
to little-endian rows. Raw elements of two bytes (`V2`) are what NumPy makes of bfloat16 and counted as such.

Source: numpy/numpy, release 2.4, `numpy/lib/_format_impl.py` (versions 1 to 3, headers of at most 10,000 bytes).
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import ByteSource, Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.contents import PIECE_BYTES
from weighbridge.formats.element_bytes import whole_elements
from weighbridge.formats.zip_archive import DEFLATE_RATIO, Entry, ZipArchive
from weighbridge.model.encodings import ENCODINGS, Encoding
from weighbridge.model.tensors import TensorSpec

MAX_HEADER_BYTES = 10_000
MAX_COLUMNS_BYTES = 32 * 2**20
"""Of an array that is stored column by column, when it is read: it is turned in memory."""

_MAGIC = b"\x93NUMPY"
_TOKEN = re.compile(r"\s*(?:'([^'\\]*)'|\"([^\"\\]*)\"|(\d{1,20})L?|(True|False)|([\[\](){},:]))\s*")
_DTYPE = re.compile(r"([<>|=])?([a-zA-Z])(\d+)")
_KINDS = {"f": "fp", "i": "int", "u": "uint", "c": "complex"}
_WORDS = {"O": "Python objects, which are a pickle", "U": "texts", "S": "texts", "M": "dates", "m": "times"}
_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"


@dataclass(frozen=True, slots=True)
class Header:
    """What an array's header says; `encoding` is None where its elements are no numbers, and `descr` says what."""

    shape: tuple[int, ...]
    encoding: Encoding | None
    descr: str
    is_big_endian: bool
    by_columns: bool
    header_bytes: int

    @property
    def data_bytes(self) -> int:
        """Bytes of its elements."""
        return 0 if self.encoding is None else self.encoding.size_bytes(self.shape)


def read(folder: Folder, name: str) -> Checkpoint:
    r"""The checkpoint of one `.npz` or `.npy` file; names are those of the archive, without `.npy`.

    Raises:
        FormatError: when it is neither, or damaged.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFolder
        >>> text = b"{'descr': '<f2', 'fortran_order': False, 'shape': (3,), }"
        >>> array = b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text + bytes(6)
        >>> [(t.name, t.shape, t.encoding.name) for t in read(MemoryFolder({"a.npy": array}), "a.npy").tensors]
        [('a', (3,), 'fp16')]
    """
    source = folder.open(name)
    notes: list[str] = []
    specs: list[TensorSpec] = []
    stored = 0
    odd: list[str] = []
    # Name, header, where the entry begins unless it is deflated, bytes that its elements take in the file.
    rows: list[tuple[str, Header, int | None, int]] = []
    start = source.read(0, min(6, source.size))
    if start != _MAGIC and start[:2] != b"PK":
        read_ = f"{source.name} begins with {start!r}"
        raise FormatError(read_, "an array of NumPy, or a zip archive of them", "check what the file is")
    if start == _MAGIC:
        heads = source.read(0, min(source.size, 12 + MAX_HEADER_BYTES))
        header = _header(source, file_name(source), heads, source.size)
        digest = hashlib.sha256(heads[: header.header_bytes])
        stem = file_name(source).removesuffix(".npy")
        rows.append((stem, header, 0, header.data_bytes))
    else:
        archive = ZipArchive(source, tells_case=True)
        digest = hashlib.sha256(archive.directory)
        for entry in archive.entries.values():
            if not entry.name.endswith(".npy"):
                odd.append(f"{entry.name[:100]}, which is no array")
                continue
            begin, head = _head(archive, entry)
            header = _header(source, entry.name, head, entry.size)
            digest.update(head[: header.header_bytes])
            is_plain = entry.method == 0
            rows.append((entry.name.removesuffix(".npy"), header, begin if is_plain else None,
                         header.data_bytes if is_plain else entry.stored))  # fmt: skip
    guessed = 0
    for label, header, begin_, held in rows:
        if header.encoding is None:
            odd.append(f"{label[:100]}, which holds {header.descr}")
            continue
        stored += held
        guessed += header.descr == "bf16"
        span = None
        if begin_ is not None and not header.is_big_endian and not header.by_columns:
            span = (begin_ + header.header_bytes, begin_ + header.header_bytes + header.data_bytes)
        specs.append(TensorSpec(label, header.shape, header.encoding, file=file_name(source), byte_range=span))
    if guessed:
        notes.append(f"{guessed} arrays hold raw elements of two bytes; they are counted as bfloat16, an assumption")
    if any(header.is_big_endian for _, header, _, _ in rows):
        notes.append("some arrays are stored big-endian")
    if odd:
        notes.append(f"left out: {odd[0]}" + (f", and {len(odd) - 1:,} others" if len(odd) > 1 else ""))
    return Checkpoint(
        source.name, "npz", (StoredFile(file_name(source), source.size, source.size - stored, stored, 0),),
        tuple(specs), digest=digest.hexdigest(), notes=tuple(notes),
    )  # fmt: skip


def pieces(folder: Folder, tensor: TensorSpec) -> Iterator[bytes]:
    """The bytes of an array, its last axis running fastest, little-endian.

    Raises:
        FormatError: when it does not unpack to what the archive says, and for long arrays stored column by column.
    """
    source = folder.open(tensor.file)
    if source.read(0, min(6, source.size)) == _MAGIC:
        header = _header(source, tensor.file, source.read(0, min(source.size, 12 + MAX_HEADER_BYTES)), source.size)
        steps = range(header.header_bytes, source.size, PIECE_BYTES)
        parts: Iterator[bytes] = (source.read(at, min(PIECE_BYTES, source.size - at)) for at in steps)
    else:
        archive = ZipArchive(source, tells_case=True)
        entry = archive.entries.get(f"{tensor.name}.npy")
        if entry is None:
            _fail(source, f"it has no array {tensor.name[:100]!r} any more", "an unchanged file", _GET_AGAIN)
        header = _header(source, entry.name, _head(archive, entry)[1], entry.size)
        parts = _after(archive.pieces(entry), header.header_bytes)
    if (header.shape, header.encoding) != (tensor.shape, tensor.encoding):
        _fail(source, f"{tensor.name[:100]} has changed", "the file as it was when it was first read", _GET_AGAIN)
    if header.by_columns:
        parts = _rows(source, parts, header)
    size = tensor.encoding.bytes_per_block
    half = size // 2 if tensor.encoding.name.startswith("complex") else size
    yield from whole_elements(parts, size, half, PIECE_BYTES, header.is_big_endian)


def _after(parts: Iterator[bytes], length: int) -> Iterator[bytes]:
    """What comes after the first bytes."""
    for part in parts:
        yield part[length:]
        length = max(0, length - len(part))


def _rows(source: ByteSource, parts: Iterator[bytes], header: Header) -> Iterator[bytes]:
    """The elements row by row of an array that is stored column by column."""
    import numpy as np

    assert header.encoding is not None
    if header.data_bytes > MAX_COLUMNS_BYTES:
        read = f"an array of {header.data_bytes:,} bytes is stored column by column"
        _fail(source, read, f"at most {MAX_COLUMNS_BYTES:,} so", "save it anew with numpy.ascontiguousarray")
    cells = np.frombuffer(b"".join(parts), np.dtype((np.void, header.encoding.bytes_per_block)))
    yield cells.reshape(header.shape, order="F").tobytes()


def _head(archive: ZipArchive, entry: Entry) -> tuple[int, bytes]:
    """Where an entry's bytes begin in the file, and the first of them, unpacked."""
    if entry.method not in (0, 8) or entry.size > entry.stored * (DEFLATE_RATIO if entry.method else 1):
        read = f"{entry.name[:100]} claims {entry.size:,} bytes in {entry.stored:,} (zip method {entry.method})"
        _fail(archive.source, read, "arrays stored or deflated, as large as they say", _GET_AGAIN)
    begin = archive.data_start(entry)
    most = 12 + MAX_HEADER_BYTES
    head = archive.source.read(begin, min(entry.stored, most + 100))
    if entry.method == 8:
        try:
            head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, most)
        except zlib.error:
            _fail(archive.source, f"{entry.name[:100]} does not inflate", "deflated bytes", _GET_AGAIN)
    return begin, head[:most]


def _header(source: ByteSource, name: str, head: bytes, size: int) -> Header:
    """The header of an array that takes so many bytes in all."""
    version = head[6:8]
    width = {b"\1\0": 2, b"\2\0": 4, b"\3\0": 4}.get(version, 0)
    if head[:6] != _MAGIC or not width:
        _fail(source, f"{name[:100]} begins with {head[:8]!r}", "a .npy file of version 1 to 3", _GET_AGAIN)
    length = int.from_bytes(head[8 : 8 + width], "little")
    if length > MAX_HEADER_BYTES or 8 + width + length > len(head):
        read = f"{name[:100]} has a header of {length:,} bytes"
        _fail(source, read, f"at most {MAX_HEADER_BYTES:,}, inside of the file", _GET_AGAIN)
    try:
        fields = _Literal(head[8 + width : 8 + width + length].decode("utf-8")).value()
    except ValueError as error:
        _fail(source, f"{name[:100]} has a header that is no plain dict ({error})", "one of NumPy's", _GET_AGAIN)
    if not isinstance(fields, dict) or set(fields) != {"descr", "fortran_order", "shape"}:
        _fail(source, f"{name[:100]} has a header of other fields", "descr, fortran_order and shape", _GET_AGAIN)
    shape, by_columns = fields["shape"], fields["fortran_order"]
    is_shape = isinstance(shape, tuple) and len(shape) <= 64 and all(type(n) is int for n in shape)
    if not is_shape or type(by_columns) is not bool or math.prod(shape) >= 2**63:
        _fail(source, f"{name[:100]} has a shape that no array has", "a tuple of whole numbers", _GET_AGAIN)
    encoding, words, is_big_endian = _encoding(fields["descr"])
    is_wide = sum(n > 1 for n in shape) > 1
    header = Header(shape, encoding, words, is_big_endian, by_columns and is_wide, 8 + width + length)
    if encoding is not None and header.header_bytes + header.data_bytes != size:
        read = f"{name[:100]} has {size:,} bytes"
        _fail(source, read, f"{header.header_bytes + header.data_bytes:,} as its header says", _GET_AGAIN)
    return header


def _encoding(descr: Any) -> tuple[Encoding | None, str, bool]:
    """The encoding of a `descr`, what its elements are in words, and whether they are big-endian."""
    if not isinstance(descr, str):
        return None, "records", False
    match = _DTYPE.fullmatch(descr)
    if descr in ("|b1", "b1"):
        return ENCODINGS["bool"], "", False
    if match is None or match[2] not in _KINDS:
        if match is not None and (match[2], match[3]) == ("V", "2"):
            return ENCODINGS["bf16"], "bf16", False
        return None, _WORDS.get(descr.lstrip("<>|=")[:1], f"elements of type {descr[:40]!r}"), False
    size = int(match[3][:4])
    encoding = ENCODINGS.get(f"{_KINDS[match[2]]}{8 * size}")
    return encoding, f"elements of type {descr[:40]!r}", match[1] == ">" and size > 1


class _Literal:
    """A dict, list, tuple, text, whole number, True or False as Python writes them; nothing else."""

    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._token: re.Match[str] | None = None

    def value(self) -> Any:
        """The value of the whole text.

        Raises:
            ValueError: when it is none.
        """
        self._next()
        found = self._value(0)
        if self._token is not None or self._at != len(self._text):
            raise ValueError("more follows")
        return found

    def _next(self) -> None:
        self._token = _TOKEN.match(self._text, self._at)
        if self._token is not None:
            self._at = self._token.end()

    def _mark(self) -> str:
        return "" if self._token is None else self._token[5] or ""

    def _value(self, depth: int) -> Any:
        token = self._token
        if token is None or depth > 8:
            raise ValueError(f"character {self._at}")
        self._next()
        if token[1] is not None or token[2] is not None:
            return token[1] if token[1] is not None else token[2]
        if token[3]:
            return int(token[3])
        if token[4]:
            return token[4] == "True"
        if token[5] not in ("(", "[", "{"):
            raise ValueError(f"character {self._at}")
        return self._collection(token[5], depth)

    def _collection(self, opening: str, depth: int) -> Any:
        closing = {"(": ")", "[": "]", "{": "}"}[opening]
        items: list[Any] = []
        commas = 0
        while self._mark() != closing:
            key = self._value(depth + 1)
            if opening == "{":
                if self._mark() != ":" or not isinstance(key, str):
                    raise ValueError("a key without a value")
                self._next()
                key = (key, self._value(depth + 1))
            items.append(key)
            if self._mark() == ",":
                commas += 1
                self._next()
            elif self._mark() != closing:
                raise ValueError(f"character {self._at}")
        self._next()
        if opening == "{":
            if len(dict(items)) != len(items):
                raise ValueError("a key twice")
            return dict(items)
        if opening == "[":
            return items
        return items[0] if len(items) == 1 and not commas else tuple(items)


def _fail(source: ByteSource, read: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{source.name}: {read}", expected, action)
