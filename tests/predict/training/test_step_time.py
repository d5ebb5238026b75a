"""The time of a step: exchange by hand, terms by hand, published steps, and what must grow with what."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from weighbridge.hardware.catalogue import find_device
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.predict.counts import count
from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.step_time import (
    PARTS,
    TERMS,
    Fabric,
    fabric,
    gathered,
    reduced,
    step_time,
    terms,
    work,
)

MPT_7B = {"model_type": "mpt", "architectures": ["MPTForCausalLM"], "d_model": 4096, "n_layers": 32, "n_heads": 32,
          "vocab_size": 50368, "max_seq_len": 2048}  # fmt: skip


def described(source: Any) -> Architecture:
    found = inspect(source).architecture
    assert isinstance(found, Architecture)
    return found


def test_a_ring_moves_what_the_formula_says() -> None:
    """8 devices, 1 GB each, 100 GB/s: 2 x 7/8 x 1 GB / 100 GB/s = 17.5 ms; gathering takes half of it."""
    assert reduced(1e9, 8, 100e9) == pytest.approx(0.0175)
    assert gathered(1e9, 8, 100e9) == pytest.approx(0.00875)
    assert reduced(1e9, 1, 100e9) == 0.0


def test_rings_use_the_link_within_a_computer_and_all_its_ports_beyond() -> None:
    joined = Fabric(node_devices=8, link_bytes_per_s=450e9, network_bytes_per_s=50e9)
    assert joined.bytes_per_s(8) == 450e9
    assert joined.bytes_per_s(16) == 400e9  # eight ports of 50
    assert joined.bytes_per_s(2, 8) == 50e9  # one member in each computer
    assert joined.bytes_per_s(4, 4) == 100e9
    assert joined.bytes_per_s(1) == 450e9


def test_what_joins_devices_is_assumed_aloud() -> None:
    found = fabric(find_device("h100-sxm"))
    assert (found.node_devices, found.network_bytes_per_s) == (8, 50e9)
    assert any("assumed" in note for note in found.notes)
    assert fabric(find_device("h100-sxm"), 25e9).notes == ()
    assert fabric(find_device("gb200")).node_devices == 72


def test_terms_of_a_step_by_hand() -> None:
    """MPT-7B, 48 sequences of 2,048 on 8 H100: 6 FLOPs for each multiplied parameter, at 989.4 TFLOP/s."""
    model, device = described(MPT_7B), find_device("h100-sxm")
    run = Run(sequence_tokens=2048, micro_batch=6, global_batch=48, layout=Layout(data=8, zero=3))
    found = terms(work(model, run), run, device, fabric(device))
    assert found is not None and set(found) == set(TERMS)
    tokens = 48 * 2048 / 8
    assert found["matmul"] == pytest.approx(6 * count(model).matmul * tokens / 989.4e12, rel=1e-9)
    assert found["attention"] == pytest.approx(12 * 4096 * 32 * (2049 / 2) * tokens / 989.4e12, rel=1e-9)
    weights = 2 * count(model).total  # two gathers and one scatter, 7/8 of them over each link
    assert found["data"] == pytest.approx(3 * weights * 7 / 8 / 450e9, rel=1e-9)
    assert (found["tensor"], found["again"], found["matmul_fp8"]) == (0.0, 0.0, 0.0)


def test_adapters_spare_the_gradients_of_frozen_weights() -> None:
    """The backward pass of LoRA is about half of a full one: 4 of 6 FLOPs a parameter."""
    model = described("llama-2-70b")
    run = Run(sequence_tokens=2048, global_batch=8, layout=Layout(data=8, zero=3))
    full, lora = work(model, run), work(model, replace(run, method=Method(name="lora", rank=16)))
    assert lora.matmul_flops / full.matmul_flops == pytest.approx(2 / 3, abs=0.01)
    assert lora.trainable < full.trainable / 1000


def test_a_pipeline_waits_for_its_first_and_last_parts() -> None:
    """4 parts and 8 micro-batches: (4 - 1) / 8 more time."""
    model, device = described("llama-2-7b"), find_device("a100-sxm-80")
    plain = Run(sequence_tokens=2048, global_batch=32, layout=Layout(data=16))
    piped = replace(plain, layout=Layout(data=4, pipeline=4))
    one, four = (terms(work(model, run), run, device, fabric(device)) for run in (plain, piped))
    assert one is not None and four is not None
    assert four["matmul"] / one["matmul"] == pytest.approx(1 + 3 / 8)


@pytest.mark.parametrize(
    ("device", "micro", "devices", "tokens_per_s_per_device"),
    [("h100-sxm", 6, 8, 10643), ("h100-sxm", 6, 128, 10475)],
)
def test_published_steps_of_mpt_7b(device: str, micro: int, devices: int, tokens_per_s_per_device: int) -> None:
    """llm-foundry scripts/train/benchmarking/README.md, tables of H100 80GB BF16."""
    run = Run(sequence_tokens=2048, micro_batch=micro, global_batch=micro * devices,
              layout=Layout(data=devices, zero=3))  # fmt: skip
    found = step_time(described(MPT_7B), run, find_device(device))
    assert found.tok_s.value == pytest.approx(tokens_per_s_per_device * devices, rel=0.1)
    assert found.tok_s.low is not None and found.tok_s.high is not None
    assert found.tok_s.low < tokens_per_s_per_device * devices < found.tok_s.high


def test_parts_add_up_and_no_share_passes_the_peak() -> None:
    model = described("llama-3-8b")
    for name in ("h100-sxm", "a100-sxm-80", "b200", "mi300x", "v100", "tpu-v4"):
        for precision in ("bf16", "fp8"):
            run = Run(sequence_tokens=4096, global_batch=64, precision=precision, layout=Layout(data=64, zero=3))
            found = step_time(model, run, find_device(name))
            assert set(found.parts) == set(PARTS)
            assert found.seconds.value == pytest.approx(sum(found.parts.values()))
            assert found.mfu.value is not None and found.seconds.value is not None
            peak = find_device(name).peak_flops_per_s(precision)
            assert peak is not None
            assert found.model_flops / 64 / peak < found.seconds.value


def test_devices_that_nobody_measured_have_wider_intervals_and_say_so() -> None:
    model = described("llama-3-8b")
    run = Run(sequence_tokens=4096, global_batch=64, layout=Layout(data=64, zero=3))
    known, other = (step_time(model, run, find_device(name)) for name in ("h100-sxm", "v100"))

    def width(found: object) -> float:
        seconds = found.seconds  # type: ignore[attr-defined]
        return math.log(seconds.high / seconds.low)

    assert width(other) > width(known)
    assert any("measured" in note for note in other.notes)


def test_a_device_without_rates_has_no_time() -> None:
    device = replace(find_device("h100-sxm"), memory_bytes_per_s=None)
    run = Run(sequence_tokens=4096, global_batch=8, layout=Layout(data=8, zero=3))
    found = step_time(described("llama-3-8b"), run, device)
    assert found.seconds.value is None and found.seconds.note
    assert found.mfu.value is None


def test_slower_networks_and_more_exchange_take_longer() -> None:
    model, device = described("llama-2-70b"), find_device("h100-sxm")
    run = Run(sequence_tokens=4096, global_batch=256, layout=Layout(data=256, zero=3))
    fast, slow = (step_time(model, run, device, network_bytes_per_s=rate).seconds.value for rate in (50e9, 5e9))
    assert fast is not None and slow is not None and slow > fast
    again = step_time(model, replace(run, checkpointing="full"), device).seconds.value
    assert again is not None and again > fast
