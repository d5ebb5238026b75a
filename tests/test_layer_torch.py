"""Does `count_layer` agree with torch.nn, tensor by tensor?

Each specification stands beside the module that it means. Compared are the learned elements, the names and shapes
(where torch does not pack several matrices into one), the buffers, the count without biases and, where one pass of the
module applies each weight once a token, the FLOPs that torch counts.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

import pytest

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.layer import LayerCount, count_layer
from weighbridge.model.blocks.activation import FIXED

pytestmark = pytest.mark.torch

Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def torch() -> Any:
    """torch, where it is installed."""
    return pytest.importorskip("torch")


def parameters(module: Any) -> Shapes:
    """Names and shapes of what the module learns."""
    return {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}


def buffers(module: Any) -> Shapes:
    """Names and shapes of what the module stores beside it."""
    return {name: tuple(buffer.shape) for name, buffer in module.named_buffers()}


def elements(shapes: Shapes) -> int:
    """Elements of all of them."""
    return sum(math.prod(shape) for shape in shapes.values())


def check_totals(counted: LayerCount, module: Any) -> None:
    """Counts that do not depend on names."""
    learned = elements(parameters(module))
    assert counted.parameters == counted.active_per_token == learned
    assert counted.buffers == elements(buffers(module))
    biases = {name: shape for name, shape in parameters(module).items() if "bias" in name}
    if biases:
        assert counted.with_bias == learned
        assert counted.without_bias == learned - elements(biases)
    else:
        assert counted.without_bias == learned
    assert sum(math.prod(shape) for _, shape in counted.tensors) == learned + counted.buffers
    # The formula is the count with its numbers filled in.
    assert eval(counted.formula.replace("/", "//"), {"__builtins__": {}}) == learned


def check(counted: LayerCount, module: Any) -> None:
    """Totals, and every tensor by name, in torch's order."""
    check_totals(counted, module)
    assert list(counted.tensors) == list((parameters(module) | buffers(module)).items())


