"""GGUF cut and joined, against gguf-py: each file is read by it, and joining gives the first file back."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.convert.conversion import convert
from weighbridge.errors import ConfigError
from weighbridge.formats.reader import read

TYPES = (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16, gguf.GGMLQuantizationType.Q8_0,
         gguf.GGMLQuantizationType.Q4_K)  # fmt: skip


def write(path: Path, sizes: list[tuple[int, int]], alignment: int = 32, big: bool = False) -> dict[str, Any]:
    """A file by gguf-py with metadata of every kind; a tensor for each (type, rows)."""
    endian = gguf.GGUFEndian.BIG if big else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(path, "llama", endianess=endian)
    writer.add_string("general.name", "split.count is a word in here")
    if alignment != 32:
        writer.add_custom_alignment(alignment)
    writer.add_array("tokenizer.ggml.tokens", [f"token {n} é" for n in range(70)])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    writer.add_bool("some.flag", True)
    writer.add_uint64("some.number", 2**40)
    writer.add_float64("some.fraction", 0.1)
    held = {}
    for number, (kind, rows) in enumerate(sizes):
        quant = TYPES[kind]
        block, each = gguf.GGML_QUANT_SIZES[quant]
        raw = np.frombuffer(np.random.default_rng(number).bytes(rows * (256 // block) * each), "uint8")
        name = f"blk.{number}.weight"
        writer.add_tensor(name, raw.reshape(rows, -1), raw_shape=(rows, 256 // block * each), raw_dtype=quant)
        held[name] = (quant, raw.tobytes())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return held


def contents(path: Path) -> dict[str, Any]:
    return {t.name: (t.tensor_type, t.data.tobytes()) for t in gguf.GGUFReader(path).tensors}


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), min_size=1, max_size=9), st.integers(1, 6000),
       st.sampled_from([32, 64, 256]), st.booleans())  # fmt: skip
def test_joining_gives_back_what_was_cut(sizes: list[tuple[int, int]], most: int, alignment: int, big: bool) -> None:
    with tempfile.TemporaryDirectory() as place:
        source, parts, joined = Path(place) / "m.gguf", Path(place) / "parts", Path(place) / "joined.gguf"
        held = write(source, sizes, alignment, big)
        cut = convert(source, parts, shard_bytes=most)
        files = [parts / file.name for file in cut.files]
        assert sorted(parts.iterdir()) == files
        if not big:  # gguf-py swaps the bytes of big-endian tensors
            found: dict[str, Any] = {}
            for number, path in enumerate(files):
                reader = gguf.GGUFReader(path)
                found |= contents(path)
                assert reader.alignment == alignment
                assert len(files) == 1 or len(reader.tensors) == 1 or sum(t.n_bytes for t in reader.tensors) <= most
                split = [field.contents() for name, field in reader.fields.items() if name.startswith("split.")]
                assert split == ([number, len(sizes), len(files)] if len(files) > 1 else [])
                assert all(t.data_offset % alignment == 0 for t in reader.tensors)
            assert found == held and list(found) == list(held)
        convert(files[-1], joined)
        assert joined.read_bytes() == source.read_bytes()


def test_the_keys_are_those_of_llama_cpps_gguf_split(tmp_path: Path) -> None:
    """Order and types as `gguf-split.cpp` sets them: no, tensors.count, then count, which is set last."""
    write(tmp_path / "m.gguf", [(0, 1), (0, 1)])
    convert(tmp_path / "m.gguf", tmp_path / "out", shard_bytes=1024)
    second = (tmp_path / "out/m-00002-of-00002.gguf").read_bytes()

    def pair(key: bytes, kind: int, code: str, value: int) -> bytes:
        return struct.pack(f"<Q{len(key)}sI{code}", len(key), key, kind, value)

    assert second.startswith(b"GGUF" + struct.pack("<IQQ", 3, 1, 3) + pair(b"split.no", 2, "H", 1)
                             + pair(b"split.tensors.count", 5, "i", 2) + pair(b"split.count", 2, "H", 2))  # fmt: skip
    first = gguf.GGUFReader(tmp_path / "out/m-00001-of-00002.gguf")
    assert list(first.fields)[-3:] == ["split.no", "split.tensors.count", "split.count"]


def test_what_gguf_py_cuts_is_joined(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama", split_max_tensors=2)
    writer.add_string("general.name", "cut")
    arrays = {f"t{n}": np.full((n + 1, 32), n, "float32") for n in range(5)}
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert len(list(tmp_path.iterdir())) == 3
    made = convert(tmp_path, tmp_path.parent / f"{tmp_path.name}.gguf")
    found = gguf.GGUFReader(made.output)
    assert {t.name: t.data.tobytes() for t in found.tensors} == {name: a.tobytes() for name, a in arrays.items()}
    assert not [name for name in found.fields if name.startswith("split.")]
    assert found.fields["general.name"].contents() == "cut"
    (tmp_path.parent / f"{tmp_path.name}.gguf").unlink()


def test_a_file_that_was_joined_elsewhere_loses_what_cutting_left(tmp_path: Path) -> None:
    """llama.cpp's own merge keeps the keys, with a count of 0."""
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_uint16("split.no", 0)
    writer.add_int32("split.tensors.count", 1)
    writer.add_string("general.name", "kept")
    writer.add_uint16("split.count", 0)
    writer.add_tensor("w", np.ones((2, 32), "float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    convert(tmp_path / "m.gguf", tmp_path / "n.gguf")
    assert [n for n in gguf.GGUFReader(tmp_path / "n.gguf").fields if "." in n and "GGUF" not in n] == [
        "general.architecture", "general.name"]  # fmt: skip


def test_files_of_both_byte_orders_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", [(0, 1), (0, 1)])
    convert(tmp_path / "m.gguf", tmp_path / "out", shard_bytes=1024)
    write(tmp_path / "b.gguf", [(0, 1), (0, 1)], big=True)
    convert(tmp_path / "b.gguf", tmp_path / "big", shard_bytes=1024)
    (tmp_path / "big/b-00002-of-00002.gguf").replace(tmp_path / "out/m-00002-of-00002.gguf")
    assert len(read(tmp_path / "out").files) == 2
    with pytest.raises(ConfigError, match="both byte orders"):
        convert(tmp_path / "out", tmp_path / "one.gguf")


def test_metadata_of_later_files_alone_are_told(tmp_path: Path) -> None:
    write(tmp_path / "m.gguf", [(0, 1), (0, 1)])
    convert(tmp_path / "m.gguf", tmp_path / "out", shard_bytes=1024)
    second = tmp_path / "out/m-00002-of-00002.gguf"
    data = second.read_bytes()
    pair = struct.pack("<Q3sIB", 3, b"odd", 0, 7)
    table = data[24 : data.index(b"blk.1.weight") - 8]
    entry = data[24 + len(table) : data.index(b"blk.1.weight") + 12 + 4 + 16 + 4 + 8]
    head = b"GGUF" + struct.pack("<IQQ", 3, 1, 4) + pair + table + entry
    second.write_bytes(head + bytes(-len(head) % 32) + data[-1024:])
    assert convert(tmp_path / "out", tmp_path / "one.gguf").notes == ("odd is in a later file alone and is left out",)
