"""Does predicted speed follow physics, and is it as near to measurements as the table of errors says?"""

from __future__ import annotations

import csv
import math
import re
import statistics
from pathlib import Path

import numpy as np
import pytest

from weighbridge.hardware.catalogue import find_device
from weighbridge.inspection import inspect
from weighbridge.model import recipes
from weighbridge.planning import Plan, fit
from weighbridge.predict import speed, steps
from weighbridge.predict.demand import demand, stored_weights

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "perf" / "inference.csv"

# Published: tokens a second of one sequence, llama.cpp of 2024-05 (XiongjieDai, GPU-Benchmarks-on-LLM-Inference).
MEASURED = [
    ("llama-3-8b", "rtx-3090", "q4_k_m", 512, 115.42), ("llama-3-8b", "rtx-3090", "fp16", 4096, 44.79),
    ("llama-3-8b", "rtx-4000-ada", "fp16", 1024, 20.85), ("llama-3-70b", "rtx-a6000", "q4_k_m", 1024, 14.58),
    ("llama-3-70b", "a100-pcie-80", "q4_k_m", 512, 22.31), ("llama-3-8b", "h100-pcie", "q4_k_m", 4096, 136.06),
    ("llama-3-70b", "apple-m2-ultra", "fp16", 4096, 4.48), ("llama-3-8b", "apple-m1-max", "q4_k_m", 1024, 34.49),
]  # fmt: skip


def plan(model: str, device: str, **options: object) -> Plan:
    return fit(model, device, alternatives=False, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("model", "device", "weights", "output", "measured"), MEASURED)
def test_decoding_is_inside_the_interval(model: str, device: str, weights: str, output: int, measured: float) -> None:
    options = {"weights": weights, "runtime": "llama.cpp", "prompt_tokens": 1, "output_tokens": output}
    found = plan(model, device, **options).speed.decode_tok_s
    assert found.low is not None and found.high is not None and found.value is not None
    assert found.low <= measured <= found.high
    assert abs(found.value / measured - 1) < 0.25


@pytest.mark.skipif(not DATA.exists(), reason="the published measurements are not beside this checkout")
def test_development_rows_of_decoding() -> None:
    names = {"Llama 3 8B": "llama-3-8b", "Llama 3 70B": "llama-3-70b"}
    with DATA.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "decode_tok_s" and row["model"] in names
                and row["runtime"] == "llama.cpp" and "QA:" not in row["notes"]]  # fmt: skip
    errors = []
    for row in rows[::5]:
        found = plan(names[row["model"]], row["hardware_key"], devices=int(row["n_devices"]), runtime="llama.cpp",
                     weights=row["weight_dtype"], prompt_tokens=1, output_tokens=int(row["output_len"]))  # fmt: skip
        assert found.speed.decode_tok_s.value is not None
        errors.append(abs(found.speed.decode_tok_s.value / float(row["value"]) - 1))
    assert len(errors) > 30 and statistics.median(errors) < 0.06


def test_one_user_waits_for_memory_and_not_for_arithmetic() -> None:
    assert plan("llama-3-8b", "rtx-3090", weights="q4_k_m").speed.bound_by == "bandwidth"
    for model, device in (("llama-3-8b", "rtx-3090"), ("llama-3-70b", "a100-pcie-80")):
        found = plan(model, device, weights="fp16", runtime="llama.cpp")
        bandwidth = find_device(device).memory_bytes_per_s
        assert bandwidth is not None and found.speed.decode_tok_s.high is not None
        assert found.speed.decode_tok_s.high <= 1.05 * bandwidth / found.weights.dense_bytes


def test_more_sequences_give_more_output_and_slower_answers() -> None:
    options = {"devices": 8, "weights": "fp8", "runtime": "vllm", "prompt_tokens": 1024, "output_tokens": 1024}
    plans = [plan("deepseek-r1", "h200-sxm", concurrency=n, **options) for n in (1, 8, 64, 256)]
    output = [p.speed.output_tok_s.value or 0 for p in plans]
    waiting = [p.speed.tpot_s.value or 0 for p in plans]
    first = [p.speed.ttft_s.value or 0 for p in plans]
    assert output == sorted(output) and waiting == sorted(waiting) and first == sorted(first)


def test_experts_are_touched_as_the_batch_grows() -> None:
    model = inspect("mixtral-8x7b").architecture
    assert model is not None
    need = demand(model)
    assert need.num_experts == 8 and need.experts_per_token == 2
    shares = [float(steps.touched_share(need, n)) for n in (1, 2, 8, 1000)]
    assert shares[0] == pytest.approx(0.25) and shares == sorted(shares) and shares[-1] == pytest.approx(1.0)
    dense = inspect("llama-3-8b").architecture
    assert dense is not None and steps.touched_share(demand(dense), 8) == 0


