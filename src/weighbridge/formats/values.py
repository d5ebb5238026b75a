"""What are the stored weights? The one question here that needs the weights themselves.

Every tensor is read once, in pieces, so that memory stays small whatever the model's size: how many of its elements are
zero, not a number or infinite, their range, mean, deviation and outliers, rows and columns of nothing but zeros, the
effective rank of a sample, and the SHA-256 of the stored bytes, by which copies are found. What cannot be decoded is
compared by its bytes alone and said so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from weighbridge.errors import ConfigError
from weighbridge.estimate import Estimate
from weighbridge.formats import contents
from weighbridge.formats.byte_source import Folder, changed, open_path
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import TensorSpec

if TYPE_CHECKING:
    from weighbridge.formats.value_statistics import Statistics

Decode = Callable[[bytes, Encoding, int], Any]
"""From the bytes of whole blocks, their encoding and a length of rows to an array of fp32."""

_PART = 2**18
"""Elements that are worked on at once: few enough to stay in the processor's cache."""
_FEW = 2**16
"""Up to so many elements, a table of all codes takes longer than their sums."""
_WORTH_A_THREAD = 2**18
_WIDE = {"fp32": "f4", "fp64": "f8", "int32": "i4", "int64": "i8", "uint32": "u4", "uint64": "u8"}


