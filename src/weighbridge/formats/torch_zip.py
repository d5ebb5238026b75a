"""What does a PyTorch checkpoint (.pt, .pth, .bin) hold? Its tensor table; nothing in it is ever run.

Layout, as `torch.save` writes it since 1.6: an uncompressed zip with one folder, named by its first entry:

    archive/data.pkl        the saved object, whose storages are references (`torch_pickle` reads it)
    archive/data/<key>      one storage's bytes, aligned to 64 by a filled extra field of its local header
    archive/byteorder       little or big
    archive/version ...     format version, serialization id

Few reads: the first bytes, those of `zip_archive` and `data.pkl`. What else has these endings is given to its module:
files from before torch 1.6 (`torch_legacy`), TorchScript (`torchscript`), exported programs (`torch_export`) and
pickles of arrays (`pickled_arrays`).

`Checkpoint.metadata` holds `wrapper`, the single key such as `state_dict` that was stripped from the names;
`foreign_names`, what `torch.load(weights_only=False)` would import beyond tensors; `aliases`, further paths to the same
dict or list; `values`, the plain values at the top; `unnamed_storages`, how many storages no tensor of the table uses.

The file does not say what is a buffer, except in pickled modules; the state of a training run that lies beside a model
(`optimizer` and the like) is one. `byte_range` is None, as it would take one read for
each storage; only a tensor with more elements than it stores (a saved `expand()`) has one. `pieces` reads the rest.

Sources: pytorch/pytorch, release 2.13: `torch/serialization.py` (`_save`, `_load`, `_is_torchscript_zip`), measured
files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import pickled_arrays, torch_export, torch_legacy, torch_pickle, torch_storages, torchscript
from weighbridge.formats.byte_source import ByteSource, Folder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.torch_storages import ArchivePlaces, Opened
from weighbridge.formats.zip_archive import ZipArchive
from weighbridge.model.tensors import TensorSpec

MAX_PICKLE_BYTES = 64 * 1024 * 1024
MAX_PICKLE_RATIO = 200
"""torch stores `data.pkl` as it is; a tensor table that others deflate shrinks about 10 to 30 times."""

_NO_TORCH_FILE = "check that it is a torch file"


def _fail(source: ByteSource, read: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{source.name}: {read}", expected, action)


def read(source: ByteSource) -> Checkpoint:
    r"""The checkpoint of one PyTorch file.

    Raises:
        FormatError: for other formats, for damage, for archives and pickles that torch does not write, and for files
            whose tensors cannot be told without running code.

    Example:
        >>> import io, zipfile
        >>> from weighbridge.formats.byte_source import MemoryFile
        >>> with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        ...     archive.writestr("archive/data.pkl", b"\x80\x02}X\x05\0\0\0epochK\x03s.")
        >>> checkpoint = read(MemoryFile("a.pt", file.getvalue()))
        >>> checkpoint.tensors, checkpoint.metadata["values"]
        ((), {'epoch': 3})
    """
    return _open(source).checkpoint


def pieces(folder: Folder, tensor: TensorSpec) -> Iterator[bytes]:
    """The elements of a tensor of a PyTorch file, its last axis running fastest, in pieces of at most 8 MiB.

    Raises:
        FormatError: when the file has no such tensor any more, or is damaged.
        SourceError: when it cannot be read any more.
    """
    return torch_storages.tensor_pieces(folder, tensor, _open)


def _open(source: ByteSource) -> Opened:
    head = source.read(0, min(512, source.size))
    if torch_legacy.is_legacy(head):
        return torch_legacy.read(source)
    if head[:1] == b"\x80" and head[1:2] in (b"\2", b"\3", b"\4", b"\5"):
        return pickled_arrays.open_file(source)
    torch_legacy.refuse_tar(source, head)
    if not head.startswith(b"PK\3\4"):
        expected = "a checkpoint of torch.save, or as *.bin one of GGUF, CTranslate2, Marian or fastText"
        _fail(source, f"it begins with {head[:4]!r}", expected, "check what the file is")
    archive = ZipArchive(source)
    top, slash, _ = next(iter(archive.entries), "").partition("/")
    if torch_export.is_export(archive, top):
        return torch_export.read(archive, top)
    if torchscript.is_script(archive, top):
        return torchscript.read(archive, top)
    if not slash or f"{top}/data.pkl" not in archive.entries:
        _fail(source, "it is a zip without data.pkl", "a zip checkpoint of torch.save", _NO_TORCH_FILE)
    return _read_zip(archive, top)


def _read_zip(archive: ZipArchive, top: str) -> Opened:
    source = archive.source
    entry = archive.entries[f"{top}/data.pkl"]
    data = archive.read(entry, MAX_PICKLE_BYTES, MAX_PICKLE_RATIO)
    table = torch_pickle.read(f"{source.name}: data.pkl", data, entry.stored)
    places = ArchivePlaces(archive, top, table.storages)
    storages = [entry for entry in archive.entries.values() if entry.name.startswith(f"{top}/data/")]
    metadata = {
        "wrapper": table.wrapper,
        "foreign_names": table.foreign_names,
        "values": table.values,
        "aliases": table.aliases,
        "sparse": table.sparse,
        "unnamed_storages": len(storages) - len({row.tensor.storage.key for row in table.tensors}),
    }
    checkpoint = Checkpoint(
        source.name, "torch", (torch_storages.account(source, storages),),
        torch_storages.specs(source, table.tensors, places), metadata=metadata,
        digest=hashlib.sha256(archive.directory + data).hexdigest(),
        notes=table.notes, byte_order=torch_storages.byte_order(archive, top),
    )  # fmt: skip
    return torch_storages.opened(checkpoint, table.tensors, places)


def read_sharded(folder: Folder, names: Sequence[str]) -> Checkpoint:
    """All files of a model that was cut into shards, in the order of their names.

    Of the metadata only `foreign_names` are joined. The digest is the SHA-256 of the shards' digests.

    Raises:
        FormatError: when a shard is damaged, two hold a tensor of one name, or they differ in their byte order.
        SourceError: when a shard is missing.
    """
    shards = [read(folder.open(name)) for name in sorted(names)]
    holders: dict[str, str] = {}
    for tensor in (tensor for shard in shards for tensor in shard.tensors):
        if holders.setdefault(tensor.name, tensor.file) != tensor.file:
            read_ = f"{folder.name}: {tensor.name[:100]!r} is in {holders[tensor.name]} and in {tensor.file}"
            raise FormatError(read_, "each tensor in one shard", "get the shards again, all of one model")
    if len({shard.byte_order for shard in shards}) > 1:
        read_ = f"{folder.name}: some shards are little-endian and some big-endian"
        raise FormatError(read_, "one byte order", "get the shards again, all of one model")
    foreign = sorted({name for shard in shards for name in shard.metadata["foreign_names"]})
    return Checkpoint(
        folder.name, "torch", tuple(file for shard in shards for file in shard.files),
        tuple(tensor for shard in shards for tensor in shard.tensors), metadata={"foreign_names": tuple(foreign)},
        digest=hashlib.sha256(b"".join(bytes.fromhex(shard.digest) for shard in shards)).hexdigest(),
        notes=tuple(dict.fromkeys(note for shard in shards for note in shard.notes)), byte_order=shards[0].byte_order,
    )  # fmt: skip
