"""What does a PyTorch zip checkpoint (.pt, .pth, .bin) hold? Its tensor table; nothing in it is ever run.

Layout, as `torch.save` writes it since 1.6: an uncompressed zip with one folder, named by its first entry:

    archive/data.pkl        the saved object, whose storages are references (`torch_pickle` reads it)
    archive/data/<key>      one storage's bytes, aligned to 64 by a filled extra field of its local header
    archive/version ...     byte order, format version, serialization id

Few reads: the first bytes, the file's tail, its central directory (mostly in the tail), the local header of `data.pkl`
and `data.pkl`. The archive is parsed here and not by `zipfile`, which takes some archives otherwise than torch's reader
does (repeated names, data before the archive, overlapping entries): all of these are refused.

`Checkpoint.metadata` holds `wrapper`, the single key such as `state_dict` that was stripped from the names;
`foreign_names`, what `torch.load(weights_only=False)` would import beyond tensors; `aliases`, further paths to the same
dict or list; `values`, the plain values at the top; `unnamed_storages`, how many storages no tensor of the table uses.

The file does not say what is a buffer, except in pickled modules. Two tensors of one storage, offset and shape are
tied; other views that overlap are not told. `byte_range` is None, as it would take one read for each storage; only a
tensor with more elements than it stores (a saved `expand()`) has one.

Sources: pytorch/pytorch, release 2.13: `torch/serialization.py` (`_save`, `_load`, `_is_torchscript_zip`), measured
files; PKWARE APPNOTE 6.3.10, sections 4.3.7 to 4.5.3 (zip records).
"""

from __future__ import annotations

import hashlib
import itertools
import math
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import torch_pickle
from weighbridge.formats.byte_source import ByteSource, Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.torch_pickle import TensorTable
from weighbridge.model.tensors import TensorSpec

MAX_ENTRIES = 100_000
MAX_DIRECTORY_BYTES = 32 * 1024 * 1024
MAX_PICKLE_BYTES = 64 * 1024 * 1024
MAX_PICKLE_RATIO = 200
"""torch stores `data.pkl` as it is; a tensor table that others deflate shrinks about 10 to 30 times."""
MAX_EXPANDED = 1000
"""Tensors with more elements than they store: each takes a read."""

