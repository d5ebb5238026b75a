"""Which weights does a Keras file hold? HDF5 files of Keras 1 and 2 (`.h5`, `.hdf5`), of Keras 3 (`.weights.h5`), the
`.keras` archive, and any other HDF5 file, whose datasets are then all counted.

    Keras 1, 2   layer_names and weight_names are attributes of groups; the datasets lie below /<layer>/<weight>, or
                 below /model_weights in a whole model, with the optimizer's below /optimizer_weights
    Keras 3      /layers/<class>_<n>/vars/0 ... (in 2.12 to 2.15 /_layer_checkpoint_dependencies), in the order in
                 which the layer made them, and /optimizer/vars
    .keras       a zip of config.json, metadata.json and model.weights.h5

Names are the paths in the HDF5 file. Running statistics of batch normalisation, the statistics of a normalisation
layer, seeds, and what optimizers and metrics keep are buffers. Keras 3 does not store what a variable is, and
`batch_normalization` ends with its moving mean and variance.

`byte_range` is None where a tensor is compressed, lies in chunks or is big-endian: `pieces` then reads it, turned to
little-endian. `Checkpoint.metadata` holds `layout`, and `keras_version`, `backend` and `model_config` where there are.

Sources: keras-team/keras, release 3.15, `src/saving/saving_lib.py` and `src/legacy/saving/legacy_h5_format.py`; layer
classes `BatchNormalization.build`, `Normalization.build`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import json_text
from weighbridge.formats.byte_source import ByteSource, Folder, MemoryFile, check_range, file_name
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.contents import PIECE_BYTES
from weighbridge.formats.element_bytes import whole_elements
from weighbridge.formats.hdf5 import Contents, Dataset, Hdf5
from weighbridge.formats.hdf5_types import OPAQUE
from weighbridge.formats.zip_archive import ZipArchive
from weighbridge.model.encodings import ENCODINGS, Encoding
from weighbridge.model.tensors import Kind, TensorSpec

MAX_INFLATED_BYTES = 48 * 2**20
MAX_RATIO = 50
"""How far the HDF5 file in an archive may be deflated; Keras stores it as it is, and weights hardly shrink."""
MAX_CONFIG_BYTES = 16 * 2**20
MAX_CONFIG_ITEMS = 300_000

_GET_AGAIN = "get it again and compare its size with the publisher's"
_WEIGHTS = "model.weights.h5"
_WANTED = re.compile(r"(layer_names|weight_names)\d*|model_config|keras_version|backend|dtype")
_LEFT_BEHIND = re.compile(r"(^|/)(optimizer|optimizer_weights|_?metrics|seed_generator(_\d+)?)/")
_STATISTIC = re.compile(r"(^|[/_])(moving|running)_(mean|variance|var|std)(:\d+)?$")
_NORMALIZATION = re.compile(
    r"(^|/)normalization(_\d+)?/((normalization(_\d+)?/)?(mean|variance|count)(:\d+)?|vars/\d+)$"
)
_MOVING = re.compile(r"((^|/)(sync_)?batch_normalization(_\d+)?/vars)/(\d+)$")
_NUMBER = re.compile(r"(\d+)")


def read(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint of one HDF5 file or `.keras` archive.

    Raises:
        FormatError: when it is neither, damaged, or lists a weight that it does not hold.
    """
    source = folder.open(name)
    if source.read(0, min(4, source.size)) == b"PK\3\4":
        return _read_archive(source)
    found = Hdf5(source, _is_wanted)
    return _checkpoint(source, found.contents(), found.digest, {}, 0)


def pieces(folder: Folder, tensor: TensorSpec) -> Iterator[bytes]:
    """The bytes of a tensor, its last axis running fastest, little-endian.

    Raises:
        FormatError: when it does not unpack to what the header says, or is packed by a filter that is not read.
    """
    source = folder.open(tensor.file)
    if source.read(0, min(4, source.size)) == b"PK\3\4":
        source, _ = _weights(ZipArchive(source))
    file = Hdf5(source, _is_wanted)
    dataset = file.dataset(tensor.name)
    if (dataset.shape, _encoding(dataset)) != (tensor.shape, tensor.encoding):
        _fail(source, f"{tensor.name[:100]} has changed", "the file as it was when it was first read", _GET_AGAIN)
    size = tensor.encoding.bytes_per_block
    yield from whole_elements(file.pieces(dataset), size, size, PIECE_BYTES, dataset.datatype.is_big_endian)


