"""What does a PyTorch zip checkpoint (.pt, .pth, .bin) hold? Its tensor table; nothing in it is ever run.

Layout, as `torch.save` writes it since 1.6: an uncompressed zip with one folder, named by its first entry:

    archive/data.pkl        the saved object, whose storages are references (`torch_pickle` reads it)
    archive/data/<key>      one storage's bytes, aligned to 64 by a filled extra field of its local header
    archive/version ...     byte order, format version, serialization id

Few reads: the first bytes, those of `zip_archive` and `data.pkl`.

`Checkpoint.metadata` holds `wrapper`, the single key such as `state_dict` that was stripped from the names;
`foreign_names`, what `torch.load(weights_only=False)` would import beyond tensors; `aliases`, further paths to the same
dict or list; `values`, the plain values at the top; `unnamed_storages`, how many storages no tensor of the table uses.

The file does not say what is a buffer, except in pickled modules. Two tensors of one storage, offset and shape are
tied; other views that overlap are not told. `byte_range` is None, as it would take one read for each storage; only a
tensor with more elements than it stores (a saved `expand()`) has one.

Sources: pytorch/pytorch, release 2.13: `torch/serialization.py` (`_save`, `_load`, `_is_torchscript_zip`), measured
files.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import torch_pickle
from weighbridge.formats.byte_source import ByteSource, Folder, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.torch_pickle import TensorTable
from weighbridge.formats.zip_archive import DEFLATE_RATIO, Entry, ZipArchive
from weighbridge.model.tensors import TensorSpec

MAX_PICKLE_BYTES = 64 * 1024 * 1024
MAX_PICKLE_RATIO = 200
"""torch stores `data.pkl` as it is; a tensor table that others deflate shrinks about 10 to 30 times."""
MAX_EXPANDED = 1000
"""Tensors with more elements than they store: each takes a read."""

_LEGACY_MAGIC = bytes.fromhex("6cfc9c46f9206aa85019")
"""0x1950a86a20f9469cfc6c, which begins a file of the format before torch 1.6."""
_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
_DO_NOT_USE = "do not use this file: torch.save never writes such a one"
_NO_TORCH_FILE = "check that it is a torch file"


def _check_storages(source: ByteSource, table: TensorTable, entries: dict[str, Entry], folder: str) -> None:
    """Each storage has its entry, of its own length."""
    for storage in table.storages:
        key, item = storage.key[:100], storage.encoding.bytes_per_block
        entry = entries.get(f"{folder}/data/{storage.key}")
        if entry is None:
            _fail(source, f"storage {key!r} has no entry", "an entry for each storage", _GET_AGAIN)
        if not storage.elements * item <= entry.size < (storage.elements + 1) * item:
            read = f"storage {key!r} has {entry.size:,} bytes"
            _fail(source, read, f"its {storage.elements:,} elements of {item} bytes", _GET_AGAIN)
        if entry.method not in (0, 8) or entry.size > entry.stored * (DEFLATE_RATIO if entry.method else 1):
            read = f"storage {key!r} claims {entry.size:,} bytes in {entry.stored:,} (zip method {entry.method})"
            _fail(source, read, "storages stored or deflated, as large as they say", _DO_NOT_USE)


def _specs(source: ByteSource, table: TensorTable, archive: ZipArchive, folder: str) -> tuple[TensorSpec, ...]:
    """The table as specifications; of tensors on one place of a storage, all but the first are tied."""
    owners: dict[tuple[str, int, tuple[int, ...]], str] = {}
    expanded = 0
    specs = []
    for name, tensor, kind in table.tensors:
        span = None
        if math.prod(tensor.shape) > tensor.extent:
            expanded += 1
            entry = archive.entries[f"{folder}/data/{tensor.storage.key}"]
            if expanded > MAX_EXPANDED or entry.method != 0:
                read = f"{name[:100]} is a view with more elements than it stores, of a kind that is not read"
                _fail(source, read, f"at most {MAX_EXPANDED:,} of these, uncompressed", "save them as whole tensors")
            item = tensor.encoding.bytes_per_block
            begin = archive.data_start(entry) + tensor.offset * item
            span = (begin, begin + tensor.extent * item)
        owner = owners.setdefault((tensor.storage.key, tensor.offset, tensor.shape), name)
        tied_to = None if owner == name else owner
        specs.append(
            TensorSpec(
                name, tensor.shape, tensor.encoding, kind=kind, tied_to=tied_to, file=file_name(source), byte_range=span
            )
        )
    return tuple(specs)


def _account(source: ByteSource, storages: list[Entry]) -> StoredFile:
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
    archive = ZipArchive(source)
    entries = archive.entries
    top, slash, _ = next(iter(entries), "").partition("/")
    if f"{top}/constants.pkl" in entries:
        action = "load it with torch.jit.load and save its state_dict() with torch.save"
        _fail(source, "it is a TorchScript archive, which is a program", "a checkpoint of weights", action)
    if not slash or f"{top}/data.pkl" not in entries:
        _fail(source, "it is a zip without data.pkl", "a zip checkpoint of torch.save", _NO_TORCH_FILE)
    data = archive.read(entries[f"{top}/data.pkl"], MAX_PICKLE_BYTES, MAX_PICKLE_RATIO)
    table = torch_pickle.read(source.name, data)
    _check_storages(source, table, entries, top)
    storages = [entry for entry in entries.values() if entry.name.startswith(f"{top}/data/")]
    metadata = {
        "wrapper": table.wrapper,
        "foreign_names": table.foreign_names,
        "values": table.values,
        "aliases": table.aliases,
        "unnamed_storages": len(storages) - len({tensor.storage.key for _, tensor, _ in table.tensors}),
    }
    return Checkpoint(
        source.name, "torch", (_account(source, storages),), _specs(source, table, archive, top), metadata=metadata,
        digest=hashlib.sha256(archive.directory + data).hexdigest(),
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
