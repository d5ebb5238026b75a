"""The bytes of tensors in PyTorch files: views of all kinds against NumPy, from memory, in bounded pieces."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import numpy as np
import pytest
from tests.pickles import Call, Stored, Writer, opcodes

from weighbridge.errors import FormatError
from weighbridge.formats import contents, torch_storages, torch_zip
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint

HOOKS = Call("collections.OrderedDict", ())


def view(storage: Stored, array: np.ndarray[Any, Any], base: np.ndarray[Any, Any]) -> Call:
    """The call that rebuilds a NumPy view of `base` on a storage."""
    offset = (array.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // base.itemsize
    stride = tuple(step // base.itemsize for step in array.strides)
    return Call("torch._utils._rebuild_tensor_v2", (storage, offset, array.shape, stride, False, HOOKS))


def saved(views: dict[str, Any], base: np.ndarray[Any, Any], compression: int = zipfile.ZIP_STORED) -> MemoryFile:
    writer = Writer()
    storage = writer.storage(base.size)
    root = {name: view(storage, array, base) for name, array in views.items()}
    with zipfile.ZipFile(file := io.BytesIO(), "w", compression) as zipped:
        zipped.writestr("a/data.pkl", opcodes(root))
        zipped.writestr("a/data/0", base.tobytes())
    return MemoryFile("a.pt", file.getvalue())


BASE = np.arange(6 * 5 * 4, dtype=np.float32).reshape(6, 5, 4)
VIEWS = {
    "whole": BASE, "rows": BASE[2:4], "one": BASE[3, 2, 1:2], "turned": BASE.transpose(2, 0, 1), "back": BASE.T,
    "columns": BASE[:, :, 1:3], "every": BASE[::2, ::3], "line": BASE[:, 2, 3], "scalar": BASE[5, 4, 3, ...],
    "empty": BASE[:0],
}  # fmt: skip


def bytes_of(folder: MemoryFolder, checkpoint: Checkpoint, name: str) -> bytes:
    (tensor,) = (tensor for tensor in checkpoint.tensors if tensor.name == name)
    return b"".join(contents.pieces(checkpoint, tensor, folder))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("piece", [8, 60, 8 * 2**20])
def test_every_view_gives_its_elements_in_their_order(
    compression: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_storages, "PIECE_BYTES", piece)
    folder = MemoryFolder({"a.pt": saved(VIEWS, BASE, compression)})
    checkpoint = torch_zip.read(folder.open("a.pt"))
    for tensor in checkpoint.tensors:
        found = list(contents.pieces(checkpoint, tensor, folder))
        assert b"".join(found) == np.ascontiguousarray(VIEWS[tensor.name]).tobytes(), tensor.name
        assert all(len(part) <= max(piece, 4) and len(part) % 4 == 0 for part in found)


@pytest.mark.parametrize("piece", [8, 60, 2**20])
def test_views_that_are_too_long_to_be_held_are_gathered_in_passes(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_storages, "PIECE_BYTES", piece)
    monkeypatch.setattr(torch_storages, "GATHER_BYTES", 16)
    folder = MemoryFolder({"a.pt": saved(VIEWS, BASE)})
    checkpoint = torch_zip.read(folder.open("a.pt"))
    for name, array in VIEWS.items():
        assert bytes_of(folder, checkpoint, name) == np.ascontiguousarray(array).tobytes(), name


def test_a_packed_view_that_is_too_long_to_be_held_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_storages, "GATHER_BYTES", 16)
    folder = MemoryFolder({"a.pt": saved(VIEWS, BASE, zipfile.ZIP_DEFLATED)})
    checkpoint = torch_zip.read(folder.open("a.pt"))
    assert bytes_of(folder, checkpoint, "rows") == BASE[2:4].tobytes()
    with pytest.raises(FormatError, match="packed"):
        bytes_of(folder, checkpoint, "back")


def test_the_table_is_read_once_for_all_tensors_of_a_file() -> None:
    writer = Writer()
    folder = MemoryFolder({"model.pt": writer.file({f"{i}": writer.tensor((3,)) for i in range(1000)})})
    source = folder.open("model.pt")
    assert isinstance(source, MemoryFile)
    checkpoint = torch_zip.read(source)
    source.requests = source.bytes_read = 0
    for tensor in checkpoint.tensors:
        assert b"".join(contents.pieces(checkpoint, tensor, folder)) == bytes(12)
    assert source.requests <= 2 * 1000 + 10


def test_a_file_that_changed_is_told() -> None:
    writer = Writer()
    checkpoint = torch_zip.read(writer.file({"w": writer.tensor((3,))}))
    other = Writer()
    folder = MemoryFolder({"model.pt": other.file({"w": other.tensor((4,))})})
    with pytest.raises(FormatError, match="not there as it was"):
        list(torch_zip.pieces(folder, checkpoint.tensors[0]))


@pytest.mark.parametrize(("word", "order"), [(b"little", "little"), (b"big", "big")])
def test_the_byte_order_is_told_without_a_read(word: bytes, order: str) -> None:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        zipped.writestr("a/data.pkl", opcodes({"w": 1}))
        zipped.writestr("a/byteorder", word)
    assert torch_zip.read(MemoryFile("a.pt", file.getvalue())).byte_order == order


def test_another_byte_order_is_refused() -> None:
    with zipfile.ZipFile(file := io.BytesIO(), "w") as zipped:
        zipped.writestr("a/data.pkl", opcodes({"w": 1}))
        zipped.writestr("a/byteorder", b"middle")
    with pytest.raises(FormatError, match="byte order"):
        torch_zip.read(MemoryFile("a.pt", file.getvalue()))
