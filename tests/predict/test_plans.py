"""Do plans follow what machines can and cannot do: layouts, offload, queues, prompts, engines?"""

from __future__ import annotations

import itertools
import json
import math
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.errors import ConfigError, SourceError, UnitError, UnknownNameError, WeighbridgeError
from weighbridge.estimate import Basis
from weighbridge.hardware.instances import instances
from weighbridge.planning import NO_DECODING, Plan, fit
from weighbridge.predict.cost import cost, energy
from weighbridge.predict.demand import demand
from weighbridge.predict.memory import Planner
from weighbridge.predict.speed import prompt_flops_per_s
from weighbridge.rankings import devices_for, models_on

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
        ({"on": "rtx-4090", "weights": "awq-int4-g128", "runtime": "llama.cpp"}, "an encoding that it runs"),
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


@pytest.mark.parametrize("clients", [1, 16, 161, 322, 1024, 5000, 100_000])
@pytest.mark.parametrize("output", [1, 64, 1024])
def test_a_queue_keeps_littles_law(clients: int, output: int) -> None:
    """Answers leave no faster than those that run can give them, and a client waits for its turn."""
    found = plan("llama-3.1-70b", devices=4, prompt_tokens=2048, output_tokens=output, concurrency=clients)
    fast = found.speed
    assert fast.output_tok_s.value and fast.ttft_s.value and fast.tpot_s.value
    whole = fast.ttft_s.value + (output - 1) * fast.tpot_s.value
    assert fast.output_tok_s.value * whole == pytest.approx(clients * output)
    limited = plan("llama-3.1-70b", devices=4, prompt_tokens=2048, output_tokens=output, concurrency=clients,
                   max_sequences=32).speed  # fmt: skip
    assert limited.ttft_s.value and limited.tpot_s.value and limited.output_tok_s.value
    running = min(clients, 32)
    assert limited.output_tok_s.value <= 1.001 * running / limited.tpot_s.value * output / max(1, output - 1)
    if clients > 32:
        assert any("about 32 of the" in note for note in limited.notes)
        assert limited.ttft_s.value > (clients / 32 - 1) * (output - 1) * limited.tpot_s.value


def test_more_clients_never_serve_fewer() -> None:
    rates = [plan("llama-3.1-70b", devices=4, concurrency=n, output_tokens=512).speed.output_tok_s.value or 0
             for n in (1, 4, 16, 64, 256, 1024, 4096)]  # fmt: skip
    assert all(later > 0.98 * earlier for earlier, later in itertools.pairwise(rates))
    assert rates[-1] < 1.3 * rates[-2]  # full


@pytest.mark.parametrize("device", ["core-i9-13900k", "raspberry-pi-5", "apple-m2-max", "rtx-3090"])
def test_a_batch_is_no_faster_than_arithmetic(device: str) -> None:
    for batch in (1, 8, 64, 512):
        found = plan(LLAMA, device, weights="q4_k_m", batch=batch, runtime="llama.cpp")
        peak = prompt_flops_per_s(found.machine.device)
        assert peak is not None and found.inspection.architecture is not None
        flops = batch * demand(found.inspection.architecture).flops_per_token
        assert flops / tpot(found) <= peak


@pytest.mark.parametrize("runtime", ["vllm", "llama.cpp"])
@pytest.mark.parametrize("options", [{"batch": 1}, {"concurrency": 1}])
@pytest.mark.parametrize("model", ["kimi-k2.5", "gpt-oss-120b", LLAMA])
def test_no_prompt_is_faster_than_reading_the_weights(model: str, runtime: str, options: dict[str, int]) -> None:
    for prompt in (1, 64, 512):
        weights = "mxfp4" if model == "gpt-oss-120b" else "bf16"
        found = plan(model, "h200-sxm", weights=weights, prompt_tokens=prompt, runtime=runtime, **options)
        assert found.speed.prefill_tok_s.value and found.machine.device.memory_bytes_per_s
        read = found.weights.dense_bytes / found.machine.device.memory_bytes_per_s
        assert prompt / found.speed.prefill_tok_s.value >= read * 0.999


def test_a_closed_loop_of_llama_cpp_has_the_prompts_of_others() -> None:
    one, loop, batch = (plan(LLAMA, "rtx-4090", weights="q4_k_m", **how) for how in (
        {"concurrency": 1}, {"concurrency": 16}, {"batch": 16}))  # fmt: skip
    assert tpot(one) < tpot(batch) < tpot(loop)
    assert (loop.speed.ttft_s.value or 0) < (batch.speed.ttft_s.value or 0)
    assert any("closed loops were not measured" in note for note in loop.notes)


def test_an_unknown_link_is_assumed_and_told() -> None:
    found = plan("llama-3.1-70b", "trainium2", devices=8, batch=16, runtime="vllm")
    fast = found.speed.tpot_s
    assert fast.basis is Basis.ASSUMED and any("the link" in note for note in found.notes)
    assert fast.low and fast.high and fast.high / fast.low > 3
    assert not any("the link" in note for note in plan("llama-3.1-70b", "trainium2", runtime="vllm").notes)


@pytest.mark.parametrize(
    ("config", "recipe"),
    [
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "awq-int4-g128"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, "gptq-int4-g128"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "nf4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"all": {"weights": {"num_bits": 8, "type": "int"}}}},
         "w8a8"),
        ({"quant_method": "fp8"}, "fp8"), ({}, "bf16"),
    ],
)  # fmt: skip
def test_a_packed_model_is_planned_as_it_is_packed(config: dict[str, Any], recipe: str) -> None:
    described = dict(inspect(LLAMA).checkpoint.config or {}) | ({"quantization_config": config} if config else {})
    found = fit(described, "h100-sxm", alternatives=False)
    assert found.weights.recipe == recipe
    assert found.weights.total_bytes == fit(LLAMA, "h100-sxm", weights=recipe, alternatives=False).weights.total_bytes


