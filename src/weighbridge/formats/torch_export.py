"""What does an exported PyTorch program (.pt2) hold? Its weights and constants; nothing of it is run.

Layout, as `torch.export.save` writes it since 2.9, in one folder of an uncompressed zip:

    archive/archive_format                                the three letters pt2
    archive/data/weights/<model>_weights_config.json      name, entry, type, sizes and strides of each weight
    archive/data/weights/weight_<n>                       the bytes of one storage
    archive/data/constants/<model>_constants_config.json  the same of buffers that are not saved, and other constants
    archive/models/<model>.json                           the program, which is not read

A weight with `is_param` is a parameter, any other and every constant a buffer. What is stored as a pickle (custom
objects, tensor subclasses) is left out with a note. Archives of torch before 2.9 and compiled ones, which have no such
tables, are refused.

Source: pytorch/pytorch, release 2.13: `torch/export/pt2_archive/_package.py`, `torch/_export/serde/schema.py`
(`PayloadMeta`, `TensorMeta`, `ScalarType`).
"""

from __future__ import annotations

import hashlib
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import json_text, torch_pickle, torch_storages
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.torch_pickle import MAX_DIMS, Storage, Tensor
from weighbridge.formats.torch_storages import ArchivePlaces, Opened
from weighbridge.formats.zip_archive import ZipArchive
from weighbridge.model import encodings
from weighbridge.model.tensors import Kind

MAX_CONFIG_BYTES = 16 * 1024 * 1024
MAX_RATIO = 200
_TYPES = {
    1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "fp16", 7: "fp32", 8: "fp64", 10: "complex64",
    11: "complex128", 12: "bool", 13: "bf16", 28: "uint16", 29: "fp8", 30: "fp8_e5m2", 31: "fp8_e4m3fnuz",
    32: "fp8_e5m2fnuz", 33: "fp8_e8m0", 34: "uint32", 35: "uint64",
}  # fmt: skip
_SAVE_AGAIN = "load it with torch.export.load and save it again with a torch of 2.9 or later"


def is_export(archive: ZipArchive, top: str) -> bool:
    """Whether an archive is one of `torch.export.save`."""
    return f"{top}/archive_format" in archive.entries or "serialized_exported_program.json" in archive.entries


def read(archive: ZipArchive, top: str) -> Opened:
    """The checkpoint of one archive, and where its tensors lie.

    Raises:
        FormatError: for damage, and for archives without tables of weights.
    """
    source = archive.source
    tables = [
        (folder, name)
        for folder in ("data/weights/", "data/constants/")
        for name in sorted(archive.entries)
        if name.startswith(f"{top}/{folder}") and name.endswith("_config.json")
    ]
    if not any(folder == "data/weights/" for folder, _ in tables):
        _fail(source.name, "it is an exported program without a table of its weights", "its tables", _SAVE_AGAIN)
    found: list[tuple[str, Tensor, Kind]] = []
    storages: dict[str, Storage] = {}
    texts, pickled = [], 0
    models = {_model(name) for _, name in tables}
    for folder, name in tables:
        text = archive.read(archive.entries[name], MAX_CONFIG_BYTES, MAX_RATIO)
        texts.append(text)
        where = f"{source.name}: {name.rpartition('/')[2]}"
        for path, payload in _payloads(where, text).items():
            if payload.get("use_pickle") is not False:
                pickled += 1
                continue
            tensor = _tensor(where, payload, folder, archive, top, storages)
            kind = Kind.PARAMETER if payload.get("is_param") is True else Kind.BUFFER
            found.append((path if len(models) == 1 else f"{_model(name)}.{path}", tensor, kind))
    rows = torch_pickle.rows(f"{source.name}: it", found)
    places = ArchivePlaces(archive, top, tuple(storages.values()))
    entries = [archive.entries[f"{top}/{key}"] for key in storages]
    notes: tuple[str, ...] = ("it is an exported program: its weights were read, the program was not",)
    if pickled:
        notes += (f"{pickled:,} weights or constants are pickled objects, which were left out",)
    checkpoint = Checkpoint(
        source.name, "torch", (torch_storages.account(source, entries),), torch_storages.specs(source, rows, places),
        metadata={"wrapper": "", "foreign_names": (), "values": {}, "aliases": {}, "unnamed_storages": 0},
        digest=hashlib.sha256(archive.directory + b"".join(texts)).hexdigest(), notes=notes,
        byte_order=torch_storages.byte_order(archive, top),
    )  # fmt: skip
    return torch_storages.opened(checkpoint, rows, places)


def _model(name: str) -> str:
    """The model that a table belongs to."""
    return name.rpartition("/")[2].removesuffix("_config.json").removesuffix("_weights").removesuffix("_constants")


def _payloads(where: str, text: bytes) -> dict[str, dict[str, Any]]:
    table = json_text.parse(text, where, max_bytes=MAX_CONFIG_BYTES)
    config = table.get("config") if isinstance(table, dict) else None
    if not isinstance(config, dict) or not all(isinstance(payload, dict) for payload in config.values()):
        _fail(where, "it is no table of weights", "an object `config`", _SAVE_AGAIN)
    return config


def _tensor(
    where: str, payload: dict[str, Any], folder: str, archive: ZipArchive, top: str, storages: dict[str, Storage]
) -> Tensor:
    """The view that a row of a table describes; its storage is a whole entry."""
    meta = payload.get("tensor_meta")
    path = payload.get("path_name")
    code = meta.get("dtype") if isinstance(meta, dict) else None
    encoding = _TYPES.get(code) if type(code) is int else None
    if not isinstance(meta, dict) or encoding is None or meta.get("layout") != 7 or type(path) is not str:
        _fail(where, "it has a weight that is no plain tensor of a known type", "dense tensors", _SAVE_AGAIN)
    shape, stride = _counts(where, meta.get("sizes")), _counts(where, meta.get("strides"))
    (offset,) = _counts(where, [meta.get("storage_offset")])
    entry = archive.entries.get(f"{top}/{folder}{path}")
    if entry is None or len(shape) != len(stride):
        _fail(where, f"it names the entry {path[:100]!r}, which is not there", "an entry for each weight", _SAVE_AGAIN)
    known = encodings.find(encoding)
    held = entry.size // known.bytes_per_block
    storage = storages.setdefault(folder + path, Storage(known, folder + path, held))
    tensor = Tensor(storage, known, offset, shape, stride)
    if tensor.elements >= 2**63 or (tensor.extent and offset + tensor.extent > held):
        _fail(where, f"it has a weight that reaches past the {held:,} elements of {path[:100]!r}", "weights inside",
              "do not use this file")  # fmt: skip
    return tensor


def _counts(where: str, values: Any) -> tuple[int, ...]:
    """Numbers that are no symbols."""
    given = values if isinstance(values, list) else [None]
    counts = [x for value in given if isinstance(value, dict) and type(x := value.get("as_int")) is int and x >= 0]
    if len(counts) != len(given) or len(counts) > MAX_DIMS or max(counts, default=0) >= 2**63:
        _fail(where, "it has a weight whose sizes are no counts", "whole numbers", _SAVE_AGAIN)
    return tuple(counts)


def _fail(where: str, read_: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{where}: {read_}", expected, action)