def flops(torch: Any, module: Any, *inputs: Any) -> int:
    """FLOPs that torch counts for one pass."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        module(*inputs)
    return int(counter.get_total_flops())


def bias_word(bias: bool) -> str:
    """The option that says whether there are biases."""
    return "bias" if bias else "nobias"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("inputs", "outputs"), [(100, 50), (1, 1), (7, 1), (1, 9)])
def test_linear(torch: Any, inputs: int, outputs: int, bias: bool) -> None:
    module = torch.nn.Linear(inputs, outputs, bias=bias)
    for spec in (f"linear:{inputs}x{outputs}", f"linear:{inputs}:{outputs}"):
        counted = count_layer(f"{spec}:{bias_word(bias)}")
        check(counted, module)
        assert counted.flops_per_token == flops(torch, module, torch.zeros(1, inputs))
    if bias:
        check(count_layer(f"linear:{inputs}x{outputs}"), module)  # torch's default and ours


@pytest.mark.parametrize("bias", [True, False])
def test_neuron(torch: Any, bias: bool) -> None:
    check(count_layer(f"neuron:3:{bias_word(bias)}"), torch.nn.Linear(3, 1, bias=bias))


KERNELS = ((3,), (1,), (3, 3), (7, 5), (1, 1), (3, 3, 3), (2, 3, 4))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(3, 64, 1), (12, 8, 4), (6, 6, 6), (6, 18, 6), (5, 1, 1)])
def test_convolution(torch: Any, kernel: tuple[int, ...], inputs: int, outputs: int, groups: int, bias: bool) -> None:
    kind = getattr(torch.nn, f"Conv{len(kernel)}d")
    module = kind(inputs, outputs, kernel, groups=groups, bias=bias)
    spec = f"conv:{'x'.join(map(str, kernel))}:{inputs}:{outputs}:groups={groups}:{bias_word(bias)}"
    counted = count_layer(spec)
    check(counted, module)
    # One output position: an input of the kernel's own size.
    assert counted.flops_per_token == flops(torch, module, torch.zeros(1, inputs, *kernel))
    if groups == 1:
        check(count_layer(spec.replace(":groups=1", "")), module)


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 4), (4, 3)])
def test_groups_divide_both_channel_counts(torch: Any, inputs: int, outputs: int) -> None:
    with pytest.raises(ValueError, match="divisible by groups"):
        torch.nn.Conv2d(inputs, outputs, 3, groups=2)
    with pytest.raises(UnitError, match="groups that divide both"):
        count_layer(f"conv:3x3:{inputs}:{outputs}:groups=2")


@pytest.mark.parametrize(("rows", "width"), [(50257, 768), (1, 1), (7, 3)])
def test_embedding(torch: Any, rows: int, width: int) -> None:
    module = torch.nn.Embedding(rows, width, device="meta")
    counted = count_layer(f"embedding:{rows}x{width}")
    check(counted, module)
    assert counted.flops_per_token == 0


@pytest.mark.parametrize("width", [1, 768])
def test_norms(torch: Any, width: int) -> None:
    check(count_layer(f"layernorm:{width}"), torch.nn.LayerNorm(width))
    check(count_layer(f"layernorm:{width}:nobias"), torch.nn.LayerNorm(width, bias=False))
    check(count_layer(f"rmsnorm:{width}"), torch.nn.RMSNorm(width))
    assert count_layer(f"rmsnorm:{width}").with_bias == width
    with pytest.raises(UnknownNameError, match="no option of rmsnorm"):
        count_layer(f"rmsnorm:{width}:bias")  # torch's has none to ask for either


@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("width", [1, 64])
def test_batch_norm(torch: Any, axes: int, width: int) -> None:
    module = getattr(torch.nn, f"BatchNorm{axes}d")(width)
    counted = count_layer(f"batchnorm:{width}")
    check(counted, module)
    assert counted.parameters == 2 * width and counted.buffers == 2 * width + 1
    module.register_parameter("bias", None)  # what torch 2.13 does for `bias=False`
    check(count_layer(f"batchnorm:{width}:nobias"), module)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("bias", [True, False])
def test_recurrent(torch: Any, cell: str, layers: int, both: bool, bias: bool) -> None:
    inputs, hidden = 12, 20
    module = getattr(torch.nn, cell.upper())(inputs, hidden, num_layers=layers, bidirectional=both, bias=bias)
    spec = f"{cell}:{inputs}:{hidden}:layers={layers}:{bias_word(bias)}{':bidirectional' if both else ''}"
    counted = count_layer(spec)
    check(counted, module)
    # Every step multiplies with every matrix once.
    matrices = sum(math.prod(shape) for shape in parameters(module).values() if len(shape) == 2)
    assert counted.flops_per_token == 2 * matrices


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_recurrent_defaults_are_those_of_torch(torch: Any, cell: str) -> None:
    check(count_layer(f"{cell}:5:7"), getattr(torch.nn, cell.upper())(5, 7))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("width", "heads"), [(768, 12), (8, 8), (6, 1)])
def test_attention_is_torchs_multi_head_attention(torch: Any, width: int, heads: int, bias: bool) -> None:
    module = torch.nn.MultiheadAttention(width, heads, bias=bias)
    counted = count_layer(f"attention:{width}:{heads}:{bias_word(bias)}")
    check_totals(counted, module)
    ours, theirs = dict(counted.tensors), parameters(module)
    # torch packs queries, keys and values into one matrix, one below the other, and their biases likewise.
    suffixes = ("weight", "bias") if bias else ("weight",)
    assert set(ours) == {f"{part}_proj.{suffix}" for part in "qkvo" for suffix in suffixes}
    for suffix in suffixes:
        rows = sum(ours[f"{part}_proj.{suffix}"][0] for part in "qkv")
        assert (rows, *ours[f"q_proj.{suffix}"][1:]) == theirs[f"in_proj_{suffix}"]
        assert ours[f"o_proj.{suffix}"] == theirs[f"out_proj.{suffix}"]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kv", "head"), [(1, 8), (2, 8), (4, 8), (8, 8), (2, 20)])
def test_grouped_attention_is_four_linear_maps(torch: Any, kv: int, head: int, bias: bool) -> None:
    module = torch.nn.ModuleDict({
        "q_proj": torch.nn.Linear(64, 8 * head, bias=bias), "k_proj": torch.nn.Linear(64, kv * head, bias=bias),
        "v_proj": torch.nn.Linear(64, kv * head, bias=bias), "o_proj": torch.nn.Linear(8 * head, 64, bias=bias),
    })  # fmt: skip
    counted = count_layer(f"attention:64:8:kv={kv}:head={head}:{bias_word(bias)}")
    check(counted, module)
    spent = sum(flops(torch, linear, torch.zeros(1, linear.in_features)) for linear in module.values())
    assert counted.flops_per_token == spent


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_feed_forward_is_linear_maps(torch: Any, gated: bool, bias: bool) -> None:
    names = (["gate_proj"] if gated else []) + ["up_proj", "down_proj"]
    sizes = {"gate_proj": (12, 40), "up_proj": (12, 40), "down_proj": (40, 12)}
    module = torch.nn.ModuleDict({name: torch.nn.Linear(*sizes[name], bias=bias) for name in names})
    counted = count_layer(f"mlp:12:40:{'gated:' if gated else ''}{bias_word(bias)}")
    check(counted, module)
    spent = sum(flops(torch, linear, torch.zeros(1, linear.in_features)) for linear in module.values())
    assert counted.flops_per_token == spent


def test_experts_are_transformers_mixtral_block(torch: Any) -> None:
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    transformers = pytest.importorskip("transformers")
    config = transformers.MixtralConfig(hidden_size=24, intermediate_size=40, num_local_experts=6,
                                        num_experts_per_tok=2)  # fmt: skip
    config._experts_implementation = "eager"
    module = mixtral.MixtralSparseMoeBlock(config)
    for parameter in module.parameters():  # which the class leaves as they lie in memory
        torch.nn.init.normal_(parameter)
    counted = count_layer("moe:24:40:6:2")
    assert counted.parameters == elements(parameters(module))
    experts = elements(parameters(module.experts))
    assert counted.active_per_token == counted.parameters - experts + experts // 6 * 2
    assert counted.flops_per_token == flops(torch, module, torch.randn(1, 1, 24))


@pytest.mark.parametrize("channels", [1, 64])
def test_prelu(torch: Any, channels: int) -> None:
    check(count_layer(f"prelu:{channels}"), torch.nn.PReLU(channels))
    check(count_layer("prelu"), torch.nn.PReLU())


ACTIVATIONS: dict[str, str] = {
    "elu": "ELU", "gelu": "GELU", "hardswish": "Hardswish", "identity": "Identity", "leaky_relu": "LeakyReLU",
    "mish": "Mish", "relu": "ReLU", "relu6": "ReLU6", "selu": "SELU", "sigmoid": "Sigmoid", "silu": "SiLU",
    "softmax": "Softmax", "softplus": "Softplus", "swish": "SiLU", "tanh": "Tanh",
}  # fmt: skip


@pytest.mark.parametrize("name", FIXED)
def test_fixed_activations_learn_nothing(torch: Any, name: str) -> None:
    for spec in (name, f"{name}:64"):
        counted = count_layer(spec)
        check(counted, getattr(torch.nn, ACTIVATIONS[name])())
        assert counted.parameters == counted.flops_per_token == 0


def test_random_layers(torch: Any) -> None:
    dice = random.Random("weighbridge layers")
    makers: list[Callable[[], tuple[str, Any]]] = [
        lambda: _random_convolution(torch, dice),
        lambda: _random_recurrent(torch, dice),
        lambda: _random_linear(torch, dice),
    ]
    for _ in range(100):
        spec, module = dice.choice(makers)()
        check(count_layer(spec), module)


def _random_linear(torch: Any, dice: random.Random) -> tuple[str, Any]:
    inputs, outputs, bias = dice.randint(1, 999), dice.randint(1, 999), dice.random() < 0.5
    return f"linear:{inputs}x{outputs}:{bias_word(bias)}", torch.nn.Linear(inputs, outputs, bias=bias, device="meta")


def _random_convolution(torch: Any, dice: random.Random) -> tuple[str, Any]:
    kernel = tuple(dice.randint(1, 5) for _ in range(dice.randint(1, 3)))
    groups, bias = dice.randint(1, 6), dice.random() < 0.5
    inputs, outputs = groups * dice.randint(1, 20), groups * dice.randint(1, 20)
    kind = getattr(torch.nn, f"Conv{len(kernel)}d")
    module = kind(inputs, outputs, kernel, groups=groups, bias=bias, stride=dice.randint(1, 3),
                  dilation=dice.randint(1, 2), padding=dice.randint(0, 2), device="meta")  # fmt: skip
    return f"conv:{'x'.join(map(str, kernel))}:{inputs}:{outputs}:groups={groups}:{bias_word(bias)}", module


def _random_recurrent(torch: Any, dice: random.Random) -> tuple[str, Any]:
    cell, layers = dice.choice(("rnn", "gru", "lstm")), dice.randint(1, 4)
    inputs, hidden = dice.randint(1, 90), dice.randint(1, 90)
    both, bias = dice.random() < 0.5, dice.random() < 0.5
    module = getattr(torch.nn, cell.upper())(inputs, hidden, num_layers=layers, bidirectional=both, bias=bias,
                                             device="meta")  # fmt: skip
    spec = f"{cell}:{inputs}:{hidden}:layers={layers}:{bias_word(bias)}{':bidirectional' if both else ''}"
    return spec, module