_LEGACY_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""0x1950a86a20f9469cfc6c, which begins a file of the format before torch 1.6."""
_TAIL_BYTES = 22 + 0xFFFF
_DEFLATE_RATIO = 1032
"""The most that deflate can shrink anything."""
_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
_DO_NOT_USE = "do not use this file: torch.save never writes such a one"
_NO_TORCH_FILE = "check that it is a torch file"


class _Entry(NamedTuple):
    """One record of the central directory. `end` is where the next entry or the directory begins."""

    name: str
    raw_name: bytes
    flags: int
    method: int
    crc: int
    stored: int
    size: int
    offset: int
    end: int


def _directory(source: ByteSource) -> tuple[bytes, int, int]:
    """The central directory's bytes, its number of entries and its offset, from the records at the file's end."""
    start = max(0, source.size - _TAIL_BYTES)
    tail = source.read(start, source.size - start)
    at = tail.rfind(b"PK\5\6")
    if at < 0 or len(tail) - at < 22:
        _fail(source, "it has no zip directory at its end", "a whole zip file", _GET_AGAIN)
    disk, other_disk, here, count, size, offset, comment = struct.unpack_from("<4H2LH", tail, at + 4)
    end = start + at
    if at + 22 + comment != len(tail):
        _fail(source, "it has bytes after its zip directory", "a zip file that ends with its directory", _GET_AGAIN)
    if at >= 20 and tail[at - 20 : at - 16] == b"PK\6\7":
        (end,) = struct.unpack_from("<Q", tail, at - 12)
        record = source.read(end, 56)
        wide = struct.unpack_from("<4Q", record, 24)
        narrow = (here, count, size, offset)
        for is_, of, top in zip(narrow, wide, (0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF), strict=True):
            if record[:4] != b"PK\6\6" or is_ not in (of, top):
                _fail(source, "it has two zip directories that disagree", "one ZIP64 directory", _DO_NOT_USE)
        here, count, size, offset = wide
    if here != count or (disk, other_disk) not in ((0, 0), (0xFFFF, 0xFFFF)):
        _fail(source, "it is a zip split over several disks", "a single zip file", "join its parts first")
    if count > MAX_ENTRIES or size > MAX_DIRECTORY_BYTES:
        read = f"it has a zip directory of {count:,} entries in {size:,} bytes"
        _fail(source, read, f"at most {MAX_ENTRIES:,} entries in {MAX_DIRECTORY_BYTES:,} bytes", _DO_NOT_USE)
    if offset + size > end or size < 46 * count:
        _fail(source, "its zip directory does not fit into the file", "a whole zip file", _GET_AGAIN)
    return tail[offset - start :][:size] if offset >= start else source.read(offset, size), count, offset


def _entries(source: ByteSource, directory: bytes, count: int, directory_offset: int) -> list[_Entry]:
    """The directory's entries in its order, checked to have names of their own and to lie apart."""
    found: list[_Entry] = []
    names: set[str] = set()
    at = 0
    for _ in range(count):
        if len(directory) - at < 46 or directory[at : at + 4] != b"PK\1\2":
            _fail(source, f"its zip directory is damaged at entry {len(found)}", "a directory record", _GET_AGAIN)
        flags, method, crc, stored, size, n, extra, note, _, offset = struct.unpack_from(
            "<8x2H4x3L4H6xL", directory, at
        )
        raw_name = directory[at + 46 : at + 46 + n]
        fields = directory[at + 46 + n : at + 46 + n + extra]
        at += 46 + n + extra + note
        name = raw_name.decode("utf-8", "replace")
        if at > len(directory) or not name or not name.isprintable() or "\ufffd" in name:
            _fail(source, f"it has the zip entry name {name[:100]!r}", "a readable name", _GET_AGAIN)
        if name.lower() in names:
            _fail(source, f"it has two zip entries named {name[:100]!r}", "names of their own", _DO_NOT_USE)
        names.add(name.lower())
        if flags & 0x2041:
            _fail(source, f"the zip entry {name[:100]!r} is encrypted", "open entries", "save it without a password")
        wide = iter(_zip64(fields))
        size, stored, offset = (next(wide, x) if x == 0xFFFFFFFF else x for x in (size, stored, offset))
        found.append(_Entry(name, raw_name, flags, method, crc, stored, size, offset, directory_offset))
    if at != len(directory):
        _fail(source, "its zip directory has bytes left over", "a directory of whole records", _GET_AGAIN)
    order = sorted(range(count), key=lambda i: found[i].offset)
    for i, j in itertools.pairwise(order):
        found[i] = found[i]._replace(end=found[j].offset)
    for entry in found:
        if entry.offset + 30 + len(entry.raw_name) + entry.stored > entry.end:
            read = f"the zip entry {entry.name[:100]!r} reaches into what follows it"
            _fail(source, read, "entries that lie apart", _DO_NOT_USE)
    return found


def _zip64(fields: bytes) -> tuple[int, ...]:
    """The 64-bit sizes and offset in an entry's extra fields, in the record's order; empty when there are none."""
    at = 0
    while len(fields) - at >= 4:
        key, length = struct.unpack_from("<2H", fields, at)
        if key == 1:
            count = len(fields[at + 4 : at + 4 + min(length, 24)]) // 8
            return struct.unpack_from(f"<{count}Q", fields, at + 4)
        at += 4 + length
    return ()


def _data_start(source: ByteSource, entry: _Entry) -> int:
    """Where an entry's bytes begin, from its local header."""
    header = source.read(entry.offset, 30 + len(entry.raw_name))
    n, extra = struct.unpack_from("<2H", header, 26)
    begin: int = entry.offset + 30 + n + extra
    if header[:4] != b"PK\3\4" or header[30:] != entry.raw_name or n != len(entry.raw_name):
        _fail(
            source,
            f"the local header of {entry.name[:100]!r} disagrees with the zip directory",
            "one name",
            _DO_NOT_USE,
        )
    if begin + entry.stored > entry.end:
        _fail(source, f"the zip entry {entry.name[:100]!r} overruns its place", "entries that lie apart", _DO_NOT_USE)
    return begin


