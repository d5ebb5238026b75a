"""HDF5 files and Keras's use of them, against files that the reference libraries wrote (tests/golden/formats)."""

from __future__ import annotations

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from weighbridge.errors import FormatError
from weighbridge.formats import contents, hdf5_storage, keras
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.hdf5 import Hdf5
from weighbridge.inspection import StoredCount, inspect
from weighbridge.model.tensors import Kind

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "formats"
STRUCTURES = ["old.h5", "new.h5"]
GRID = np.arange(63, dtype="<f4").reshape(7, 9)
VALUES = {
    "plain": np.arange(12, dtype="<f4"), "scalar": np.array([2.5], "<f8"), "big_endian": np.arange(5, dtype="<f4"),
    "half": np.arange(3, dtype="<f2"), "switch": np.array([True, False]), "bytes": np.arange(4, dtype="u1"),
    "opaque": np.array([0x3F80, 0x4000], "<u2"), "packed": GRID, "chunked": GRID.astype("<i2"),
    "one_chunk": np.zeros((40, 40), "<f4"), "many_chunks": np.arange(1100, dtype="<i2"), "grows_both_ways": GRID,
    "grows_to": GRID, "empty": np.zeros((0, 3), "<f4"), "of_type": np.array([1.0, 2.0, 3.0]),
    "compact": np.array([1, 2, 3], "<f4"), "members/layer_299_with_a_long_name": np.array([299], "<f4"),
    "ordered/11": np.array([11], "<f4"),
}  # fmt: skip
"""What `make_hdf5.py` wrote, little-endian."""
LEFT_OUT = {
    "soft": "is a soft link", "other_file": "is a link to another file", "elsewhere": "keeps its bytes in other files",
    "virtual": "puts together parts of other datasets", "circle/up": "leads to the group '/' again",
    "null": "holds nothing", "never_written": "was never written, so that the file holds none of its elements",
}  # fmt: skip


def golden(name: str) -> bytes:
    return gzip.decompress((GOLDEN / f"{name}.gz").read_bytes())


def folder(name: str) -> MemoryFolder:
    return MemoryFolder({name: golden(name)})


def read(name: str) -> Checkpoint:
    return keras.read(folder(name), name)


def count(model: Checkpoint) -> StoredCount:
    stored = inspect(model).stored
    assert stored is not None
    return stored


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_dataset_has_the_values_that_h5py_wrote(name: str) -> None:
    model = read(name)
    tensors = {tensor.name: tensor for tensor in model.tensors}
    assert len([name for name in tensors if name.startswith("members/")]) == 300
    assert [tensor.name for tensor in model.tensors if tensor.name.startswith("ordered/")][-2:] == [
        "ordered/10", "ordered/11"]  # fmt: skip
    for path, values in VALUES.items():
        found = b"".join(contents.pieces(model, tensors[path], folder(name)))
        assert found == values.tobytes(), path
        assert tensors[path].elements == values.size
    assert {path: tensors[path].shape for path in ("packed", "scalar", "empty")} == {
        "packed": (7, 9), "scalar": (), "empty": (0, 3)}  # fmt: skip
    encodings = {path: tensors[path].encoding.name for path in ("half", "switch", "opaque", "chunked", "of_type")}
    assert encodings == {"half": "fp16", "switch": "bool", "opaque": "bf16", "chunked": "int16", "of_type": "fp64"}
    (first, second) = ("hard", "plain")
    assert tensors[second].tied_to == first and tensors[second].byte_range == tensors[first].byte_range
    assert count(model).tied == 12 and model.metadata["layout"] == "HDF5"


