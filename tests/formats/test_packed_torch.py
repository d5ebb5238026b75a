"""Packed checkpoints that the libraries themselves write, read back by their headers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.formats.test_packed import LLAMA, agrees

from weighbridge.inspection import Inspection, inspect

pytestmark = pytest.mark.torch

SCHEMES: list[tuple[str, dict[str, Any], str]] = [
    ("pack-quantized", {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}, "int32"),
    ("pack-quantized", {"num_bits": 3, "type": "int", "strategy": "group", "group_size": 64}, "int32"),
    ("pack-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}, "int32"),
    ("pack-quantized", {"num_bits": 5, "type": "int", "strategy": "channel"}, "int32"),
    ("pack-quantized", {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False},
     "int32"),
    ("int-quantized", {"num_bits": 8, "type": "int", "strategy": "channel"}, "int8"),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}, "fp8"),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}, "fp8"),
    ("float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}, "fp8"),
    ("nvfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}, "uint8"),
    ("mxfp4-pack-quantized", {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32,
                              "scale_dtype": "torch.uint8"}, "uint8"),
    ("mxfp6-pack-quantized", {"num_bits": 6, "type": "float", "strategy": "group", "group_size": 32,
                              "scale_dtype": "torch.uint8"}, "uint8"),
    ("mxfp8-quantized", {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32,
                         "scale_dtype": "torch.uint8"}, "fp8"),
]  # fmt: skip


def compressor_of(kind: str, weights: dict[str, Any]) -> tuple[Any, Any, Any]:
    """The arguments, the scheme and the compressor of the library for a format."""
    quantization = pytest.importorskip("compressed_tensors.quantization")
    compressors = pytest.importorskip("compressed_tensors.compressors")
    arguments = quantization.QuantizationArgs(**weights)
    scheme = quantization.QuantizationScheme(targets=["Linear"], weights=arguments, format=kind)
    return arguments, scheme, compressors.BaseCompressor.get_value_from_registry(kind)


def written(folder: Path, kind: str, weights: dict[str, Any]) -> Inspection:
    """A small Llama whose projections a compressor of compressed-tensors has packed."""
    import torch
    from safetensors.torch import save_file

    arguments, scheme, compressor = compressor_of(kind, weights)
    described = inspect(LLAMA).architecture
    assert described is not None
    tensors: dict[str, Any] = {}
    for tensor in described.tensors():
        if not tensor.name.endswith("_proj.weight"):
            tensors[tensor.name] = torch.ones(tensor.shape, dtype=torch.bfloat16)
            continue
        rows, columns = tensor.shape
        group = weights.get("group_size") or columns
        shapes = {"tensor": (1,), "block": (-(-rows // 128), -(-columns // 128))}
        shape = shapes.get(weights["strategy"], (rows, columns // group))
        state = {"weight": torch.randn(tensor.shape).to(torch.bfloat16), "weight_scale": torch.ones(shape)}
        if weights["strategy"] == "tensor_group":
            state["weight_global_scale"] = torch.ones(1)
        if weights.get("symmetric") is False:
            state["weight_zero_point"] = torch.zeros(shape, dtype=torch.int8)
        packed = compressor.compress(state, scheme)
        tensors |= {tensor.name.removesuffix("weight") + name: part.contiguous() for name, part in packed.items()}
    save_file(tensors, folder / "model.safetensors")
    group_0 = {"targets": ["Linear"], "weights": json.loads(arguments.model_dump_json()), "format": kind}
    config = LLAMA | {"quantization_config": {"quant_method": "compressed-tensors", "format": kind,
                                              "config_groups": {"group_0": group_0}}}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    return inspect(folder)


@pytest.mark.parametrize(("kind", "weights", "holds"), SCHEMES)
def test_compressed_tensors(tmp_path: Path, kind: str, weights: dict[str, Any], holds: str) -> None:
    found = agrees(written(tmp_path, kind, weights))
    assert found.packing is not None and found.packing.method == "compressed-tensors"
    assert found.packing.weight_bits == weights["num_bits"]
    packed = {t.encoding.name for t in found.checkpoint.tensors if t.stands_for is not None}
    assert packed == {holds}
    group = weights.get("group_size")
    if group and weights["type"] == "float":
        assert found.packing.overhead_bits_per_weight["scale"] == pytest.approx(8 / group, abs=1e-3)


def test_rows_that_are_no_whole_words(tmp_path: Path) -> None:
    """Columns that do not fill the last word: only `weight_shape`, which lies in the data, names them."""
    import torch
    from safetensors.torch import save_file

    _, scheme, compressor = compressor_of("pack-quantized", {"num_bits": 4, "strategy": "channel"})
    for columns in (57, 59, 64):
        state = {"weight": torch.randn(8, columns), "weight_scale": torch.ones(8, 1)}
        parts = compressor.compress(state, scheme)
        save_file({f"q.{name}": part for name, part in parts.items()}, tmp_path / "model.safetensors")
        groups = {"group_0": {"weights": {"num_bits": 4, "strategy": "channel"}}}
        said = {"quant_method": "compressed-tensors", "config_groups": groups}
        (tmp_path / "config.json").write_text(json.dumps({"quantization_config": said}))
        found = inspect(tmp_path)
        assert found.parameters.total == 8 * columns and found.packing is not None


@pytest.mark.parametrize("has_block", [True, False])
def test_fine_grained_fp8_of_transformers(tmp_path: Path, has_block: bool) -> None:
    """The parameters that transformers' FP8Linear registers, under the names of a Llama."""
    import torch
    from safetensors.torch import save_file
    from transformers.integrations.finegrained_fp8 import FP8Linear

    block = (128, 128) if has_block else None
    described = inspect(LLAMA).architecture
    assert described is not None
    tensors: dict[str, Any] = {}
    for tensor in described.tensors():
        if tensor.name.endswith("_proj.weight"):
            rows, columns = tensor.shape
            state = FP8Linear(columns, rows, block_size=block).state_dict()
            tensors |= {tensor.name.removesuffix("weight") + name: part for name, part in state.items()}
        else:
            tensors[tensor.name] = torch.ones(tensor.shape, dtype=torch.bfloat16)
    save_file(tensors, tmp_path / "model.safetensors")
    said = {"quant_method": "fp8", "weight_block_size": list(block) if block else None}
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {"quantization_config": said}))
    found = agrees(inspect(tmp_path))
    assert found.packing is not None and found.packing.method == "fp8" and found.packing.weight_bits == 8
