"""Which tensors does a safetensors file hold, and where? Read from its header; the tensors themselves are never read.

A file is an 8-byte little-endian length N, N bytes of JSON, and the tensors' bytes without gap or overlap up to the
end of the file. The JSON maps each name to `dtype`, `shape` and `data_offsets`, which count from the end of the
header; `__metadata__` maps strings to strings. A large model is cut into files beside an index, whose `weight_map`
says which file holds which tensor.

Source: the format's description and its reference implementation, huggingface/safetensors `README.md` and
`safetensors/src/tensor.rs`, release 0.8. Where the two differ (leading blanks, repeated keys) the description holds.
"""

from __future__ import annotations

import gc
import hashlib
import math
import re
import reprlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from operator import add
from typing import Any

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import json_text
from weighbridge.formats.byte_source import ByteSource, Folder, check_name, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.parallel import mapped
from weighbridge.formats.tensor_table import Columns, Kind, TensorTable
from weighbridge.model.encodings import ENCODINGS, Encoding

PREFETCH_BYTES = 128 * 1024
"""What the first request asks for: the length and, for a model of up to about 1,000 tensors, the whole header."""
MAX_HEADER_BYTES = 100_000_000
"""The reference's own limit to N."""
MAX_HEADERS_BYTES = 2 * MAX_HEADER_BYTES
"""Of all shards together, of which several are read at once; those of the largest published models have 11 MB."""
MAX_HEADER_DEPTH = 127
"""The reference's JSON parser stops at the 128th level."""
MAX_INDEX_BYTES = 100_000_000
MAX_INDEX_ITEMS = 1_000_000
"""Commas and colons of an index, two for a tensor; the largest published ones name about 100,000 tensors."""

DTYPES: dict[str, Encoding] = {
    dtype: ENCODINGS[name]
    for dtype, name in {
        "BOOL": "bool", "F4": "fp4", "F6_E2M3": "fp6_e2m3", "F6_E3M2": "fp6_e3m2", "U8": "uint8", "I8": "int8",
        "F8_E5M2": "fp8_e5m2", "F8_E4M3": "fp8", "F8_E8M0": "fp8_e8m0", "F8_E4M3FNUZ": "fp8_e4m3fnuz",
        "F8_E5M2FNUZ": "fp8_e5m2fnuz", "I16": "int16", "U16": "uint16", "F16": "fp16", "BF16": "bf16",
        "I32": "int32", "U32": "uint32", "F32": "fp32", "C64": "complex64", "F64": "fp64", "I64": "int64",
        "U64": "uint64",
    }.items()
}  # fmt: skip
"""The encoding behind each word that `dtype` may be."""

