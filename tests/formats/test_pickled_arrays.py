"""Pickles of arrays: written by pickle, joblib and scikit-learn themselves, and (old ones) by hand."""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.pickles import Call, opcodes

from weighbridge.errors import FormatError
from weighbridge.formats import contents, pickled_arrays, reader, torch_zip
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import is_parameter

RECORDS = np.zeros(3, np.dtype([("threshold", "f8"), ("feature", "i8"), ("flag", "u1"), ("name", "U2")], align=True))
VALUES: dict[str, Any] = {
    **{kind: np.arange(6).reshape(2, 3).astype(kind)
       for kind in ("f2", "f4", "f8", "c8", "c16", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")},
    "empty": np.zeros((0, 3)), "scalar_array": np.array(2.5),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "vector_of_both_orders": np.arange(4.0), "records": RECORDS,
    "objects": np.array([np.arange(2.0), "x", None], dtype=object), "texts": np.array(["a", "bc"]),
    "dates": np.array(["2026-01-01"], "M8[D]"), "numbers": [np.float32(1), 2.0, 3], "nested": {"k": [np.ones(2, "f4")]},
}  # fmt: skip
NAMES = {
    *VALUES, "records.threshold", "records.feature", "records.flag", "objects.0", "nested.k.0"
} - {"records", "objects", "texts", "dates", "numbers", "nested"}  # fmt: skip


def joblib_dump(value: Any, **options: Any) -> bytes:
    joblib = pytest.importorskip("joblib")
    joblib.dump(value, file := io.BytesIO(), **options)
    return file.getvalue()


WRITERS: dict[str, Callable[[Any], bytes]] = {
    **{f"pickle {n}": lambda value, n=n: pickle.dumps(value, n) for n in (2, 3, 4, 5)},  # type: ignore[misc]
    "joblib": joblib_dump,
    "joblib, protocol 2": lambda value: joblib_dump(value, protocol=2),
    "joblib, zlib": lambda value: joblib_dump(value, compress=("zlib", 3)),
    "joblib, gzip": lambda value: joblib_dump(value, compress=("gzip", 3)),
}


def read(data: bytes, name: str = "model.pkl") -> Checkpoint:
    return pickled_arrays.read(MemoryFolder({name: data}), name)


def reference(name: str) -> Any:
    if name.startswith("records."):
        return RECORDS[name.removeprefix("records.")]
    return {"objects.0": np.arange(2.0), "nested.k.0": np.ones(2, "f4")}.get(name, VALUES.get(name))


@pytest.mark.parametrize("writer", WRITERS)
def test_arrays_of_every_type_have_their_names_shapes_and_values(writer: str) -> None:
    data = WRITERS[writer](VALUES)
    folder = MemoryFolder({"model.pkl": data})
    checkpoint = pickled_arrays.read(folder, "model.pkl")
    assert {tensor.name for tensor in checkpoint.tensors} == NAMES
    for tensor in checkpoint.tensors:
        array = reference(tensor.name)
        assert tensor.shape == array.shape and tensor.encoding.bytes_per_block == array.itemsize, tensor.name
        assert tensor.encoding.is_float == (array.dtype.kind in "fc")
        found = b"".join(contents.pieces(checkpoint, tensor, folder))
        assert found == np.ascontiguousarray(array).tobytes(), tensor.name
        if tensor.byte_range is not None:
            assert data[slice(*tensor.byte_range)] == found
    assert checkpoint.format == "pickle" and checkpoint.size_bytes == len(data)
    assert any("texts" in note and "dates" in note for note in checkpoint.notes)


@pytest.mark.parametrize("writer", ["pickle 3", "pickle 4", "pickle 5", "joblib"])
def test_plain_arrays_lie_in_one_stretch_and_the_file_is_accounted_for(writer: str) -> None:
    arrays = {"a": np.arange(1000.0), "b": np.arange(6, dtype=np.int16).reshape(2, 3)}
    checkpoint = read(WRITERS[writer](arrays))
    assert all(tensor.byte_range is not None for tensor in checkpoint.tensors)
    assert checkpoint.tensor_bytes == 8000 + 12
    (file,) = checkpoint.files
    assert (file.padding_bytes > 0) == (writer == "joblib")


def test_a_large_array_is_stepped_over() -> None:
    source = MemoryFile("model.pkl", pickle.dumps({"a": np.zeros(3_000_000), "b": np.zeros(3)}, 5))
    folder = MemoryFolder({"model.pkl": source})
    assert len(pickled_arrays.read(folder, "model.pkl").tensors) == 2
    assert source.requests <= 4 and source.bytes_read < 200_000 < source.size


def test_the_digest_leaves_the_arrays_out() -> None:
    one, two = (pickle.dumps(np.full(9, value), 5) for value in (1.0, 2.0))
    assert read(one).digest == read(two).digest != read(pickle.dumps(np.full((3, 3), 1.0), 5)).digest
    at = one.index(np.full(9, 1.0).tobytes())
    assert read(one).digest == hashlib.sha256(one[:at] + one[at + 72 :]).hexdigest()


def test_one_array_under_two_names_is_tied() -> None:
    shared = np.ones(3)
    for protocol in (2, 5):
        checkpoint = read(pickle.dumps({"a": shared, "b": shared}, protocol))
        assert [(t.name, t.tied_to) for t in checkpoint.tensors] == [("a", None), ("b", "a")]


def test_big_endian_arrays() -> None:
    checkpoint = read(pickle.dumps({"a": np.ones(3, ">f4"), "b": np.ones(2, ">i2"), "c": np.ones(2, "u1")}, 4))
    assert checkpoint.byte_order == "big"
    folder = MemoryFolder({"model.pkl": pickle.dumps({"a": np.ones(3, ">f4"), "b": np.ones(2)}, 4)})
    checkpoint = pickled_arrays.read(folder, "model.pkl")
    assert checkpoint.byte_order == "little" and checkpoint.tensors[0].byte_range is None
    with pytest.raises(FormatError, match="byte order"):
        list(contents.pieces(checkpoint, checkpoint.tensors[0], folder))


@pytest.mark.parametrize("writer", ["pickle 2", "pickle 5", "joblib", "joblib, zlib"])
def test_a_pipeline_of_scikit_learn(writer: str) -> None:
    sklearn = pytest.importorskip("sklearn")
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    features, classes = rng.normal(size=(30, 4)), np.repeat(["a", "b", "c"], 10).astype(object)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, classes)
    checkpoint = read(WRITERS[writer](model))
    found = {tensor.name: tensor.shape for tensor in checkpoint.tensors if is_parameter(tensor)}
    assert found == {
        "steps.0.1.mean_": (4,), "steps.0.1.var_": (4,), "steps.0.1.scale_": (4,), "steps.1.1.coef_": (3, 4),
        "steps.1.1.intercept_": (3,),
    }  # fmt: skip
    assert "sklearn.pipeline.Pipeline" in checkpoint.metadata["foreign_names"] and sklearn.__version__
    assert any("runs code" in note and "sklearn" in note for note in checkpoint.notes)


@pytest.mark.parametrize("writer", ["pickle 2", "pickle 4", "joblib"])
def test_the_trees_of_a_forest_give_their_thresholds(writer: str) -> None:
    pytest.importorskip("sklearn")
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    forest = RandomForestRegressor(3, random_state=0).fit(rng.normal(size=(40, 3)), rng.normal(size=40))
    folder = MemoryFolder({"forest.joblib": WRITERS[writer](forest)})
    checkpoint = pickled_arrays.read(folder, "forest.joblib")
    for i, tree in enumerate(forest.estimators_):
        (found,) = (t for t in checkpoint.tensors if t.name == f"estimators_.{i}.tree_.nodes.threshold")
        assert b"".join(contents.pieces(checkpoint, found, folder)) == tree.tree_.threshold.tobytes()


def test_a_wrapper_of_joblib_before_1_2_has_no_padding() -> None:
    dtype = Call("numpy.dtype", ("f4", False, True), (3, "<", None, None, None, -1, -1, 0))
    state = {"subclass": None, "shape": (2, 2), "order": "C", "dtype": dtype, "allow_mmap": True}
    wrapper = opcodes(Call("joblib.numpy_pickle.NumpyArrayWrapper", (), state))[:-1]
    data = wrapper[:2] + b"](" + wrapper[2:] + np.arange(4, dtype="f4").tobytes() + b"e."
    (tensor,) = read(data).tensors
    assert tensor.shape == (2, 2) and tensor.byte_range is not None
    assert data[slice(*tensor.byte_range)] == np.arange(4, dtype="f4").tobytes()


def test_a_bfloat16_array_of_ml_dtypes() -> None:
    dtype = Call("numpy.dtype", ("f4", False, True))
    data = opcodes(Call("numpy._core.multiarray._reconstruct", (None, (0,), "b"), (1, (3,), dtype, False, "x" * 12)))
    data = data.replace(b"X\x02\0\0\0f4", b"cml_dtypes\nbfloat16\n").replace(
        b"X\x0c\0\0\0" + b"x" * 12, b"C\x06" + b"y" * 6
    )
    (tensor,) = read(data).tensors
    assert tensor.encoding.name == "bf16"


def test_the_endings_lead_here_and_a_torch_ending_does_too() -> None:
    data = pickle.dumps({"w": np.ones(3)}, 4)
    for name in ("a.pkl", "a.pickle", "a.sav", "a.joblib", "a.pt", "a.bin"):
        assert [t.name for t in reader.read_file(MemoryFolder({name: data}), name).tensors] == ["w"]
    assert torch_zip.read(MemoryFile("a.pt", data)).format == "pickle"


def test_what_is_not_read_says_so() -> None:
    for data, part in (
        (joblib_dump({"a": np.ones(3)}, compress=("bz2", 3)), "bz2"), (joblib_dump([1.0], compress=("xz", 3)), "xz"),
        (joblib_dump([1.0], compress=("lzma", 3)), "lzma"),
        (pickle.dumps({"a": 1}), "no array"), (pickle.dumps(pickle.Unpickler, 4), "pickle"), (b"text", "begins"),
        (opcodes(Call("joblib.numpy_pickle.NDArrayWrapper", (), {})), "beside"), (b"", "begins"),
    ):  # fmt: skip
        with pytest.raises(FormatError, match=part):
            read(data)


def test_bytes_after_the_pickle_are_told() -> None:
    checkpoint = read(pickle.dumps(np.ones(2), 4) + pickle.dumps(np.ones(3), 4))
    assert [t.shape for t in checkpoint.tensors] == [(2,)]
    assert any("after the pickle" in note for note in checkpoint.notes)
