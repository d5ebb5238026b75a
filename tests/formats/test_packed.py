"""Packed checkpoints: the shapes that the packers write, taken from published files and from their own libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from weighbridge.compress import safetensors_folder, schemes
from weighbridge.compress.folder_source import FolderSource
from weighbridge.formats import safetensors as reader
from weighbridge.formats.byte_source import MemoryFile, MemoryFolder
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.formats.packed import Packing, packing, unpacked
from weighbridge.formats.reconcile import Status
from weighbridge.inspection import Inspection, inspect
from weighbridge.model.encodings import find
from weighbridge.model.tensors import Kind, TensorSpec, Weight

Tensors = Mapping[str, tuple[str, tuple[int, ...]]]
LLAMA: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 512, "vocab_size": 384,
    "tie_word_embeddings": False,
}  # fmt: skip
BITS = {"I32": 32, "U32": 32, "I64": 64, "F16": 16, "BF16": 16, "F32": 32, "U8": 8, "I8": 8, "F8_E4M3": 8, "I16": 16,
        "F8_E8M0": 8}  # fmt: skip


def header(tensors: Tensors) -> tuple[bytes, int]:
    """The head of a file with as many bytes as a first request asks for, and the length that its tensors give it."""
    entries, at = {}, 0
    for name, (dtype, shape) in tensors.items():
        size = int(np.prod(shape, dtype=np.int64)) * BITS[dtype] // 8
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + bytes(min(at, reader.PREFETCH_BYTES)), 8 + len(text) + at


def checkpoint(tensors: Tensors, config: Mapping[str, Any] | None = None) -> Checkpoint:
    """A file by its header alone; its tensors have no bytes."""
    head, size = header(tensors)
    found = reader.read(MemoryFile("model.safetensors", head, size))
    return Checkpoint(found.source, found.format, found.files, found.tensors, config=config)


def one(tensors: Tensors, config: Mapping[str, Any] | None = None) -> tuple[Weight, Packing]:
    """The one packed weight of a file, and the sums."""
    found = unpacked(checkpoint(tensors, config))
    sums = packing(found)
    assert sums is not None, found.notes
    (weight,) = [tensor.stands_for for tensor in found.tensors if tensor.stands_for is not None]
    return weight, sums


def quantized(**settings: Any) -> dict[str, Any]:
    return {"quantization_config": settings}


# --- what publishers and libraries wrote ------------------------------------------------------------------------------


def test_llama_2_7b_awq_as_published() -> None:
    """TheBloke/Llama-2-7B-AWQ, as quoted in casper-hansen/AutoAWQ issue 566."""
    name = "model.layers.0.mlp.down_proj"
    weight, sums = one({f"{name}.qweight": ("I32", (11008, 512)), f"{name}.qzeros": ("I32", (86, 512)),
                        f"{name}.scales": ("F16", (86, 4096))},
                       quantized(quant_method="awq", bits=4, group_size=128, version="gemm"))  # fmt: skip
    assert weight == Weight(f"{name}.weight", (4096, 11008)) and sums.method == "awq" and sums.weight_bits == 4
    assert sums.overhead_bits_per_weight == {"zero_point": 4 / 128, "scale": 16 / 128}
    assert sums.bits_per_weight == 4.15625


def test_kimi_k2_as_published() -> None:
    """moonshotai/Kimi-K2.7-Code, as quoted in kvcache-ai/ktransformers issue 2067."""
    name = "model.layers.1.mlp.experts.0.gate_proj"
    group = {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 32, "strategy": "group", "type": "int"}}
    config = {"text_config": quantized(quant_method="compressed-tensors", format="pack-quantized",
                                       config_groups={"group_0": group})}  # fmt: skip
    weight, sums = one({f"{name}.weight_packed": ("I32", (2048, 896)), f"{name}.weight_scale": ("BF16", (2048, 224)),
                        f"{name}.weight_shape": ("I64", (2,))}, config)  # fmt: skip
    assert weight == Weight(f"{name}.weight", (2048, 7168)) and sums.method == "compressed-tensors"
    assert sums.bytes_by_role == {"weights": 2048 * 896 * 4, "scale": 2048 * 224 * 2, "metadata": 16}
    assert sums.overhead_bits_per_weight["scale"] == 0.5


@pytest.mark.parametrize(
    ("name", "packed", "absmax", "shape"),
    [("k_proj", 147456, 4608, [256, 1152]), ("q_proj", 589824, 18432, [1024, 1152]),
     ("down_proj", 3981312, 124416, [1152, 6912])],
)  # fmt: skip
def test_gemma_3_1b_in_nf4_as_published(name: str, packed: int, absmax: int, shape: list[int]) -> None:
    """unsloth's Gemma 3 1B, as quoted in google/gemma.cpp issue 533; the state as bitsandbytes 0.50 writes it."""
    state = json.dumps({"quant_type": "nf4", "blocksize": 64, "dtype": "float16", "shape": shape}).encode()
    weight = f"model.layers.14.{name}.weight"
    tensors = {weight: ("U8", (packed, 1)), f"{weight}.absmax": ("F32", (absmax,)),
               f"{weight}.quant_map": ("F32", (16,)),
               f"{weight}.quant_state.bitsandbytes__nf4": ("U8", (len(state),))}  # fmt: skip
    assert len(state) == (80 if name == "k_proj" else 81)
    flat, sums = one(tensors)
    assert flat == Weight(weight, (2 * packed,)) and sums.method == "bitsandbytes"
    assert sums.overhead_bits_per_weight["scale"] == 0.5 and sums.weight_bits == 4
    head, size = header(tensors)
    data = head[: size - len(state)].ljust(size - len(state), b"\0") + state
    folder = MemoryFolder({"a.safetensors": data})
    found = unpacked(reader.read(folder.open("a.safetensors")), folder)
    assert found.tensors[0].stands_for == Weight(weight, tuple(shape)) and found.notes == ()
    roles = {tensor.name.removeprefix(weight): tensor.role for tensor in found.tensors}
    assert roles == {"": "", ".absmax": "scale", ".quant_map": "codebook",
                     ".quant_state.bitsandbytes__nf4": "metadata"}  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "group", "bits", "words", "groups", "scale"),
    [("affine", 64, 4, 16, 2, "F32"), ("affine", 32, 3, 12, 4, "F32"), ("affine", 128, 6, 24, 1, "F32"),
     ("affine", 64, 5, 20, 2, "F32"), ("affine", 64, 2, 8, 2, "F32"), ("affine", 64, 8, 32, 2, "F32"),
     ("mxfp4", 32, 4, 16, 4, "U8"), ("mxfp8", 32, 8, 32, 4, "U8"), ("nvfp4", 16, 4, 16, 8, "U8")],
)  # fmt: skip
def test_mlx_as_its_library_packs(mode: str, group: int, bits: int, words: int, groups: int, scale: str) -> None:
    """The shapes that `mlx.core.quantize` of MLX 0.32.4 gives for a matrix of 64 rows and 128 columns."""
    tensors = {"layers.0.q_proj.weight": ("U32", (64, words)), "layers.0.q_proj.scales": (scale, (64, groups))}
    tensors |= {"layers.0.q_proj.biases": (scale, (64, groups))} if mode == "affine" else {}
    weight, sums = one(tensors, {"quantization": {"group_size": group, "bits": bits, "mode": mode}})
    assert weight == Weight("layers.0.q_proj.weight", (64, 128)) and sums.method == "mlx" and sums.weight_bits == bits
    assert ("zero_point" in sums.overhead_bits_per_weight) == (mode == "affine")


