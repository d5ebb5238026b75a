"""What does a PyTorch file from before torch 1.6 hold? Its tensor table; nothing in it is ever run.

Layout: five pickles one after the other, then the storages without padding, always little-endian:

    0x1950a86a20f9469cfc6c      a number that marks the format
    1001                        the version of the protocol
    {"little_endian": ...}      the machine that wrote it
    the saved object            its storages are references (`torch_pickle` reads it)
    ["94...", ...]              the storages' keys, in their order in the file
    for each storage            its number of elements (int64) and their bytes

Few reads: those of the pickles. The number before each storage is held against the pickle where it lies in what was
read; the sum of all sizes must be the file's. As the places of all storages follow from the pickles, a tensor whose
elements lie in their order has its byte range.

`Checkpoint.metadata` is that of `torch_zip`. The tar archives from before torch 0.1.10 are refused.

Source: pytorch/pytorch, release 2.13: `torch/serialization.py` (`_legacy_save`, `_legacy_load`),
`torch/csrc/serialization.cpp`.
"""

from __future__ import annotations

from typing import NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import torch_pickle, torch_storages
from weighbridge.formats.byte_source import ByteSource, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.pickle_stream import SourceStream
from weighbridge.formats.pickle_symbols import DO_NOT_USE, GET_AGAIN, Node, Walk
from weighbridge.formats.torch_pickle import Storage, TorchWalk
from weighbridge.formats.torch_storages import Opened, StretchPlaces

PROTOCOL = 1001
_MAGIC = 0x1950A86A20F9469CFC6C


def is_legacy(head: bytes) -> bool:
    """Whether a file that begins so has this format: a pickle of the number that marks it."""
    return head[:1] == b"\x80" and _MAGIC.to_bytes(10, "little") in head[2:32]


def refuse_tar(source: ByteSource, head: bytes) -> None:
    """Refuses the tar archives of the first versions of torch.

    Raises:
        FormatError: when the file is a tar archive.
    """
    if head[257:262] == b"ustar":
        action = "load it where it is trusted with torch.load and save it again with torch.save"
        _fail(source, "it is a tar archive, as torch wrote before 0.1.10 or another program", "a later file", action)


def read(source: ByteSource) -> Opened:
    """The checkpoint of one file, and where its tensors lie.

    Raises:
        FormatError: for damage, for pickles that torch does not write, and for files whose tensors cannot be told
            without running code.
    """
    stream = SourceStream(source)
    first = [Walk(f"{source.name}: its pickle {i + 1}", stream) for i in range(3)]
    magic, version, machine = (walk.run() for walk in first)
    if (magic, version) != (_MAGIC, PROTOCOL) or not isinstance(machine, Node) or machine.keys is None or machine.name:
        _fail(source, "its first pickles are not those of torch.save", "a number, 1001 and a dict", DO_NOT_USE)
    walk = TorchWalk(f"{source.name}: its pickle", stream, is_legacy=True)
    root = walk.run()
    table = torch_pickle.table(walk, root)
    last = Walk(f"{source.name}: its list of storages", stream)
    storages = _in_order(source, last.run(), walk.storages)
    header = stream.tell()
    begins = {}
    at = header
    for storage in storages:
        _check_count(source, stream, storage, at)
        begins[storage.key] = at + 8
        at += 8 + storage.elements * storage.encoding.bytes_per_block
    if at != source.size:
        read_ = f"it has {source.size:,} bytes, but its storages end at {at:,}"
        _fail(source, read_, "a file that ends with its last storage", GET_AGAIN)
    places = StretchPlaces(source, begins)
    counts = 8 * len(storages)
    file = StoredFile(file_name(source), source.size, header + counts, source.size - header - counts, 0)
    metadata = {
        "wrapper": table.wrapper,
        "foreign_names": tuple(sorted(walk.foreign.union(*(other.foreign for other in (*first, last))))),
        "values": table.values,
        "aliases": table.aliases,
        "sparse": table.sparse,
        "unnamed_storages": len(storages) - len({row.tensor.storage.key for row in table.tensors}),
    }
    checkpoint = Checkpoint(
        source.name, "torch", (file,), torch_storages.specs(source, table.tensors, places), metadata=metadata,
        digest=stream.digest(), notes=table.notes,
    )  # fmt: skip
    return torch_storages.opened(checkpoint, table.tensors, places)


def _in_order(source: ByteSource, keys: object, storages: dict[str, Storage]) -> list[Storage]:
    """The storages in the order in which they lie in the file."""
    given = keys.values if isinstance(keys, Node) and keys.keys is None and not keys.name else [None]
    names = [name for name in given if type(name) is str]
    if set(names) != set(storages) or len(given) != len(storages):
        _fail(source, "its list of storages is not that of its pickle", "each storage once", DO_NOT_USE)
    return [storages[name] for name in names]


def _check_count(source: ByteSource, stream: SourceStream, storage: Storage, at: int) -> None:
    """Holds the number before a storage against the pickle, where it was read with the pickles."""
    held = stream.held(at, 8)
    if held is not None and int.from_bytes(held, "little") != storage.elements:
        read_ = f"storage {storage.key[:100]!r} begins with the number {int.from_bytes(held, 'little'):,}"
        _fail(source, read_, f"its {storage.elements:,} elements", GET_AGAIN)


def _fail(source: ByteSource, read_: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{source.name}: {read_}", expected, action)