@pytest.mark.parametrize("name", STRUCTURES)
def test_links_and_datasets_that_lead_elsewhere_are_left_out_with_their_reason(name: str) -> None:
    found = Hdf5(MemoryFile(name, golden(name)), lambda attribute: True).contents()
    assert LEFT_OUT.items() <= found.left_out.items()
    grows = found.left_out.get("grows_one_way", "")
    assert ("extensible array" in grows) == (name == "new.h5")
    assert {found.datasets[path].datatype.name for path in ("texts", "complex")} == {
        "lists of any length" if found.datasets["texts"].datatype.kind == 9 else "texts", "compounds"}  # fmt: skip
    assert any("left out" in note for note in read(name).notes)


@pytest.mark.parametrize("name", STRUCTURES)
def test_attributes_of_every_kind(name: str) -> None:
    found = Hdf5(MemoryFile(name, golden(name)), lambda attribute: True).contents()
    assert found.attributes[""] == {"fixed": ("a", "bcd"), "variable": ("q", "long ä"), "one": ("x" * 3000,)}
    members = found.attributes["members"]
    assert len(members) == 20 and members["names13"] == ("n13", "n13", "n13")
    if name == "new.h5":
        assert found.attributes["ordered"]["large"] == ("z" * 100,) * 1000
    assert Hdf5(MemoryFile(name, golden(name)), lambda attribute: False).contents().attributes[""] == {}


@pytest.mark.parametrize("name", STRUCTURES)
def test_what_is_packed_by_another_filter_is_counted_and_its_bytes_are_refused(name: str) -> None:
    model = read(name)
    tensor = next(tensor for tensor in model.tensors if tensor.name == "lzf")
    assert tensor.shape == (40, 40)
    with pytest.raises(FormatError, match="packed by lzf"):
        list(contents.pieces(model, tensor, folder(name)))


@pytest.mark.parametrize("name", STRUCTURES)
def test_every_byte_is_accounted_for(name: str) -> None:
    model = read(name)
    (file,) = model.files
    plain = [t for t in model.tensors if t.byte_range is not None and t.tied_to is None]
    assert file.size_bytes == len(golden(name)) and sum(t.size_bytes for t in plain) < file.tensor_bytes
    packed = [t.name for t in model.tensors if t.byte_range is None and t.elements]
    assert packed == ["big_endian", "chunked", "grows_both_ways", *(["grows_one_way"] if name == "old.h5" else []),
                      "grows_to", "lzf", "many_chunks", "one_chunk", "packed"]  # fmt: skip


