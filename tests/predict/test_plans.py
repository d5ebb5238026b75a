"""Do plans follow what machines can and cannot do: layouts, offload, queues, prompts, engines?"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.errors import ConfigError, SourceError, UnitError, UnknownNameError
from weighbridge.planning import NO_DECODING, Plan, devices_for, fit, models_on
from weighbridge.predict.demand import demand
from weighbridge.predict.memory import Planner

LLAMA = "llama-3.1-8b"


def plan(model: str = LLAMA, on: str = "h100-sxm", **options: Any) -> Plan:
    return fit(model, on, alternatives=False, **options)


def tpot(found: Plan) -> float:
    assert found.speed.tpot_s.value is not None
    return found.speed.tpot_s.value


def test_groups_of_layers_do_not_make_one_token_faster() -> None:
    alone = tpot(plan(concurrency=1))
    assert tpot(plan(concurrency=1, devices=4, pipeline_parallel=4, tensor_parallel=1)) >= alone
    assert tpot(plan(concurrency=1, devices=4)) < alone  # shared matrices do
    many: dict[str, Any] = {"devices": 4, "tensor_parallel": 1, "concurrency": 64}
    assert tpot(plan(pipeline_parallel=4, **many)) < tpot(plan(concurrency=64))


def test_copies_do_not_split_one_sequence() -> None:
    long: dict[str, Any] = {"context_tokens": 600_000, "weights": "bf16", "runtime": "vllm"}
    assert plan(**long).memory.fits is False
    assert plan(devices=8, data_parallel=8, **long).memory.fits is False
    assert plan(devices=8, **long).memory.fits is True
    copies: dict[str, Any] = {"devices": 8, "data_parallel": 8, "runtime": "vllm"}
    assert tpot(plan(batch=9, **copies)) == pytest.approx(tpot(plan(batch=16, **copies)), rel=0.1)


def test_one_clients_prompt_is_waited_for_once() -> None:
    short, long = (plan(concurrency=1, prompt_tokens=n, output_tokens=10) for n in (512, 32_000))
    assert tpot(long) < 2 * tpot(short)
    assert (long.speed.ttft_s.value or 0) > 5 * (short.speed.ttft_s.value or 0)
    first = [plan(concurrency=1, prompt_tokens=8_000, output_tokens=n).speed.ttft_s.value or 0 for n in (1, 1000)]
    assert first[0] == pytest.approx(first[1], rel=0.1)


def test_a_batch_is_no_closed_loop() -> None:
    together, loop = plan(batch=32, runtime="vllm"), plan(concurrency=32, runtime="vllm")
    assert together.speed != loop.speed
    crowd = plan(concurrency=5000)
    assert crowd.memory.fits is True and any("the others wait" in note for note in crowd.notes)
    assert plan(batch=5000, runtime="vllm").memory.fits is False
    with pytest.raises(UnitError, match="leave one of them out"):
        plan(batch=4, concurrency=8)


def test_output_and_cost_pay_for_the_prompt() -> None:
    found = plan(on="rtx-4090", weights="q4_k_m", prompt_tokens=32_000, output_tokens=32)
    speed = found.speed
    assert speed.ttft_s.value and speed.tpot_s.value and speed.output_tok_s.value
    seconds = speed.ttft_s.value + 31 * speed.tpot_s.value
    assert speed.output_tok_s.value == pytest.approx(32 / seconds)
    price = found.machine.device.price_usd_per_h
    assert price is not None
    assert found.to_json()["cost"]["usd_per_request"]["value"] == pytest.approx(price / 3600 * seconds)
    assert plan(output_tokens=0).to_json()["cost"]["usd_per_million_output_tokens"]["value"] is None
    one, many = (plan(on="rtx-4090", weights="q4_k_m", batch=n).speed.ttft_s.value or 0 for n in (1, 64))
    assert many > 20 * one


def test_layers_on_the_host_take_their_state_along_and_cost_time() -> None:
    options: dict[str, Any] = {"on": "rtx-4090", "weights": "q4_k_m", "context_tokens": 100_000}
    plans = [plan(gpu_layers=n, **options) for n in (0, 16, 32)]
    held = [p.memory.total_bytes.value or 0 for p in plans]
    assert held == sorted(held) and plans[0].memory.host_bytes > (plans[0].memory.state_bytes.value or 0)
    whole = plan(**options)
    assert held[2] == whole.memory.total_bytes.value and tpot(plans[2]) == tpot(whole)
    slow = tpot(plans[0])
    assert plans[0].weights.dense_bytes / 200e9 < slow < plans[0].weights.dense_bytes / 25e9
    assert plans[1].speed.tpot_s.basis.value == "assumed" and tpot(plans[2]) < tpot(plans[1]) < slow
    assert plan(on="rtx-4090", gpu_layers=10).service.runtime.name == "llama.cpp"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"devices": 3}, "heads"),
        ({"devices": 64, "tensor_parallel": 1, "pipeline_parallel": 64}, "32 layers in 64 groups"),
        ({"devices": 4, "expert_parallel": 4}, "without experts"),
        ({"context_tokens": 100}, "room for both"),
        ({"gpu_layers": 5, "runtime": "vllm"}, "llama.cpp"),
        ({"gpu_layers": -5}, "llama.cpp"),
        ({"on": "apple-m2-max", "gpu_layers": 5}, "llama.cpp"),
        ({"on": "rtx-4090", "weights": "awq-int4-g128", "runtime": "llama.cpp"}, "GGUF"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UnitError, match=words):
        plan(**options)


def test_an_engine_keeps_its_cache_in_what_it_can() -> None:
    for runtime, kv in (("vllm", "q8_0"), ("llama.cpp", "fp8"), ("vllm", "bool")):
        with pytest.raises(UnknownNameError, match="cache encoding"):
            plan(runtime=runtime, kv=kv)


def test_models_that_do_not_generate_get_no_speed() -> None:
    encoder = plan("bert-base")
    assert encoder.memory.weights_bytes.value == 2 * encoder.inspection.parameters.total
    assert encoder.speed.tpot_s.value is None and encoder.speed.tpot_s.note == NO_DECODING
    with pytest.raises(ConfigError, match="without tokens"):
        plan("resnet-50")
    ranked = models_on("rtx-4090", text="google")
    assert len(ranked) > 10 and all(c.plan.speed.tpot_s.note != NO_DECODING for c in ranked)


def test_a_system_lives_in_the_memory_too() -> None:
    needs = plan(on="jetson-orin-nx-16gb", weights="bf16", runtime="llama.cpp")
    assert needs.memory.fits is False
    assert any("lives in the memory too" in note for note in needs.notes)


def test_rankings_keep_to_what_is_asked() -> None:
    apples = devices_for(LLAMA, text="apple", weights="q4_k_m")
    assert apples and all(c.plan.machine.device.vendor == "Apple" for c in apples)
    with pytest.raises(UnknownNameError, match="kind of device"):
        devices_for(LLAMA, kinds=["gpus"])


def test_packed_models_are_planned_as_published() -> None:
    assert plan("gpt-oss-20b").weights.recipe == "mxfp4" and plan("gpt-oss-20b").memory.fits is True
    published = plan("deepseek-v3", on="h200-sxm", devices=8)
    assert published.weights.recipe == "fp8" and published.memory.fits is True


def test_experts_on_the_host_leave_room_and_cost_time() -> None:
    options: dict[str, Any] = {"on": "rtx-4090", "weights": "q4_k_m"}
    all_on, half, none_on = (plan("qwen3-30b-a3b", cpu_experts=n, **options) for n in (None, 24, 48))
    experts = all_on.weights.expert_bytes
    assert half.memory.host_bytes - all_on.memory.host_bytes == pytest.approx(experts / 2, rel=1e-6)
    assert none_on.memory.host_bytes - all_on.memory.host_bytes == experts
    assert tpot(all_on) < tpot(half) < tpot(none_on)
    with pytest.raises(UnitError, match="a mixture on a card"):
        plan(on="rtx-4090", weights="q4_k_m", cpu_experts=4)


def write_adapter(folder: Path, width: int) -> Path:
    """A LoRA adapter of rank 8 on the query maps of two layers."""
    folder.mkdir()
    tensors: dict[str, tuple[int, int]] = {}
    for layer in range(2):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_"
        tensors |= {f"{name}A.weight": (8, width), f"{name}B.weight": (width, 8)}
    header, offset = {}, 0
    for name, shape in tensors.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))
    return folder


def test_adapters_lie_beside_the_weights(tmp_path: Path) -> None:
    ours, other = write_adapter(tmp_path / "ours", 4096), write_adapter(tmp_path / "other", 576)
    plain, adapted, twice = (plan(adapters=a) for a in ((), (ours,), (ours, ours)))
    size = 4 * 8 * 4096 * 2
    held = [p.memory.weights_bytes.value or 0 for p in (plain, adapted, twice)]
    assert [x - held[0] for x in held] == [0, size, 2 * size]
    assert tpot(plain) < tpot(adapted) < tpot(twice)
    with pytest.raises(ConfigError, match="an adapter of this model"):
        plan(adapters=(other,))
    with pytest.raises(SourceError, match="PEFT"):
        plan(adapters=(tmp_path,))


def test_a_draft_model_takes_memory_and_not_time() -> None:
    whole = {"devices": 4, "runtime": "vllm", "context_tokens": 4096, "batch": 3}
    alone, small = plan("llama-3.1-70b", "h100-sxm", **whole), plan("llama-3.2-1b", "h100-sxm", **whole)
    both = plan("llama-3.1-70b", "h100-sxm", draft="llama-3.2-1b", **whole)
    assert total(both) - total(alone) == held(small) + (small.memory.activation_bytes.value or 0)
    assert held(small) == 1_235_814_400 * 2 + 3 * 4096 * 32_768
    assert tpot(both) == tpot(alone)
    assert (both.memory.max_context or 0) < (alone.memory.max_context or 0)
    assert any("llama-3.2-1b" in note for note in both.notes)
    copies = plan("llama-3.1-70b", "h100-sxm", draft="llama-3.2-1b", **whole, tensor_parallel=2, data_parallel=2)
    single = plan("llama-3.1-70b", "h100-sxm", **whole, tensor_parallel=2, data_parallel=2)
    assert (copies.memory.weights_bytes.value or 0) - (single.memory.weights_bytes.value or 0) == 2 * 2 * 1_235_814_400
    quantized = plan("llama-3.1-8b", "rtx-4090", weights="q4_k_m", draft="llama-3.2-1b", gpu_layers=16)
    assert total(quantized) - total(plan("llama-3.1-8b", "rtx-4090", weights="q4_k_m", gpu_layers=16)) == total(
        plan("llama-3.2-1b", "rtx-4090", weights="q4_k_m"))  # fmt: skip
    untied, its_draft = "qwen2.5-72b", "qwen2.5-7b"  # a table that is no head stays with the processor, the draft's too
    tables = [plan(untied, "rtx-4090", weights="q4_k_m", draft=one).memory.host_bytes for one in (None, its_draft)]
    assert tables[1] - tables[0] == plan(its_draft, "rtx-4090", weights="q4_k_m").memory.host_bytes > 0
    with pytest.raises(ConfigError, match="the vocabulary of the model"):
        plan("llama-3.1-70b", "h100-sxm", draft="smollm2-135m", **whole)


def held(found: Plan) -> float:
    """Weights and state."""
    return (found.memory.weights_bytes.value or 0) + (found.memory.state_bytes.value or 0)


def total(found: Plan) -> float:
    """All that the devices hold."""
    return found.memory.total_bytes.value or 0


def test_whole_experts_do_not_always_divide() -> None:
    sliced, whole, uneven = (
        plan("mixtral-8x7b", "h100-sxm", devices=n, tensor_parallel=1, data_parallel=n, expert_parallel=groups)
        for n, groups in ((8, 1), (8, 8), (6, 6))
    )
    assert sliced.memory.max_context == whole.memory.max_context
    architecture = uneven.inspection.architecture
    assert architecture is not None
    layouts = uneven.machine, replace(uneven.machine, expert_parallel=1)
    most, mean = (Planner(demand(architecture), uneven.weights, m, uneven.service).needed(640, 1) for m in layouts)
    assert most - mean == pytest.approx(uneven.weights.expert_bytes * (2 / 8 - 1 / 6))
    with pytest.raises(UnitError, match="an expert for each group"):
        plan("mixtral-8x7b", "h100-sxm", devices=16, expert_parallel=16)


def test_here_is_the_machine_as_it_was_probed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(SourceError, match="weigh probe"):
        plan("smollm2-135m", "here")
    assert CliRunner().invoke(main, ["probe", "--quick", "--json"]).exit_code == 0
    ours = plan("smollm2-135m", "here")
    assert ours.machine.device.name == "here" and ours.speed.tpot_s.value
    printed = CliRunner().invoke(main, ["fit", "smollm2-135m", "--on", "here", "--json"])
    assert json.loads(printed.stdout)["speed"] == ours.speed.to_json()


def test_an_empty_list_says_why() -> None:
    for what in ("devices", "models"):
        result = CliRunner().invoke(main, [what, "zzz", "--json"])
        assert (result.exit_code, json.loads(result.stdout)) == (0, [])
        assert f"`weigh {what}` without it lists all" in result.stderr