_BITS = {dtype: encoding.bytes_per_block * 8 // encoding.elements_per_block for dtype, encoding in DTYPES.items()}
_U64 = 2**64 - 1
_LENGTH_BYTES = 8
_PART = re.compile(r"(.*?)-?([0-9]{1,9})-of-([0-9]{1,9})\.safetensors", re.DOTALL)
METADATA = "__metadata__."
"""Before a file's own keys that look like those which the reader writes itself."""
_KIND = re.compile(r"([A-Z0-9_]{1,20}):\[((?:0|[1-9][0-9]{0,19})(?:,(?:0|[1-9][0-9]{0,19})){0,99})?\],")
_BETWEEN = {2: ":{", 3: "dtype", 4: ":", 6: ",", 7: "shape", 9: "data_offsets"}
"""A compact header cut at its quotes has ten pieces for each tensor; these are the same for all."""
_RESERVED = frozenset({"notes", "index_total_size"})
_AGAIN = "get the file again and compare its size and checksum with the publisher's"
_OTHER = "check that it is a safetensors file at all, and " + _AGAIN
_WRITER = "do not load this file: report it to its publisher, or have it written anew with the safetensors library"
_INDEX = "get the index and the weights again, from the same revision"


@dataclass(frozen=True, slots=True)
class Index:
    """An index of shards: which file holds which tensor.

    `total_size` is the publisher's word: 0, or tied copies counted twice, are common. None when it is absent or is no
    number of bytes; `notes` then says why.
    """

    weight_map: Mapping[str, str]
    metadata: Mapping[str, Any]
    total_size: int | None
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it names, sorted, each once."""
        return tuple(sorted(set(self.weight_map.values())))


@dataclass(frozen=True, slots=True)
class _Shard:
    file: StoredFile
    columns: Columns
    metadata: dict[str, str]
    digest: bytes


def read(source: ByteSource) -> Checkpoint:
    """One file that is a whole model.

    Tensors come in the order of their bytes, with `byte_range` counted from the start of the file.

    Raises:
        FormatError: when the header breaks a rule of the format, or does not account for every byte of the file.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> header = b'{"w": {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}}'
        >>> model = read(MemoryFile("a.safetensors", len(header).to_bytes(8, "little") + header + bytes(12)))
        >>> [(t.name, t.shape, t.encoding.name, t.byte_range) for t in model.tensors]
        [('w', (2, 3), 'bf16', (74, 86))]
    """
    shard = _read_shard(source, file_name(source), _read_head(source), {})
    return Checkpoint(
        source=source.name,
        format="safetensors",
        files=(shard.file,),
        tensors=TensorTable([shard.columns]),
        metadata=_plain_metadata(shard.metadata),
        digest=shard.digest.hex(),
    )


def read_sharded(folder: Folder, names: Sequence[str], index: ByteSource | None = None) -> Checkpoint:
    """All files of a model that was cut into shards, in the order of their names.

    With an index its files are read, and each name is held against the shards' own headers, both ways; files of
    `names` that it does not mention are left out with a note. Without one `names` are read, and of files numbered
    `-00001-of-00005` none may be missing. `metadata` joins the shards' `__metadata__`, with `notes` and, with an
    index, `index_total_size`. The digest is the SHA-256 of the shards' digests in the order of their names.

    Raises:
        FormatError: when a shard is damaged, when two hold the same tensor, when index and shards disagree.
        SourceError: when shards are missing.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
        >>> def shard(name): return b"@" + bytes(7) + (b'{"%s": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}'
        ...     % name).ljust(64) + bytes(1)
        >>> both = MemoryFolder({"m-1-of-2.safetensors": shard(b"a"), "m-2-of-2.safetensors": shard(b"b")})
        >>> [(t.name, t.file) for t in read_sharded(both, both.names()).tensors]
        [('a', 'm-1-of-2.safetensors'), ('b', 'm-2-of-2.safetensors')]
    """
    listing = None if index is None else read_index(index)
    notes = [] if listing is None else list(listing.notes)
    files = tuple(sorted(set(names)))
    if listing is None:
        _check_parts(folder.name, files)
    else:
        left_out = sorted(set(files).difference(listing.files))
        if left_out:
            notes.append(
                f"{len(left_out)} files beside the index are not named by it and left out: {left_out[0]} first"
            )
        files = listing.files
        _check_present(folder, files)
    if not files:
        raise SourceError(f"{folder.name} gave no shards", "at least one safetensors file", "name the weights' files")

    shards = list(_read_shards(folder, files))
    table = TensorTable([shard.columns for shard in shards])
    if len(table.weights) != len(table):
        raise _twice(shards)
    metadata: dict[str, Any] = _merge_metadata(shards, notes)
    if listing is not None:
        _check_index(listing.weight_map, _holders(shards))
        metadata["index_total_size"] = listing.total_size
        held = sum(shard.file.tensor_bytes for shard in shards)
        if listing.total_size is not None and listing.total_size != held:
            notes.append(
                f"the index gives total_size {listing.total_size:,}, the shards hold {held:,} bytes of tensors"
            )
    metadata["notes"] = notes
    return Checkpoint(
        source=folder.name,
        format="safetensors",
        files=tuple(shard.file for shard in shards),
        tensors=table,
        metadata=metadata,
        digest=hashlib.sha256(b"".join(shard.digest for shard in shards)).hexdigest(),
    )


def read_index(source: ByteSource) -> Index:
    """An index alone, of safetensors files or of PyTorch ones, which have the same form. The shards need not be there.

    Raises:
        FormatError: when it is no JSON object with a `weight_map`, or names a file outside its own folder.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> index = read_index(MemoryFile("i.json", b'{"metadata": {}, "weight_map": {"w": "a.safetensors"}}'))
        >>> index.files, index.total_size
        (('a.safetensors',), None)
    """
    notes: list[str] = []
    if source.size > MAX_INDEX_BYTES:
        raise FormatError(
            f"{source.name} has {source.size:,} bytes",
            f"an index of at most {MAX_INDEX_BYTES:,}",
            "give the index file",
        )
    with _collector_paused():
        index = json_text.parse(
            source.read(0, source.size), source.name, allow_bom=True, allow_constants=True, allow_trailing=True,
            notes=notes, max_items=MAX_INDEX_ITEMS,
        )  # fmt: skip
    weight_map = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(weight_map, dict) or not set(map(type, weight_map.values())) <= {str}:
        raise FormatError(
            f"{source.name} has no weight_map from names to files",
            'JSON such as {"weight_map": {"w": "a.safetensors"}}', "give the file that ends in .index.json",
        )  # fmt: skip
    for file in set(weight_map.values()):
        check_name(source.name, file)
    metadata = index.get("metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise FormatError(f"{source.name} has metadata that are no object", "an object of any keys", _INDEX)
    return Index(weight_map, metadata, _total_size(source.name, metadata, notes), tuple(notes))


def _total_size(name: str, metadata: Mapping[str, Any], notes: list[str]) -> int | None:
    total = metadata.get("total_size")
    # Some writers divide bits by 8 and store a float.
    if isinstance(total, float) and total.is_integer():
        total = int(total)
    if type(total) is int and total >= 0:
        return total
    if total is not None:
        notes.append(f"{name} gives the total_size {str(total)[:100]!r}, which is no number of bytes")
    return None


def _read_shards(folder: Folder, names: Sequence[str]) -> Iterator[_Shard]:
    """The shards in order, their heads read ahead; each is asked for as much as the longest one so far took."""
    longest = [len(_read_head(folder.open(names[0])))]
    left, lock = MAX_HEADERS_BYTES, threading.Lock()

    def reserve(length: int) -> None:
        nonlocal left
        with lock:
            left -= length
        if left < 0:
            raise FormatError(f"the headers of {folder.name} have more than {MAX_HEADERS_BYTES:,} bytes together",
                              "what the tensors of a model take", _WRITER)  # fmt: skip

    def head(name: str) -> bytes:
        found = _read_head(folder.open(name), -(-max(longest) * 9 // 8 // 4096) * 4096, reserve)
        longest.append(len(found))
        return found

    kinds: dict[str, Kind] = {}
    for name, found in zip(names, mapped(folder, head, names), strict=True):
        yield _read_shard(folder.open(name), name, found, kinds)


def _read_shard(source: ByteSource, name: str, head: bytes, kinds: dict[str, Kind]) -> _Shard:
    size = len(head)
    with _collector_paused():
        found = _compact(head, source, name, kinds)
    if found is not None:
        metadata, columns = found
    else:
        metadata, columns = _parsed(head, source, name)
    return _Shard(
        StoredFile(name, source.size, size, source.size - size, 0), columns, metadata, hashlib.sha256(head).digest()
    )


def _parsed(head: bytes, source: ByteSource, name: str) -> tuple[dict[str, str], Columns]:
    """Metadata and tensors of any header, or the error that says what is wrong with it."""
    with _collector_paused():
        header = json_text.parse(
            head[_LENGTH_BYTES:], f"the header of {source.name}",
            max_bytes=MAX_HEADER_BYTES, max_depth=MAX_HEADER_DEPTH,
        )  # fmt: skip
        assert isinstance(header, dict), "it starts with a brace"
        metadata = _metadata(header.pop("__metadata__", None), source.name)
        columns = _tensors(header, source, name, len(head))
        del header  # or the collector, once awake, walks it
    return metadata, columns


def _compact(
    head: bytes, source: ByteSource, name: str, kinds: dict[str, Kind]
) -> tuple[dict[str, str], Columns] | None:
    """Metadata and tensors of a header as the reference library writes it: without blanks, in the order of the bytes.

    Such a header is cut at its quotes, without building objects that are thrown away: eight times as fast. None is
    said for every header that has another form or breaks a rule; the parser of any JSON then decides.

    Args:
        head: the length and the header.
        source: the file.
        name: what the file is called.
        kinds: what this function knows of kinds that other shards have, too; it is added to.
    """
    try:
        text = head[_LENGTH_BYTES:].decode("utf-8").rstrip(" ")
        metadata, start = _compact_metadata(text)
    except (UnicodeDecodeError, FormatError):
        return None
    before = "{" if start == 1 else ","
    if "\\" in text or not text.startswith(f'{before}"', start - 1):
        return None
    if text.count('"', start) != 10 * text.count('":{"dtype":"', start):  # or a stranger's text falls into many pieces
        return None
    cut = text[start:].split('"')
    names, dtypes, shapes, offsets = cut[1::10], cut[5::10], cut[8::10], cut[10::10]
    count = len(names)
    if len(cut) != 10 * count + 1 or any(
            cut[place::10] != [word] * count for place, word in _BETWEEN.items()):  # fmt: skip
        return None
    of = list(map(add, dtypes, shapes))
    for kind in set(of).difference(kinds):
        found = _kind(kind)
        if found is None:
            return None
        kinds[kind] = found
    joined = "".join(names)
    if not joined.isprintable() or len(set(names)) != count or "__metadata__" in names:
        return None
    sizes = {kind: _kind_bytes(kinds[kind]) for kind in set(of)}
    ends = list(accumulate(map(sizes.__getitem__, of)))
    if "".join(offsets) != _offsets(ends) or len(head) + ends[-1] != source.size:
        return None
    return metadata, Columns(name, len(head), names, of, kinds, ends)


def _offsets(ends: Sequence[int]) -> str:
    """What the offsets of tensors look like that follow each other and end here.

    Example:
        >>> _offsets([2, 6])
        ':[0,2]},:[2,6]}}'
    """
    words = list(map(str, ends))
    pieces = ["]},:["] * (4 * len(words) - 1)
    pieces[0], pieces[4::4] = "0", words[:-1]
    pieces[1::4] = [","] * len(words)
    pieces[2::4] = words
    return f":[{''.join(pieces)}]}}}}"


def _compact_metadata(text: str) -> tuple[dict[str, str], int]:
    """The metadata where they come first, and where the first tensor begins."""
    begin = '{"__metadata__":'
    if not text.startswith(begin):
        return {}, 1
    end = text.find("}", len(begin)) + 1
    metadata = json_text.parse(text[len(begin) : end].encode(), "the metadata")
    return _metadata(metadata, "the metadata"), end + 1


def _read_head(
    source: ByteSource, guess: int = PREFETCH_BYTES, reserve: Callable[[int], object] = lambda length: None
) -> bytes:
    """The length and the header, in one request or, when the header is longer than the guess, two.

    `reserve` is told the length before more than the guess is asked for, and may refuse it.
    """
    head = source.read(0, min(source.size, guess))
    if len(head) < _LENGTH_BYTES:
        raise FormatError(f"{source.name} has {source.size} bytes", "8 bytes of header length at least", _AGAIN)
    length = int.from_bytes(head[:_LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise FormatError(
            f"{source.name} declares a header of {length:,} bytes",
            f"a safetensors header of at most {MAX_HEADER_BYTES:,}", _OTHER,
        )  # fmt: skip
    reserve(length)
    stop = _LENGTH_BYTES + length
    if stop > source.size:
        raise FormatError(f"{source.name} has {source.size:,} bytes", f"a header up to byte {stop:,}", _AGAIN)
    if head[_LENGTH_BYTES : min(stop, _LENGTH_BYTES + 1)] != b"{":
        raise FormatError(
            f"the header of {source.name} starts with {head[_LENGTH_BYTES : min(stop, 24)]!r}", "a JSON object's brace",
            _OTHER,
        )  # fmt: skip
    if stop > len(head):
        if b"\0" in head[_LENGTH_BYTES:]:
            raise FormatError(f"the header of {source.name} has zero bytes", "JSON, which has none", _OTHER)
        head += source.read(len(head), stop - len(head))
    return head[:stop]


def _kind(text: str) -> Kind | None:
    """Shape and encoding in the words of a header; None for what is no shape, or no whole number of bytes.

    Example:
        >>> shape, encoding = _kind("BF16:[2,3],")
        >>> shape, encoding.name, _kind("BF16:[2,03],")
        ((2, 3), 'bf16', None)
    """
    match = _KIND.fullmatch(text)
    if match is None or match[1] not in DTYPES:
        return None
    shape = tuple(map(int, match[2].split(","))) if match[2] else ()
    bits = _bits(shape, _BITS[match[1]])
    return None if bits is None or bits % 8 else (shape, DTYPES[match[1]])


def _kind_bytes(kind: Kind) -> int:
    shape, encoding = kind
    return math.prod(shape) * encoding.bytes_per_block // encoding.elements_per_block


def _metadata(value: Any, file: str) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise FormatError(f"{file} has __metadata__ that are not all strings", "an object of strings", _WRITER)
    return value


def _tensors(header: dict[str, Any], source: ByteSource, file: str, data_start: int) -> Columns:
    """The rows in the order of their bytes, after the checks of the reference's `Metadata::validate`."""
    for name, entry in header.items():
        try:
            dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
            known = dtype in DTYPES
        except (KeyError, TypeError, ValueError):
            raise _bad_entry(source.name, name, entry) from None
        # bool is an int to isinstance, and 2.0 equals 2: only the exact type tells them apart.
        if not known or type(begin) is not int or type(end) is not int or type(shape) is not list:
            raise _bad_entry(source.name, name, entry)
        for length in shape:
            if type(length) is not int or length < 0:
                raise _bad_entry(source.name, name, entry)
    names, of, ends = [], [], []
    kinds: dict[str, Kind] = {}
    expected = 0
    # The sort is stable: empty tensors at one offset stay in the order of the header.
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, dimensions, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        if begin != expected or end < begin:
            raise FormatError(
                f"{source.name} puts {name[:200]!r} at bytes {reprlib.repr(begin)} to {reprlib.repr(end)} of its data",
                f"it to begin at {expected:,}, as tensors follow each other without gap or overlap", _WRITER,
            )  # fmt: skip
        expected = end
        bits = _bits(dimensions, _BITS[dtype])
        if bits != (end - begin) * 8:
            raise FormatError(
                f"{source.name} gives {name[:200]!r} {reprlib.repr(end - begin)} bytes for {dtype} of shape "
                f"{reprlib.repr(dimensions)}",
                f"{_size(bits)} of them", _WRITER,
            )  # fmt: skip
        kind = f"{dtype} {dimensions}"
        kinds.setdefault(kind, (dimensions, DTYPES[dtype]))
        names.append(name)
        of.append(kind)
        ends.append(end)
    if data_start + expected != source.size:
        raise FormatError(
            f"{source.name} has {source.size:,} bytes", f"{data_start + expected:,} as its header says", _AGAIN
        )
    return Columns(file, data_start, names, of, kinds, ends)


def _bits(shape: Sequence[int], element_bits: int) -> int | None:
    """The tensor's bits; None when the product leaves 64 bits on the way, even if a zero brings it back."""
    # Few and small dimensions cannot leave them; many large ones would take quadratic time to multiply.
    if len(shape) <= 4 and max(shape, default=0) < 2**14:
        return math.prod(shape) * element_bits
    product = 1
    for length in shape:
        product *= length
        if length > _U64 or product > _U64:
            return None
    return product * element_bits if product * element_bits <= _U64 else None


def _size(bits: int | None) -> str:
    if bits is None:
        return "fewer than 2^61"
    return f"{bits // 8:,}" if bits % 8 == 0 else f"a whole number, not {bits / 8:,}"


def _bad_entry(file: str, name: str, entry: Any) -> FormatError:
    """The error for an entry that does not have the form of the format: says which part is wrong."""
    if isinstance(entry, dict):
        entry = {field: entry[field] for field in ("dtype", "shape", "data_offsets") if field in entry}
    dtype = entry.get("dtype") if isinstance(entry, dict) else None
    unknown = isinstance(dtype, str) and dtype not in DTYPES
    return FormatError(
        f"{file} describes the tensor {name[:200]!r} as {reprlib.repr(entry)}",
        f"a dtype such as {', '.join(DTYPES)}" if unknown
        else "a dtype, a shape of whole numbers and data_offsets of two, such as "
        '{"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}',
        "update this program if the file is newer than it" if unknown else _WRITER,
    )  # fmt: skip


def _plain_metadata(metadata: Mapping[str, str]) -> dict[str, Any]:
    """The file's own metadata, its keys kept clear of those that the reader writes itself."""
    return {
        f"{METADATA}{key}" if key in _RESERVED or key.startswith(METADATA) else key: value
        for key, value in metadata.items()
    }


def _merge_metadata(shards: Iterable[_Shard], notes: list[str]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    conflicts: dict[str, str] = {}
    for shard in shards:
        for key, value in _plain_metadata(shard.metadata).items():
            if merged.setdefault(key, value) != value:
                conflicts.setdefault(key, shard.file.name)
    for key, file in conflicts.items():
        notes.append(
            f"the shards differ in the metadata {key[:100]!r}, first in {file}; the first shard's value is kept"
        )
    return merged


def _check_present(folder: Folder, files: Sequence[str]) -> None:
    present = set(folder.names())
    missing = [name for name in files if name not in present]
    if missing:
        raise _missing(folder.name, len(missing), len(files), missing[0])


def _missing(folder: str, missing: int, all_files: int, first: str) -> SourceError:
    return SourceError(
        f"{folder} lacks {missing:,} of {all_files:,} shards, {first} first",
        "every file of the model beside the others", "get the missing files",
    )  # fmt: skip


def _check_parts(folder: str, files: Iterable[str]) -> None:
    """Refuses a set of numbered files with gaps. Numbers begin at 1, with some writers at 0."""
    sets: dict[tuple[str, int], dict[int, str]] = {}
    for name in files:
        match = _PART.fullmatch(name)
        if match is None:
            continue
        parts = sets.setdefault((match[1], int(match[3])), {})
        number = int(match[2])
        if number in parts or number > int(match[3]):
            raise FormatError(
                f"{folder} holds {name}", "each number up to the last once", "keep one set of shards there"
            )
        parts[number] = name
    for (_, count), parts in sets.items():
        begin = 0 if 0 in parts else 1
        if len(parts) < count:
            first = next(number for number in range(begin, begin + count) if number not in parts)
            raise _missing(folder, count - len(parts), count, f"number {first}")
        if len(parts) > count:
            raise FormatError(
                f"{folder} holds {len(parts)} shards, {parts[begin]} first",
                f"{count} of them",
                "keep one set of shards there",
            )


def _twice(shards: Sequence[_Shard]) -> FormatError:
    """The error for shards of which two hold the same tensor."""
    holders: dict[str, str] = {}
    file, name = next(
        (shard.file.name, name) for shard in shards for name in shard.columns.names
        if holders.setdefault(name, shard.file.name) is not shard.file.name
    )  # fmt: skip
    return FormatError(
        f"{holders[name]} and {file} both hold the tensor {name[:200]!r}", "each tensor in one shard",
        "read them as two models, or get the files again from one revision",
    )  # fmt: skip


def _holders(shards: Iterable[_Shard]) -> dict[str, str]:
    """The file that holds each tensor."""
    return {name: shard.file.name for shard in shards for name in shard.columns.names}


def _check_index(weight_map: Mapping[str, str], holders: Mapping[str, str]) -> None:
    """Holds the index against the shards' own headers, both ways."""
    if weight_map == holders:
        return
    absent = [name for name in weight_map if name not in holders]
    if absent:
        raise FormatError(
            f"the index names {len(absent):,} tensors that no shard holds, {absent[0][:200]!r} first",
            "each in the shard that the index gives", _INDEX,
        )  # fmt: skip
    extra = [name for name in holders if name not in weight_map]
    if extra:
        raise FormatError(
            f"the shards hold {len(extra):,} tensors that the index lacks, {extra[0][:200]!r} first",
            "each of them in the index", _INDEX,
        )  # fmt: skip
    moved = [name for name, file in weight_map.items() if holders[name] != file]
    first = moved[0]
    raise FormatError(
        f"the index misplaces {len(moved):,} tensors, {first[:200]!r} first, which is in {holders[first]}",
        f"it in {weight_map[first]}", _INDEX,
    )  # fmt: skip


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keeps the cyclic collector off a growing table that has no cycles: for 90,000 tensors, a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