class _Stretch:
    """A part of a file as a file of its own."""

    def __init__(self, source: ByteSource, begin: int, size: int) -> None:
        self._source, self._begin, self._size = source, begin, size

    @property
    def name(self) -> str:
        """The name of the whole."""
        return self._source.name

    @property
    def size(self) -> int:
        """The length of the part."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the part."""
        check_range(self.name, self._size, offset, length)
        return self._source.read(self._begin + offset, length)


def _weights(archive: ZipArchive) -> tuple[ByteSource, int | None]:
    """The HDF5 file in a `.keras` archive, and where it begins in it; None for one that is compressed."""
    entry = archive.entries.get(_WEIGHTS)
    if entry is None:
        _fail(archive.source, f"it is a zip without {_WEIGHTS}", "a .keras file", "save the model anew with Keras")
    if entry.method == 0 and entry.stored == entry.size:
        begin = archive.data_start(entry)
        return _Stretch(archive.source, begin, entry.size), begin
    return MemoryFile(archive.source.name, archive.read(entry, MAX_INFLATED_BYTES, MAX_RATIO)), None


def _read_archive(source: ByteSource) -> Checkpoint:
    archive = ZipArchive(source)
    inside, begin = _weights(archive)
    metadata: dict[str, Any] = {}
    parsed = {
        name: json_text.parse(archive.read(archive.entries[name], MAX_CONFIG_BYTES), f"{name} of {source.name}",
                              allow_constants=True, max_items=MAX_CONFIG_ITEMS)
        for name in ("config.json", "metadata.json") if name in archive.entries
    }  # fmt: skip
    if "config.json" in parsed:
        metadata["model_config"] = parsed["config.json"]
    if isinstance(parsed.get("metadata.json"), dict):
        metadata["keras_version"] = str(parsed["metadata.json"].get("keras_version", ""))
    found = Hdf5(inside, _is_wanted)
    contents = found.contents()
    digest = hashlib.sha256(archive.directory + bytes.fromhex(found.digest)).hexdigest()
    entry = archive.entries[_WEIGHTS]
    return _checkpoint(source, contents, digest, metadata, begin, entry.stored)


def _checkpoint(
    source: ByteSource, found: Contents, digest: str, metadata: dict[str, Any], begin: int | None,
    packed_bytes: int = 0,
) -> Checkpoint:  # fmt: skip
    """The tensors of an HDF5 file that begins at a byte of `source`, or is compressed in it into `packed_bytes`."""
    notes: list[str] = []
    order, layout = _order(source, found)
    specs, kept, odd = [], [], dict(found.left_out)
    turned = 0
    moving = _moving(found.datasets)
    for path in order:
        dataset = found.datasets[path]
        encoding = _encoding(dataset)
        if encoding is None:
            odd[path] = f"holds {dataset.datatype.name}"
            continue
        kept.append(dataset)
        storage = dataset.storage
        assert storage is not None
        span = None
        swapped = dataset.datatype.is_big_endian and encoding.bytes_per_block > 1
        turned += swapped
        if begin is not None and storage.begin is not None and not swapped:
            span = (begin + storage.begin, begin + storage.begin + storage.stored_bytes)
        kind = Kind.BUFFER if path in moving or _is_buffer(path) else Kind.PARAMETER
        specs.append(TensorSpec(path, dataset.shape, encoding, kind=kind, file=file_name(source), byte_range=span))
    encodings = {spec.name: spec for spec in specs}
    for path, first in sorted(found.aliases.items()):
        if first in encodings:
            first_spec = encodings[first]
            specs.append(TensorSpec(path, first_spec.shape, first_spec.encoding, kind=first_spec.kind, tied_to=first,
                                    file=first_spec.file, byte_range=first_spec.byte_range))  # fmt: skip
    optimizer = sum(spec.elements for spec in specs if _LEFT_BEHIND.search(spec.name) and spec.tied_to is None)
    if optimizer:
        notes.append(f"{optimizer:,} elements are what an optimizer, metrics or seeds keep: no parameters")
    if turned:
        notes.append(f"{turned} tensors are stored big-endian")
    if odd:
        path, why = next(iter(odd.items()))
        others = f", and {len(odd) - 1:,} others" if len(odd) > 1 else ""
        notes.append(f"left out: {path[:100]}, which {why}{others}")
    stored = sum(dataset.storage.stored_bytes for dataset in kept if dataset.storage is not None)
    if begin is None:
        stored = min(stored, packed_bytes)
    if stored > source.size:
        _fail(source, f"its datasets take {stored:,} bytes of {source.size:,}", "datasets that lie apart",
              "do not use this file: no library writes such a one")  # fmt: skip
    if layout == "HDF5":
        notes.append("the file has no names of Keras: all of its datasets are counted")
    metadata = {"layout": layout} | _attributes(source, found.attributes, notes) | metadata
    return Checkpoint(
        source.name, "keras", (StoredFile(file_name(source), source.size, source.size - stored, stored, 0),),
        tuple(specs), metadata=metadata, digest=digest, notes=tuple(notes),
    )  # fmt: skip