def test_mlx_modules_with_settings_of_their_own_and_stacked_experts() -> None:
    config = {"quantization": {"group_size": 64, "bits": 4, "embed": {"group_size": 32, "bits": 8}, "gate": False}}
    found = unpacked(checkpoint({
        "embed.weight": ("U32", (100, 32)), "embed.scales": ("F16", (100, 4)), "embed.biases": ("F16", (100, 4)),
        "mlp.switch_mlp.up_proj.weight": ("U32", (8, 96, 16)), "mlp.switch_mlp.up_proj.scales": ("F16", (8, 96, 2)),
        "mlp.switch_mlp.up_proj.biases": ("F16", (8, 96, 2)), "norm.weight": ("F16", (128,)),
    }, config))  # fmt: skip
    assert [t.stands_for.shape for t in found.tensors if t.stands_for] == [(100, 128), (8, 96, 128)]
    sums = packing(found)
    assert sums is not None and sums.weight_bits is None and sums.weights == 100 * 128 + 8 * 96 * 128


@pytest.mark.parametrize(
    ("tensors", "settings", "bits"),
    [({"W_q": ("U8", (192, 64)), "scale": ("F16", (384, 1))}, {"nbits": 4, "group_size": 64, "axis": 1}, 4),
     ({"W_q": ("I32", (39, 64)), "scale": ("F16", (384, 1))}, {"nbits": 3, "group_size": 64, "axis": 1}, 3),
     ({"W_q": ("U8", (4, 1536)), "scale": ("F16", (1, 1536))}, {"nbits": 2, "group_size": 16, "axis": 0}, 2),
     ({"W_q": ("U8", (192, 128)), "scale": ("F16", (192, 1))}, {"nbits": 8, "group_size": None, "axis": 1}, 8),
     ({"W_q": ("U8", (96, 32)), "scale": ("F16", (768, 1))}, {"nbits": 1, "group_size": 32, "axis": 1}, 1),
     ({"W_q": ("U8", (32, 384)), "scale": ("F16", (1, 384))}, {"nbits": 4, "group_size": 64, "axis": 0}, 4)],
)  # fmt: skip
def test_hqq_as_its_library_packs(tensors: Tensors, settings: dict[str, Any], bits: int) -> None:
    """The shapes that hqq 0.2.8 gives for a matrix of 192 rows and 128 columns, with and without reading its shape."""
    parts = {**tensors, "zero": tensors["scale"], "nbits": ("I32", ()), "shape": ("I64", (2,))}
    named = {f"m.q_proj.{ending}": entry for ending, entry in parts.items()}
    config = quantized(quant_method="hqq", quant_config={"weight_quant_params": settings})
    weight, sums = one(named, config)
    assert weight == Weight("m.q_proj.weight", (192 * 128,)) and sums.method == "hqq" and sums.weight_bits == bits
    head, size = header(named)
    data = head[: size - 16].ljust(size - 16, b"\0") + (192).to_bytes(8, "little") + (128).to_bytes(8, "little")
    folder = MemoryFolder({"a.safetensors": data})
    read = unpacked(reader.read(folder.open("a.safetensors")), folder)
    assert [t.stands_for for t in read.tensors if t.stands_for] == [Weight("m.q_proj.weight", (192, 128))]


