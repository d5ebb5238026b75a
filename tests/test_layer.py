"""Single layers: the arithmetic of the articles, each formula evaluated against the block that it describes."""

from __future__ import annotations

import ast
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weighbridge.errors import UnitError, UnknownNameError, WeighbridgeError
from weighbridge.layer import EXAMPLES, count_layer


def evaluate(formula: str) -> int:
    """The value of a formula of whole numbers, products, sums and exact quotients."""
    return int(
        eval(compile(ast.parse(formula.replace("/", "//"), mode="eval"), "formula", "eval"), {"__builtins__": {}})
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("linear:100x50", 5_050),
        ("linear:100x50:nobias", 5_000),
        ("neuron:3", 4),
        ("conv:7x7:3:64", 9_408),
        ("conv:7x7:3:64:bias", 9_472),
        ("conv:3x3:64:128:groups=32", 3 * 3 * 2 * 128),
        ("conv:3x3:64:64:groups=64", 576),
        ("conv:3:8:16", 384),
        ("embedding:50257x12288", 617_558_016),
        ("attention:768:12", 2_359_296),
        ("attention:512:8", 1_048_576),
        ("attention:768:12:bias", 2_359_296 + 4 * 768),
        ("attention:8192:64:kv=8", 150_994_944),
        ("attention:640:4:kv=1:head=256", 640 * 4 * 256 * 2 + 2 * 640 * 256),
        ("mlp:8192:28672:gated", 704_643_072),
        ("mlp:768", 2 * 768 * 3072),
        ("mlp:768:3072:bias", 4_722_432),
        ("moe:4096:14336:8:2", 1_409_318_912),
        ("layernorm:768", 1_536),
        ("layernorm:768:nobias", 768),
        ("rmsnorm:4096", 4_096),
        ("batchnorm:64", 128),
        ("rnn:10:20", 10 * 20 + 20 * 20 + 2 * 20),
        ("gru:128:256", 3 * (128 * 256 + 256 * 256 + 2 * 256)),
        ("lstm:128:256", 395_264),
        ("lstm:128:256:biases=1", 394_240),
        ("lstm:128:256:layers=2", 395_264 + 4 * (2 * 256 * 256 + 2 * 256)),
        ("gru:128:256:layers=2:bidirectional", 1_775_616),
        ("relu", 0),
        ("gelu:4096", 0),
        ("prelu", 1),
        ("prelu:64", 64),
    ],
)
def test_counts_are_exact_and_the_formula_gives_them(spec: str, expected: int) -> None:
    layer = count_layer(spec)
    assert layer.parameters == expected == evaluate(layer.formula)
    assert layer.parameters in (layer.with_bias, layer.without_bias)


@pytest.mark.parametrize("example", sorted({text for texts in EXAMPLES.values() for text in texts.split(" or ")}))
def test_every_example_works(example: str) -> None:
    layer = count_layer(example)
    assert evaluate(layer.formula) == layer.parameters == layer.to_json()["parameters"]


def test_what_a_token_uses() -> None:
    moe = count_layer("moe:4096:14336:8:2")
    assert moe.active_per_token == 2 * 3 * 4096 * 14336 + 4096 * 8
    assert moe.flops_per_token == 2 * moe.active_per_token
    assert count_layer("embedding:10x20").flops_per_token == 0


def test_batch_statistics_are_buffers() -> None:
    layer = count_layer("batchnorm:64")
    assert (layer.parameters, layer.buffers) == (128, 129)


def test_normalisation_in_resnet_50_is_not_under_a_thousandth() -> None:
    """An article claims normalisation to be under 0.1% of a model; ResNet-50 has 53,120 of 25,557,032."""
    widths = [64]
    for blocks, width in ((3, 64), (4, 128), (6, 256), (3, 512)):
        widths += [width, width, 4 * width] * blocks + [4 * width]
    norms = sum(count_layer(f"batchnorm:{width}").parameters for width in widths)
    assert norms == 53_120 and norms / 25_557_032 > 0.002


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_a_recurrent_layer_costs_the_same_at_every_length(inputs: int, hidden: int) -> None:
    """Its weights are shared over steps: nothing in the specification gives a length, and gates scale it."""
    rnn, lstm = count_layer(f"rnn:{inputs}:{hidden}").parameters, count_layer(f"lstm:{inputs}:{hidden}").parameters
    assert lstm == 4 * rnn == 4 * hidden * (inputs + hidden + 2)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("liner:3x4", UnknownNameError),
        ("linear", UnitError),
        ("linear:3", UnitError),
        ("linear:0x4", UnitError),
        ("linear:3xGB", UnitError),
        ("linear:1.5x2", UnitError),
        ("conv:7x7:3", UnitError),
        ("conv:3x3:6:8:groups=4", UnitError),
        ("attention:100:7", UnitError),
        ("attention:128:8:kv=3", UnitError),
        ("moe:8:8:2:3", UnitError),
        ("lstm:8:8:biases=3", UnitError),
        ("linear:2x3:color=4", UnknownNameError),
        ("linear:10x5:groups=3", UnknownNameError),
        ("attention:768:12:biases=1", UnknownNameError),
        ("embedding:3x4:bias", UnknownNameError),
        ("relu:4:5:6", UnitError),
        ("neuron:3:7:9", UnitError),
        ("conv:3x3:3:8:2", UnitError),
        ("linear:" + "9" * 300, UnitError),
        ("", UnknownNameError),
    ],
)
def test_unusable_specifications_say_what_to_write(spec: str, error: type[WeighbridgeError]) -> None:
    with pytest.raises(error) as caught:
        count_layer(spec)
    assert caught.value.exit_code == 2


@given(st.text(max_size=40))
def test_any_text_is_answered_or_refused(text: str) -> None:
    with contextlib.suppress(WeighbridgeError):
        count_layer(text)