def _encoding(dataset: Dataset) -> Encoding | None:
    """The encoding of a dataset; Keras stores bfloat16 as opaque bytes with that word beside them."""
    datatype = dataset.datatype
    if (datatype.kind, datatype.size) == (OPAQUE, 2) and dataset.attributes.get("dtype") == ("bfloat16",):
        return ENCODINGS["bf16"]
    return datatype.encoding


def _is_wanted(attribute: str) -> bool:
    return _WANTED.fullmatch(attribute) is not None


def _is_buffer(path: str) -> bool:
    return any(rule.search(path) for rule in (_LEFT_BEHIND, _STATISTIC, _NORMALIZATION))


def _moving(datasets: Mapping[str, Dataset]) -> set[str]:
    """The moving mean and variance of each batch normalisation of Keras 3: the last two of its variables."""
    numbers: dict[str, list[int]] = {}
    for path in datasets:
        if match := _MOVING.search(path):
            numbers.setdefault(path[: match.end(1)], []).append(int(match[5][:9]))
    return {f"{variables}/{number}" for variables, found in numbers.items() for number in sorted(found)[-2:]}


def _order(source: ByteSource, found: Contents) -> tuple[list[str], str]:
    """The paths of the datasets in the order of the layers, and the layout of the file."""
    paths = sorted(found.datasets, key=lambda path: [(int(p[:18]) if p.isdecimal() else 0, p) for p in
                                                     _NUMBER.split(path)])  # fmt: skip
    top = "model_weights" if _names(found, "model_weights", "layer_names") is not None else ""
    layers = _names(found, top, "layer_names")
    if layers is None:
        is_keras_3 = any(re.match(r"(layers|_layer_checkpoint_dependencies|vars)(/|$)", path)
                         for path in found.attributes)  # fmt: skip
        return paths, "Keras 3" if is_keras_3 else "HDF5"
    listed: dict[str, None] = {}
    for layer in layers:
        group = f"{top}/{layer}".lstrip("/")
        for weight in _names(found, group, "weight_names") or ():
            path = f"{group}/{weight}"
            path = found.aliases.get(path, path)
            if path not in found.datasets and path not in found.left_out:
                _fail(source, f"it lists the weight {path[:200]!r} and does not hold it", "each weight that it lists",
                      _GET_AGAIN)  # fmt: skip
            if path in found.datasets:
                listed[path] = None
    return [*listed, *(path for path in paths if path not in listed)], "Keras 2"


def _names(found: Contents, group: str, attribute: str) -> tuple[str, ...] | None:
    """The names in an attribute of a group, which Keras cuts into attribute0, attribute1 ... when it is long."""
    attributes = found.attributes.get(group, {})
    if attribute in attributes:
        return attributes[attribute]
    cut: list[tuple[str, ...]] = []
    while f"{attribute}{len(cut)}" in attributes:
        cut.append(attributes[f"{attribute}{len(cut)}"])
    return tuple(name for part in cut for name in part) if cut else None


def _attributes(
    source: ByteSource, attributes: Mapping[str, Mapping[str, tuple[str, ...]]], notes: list[str]
) -> dict[str, Any]:
    """What the root says of the model."""
    metadata: dict[str, Any] = {}
    for group in ("model_weights", ""):
        for key in ("keras_version", "backend", "model_config"):
            value = attributes.get(group, {}).get(key, ())
            if len(value) == 1:
                metadata[key] = value[0][:100] if key != "model_config" else value[0]
    if "model_config" in metadata:
        try:
            metadata["model_config"] = json_text.parse(
                metadata["model_config"].encode(), f"the model_config of {source.name}", allow_constants=True,
                max_bytes=MAX_CONFIG_BYTES, max_items=MAX_CONFIG_ITEMS,
            )  # fmt: skip
        except FormatError as error:
            del metadata["model_config"]
            notes.append(f"the configuration in the file was left aside: {error}")
    return metadata


def _fail(source: ByteSource, read: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{source.name}: {read}", expected, action)
