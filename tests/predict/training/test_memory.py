"""Memory of a training step against figures of the papers, and against itself."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from weighbridge.hardware.catalogue import find_device
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.predict.training.layout import Layout, refusal
from weighbridge.predict.training.memory import TrainingMemory, allocated_bytes, packed_bytes, plan_memory
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import trained

H100 = find_device("h100-sxm")
SEVEN = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 4096, "n_layer": 36, "n_head": 32,
         "vocab_size": 50257, "n_positions": 1024}  # fmt: skip
"""7.46 billion parameters."""


def architecture(source: Any) -> Architecture:
    found = inspect(source).architecture
    assert found is not None
    return found


def plan(source: Any, run: Run, device: str = "h100-sxm") -> TrainingMemory:
    model = architecture(source)
    return plan_memory(model, trained(model, run.method), run, find_device(device))


def allocated(source: Any, run: Run) -> float:
    model = architecture(source)
    return allocated_bytes(model, trained(model, run.method), run)


def test_16_bytes_a_parameter() -> None:
    """Llama 2 70B: 68,976,648,192 x 16 B = 1,103.6 GB, and 69 GB on each of 16 devices under ZeRO 3."""
    run = Run(sequence_tokens=4096, global_batch=16)
    assert plan("llama-2-70b", run).states_bytes == 16 * 68_976_648_192
    divided = replace(run, layout=Layout(data=16, zero=3))
    assert plan("llama-2-70b", divided).states_bytes == 68_976_648_192


def test_zero_by_its_paper() -> None:
    """Rajbhandari et al. 2020, figure 1: 7.5B on 64 devices takes 120, 31.4, 16.6 and 1.9 GB, so 16, 4 + 12/64,
    2 + 14/64 and 16/64 bytes a parameter."""
    parameters = inspect(SEVEN).parameters.total
    paper = (120, 31.4, 16.6, 1.88)
    for zero, (share, gigabytes) in enumerate(zip((16, 4 + 12 / 64, 2 + 14 / 64, 16 / 64), paper, strict=True)):
        run = Run(sequence_tokens=1024, global_batch=64, layout=Layout(data=64, zero=zero))
        found = plan(SEVEN, run).states_bytes
        assert found == pytest.approx(parameters * share, abs=4)
        assert found / parameters * 7.5e9 / 1e9 == pytest.approx(gigabytes, rel=0.005)


@pytest.mark.parametrize(
    ("precision", "each"),
    [("fp32", 16), ("bf16", 16), ("fp8", 16), ("bf16-true", 8)],
)
def test_bytes_a_parameter_by_precision(precision: str, each: int) -> None:
    run = Run(sequence_tokens=128, global_batch=1, precision=precision)
    assert plan("gpt2", run).states_bytes == each * inspect("gpt2").parameters.total


def test_70b_under_qlora_needs_more_than_24_gb_and_7b_does_not() -> None:
    run = Run(sequence_tokens=512, global_batch=1, method=Method(name="qlora"), checkpointing="full")
    assert plan("llama-2-70b", run, "rtx-4090").fits is False
    assert plan("llama-2-7b", run, "rtx-4090").fits is True


def test_weights_of_four_bits() -> None:
    """Dettmers et al. 2023: 0.5 bits a parameter for scales, 0.127 when they are quantised again."""
    assert packed_bytes(Method(name="qlora", frozen="nf4")) == (4 + 0.5) / 8
    assert (packed_bytes(Method(name="qlora")) or 0) * 8 - 4 == pytest.approx(0.127, abs=0.001)
    assert packed_bytes(Method()) is None


def test_measured_peaks_of_torchtune() -> None:
    """Its README: Llama 3.2 3B on one A100, 2 x 4096 tokens, 60.0 GiB packed, 51.0 compiled, 42.9 with the loss in
    chunks, 24.9 with checkpointing."""
    run = Run(sequence_tokens=4096, micro_batch=2, global_batch=2, precision="bf16-true")
    fused = replace(run, kernels="fused")
    chunked = replace(fused, loss="chunked")
    found = [allocated("llama-3.2-3b", one) / 2**30
             for one in (run, fused, chunked, replace(chunked, checkpointing="full"))]  # fmt: skip
    assert found == pytest.approx([60.0, 51.0, 42.9, 24.9], rel=0.02)


def test_the_loss_has_three_arrays_of_the_vocabulary() -> None:
    """A vocabulary larger by 1,000 takes 14 bytes of a token each in 16 bits, beside its states; 6 in chunks; and 18
    where two devices share it, half of it each."""
    small = {**SEVEN, "n_layer": 1, "n_embd": 64, "n_head": 2}
    run = Run(sequence_tokens=512, micro_batch=8, global_batch=8)
    shared = replace(run, layout=Layout(tensor=2))
    for one, each in ((run, 14), (replace(run, loss="chunked"), 6), (shared, 18 / 2)):
        sizes = []
        for vocabulary in (50_000, 51_000):
            found = plan({**small, "vocab_size": vocabulary}, one)
            sizes.append(found.activation_bytes.value or 0)
        assert sizes[1] - sizes[0] == pytest.approx(each * 1000 * 4096)


def test_checkpointing_keeps_inputs_and_one_layer() -> None:
    """Full: 2sbh a layer. 96 of them, all of one layer, and the loss is less than either with the other."""
    run = Run(sequence_tokens=2048, global_batch=1, checkpointing="full", loss="chunked")
    found = plan("gpt-3-175b", run).activation_bytes.value or 0
    inputs, one = 96 * 2 * 2048 * 12288, (32 * 12288 + 4 * (96 + 4)) * 2048
    outside = 2048 * (2 * 2 * 12288 + 2 * 4)
    assert found == pytest.approx(max(inputs + one, inputs + outside + 6 * 50257 * 2048))


def test_selective_checkpointing_drops_scores_or_goes_by_operation() -> None:
    """Korthikanti et al. 2022, section 5. Under flash attention it goes by operation: of a layer 2sbh of its input
    stay, 2sbh of attention's result, and half of the 18sbh that its multiplications write.
    """
    run = Run(sequence_tokens=2048, global_batch=1, attention="eager")
    sizes = {(attention, checkpointing): plan("gpt-3-175b", replace(run, attention=attention,
                                                                    checkpointing=checkpointing)).activation_bytes.value
             for attention in ("eager", "flash") for checkpointing in ("none", "selective")}  # fmt: skip
    assert (sizes["eager", "none"] or 0) - (sizes["eager", "selective"] or 0) == 96 * 96 * 2 * 2048 * 2048
    once = 2048 * (2 * 2 * 12288 + 2 * 4 + 14 * 50257)
    layer = 2048 * (2 * (12288 + 12288 + 9 * 12288 / 2) + 4 * 96)
    assert sizes["flash", "selective"] == pytest.approx(96 * layer + once)


def test_the_first_stage_keeps_as_many_micro_batches_as_stages() -> None:
    """Narayanan et al. 2021: p micro-batches of 1/p of the layers, so as much as without stages; with one micro-batch a
    step a stage keeps that of its layers alone."""
    layout = Layout(pipeline=4)
    run = Run(sequence_tokens=1024, global_batch=8, layout=layout, loss="chunked")
    many, one = plan("gpt-3-175b", run), plan("gpt-3-175b", replace(run, global_batch=1))
    alone = plan("gpt-3-175b", replace(run, layout=Layout()))
    assert (many.activation_bytes.value or 0) == pytest.approx(alone.activation_bytes.value or 0, rel=0.02)
    assert (one.activation_bytes.value or 0) < 0.3 * (many.activation_bytes.value or 0)


def test_stages_hold_their_layers_and_their_ends() -> None:
    """The table of tokens stands on the first stage and, where the head is tied to it, on the last."""
    narrow = {**SEVEN, "n_embd": 64, "n_layer": 8, "n_head": 2}
    few, many = {**narrow, "vocab_size": 100}, {**narrow, "vocab_size": 50_000}
    layers = 12 * 64**2 + 13 * 64
    run = Run(sequence_tokens=1024, global_batch=8, layout=Layout(pipeline=4))
    assert plan(few, run).weights_bytes.value == 2 * (2 * layers + 100 * 64 + 1024 * 64)
    assert plan(many, run).weights_bytes.value == 2 * (2 * layers + 50_000 * 64 + 2 * 64)


def test_expert_parallelism_divides_experts_and_nothing_else() -> None:
    model = architecture("mixtral-8x7b")
    routed = sum(group.elements for group in model.groups if group.weight.experts > 1
                 or group.weight.role.startswith("experts_"))  # fmt: skip
    total = inspect("mixtral-8x7b").parameters.total
    assert 0.9 * total < routed < total
    run = Run(sequence_tokens=1024, global_batch=8, layout=Layout(data=8, expert=8, zero=1))
    found = plan("mixtral-8x7b", run)
    assert found.weights_bytes.value == 2 * (total - routed + routed // 8)
    assert found.optimizer_bytes.value == pytest.approx(12 * ((total - routed) / 8 + routed / 8), rel=1e-6)


@pytest.mark.parametrize("place", ["cpu", "nvme"])
def test_offload_moves_what_the_optimizer_keeps(place: str) -> None:
    run = Run(sequence_tokens=512, global_batch=1)
    here = plan("llama-2-7b", run)
    away = plan("llama-2-7b", replace(run, layout=Layout(offload=place)))
    weights_too = plan("llama-2-7b", replace(run, layout=Layout(offload=place, offload_weights=True)))
    moved = here.optimizer_bytes.value
    sizes = {"cpu": away.host_bytes, "nvme": away.nvme_bytes}
    assert moved == 12 * 6_738_415_616 and sizes.pop(place) == moved and set(sizes.values()) == {0}
    assert away.optimizer_bytes.value == 0 and weights_too.weights_bytes.value == 0
    assert weights_too.host_bytes + weights_too.nvme_bytes == 14 * 6_738_415_616
    peaks = [one.per_device_bytes.value or 0 for one in (here, away, weights_too)]
    assert peaks == sorted(peaks, reverse=True) and peaks[0] > peaks[1] > peaks[2]


def test_an_update_that_is_not_fused_works_beside_the_weights() -> None:
    """torch.optim.AdamW with foreach holds the roots of all second moments, 4 bytes a parameter, at the update."""
    run = Run(sequence_tokens=16, global_batch=1)
    foreach = replace(run, optimizer=replace(run.optimizer, is_foreach=True))
    parameters = inspect("llama-2-7b").parameters.total
    assert allocated("llama-2-7b", run) == pytest.approx(16 * parameters, rel=0.01)
    assert allocated("llama-2-7b", foreach) == 20 * parameters


def test_an_unknown_capacity_is_no_answer() -> None:
    run = Run(sequence_tokens=512, global_batch=1)
    model = architecture("gpt2")
    unknown = replace(H100, memory_bytes=None)
    assert plan_memory(model, trained(model, run.method), run, unknown).fits is None


@pytest.mark.parametrize(
    "name", ["t5-3b", "mamba-2.8b", "resnet-50", "deepseek-v3", "rwkv-4-169m", "stable-diffusion-xl"]
)
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
def test_no_model_breaks_it(name: str, method: str) -> None:
    """Every part is a finite number of bytes, the whole no less than what is held all the time."""
    model = architecture(name)
    way = Method(name=method, targets=("convolution",) if name == "resnet-50" else ("all-linear",))
    for layout in (Layout(), Layout(data=8, zero=3), Layout(pipeline=2), Layout(tensor=2)):
        for checkpointing in ("none", "full"):
            run = Run(sequence_tokens=512, global_batch=layout.data * 2, method=way, layout=layout,
                      checkpointing=checkpointing)  # fmt: skip
            if refusal(model, layout, run) is not None:
                continue
            found = plan_memory(model, trained(model, way), run, H100)
            sizes = [part.value for part in found.parts().values()]
            assert all(size is not None and math.isfinite(size) and size >= 0 for size in sizes)
            assert found.states_bytes <= (found.per_device_bytes.value or 0)


@pytest.mark.parametrize(
    ("layout", "read"),
    [
        (Layout(tensor=3), "32 heads"), (Layout(pipeline=5), "32 layers do not divide"),
        (Layout(pipeline=64), "fewer than 64 stages"), (Layout(expert=2), "without experts"),
        (Layout(context=3), "tokens of a sequence do not divide"), (Layout(data=3), "sequences of a step"),
        (Layout(pipeline=2, data=2, zero=2), "ZeRO 2"),
    ],
)  # fmt: skip
def test_refusals_name_the_numbers(layout: Layout, read: str) -> None:
    run = Run(sequence_tokens=2048, global_batch=8, layout=layout)
    assert read in (refusal(architecture("llama-2-7b"), layout, run) or "")
    assert refusal(architecture("llama-2-7b"), Layout(data=4, tensor=2), run) is None


def test_experts_are_refused_where_they_do_not_divide() -> None:
    run = Run(sequence_tokens=2048, global_batch=8)
    mixtral = architecture("mixtral-8x7b")
    assert "8 experts" in (refusal(mixtral, Layout(data=8, expert=3), run) or "")
    assert "groups of experts" in (refusal(mixtral, Layout(data=4, expert=8), run) or "")
