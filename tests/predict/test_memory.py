"""Is a plan's memory what engines logged, and does it fit where it was seen to fit?"""

from __future__ import annotations

import csv
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weighbridge.errors import UnitError
from weighbridge.planning import Plan, fit
from weighbridge.predict.demand import demand
from weighbridge.predict.memory import Planner

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "perf" / "inference_memory.csv"
MIB = 2**20

MODELS = {
    "LLaMA 2 6.74B": "llama-2-7b", "LLaMA 2 13.02B": "llama-2-13b", "LLaMA 2 68.98B": "llama-2-70b",
    "LLaMA 3 8.03B": "llama-3-8b", "LLaMA 6.74B": "llama-7b", "LLaMA 13.02B": "llama-13b",
    "LLaMA 32.53B": "llama-33b", "LLaMA 65.29B": "llama-65b", "Llama 3 70B": "llama-3-70b",
    "Llama 3 8B": "llama-3-8b",
}  # fmt: skip

# llama.cpp's log on one RTX 3090, 2023-12: weights on the card, cache, all of it, in MiB (a few of the rows that
# `test_development_rows` reads where the measurements lie beside the checkout).
LOGGED = [
    ("llama-2-7b", "q4_0", 3577.55, 256.0, 3904.05),
    ("llama-2-7b", "fp16", 12603.02, 256.0, 12929.52),
    ("llama-2-13b", "q4_0", 6936.01, 400.0, 7411.01),
    ("llama-2-70b", "q4_0", 36930.11, 160.0, 37235.11),
    ("llama-65b", "fp16", 124025.03, 1280.0, 125424.04),
]


def llama_cpp(model: str, device: str, weights: str, context: int, devices: int = 1) -> Plan:
    """A plan as the builds of 2023 and 2024 ran: without flash attention."""
    return fit(model, device, devices=devices, weights=weights, runtime="llama.cpp", kv="fp16", prompt_tokens=context,
               output_tokens=0, context_tokens=context, flash_attention=False, alternatives=False)  # fmt: skip


@pytest.mark.parametrize(("model", "weights", "on_card", "cache", "whole"), LOGGED)
def test_parts_are_those_that_llama_cpp_logs(
    model: str, weights: str, on_card: float, cache: float, whole: float
) -> None:
    memory = llama_cpp(model, "rtx-3090", weights, 512).memory
    assert memory.weights_bytes.value is not None
    assert abs((memory.weights_bytes.value - memory.host_bytes) / MIB - on_card) < 0.01
    assert memory.state_bytes.value == cache * MIB
    assert memory.total_bytes.value == pytest.approx(whole * MIB, rel=0.001)
    assert memory.weights_bytes.basis.value == "exact" and memory.state_bytes.basis.value == "exact"


def test_a_context_of_eight_thousand_has_the_logged_buffer() -> None:
    memory = llama_cpp("llama-3-8b", "rtx-3070", "q4_k_m", 8192).memory
    assert memory.host_bytes == pytest.approx(281.81 * MIB, rel=1e-4)
    assert memory.state_bytes.value == 1024 * MIB
    assert memory.activation_bytes.value == pytest.approx(560 * MIB, rel=0.01)


@pytest.mark.skipif(not DATA.exists(), reason="the published measurements are not beside this checkout")
def test_development_rows() -> None:
    with DATA.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["runtime"] == "llama.cpp" and row["model"] in MODELS]
    totals, flash, wrong = [], [], []
    for row in rows:
        context = int(row["n_ctx_or_seqlen"] or 512)
        plan = llama_cpp(MODELS[row["model"]], row["hardware"], row["weight_dtype"], context, int(row["n_devices"]))
        memory, component = plan.memory, row["component"]
        assert memory.weights_bytes.value is not None and memory.total_bytes.value is not None
        if component == "kv_total":
            assert memory.state_bytes.value == float(row["bytes"])
        elif component == "model_file_weights":
            assert memory.weights_bytes.value == pytest.approx(float(row["bytes"]), rel=0.001)  # printed to 0.01 GiB
        elif component == "total_vram":
            totals.append(abs(memory.total_bytes.value / float(row["bytes"]) - 1))
            today = replace(plan.service, flash_attention=True)
            assert plan.inspection.architecture is not None
            planned = Planner(demand(plan.inspection.architecture), plan.weights, plan.machine, today).plan()
            flash.append(abs((planned.total_bytes.value or 0) / float(row["bytes"]) - 1))
        elif component in ("fits", "OOM_boundary") and memory.fits is not (component == "fits"):
            wrong.append(row)
    assert len(totals) > 100 and statistics.median(totals) < 0.01
    assert statistics.quantiles(totals, n=10)[-1] < 0.06
    assert statistics.median(flash) < 0.05 and statistics.quantiles(flash, n=10)[-1] < 0.15  # as plans are by default
    assert not wrong


