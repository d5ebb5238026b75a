"""What is found out by kinds of tensors is what is found out tensor by tensor: packed, reconciled and counted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.formats import agreement, reconcile
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.packed import packing, unpacked
from weighbridge.formats.packing.alike import UnpackedTable
from weighbridge.formats.packing.endings import Part, parts_of
from weighbridge.formats.safetensors import DTYPES
from weighbridge.formats.tensor_table import Columns, TensorTable
from weighbridge.inspection import inspect

Entry = tuple[str, str, tuple[int, ...]]

SHAPE = {"hidden_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2,
         "intermediate_size": 512, "vocab_size": 128, "max_position_embeddings": 64}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama": {**SHAPE, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": False},
    "tied": {**SHAPE, "model_type": "llama", "architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True},
    "mixtral": {**SHAPE, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 4,
                "num_experts_per_tok": 2},
    "deepseek": {**SHAPE, "model_type": "deepseek_v3", "architectures": ["DeepseekV3ForCausalLM"],
                 "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
                 "moe_intermediate_size": 128, "first_k_dense_replace": 1, "num_nextn_predict_layers": 1,
                 "q_lora_rank": 128, "kv_lora_rank": 128, "qk_nope_head_dim": 64, "qk_rope_head_dim": 64,
                 "v_head_dim": 64},
    "gpt2": {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 256, "n_layer": 2, "n_head": 4,
             "n_positions": 64, "vocab_size": 128},
    "bert": {**SHAPE, "model_type": "bert", "architectures": ["BertForMaskedLM"]},
}  # fmt: skip
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128}


def blocks(name: str, rows: int, columns: int) -> list[Entry]:
    return [(name, "F8_E4M3", (rows, columns)), (f"{name}_scale_inv", "F32", (-(-rows // 128), -(-columns // 128)))]


def static(name: str, rows: int, columns: int) -> list[Entry]:
    stem = name.removesuffix(".weight")
    cache = [(f"{stem}.k_scale", "F32", ())] if stem.endswith("k_proj") else []
    return [(name, "F8_E4M3", (rows, columns)), (f"{stem}.weight_scale", "F32", ()),
            (f"{stem}.input_scale", "F32", ()), *cache]  # fmt: skip


def gptq(name: str, rows: int, columns: int) -> list[Entry]:
    stem = name.removesuffix(".weight")
    return [(f"{stem}.qweight", "I32", (columns // 8, rows)), (f"{stem}.qzeros", "I32", (columns // 128, rows // 8)),
            (f"{stem}.scales", "F16", (columns // 128, rows)), (f"{stem}.g_idx", "I32", (columns,))]  # fmt: skip


def nvfp4(name: str, rows: int, columns: int) -> list[Entry]:
    return [(f"{name}_scale_2", "F32", ()), (f"{name}_scale", "F8_E4M3", (rows, columns // 16)),
            (name, "U8", (rows, columns // 2))]  # fmt: skip


def mlx(name: str, rows: int, columns: int) -> list[Entry]:
    stem = name.removesuffix(".weight")
    return [(name, "U32", (rows, columns // 8)), (f"{stem}.scales", "BF16", (rows, columns // 64)),
            (f"{stem}.biases", "BF16", (rows, columns // 64))]  # fmt: skip


PACKERS: dict[str, tuple[Callable[[str, int, int], list[Entry]] | None, dict[str, Any]]] = {
    "plain": (None, {}), "blocks": (blocks, {"quantization_config": FP8}), "static": (static, {}),
    "gptq": (gptq, {"quantization_config": GPTQ}), "nvfp4": (nvfp4, {}),
    "mlx": (mlx, {"quantization": {"bits": 4, "group_size": 64}}),
}  # fmt: skip


def entries(config: dict[str, Any], packer: str, spared: int = 0) -> list[Entry]:
    """The tensors of a model as a file would hold them; of those that can be packed each seventh may be spared."""
    architecture = inspect(config).architecture
    assert architecture is not None
    pack, found = PACKERS[packer][0], []
    for place, tensor in enumerate(architecture.tensors()):
        is_packed = pack is not None and tensor.name.endswith(("proj.weight", "w1.weight", "w2.weight", "w3.weight"))
        if tensor.tied_to is not None and not tensor.mtp:
            continue
        if pack is not None and is_packed and not (spared and place % 7 == spared):
            found += pack(tensor.name, *tensor.shape)
        else:
            found.append((tensor.name, "BF16", tensor.shape))
    return found


def checkpoint(rows: list[Entry], config: dict[str, Any] | None, cut: int = 0) -> Checkpoint:
    """A checkpoint of two files, whose tensors lie in a table."""
    files = []
    for name, part in (("a", rows[:cut]), ("b", rows[cut:])):
        ends, at = [], 0
        for _, dtype, shape in part:
            at += DTYPES[dtype].size_bytes((math.prod(shape),))
            ends.append(at)
        kinds = {f"{dtype} {shape}": (shape, DTYPES[dtype]) for _, dtype, shape in part}
        keys = [f"{dtype} {shape}" for _, dtype, shape in part]
        files.append(Columns(name, 8, [row[0] for row in part], keys, kinds, ends))
    return Checkpoint("a", "safetensors", (), TensorTable(files), config=config)


def document(found: Checkpoint) -> str:
    """All that is said of it, in the order in which it is said."""
    return json.dumps(inspect(found).to_json())


def same(found: Checkpoint) -> None:
    """A table is the same as its tensors one by one."""
    alone = replace(found, tensors=tuple(found.tensors))
    one, other = unpacked(found), unpacked(alone)
    assert tuple(one.tensors) == other.tensors and one.notes == other.notes and one.packed_by == other.packed_by
    assert repr(packing(one)) == repr(packing(other))
    assert document(found) == document(alone)


CHANGES = ("drop", "shape", "type", "name", "old", "deeper", "add", "again", "swap", "scalar")


def change(rows: list[Entry], how: str, place: int, word: str) -> list[Entry]:
    """The table with one tensor changed or added."""
    rows = list(rows)
    place %= len(rows)
    name, dtype, shape = rows[place]
    if how == "drop":
        del rows[place]
    elif how == "shape":
        rows[place] = (name, dtype, (*shape[:-1], (shape or (1,))[-1] * 2))
    elif how == "scalar":
        rows[place] = (name, dtype, ())
    elif how == "type":
        rows[place] = (name, "I32" if dtype != "I32" else "U8", shape)
    elif how == "name":
        rows[place] = (f"{name.rpartition('.')[0]}.{word}", dtype, shape)
    elif how == "old":
        rows[place] = (name.replace(".weight", ".gamma").replace(".bias", ".beta"), dtype, shape)
    elif how == "deeper":
        rows[place] = (f"model.{name}", dtype, shape)
    elif how == "add":
        rows.append((f"{name.rpartition('.')[0]}.{word}", "F32", (1,)))
    elif how == "again":
        rows.append(("lm_head.weight", "BF16", (128, 256)))
    else:
        rows[place], rows[0] = rows[0], rows[place]
    return list({row[0]: row for row in rows}.values())


WORDS = ("weight", "bias", "scale", "scales", "k_scale", "input_scale", "weight_scale", "weight_scale_inv", "qweight",
         "qzeros", "g_idx", "up_scale", "weight_scale_inv_scale", "inv_freq", "position_ids", "biases", "blocks",
         "weight_shape", "absmax", "quant_map", "B", "s")  # fmt: skip


@given(
    st.sampled_from(sorted(MODELS)), st.sampled_from(sorted(PACKERS)), st.integers(0, 6), st.booleans(),
    st.lists(st.tuples(st.sampled_from(CHANGES), st.integers(0, 10**6), st.sampled_from(WORDS)), max_size=3),
    st.integers(0, 300), st.randoms(use_true_random=False), st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_table_says_what_its_tensors_say(
    model: str, packer: str, spared: int, with_config: bool, changes: list[tuple[str, int, str]], cut: int,
    random: Any, shuffled: bool,
) -> None:  # fmt: skip
    config = MODELS[model] | PACKERS[packer][1]
    rows = entries(config, packer, spared)
    for how, place, word in changes:
        rows = change(rows, how, place, word)
    if shuffled:
        random.shuffle(rows)
    same(checkpoint(rows, config if with_config else None, cut))


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("model", MODELS)
def test_whole_models_agree_by_their_kinds(model: str, packer: str) -> None:
    """None of these is looked at tensor by tensor, unless its settings or a tied copy ask for it."""
    config = MODELS[model] | PACKERS[packer][1]
    rows = entries(config, packer)
    found = unpacked(checkpoint(rows, config))
    architecture = inspect(config).architecture
    assert architecture is not None and isinstance(found.tensors, TensorTable)
    assert isinstance(found.tensors, UnpackedTable) == (any(row[1] != "BF16" for row in rows))
    agreed = agreement.of(architecture, found.tensors)
    assert agreed is not None and agreed.matched + len(agreed.next_token) == len(found.tensors.weights)
    assert reconcile.reconcile(architecture, found) == reconcile.reconcile(
        architecture, replace(found, tensors=tuple(found.tensors))
    )
    same(checkpoint(rows, config))


def test_parts_are_found_by_their_endings() -> None:
    names = ["a.weight", "a.weight_scale", "b.qweight", "norm.scale", "qweight", "up_scale", "x.weight.absmax",
             "x.weight.quant_state.bitsandbytes__nf4", "c.weight_scale", "plain", *(f"{n}.w{n}" for n in range(40)),
             "d.weight_scale"]  # fmt: skip
    assert sorted(parts_of(names), key=str) == sorted([
        Part(".weight_scale", "weight_scale", ["a.weight_scale", "c.weight_scale", "d.weight_scale"]),
        Part(".qweight", "qweight", ["b.qweight"]), Part(".scale", "scale", ["norm.scale"]),
        Part("qweight", "qweight", ["qweight"]), Part("_scale", "scale", ["up_scale"]),
        Part(".absmax", "absmax", ["x.weight.absmax"]),
        Part(".quant_state.bitsandbytes__nf4", "quant_state", ["x.weight.quant_state.bitsandbytes__nf4"]),
    ], key=str)  # fmt: skip
