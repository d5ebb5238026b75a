"""How many parameters has one layer? From a short specification to a count with its formula.

`linear:100x50`, `neuron:3`, `conv:7x7:3:64`, `embedding:50257x12288`, `attention:768:12`, `mlp:768:3072`,
`moe:4096:14336:8:2`, `layernorm:768`, `lstm:128:256`, `relu` ... Options follow as words or `key=value`:
`conv:3x3:64:64:groups=64`, `linear:100x50:nobias`.
The counts are those of the blocks that whole models are built from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.model.blocks import Attention, Block, Embedding, Experts, FeedForward, Linear, Norm, Use
from weighbridge.model.blocks.activation import FIXED, LEARNED, Activation
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.recurrent import Recurrent
from weighbridge.model.hyperparameters import MOST_LAYERS
from weighbridge.model.tensors import Kind
from weighbridge.units import parse_count


@dataclass(frozen=True, slots=True)
class LayerCount:
    """One layer's count: what it is with the biases that it has, and what it would be with or without them.

    `formula` has the numbers filled in and evaluates to `parameters`.
    """

    spec: str
    kind: str
    parameters: int
    with_bias: int
    without_bias: int
    buffers: int
    active_per_token: int
    flops_per_token: int
    formula: str
    tensors: tuple[tuple[str, tuple[int, ...]], ...]
    note: str

    def to_json(self) -> dict[str, Any]:
        """As the JSON reference documents it."""
        return {
            "layer": self.spec, "kind": self.kind, "parameters": self.parameters, "with_bias": self.with_bias,
            "without_bias": self.without_bias, "buffers": self.buffers, "active_per_token": self.active_per_token,
            "flops_per_token": self.flops_per_token, "formula": self.formula, "basis": "exact",
            "tensors": [{"name": name, "shape": list(shape)} for name, shape in self.tensors], "note": self.note,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Layer:
    """A parsed specification: numbers by position, options by name."""

    spec: str
    kind: str
    sizes: tuple[tuple[int, ...], ...]
    options: dict[str, int]
    bias: bool | None

    def size(self, place: int, name: str, default: int | None = None) -> int:
        """The number at this place."""
        if place < len(self.sizes) and len(self.sizes[place]) == 1:
            return self.sizes[place][0]
        if default is None:
            raise self.unusable(name)
        return default

    def pair(self) -> tuple[int, int]:
        """Two numbers, as `100x50` or as `100:50`."""
        flat = [number for numbers in self.sizes for number in numbers]
        if len(flat) != 2:
            raise self.unusable("two sizes")
        return flat[0], flat[1]

    def unusable(self, what: str) -> UnitError:
        """The error for a specification that lacks something."""
        return UnitError(f"the layer {self.spec!r} gives no {what}", f"such as {EXAMPLES[self.kind]}", "write it so")


def count_layer(spec: str) -> LayerCount:
    """The count of one layer.

    Raises:
        UnknownNameError: for a kind of layer that is not known.
        UnitError: when a size is missing, is no whole number or does not divide.

    Example:
        >>> count_layer("linear:100x50").parameters, count_layer("conv:7x7:3:64").parameters
        (5050, 9408)
        >>> count_layer("attention:768:12").formula
        '768*12*64 + 2*768*12*64 + 12*64*768'
    """
    layer = _parse(spec)
    kind = _KINDS[layer.kind]
    biased = bool(kind.bias) if layer.bias is None else layer.bias
    block, formula, note = kind.make(layer, biased)
    weights = [weight for weight in block.weights() if weight.kind is Kind.PARAMETER]
    counts = [kind.make(layer, choice)[0].parameters for choice in (True, False)]
    return LayerCount(
        spec=spec, kind=layer.kind, parameters=block.parameters, with_bias=counts[0], without_bias=counts[1],
        buffers=sum(w.elements for w in block.weights() if w.kind is Kind.BUFFER),
        active_per_token=sum(w.active_elements for w in weights),
        flops_per_token=sum(2 * w.active_elements * w.positions for w in weights if w.use is Use.MATMUL),
        formula=formula,
        tensors=tuple((w.name if w.experts == 1 else f"{w.name} ({w.experts} x)", w.shape) for w in block.weights()),
        note=note,
    )  # fmt: skip


def _parse(spec: str) -> _Layer:
    if len(spec) > 200:
        raise UnitError(f"the layer specification has {len(spec)} characters", "at most 200", "shorten it")
    kind, *parts = spec.strip().lower().split(":")
    if kind not in _KINDS:
        raise UnknownNameError("kind of layer", kind, _KINDS, "run `weigh layer --help` for the list")
    sizes, options, bias = [], {}, None
    words = [part.partition("=")[0].removeprefix("no") for part in parts if not part[:1].isdigit()]
    if len(words) != len(set(words)):
        raise UnitError(f"the layer {spec!r} gives an option twice", "each once", "leave one out")
    for part in parts:
        key, equals, value = part.partition("=")
        if key in ("bias", "nobias") and not equals and _KINDS[kind].bias is not None:
            bias = key == "bias"
        elif key in _KINDS[kind].options and bool(equals) is not (key in _FLAGS):
            options[key] = _number(spec, value) if equals else 1
        elif equals or part.isalpha():
            known = [*_KINDS[kind].options, *(("bias", "nobias") if _KINDS[kind].bias is not None else ())]
            raise UnknownNameError(f"option of {kind}", part, known, "write it as `weigh layer --help` does")
        else:
            sizes.append(tuple(_number(spec, number) for number in part.split("x")))
    if len(sizes) > _KINDS[kind].sizes:
        raise UnitError(
            f"the layer {spec!r} gives {len(sizes)} sizes", f"such as {EXAMPLES[kind]}", "leave the rest out"
        )
    return _Layer(spec, kind, tuple(sizes), options, bias)


def _number(spec: str, text: str) -> int:
    number = parse_count(text)
    if not 1 <= number < 2**40:
        raise UnitError(f"the layer {spec!r} has the size {text}", "a whole number from 1 up", "correct it")
    return number


_Made = tuple[Block, str, str]


def _with(bias: bool, text: str, term: str) -> str:
    return f"{text} + {term}" if bias else text


def _linear(layer: _Layer, bias: bool) -> _Made:
    inputs, outputs = layer.pair()
    block = Linear(in_features=inputs, out_features=outputs, bias=bias)
    return block, _with(bias, f"{inputs}*{outputs}", str(outputs)), "weights = inputs x outputs, one bias an output"


def _neuron(layer: _Layer, bias: bool) -> _Made:
    inputs = layer.size(0, "size")
    return Linear(in_features=inputs, out_features=1, bias=bias), _with(bias, str(inputs), "1"), "one weight an input"


def _convolution(layer: _Layer, bias: bool) -> _Made:
    if len(layer.sizes) < 3:
        raise layer.unusable("kernel, input channels and output channels")
    kernel, inputs, outputs = layer.sizes[0], layer.size(1, "inputs"), layer.size(2, "outputs")
    groups = layer.options.get("groups", 1)
    if inputs % groups or outputs % groups:
        raise UnitError(f"{layer.spec!r} has {groups} groups", "groups that divide both channel counts", "correct them")
    block = Convolution(kernel=kernel, in_channels=inputs, out_channels=outputs, groups=groups, bias=bias)
    text = "*".join(str(k) for k in kernel) + f"*{inputs}" + (f"/{groups}" if groups > 1 else "") + f"*{outputs}"
    return block, _with(bias, text, str(outputs)), "no bias by default: a normalisation usually follows"


def _embedding(layer: _Layer, bias: bool) -> _Made:
    rows, width = layer.pair()
    return Embedding(rows=rows, width=width), f"{rows}*{width}", "one row an entry; a look-up, not a multiplication"


def _attention(layer: _Layer, bias: bool) -> _Made:
    width, heads = layer.size(0, "width"), layer.size(1, "heads")
    groups = layer.options.get("kv", heads)
    if heads % groups:
        raise UnitError(
            f"{layer.spec!r} has {heads} heads on {groups} key-value heads", "a whole number each", "correct it"
        )
    if "head" not in layer.options and width % heads:
        raise UnitError(f"{layer.spec!r} divides {width} by {heads} heads", "a division without remainder",
                        "correct it or give head=SIZE")  # fmt: skip
    size = layer.options.get("head", width // heads)
    block = Attention(hidden_size=width, num_heads=heads, num_kv_heads=groups, head_dim=size, qkv_bias=bias,
                      output_bias=bias)  # fmt: skip
    text = f"{width}*{heads}*{size} + 2*{width}*{groups}*{size} + {heads}*{size}*{width}"
    return (
        block,
        _with(bias, text, f"{heads}*{size} + 2*{groups}*{size} + {width}"),
        "queries + keys and values + output",
    )


def _feed_forward(layer: _Layer, bias: bool) -> _Made:
    gated = "gated" in layer.options
    width = layer.size(0, "width")
    inner = layer.size(1, "inner size", 4 * width)
    block = FeedForward(hidden_size=width, intermediate_size=inner, gate="gate_proj" if gated else None, bias=bias)
    text = _with(bias, f"{3 if gated else 2}*{width}*{inner}", f"{2 if gated else 1}*{inner} + {width}")
    return block, text, "gate, up and down" if gated else "up and down; `gated` adds a gate of the same size"


def _experts(layer: _Layer, bias: bool) -> _Made:
    width, inner = layer.size(0, "width"), layer.size(1, "inner size")
    number, used = layer.size(2, "experts"), layer.size(3, "experts a token", 2)
    if used > number:
        raise UnitError(f"{layer.spec!r} uses {used} of {number} experts", "at most as many as there are", "correct it")
    block = Experts(hidden_size=width, intermediate_size=inner, num_experts=number, experts_per_token=used)
    return block, f"{number}*3*{width}*{inner} + {width}*{number}", "gated experts and their router; all must be held"


def _norm(batch: bool, shift: bool) -> Callable[[_Layer, bool], _Made]:
    def make(layer: _Layer, bias: bool) -> _Made:
        width = layer.size(0, "width")
        biased = bias and shift
        note = (
            "running mean, variance and counter are buffers"
            if batch
            else "one scale" + (", and one shift with a bias" if shift else "")
        )
        return Norm(width=width, bias=biased, running_statistics=batch), f"{2 if biased else 1}*{width}", note

    return make


def _recurrent(cell: str, gates: int) -> Callable[[_Layer, bool], _Made]:
    def make(layer: _Layer, bias: bool) -> _Made:
        inputs, hidden = layer.size(0, "input size"), layer.size(1, "hidden size")
        layers, both = layer.options.get("layers", 1), "bidirectional" in layer.options
        biases = layer.options.get("biases", 2) if bias else 0
        if layers > MOST_LAYERS:
            raise UnitError(f"{layer.spec!r} has {layers:,} layers", f"at most {MOST_LAYERS:,}", "correct it")
        if biases > 2:
            raise UnitError(f"{layer.spec!r} has {biases} biases a gate", "1 (Keras) or 2 (PyTorch)", "correct it")
        block = Recurrent(cell=cell, input_size=inputs, hidden_size=hidden, num_layers=layers, bidirectional=both,
                          biases=biases)  # fmt: skip
        first = f"{gates}*({inputs}*{hidden} + {hidden}*{hidden} + {biases}*{hidden})"
        ways = 2 if both else 1
        text = f"{ways}*{first}" if both else first
        if layers > 1:
            text += f" + {layers - 1}*{ways}*{gates}*({ways * hidden}*{hidden} + {hidden}*{hidden} + {biases}*{hidden})"
        return block, text, "the same weights at every step; PyTorch keeps two biases a gate, Keras one (biases=1)"

    return make


def _activation(name: str) -> Callable[[_Layer, bool], _Made]:
    def make(layer: _Layer, bias: bool) -> _Made:
        channels = layer.size(0, "channels", 1)
        learned = name in LEARNED
        note = "one learned slope a channel" if learned else "a fixed function has no parameters"
        return Activation(name=name, channels=channels), str(channels) if learned else "0", note

    return make


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a kind of layer is made: the most sizes and the options that it takes, and whether it has biases.

    `bias` is the default; None for kinds without any.
    """

    make: Callable[[_Layer, bool], _Made]
    sizes: int
    bias: bool | None = None
    options: tuple[str, ...] = ()