def _unpacked(source: ByteSource, entry: _Entry) -> bytes:
    """The bytes of `data.pkl`, inflated where somebody deflated it, never more than the directory says."""
    limit = min(MAX_PICKLE_BYTES, MAX_PICKLE_RATIO * entry.stored)
    if entry.size > limit or entry.method not in (0, 8) or entry.stored > MAX_PICKLE_BYTES:
        read = f"its data.pkl has {entry.size:,} bytes in {entry.stored:,} (zip method {entry.method})"
        _fail(source, read, f"at most {limit:,} bytes, stored or deflated", _DO_NOT_USE)
    data = source.read(_data_start(source, entry), entry.stored)
    if entry.method == 8:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.size + 1)
        except zlib.error:
            data = b""
    # torch.serialization.set_crc32_options(False) writes 0.
    if len(data) != entry.size or entry.crc not in (0, zlib.crc32(data)):
        _fail(
            source,
            "its data.pkl has another size or checksum than the zip directory says",
            "a whole data.pkl",
            _GET_AGAIN,
        )
    return data


def _check_storages(source: ByteSource, table: TensorTable, entries: dict[str, _Entry], folder: str) -> None:
    """Each storage has its entry, of its own length."""
    for storage in table.storages:
        key, item = storage.key[:100], storage.encoding.bytes_per_block
        entry = entries.get(f"{folder}/data/{storage.key}")
        if entry is None:
            _fail(source, f"storage {key!r} has no entry", "an entry for each storage", _GET_AGAIN)
        if not storage.elements * item <= entry.size < (storage.elements + 1) * item:
            read = f"storage {key!r} has {entry.size:,} bytes"
            _fail(source, read, f"its {storage.elements:,} elements of {item} bytes", _GET_AGAIN)
        if entry.method not in (0, 8) or entry.size > entry.stored * (_DEFLATE_RATIO if entry.method else 1):
            read = f"storage {key!r} claims {entry.size:,} bytes in {entry.stored:,} (zip method {entry.method})"
            _fail(source, read, "storages stored or deflated, as large as they say", _DO_NOT_USE)


def _specs(source: ByteSource, table: TensorTable, entries: dict[str, _Entry], folder: str) -> tuple[TensorSpec, ...]:
    """The table as specifications; of tensors on one place of a storage, all but the first are tied."""
    owners: dict[tuple[str, int, tuple[int, ...]], str] = {}
    expanded = 0
    specs = []
    for name, tensor, kind in table.tensors:
        span = None
        if math.prod(tensor.shape) > tensor.extent:
            expanded += 1
            entry = entries[f"{folder}/data/{tensor.storage.key}"]
            if expanded > MAX_EXPANDED or entry.method != 0:
                read = f"{name[:100]} is a view with more elements than it stores, of a kind that is not read"
                _fail(source, read, f"at most {MAX_EXPANDED:,} of these, uncompressed", "save them as whole tensors")
            item = tensor.encoding.bytes_per_block
            begin = _data_start(source, entry) + tensor.offset * item
            span = (begin, begin + tensor.extent * item)
        owner = owners.setdefault((tensor.storage.key, tensor.offset, tensor.shape), name)
        tied_to = None if owner == name else owner
        specs.append(
            TensorSpec(
                name, tensor.shape, tensor.encoding, kind=kind, tied_to=tied_to, file=file_name(source), byte_range=span
            )
        )
    return tuple(specs)


def _account(source: ByteSource, storages: list[_Entry]) -> StoredFile:
    """The file's bytes. In a storage's place, what is no header, name, data or descriptor is padding."""
    tensor_bytes = padding = 0
    for entry in storages:
        descriptor = 0
        if entry.flags & 8:
            descriptor = 24 if max(entry.offset, entry.size) >= 0xFFFFFFFF else 16
        tensor_bytes += entry.stored
        padding += max(0, entry.end - entry.offset - 30 - len(entry.raw_name) - entry.stored - descriptor)
    return StoredFile(file_name(source), source.size, source.size - tensor_bytes - padding, tensor_bytes, padding)