# --- by the layouts as published --------------------------------------------------------------------------------------


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("group", [-1, 32, 128])
@pytest.mark.parametrize("has_index", [True, False])
def test_gptq(bits: int, group: int, has_index: bool) -> None:
    """GPTQModel 7.7, `_register_gptq_buffers`."""
    rows, columns = 768, 256
    groups = 1 if group == -1 else columns // group
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {
        "q.qweight": ("I32", (columns * bits // 32, rows)), "q.qzeros": ("I32", (groups, rows * bits // 32)),
        "q.scales": ("F16", (groups, rows)),
    }  # fmt: skip
    tensors |= {"q.g_idx": ("I32", (columns,))} if has_index else {}
    for config in (quantized(quant_method="gptq", bits=bits, group_size=group, desc_act=has_index), None):
        weight, sums = one(tensors, config)
        assert weight == Weight("q.weight", (rows, columns)) and sums.method == "gptq" and sums.weight_bits == bits
        overhead = {"zero_point": bits * groups / columns, "scale": 16 * groups / columns}
        assert sums.overhead_bits_per_weight == overhead | ({"group_index": 32 / rows} if has_index else {})


def test_gptq_with_other_words_and_bits_by_pattern() -> None:
    tensors = {"a.qweight": ("I64", (16, 64)), "a.qzeros": ("I64", (1, 4)), "a.scales": ("F16", (1, 64)),
               "a.g_idx": ("I32", (256,)), "b.qweight": ("I32", (64, 64)), "b.qzeros": ("I32", (2, 16)),
               "b.scales": ("F16", (2, 64)), "b.g_idx": ("I32", (256,))}  # fmt: skip
    settings = {"bits": 4, "group_size": -1, "dynamic": {"+:(a+)+$": {"bits": 8, "group_size": 128}}}
    found = unpacked(checkpoint(tensors, quantized(quant_method="gptq", **settings)))
    assert [t.stands_for.shape for t in found.tensors if t.stands_for] == [(64, 256), (64, 256)] and not found.notes


def test_awq_for_the_gemv_kernels_and_marlin() -> None:
    """AutoAWQ 0.2.9: groups of 64 of 256 columns are 4, padded to 16."""
    gemv: Tensors = {"q.qweight": ("I32", (768, 32)), "q.qzeros": ("I32", (768, 2)), "q.scales": ("F16", (768, 16))}
    fast: Tensors = {"q.qweight": ("I16", (192, 256)), "q.qzeros": ("F16", (16, 768)), "q.scales": ("F16", (16, 768))}
    marlin: Tensors = {"q.B": ("I32", (16, 1536)), "q.s": ("F16", (4, 768))}
    for tensors, method in ((gemv, "awq"), (fast, "awq"), (marlin, "marlin")):
        for config in (quantized(quant_method=method, bits=4, group_size=64), None):
            assert one(tensors, config)[0] == Weight("q.weight", (768, 256))


def test_exl2_and_exl3() -> None:
    """exllamav2's `pack`: 128 rows of 5 bits and 128 of 3; exllamav3's tiles of 16 by 16."""
    exl2: Tensors = {"q.q_weight": ("I32", (128 * 5 // 32 + 128 * 3 // 32, 512)), "q.q_invperm": ("I32", (256,)),
                     "q.q_scale": ("I32", (4, 64)), "q.q_scale_max": ("F16", (4,)), "q.q_groups": ("I16", (8,))
                     }  # fmt: skip
    weight, sums = one(exl2, quantized(quant_method="exl2", bits=4.0, head_bits=6))
    assert weight == Weight("q.weight", (512, 256)) and sums.bytes_by_role["weights"] * 8 / sums.weights == 4.0
    assert sums.weight_bits is None  # 5 of some, 3 of others
    assert set(sums.overhead_bits_per_weight) == {"group_index", "scale"}
    exl3: Tensors = {"q.trellis": ("I16", (16, 32, 48)), "q.suh": ("F16", (256,)), "q.svh": ("F16", (512,)),
                     "q.mcg": ("I32", ())}  # fmt: skip
    weight, sums = one(exl3, quantized(quant_method="exl3", bits=3.0))
    assert weight == Weight("q.weight", (512, 256)) and sums.weight_bits == 3
    assert sums.overhead_bits_per_weight == {"scale": 16 * 768 / (512 * 256), "codebook": 32 / (512 * 256)}


def test_bitsandbytes_int8() -> None:
    weight, sums = one({"q.weight": ("I8", (768, 256)), "q.SCB": ("F32", (768,)), "q.weight_format": ("U8", ())})
    assert weight == Weight("q.weight", (768, 256)) and sums.overhead_bits_per_weight["scale"] == 32 / 256


def test_fp8_with_block_scales() -> None:
    """DeepSeek-V3: blocks of 128 by 128, the last of them cut."""
    tensors: Tensors = {"q.weight": ("F8_E4M3", (576, 7168)), "q.weight_scale_inv": ("F32", (5, 56))}
    weight, sums = one(tensors, quantized(quant_method="fp8", weight_block_size=[128, 128]))
    assert weight == Weight("q.weight", (576, 7168)) and sums.method == "fp8" and sums.weight_bits == 8
    assert sums.bytes_by_role == {"weights": 576 * 7168, "scale": 5 * 56 * 4}


@pytest.mark.parametrize("scale", [(), (1,), (768,), (768, 1), (6, 2)])
@pytest.mark.parametrize("dtype", ["F8_E4M3", "I8"])
def test_a_scale_for_the_tensor_a_row_or_a_block(scale: tuple[int, ...], dtype: str) -> None:
    tensors: Tensors = {"q.weight": (dtype, (768, 256)), "q.weight_scale": ("BF16", scale),
                        "q.input_scale": ("F32", ()), "k.k_scale": ("F32", (1,))}  # fmt: skip
    weight, sums = one(tensors)
    assert weight.elements == 768 * 256 and sums.bytes_by_role["scale"] == 2 * max(1, int(np.prod(scale))) + 4 + 4


def test_stacked_experts_in_fp8() -> None:
    """transformers' fine-grained FP8 and FBGEMM, which name a scale behind the weight."""
    for ending, scale in (("_scale_inv", (8, 8, 2)), ("_scale", (8, 1, 1024))):
        shape = (8, 1024, 256) if ending == "_scale_inv" else (8, 256, 1024)
        weight, _ = one({"e.gate_up_proj": ("F8_E4M3", shape), f"e.gate_up_proj{ending}": ("F32", scale)})
        assert weight == Weight("e.gate_up_proj", shape)


def test_nvfp4_of_both_writers_and_mxfp4() -> None:
    """compressed-tensors 0.20 and modelopt: half a byte a weight, a scale for 16 of them or, of MXFP4, for 32."""
    both: list[tuple[Tensors, str]] = [
        ({"q.weight_packed": ("U8", (768, 128)), "q.weight_scale": ("F8_E4M3", (768, 16)),
          "q.weight_global_scale": ("F32", (1,)), "q.input_global_scale": ("F32", (1,))}, "nvfp4"),
        ({"q.weight": ("U8", (768, 128)), "q.weight_scale": ("F8_E4M3", (768, 16)), "q.weight_scale_2": ("F32", ()),
          "q.input_scale": ("F32", ())}, "nvfp4"),
        ({"q.weight_packed": ("U8", (768, 128)), "q.weight_scale": ("U8", (768, 8))}, "mxfp4"),
        ({"q.weight": ("U8", (768, 128)), "q.weight_scale": ("U8", (768, 8))}, "mxfp4"),
        ({"q.weight": ("I8", (768, 128)), "q.scale": ("F8_E8M0", (768, 8))}, "mxfp4"),
        ({"q.weight_packed": ("U8", (768, 192)), "q.weight_scale": ("U8", (768, 8))}, "mxfp6"),
        ({"q.weight": ("U8", (384, 256)), "q.weight_scale": ("F32", (768, 2))}, "int4"),
    ]  # fmt: skip
    for tensors, method in both:
        weight, sums = one(tensors)
        assert weight == Weight("q.weight", (768, 256)) and sums.method == method
    _, sums = one(both[0][0])
    assert sums.bits_per_weight == 4.5 + 64 / (768 * 256)


def test_gpt_oss_experts() -> None:
    """openai/gpt-oss-20b, one layer: the shapes that transformers' `convert_moe_packed_tensors` turns."""
    config = {"model_type": "gpt_oss", "architectures": ["GptOssForCausalLM"], "hidden_size": 2880,
              "num_hidden_layers": 1, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
              "intermediate_size": 2880, "vocab_size": 201088, "num_local_experts": 32, "num_experts_per_tok": 4,
              **quantized(quant_method="mxfp4")}  # fmt: skip
    described = inspect(config).architecture
    assert described is not None
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for tensor in described.tensors():
        if tensor.name.endswith(("gate_up_proj", "down_proj")):
            experts, width, rows = tensor.shape
            tensors[f"{tensor.name}_blocks"] = ("U8", (experts, rows, width // 32, 16))
            tensors[f"{tensor.name}_scales"] = ("U8", (experts, rows, width // 32))
        else:
            tensors[tensor.name] = ("BF16", tensor.shape)
    assert tensors["model.layers.0.mlp.experts.gate_up_proj_blocks"][1] == (32, 5760, 90, 16)
    found = agrees(inspect(checkpoint(tensors, config)))
    assert found.packing is not None and found.packing.bits_per_weight == 4.25


def test_a_quantized_pair_without_a_configuration() -> None:
    """An int8 tensor beside a float of its own name is a weight, with or without the ending `qweight`."""
    tensors = {"a.dw_weight.qweight": ("I8", (64, 1, 3)), "a.dw_weight.scale": ("F32", (64, 1, 1)),
               "b.weight": ("I8", (9, 64)), "b.weight_scale": ("F32", (9, 1)), "c": ("I8", (5, 4)),
               "c_scale": ("F32", ()), "ids": ("I8", (7,)), "logit_scale": ("F32", ())}  # fmt: skip
    found = inspect(checkpoint(tensors))
    assert found.parameters.total == 64 * 3 + 9 * 64 + 20 + 1 and found.checkpoint.packed_by == "int8"
    assert found.stored is not None and (found.stored.quantization, found.stored.buffers) == (64 + 9 + 1, 7)
    names = [t.stands_for.name for t in found.checkpoint.tensors if t.stands_for]
    assert names == ["a.dw_weight", "b.weight", "c"]


def test_sparse_bit_masks() -> None:
    """compressed-tensors before 0.12: half of the values and a bit for each place, with scales where they are fp8."""
    tensors: Tensors = {"q.weight.compressed": ("F8_E4M3", (768, 128)), "q.weight.bitmask": ("U8", (768, 32)),
                        "q.weight_scale": ("F32", (768, 1)), "q.weight.shape": ("I64", (2,))}  # fmt: skip
    weight, sums = one(tensors)
    assert weight == Weight("q.weight", (768, 256)) and sums.method == "sparse 2:4"
    assert sums.bytes_by_role == {"weights": 768 * 128, "metadata": 768 * 32 + 16, "scale": 768 * 4}
    below = {name.replace(".weight.", "."): entry for name, entry in tensors.items()}  # as 0.9.4 wrote them
    assert one(below)[0] == weight
    tensors = {"q.weight.compressed": ("BF16", (99,)), "q.weight.bitmask": ("U8", (7, 3)),
               "q.weight.row_offsets": ("I64", (7,)), "q.weight.shape": ("I64", (2,))}  # fmt: skip
    assert one(tensors)[0] == Weight("q.weight", (7, 24))
    head, size = header(tensors)
    data = head[: size - 16].ljust(size - 16, b"\0") + (7).to_bytes(8, "little") + (21).to_bytes(8, "little")
    folder = MemoryFolder({"a.safetensors": data})
    read = unpacked(reader.read(folder.open("a.safetensors")), folder)
    assert read.tensors[0].stands_for == Weight("q.weight", (7, 21))


# --- held against a description ---------------------------------------------------------------------------------------


def agrees(found: Inspection) -> Inspection:
    """Description and file prove each other, and every element is accounted for."""
    assert found.reconciliation.status is Status.AGREES, found.reconciliation.differences[:3]
    assert found.architecture is not None and found.stored is not None
    assert found.stored.parameters == found.parameters.total == inspect(found.checkpoint.config or {}).parameters.total
    assert found.packing is not None and found.packing.weights + found.unpacked_elements == found.parameters.total
    return found


def packed_llama(settings: Mapping[str, Any], parts: Any) -> Inspection:
    """A small Llama whose projections are packed: `parts` gives the tensors of a module of so many rows and columns."""
    config = LLAMA | dict(settings)
    described = inspect(LLAMA).architecture
    assert described is not None
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for tensor in described.tensors():
        if tensor.name.endswith("_proj.weight"):
            stem = tensor.name.removesuffix("weight")
            tensors |= {stem + ending: entry for ending, entry in parts(*tensor.shape).items()}
        else:
            tensors[tensor.name] = ("F16", tensor.shape)
    return inspect(checkpoint(tensors, config))


def gptq(rows: int, columns: int) -> Tensors:
    return {"qweight": ("I32", (columns // 8, rows)), "qzeros": ("I32", (columns // 64, rows // 8)),
            "scales": ("F16", (columns // 64, rows)), "g_idx": ("I32", (columns,))}  # fmt: skip


def nf4(rows: int, columns: int) -> Tensors:
    return {"weight": ("U8", (rows * columns // 2, 1)), "weight.absmax": ("U8", (rows * columns // 64,)),
            "weight.quant_map": ("F32", (16,)), "weight.nested_absmax": ("F32", (rows * columns // 64 // 256,)),
            "weight.nested_quant_map": ("F32", (256,)),
            "weight.quant_state.bitsandbytes__nf4": ("U8", (170,))}  # fmt: skip


def test_every_method_agrees_with_the_description() -> None:
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("gptq", quantized(quant_method="gptq", bits=4, group_size=64), gptq),
        ("awq", quantized(quant_method="awq", bits=4, group_size=64), lambda rows, columns: {
            "qweight": ("I32", (columns, rows // 8)), "qzeros": ("I32", (columns // 64, rows // 8)),
            "scales": ("F16", (columns // 64, rows))}),
        ("fp8", quantized(quant_method="fp8", weight_block_size=[128, 128]), lambda rows, columns: {
            "weight": ("F8_E4M3", (rows, columns)), "weight_scale_inv": ("F32", (-(-rows // 128), columns // 128))}),
        ("modelopt", quantized(quant_method="modelopt", quant_algo="NVFP4", config_groups={
            "group_0": {"weights": {"num_bits": 4, "group_size": 16}}}), lambda rows, columns: {
            "weight": ("U8", (rows, columns // 2)), "weight_scale": ("F8_E4M3", (rows, columns // 16)),
            "weight_scale_2": ("F32", ()), "input_scale": ("F32", ())}),
        ("mlx", {"quantization": {"group_size": 64, "bits": 4}}, lambda rows, columns: {
            "weight": ("U32", (rows, columns // 8)), "scales": ("F16", (rows, columns // 64)),
            "biases": ("F16", (rows, columns // 64))}),
        ("bitsandbytes", quantized(quant_method="bitsandbytes", load_in_4bit=True), nf4),
        ("exl3", quantized(quant_method="exl3", bits=4.0), lambda rows, columns: {
            "trellis": ("I16", (columns // 16, rows // 16, 64)), "suh": ("F16", (columns,)), "svh": ("F16", (rows,))}),
        ("hqq", quantized(quant_method="hqq", quant_config={"weight_quant_params": {"nbits": 4, "group_size": 64}}),
         lambda rows, columns: {"W_q": ("U8", (rows * columns // 128, 64)), "scale": ("F16", (rows * columns // 64, 1)),
                                "zero": ("F16", (rows * columns // 64, 1))}),
    ]  # fmt: skip
    for method, settings, parts in cases:
        found = agrees(packed_llama(settings, parts))
        expected = "mlx" if method == "mlx" else method
        assert found.packing is not None and found.packing.method == expected
        assert found.reconciliation.matched == 2 * 9 + 3


def test_the_document_and_the_lines_say_what_is_packed() -> None:
    from weighbridge.show.tables import inspection_lines

    found = packed_llama(quantized(quant_method="gptq", bits=4, group_size=64), gptq)
    document = found.to_json()
    weights = 2 * (256 * 256 * 2 + 128 * 256 * 2 + 3 * 256 * 512)
    said = document["packing"]
    assert (said["method"], said["weights"], said["weight_bits"]) == ("gptq", weights, 4)
    assert said["bytes"]["weights"] * 2 == weights and said["overhead_bits_per_weight"]["scale"] == 0.25
    assert said["bits_per_weight"] == pytest.approx(4 + sum(said["overhead_bits_per_weight"].values()))
    assert said["unpacked_elements"] == document["parameters"]["total"] - weights
    stored = sum(t.elements for t in found.checkpoint.tensors if t.kind is Kind.QUANTIZATION)
    assert document["parameters"]["quantization"] == stored > 0
    lines = "\n".join(inspection_lines(found))
    assert f"packed by gptq: {weights:,} weights of 4 bits" in lines and "zero point 0.0625" in lines
    assert inspect(LLAMA).to_json()["packing"] is None


def test_biases_that_autogptq_adds_are_explained() -> None:
    """TheBloke/Llama-2-7B-Chat-GPTQ holds them: AutoGPTQ issue 555."""
    found = packed_llama(quantized(quant_method="gptq", bits=4, group_size=64),
                         lambda rows, columns: {**gptq(rows, columns), "bias": ("F16", (rows,))})  # fmt: skip
    assert found.reconciliation.status is Status.AGREES
    assert {d.kind for d in found.reconciliation.differences} == {"packing"}
    assert len(found.reconciliation.differences) == 14


def test_a_bias_of_some_modules_is_none_that_autogptq_adds() -> None:
    """Qwen2's q, k and v have biases, Llama's have none: a file of the one is none of the other."""
    found = packed_llama(
        quantized(quant_method="gptq", bits=4, group_size=64),
        lambda rows, columns: {**gptq(rows, columns), **({"bias": ("F16", (rows,))} if rows == 512 else {})},
    )
    assert found.reconciliation.status is Status.DIFFERS
    assert {d.kind for d in found.reconciliation.differences if not d.explained} == {"unexpected"}


def test_a_packed_matrix_of_a_linear_layer_is_never_turned() -> None:
    found = packed_llama(
        quantized(quant_method="gptq", bits=4, group_size=64), lambda rows, columns: gptq(columns, rows)
    )
    assert found.reconciliation.status is Status.DIFFERS
    assert {d.kind for d in found.reconciliation.differences} == {"shape"}


def test_conv1d_of_gpt2_is_turned_by_the_packer() -> None:
    config = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 64, "n_layer": 1, "n_head": 2,
              "vocab_size": 96, "n_positions": 32, **quantized(quant_method="gptq", bits=4, group_size=64)}  # fmt: skip
    described = inspect(config).architecture
    assert described is not None
    tensors: dict[str, tuple[str, tuple[int, ...]]] = {}
    for tensor in described.tensors():
        if tensor.name.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
            columns, rows = tensor.shape
            stem = tensor.name.removesuffix("weight")
            tensors |= {stem + ending: entry for ending, entry in gptq(rows, columns).items()}
        elif tensor.tied_to is None:
            tensors[tensor.name] = ("F16", tensor.shape)
    agrees(inspect(checkpoint(tensors, config)))


def test_what_weigh_shrink_writes_comes_back_whole(tmp_path: Path) -> None:
    """Each scheme of compressed-tensors that is written: the logical count is that of the base."""
    described = inspect(LLAMA).architecture
    assert described is not None
    base = tmp_path / "base"
    base.mkdir()
    generator = np.random.default_rng(1)
    arrays = {t.name: generator.standard_normal(t.shape).astype("float16") for t in described.tensors()}
    safetensors.numpy.save_file(arrays, base / "model.safetensors")
    (base / "config.json").write_text(json.dumps(LLAMA))
    before = inspect(base)
    source = FolderSource(base)
    for scheme in schemes.QUANTIZED:
        chosen = dict.fromkeys(source.linear_names, scheme)
        safetensors_folder.write(source, tmp_path / scheme.name, chosen)
        found = agrees(inspect(tmp_path / scheme.name))
        assert found.parameters.total == before.parameters.total
        assert found.packing is not None and found.packing.method == "compressed-tensors"
        weights = sum(t.elements for t in source.tensors if t.name in source.linear_names)
        stored = sum(scheme.size_bytes(t.shape) for t in source.tensors if t.name in source.linear_names)
        assert found.packing.weights == weights and sum(found.packing.bytes_by_role.values()) == stored


# --- what is declared elsewhere, and what is not known ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "agrees_with"),
    [("quantize_config.json", {"bits": 4, "group_size": 64, "desc_act": False}, True),
     ("quantize_config.json", {"bits": 8, "group_size": 64}, False),
     ("quant_config.json", {"w_bit": 4, "q_group_size": 64, "zero_point": True, "version": "GEMM"}, True),
     ("hf_quant_config.json", {"producer": {}, "quantization": {"quant_algo": "W4A16", "group_size": 64}}, True),
     ("hf_quant_config.json", {"quantization": {"quant_algo": "W4A16", "group_size": 128}}, False)],
)  # fmt: skip
def test_older_files_beside_the_weights(name: str, text: dict[str, Any], agrees_with: bool) -> None:
    tensors = {f"q.{ending}": entry for ending, entry in gptq(256, 256).items()}
    head, size = header(tensors)
    folder = MemoryFolder({"a.safetensors": MemoryFile("a.safetensors", head, size), name: json.dumps(text).encode()})
    found = unpacked(reader.read(folder.open("a.safetensors")), folder)
    assert bool(found.packed_by) == agrees_with and bool(found.notes) != agrees_with


@pytest.mark.parametrize("method", ["aqlm", "vptq", "spqr", "quanto", "torchao", "\x1b[31m"])
def test_methods_that_are_not_unpacked_are_named(method: str) -> None:
    found = unpacked(checkpoint({"q.codes": ("I16", (8, 8, 1))}, quantized(quant_method=method)))
    assert found.packed_by == "" and packing(found) is None
    assert "not unpacked; stored elements are counted" in found.notes[0] and found.notes[0].isprintable()


def test_what_is_unpacked_stays_so() -> None:
    config = quantized(quant_method="gptq", bits=4, group_size=64)
    once = unpacked(checkpoint({f"q.{ending}": entry for ending, entry in gptq(256, 256).items()}, config))
    assert once.packed_by == "gptq" and unpacked(once) == once
    assert inspect(once).packing == packing(once) is not None


def test_a_plain_file_stays_as_it_is() -> None:
    plain = checkpoint({"a.weight": ("BF16", (4, 4)), "norm.scale": ("F32", (4,)), "zero": ("F32", ()),
                        "blocks": ("F32", (3,)), "m.B": ("F32", (4, 4)), "ids": ("I64", (4,))})  # fmt: skip
    assert unpacked(plain) == plain


def test_the_parts_of_a_pipeline_are_unpacked_each() -> None:
    part = checkpoint({f"q.{ending}": entry for ending, entry in nf4(256, 256).items()})
    whole = Checkpoint("p", "pipeline", (), tuple(
        type(t)(f"transformer.{t.name}", t.shape, t.encoding, file=t.file, byte_range=t.byte_range)
        for t in part.tensors), parts={"transformer": part})  # fmt: skip
    found = unpacked(whole)
    assert found.packed_by == "bitsandbytes" and found.parts["transformer"].packed_by == "bitsandbytes"
    assert found.tensors[0].stands_for == Weight("transformer.q.weight", (65536,))
    assert [t.role for t in found.tensors[1:]] == ["scale", "codebook", "scale", "codebook", "metadata"]
    assert found.notes == ("transformer: " + found.parts["transformer"].notes[0],)


@pytest.mark.parametrize("method", ["aqlm", "torchao"])
def test_a_method_that_is_not_read_is_no_contradiction(method: str) -> None:
    """Its file is as good as any other: that it cannot be held against the description is no difference."""
    config = {"model_type": "llama", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
              "intermediate_size": 8, "vocab_size": 9, "quantization_config": {"quant_method": method}}  # fmt: skip
    tensor = TensorSpec("model.layers.0.self_attn.q_proj.codes", (8, 2, 1), find("int16"), file="m", byte_range=(0, 32))
    found = inspect(Checkpoint("m", "safetensors", (StoredFile("m", 32, 0, 32, 0),), (tensor,), config=config))
    assert found.reconciliation.status is Status.NOT_APPLICABLE and method in found.reconciliation.note
    assert any(f"packed by {method}: not unpacked" in note for note in found.notes)