_FLAGS = ("gated", "bidirectional")
_STEPS = ("layers", "biases", "bidirectional")
_KINDS = {
    "linear": _Kind(_linear, 2, True),
    "neuron": _Kind(_neuron, 1, True),
    "conv": _Kind(_convolution, 3, False, ("groups",)),
    "embedding": _Kind(_embedding, 2),
    "attention": _Kind(_attention, 2, False, ("kv", "head")),
    "mlp": _Kind(_feed_forward, 2, False, ("gated",)),
    "moe": _Kind(_experts, 4),
    "layernorm": _Kind(_norm(batch=False, shift=True), 1, True),
    "rmsnorm": _Kind(_norm(batch=False, shift=False), 1),
    "batchnorm": _Kind(_norm(batch=True, shift=True), 1, True),
    "rnn": _Kind(_recurrent("rnn", 1), 2, True, _STEPS),
    "gru": _Kind(_recurrent("gru", 3), 2, True, _STEPS),
    "lstm": _Kind(_recurrent("lstm", 4), 2, True, _STEPS),
    **{name: _Kind(_activation(name), 1) for name in (*LEARNED, *FIXED)},
}

EXAMPLES = {
    "linear": "linear:100x50", "neuron": "neuron:3", "conv": "conv:7x7:3:64 or conv:3x3:64:64:groups=64:bias",
    "embedding": "embedding:50257x12288", "attention": "attention:768:12 or attention:8192:64:kv=8:head=128",
    "mlp": "mlp:768:3072:bias or mlp:8192:28672:gated", "moe": "moe:4096:14336:8:2", "layernorm": "layernorm:768",
    "rmsnorm": "rmsnorm:4096", "batchnorm": "batchnorm:64", "rnn": "rnn:128:256", "gru": "gru:128:256:bidirectional",
    "lstm": "lstm:128:256:layers=2", **{name: f"{name}:64" for name in (*LEARNED, *FIXED)},
}  # fmt: skip
"""A specification of each kind that works."""
