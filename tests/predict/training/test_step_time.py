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
    AT_PEAK,
    PARTS,
    TERMS,
    Fabric,
    fabric,
    factors,
    gathered,
    offloaded,
    range_of,
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
    """4 parts and 8 micro-batches: (4 - 1) / 8 more time, less by the 8 layers of a part that take turns; 9 do not."""
    model, device = described("llama-2-7b"), find_device("a100-sxm-80")
    for batch, waiting in ((32, 3 / 8 / 8), (36, 3 / 9)):
        plain = Run(sequence_tokens=2048, global_batch=batch, layout=Layout(data=16))
        piped = replace(plain, layout=Layout(data=4, pipeline=4))
        one, four = (terms(work(model, run), run, device, fabric(device)) for run in (plain, piped))
        assert one is not None and four is not None
        assert four["matmul"] / one["matmul"] == pytest.approx(1 + waiting)


@pytest.mark.parametrize(("data", "share"), [(64, 0.43), (128, 0.41)])
def test_published_shares_of_llama_3_1_405b(data: int, share: float) -> None:
    """Llama Team 2024 (arXiv:2407.21783), table 4: 8 x 16 devices for each copy, 16 million tokens a step; no row of
    it took part in the fit.
    """
    run = Run(sequence_tokens=8192, global_batch=2048, layout=Layout(data=data, tensor=8, pipeline=16, zero=1))
    found = step_time(described("llama-3.1-405b"), run, find_device("h100-sxm"))
    assert found.mfu.value == pytest.approx(share, rel=0.1)


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


@pytest.mark.parametrize("name", ["h100-sxm", "a100-sxm-80", "b200", "mi355x", "tpu-v4", "rtx-4090"])
def test_no_arithmetic_is_faster_than_the_peak(name: str) -> None:
    """Very wide layers, whose traffic is next to nothing, on one device: there the factors alone decide."""
    device = find_device(name)
    assert min(factors(device)[term] for term in AT_PEAK) >= 1
    for precision in ("bf16", "fp8"):
        run = Run(sequence_tokens=2048, global_batch=64, micro_batch=8, precision=precision)
        found = step_time(described("gpt-3-175b"), run, device)
        assert found.mfu.high is not None and found.mfu.high <= 1 + 1e-9


def test_the_share_is_that_of_the_formats_own_peak() -> None:
    """llm-foundry's table of 8 bits has 30.25% for 598 TFLOP/s on H100, whose peak is 1,979 in 8 bits and 989 in 16."""
    model, device = described(MPT_7B), find_device("h100-sxm")
    run = Run(sequence_tokens=2048, micro_batch=6, global_batch=48, precision="fp8", layout=Layout(data=8, zero=3))
    found = step_time(model, run, device)
    assert found.seconds.value is not None
    assert found.mfu.value == pytest.approx(found.model_flops / (8 * 1978.9e12 * found.seconds.value))
    old = step_time(model, run, find_device("v100"))
    assert any("no rate in fp8" in note for note in old.notes)
    assert not any("no rate" in note for note in found.notes)


def test_states_on_the_host_take_time() -> None:
    """MPT-7B alone, AdamW: 2 + 2 bytes a parameter over 16 GB/s, 2 x 8 + 2 x 4 + 4 + 2 bytes at 25 GB/s, and for disks
    two times 12 bytes at 3 GB/s.
    """
    model = described(MPT_7B)
    run = Run(sequence_tokens=2048, global_batch=8)
    cpu, nvme = (replace(run, layout=Layout(offload=place)) for place in ("cpu", "nvme"))
    asked, size = work(model, run), count(model).total
    assert offloaded(asked, run) == 0
    assert offloaded(asked, cpu) == pytest.approx(size * (4 / 16e9 + 30 / 25e9))
    assert offloaded(asked, nvme) == pytest.approx(size * (4 / 16e9 + 30 / 25e9 + 24 / 3e9))
    half = replace(cpu, layout=Layout(data=2, zero=1, offload="cpu"))
    assert offloaded(asked, half) == pytest.approx(offloaded(asked, cpu) / 2)
    device = find_device("a100-sxm-80")
    here, there = (step_time(model, each, device) for each in (run, cpu))
    assert there.parts["update"] == 0 and here.parts["offload"] == 0
    assert there.seconds.value is not None and here.seconds.value is not None
    assert there.seconds.value == pytest.approx(here.seconds.value - here.parts["update"] + there.parts["offload"])


def test_only_what_was_measured_has_the_narrow_interval() -> None:
    run = Run(sequence_tokens=2048, global_batch=512, layout=Layout(data=512, zero=3))
    assert range_of(run) == "data_parallel"
    for other in (replace(run, method=Method(name="qlora")), replace(run, precision="fp8"),
                  replace(run, layout=Layout(data=1024, zero=3), global_batch=1024),
                  replace(run, layout=Layout(data=512, zero=3, offload="cpu")),
                  replace(run, layout=Layout(data=256, tensor=2, zero=3))):  # fmt: skip
        assert range_of(other) == "others"
