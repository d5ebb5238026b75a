"""What the stored weights are, read in pieces, against NumPy on the whole tensor at once."""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from weighbridge.errors import ConfigError, SourceError
from weighbridge.estimate import Basis
from weighbridge.formats import contents, number_codes, value_statistics, values
from weighbridge.formats import gguf as gguf_format
from weighbridge.formats import safetensors as safetensors_format
from weighbridge.formats.byte_source import LocalFile, LocalFolder, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.rank_sample import RankSample
from weighbridge.formats.value_statistics import CodeCounts, Moments, Statistics
from weighbridge.formats.zero_lines import ZeroLines
from weighbridge.model import encodings
from weighbridge.model.tensors import TensorSpec, Weight

Array = np.ndarray[Any, Any]
CODES = {
    "fp16": np.float16, "bf16": ml_dtypes.bfloat16, "fp8": ml_dtypes.float8_e4m3fn, "fp8_e5m2": ml_dtypes.float8_e5m2,
    "fp8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz, "fp8_e5m2fnuz": ml_dtypes.float8_e5m2fnuz,
    "fp8_e8m0": ml_dtypes.float8_e8m0fnu, "int8": np.int8, "uint8": np.uint8, "int16": np.int16, "uint16": np.uint16,
}  # fmt: skip
WIDE = {"fp32": np.float32, "fp64": np.float64, "int32": np.int32, "int64": np.int64, "uint32": np.uint32,
        "uint64": np.uint64}  # fmt: skip
SAFETENSORS = {
    "fp16": "F16", "bf16": "BF16", "fp8": "F8_E4M3", "fp8_e5m2": "F8_E5M2", "fp8_e4m3fnuz": "F8_E4M3FNUZ",
    "fp8_e5m2fnuz": "F8_E5M2FNUZ", "fp8_e8m0": "F8_E8M0", "int8": "I8", "uint8": "U8", "int16": "I16", "uint16": "U16",
    "fp32": "F32", "fp64": "F64", "int32": "I32", "int64": "I64", "uint32": "U32", "uint64": "U64", "bool": "BOOL",
    "fp4": "F4", "complex64": "C64",
}  # fmt: skip


