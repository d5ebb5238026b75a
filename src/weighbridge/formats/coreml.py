"""What does a CoreML model hold? A `.mlpackage` folder, or an `.mlmodel` file with all in it.

A package is `Manifest.json`, which names its items, and `Data/com.apple.CoreML/model.mlmodel` with the weights beside
it in `weights/weight.bin`. A model is one message: its version (1) and either a neural network (500, 303, 403), whose
layers have the weights in them, or a program (502), whose constants lie in the blob file, or a pipeline (202, 200, 201)
of models. A blob file is a header of 64 bytes (count, version 2) and, each at a multiple of 64 bytes, records and data;
a record is the sentinel 0xDEADBEEF, the type, and size and place of the data.

What counts as a weight: see `coreml_network` and `coreml_program`. A blob that several constants name counts once.

Source: apple/coremltools, `mlmodel/format/Model.proto`, `mlmodel/src/MILBlob/Blob/StorageFormat.hpp`,
`StorageReader.cpp`, `modelpackage/src/ModelPackage.cpp`.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import coreml_network, coreml_program, json_text
from weighbridge.formats.byte_source import ByteSource, Folder, open_path
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.protobuf import BYTES, Field, Fields
from weighbridge.model.tensors import TensorSpec

MANIFEST = "Manifest.json"
MAX_MANIFEST_BYTES = 1_000_000
MAX_MODEL_BYTES = 2**31
"""The largest protocol-buffer message."""
MAX_DEPTH = 8
"""Pipelines inside pipelines."""
SENTINEL = 0xDEADBEEF
RECORD_BYTES = 64
BLOB_TYPES = {
    1: "fp16", 2: "fp32", 3: "uint8", 4: "int8", 5: "bf16", 6: "int16", 7: "uint16", 8: "int4", 9: "uint1",
    10: "uint2", 11: "uint4", 12: "uint3", 13: "uint6", 14: "int32", 15: "uint32", 16: "fp8", 17: "fp8_e5m2",
}  # fmt: skip
"""What the type number of a blob's record says."""

_NETWORK, _PROGRAM, _PIPELINE = "neural network", "program", "pipeline"
_KINDS = {500: _NETWORK, 303: _NETWORK, 403: _NETWORK, 502: _PROGRAM, 202: _PIPELINE, 200: _PIPELINE, 201: _PIPELINE}
_WRAPPED_PIPELINES = (200, 201)
_OTHERS = {
    300: "a linear regressor", 301: "a support vector machine", 302: "a tree ensemble", 304: "a probit regressor",
    400: "a linear classifier", 401: "a support vector machine", 402: "a tree ensemble", 404: "nearest neighbours",
    501: "an item similarity", 555: "a custom model", 556: "a linked model", 560: "a threshold", 600: "an encoder",
    601: "an imputer", 602: "a feature vectorizer", 603: "a vectorizer", 604: "a scaler", 606: "a mapping",
    607: "a normalizer", 609: "an extractor", 610: "a non-maximum suppression", 900: "an identity",
    2000: "a text classifier", 2001: "a word tagger", 2002: "a vision feature print", 2003: "a sound preprocessing",
    2004: "a gazetteer", 2005: "a word embedding", 2006: "an audio feature print", 3000: "a serialized model",
}  # fmt: skip
_STEPS = (600, 601, 602, 603, 604, 606, 607, 609, 610, 900)
"""Parts of pipelines that have nothing learned by gradients."""
_GET_AGAIN = "it is damaged or of another format: get it again, with all its files"
_MODEL_PATH = "@model_path/"