def test_an_unknown_way_of_packing_is_refused() -> None:
    for config in ({"quant_method": "quip"}, {"quant_method": "awq", "bits": 3, "group_size": 128}):
        described = dict(inspect(LLAMA).checkpoint.config or {}) | {"quantization_config": config}
        with pytest.raises(ConfigError, match="--weights"):
            fit(described, "h100-sxm")
        assert fit(described, "h100-sxm", weights="fp8", alternatives=False).memory.fits


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"runtime": "llama.cpp", "weights": "nf4"}, "an encoding that it runs"),
        ({"runtime": "tensorrt-llm", "weights": "q4_k_m"}, "an encoding that it runs"),
        ({"runtime": "onnxruntime", "weights": "q4_k_m"}, "an encoding that it runs"),
        ({"runtime": "tensorrt-llm", "on": "mi300x"}, "a card of NVIDIA"),
        ({"model": "phi-3-medium-4k", "devices": 4}, "10 of keys and values"),
        ({"model": "mixtral-8x7b", "devices": 6, "pipeline_parallel": 6, "expert_parallel": 6}, "groups that divide"),
        ({"draft": LLAMA}, "a smaller one"), ({"concurrency": 0}, "the concurrency is 0"),
        ({"threads": 0}, "threads is 0"), ({"max_sequences": 0}, "sequences is 0"),
    ],
)  # fmt: skip
def test_what_no_engine_does_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(WeighbridgeError, match=said):
        plan(**options)


def test_a_model_without_heads_splits_over_devices() -> None:
    assert plan("falcon-mamba-7b", "rtx-3090", devices=2, runtime="vllm").memory.fits is not None


def test_other_layouts_are_offered_only_where_they_are_allowed() -> None:
    many = fit(LLAMA, "rtx-3090", devices=20, runtime="llama.cpp", weights="q4_k_m")
    assert not any("devices" in one.change for one in many.alternatives)  # 40 groups of 32 layers
    assert not any("devices" in one.change for one in fit(LLAMA, "raspberry-pi-5", weights="q4_0").alternatives)
    kept = fit("qwen3-235b-a22b", "h200-sxm", devices=8, data_parallel=8, expert_parallel=8, weights="fp8")
    twice = next(one for one in kept.alternatives if one.change == "16 devices").plan.machine
    assert (twice.data_parallel, twice.expert_parallel) == (8, 8)


def test_instances_are_their_devices_at_their_price() -> None:
    rented, owned = plan("llama-3.1-70b", "p5.48xlarge"), plan("llama-3.1-70b", "h100-sxm", devices=8)
    assert rented.machine.devices == 8 and rented.memory == owned.memory and rented.speed == owned.speed
    price = cost(rented.machine, rented.speed, rented.service)["usd_per_hour"]
    assert price["value"] == pytest.approx(instances()["p5.48xlarge"].price_usd_per_h)
    assert "p5.48xlarge" in price["note"] or any("p5.48xlarge" in note for note in rented.notes)
    assert plan(LLAMA, "p5.48xlarge", devices=2).machine.devices == 16
    with pytest.raises(UnknownNameError):
        plan(LLAMA, "p5.49xlarge")


def test_the_interval_of_what_stays_on_the_card_is_its_own() -> None:
    found = plan("switch-c-2048", "rtx-3070", weights="q4_k_m", cpu_experts=24).memory.total_bytes
    assert found.low is not None and found.value is not None and found.high is not None
    assert 0.8 * found.value < found.low <= found.value <= found.high < 1.3 * found.value


def test_a_cache_that_is_not_described_makes_the_state_no_exact_number() -> None:
    state = plan("deepseek-v3.2", "h200-sxm", devices=8).memory.state_bytes
    assert state.basis is Basis.ASSUMED and state.low == state.value and (state.high or 0) > (state.value or 0)
    assert plan("deepseek-v3", "h200-sxm", devices=8).memory.state_bytes.basis is Basis.EXACT


def test_energy_is_power_over_speed() -> None:
    found = plan(LLAMA, "rtx-4090", batch=8, weights="q4_k_m")
    told, rate, tdp = energy(found.joules), found.speed.output_tok_s.value, found.machine.device.tdp_w
    assert rate and tdp
    assert told["j_per_output_token"]["value"] == pytest.approx(0.7 * tdp / rate)
    grams = told["gco2e_per_million_output_tokens"]["value"]
    assert grams == pytest.approx(0.7 * tdp / rate * 1e6 / 3.6e6 * 1.2 * 445)


def test_the_largest_context_of_a_loop_is_that_of_all_its_clients() -> None:
    found = [plan(LLAMA, "rtx-4090", concurrency=32, context_tokens=n, runtime="vllm").memory.max_context
             for n in (640, 2000, 8000)]  # fmt: skip
    assert found[0] == found[1] == found[2]


def test_rankings_name_the_nearest_where_nothing_fits() -> None:
    devices = devices_for("llama-3.1-405b", weights="fp32")
    sizes = [one.plan.machine.device.memory_bytes or 0 for one in devices if not one.plan.memory.fits]
    assert sizes == sorted(sizes, reverse=True)
    models = [one.plan.inspection.parameters.total for one in models_on("esp32-s3", weights="q4_0")]
    assert models == sorted(models)
    long = {one.name for one in models_on("rtx-4090", weights="q4_k_m", context_tokens=100_000)}
    assert "llama-2-70b" not in long and "llama-3.1-8b" in long


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
