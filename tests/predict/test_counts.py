"""Counts against the golden table, and against the whole table of published models where it is at hand."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.golden_models import models

from weighbridge.errors import WeighbridgeError
from weighbridge.formats import config as config_format
from weighbridge.inspection import inspect
from weighbridge.model import encodings, families
from weighbridge.model.architecture import Architecture, Workload
from weighbridge.model.tensors import Kind
from weighbridge.predict import counts

GOLDEN = models()
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
LLAMA_405B = next(row["config"] for row in GOLDEN if row["name"] == "llama-3.1-405b")


def build(config: dict[str, Any]) -> Architecture:
    return families.build(config_format.hyperparameters(config, "config.json"))


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: str(row["name"]))
def test_golden_models_are_exact(row: dict[str, Any]) -> None:
    found = inspect(row["config"])
    counted = found.parameters
    assert counted.total == row["total"]
    assert counted.active_per_token == row.get("active", row["total"])
    assert sum(counted.by_component.values()) == counted.total
    if "non_embedding" in row:
        assert counted.non_embedding == row["non_embedding"]
    if "mtp" in row:
        assert counted.mtp == row["mtp"]
    if "tied_per_use" in row:
        assert counted.tied_per_use == row["tied_per_use"]
    if "kv_bytes_per_token_bf16" in row:
        assert found.to_json()["state"]["kv_bytes_per_token"]["bf16"] == row["kv_bytes_per_token_bf16"]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: str(row["name"]))
def test_the_tensor_list_adds_up_to_the_counts(row: dict[str, Any]) -> None:
    """The expanded list and the symbolic sums are two ways to one number."""
    if row["total"] > 10**11 and "mixtral" not in row["name"]:
        pytest.skip("the same wiring in a smaller size is tested")
    model = build(row["config"])
    counted = counts.count(model)
    tensors = [t for t in model.tensors() if not t.mtp and t.kind is Kind.PARAMETER]
    learned = [t for t in tensors if t.tied_to is None]
    assert sum(t.elements for t in learned) == counted.total
    assert sum(t.elements for t in tensors) == counted.tied_per_use
    assert len({t.name for t in tensors}) == len(tensors)
    by_layer = [sum(t.elements for t in learned if t.layer == layer) for layer in range(model.num_layers)]
    assert by_layer == list(counted.by_layer)
    routed = sum(t.elements for t in learned if t.held > 1)
    if routed:
        active, held = next((t.active, t.held) for t in learned if t.held > 1)
        assert counted.active_per_token == counted.total - routed + routed * active // held


@pytest.mark.skipif(not SHARED.exists(), reason="the table of published models is not beside this clone")
def test_every_published_model_of_these_families_is_exact() -> None:
    seen = 0
    for row in csv.DictReader((SHARED / "truth.csv").open(encoding="utf-8")):
        config = json.loads((SHARED / row["config_file"]).read_text())
        try:
            found = inspect(config)
        except WeighbridgeError:
            continue  # refused, which is never wrong
        counted = found.parameters
        assert counted.total == int(row["total_params"]), row["model"]
        assert counted.active_per_token == int(row["active_params"] or row["total_params"]), row["model"]
        if row["p_embedding"]:
            assert counted.embedding == int(row["params_embedding"] or counted.embedding), row["model"]
            expected = {name: int(row[f"p_{name}"] or 0) for name in counts.COMPONENTS}
            assert dict(counted.by_component) == expected, row["model"]
        state = found.state
        assert state is not None
        if row["kv_bytes_per_token_bf16"]:
            assert 2 * state.kv_per_token == int(row["kv_bytes_per_token_bf16"]), row["model"]
        seen += 1
    assert seen >= 37


def test_gpt3_has_three_counts_and_none_of_them_is_176_2_billion() -> None:
    conventions = inspect(next(r["config"] for r in GOLDEN if r["name"] == "gpt3-175b")).parameters.conventions
    assert {174_604_259_328, 173_961_535_488, 175_221_817_344} <= set(conventions.values())
    assert not any(176_100_000_000 <= value < 176_300_000_000 for value in conventions.values())


def test_llama_2_70b_by_hand() -> None:
    """What articles get wrong: the count, the bytes at 16 bits, the cache with and without grouped queries."""
    shape = next(row["config"] for row in GOLDEN if row["name"] == "llama-2-70b")
    model, bf16 = build(shape), encodings.find("bf16")
    assert counts.state_bytes(model, Workload(new_tokens=4096), bf16) == 1_342_177_280
    ungrouped = build({**shape, "num_key_value_heads": 64})
    assert counts.state_bytes(ungrouped, Workload(new_tokens=4096), bf16) == 10_737_418_240
    layer = {g.weight.component.value: 0 for g in model.groups}
    for group in model.groups:
        if group.layers is not None:
            layer[group.weight.component.value] += group.weight.elements
    assert layer["attention"] == 150_994_944 and layer["mlp"] == 704_643_072


def test_what_if_questions_move_the_total_by_the_predicted_delta() -> None:
    shape = next(row["config"] for row in GOLDEN if row["name"] == "llama-3-8b")
    base = inspect(shape).parameters.total
    assert inspect(shape, settings={"num_hidden_layers": 33}).parameters.total - base == 218_112_000
    assert inspect(shape, settings={"vocab_size": 128257}).parameters.total - base == 2 * 4096
    gpt2 = {**next(row["config"] for row in GOLDEN if row["name"] == "gpt2")}
    assert inspect(gpt2, settings={"n_head": 6}).parameters.total == inspect(gpt2).parameters.total


def test_flops_of_a_token() -> None:
    """Twice the multiplied parameters: all but look-ups, norms and biases; the tied head multiplies too."""
    gpt2 = build(next(row["config"] for row in GOLDEN if row["name"] == "gpt2"))
    matrices = 12 * 12 * 768 * 768 + 50257 * 768
    assert counts.count(gpt2).matmul == matrices
    assert counts.forward_flops_per_token(gpt2) == 2 * matrices
    assert counts.forward_flops_per_token(gpt2, 1000) - 2 * matrices == 4 * 768 * 1000 * 12
    mixtral = build(next(row["config"] for row in GOLDEN if row["name"] == "mixtral-8x7b"))
    active = 12_879_925_248 - 131_072_000 - 266_240
    assert counts.forward_flops_per_token(mixtral) == 2 * active


def test_windows_bound_attention_and_cache() -> None:
    mistral = build(next(row["config"] for row in GOLDEN if row["name"] == "mistral-7b-v0.1"))
    bf16 = encodings.find("bf16")
    full = counts.state_bytes(mistral, Workload(new_tokens=4096), bf16)
    assert full == 4096 * 131_072 == counts.state_bytes(mistral, Workload(new_tokens=100_000), bf16)
    at_window = counts.forward_flops_per_token(mistral, 4096)
    assert counts.forward_flops_per_token(mistral, 9000) == at_window
    assert counts.count_state(mistral).kv_per_token_global == 0
    qwen = next(row["config"] for row in GOLDEN if row["name"] == "qwen2-1.5b")
    some = build({**qwen, "use_sliding_window": True, "sliding_window": 1024, "max_window_layers": 21})
    assert counts.count_state(some).kv_per_token == 14336
    assert counts.count_state(some).kv_per_token_global == 14336 * 21 // 28


@given(st.integers(1, 50), st.integers(0, 50), st.integers(1, 4), st.none() | st.integers(1, 60))
def test_attended_positions_equal_the_sum_over_tokens(new: int, context: int, batch: int, window: int | None) -> None:
    expected = batch * sum(min(context + i, window or 10**9) for i in range(1, new + 1))
    assert Workload(batch_size=batch, new_tokens=new, context_tokens=context).attended_positions(window) == expected


def test_operations_of_one_token_add_up_to_the_flops() -> None:
    for row in GOLDEN:
        model = build(row["config"])
        encodes = any(p.block.attention_flops_per_position() and not p.block.states() for p in model.placements)
        if encodes or row["total"] > 10**11:  # an encoder's cost goes by its own input, not by a cache
            continue
        for context in (0, 1, 700, 5000):
            step = Workload(new_tokens=1, context_tokens=context)
            flops = sum(operation.flops for operation in model.operations(step))
            assert flops == counts.forward_flops_per_token(model, context + 1), (row["name"], context)


def test_operations_read_each_weight_once_for_a_batch() -> None:
    model = build(next(row["config"] for row in GOLDEN if row["name"] == "llama-3-8b"))
    rows = {operation.path: operation for operation in model.operations(Workload(batch_size=4))}
    up = rows["model.layers.{layer}.mlp.up_proj.weight"]
    assert up.bytes_read == 32 * (4096 * 14336 * 2 + 4 * 4096 * 2) and up.bytes_written == 32 * 4 * 14336 * 2
    assert up.flops == 32 * 2 * 4 * 4096 * 14336


def test_experts_touched_by_a_batch_grow_and_stop_at_all() -> None:
    model = build(next(row["config"] for row in GOLDEN if row["name"] == "mixtral-8x7b"))
    one = 4096 * 14336 * 2

    def experts_read(batch: int) -> int:
        path = "model.layers.{layer}.block_sparse_moe.experts.{expert}.w1.weight"
        row = next(o for o in model.operations(Workload(batch_size=batch)) if o.path == path)
        return (row.bytes_read // 32 - batch * 2 * 4096 * 2) // one

    assert [experts_read(batch) for batch in (1, 2, 4, 100)] == [2, 4, 5, 8]  # 8 (1 - (3/4)^B): 2, 3.5, 5.5, 8


def test_counting_four_hundred_billion_parameters_takes_under_a_millisecond() -> None:
    """The bar is 1 ms; the best of many runs is taken, as other processes share the processor."""
    best = 1.0
    for _ in range(30):
        model = build(LLAMA_405B)
        start = time.process_time()
        assert counts.count(model).total == 405_853_388_800
        best = min(best, time.process_time() - start)
    assert best < 1e-3


def test_describing_and_counting_takes_under_a_millisecond_once_the_family_is_loaded() -> None:
    """The same bar, from the parsed configuration on; the family is looked for once in a process."""
    build(LLAMA_405B)
    best = 1.0
    for _ in range(30):
        start = time.process_time()
        assert counts.count(build(LLAMA_405B)).total == 405_853_388_800
        best = min(best, time.process_time() - start)
    assert best < 1e-3


def test_a_trillion_parameters_cost_no_more() -> None:
    config = {**LLAMA_405B, "model_type": "mixtral", "architectures": ["MixtralForCausalLM"], "num_local_experts": 512,
              "num_experts_per_tok": 8}  # fmt: skip
    start = time.process_time()
    counted = counts.count(build(config))
    assert counted.total > 10**14 and time.process_time() - start < 0.05
    assert counted.active_per_token < counted.total // 40


def test_a_token_of_text_does_not_pass_the_tower() -> None:
    seeing, reading = inspect("llava-1.5-7b"), inspect("llama-2-7b")
    rows = (32064 - 32000) * 4096  # its head has 64 more
    assert seeing.flops_per_token is not None and reading.flops_per_token is not None
    assert seeing.flops_per_token == reading.flops_per_token + 2 * rows
    assert seeing.parameters.matmul == reading.parameters.matmul + rows
    assert any("works once for each picture" in note for note in seeing.notes)
    assert inspect("clip-vit-large-patch14").flops_per_token  # towers alone are what is computed