def _refuse_other_formats(source: ByteSource) -> None:
    head = source.read(0, min(64, source.size))
    if head.startswith(b"PK\3\4"):
        return
    if _LEGACY_MAGIC in head:
        action = "load it with torch.load(weights_only=True) and save it again with torch.save, which makes it readable"
        _fail(source, "it has the legacy format, from before torch 1.6", "a zip checkpoint", action)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        action = "do not load it with torch.load(weights_only=False), which would run what it says"
        _fail(source, "it is a bare pickle", "a zip checkpoint of torch.save", action)
    _fail(source, f"it begins with {head[:4]!r}", "a zip checkpoint of torch.save", _NO_TORCH_FILE)


def _fail(source: ByteSource, read: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{source.name}: {read}", expected, action)


def read(source: ByteSource) -> Checkpoint:
    r"""The checkpoint of one PyTorch zip file.

    Raises:
        FormatError: for other formats, for damage, for archives and pickles that torch does not write, for TorchScript
            and for files whose tensors cannot be told without running code.

    Example:
        >>> import io, zipfile
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        ...     archive.writestr("archive/data.pkl", b"\x80\x02}X\x05\0\0\0epochK\x03s.")
        >>> checkpoint = read(MemoryFile("a.pt", file.getvalue()))
        >>> checkpoint.tensors, checkpoint.metadata["values"]
        ((), {'epoch': 3})
    """
    _refuse_other_formats(source)
    directory, count, offset = _directory(source)
    records = _entries(source, directory, count, offset)
    entries = {entry.name: entry for entry in records}
    top, slash, _ = records[0].name.partition("/") if records else ("", "", "")
    if f"{top}/constants.pkl" in entries:
        action = "load it with torch.jit.load and save its state_dict() with torch.save"
        _fail(source, "it is a TorchScript archive, which is a program", "a checkpoint of weights", action)
    if not slash or f"{top}/data.pkl" not in entries:
        _fail(source, "it is a zip without data.pkl", "a zip checkpoint of torch.save", _NO_TORCH_FILE)
    data = _unpacked(source, entries[f"{top}/data.pkl"])
    table = torch_pickle.read(source.name, data)
    _check_storages(source, table, entries, top)
    storages = [entry for entry in records if entry.name.startswith(f"{top}/data/")]
    metadata = {
        "wrapper": table.wrapper,
        "foreign_names": table.foreign_names,
        "values": table.values,
        "aliases": table.aliases,
        "unnamed_storages": len(storages) - len({tensor.storage.key for _, tensor, _ in table.tensors}),
    }
    return Checkpoint(
        source.name, "torch", (_account(source, storages),), _specs(source, table, entries, top), metadata=metadata,
        digest=hashlib.sha256(directory + data).hexdigest(),
    )  # fmt: skip


def read_sharded(folder: Folder, names: Sequence[str]) -> Checkpoint:
    """All files of a model that was cut into shards, in the order of their names.

    Of the metadata only `foreign_names` are joined. The digest is the SHA-256 of the shards' digests.

    Raises:
        FormatError: when a shard is damaged, or two hold a tensor of one name.
        SourceError: when a shard is missing.
    """
    shards = [read(folder.open(name)) for name in sorted(names)]
    holders: dict[str, str] = {}
    for tensor in (tensor for shard in shards for tensor in shard.tensors):
        if holders.setdefault(tensor.name, tensor.file) != tensor.file:
            read_ = f"{folder.name}: {tensor.name[:100]!r} is in {holders[tensor.name]} and in {tensor.file}"
            raise FormatError(read_, "each tensor in one shard", "get the shards again, all of one model")
    foreign = sorted({name for shard in shards for name in shard.metadata["foreign_names"]})
    return Checkpoint(
        folder.name, "torch", tuple(file for shard in shards for file in shard.files),
        tuple(tensor for shard in shards for tensor in shard.tensors), metadata={"foreign_names": tuple(foreign)},
        digest=hashlib.sha256(b"".join(bytes.fromhex(shard.digest) for shard in shards)).hexdigest(),
    )  # fmt: skip
