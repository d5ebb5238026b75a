"""What autograd keeps, against hooks on real modules and the formulas of Korthikanti et al. 2022."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.predict.training.activations import kept, layer_input
from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import trained

LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 256, "intermediate_size": 704,
         "num_hidden_layers": 3, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 1000,
         "tie_word_embeddings": False}  # fmt: skip
LORA = Method(name="lora", rank=8)
ALL = replace(LORA, targets=("all-linear",))
RUN = Run(sequence_tokens=64, micro_batch=2, global_batch=2, precision="fp32")
GPT3_WIDTH, GPT3_SCORES = 12288, 2 * 96 * 2048 / 12288


def architecture(source: Any) -> Architecture:
    found = inspect(source).architecture
    assert found is not None
    return found


def per_layer(source: Any, run: Run, layers: bool = True) -> float:
    """Bytes of a token that every layer of it keeps, undivided."""
    model = architecture(source)
    rows = kept(model, trained(model, run.method), run)
    number = 4 if run.precision == "fp32" else 2
    tensor = run.layout.tensor
    between = tensor if run.layout.sequence_parallel else 1
    return sum(number * (row.divided + row.scores * run.sequence_tokens) / tensor + number * row.between / between
               + (4 - number) * row.wide / between + row.masks / tensor + 4 * row.statistics / tensor
               for row in rows if (row.layers is not None) is layers)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "elements"),
    [(Method(), 5130), (LORA, 3674), (ALL, 4674)],
)
def test_a_llama_layer_keeps_what_hooks_saw(method: Method, elements: int) -> None:
    """Elements a token and layer that `saved_tensors_hooks` counted in transformers 5.23 under torch 2.13, in fp32."""
    assert per_layer(LLAMA, replace(RUN, method=method)) == 4 * elements


@pytest.mark.parametrize(("method", "size"), [(Method(), 11304), (LORA, 8392)])
def test_a_llama_layer_in_16_bits_keeps_norms_in_32(method: Method, size: int) -> None:
    """Bytes a token and layer counted the same way, all weights in bf16."""
    assert per_layer(LLAMA, replace(RUN, method=method, precision="bf16-true")) == size


def test_fused_kernels_keep_no_copies() -> None:
    """Norms then keep their input and output alone in 16 bits, the feed-forward no activation: 6H + 2kv + 3I."""
    run = replace(RUN, precision="bf16-true", kernels="fused")
    assert per_layer(LLAMA, run) == 2 * (6 * 256 + 2 * 128 + 3 * 704) + 4 * (8 + 2)


def test_what_stands_outside_the_layers() -> None:
    """The last norm keeps its input, what it divided by and the quotient, the head its input: 3H + 1."""
    assert per_layer(LLAMA, RUN, layers=False) == 4 * (3 * 256 + 1)


def test_a_gate_in_one_tensor_with_its_other_half() -> None:
    """Phi-3 keeps as much as a Llama of the same shape."""
    shape = {**LLAMA, "num_key_value_heads": 8}
    phi = {**shape, "model_type": "phi3", "architectures": ["Phi3ForCausalLM"]}
    assert per_layer(phi, RUN) == per_layer(shape, RUN)


def test_dropout_gives_each_adapter_its_own_input() -> None:
    """q and v share one input without it; with it each has a copy and a mask of a byte."""
    plain, dropped = (per_layer(LLAMA, replace(RUN, method=replace(LORA, dropout=share))) for share in (0.0, 0.1))
    assert dropped - plain == 4 * 256 + 2 * 256


def test_frozen_matrices_of_old_bitsandbytes_keep_their_inputs() -> None:
    """Before 0.44 (its pull request 1270): those of gate, up and down, beside what q and v keep."""
    method = Method(name="qlora", rank=8)
    plain = per_layer(LLAMA, replace(RUN, method=method))
    assert per_layer(LLAMA, replace(RUN, method=replace(method, keeps_inputs=True))) - plain == 4 * (256 + 704)


@pytest.mark.parametrize(
    ("layout", "times"),
    [
        (Layout(), 32),
        (Layout(tensor=8, sequence_parallel=False), 8 + 24 / 8),
        (Layout(tensor=8), 32 / 8),
    ],
)
def test_a_gpt_layer_by_korthikanti(layout: Layout, times: float) -> None:
    """Table 2 without two masks of dropout, of a byte each: 34 is 32, 10 + 24/t is 8 + 24/t, 34/t is 32/t. Scores add
    the result of softmax, 2as; masks and dropped scores would be the other 3as of 5as.
    """
    run = Run(sequence_tokens=2048, global_batch=8, layout=layout, attention="eager")
    statistics = 4 * 4 / layout.tensor / GPT3_WIDTH
    found = per_layer("gpt-3-175b", run) / GPT3_WIDTH - statistics
    assert found == pytest.approx(times + GPT3_SCORES / layout.tensor)


def test_the_input_of_a_layer() -> None:
    """2sbh under full checkpointing: the width of the residual stream, whatever norms queries and keys have."""
    widths = {"gpt-3-175b": 12288, "qwen3-8b": 4096, "deepseek-v3": 7168, "olmo-7b": 4096, "t5-3b": 1024}
    assert {name: layer_input(architecture(name)) for name in widths} == widths
    assert layer_input(architecture("resnet-50")) == 0