def written(tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> bytes:
    """A safetensors file by hand: names with an encoding, a shape and the stored bytes."""
    header, at = {}, 0
    for name, (encoding, shape, data) in tensors.items():
        header[name] = {"dtype": SAFETENSORS[encoding], "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values())


def read(tensors: Mapping[str, tuple[str, tuple[int, ...], bytes]]) -> values.Values:
    folder = MemoryFolder({"m.safetensors": written(tensors)})
    return values.read(safetensors_format.read(folder.open("m.safetensors")), folder)


def read_arrays(**given: Array) -> values.Values:
    names = {np.dtype(dtype): name for name, dtype in (CODES | WIDE | {"bool": np.bool_}).items()}
    return read({name: (names[array.dtype], array.shape, array.tobytes()) for name, array in given.items()})


def one(array: Array) -> values.TensorValues:
    (found,) = read_arrays(w=array).tensors
    return found


def statistics(found: values.TensorValues) -> Statistics:
    assert found.statistics is not None
    return found.statistics


def agrees(found: values.TensorValues, array: Array) -> None:
    """Holds everything that is exact against NumPy on the whole tensor in fp64."""
    got = statistics(found)
    with np.errstate(invalid="ignore"):
        numbers = array.astype(np.float64).reshape(-1)
    finite = numbers[np.isfinite(numbers)]
    assert found.elements == array.size and found.nonzero == np.count_nonzero(numbers)
    assert got.nan == np.isnan(numbers).sum() and got.infinite == np.isinf(numbers).sum()
    assert found.sha256 == hashlib.sha256(array.tobytes()).hexdigest()
    if array.ndim == 2 and min(array.shape) > 1:
        lives = numbers.reshape(array.shape) != 0
        rows, columns = lives.any(axis=1), lives.any(axis=0)
        assert (found.zero_rows, found.zero_columns) == ((~rows).sum(), (~columns).sum())
        assert found.dead == (~(rows[:, None] & columns)).sum()
    if not finite.size:
        assert (got.minimum, got.maximum, got.mean, got.deviation) == (None,) * 4
        return
    assert (got.minimum, got.maximum) == (finite.min(), finite.max())
    exact = [float(x) for x in finite]
    try:
        mean = math.fsum(exact) / len(exact)
        squares = math.fsum((x - mean) ** 2 for x in exact) / len(exact)
    except OverflowError:
        assert got.deviation is None
        return
    largest = max(map(abs, exact))
    assert got.mean is not None and math.isclose(got.mean, mean, rel_tol=1e-9, abs_tol=1e-14 * largest + 1e-320)
    if got.deviation is None:
        assert largest > 1e139 or largest < 1e-139
        return
    assert math.isclose(got.deviation, math.sqrt(squares), rel_tol=1e-9, abs_tol=1e-13 * largest)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 64 bytes, parts of 7 elements, and every path of large tensors for small ones."""
    monkeypatch.setattr(contents, "PIECE_BYTES", 64)
    monkeypatch.setattr(values, "_PART", 7)
    monkeypatch.setattr(values, "_FEW", 3)
    monkeypatch.setattr(value_statistics, "MOST_KEPT", 10)


# --- codes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CODES)
def test_every_code_is_the_number_that_another_library_reads(name: str) -> None:
    encoding, dtype = encodings.find(name), CODES[name]
    codes = np.arange(2 ** (8 * encoding.bytes_per_block)).astype(f"u{encoding.bytes_per_block}")
    with np.errstate(invalid="ignore"):
        expected = codes.view(dtype).astype(np.float32).astype(np.float64)
    found = number_codes.numbers(encoding)
    assert np.array_equal(found, expected, equal_nan=True)
    known = ~np.isnan(expected)
    assert np.array_equal(np.signbit(found[known]), np.signbit(expected[known]))


def test_every_encoding_with_a_table_is_tested() -> None:
    assert set(number_codes.CODED) == CODES.keys() | {"bool"}


def test_the_finite_type_of_8_bits_has_no_infinity_and_the_other_has_two() -> None:
    finite = read({"w": ("fp8", (4,), bytes([0x7F, 0xFF, 0x7E, 0xFE]))}).tensors[0]
    assert (statistics(finite).nan, statistics(finite).infinite) == (2, 0)
    assert (statistics(finite).minimum, statistics(finite).maximum) == (-448, 448)
    other = read({"w": ("fp8_e5m2", (6,), bytes([0x7C, 0xFC, 0x7D, 0xFF, 0x7B, 0x01]))}).tensors[0]
    assert (statistics(other).nan, statistics(other).infinite) == (2, 2)
    assert (statistics(other).minimum, statistics(other).maximum) == (2**-16, 57344)
    unsigned = read({"w": ("fp8_e4m3fnuz", (2,), bytes([0x80, 0x00]))}).tensors[0]
    assert (statistics(unsigned).nan, unsigned.nonzero) == (1, 1)


# --- one tensor against NumPy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
def test_a_half_zeroed_tensor_reports_both_numbers(dtype: str) -> None:
    array = np.ones((10, 100), dtype)
    array[::2] = 0
    found = read_arrays(pruned=array, dense=np.ones(7, dtype))
    assert (found.read, found.nonzero, found.unread, found.dead) == (1007, 507, 0, 500)
    assert {t.name: t.nonzero for t in found.tensors} == {"pruned": 500, "dense": 7}
    assert (found.tensors[0].zero_rows, found.tensors[0].zero_columns) == (5, 0)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_minus_zero_is_zero_and_the_smallest_numbers_are_not(dtype: str) -> None:
    smallest = np.nextafter(np.array(0, dtype), np.array(1, dtype))
    found = one(np.array([0, -0.0, smallest, -smallest, np.nan, np.inf, -np.inf], dtype))
    assert (found.elements, found.nonzero) == (7, 5)
    assert (statistics(found).nan, statistics(found).infinite) == (1, 2)
    assert (statistics(found).minimum, statistics(found).maximum) == (-smallest, smallest)


def test_empty_and_scalar_tensors() -> None:
    empty = one(np.zeros((0, 5), np.float32))
    assert (empty.elements, empty.nonzero, statistics(empty).mean, empty.dead, empty.zero_rows) == (0, 0, None, 0, None)
    for dtype in (np.float32, np.float16, np.int64, np.uint8):
        scalar = one(np.array(3, dtype))
        assert (scalar.elements, statistics(scalar).minimum, statistics(scalar).deviation) == (1, 3, 0)
        assert statistics(scalar).is_constant
    assert isinstance(statistics(one(np.array([2], np.int8))).minimum, int)
    assert one(np.array(0, np.float32)).dead == 1


@pytest.mark.parametrize("size", [1000, 100_001])
@pytest.mark.parametrize("name", [*CODES, *WIDE])
def test_all_types_in_small_and_large_tensors(name: str, size: int) -> None:
    draw = np.random.default_rng(1)
    if name in CODES:
        width = np.dtype(CODES[name]).itemsize
        array = draw.integers(0, 2 ** (8 * width), size).astype(f"u{width}").view(CODES[name])
    else:
        array = (draw.standard_normal(size) * 1e5).astype(np.int64).astype(WIDE[name])
    agrees(one(array), array)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("name", [*CODES, *WIDE])
def test_pieces_and_parts_change_nothing(name: str) -> None:
    @settings(max_examples=40, deadline=None)
    @given(st.data())
    def held(data: st.DataObject) -> None:
        shape = data.draw(arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=12))
        if name in CODES:
            width = np.dtype(CODES[name]).itemsize
            codes = st.just(0) | st.integers(0, 2 ** (8 * width) - 1)
            array: Array = data.draw(arrays.arrays(f"u{width}", shape, elements=codes)).view(CODES[name])
        else:
            array = data.draw(arrays.arrays(WIDE[name], shape))
        agrees(one(array), array)

    held()


@settings(max_examples=100, deadline=None)
@given(st.floats(-1e6, 1e6, width=32), st.floats(0, 2**-10, width=32), st.integers(2, 5000))
def test_a_large_mean_beside_a_small_deviation_costs_no_digits(mean: float, deviation: float, size: int) -> None:
    array = (mean + deviation * np.random.default_rng(0).standard_normal(size)).astype(np.float32)
    agrees(one(array), array)


def test_a_constant_has_no_deviation() -> None:
    found = statistics(one(np.full((300, 1000), 0.1, np.float32)))
    assert found.mean == np.float32(0.1) and found.deviation == 0 and found.is_constant and found.outliers == 0
    assert found.farthest is None


def test_numbers_whose_squares_fp64_cannot_hold_have_no_deviation() -> None:
    for size in (1e-200, 1e200):
        found = statistics(one(np.array([size, -size, 2 * size])))
        assert found.deviation is None and found.outliers is None and found.maximum == 2 * size
    assert statistics(one(np.array([1.7e308, 1.7e308, 1.6e308]))).mean is None
    json.dumps(one(np.array([1.7e308, 1.7e308, -1.7e308, np.nan])).to_json(), allow_nan=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", [1000, 400_000])
def test_outliers_are_counted_exactly_where_all_is_at_hand(dtype: Any, size: int) -> None:
    array = np.random.default_rng(2).standard_t(3, size).astype(dtype)
    numbers = array.astype(np.float64)
    far = np.abs(numbers - numbers.mean()) > 6 * numbers.std()
    found = statistics(one(array))
    assert found.outliers == far.sum() > 0
    assert found.farthest == pytest.approx(np.abs(numbers - numbers.mean()).max() / numbers.std(), rel=1e-9)


@pytest.mark.parametrize(("dtype", "digits"), [(np.float32, 2**-7), (np.float64, 2**-4)])
@pytest.mark.parametrize("mean", [0.0, 30.0, -30.0])
def test_outliers_of_a_large_tensor_lie_at_or_beyond_rounded_bounds(
    dtype: Any, digits: float, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(value_statistics, "MOST_KEPT", 1000)
    array = (mean + np.random.default_rng(3).standard_t(3, 300_000)).astype(dtype)
    found, numbers = statistics(one(array)), array.astype(np.float64)
    assert found.bounds is not None
    low, high = found.bounds
    exact = numbers.mean() - 6 * numbers.std(), numbers.mean() + 6 * numbers.std()
    assert exact[0] - digits * abs(exact[0]) <= low <= exact[0] and exact[1] <= high <= exact[1] + digits * abs(
        exact[1]
    )
    assert found.outliers == ((numbers <= low) | (numbers >= high)).sum() > 0


@pytest.mark.parametrize("number", [0.0, -0.0, 1.0, -2.0, 0.1])
def test_a_large_constant_tensor_has_no_outliers(monkeypatch: pytest.MonkeyPatch, number: float) -> None:
    """Its bounds are the number itself, which may be where patterns of the upper bits change."""
    monkeypatch.setattr(value_statistics, "MOST_KEPT", 1000)
    for dtype in ("float32", "float64"):
        assert statistics(one(np.full((300, 300), number, dtype))).outliers == 0


def test_integers_have_no_outliers() -> None:
    for dtype in (np.int8, np.int64):
        found = statistics(one(np.array([0] * 100 + [100], dtype)))
        assert found.outliers is None and found.bounds is None and found.farthest is not None


# --- rows and columns of zeros ---------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 8), st.integers(1, 8), st.randoms(use_true_random=False), st.floats(0, 1))
def test_zero_lines_do_not_depend_on_the_parts(rows: int, columns: int, draw: random.Random, share: float) -> None:
    lives = np.array([[draw.random() < share for _ in range(columns)] for _ in range(rows)])
    lines, flat, at = ZeroLines((rows, columns)), lives.reshape(-1), 0
    while at < flat.size:
        size = draw.randint(1, 20)
        lines.add(flat[at : at + size])
        at += size
    alive_rows, alive_columns = np.atleast_1d(lives.any(axis=1)), np.atleast_1d(lives.any(axis=0))
    assert lines.zero_rows == (~alive_rows).sum() and lines.zero_columns == (~alive_columns).sum()
    assert lines.dead == (~(alive_rows[:, None] & alive_columns)).sum()


def test_dead_filters_of_a_convolution_are_rows_and_its_columns_are_not_followed() -> None:
    array = np.ones((8, 3, 2, 2), np.float32)
    array[[1, 5]] = 0
    array[:, 0] = 0
    found = one(array)
    assert (found.zero_rows, found.zero_columns, found.dead, found.effective_rank) == (2, None, 24, None)


def test_vectors_are_dead_as_a_whole_or_not_at_all() -> None:
    found = read_arrays(a=np.zeros(5, np.float32), b=np.array([0, 0, 1], np.float32), c=np.zeros((1, 4), np.float32))
    assert [(t.zero_rows, t.dead) for t in found.tensors] == [(None, 5), (None, 0), (None, 4)]
    assert found.dead == 9


# --- effective rank --------------------------------------------------------------------------------------------------


def rank_of(array: Array) -> float:
    found = one(array.astype(np.float32)).effective_rank
    assert found is not None and found.value is not None and found.basis is Basis.MEASURED
    return found.value


def test_the_effective_rank_is_that_of_the_whole_matrix_where_it_fits_into_the_sample() -> None:
    draw = np.random.default_rng(4)
    array = draw.standard_normal((60, 90)).astype(np.float32)
    sizes = np.linalg.svd(array.astype(np.float64), compute_uv=False)
    shares = sizes / sizes.sum()
    assert rank_of(array) == pytest.approx(math.exp(-(shares * np.log(shares)).sum()), rel=1e-9)
    assert rank_of(np.eye(50)) == pytest.approx(50) and one(np.eye(50, dtype=np.float32)).rank_at_most == 50


def test_the_effective_rank_of_a_large_matrix_is_that_of_a_sample_of_it() -> None:
    draw = np.random.default_rng(5)
    low = draw.standard_normal((700, 3)) @ draw.standard_normal((3, 900))
    assert 1 < rank_of(low) < 3.01
    assert 95 < rank_of(draw.standard_normal((700, 900))) < 110
    assert rank_of(np.zeros((4, 4))) == 0
    found = one(low.astype(np.float32))
    assert found.rank_at_most == 128 and found.effective_rank is not None
    assert found.effective_rank.note == "of a sample of 128 rows and 128 columns, seed 0"


def test_the_sample_does_not_depend_on_the_parts() -> None:
    array = np.random.default_rng(6).standard_normal((300, 200))
    whole, parts = RankSample((300, 200)), RankSample((300, 200))
    whole.add(0, array.reshape(-1), lambda x: x)
    for at in range(0, array.size, 777):
        parts.add(at, array.reshape(-1)[at : at + 777], lambda x: x)
    assert whole.effective_rank() == parts.effective_rank()


def test_a_sample_with_a_nan_has_no_effective_rank() -> None:
    array = np.eye(5, dtype=np.float32)
    array[2, 3] = np.nan
    assert one(array).effective_rank is None and one(array).zero_rows == 0


# --- copies ----------------------------------------------------------------------------------------------------------


def test_copies_are_found_by_content() -> None:
    weights = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = read_arrays(
        embedding=weights, head=weights.copy(), third=weights, turned=weights.reshape(4, 3), other=weights + 1,
        ones=np.ones(4, np.float32), more_ones=np.ones(4, np.float32), number=np.array(7.0), same_number=np.array(7.0),
        integers=weights.view(np.int32),
    )  # fmt: skip
    assert found.duplicates == {"embedding": ("head", "third")}
    assert found.distinct == sum(t.elements for t in found.tensors) - 24
    document = found.to_json()
    assert document["duplicates"] == [{"name": "embedding", "copies": ["head", "third"], "elements": 12}]
    assert {t["name"]: t["duplicate_of"] for t in document["tensors"] if t["duplicate_of"]} == {
        "head": "embedding", "third": "embedding"}  # fmt: skip


def test_names_that_share_storage_are_read_once() -> None:
    data = np.arange(4, dtype=np.float32).tobytes()
    folder = MemoryFolder({"a.bin": data})
    spec = TensorSpec("a", (4,), encodings.find("fp32"), file="a.bin", byte_range=(0, 16))
    tied = TensorSpec("b", (4,), encodings.find("fp32"), file="a.bin", byte_range=(0, 16), tied_to="a")
    found = values.read(Checkpoint("m", "other", (), (spec, tied)), folder)
    assert [t.name for t in found.tensors] == ["a"] and found.distinct == 4 and not found.duplicates


# --- what is not decoded ---------------------------------------------------------------------------------------------


def test_packed_words_and_small_types_are_compared_by_their_bytes_alone() -> None:
    found = read({"a": ("fp4", (4,), b"\x12\x34"), "b": ("fp4", (4,), b"\x12\x34"), "c": ("complex64", (1,), bytes(8))})
    assert (found.read, found.unread, found.distinct) == (0, 9, 5) and found.duplicates == {"a": ("b",)}
    assert found.notes == ("values of complex64 are not read: their bytes alone are compared",
                           "values of fp4 are not read: their bytes alone are compared")  # fmt: skip
    words = TensorSpec("q", (2,), encodings.find("int32"), file="a", byte_range=(0, 8), stands_for=Weight("w", (16,)))
    found = values.read(Checkpoint("m", "other", (), (words,)), MemoryFolder({"a": bytes(8)}))
    assert (found.read, found.unread, found.tensors[0].statistics, found.tensors[0].nonzero) == (0, 2, None, None)
    assert found.tensors[0].sha256 == hashlib.sha256(bytes(8)).hexdigest()
    assert found.notes == ("values of weights packed in int32 are not read: their bytes alone are compared",)


def test_a_format_whose_bytes_cannot_be_had_is_said_so() -> None:
    spec = TensorSpec("a", (4,), encodings.find("fp32"))
    found = values.read(Checkpoint("m", "onnx", (), (spec,)), MemoryFolder({}))
    assert (found.unread, found.notes) == (4, ("values of onnx storage are not read",))
    assert found.tensors[0].to_json()["sha256"] is None and found.to_json()["elements_unread"] == 4


def write_blocks(path: Path) -> Array:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("plain", np.array([0, 1, 2, 3], "float32"))
    weights = np.random.default_rng(7).standard_normal((50, 320)).astype("float32")
    weights[7] = 0
    packed = gguf.quants.quantize(weights, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    decoded: Array = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)
    return decoded


def test_blocks_are_left_out_without_a_decoder_and_said_so(tmp_path: Path) -> None:
    write_blocks(tmp_path / "a.gguf")
    folder = LocalFolder(tmp_path)
    found = values.read(gguf_format.read(folder.open("a.gguf"), folder), folder)
    assert (found.read, found.nonzero, found.unread) == (4, 3, 16_000)
    assert found.notes == ("values of q8_0 are not read: their bytes alone are compared",)
    assert found.to_json()["zero"] == 1


def test_blocks_are_decoded_with_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = write_blocks(tmp_path / "a.gguf")
    folder = LocalFolder(tmp_path)
    checkpoint = gguf_format.read(folder.open("a.gguf"), folder)

    def decode(data: bytes, encoding: encodings.Encoding, columns: int) -> Array:
        assert encoding.name == "q8_0" and columns == 32
        return gguf.quants.dequantize(np.frombuffer(data, np.uint8).reshape(-1, 34), gguf.GGMLQuantizationType.Q8_0)

    def refuse(data: bytes, encoding: encodings.Encoding, columns: int) -> Array:
        raise ConfigError("no engine", "one", "install it")

    monkeypatch.setattr(values, "_PART", 100)
    found = values.read(checkpoint, folder, decode)
    assert found.unread == 0 and found.notes == ()
    (blocks,) = (t for t in found.tensors if t.name == "packed")
    got = statistics(blocks)
    assert (got.minimum, got.maximum) == (expected.min(), expected.max()) and blocks.zero_rows == 1
    assert got.mean == pytest.approx(expected.astype(float).mean(), abs=1e-12)
    assert got.deviation == pytest.approx(expected.astype(float).std(), rel=1e-9)
    assert blocks.nonzero == np.count_nonzero(expected)
    assert values.read(checkpoint, folder, refuse).unread == 16_000


def test_a_file_in_the_other_order_of_bytes(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama", endianess=gguf.GGUFEndian.BIG)
    array = np.array([[1, -2, 0], [0, 0, 0], [3, 4, 0]])
    for dtype in ("float32", "float16", "int8", "int64"):
        writer.add_tensor(dtype, array.astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    folder = LocalFolder(tmp_path)
    found = values.read(gguf_format.read(folder.open("a.gguf"), folder), folder)
    for tensor in found.tensors:
        got = statistics(tensor)
        assert (got.minimum, got.maximum, tensor.nonzero) == (-2, 4, 4), tensor.name
        assert got.mean == pytest.approx(6 / 9)
        assert (tensor.zero_rows, tensor.zero_columns, tensor.dead) == (1, 1, 5)


def test_a_pipeline_is_read_in_its_folders() -> None:
    data = written({"w": ("fp32", (2,), np.array([1, 2], "f4").tobytes())})
    folder = MemoryFolder({"unet/m.safetensors": data, "vae/m.safetensors": data})
    parts = {key: safetensors_format.read(folder.below(key).open("m.safetensors")) for key in ("unet", "vae")}
    checkpoint = Checkpoint("m", "pipeline", (), (), parts=parts)
    found = values.read(checkpoint, folder)
    assert found.duplicates == {"unet.w": ("vae.w",)} and values.bytes_to_read(checkpoint, folder) == 16


# --- reading ---------------------------------------------------------------------------------------------------------


def test_pieces_are_counted_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "PIECE_BYTES", 64)
    monkeypatch.setattr(values, "_WORTH_A_THREAD", 64)
    array = np.arange(1000, dtype="float32") % 3
    safetensors.numpy.save_file({"w": array}, tmp_path / "m.safetensors")
    checkpoint = safetensors_format.read(LocalFile(tmp_path / "m.safetensors"))
    pieces: list[int] = []
    found = values.read(checkpoint, LocalFolder(tmp_path), progress=pieces.append)
    assert found.nonzero == np.count_nonzero(array) and sum(pieces) == 4000 and max(pieces) == 64
    assert values.bytes_to_read(checkpoint, LocalFolder(tmp_path)) == 4000
    agrees(found.tensors[0], array)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F8_E4M3", "F64"])
def test_memory_stays_small_however_large_a_tensor_is(tmp_path: Path, dtype: str) -> None:
    size, width = 160 * 2**20, {"F32": 4, "BF16": 2, "F8_E4M3": 1, "F64": 8}[dtype]
    header = json.dumps({"w": {"dtype": dtype, "shape": [size // width // 4096, 4096], "data_offsets": [0, size]}})
    with (tmp_path / "m.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header.encode())
        file.truncate(8 + len(header) + size)
    one(np.eye(3, dtype=np.float32))  # what is imported does not count
    folder = LocalFolder(tmp_path)
    checkpoint = safetensors_format.read(folder.open("m.safetensors"))
    tracemalloc.start()
    try:
        found = values.read(checkpoint, folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.nonzero == 0 and found.dead == size // width and peak < 64 * 2**20, peak


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "PIECE_BYTES", 1000)
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"w": np.ones(1000, "float32")}, path)
    os.utime(path, ns=(0, 10**18))
    folder = LocalFolder(tmp_path)
    checkpoint = safetensors_format.read(folder.open(path.name))

    def write(size: int) -> None:
        with path.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"\0")

    with pytest.raises(SourceError, match="was changed while it was read"):
        values.read(checkpoint, folder, progress=write)


def test_a_file_of_another_size_than_its_header_was_read_from_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    safetensors.numpy.save_file({"w": np.ones(1000, "float32")}, path)
    checkpoint = safetensors_format.read(LocalFile(path))
    safetensors.numpy.save_file({"w": np.ones(2000, "float32")}, path)
    with pytest.raises(SourceError, match="was changed while it was read"):
        values.read(checkpoint, LocalFolder(tmp_path))


def test_both_ways_to_sum_give_the_same() -> None:
    array = np.random.default_rng(8).integers(0, 2**16, 3000).astype("u2")
    counts, sums = CodeCounts(encodings.find("fp16")), Moments(True, array.size)
    for part in np.split(array, 10):
        counts.add(part)
        with np.errstate(all="ignore"):
            sums.add(counts.numbers(part))
    by_code, by_sum = counts.statistics(), sums.statistics()
    assert (by_code.nan, by_code.infinite, by_code.outliers) == (by_sum.nan, by_sum.infinite, by_sum.outliers)
    assert by_code.mean == pytest.approx(by_sum.mean) and by_code.deviation == pytest.approx(by_sum.deviation)
