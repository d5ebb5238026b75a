"""The NumPy reader against NumPy, which writes the files here."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest

from weighbridge.errors import FormatError
from weighbridge.formats import contents, npz
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.inspection import inspect

ARRAYS: dict[str, Any] = {
    "fp16": np.arange(6, dtype="<f2").reshape(2, 3),
    "fp64": np.float64(1.5),
    "bool": np.array([True, False]),
    "columns": np.asfortranarray(np.arange(24, dtype="<f4").reshape(2, 3, 4)),
    "empty": np.zeros((0, 4), "<f4"),
    "big": np.arange(5, dtype=">f4"),
    "big_columns": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    "complex": np.array([1 + 2j], "<c8"),
    "big_complex": np.array([1 + 2j, 3 + 4j], ">c16"),
    "line": np.asfortranarray(np.arange(4, dtype="<f4").reshape(4, 1)),
    "long": np.arange(70_000, dtype="<f4"),
    "layer/0.weight": np.ones((2, 2), "<f4"),
} | {f"{sign}int{bits}": np.arange(3).astype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64)}
"""Arrays of every kind that is counted."""  # fmt: skip
OTHERS: dict[str, Any] = {
    "object": np.array([{"a": 1}], dtype=object), "text": np.array(["a"]), "bytes": np.array([b"a"]),
    "record": np.zeros(3, [("a", "f4"), ("b", "i4", (2,))]), "date": np.array(["2026-11-22"], "M8[D]"),
}  # fmt: skip


def pack(compressed: bool, arrays: dict[str, Any]) -> MemoryFolder:
    made = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(made, **arrays)
    return MemoryFolder({"a.npz": made.getvalue()})


def npy(header: bytes, data: bytes = b"", version: bytes = b"\1\0") -> MemoryFolder:
    width = 2 if version == b"\1\0" else 4
    return MemoryFolder({"a.npy": b"\x93NUMPY" + version + len(header).to_bytes(width, "little") + header + data})


@pytest.mark.parametrize("compressed", [False, True])
def test_every_array_is_what_numpy_wrote(compressed: bool) -> None:
    folder = pack(compressed, ARRAYS | OTHERS)
    model = npz.read(folder, "a.npz")
    assert [tensor.name for tensor in model.tensors] == list(ARRAYS)
    for tensor in model.tensors:
        array = ARRAYS[tensor.name]
        assert tensor.shape == array.shape and tensor.size_bytes == array.nbytes, tensor.name
        found = b"".join(contents.pieces(model, tensor, folder))
        assert found == np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<")).tobytes(), tensor.name
    plain = {tensor.name for tensor in model.tensors if tensor.byte_range is not None}
    turned = {"columns", "big", "big_columns", "big_complex"}
    assert plain == (set() if compressed else set(ARRAYS) - turned)
    (file,) = model.files
    assert (file.tensor_bytes == sum(array.nbytes for array in ARRAYS.values())) == (not compressed)
    big, others = model.notes
    assert big == "some arrays are stored big-endian"
    assert others == "left out: object, which holds Python objects, which are a pickle, and 4 others"


def test_what_is_counted() -> None:
    stored = inspect(npz.read(pack(True, {"w": np.ones((3, 4), "f4"), "ids": np.arange(5)}), "a.npz")).stored
    assert stored is not None and (stored.elements, stored.parameters, stored.buffers) == (17, 12, 5)


def test_raw_pairs_of_bytes_are_taken_for_bfloat16_and_said_so() -> None:
    model = npz.read(pack(False, {"w": np.zeros(3, "V2")}), "a.npz")
    assert model.tensors[0].encoding.name == "bf16" and "an assumption" in model.notes[0]
    assert npz.read(pack(False, {"w": np.zeros(3, "V3")}), "a.npz").tensors == ()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_a_single_array_of_each_version(version: tuple[int, int]) -> None:
    made = io.BytesIO()
    np.lib.format.write_array(made, np.arange(6, dtype="<f4").reshape(2, 3), version=version)
    folder = MemoryFolder({"w.npy": made.getvalue()})
    model = npz.read(folder, "w.npy")
    (tensor,) = model.tensors
    assert (tensor.name, tensor.shape) == ("w", (2, 3))
    assert b"".join(contents.pieces(model, tensor, folder)) == np.arange(6, dtype="<f4").tobytes()
    assert b"".join(npz.pieces(folder, tensor)) == np.arange(6, dtype="<f4").tobytes()


HEADERS = {
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }": (2,),
    b'{"shape": (2,), "fortran_order": True, "descr": "<f4"}': (2,),
    b"{'descr':'<f4','fortran_order':False,'shape':(2L,1)}  \n": (2, 1),
    b"{'descr': '<f4', 'fortran_order': False, 'shape': ()}": (),
}


@pytest.mark.parametrize("header", HEADERS)
def test_headers_of_other_writers(header: bytes) -> None:
    shape = HEADERS[header]
    assert npz.read(npy(header, bytes(8 if shape else 4)), "a.npy").tensors[0].shape == shape


REFUSED = [
    b"", b"{}", b"{'descr': '<f4'}", b"[1]", b"{'descr': '<f4', 'fortran_order': 0, 'shape': (2,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': 2}", b"{'descr': '<f4', 'fortran_order': False, 'shape': (2)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (-2,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (True, 2)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'shape': (2,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)} + 1",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (1+1,)}",
    b"{'descr': __import__('os'), 'fortran_order': False, 'shape': (2,)}",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)", b"\xff\xfe",
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,), 'more': 1}",
]  # fmt: skip


@pytest.mark.parametrize("header", REFUSED)
def test_headers_that_are_refused(header: bytes) -> None:
    with pytest.raises(FormatError):
        npz.read(npy(header, bytes(8)), "a.npy")


@pytest.mark.parametrize("size", [0, 7, 9, 100])
def test_an_array_of_another_length(size: int) -> None:
    with pytest.raises(FormatError, match="as its header says"):
        npz.read(npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}", bytes(size)), "a.npy")


def test_few_requests_for_an_archive() -> None:
    folder = pack(False, ARRAYS)
    source = folder.open("a.npz")
    npz.read(folder, "a.npz")
    assert isinstance(source, MemoryFile) and source.requests <= 3 + 2 * len(ARRAYS)


def test_an_array_by_columns_that_is_too_long_to_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = pack(False, {"w": np.asfortranarray(np.ones((3, 4), "f4"))})
    tensor = npz.read(folder, "a.npz").tensors[0]
    monkeypatch.setattr(npz, "MAX_COLUMNS_BYTES", 40)
    with pytest.raises(FormatError, match="column by column"):
        list(npz.pieces(folder, tensor))


def test_names_that_differ_by_their_case_are_two() -> None:
    folder = pack(False, {"W": np.ones((2, 3), "<f4"), "w": np.zeros((5,), "<f4")})
    model = npz.read(folder, "a.npz")
    assert {tensor.name: tensor.shape for tensor in model.tensors} == {"W": (2, 3), "w": (5,)}
    held = {tensor.name: b"".join(contents.pieces(model, tensor, folder)) for tensor in model.tensors}
    assert held == {"W": np.ones(6, "<f4").tobytes(), "w": bytes(20)}
