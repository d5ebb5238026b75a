"""Are the bytes of sparse forms those of arrays that scipy and numpy make, and is the break-even where they meet?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner
from scipy import sparse as scipy_sparse

from weighbridge.cli import main
from weighbridge.compress.sparse import FORMS, break_even, dense_bytes, sparse_bytes, storage_of
from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.formats.values import TensorValues
from weighbridge.model.encodings import find
from weighbridge.model.tensors import TensorSpec


def matrix(shape: tuple[int, int], zeros: float, dtype: str) -> np.ndarray:
    random = np.random.default_rng(7)
    return np.where(random.random(shape) < zeros, 0, random.integers(1, 100, shape)).astype(dtype)


@pytest.mark.parametrize("dtype", ["int8", "int16", "float32", "float64"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 13), (64, 96), (200, 7)])
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.99, 1.0])
def test_bytes_are_those_of_real_arrays(dtype: str, rows: int, columns: int, zeros: float) -> None:
    array = matrix((rows, columns), zeros, dtype)
    nonzero, size = int(np.count_nonzero(array)), array.dtype.itemsize
    made = scipy_sparse.csr_matrix(array)
    assert made.indices.dtype == made.indptr.dtype == np.int32
    parts = made.data.nbytes + made.indices.nbytes + made.indptr.nbytes
    assert sparse_bytes(array.shape, size, nonzero, "csr") == parts
    bits = np.packbits(array != 0, axis=-1).nbytes
    assert sparse_bytes(array.shape, size, nonzero, "bitmask") == bits + array[array != 0].nbytes
    assert dense_bytes(array.shape, size) == array.nbytes


def test_csr_counts_in_int64_where_int32_is_too_small() -> None:
    wide = scipy_sparse.csr_matrix((2, 2**31 + 8), dtype="float32")
    assert wide.indptr.dtype == np.int64
    assert sparse_bytes((2, 2**31 + 8), 4, 0, "csr") == wide.indptr.nbytes == 24
    assert sparse_bytes((2, 2**31 - 1), 4, 0, "csr") == 12
    assert sparse_bytes((2**20, 2**20), 2, 2**31, "csr") == 2**31 * 10 + (2**20 + 1) * 8


def test_two_of_four_keeps_half_and_two_bits_each() -> None:
    array = np.tile(np.array([1, 0, 0, 2], "float16"), (32, 16))
    kept, places = array[array != 0], np.nonzero(array)[1] % 4
    packed = sum(int(place) << 2 * i for i, place in enumerate(places)).bit_length()
    assert sparse_bytes(array.shape, 2, kept.size, "2:4") == kept.nbytes + len(places) * 2 // 8
    assert packed <= len(places) * 2
    assert sparse_bytes((32, 64), 2, 32 * 64 // 2 + 1, "2:4") is None and sparse_bytes((32, 63), 2, 0, "2:4") is None
    assert break_even((32, 64), 2, "2:4") == 0.5 and break_even((32, 63), 2, "2:4") == 1.0


@pytest.mark.parametrize("form", ["bitmask", "csr"])
@pytest.mark.parametrize("value_bytes", [1, 2, 4])
def test_the_break_even_is_where_the_sizes_meet(form: str, value_bytes: int) -> None:
    shape = 300, 500
    zeros = break_even(shape, value_bytes, form)
    least = int(np.ceil((1 - zeros) * 150_000))
    sizes = [sparse_bytes(shape, value_bytes, nonzero, form) for nonzero in (least - 1, least + 1)]
    assert sizes[0] is not None and sizes[1] is not None
    assert sizes[0] < dense_bytes(shape, value_bytes) <= sizes[1]
    assert break_even((1000, 1), 1, form) == 1.0


def test_ninety_nine_percent_of_zeros_is_never_a_hundredth() -> None:
    shape, nonzero = (4096, 4096), 4096 * 4096 // 100
    found = {(form, size): dense_bytes(shape, size) / (sparse_bytes(shape, size, nonzero, form) or 0)
             for form in FORMS for size in (2, 4)}  # fmt: skip
    assert found["csr", 2] == pytest.approx(32.8, abs=0.1) and found["csr", 4] == pytest.approx(49.4, abs=0.1)
    assert found["bitmask", 2] == pytest.approx(13.8, abs=0.1)
    assert max(found.values()) < 50 and 25 < found["csr", 2] < 50


def test_wrong_numbers_and_forms_are_refused() -> None:
    with pytest.raises(UnitError):
        sparse_bytes((2, 2), 2, 5, "csr")
    with pytest.raises(UnitError):
        sparse_bytes((2, 2), 2, -1, "csr")
    with pytest.raises(UnknownNameError, match="csc"):
        break_even((2, 2), 2, "csc")


def test_inspection_lists_the_forms_where_zeros_are_counted(tmp_path: Path) -> None:
    pruned, vector = matrix((64, 96), 0.9, "float32"), np.zeros(5, "float32")
    safetensors.numpy.save_file({"w": pruned, "b": vector}, tmp_path / "m.safetensors")
    said = CliRunner().invoke(main, ["inspect", str(tmp_path / "m.safetensors"), "--values", "--json"])
    storage = json.loads(said.stdout)["values"]["storage"]
    made = scipy_sparse.csr_matrix(pruned)
    assert storage["dense_bytes"] == pruned.nbytes
    assert storage["zero_share"] == pytest.approx(1 - made.nnz / pruned.size)
    sizes = {form["name"]: form["bytes"] for form in storage["forms"]}
    assert sizes["csr"] == made.data.nbytes + made.indices.nbytes + made.indptr.nbytes
    assert sizes["bitmask"] == 64 * 12 + made.nnz * 4
    text = CliRunner().invoke(main, ["inspect", str(tmp_path / "m.safetensors"), "--values"]).stdout
    assert f"{sizes['csr']:,}" in text and "was not looked at" in text
    safetensors.numpy.save_file({"b": vector}, tmp_path / "v.safetensors")
    said = CliRunner().invoke(main, ["inspect", str(tmp_path / "v.safetensors"), "--values", "--json"])
    assert json.loads(said.stdout)["values"]["storage"] is None


def test_matrices_in_blocks_are_left_out() -> None:
    plain, blocks = (TensorSpec(name, (2, 32), find(encoding)) for name, encoding in (("a", "fp16"), ("b", "q8_0")))
    counted = [TensorValues("a", 64, 10), TensorValues("b", 64, 20)]
    storage = storage_of(counted, [plain, blocks])
    assert storage is not None and storage.dense_bytes == 128 and storage.zero_share == 1 - 10 / 64
    assert storage_of(counted[1:], [plain, blocks]) is None