@dataclass(frozen=True, slots=True)
class TensorValues:
    """One tensor's elements and how many of them are not zero; None for all that was not read.

    `dead` are the elements of rows and columns, or of a whole vector, that hold nothing but zeros. `effective_rank` is
    that of a sample, and `rank_at_most` what it could be there. `duplicate_of` is the first tensor of the same
    encoding, shape and bytes; a constant tensor is the duplicate of none.
    """

    name: str
    elements: int
    nonzero: int | None = None
    statistics: Statistics | None = None
    zero_rows: int | None = None
    zero_columns: int | None = None
    dead: int = 0
    effective_rank: Estimate | None = None
    rank_at_most: int | None = None
    sha256: str | None = None
    duplicate_of: str | None = None

    def to_json(self) -> dict[str, Any]:
        """An entry of `values.tensors` of the JSON document."""
        found = self.statistics
        return {
            "name": self.name, "elements": self.elements, "nonzero": self.nonzero,
            "zeros": None if self.nonzero is None else self.elements - self.nonzero,
            "min": found and found.minimum, "max": found and found.maximum,
            "mean": found and found.mean, "std": found and found.deviation,
            "nan": found and found.nan, "inf": found and found.infinite,
            "outliers": found and found.outliers,
            "outlier_bounds": list(found.bounds) if found and found.bounds else None,
            "farthest": found and found.farthest,
            "zero_rows": self.zero_rows, "zero_columns": self.zero_columns,
            "effective_rank": self.effective_rank and self.effective_rank.to_json(),
            "rank_at_most": self.rank_at_most,
            "sha256": self.sha256, "duplicate_of": self.duplicate_of,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Values:
    """The values of all tensors; names that share storage count once, under the first."""

    tensors: tuple[TensorValues, ...]
    notes: tuple[str, ...]

    @property
    def read(self) -> int:
        """Elements whose values were read."""
        return sum(t.elements for t in self.tensors if t.nonzero is not None)

    @property
    def nonzero(self) -> int:
        """Those of them that are not zero."""
        return sum(t.nonzero for t in self.tensors if t.nonzero is not None)

    def among(self, names: Container[str]) -> tuple[int, int]:
        """Elements of these tensors whose values were read, and those of them that are zero."""
        told = [(t.elements, t.nonzero) for t in self.tensors if t.nonzero is not None and t.name in names]
        return sum(elements for elements, _ in told), sum(elements - nonzero for elements, nonzero in told)

    @property
    def unread(self) -> int:
        """Elements whose values cannot be read without decoding."""
        return sum(t.elements for t in self.tensors if t.nonzero is None)

    @property
    def dead(self) -> int:
        """Elements of rows, columns and vectors that hold nothing but zeros."""
        return sum(t.dead for t in self.tensors)

    @property
    def nan(self) -> int:
        """Elements that are not a number."""
        return sum(t.statistics.nan for t in self.tensors if t.statistics)

    @property
    def infinite(self) -> int:
        """Elements that are infinite."""
        return sum(t.statistics.infinite for t in self.tensors if t.statistics)

    @property
    def distinct(self) -> int:
        """Elements of the tensors that are no duplicates."""
        return sum(t.elements for t in self.tensors if t.duplicate_of is None)

    @property
    def duplicates(self) -> dict[str, tuple[str, ...]]:
        """The tensors that have duplicates, with the names of these."""
        found: dict[str, list[str]] = {}
        for tensor in self.tensors:
            if tensor.duplicate_of is not None:
                found.setdefault(tensor.duplicate_of, []).append(tensor.name)
        return {name: tuple(copies) for name, copies in found.items()}

    def to_json(self) -> dict[str, Any]:
        """The part `values` of the JSON document."""
        elements = {t.name: t.elements for t in self.tensors}
        return {
            "elements_read": self.read, "nonzero": self.nonzero, "zero": self.read - self.nonzero,
            "elements_unread": self.unread, "dead_elements": self.dead, "nan": self.nan, "inf": self.infinite,
            "distinct_elements": self.distinct,
            "duplicates": [{"name": name, "copies": list(copies), "elements": elements[name]}
                           for name, copies in self.duplicates.items()],
            "notes": list(self.notes), "tensors": [t.to_json() for t in self.tensors],
        }  # fmt: skip


def bytes_to_read(checkpoint: Checkpoint, folder: Folder) -> int:
    """Bytes of the tensors that `read` reads."""
    return sum(tensor.size_bytes for _, tensor, part, _ in _stored(checkpoint, folder)
               if contents.is_readable(part, tensor))  # fmt: skip


def read(
    checkpoint: Checkpoint,
    folder: Folder,
    decode: Decode | None = None,
    progress: Callable[[int], object] = lambda size: None,
) -> Values:
    """Reads every tensor once.

    Args:
        checkpoint: what a reader returned.
        folder: the folder of its files, such as `LocalFolder(path)`.
        decode: decodes GGUF's blocks, such as `weighbridge.compress.codecs.decode`; it raises `ConfigError` for those
            that it cannot. Without it they are not decoded.
        progress: is told the bytes of each piece that was read.

    Raises:
        SourceError: when a file has changed since its header was read, or cannot be read any more.
        FormatError: when what is compressed does not unpack to what the header says.
    """
    found: list[TensorValues] = []
    first: dict[tuple[str | None, str, tuple[int, ...]], str] = {}
    skipped: set[str] = set()
    with ThreadPoolExecutor(1) as hashing:
        for name, tensor, part, place in _stored(checkpoint, folder):
            if not contents.is_readable(part, tensor):
                skipped.add(f"values of {part.format} storage are not read")
                found.append(TensorValues(name, tensor.elements))
                continue
            reading = _Reading(tensor, part.byte_order, decode)
            if not reading.decodes:
                packed = "" if tensor.stands_for is None else "weights packed in "
                skipped.add(f"values of {packed}{tensor.encoding.name} are not read: their bytes alone are compared")
            values = reading.read(name, contents.pieces(part, tensor, place), hashing, progress)
            if values.elements and not (values.statistics and values.statistics.is_constant):
                original = first.setdefault((values.sha256, tensor.encoding.name, tensor.shape), name)
                values = values if original == name else replace(values, duplicate_of=original)
            found.append(values)
    return Values(tuple(found), tuple(sorted(skipped)))


def _stored(checkpoint: Checkpoint, folder: Folder) -> Iterator[tuple[str, TensorSpec, Checkpoint, Folder]]:
    """Each tensor that is stored under its own name, with the checkpoint and the folder that it lies in."""
    for key, inner in checkpoint.parts.items():
        path = checkpoint.metadata.get("folders", {}).get(key, key)
        for name, tensor, part, place in _stored(inner, folder.below(path) if path else folder):
            yield f"{key}.{name}", tensor, part, place
    if checkpoint.parts:
        return
    sizes = {file.name: file.size_bytes for file in checkpoint.files}
    for name in {tensor.file for tensor in checkpoint.tensors if tensor.byte_range is not None} & sizes.keys():
        if open_path(folder, name).size != sizes[name]:
            raise changed(f"{folder.name}/{name}")
    for tensor in checkpoint.tensors:
        if tensor.tied_to is None:
            yield tensor.name, tensor, checkpoint, folder


class _Reading:
    """One tensor while it is read."""

    def __init__(self, tensor: TensorSpec, byte_order: str, decode: Decode | None) -> None:
        from weighbridge.formats.number_codes import CODED, numbers
        from weighbridge.formats.rank_sample import RankSample
        from weighbridge.formats.value_statistics import CodeCounts, Moments
        from weighbridge.formats.zero_lines import ZeroLines

        self._tensor, self._decode = tensor, decode
        encoding, shape, sign = tensor.encoding, tensor.shape, "<" if byte_order == "little" else ">"
        self._few = encoding.name in CODED and tensor.elements <= _FEW
        self._numbers = numbers
        self._dtype = None
        self._statistics: CodeCounts | Moments = Moments(encoding.is_float, tensor.elements)
        if encoding.name in CODED:
            self._dtype = f"{sign}u{encoding.bytes_per_block}"
            if not self._few:
                self._statistics = CodeCounts(encoding)
        elif encoding.name in _WIDE:
            self._dtype = sign + _WIDE[encoding.name]
        self.decodes = tensor.stands_for is None and (self._dtype is not None or _decodes(encoding, decode))
        is_matrix = self.decodes and len(shape) == 2 and min(shape) > 1
        has_rows = is_matrix or (self.decodes and len(shape) > 2 and tensor.elements > 0)
        self._lines = ZeroLines(shape) if has_rows else None
        self._sample = RankSample((shape[0], shape[1])) if is_matrix and encoding.is_float else None
        self._nonzero = self._at = 0

    def read(
        self, name: str, pieces: Iterable[bytes], hashing: ThreadPoolExecutor, progress: Callable[[int], object]
    ) -> TensorValues:
        """All that is to be known, and the hash: of large pieces it is taken in a thread beside the numbers."""
        digest = hashlib.sha256()
        for piece in pieces:
            beside = hashing.submit(digest.update, piece) if len(piece) >= _WORTH_A_THREAD else None
            if beside is None:
                digest.update(piece)
            if self.decodes:
                self._add(piece)
            if beside is not None:
                beside.result()
            progress(len(piece))
            del piece  # before the next is read, which then gets its memory
        values = TensorValues(name, self._tensor.elements, sha256=digest.hexdigest())
        if not self.decodes:
            return values
        assert self._at == self._tensor.elements, (name, self._at)
        values = replace(values, nonzero=self._nonzero, statistics=self._statistics.statistics(),
                         dead=0 if self._nonzero else values.elements)  # fmt: skip
        if self._lines is not None:
            values = replace(values, zero_rows=self._lines.zero_rows, zero_columns=self._lines.zero_columns,
                             dead=self._lines.dead)  # fmt: skip
        if self._sample is not None:
            values = replace(values, effective_rank=self._sample.effective_rank(),
                             rank_at_most=min(self._sample.shape))  # fmt: skip
        return values

    def _add(self, piece: bytes) -> None:
        import numpy as np

        with np.errstate(all="ignore"):
            for stored in self._parts(piece):
                lives = self._statistics.lives(stored)
                self._statistics.add(stored)
                self._nonzero += int(np.count_nonzero(lives))
                if self._lines is not None:
                    self._lines.add(lives)
                if self._sample is not None:
                    self._sample.add(self._at, stored, self._statistics.numbers)
                self._at += stored.size

    def _parts(self, piece: bytes) -> Iterator[Any]:
        """The elements of a piece, some at a time, in this machine's order of bytes: numbers, or codes of few bits."""
        import numpy as np

        encoding = self._tensor.encoding
        if self._dtype is None:
            assert self._decode is not None
            step = _PART // encoding.elements_per_block * encoding.bytes_per_block
            for begin in range(0, len(piece), step):
                yield self._decode(piece[begin : begin + step], encoding, encoding.elements_per_block).reshape(-1)
            return
        stored = np.frombuffer(piece, self._dtype)
        for begin in range(0, stored.size, _PART):
            part = stored[begin : begin + _PART]
            if not part.dtype.isnative:
                part = part.astype(part.dtype.newbyteorder("="))
            yield self._numbers(encoding)[part] if self._few else part


def _decodes(encoding: Encoding, decode: Decode | None) -> bool:
    """Whether blocks of an encoding can be decoded, by doing so with one of them."""
    if decode is None or encoding.gguf_type is None:
        return False
    try:
        decode(bytes(encoding.bytes_per_block), encoding, encoding.elements_per_block)
    except ConfigError:
        return False
    return True
