"""Are importance matrices read as llama.cpp wrote them, and written as others read them?"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from weighbridge.compress.importance import CHUNK_SIZE, Importance, of_sums, read, write
from weighbridge.errors import ConfigError, FormatError, SourceError

DENSE, EXPERTS = "blk.0.attn_q.weight", "blk.1.ffn_up_exps.weight"


def matrix() -> Importance:
    """A dense weight with 6 columns, and one of three experts with 4, of which the second got nothing."""
    generator = np.random.default_rng(3)
    sums = {DENSE: generator.uniform(0, 9, (1, 6)), EXPERTS: generator.uniform(0, 9, (3, 4))}
    sums[EXPERTS][1] = 0
    counts = {DENSE: np.array([1000]), EXPERTS: np.array([900, 0, 100])}
    return of_sums(sums, counts, ["a.txt", "ä.txt"], 2, 500)


def write_gguf(path: Path, tensors: dict[str, np.ndarray[Any, Any]], kind: str = "imatrix") -> Path:
    """What llama-imatrix writes, through the reference implementation of GGUF."""
    writer = gguf.GGUFWriter(str(path), arch="none")
    writer.add_string("general.type", kind)
    writer.add_array("imatrix.datasets", ["calibration.txt"])
    writer.add_uint32("imatrix.chunk_count", 7)
    writer.add_uint32("imatrix.chunk_size", 512)
    for name, values in tensors.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def entry(name: bytes, chunks: int, values: list[float]) -> bytes:
    """A weight of the older form, as `save_imatrix_legacy` of llama.cpp writes it."""
    return struct.pack(f"<i{len(name)}sii{len(values)}f", len(name), name, chunks, len(values), *values)


def test_what_is_written_other_readers_read(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf", matrix())
    reader = gguf.GGUFReader(tmp_path / "a.gguf")
    fields = reader.fields
    assert fields["general.type"].contents() == "imatrix" and fields["imatrix.datasets"].contents() == [
        "a.txt", "ä.txt"]  # fmt: skip
    assert fields["imatrix.chunk_count"].contents() == 2 and fields["imatrix.chunk_size"].contents() == 500
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert list(tensors) == [f"{name}.{end}" for name in (DENSE, EXPERTS) for end in ("in_sum2", "counts")]
    assert tensors[f"{DENSE}.in_sum2"].shape.tolist() == [6, 1]
    assert tensors[f"{EXPERTS}.in_sum2"].shape.tolist() == [4, 3]
    assert tensors[f"{EXPERTS}.counts"].shape.tolist() == [1, 3]
    assert tensors[f"{EXPERTS}.counts"].data.reshape(-1).tolist() == [900, 0, 100]
    known = matrix()
    expected = known.means[EXPERTS] * np.array([[900], [0], [100]])
    assert tensors[f"{EXPERTS}.in_sum2"].data == pytest.approx(expected, rel=1e-6)
    found = read(tmp_path / "a.gguf")
    assert (found.datasets, found.chunks, found.chunk_size) == (known.datasets, 2, 500)
    for name in (DENSE, EXPERTS):
        assert found.means[name] == pytest.approx(known.means[name], rel=1e-6)
        assert found.counts[name].tolist() == known.counts[name].tolist()
    assert list(tmp_path.iterdir()) == [tmp_path / "a.gguf"]


def test_what_llama_cpp_writes_is_read_as_its_quantizer_reads_it(tmp_path: Path) -> None:
    sums, counts = np.array([[2, 4], [0, 0]], np.float32), np.array([[4], [0]], np.float32)
    extra = {f"{DENSE}.in_sum": np.ones((2, 2), np.float32)}  # newer releases write sums as well
    path = write_gguf(tmp_path / "a.gguf", {f"{DENSE}.in_sum2": sums, f"{DENSE}.counts": counts, **extra})
    found = read(path)
    assert found.means[DENSE].tolist() == [[0.5, 1.0], [1.0, 1.0]]  # nothing came to the second: ones
    assert (found.datasets, found.chunks, found.chunk_size) == (("calibration.txt",), 7, 512)


def test_the_older_form_is_read(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    data = struct.pack("<i", 2) + entry(b"blk.0.a.weight", 4, [8.0, 2.0, 0.0]) + entry(b"blk.0.b.weight", 0, [3.0])
    path.write_bytes(data + struct.pack("<ii9s", 4, 9, b"wiki.test"))
    found = read(path)
    assert found.means["blk.0.a.weight"].tolist() == [2.0, 0.5, 0.0] and found.datasets == ("wiki.test",)
    assert found.counts["blk.0.a.weight"].tolist() == [4 * CHUNK_SIZE] and found.chunks == 4
    assert found.means["blk.0.b.weight"].tolist() == [1.0]
    path.write_bytes(data)  # the oldest files end here
    assert read(path).datasets == () and read(path).chunks == 4
    write(tmp_path / "b.gguf", found)
    assert read(tmp_path / "b.gguf").means["blk.0.a.weight"].tolist() == [2.0, 0.5, 0.0]


def test_every_cut_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.gguf", matrix())
    older = struct.pack("<i", 1) + entry(b"w.weight", 1, [1.0, 2.0]) + struct.pack("<ii3s", 1, 3, b"x.y")
    whole = len(struct.pack("<i", 1) + entry(b"w.weight", 1, [1.0, 2.0]))  # the oldest files end here
    for data, step in (((tmp_path / "a.gguf").read_bytes(), 7), (older, 1)):
        for length in range(0, len(data) - 24, step) if data != older else range(len(older)):
            (tmp_path / "cut").write_bytes(data[:length])
            if data == older and length == whole:
                continue
            with pytest.raises(FormatError):
                read(tmp_path / "cut")


@pytest.mark.parametrize(
    ("tensors", "said"),
    [
        ({"a.weight.in_sum2": np.ones((1, 2), np.float32)}, "without .counts"),
        ({"a.weight.counts": np.ones((1, 1), np.float32)}, "without .in_sum2"),
        ({"a.weight.in_sum2": np.ones((2, 2), np.float32), "a.weight.counts": np.ones((3, 1), np.float32)}, "3 counts"),
        ({"a.weight.in_sum2": np.array([[1, np.nan]], np.float32), "a.weight.counts": np.ones((1, 1), np.float32)},
         "nan among"),
        ({"a.weight.in_sum2": np.array([[1, -2]], np.float32), "a.weight.counts": np.ones((1, 1), np.float32)},
         "-2 among"),
        ({"a.weight.in_sum2": np.ones((1, 2), np.float32), "a.weight.counts": np.full((1, 1), np.inf, np.float32)},
         "inf among"),
        ({"a.weight.in_sum2": np.ones((1, 2), np.float16), "a.weight.counts": np.ones((1, 1), np.float32)}, "fp16"),
        ({"a.weight": np.ones((1, 2), np.float32)}, "no weights"),
        ({"a.weight.in_sum2": np.ones((1, 2), np.float32), "a.weight.counts": np.full((1, 1), 1e30, np.float32)},
         "as a count"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]], said: str) -> None:
    with pytest.raises(FormatError, match=said):
        read(write_gguf(tmp_path / "a.gguf", tensors))


def test_other_files_are_refused(tmp_path: Path) -> None:
    both = {"a.weight.in_sum2": np.ones((1, 2), np.float32), "a.weight.counts": np.ones((1, 1), np.float32)}
    with pytest.raises(FormatError, match="of model"):
        read(write_gguf(tmp_path / "a.gguf", both, kind="model"))
    with pytest.raises(SourceError):
        read(tmp_path / "none.gguf")
    faults = {
        struct.pack("<i", 0): "0 as the number of weights",
        struct.pack("<i", 2**30): "as the number of weights",
        struct.pack("<ii", 1, -1): "-1 as the length",
        struct.pack("<i", 1) + entry(b"\xff", 1, [1.0]): "not UTF-8",
        struct.pack("<i", 2) + 2 * entry(b"w", 1, [1.0]): "w twice",
        struct.pack("<i", 1) + entry(b"w", 1, [float("nan")]): "nan among w",
        struct.pack("<ii1sii", 1, 1, b"w", 1, 2**31 - 1): "the values of w of 8,589,934,588 bytes",
        struct.pack("<i", 1) + entry(b"w", 1, [1.0]) + struct.pack("<ii", 1, 0) + b"more": "4 bytes after its end",
    }
    for data, said in faults.items():
        (tmp_path / "a.dat").write_bytes(data)
        with pytest.raises(FormatError, match=said):
            read(tmp_path / "a.dat")


def test_columns_have_to_fit_the_weight(tmp_path: Path) -> None:
    found = matrix()
    dense, experts = found.for_tensor(DENSE, (8, 6)), found.for_tensor(EXPERTS, (3, 8, 4))
    assert dense is not None and dense.shape == (6,) and experts is not None and experts.shape == (3, 4)
    assert found.for_tensor("blk.9.attn_q.weight", (8, 6)) is None
    flat = Importance({EXPERTS: np.arange(12, dtype=np.float32)}, {}, (), 1, 1)  # of the older form
    again = flat.for_tensor(EXPERTS, (3, 8, 4))
    assert again is not None and again.tolist() == np.arange(12).reshape(3, 4).tolist()
    for name, shape in ((DENSE, (6, 8)), (EXPERTS, (8, 4)), (EXPERTS, (4, 8, 4)), (EXPERTS, (3, 4, 8))):
        with pytest.raises(FormatError, match="name the importance matrix of this model"):
            found.for_tensor(name, shape)


def test_nothing_is_left_of_what_cannot_be_written(tmp_path: Path) -> None:
    long = Importance({"x" * 56: np.ones(2, np.float32)}, {"x" * 56: np.array([1])}, (), 1, 1)
    with pytest.raises(ConfigError, match="at most 55"):
        write(tmp_path / "a.gguf", long)
    with pytest.raises(SourceError):
        write(tmp_path / "none" / "a.gguf", matrix())
    assert not list(tmp_path.iterdir())
