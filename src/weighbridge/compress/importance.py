"""How much does each input column of a weight count? llama.cpp's importance matrices, read in both forms and written.

The importance of a column is the mean of the squares of what came in through it. The current form is a GGUF file:
`general.type` is `imatrix`; of each weight there are the sums of squares as `NAME.in_sum2`, (matrices, columns), and
how many rows came in as `NAME.counts`, (matrices, 1), both fp32; matrices are the experts, 1 without them. The form
before is a list (int32 and fp32, little-endian):

    entries
    entries x (length of the name, name, chunks, values, values x fp32: the means of squares times the chunks)
    optional: chunks of the whole, length of the name of the data, name of the data

There the experts of a weight stand in one row, and rows are known only in chunks: they count `CHUNK_SIZE` each, as in
llama.cpp. Sources: `tools/imatrix/imatrix.cpp` and `tools/quantize/quantize.cpp` of ggml-org/llama.cpp, 2026.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from weighbridge.compress.codecs import Values
from weighbridge.errors import ConfigError, FormatError
from weighbridge.formats import gguf
from weighbridge.formats.byte_source import LocalFile
from weighbridge.model.tensors import TensorSpec
from weighbridge.output_file import write_bytes

CHUNK_SIZE = 512
"""Tokens of a window where nothing else is said."""
MOST_BYTES = 1 << 32
"""Of a file: the largest mixtures of 2026 take about 1 GB."""
MOST_ROWS = 1 << 53
"""That can be counted."""
SUMS, COUNTS = ".in_sum2", ".counts"
LONGEST_NAME = gguf.MAX_NAME_BYTES - len(SUMS)
"""Bytes of the name of a weight that a GGUF file has room for."""
_ALIGNMENT = 32
_GET_AGAIN = "get it again, or make one with `weigh imatrix`"


@dataclass(frozen=True, slots=True)
class Importance:
    """Of each weight by name: `means`, the mean square of what came in through each column, and `counts`.

    `means` are (columns,), or (experts, columns) where there are experts; an expert that nothing came to has ones, as
    in llama.cpp. `counts` are (1,) or (experts,), the rows that came in. `chunks` windows of `chunk_size` tokens were
    read from `datasets`.
    """

    means: Mapping[str, Values]
    counts: Mapping[str, NDArray[np.int64]]
    datasets: tuple[str, ...]
    chunks: int
    chunk_size: int

    def for_tensor(self, name: str, shape: Sequence[int] | None = None) -> Values | None:
        """The importance of a weight's columns, None where it is not known.

        Args:
            name: of the weight, as in the file that it was made for.
            shape: of the weight, (rows, columns) or (experts, rows, columns), that the importance has to fit.

        Raises:
            FormatError: when it has other columns or experts than the weight.

        Example:
            >>> one = Importance({"a": np.ones(4, np.float32)}, {"a": np.array([9])}, ("x.txt",), 1, 9)
            >>> one.for_tensor("a", (8, 4)).tolist(), one.for_tensor("b")
            ([1.0, 1.0, 1.0, 1.0], None)
        """
        found = self.means.get(name)
        if found is None or shape is None:
            return found
        columns = shape[-1] if shape else 1
        if found.shape == (columns,):
            return found
        if len(shape) > 2 and found.size == int(np.prod(shape[:-2])) * columns:
            return found.reshape(-1, columns)
        raise FormatError(f"the importance of {name} is {list(found.shape)}, the weight is {list(shape)}",
                          f"{columns} columns", "name the importance matrix of this model")  # fmt: skip


def of_sums(
    sums: Mapping[str, NDArray[np.float64]], counts: Mapping[str, NDArray[np.int64]], datasets: Sequence[str],
    chunks: int, chunk_size: int,
) -> Importance:  # fmt: skip
    """The importance from sums of squares, each (matrices, columns), and rows that came in, each (matrices,)."""
    return Importance({name: _mean(sums[name], counts[name]) for name in sums}, dict(counts), tuple(datasets),
                      chunks, chunk_size)  # fmt: skip


def _mean(sums: NDArray[np.float64], counts: NDArray[np.int64]) -> Values:
    each = counts[:, None]
    found = np.where(each > 0, sums / np.maximum(each, 1), 1.0).astype(np.float32)
    return found if len(found) > 1 else found[0]


def read(path: str | Path) -> Importance:
    """The importance matrix of a file, in either form.

    Raises:
        SourceError: when the file cannot be read.
        FormatError: when it is no importance matrix, is cut short, or holds a value that is none.
    """
    file = LocalFile(path)
    if file.size > MOST_BYTES:
        _refuse(file, f"{file.size:,} bytes", f"at most {MOST_BYTES:,}")
    return _read_gguf(file) if file.read(0, min(4, file.size)) == b"GGUF" else _read_list(file)


def _refuse(file: LocalFile, what: str, expected: str) -> NoReturn:
    raise FormatError(f"{file.name} has {what}", expected, _GET_AGAIN)


def _read_gguf(file: LocalFile) -> Importance:
    header = gguf.header_of(file)
    if header.metadata.get("general.type") != "imatrix":
        said = str(header.metadata.get("general.type", "a model"))[:40]
        raise FormatError(f"{file.name} is a GGUF file of {said}", "general.type = imatrix", _GET_AGAIN)
    if header.byte_order != "little":
        _refuse(file, "big-endian numbers", "a little-endian file")
    by_name = {tensor.name: tensor for tensor in header.tensors}
    names = sorted({name.removesuffix(end) for name in by_name for end in (SUMS, COUNTS) if name.endswith(end)})
    if not names:
        _refuse(file, "no weights", "an importance matrix of at least one")
    sums, counts = {}, {}
    for name in names:
        found = by_name.get(name + SUMS), by_name.get(name + COUNTS)
        if found[0] is None or found[1] is None:
            _refuse(file, f"{name} without {SUMS if found[0] is None else COUNTS}", "both of each weight")
        sums[name], each = (_values(file, one) for one in found if one is not None)
        if each.size != len(sums[name]):
            _refuse(file, f"{each.size} counts of {name} for {len(sums[name])} rows of sums", "a count for each row")
        if (each > MOST_ROWS).any():
            _refuse(file, f"{each.max():g} as a count of {name}", f"at most {MOST_ROWS:,}")
        counts[name] = np.rint(each.reshape(-1)).astype(np.int64)
    datasets = header.metadata.get("imatrix.datasets")
    listed = datasets.values if isinstance(datasets, gguf.MetadataArray) else None
    numbers = [header.metadata.get(f"imatrix.{key}", 0) for key in ("chunk_count", "chunk_size")]
    if any(type(one) is not int or not 0 <= one < 2**32 for one in numbers):
        _refuse(file, f"{str(numbers)[:60]} as chunks and their size", "whole numbers of 32 bits")
    return of_sums(sums, counts, [str(one) for one in listed or ()], numbers[0], numbers[1])


def _values(file: LocalFile, tensor: TensorSpec) -> NDArray[np.float64]:
    """The numbers of a tensor as rows, each of which is finite and not negative."""
    if tensor.encoding.name != "fp32":
        _refuse(file, f"{tensor.name} in {tensor.encoding.name}", "fp32")
    assert tensor.byte_range is not None
    begin, end = tensor.byte_range
    columns = tensor.shape[-1] if tensor.shape else 1
    return _checked(file, tensor.name, file.read(begin, end - begin)).reshape(-1, columns)


def _checked(file: LocalFile, name: str, data: bytes) -> NDArray[np.float64]:
    found = np.frombuffer(data, "<f4").astype(np.float64)
    if not (np.isfinite(found) & (found >= 0)).all():
        bad = found[~(np.isfinite(found) & (found >= 0))][0]
        _refuse(file, f"{bad:g} among {name}", "finite numbers from 0 up")
    return found


def _read_list(file: LocalFile) -> Importance:
    place = 0

    def take(length: int, what: str) -> bytes:
        nonlocal place
        if not 0 <= length <= file.size - place:
            _refuse(file, f"{what} of {length:,} bytes with {file.size - place:,} left", "an importance matrix")
        place += length
        return file.read(place - length, length)

    def number(what: str, least: int, most: int) -> int:
        found: int = struct.unpack("<i", take(4, what))[0]
        if not least <= found <= most:
            _refuse(file, f"{found} as {what}", f"an importance matrix, where it is {least:,} to {most:,}")
        return found

    def text(what: str, least: int, most: int) -> str:
        try:
            return take(number(f"the length of {what}", least, most), what).decode()
        except UnicodeDecodeError:
            _refuse(file, f"{what} that is not UTF-8", "text")

    sums: dict[str, NDArray[np.float64]] = {}
    counts: dict[str, NDArray[np.int64]] = {}
    for entry in range(number("the number of weights, as which its first bytes read", 1, gguf.MAX_TENSORS)):
        name = text(f"the name of weight {entry}", 1, gguf.MAX_NAME_BYTES)
        if name in sums:
            _refuse(file, f"{name} twice", "each weight once")
        chunks = number(f"the chunks of {name}", 0, 2**31 - 1)
        size = number(f"the number of values of {name}", 1, 2**31 - 1)
        values = _checked(file, name, take(4 * size, f"the values of {name}"))
        sums[name] = values[None] * (CHUNK_SIZE if chunks else 0)
        counts[name] = np.array([chunks * CHUNK_SIZE])
    if place == file.size:
        return of_sums(sums, counts, (), max(int(each[0]) for each in counts.values()) // CHUNK_SIZE, CHUNK_SIZE)
    chunks = number("the chunks of the whole", 0, 2**31 - 1)
    dataset = text("the name of the data", 0, 2**16)
    if place != file.size:
        _refuse(file, f"{file.size - place:,} bytes after its end", "nothing there")
    return of_sums(sums, counts, [dataset] if dataset else [], chunks, CHUNK_SIZE)


def write(path: str | Path, found: Importance) -> None:
    """Writes an importance matrix in the current form, beside its place and then renamed into it.

    Raises:
        ConfigError: when a name is longer than GGUF has room for.
        SourceError: when it cannot be written.
    """
    if long := [name for name in found.means if len(name.encode()) > LONGEST_NAME]:
        raise ConfigError(f"the name {long[0]} of {len(long[0].encode())} bytes", f"at most {LONGEST_NAME}, for GGUF",
                          "leave the weight out")  # fmt: skip
    write_bytes(path, _parts(found))


def _parts(found: Importance) -> Iterator[bytes]:
    def text(value: str) -> bytes:
        data = value.encode(errors="replace")
        return struct.pack("<Q", len(data)) + data

    table, place = b"", 0
    names = sorted(found.means)
    for name in names:
        matrices, columns = np.atleast_2d(found.means[name]).shape
        for end, wide in ((SUMS, columns), (COUNTS, 1)):
            table += text(name + end) + struct.pack("<IQQIQ", 2, wide, matrices, 0, place)
            place += -(-4 * wide * matrices // _ALIGNMENT) * _ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, 2 * len(names), 4)
    head += text("general.type") + struct.pack("<I", 8) + text("imatrix")
    head += text("imatrix.datasets") + struct.pack("<IIQ", 9, 8, len(found.datasets))
    head += b"".join(text(one) for one in found.datasets)
    for key, value in (("chunk_count", found.chunks), ("chunk_size", found.chunk_size)):
        head += text(f"imatrix.{key}") + struct.pack("<II", 4, value)
    head += table
    yield head + bytes(-len(head) % _ALIGNMENT)
    for name in names:
        counts = found.counts[name][:, None]
        sums = (np.atleast_2d(found.means[name]).astype(np.float64) * counts).astype("<f4").tobytes()
        for data in (sums, counts.astype("<f4").tobytes()):
            yield data + bytes(-len(data) % _ALIGNMENT)
