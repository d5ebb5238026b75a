"""Single to shards and back, against the safetensors library: the same tensors, and its own bytes."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.convert.conversion import convert
from weighbridge.errors import ConfigError

Arrays = dict[str, np.ndarray[Any, Any]]
TYPES = (
    "bool",
    "uint8",
    "int8",
    "int16",
    "uint16",
    "float16",
    "int32",
    "uint32",
    "float32",
    "float64",
    "int64",
    "uint64",
)

shapes = st.lists(st.integers(0, 5), max_size=3).map(tuple)
rows = st.tuples(st.sampled_from(TYPES), shapes, st.integers(0, 2**32))
names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8).filter(lambda n: n != "__metadata__")
models = st.dictionaries(names, rows, min_size=1, max_size=12)
metadata = st.none() | st.dictionaries(names, st.text(st.characters(codec="utf-8"), max_size=5), min_size=1)


def made(table: dict[str, tuple[str, tuple[int, ...], int]]) -> Arrays:
    """Random bytes as arrays: NaNs with their payloads, negative zeros and all."""
    found = {}
    for name, (dtype, shape, seed) in table.items():
        count = int(np.prod(shape))
        item = np.dtype(dtype).itemsize
        raw = np.random.default_rng(seed).bytes(count * item)
        if dtype == "bool":
            raw = bytes(byte & 1 for byte in raw)
        found[name] = np.frombuffer(raw, dtype).reshape(shape)
    return found


def read(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor of a folder's files, as the reference library reads them."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, row in safetensors.deserialize(path.read_bytes()):  # type: ignore[no-untyped-call]
            assert name not in found
            found[name] = (row["dtype"], tuple(row["shape"]), bytes(row["data"]))
    return found


@settings(deadline=None, max_examples=60)
@given(models, metadata, st.integers(1, 300))
def test_shards_hold_the_same_tensors_and_give_the_same_file_back(
    table: dict[str, Any], words: dict[str, str] | None, size: int
) -> None:
    with tempfile.TemporaryDirectory() as place:
        source, shards, back = (Path(place) / name for name in ("source", "shards", "back"))
        source.mkdir()
        safetensors.numpy.save_file(made(table), source / "model.safetensors", metadata=words)
        cut = convert(source, shards, shard_bytes=size)
        assert read(shards) == read(source)
        files = sorted(shards.glob("*.safetensors"))
        assert [file.name for file in files] == sorted(file.name for file in cut.files)
        if len(files) > 1:
            index = json.loads((shards / "model.safetensors.index.json").read_text(encoding="utf-8"))
            held = {name: path.name for path in files for name, _ in safetensors.deserialize(path.read_bytes())}  # type: ignore[no-untyped-call]
            assert index["weight_map"] == held
            assert index["metadata"] == {"total_size": sum(array.nbytes for array in made(table).values())}
        for path in files:
            rows = safetensors.deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
            assert len(rows) == 1 or sum(len(row["data"]) for _, row in rows) <= size
        joined = convert(shards, back)
        assert (back / "model.safetensors").read_bytes() == (source / "model.safetensors").read_bytes()
        assert joined.digest == cut.digest and joined.checksums == cut.checksums
        assert sorted(p.name for p in Path(place).iterdir()) == ["back", "shards", "source"]


def test_a_file_of_another_order_is_laid_out_as_the_library_does(tmp_path: Path) -> None:
    arrays: Arrays = {"b": np.arange(4, dtype="uint8"), "a": np.arange(3, dtype="float32"), "c": np.ones(2, "float64")}
    header, data = {}, b""
    for name, word in (("b", "U8"), ("a", "F32"), ("c", "F64")):
        begin = len(data)
        data += arrays[name].tobytes()
        header[name] = {"dtype": word, "shape": list(arrays[name].shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    (tmp_path / "odd.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    convert(tmp_path / "odd.safetensors", tmp_path / "new.safetensors")
    assert (tmp_path / "new.safetensors").read_bytes() == safetensors.numpy.save(arrays)


def test_types_that_numpy_lacks_are_copied(tmp_path: Path) -> None:
    header = {"h": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]},
              "q": {"dtype": "F4", "shape": [2, 4], "data_offsets": [4, 8]},
              "e": {"dtype": "F8_E4M3", "shape": [3], "data_offsets": [8, 11]},
              "s": {"dtype": "F8_E8M0", "shape": [1], "data_offsets": [11, 12]}}  # fmt: skip
    text = json.dumps(header).encode()
    (tmp_path / "m").mkdir()
    (tmp_path / "m/model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(range(12)))
    convert(tmp_path / "m", tmp_path / "out", shard_bytes=4)
    assert read(tmp_path / "out") == read(tmp_path / "m") and len(read(tmp_path / "m")) == 4


def test_words_of_an_index_stay_with_the_model(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.mkdir()
    for number, name in enumerate("xy", start=1):
        safetensors.numpy.save_file({name: np.ones(2, "float32")}, first / f"net-0000{number}-of-00002.safetensors")
    index = {"metadata": {"total_size": 16, "total_parameters": 4, "lm_head.weight": "x"},
             "weight_map": {"x": "net-00001-of-00002.safetensors", "y": "net-00002-of-00002.safetensors"}}  # fmt: skip
    (first / "net.safetensors.index.json").write_text(json.dumps(index))
    convert(first, second, shard_bytes=8)
    assert json.loads((second / "net.safetensors.index.json").read_text()) == index
    convert(first / "net.safetensors.index.json", tmp_path / "one")
    with safetensors.safe_open(tmp_path / "one/net.safetensors", "numpy") as file:
        assert file.metadata() == {"lm_head.weight": "x"}


def test_keys_that_look_like_the_readers_own_come_back(tmp_path: Path) -> None:
    words = {"__metadata__.notes": "a", "notes": "b", "__metadata__.x": "c", "index_total_size": "7", "x": "d"}
    safetensors.numpy.save_file({"w": np.ones(3)}, tmp_path / "a.safetensors", metadata=words)
    convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    with safetensors.safe_open(tmp_path / "b.safetensors", "numpy") as file:
        assert file.metadata() == words


def test_metadata_in_which_shards_differ_are_told(tmp_path: Path) -> None:
    for number in (1, 2):
        path = tmp_path / f"m-0000{number}-of-00002.safetensors"
        safetensors.numpy.save_file({f"w{number}": np.ones(3)}, path, metadata={"k": str(number)})
    found = convert(tmp_path / "m-00001-of-00002.safetensors", tmp_path / "one.safetensors")
    assert found.notes == (
        "the shards differ in the metadata 'k', first in m-00002-of-00002.safetensors; the first shard's value is kept",
    )


def test_a_tensor_that_the_format_has_no_type_for_is_refused() -> None:
    from weighbridge.convert import safetensors_layout
    from weighbridge.model.encodings import find
    from weighbridge.model.tensors import TensorSpec

    with pytest.raises(ConfigError, match="holds q4_k"):
        safetensors_layout.layout([TensorSpec("w", (256,), find("q4_k"))], "model", None, {}, {})


@pytest.mark.torch
@pytest.mark.parametrize("size", [40, 100, 1000, 10**6])
def test_shards_are_those_of_the_hubs_client_byte_for_byte(tmp_path: Path, size: int) -> None:
    hub = pytest.importorskip("huggingface_hub")
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file, save_file

    generator = torch.Generator().manual_seed(1)
    types = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
    state = {f"layers.{n}.weight": torch.randn(n % 5 + 1, n % 7 + 1, generator=generator).to(types[n % 4])
             for n in range(30)}  # fmt: skip
    (tmp_path / "source").mkdir()
    (tmp_path / "theirs").mkdir()
    save_file(state, tmp_path / "source/model.safetensors", metadata={"format": "pt"})
    state = load_file(tmp_path / "source/model.safetensors")
    hub.save_torch_state_dict({name: state[name] for name in sorted(state)}, tmp_path / "theirs", max_shard_size=size)
    convert(tmp_path / "source", tmp_path / "ours", shard_bytes=size)
    theirs, ours = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("theirs", "ours")
    )
    assert ours == theirs