def test_the_cache_of_llama_2_70b_is_not_eighty_gigabytes() -> None:
    grouped = fit("llama-2-70b", "h100-sxm", devices=4, weights="fp16", context_tokens=4096).memory.state_bytes
    assert (grouped.value, grouped.basis.value) == (1_342_177_280, "exact")
    from weighbridge import inspect

    all_heads = inspect("llama-2-70b", settings={"num_key_value_heads": 64})
    plain = fit(all_heads, "h100-sxm", devices=4, weights="fp16", context_tokens=4096).memory.state_bytes
    assert plain.value == 10_737_418_240


@pytest.mark.parametrize(
    ("model", "weights", "device", "devices", "fits"),
    [
        ("gpt-3-175b", "fp16", "a100-sxm-80", 4, False),
        ("gpt-3-175b", "fp16", "a100-sxm-80", 8, True),
        ("llama-3.1-405b", "fp16", "h100-sxm", 8, False),
        ("llama-3.1-405b", "fp8", "h100-sxm", 8, True),
        ("llama-2-70b", "q4_k_m", "rtx-4090", 1, False),
        ("llama-2-70b", "q4_k_m", "rtx-4090", 2, True),
    ],
)
def test_what_fits_where(model: str, weights: str, device: str, devices: int, fits: bool) -> None:
    assert fit(model, device, devices=devices, weights=weights, alternatives=False).memory.fits is fits


def bytes_of_state(**options: Any) -> float:
    value = fit(options.pop("model", "llama-2-70b"), "h100-sxm", alternatives=False, weights="fp16", **options).memory
    assert value.state_bytes.value is not None
    return value.state_bytes.value


def test_pages_encodings_batches_and_replicas_of_the_cache() -> None:
    one = bytes_of_state(context_tokens=4096)
    assert bytes_of_state(context_tokens=4081, runtime="vllm") == one  # pages of 16
    assert bytes_of_state(context_tokens=4080, runtime="vllm") < one
    assert bytes_of_state(context_tokens=3841, runtime="llama.cpp") == one  # pages of 256
    assert bytes_of_state(context_tokens=4096, batch=3) == 3 * one
    assert bytes_of_state(context_tokens=4096, kv="fp8") == one / 2
    assert bytes_of_state(context_tokens=4096, kv="bf16/fp8") == one * 3 / 4
    assert bytes_of_state(context_tokens=4096, devices=8) == one  # 8 heads on 8 devices
    assert bytes_of_state(context_tokens=4096, devices=16) == 2 * one  # each head on two
    latent = bytes_of_state(model="deepseek-v3", context_tokens=4096)
    assert bytes_of_state(model="deepseek-v3", context_tokens=4096, devices=8) == 8 * latent


def test_windows_stop_growing() -> None:
    short, long = (bytes_of_state(model="gemma-2-27b", context_tokens=n, runtime="vllm") for n in (4096, 8192))
    assert long == short * 3 / 2  # half of the layers have a window of 4,096


def test_the_largest_context_and_batch_fit_and_one_more_does_not() -> None:
    options: dict[str, Any] = {"weights": "q4_k_m", "alternatives": False}
    plan = fit("llama-3-8b", "rtx-3090", **options)
    context, batch = plan.memory.max_context, plan.memory.max_batch
    assert context is not None and batch is not None
    assert fit("llama-3-8b", "rtx-3090", context_tokens=context, **options).memory.fits
    assert not fit("llama-3-8b", "rtx-3090", context_tokens=context + 256, **options).memory.fits
    assert fit("llama-3-8b", "rtx-3090", batch=batch, **options).memory.fits
    assert not fit("llama-3-8b", "rtx-3090", batch=batch + 1, **options).memory.fits


def test_what_a_device_does_not_say_is_unknown() -> None:
    memory = fit("llama-3-8b", "unstated", weights="q4_k_m", alternatives=False).memory
    assert memory.capacity_bytes is None and memory.fits is None and memory.max_context is None


def test_flash_attention_needs_no_scores() -> None:
    """Llama 3 8B at 8,192 tokens: llama.cpp's buffer is 258.5 MiB with it, and was logged as 560 without."""
    asked = {"weights": "q4_k_m", "context_tokens": 8192, "alternatives": False}
    with_it = fit("llama-3-8b", "rtx-3070", **asked).memory  # type: ignore[arg-type]
    assert with_it.activation_bytes.value == 258.5 * MIB
    longer = fit("llama-3.1-8b", "rtx-3090", weights="q4_k_m", context_tokens=131_072, alternatives=False).memory
    assert longer.fits is True
    with pytest.raises(UnitError, match="flash attention"):
        fit("llama-3-8b", "rtx-3070", kv="q8_0", flash_attention=False, **asked)  # type: ignore[arg-type]