def test_terms_take_arrays_and_give_what_single_calls_give() -> None:
    model = inspect("mixtral-8x7b").architecture
    assert model is not None
    need, stored = demand(model), stored_weights(model, recipes.find("fp8"))
    batches = np.array([1.0, 4.0, 32.0, 200.0])
    rates = steps.Rates(bytes_per_s=3.35e12, flops_per_s=1979e12, link_bytes_per_s=450e9, devices=2, tensor=2)
    together = steps.served_step(need, stored, rates, running=batches, prompt=1024.0, output=256.0,
                                 cache_bytes_per_element=2.0)  # fmt: skip
    for place, batch in enumerate(batches):
        alone = steps.served_step(need, stored, rates, running=float(batch), prompt=1024.0, output=256.0,
                                  cache_bytes_per_element=2.0)  # fmt: skip
        assert [float(np.broadcast_to(term, batches.shape)[place]) for term in together] == pytest.approx(
            [float(term) for term in alone]
        )


def test_a_pair_that_nobody_measured_has_a_wider_interval_and_says_so() -> None:
    known, unknown = (plan("llama-3-8b", name, weights="q4_k_m") for name in ("rtx-3090", "rtx-5090"))

    def width(found: Plan) -> float:
        estimate = found.speed.decode_tok_s
        assert estimate.low and estimate.high
        return math.log(estimate.high / estimate.low)

    assert width(unknown) > width(known) + 0.8
    assert any("no data for llama.cpp on NVIDIA GeForce RTX 5090" in note for note in unknown.notes)
    assert not any("no data" in note for note in known.notes)


def test_unknown_rates_are_unknown() -> None:
    found = plan("llama-3-8b", "unstated", weights="q4_k_m").speed
    assert found.decode_tok_s.value is None and "bandwidth" in found.decode_tok_s.note and found.bound_by is None


def test_every_factor_and_residual_is_there() -> None:
    fits = speed.fits()
    assert set(fits["served_step"]) == set(steps.SERVED_STEP)
    for table in fits["first_token"].values():
        assert set(table) == set(steps.FIRST_TOKEN)
    for kind in speed.CLASSES:
        assert set(fits["decode"][kind]) == set(steps.DECODE) and set(fits["prefill"][kind]) == set(steps.PREFILL)
        for title in ("decode", "prefill"):
            assert fits["residuals"][title][kind]["low"] < 0 < fits["residuals"][title][kind]["high"]
    for names in (*fits["measured"]["served"].values(), *fits["measured"]["decode"].values()):
        for name in names:
            assert find_device(name).name == name


def test_the_table_of_errors_is_that_of_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "accuracy.md").read_text(encoding="utf-8")
    metrics = (
        "time per output token|time to first token|a whole request|latency of a static batch|decoding a token|a prompt"
    )
    for name in ("errors", "strangers"):
        table = page.split(f"<!-- fitted: {name} -->")[1].split("<!-- end fitted -->")[0]
        assert len(re.findall(rf"(?m)^\| ({metrics}) \|.*$", table)) == 4 + 2 * len(speed.CLASSES)


def test_a_whole_request_is_its_first_token_and_the_others() -> None:
    for options in ({"concurrency": 32}, {"batch": 4}, {"runtime": "llama.cpp", "weights": "q4_k_m"}):
        found = plan("llama-3.1-8b", "h100-sxm", output_tokens=101, **options).speed
        assert found.request_s.value == pytest.approx((found.ttft_s.value or 0) + 100 * (found.tpot_s.value or 0))
    served = plan("llama-3.1-8b", "h100-sxm", output_tokens=101, concurrency=32).speed
    whole, first, each = served.request_s, served.ttft_s, served.tpot_s
    assert whole.low and whole.high and first.low and first.high and each.low and each.high
    assert math.log(whole.high / whole.low) < math.log((first.high + 100 * each.high) / (first.low + 100 * each.low))


def test_heads_that_share_a_cache_may_each_read_it() -> None:
    # 80 layers, 8 heads of keys and values of 128 elements, 64 query heads: 7 further readings of 2 x 80 x 8 x 128.
    need = demand(inspect("llama-2-70b").architecture)  # type: ignore[arg-type]
    assert steps.reread_bytes(need, 1000, 1, 2.0) == 7 * 2 * 80 * 8 * 128 * 1000 * 2
    assert steps.reread_bytes(need, 1000, 8, 2.0) == 7 * 2 * 80 * 8 * 128 * 1000 * 2 / 8
    # 16 devices: 4 query heads on each, which holds a whole head of the cache.
    assert steps.reread_bytes(need, 1000, 16, 2.0) == 3 * 2 * 80 * 128 * 1000 * 2
    alone = demand(inspect("llama-2-7b").architecture)  # type: ignore[arg-type]
    assert steps.reread_bytes(alone, 1000, 1, 2.0) == 0