def test_few_requests_for_a_file_of_hundreds_of_members() -> None:
    source = MemoryFile("old.h5", golden("old.h5"))
    keras.read(MemoryFolder({"old.h5": source}), "old.h5")
    assert source.requests <= 3 + 2 * (source.size // 65536 + 1)
    assert source.bytes_read <= 2 * source.size


def test_keras_2_with_names_cut_in_two_and_an_optimizer() -> None:
    model = read("keras2.h5")
    names = [tensor.name.removeprefix("model_weights/") for tensor in model.tensors]
    assert names == [
        "second/second/kernel:0", "second/second/bias:0", "first/first/kernel:0", "first/first/bias:0",
        "norm/norm/gamma:0", "norm/norm/beta:0", "norm/norm/moving_mean:0", "norm/norm/moving_variance:0",
        "optimizer_weights/training/Adam/m:0",
    ]  # fmt: skip
    stored = count(model)
    assert (stored.parameters, stored.buffers) == (8 + 2 + 12 + 4 + 4 + 4, 8 + 12)
    assert model.metadata == {"layout": "Keras 2", "keras_version": "2.4.0", "backend": "tensorflow",
                              "model_config": {"class_name": "Sequential", "config": []}}  # fmt: skip
    assert model.notes[0].startswith("12 elements are what an optimizer")


@pytest.mark.parametrize("name", ["keras3.keras", "keras3.weights.h5", "keras3_whole.h5"])
def test_keras_3_in_its_three_ways(name: str) -> None:
    """`model.count_params()` is 83: 58 trainable, 16 moving statistics, 9 of the normalisation layer."""
    model = read(name)
    layers = [tensor for tensor in model.tensors if not tensor.name.startswith("optimizer")]
    assert sum(t.elements for t in layers if t.kind is Kind.PARAMETER) == 58
    assert sum(t.elements for t in layers if t.kind is Kind.BUFFER) == 25
    assert count(model).parameters == 58 and model.format == "keras"
    assert model.metadata["layout"] == ("Keras 2" if "whole" in name else "Keras 3")
    if name != "keras3.weights.h5":
        assert model.metadata["keras_version"] == "3.15.1"
        assert model.metadata["model_config"]["class_name"] == "Functional"
    data = golden(name)
    for tensor in model.tensors:
        assert tensor.byte_range is not None
        assert data[slice(*tensor.byte_range)] == b"".join(contents.pieces(model, tensor, folder(name)))
    gamma = next(t for t in layers if t.name.endswith(("batch_normalization/vars/0", "batch_normalization/gamma")))
    assert gamma.byte_range is not None
    assert struct.unpack("<4f", data[slice(*gamma.byte_range)]) == (1.0, 1.0, 1.0, 1.0)


def test_an_archive_that_was_deflated() -> None:
    with zipfile.ZipFile(made := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("model.weights.h5", golden("keras3.weights.h5"))
    place = MemoryFolder({"a.keras": made.getvalue()})
    model = keras.read(place, "a.keras")
    stored = read("keras3.weights.h5")
    assert [(t.name, t.shape) for t in model.tensors] == [(t.name, t.shape) for t in stored.tensors]
    assert count(model).parameters == 58 and {t.byte_range for t in model.tensors} == {None}
    for ours, theirs in zip(model.tensors, stored.tensors, strict=True):
        assert b"".join(contents.pieces(model, ours, place)) == b"".join(
            contents.pieces(stored, theirs, folder("keras3.weights.h5")))  # fmt: skip


def test_the_names_of_buffers() -> None:
    buffers = [
        "batch_normalization_3/batch_normalization_3/moving_variance:0", "a/batchnormalization_1_running_mean:0",
        "layers/normalization/vars/0", "normalization_2/normalization_2/mean:0", "optimizer/vars/7",
        "layers/dropout/seed_generator/vars/0", "_metrics/mean/vars/0", "optimizer_weights/Adam/m:0",
    ]  # fmt: skip
    parameters = [
        "layers/layer_normalization/vars/0", "dense/dense/kernel:0", "encoder/mean/kernel", "mean:0",
        "layers/batch_normalization/vars/0",
    ]  # fmt: skip
    assert [keras._is_buffer(name) for name in buffers + parameters] == [True] * 8 + [False] * 5


def test_pieces_are_short_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras, "PIECE_BYTES", 10)
    model = read("old.h5")
    tensor = next(tensor for tensor in model.tensors if tensor.name == "packed")
    found = list(contents.pieces(model, tensor, folder("old.h5")))
    assert b"".join(found) == GRID.tobytes() and {len(piece) for piece in found} <= {4, 8}


def test_a_chunk_that_is_not_what_it_was() -> None:
    raw = golden("old.h5")
    first = np.ascontiguousarray(GRID[:3, :4]).view(np.uint8).reshape(12, 4).T.tobytes()
    at = raw.index(zlib.compress(first, 4))
    changed = raw[:at] + bytes(20) + raw[at + 20 :]
    place = MemoryFolder({"old.h5": changed})
    model = keras.read(place, "old.h5")
    tensor = next(tensor for tensor in model.tensors if tensor.name == "packed")
    with pytest.raises(FormatError, match="unpacks to"):
        list(contents.pieces(model, tensor, place))


def test_wide_chunks_are_not_put_together_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_storage, "MAX_BAND_BYTES", 100)
    model = read("old.h5")
    tensor = next(tensor for tensor in model.tensors if tensor.name == "packed")
    with pytest.raises(FormatError, match="smaller chunks"):
        list(contents.pieces(model, tensor, folder("old.h5")))
