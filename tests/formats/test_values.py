"""Zeros among stored weights, read in pieces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy

from weighbridge.formats import gguf as gguf_format
from weighbridge.formats import safetensors as safetensors_format
from weighbridge.formats import values
from weighbridge.formats.byte_source import LocalFile, LocalFolder


def count(folder: Path, arrays: dict[str, np.ndarray[Any, Any]]) -> values.ValueCount:
    safetensors.numpy.save_file(arrays, folder / "m.safetensors")
    checkpoint = safetensors_format.read(LocalFile(folder / "m.safetensors"))
    return values.count_zeros(checkpoint, LocalFolder(folder).open)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool"])
def test_a_half_zeroed_tensor_reports_both_numbers(tmp_path: Path, dtype: str) -> None:
    array = np.ones((10, 100), dtype)
    array[::2] = 0
    found = count(tmp_path, {"pruned": array, "dense": np.ones(7, dtype)})
    assert (found.read, found.nonzero, found.unread) == (1007, 507, 0)
    assert {t.name: t.nonzero for t in found.tensors} == {"pruned": 500, "dense": 7}


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_minus_zero_is_zero_and_the_smallest_numbers_are_not(tmp_path: Path, dtype: str) -> None:
    smallest = np.nextafter(np.array(0, dtype), np.array(1, dtype))
    found = count(tmp_path, {"w": np.array([0, -0.0, smallest, -smallest, np.nan, np.inf], dtype)})
    assert (found.read, found.nonzero) == (6, 4)


def test_pieces_are_counted_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "PIECE_BYTES", 64)
    array = np.arange(1000, dtype="float32") % 3
    safetensors.numpy.save_file({"w": array}, tmp_path / "m.safetensors")
    checkpoint = safetensors_format.read(LocalFile(tmp_path / "m.safetensors"))
    pieces: list[int] = []
    found = values.count_zeros(checkpoint, LocalFolder(tmp_path).open, pieces.append)
    assert found.nonzero == np.count_nonzero(array) and sum(pieces) == 4000 and max(pieces) == 64


def test_block_quantized_tensors_are_left_out_and_said_so(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "a.gguf", "llama")
    writer.add_tensor("plain", np.array([0, 1, 2, 3], "float32"))
    packed = gguf.quants.quantize(np.ones((2, 32), "float32"), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("packed", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    folder = LocalFolder(tmp_path)
    found = values.count_zeros(gguf_format.read(folder.open("a.gguf"), folder), folder.open)
    assert (found.read, found.nonzero, found.unread) == (4, 3, 64)
    assert found.notes == ("values of q8_0 are not read",)
    assert found.to_json()["zero"] == 1