def read(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint of a package, given its `Manifest.json`, or of an `.mlmodel` file.

    Raises:
        FormatError: when a part is not what its format demands, or names a file outside its folder.
        SourceError: when a part is missing, or holds no network (a tree ensemble, say).
    """
    path, manifest = name, b""
    if name == MANIFEST:
        source = folder.open(name)
        manifest = source.read(0, min(source.size, MAX_MANIFEST_BYTES + 1))
        path = _root(manifest, source.name)
    model = open_path(folder, path)
    if model.size > MAX_MODEL_BYTES:
        raise FormatError(f"{model.name} has {model.size:,} bytes", "a model of at most 2 GiB", _GET_AGAIN)
    found = _Model(folder, path, model)
    tensors = _ties(found.tensors((0, model.size), "", 0))
    inline = sum(t.size_bytes for t in tensors if t.file == path and t.byte_range is not None)
    files = [StoredFile(path, model.size, model.size - inline, inline, 0), *found.blob_files()]
    if manifest:
        files.insert(0, StoredFile(name, len(manifest), len(manifest), 0, 0))
    metadata: dict[str, Any] = {"kind": found.kind, "specification_version": found.version}
    return Checkpoint(
        folder.name if manifest else model.name, "coreml", tuple(files), tuple(tensors), metadata=metadata,
        digest=found.digest(manifest, tensors), notes=tuple(found.notes),
    )  # fmt: skip


def _root(manifest: bytes, name: str) -> str:
    """The path of the model that a manifest names, below the package's folder."""
    told = json_text.parse(manifest, name, allow_bom=True, max_bytes=MAX_MANIFEST_BYTES)
    items = told.get("itemInfoEntries") if isinstance(told, dict) else None
    root = told.get("rootModelIdentifier") if isinstance(told, dict) else None
    item = items.get(root) if isinstance(items, dict) and isinstance(root, str) else None
    path = item.get("path") if isinstance(item, dict) else None
    if not isinstance(path, str):
        if isinstance(told, dict) and "itemInfoEntries" not in told:
            read_ = f"{name} is no manifest of a CoreML package"
            raise SourceError(read_, "itemInfoEntries and a rootModelIdentifier", "name the file with the weights")
        raise FormatError(f"{name} names no root model", "a rootModelIdentifier among its items", _GET_AGAIN)
    return f"Data/{path}"


def _ties(tensors: Iterator[TensorSpec]) -> list[TensorSpec]:
    """The tensors, the later names of one place tied to the first."""
    owners: dict[tuple[str, tuple[int, int]], str] = {}
    told = []
    for tensor in tensors:
        owner = tensor.name
        if tensor.byte_range is not None and tensor.elements:
            owner = owners.setdefault((tensor.file, tensor.byte_range), tensor.name)
        told.append(tensor if owner == tensor.name else replace(tensor, tied_to=owner))
    return told


class _Model:
    """The models of one file, and the blob files that they name."""

    def __init__(self, folder: Folder, path: str, source: ByteSource) -> None:
        self._folder, self._source, self._path = folder, source, path
        self._fields = Fields(source)
        self._blobs: dict[str, _BlobFile] = {}
        self._network = coreml_network.Reader(self._fields, path, self._fail)
        self._program = coreml_program.Reader(self._fields, path, self._blob, self._fail)
        self.kind, self.version = "", 0
        self.notes: list[str] = []

    def tensors(self, place: tuple[int, int], prefix: str, depth: int) -> Iterator[TensorSpec]:
        """The tensors of the `Model` message at this place of the file."""
        if depth > MAX_DEPTH:
            raise self._fail(f"pipelines inside each other, more than {MAX_DEPTH} deep")
        kind = None
        for field in self._fields.of(*place):
            if field.number == 1 and not depth:
                self.version = field.value
            elif field.number >= 200:
                kind = field
        if kind is None or kind.wire != BYTES:
            raise self._fail("no model of any kind")
        told = _KINDS.get(kind.number)
        self.kind = self.kind if depth else str(told)
        if told == _NETWORK:
            yield from self._network.network((kind.begin, kind.end), prefix)
        elif told == _PROGRAM:
            for tensor in self._program.program((kind.begin, kind.end)):
                yield self._below(tensor, prefix)
        elif told == _PIPELINE:
            yield from self._pipeline(kind, prefix, depth)
        elif depth and kind.number in _STEPS:
            self.notes.append(f"{prefix.rstrip('.')} is {_OTHERS[kind.number]}, which is left out")
        else:
            what = _OTHERS.get(kind.number, f"of the kind {kind.number}")
            raise SourceError(f"{self._source.name} is {what}", "a neural network or a program", "name another file")

    def _below(self, tensor: TensorSpec, prefix: str) -> TensorSpec:
        if not prefix:
            return tensor
        weight = tensor.stands_for
        named = None if weight is None else replace(weight, name=prefix + weight.name)
        return replace(tensor, name=prefix + tensor.name, stands_for=named)

    def _pipeline(self, kind: Field, prefix: str, depth: int) -> Iterator[TensorSpec]:
        place: tuple[int, int] | None = (kind.begin, kind.end)
        if kind.number in _WRAPPED_PIPELINES:
            inner = [f for f in self._fields.of(kind.begin, kind.end) if f.number == 1 and f.wire == BYTES]
            place = (inner[0].begin, inner[0].end) if inner else None
        models = [f for f in self._fields.of(*place) if f.number == 1 and f.wire == BYTES] if place else []
        for number, model in enumerate(models):
            yield from self.tensors((model.begin, model.end), f"{prefix}model_{number}.", depth + 1)

    def _blob(self, name: str, offset: int, encoding: str, size: int) -> tuple[str, tuple[int, int]]:
        """Where a blob's data lie."""
        file = self._file(name)
        return file.path, file.data(offset, encoding, size)

    def _file(self, name: str) -> _BlobFile:
        if name not in self._blobs:
            if len(self._blobs) >= 100:
                raise self._fail("more than 100 blob files")
            below = name.removeprefix(_MODEL_PATH)
            path = "/".join([*self._path.split("/")[:-1], below])
            self._blobs[name] = _BlobFile(open_path(self._folder, path), path)
        return self._blobs[name]

    def blob_files(self) -> list[StoredFile]:
        """The blob files that were named, each accounted for."""
        return [blob.stored() for blob in self._blobs.values()]

    def digest(self, manifest: bytes, tensors: list[TensorSpec]) -> str:
        """SHA-256 of the manifest, the table of tensors as read, and the blob files' records."""
        found = hashlib.sha256(manifest)
        for t in tensors:
            found.update(f"{t.name}\0{t.shape}\0{t.encoding.name}\0{t.file}\0{t.byte_range}\n".encode())
        for blob in self._blobs.values():
            found.update(blob.head)
        return found.hexdigest()

    def _fail(self, read: str) -> FormatError:
        return FormatError(f"{self._source.name} has {read}", "a CoreML model", _GET_AGAIN)


class _BlobFile:
    """A blob file: records are read where constants name them."""

    def __init__(self, source: ByteSource, path: str) -> None:
        self._source, self.path = source, path
        if source.size < RECORD_BYTES:
            raise self._fail(f"{source.size:,} bytes", "a header of 64 bytes")
        self.head = source.read(0, RECORD_BYTES)
        count, version = struct.unpack("<II", self.head[:8])
        if version != 2:
            raise self._fail(f"version {version:,} with {count:,} blobs", "blob storage of version 2")
        self._data: dict[int, tuple[int, int, int]] = {}

    def data(self, offset: int, encoding: str, size: int) -> tuple[int, int]:
        """Where the data of the record at an offset lie."""
        if offset not in self._data:
            if offset % RECORD_BYTES or not RECORD_BYTES <= offset <= self._source.size - RECORD_BYTES:
                raise self._fail(f"no place for a record at {offset:,}", "a multiple of 64 inside the file")
            self._data[offset] = self._record(self._source.read(offset, 32))
        number, begin, end = self._data[offset]
        if BLOB_TYPES.get(number) != encoding or end - begin != size:
            held = f"{end - begin:,} bytes of {BLOB_TYPES.get(number, f'type {number}')} at {offset:,}"
            raise self._fail(held, f"{size:,} bytes of {encoding}, as the program says")
        return begin, end

    def _record(self, raw: bytes) -> tuple[int, int, int]:
        sentinel, number, size, begin = struct.unpack("<IIQQ", raw[:24])
        if sentinel != SENTINEL:
            raise self._fail(f"{sentinel:#x} where a record is named", f"the sentinel {SENTINEL:#x}")
        if begin < RECORD_BYTES or begin + size > self._source.size:
            raise self._fail(f"a blob of {size:,} bytes at {begin:,} of {self._source.size:,}", "it inside the file")
        return number, begin, begin + size

    def stored(self) -> StoredFile:
        """The file's bytes: header and records, data, and the rest."""
        places = sorted((begin, end) for _, begin, end in self._data.values() if end > begin)
        for (_, end), (begin, _) in pairwise(places):
            if begin < end:
                raise self._fail(f"blobs that overlap at {begin:,}", "each blob in bytes of its own")
        held = sum(end - begin for begin, end in places)
        header = RECORD_BYTES * (1 + len(self._data))
        if header + held > self._source.size:
            raise self._fail("records inside of blobs", "each blob in bytes of its own")
        return StoredFile(self.path, self._source.size, header, held, self._source.size - header - held)

    def _fail(self, read: str, expected: str) -> FormatError:
        return FormatError(f"{self._source.name} has {read}", expected, _GET_AGAIN)
