"""What are the transformers of diffusion pipelines built from? Maps of the time step, streams that attend, their maps.

Source: diffusers `models/{attention,embeddings,normalization}.py`; the names are those of its files. A map that scales
and shifts a norm by the embedded time step counts as a norm, as it stands in one; the last map counts as the head. Such
maps are applied once an image, the others at every patch or text token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

SINES = 256
"""Numbers that stand for a time step, a guidance or a size before they are mapped."""
OWN = ("to_q", "to_k", "to_v", "to_out.0")
"""The maps of attention in the stream of the image."""
ADDED = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
"""Those of the text that is attended to together with it."""
_ROLES = {name: role for names in (OWN, ADDED) for name, role in zip(
    names, ("attention_q", "attention_k", "attention_v", "attention_output"), strict=True)}  # fmt: skip
OWN_NORMS, ADDED_NORMS = ("norm_q", "norm_k"), ("norm_added_q", "norm_added_k")
NOTE = "FLOPs count every weight once; those of one patch leave out the maps of the text and of the time step"

Layers = Sequence[int] | None


@dataclass(frozen=True, slots=True)
class Heads:
    """Heads of attention whose width together is that of the model; `bias` is that of every map."""

    number: int
    size: int
    bias: bool = True

    @property
    def width(self) -> int:
        """Numbers of one token."""
        return self.number * self.size

    def attention(self, path: str, layers: Layers = None, names: tuple[str, ...] = OWN, *,
                  output_bias: bool | None = None) -> Placement:  # fmt: skip
        """Attention of every position to every other."""
        block = Attention(hidden_size=self.width, num_heads=self.number, num_kv_heads=self.number, head_dim=self.size,
                          names=names, qkv_bias=self.bias,
                          output_bias=self.bias if output_bias is None else output_bias, causal=False)  # fmt: skip
        return Placement(path, block, layers)

    def joint(self, path: str, layers: Layers, *, normed: bool = True) -> list[Placement]:
        """One attention over image and text, each with its own maps and, where `normed`, its own norms of the heads."""
        return [
            self.attention(path, layers),
            *self.added(path, layers),
            *(rms(path, (*OWN_NORMS, *ADDED_NORMS), self.size, layers) if normed else ()),
        ]

    def added(self, path: str, layers: Layers, names: tuple[str, ...] = ADDED) -> list[Placement]:
        """The text's maps in an attention that is counted with the image's."""
        return [mapped(f"{path}.{name}", self.width, self.width, layers, component=Component.ATTENTION, bias=self.bias)
                for name in names]  # fmt: skip

    def modulation(self, path: str, times: int, layers: Layers = None) -> Placement:
        """The map of the time step to scales and shifts."""
        return mapped(path, self.width, times * self.width, layers, component=Component.NORM, bias=self.bias,
                      once=True)  # fmt: skip

    def ends(self, outputs: int, before: str = "norm_out.linear", after: str = "proj_out") -> list[Placement]:
        """The last norm, scaled and shifted, and the map to the numbers of a patch."""
        head = mapped(after, self.width, outputs, component=Component.HEAD, bias=self.bias)
        return [self.modulation(before, 2), head]


def heads(hyperparameters: Hyperparameters, number: int, size: int, *, bias: bool = True) -> Heads:
    """The heads that the usual settings mean, with the class's defaults."""
    return Heads(hyperparameters.count("num_heads", number), hyperparameters.count("attention_head_dim", size), bias)


def mapped(path: str, inputs: int, outputs: int, layers: Layers = None, *, component: Component = Component.OTHER,
           bias: bool = True, once: bool = False) -> Placement:  # fmt: skip
    """A linear map, applied `once` an image or at every token; those of attention are known by their names."""
    role = next((role for name, role in _ROLES.items() if path.endswith("." + name)), "linear")
    return Placement(path, Linear(in_features=inputs, out_features=outputs, bias=bias, component=component,
                                  role=role, per_sequence=once), layers)  # fmt: skip


def embedder(path: str, inputs: int, width: int, *, bias: bool = True, once: bool = True) -> list[Placement]:
    """Two maps, of a time step or of a text."""
    return [mapped(path + ".linear_1", inputs, width, bias=bias, once=once),
            mapped(path + ".linear_2", width, width, bias=bias, once=once)]  # fmt: skip


def feed_forward(path: str, width: int, inner: int, layers: Layers = None) -> Placement:
    """Up and down, with biases."""
    block = FeedForward(hidden_size=width, intermediate_size=inner, gate=None, up="net.0.proj", down="net.2", bias=True)
    return Placement(path, block, layers)


def rms(path: str, names: Iterable[str], width: int, layers: Layers = None) -> list[Placement]:
    """Norms with a scale alone."""
    return [Placement(f"{path}.{name}".rstrip("."), Norm(width=width, bias=False), layers) for name in names]


def patch_map(path: str, kernel: tuple[int, ...], inputs: int, width: int) -> Placement:
    """The convolution that makes a vector of each patch of the latents."""
    return Placement(path, Convolution(kernel=kernel, in_channels=inputs, out_channels=width, bias=True))


def shifts(path: str, *shape: int, layers: Layers = None) -> Placement:
    """A learned table of scales and shifts, to which those of the time step are added."""
    return Placement(path, Array(name="scale_shift_table", shape=shape, role="modulation", component=Component.NORM),
                     layers)  # fmt: skip


def outputs(hyperparameters: Hyperparameters, inputs: int, default: int | None) -> int:
    """`out_channels`: as many as `inputs` where it is null, the class's default where it is missing."""
    missing = inputs if default is None or "out_channels" in hyperparameters.settings else default
    return hyperparameters.count("out_channels", missing)


def one_of(hyperparameters: Hyperparameters, key: str, *values: Any) -> Any:
    """A setting that may have these values alone; the first stands in for a missing key.

    Raises:
        ConfigError: for another value.
    """
    value = hyperparameters.settings.get(key, values[0])
    if not any(value == known and type(value) is type(known) for known in values):
        read = f"{hyperparameters.source} has {key} = {repr(value)[:60]}"
        raise ConfigError(read, " or ".join(map(str, values)),
                          "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip
    return value


def architecture(hyperparameters: Hyperparameters, family: str, shape: Heads, layers: int,
                 placements: Iterable[Placement]) -> Architecture:  # fmt: skip
    """The description of such a transformer."""
    return Architecture(
        family=family,
        model_type=hyperparameters.model_type,
        placements=tuple(placement for placement in placements if placement.repeat),
        num_layers=layers,
        num_heads=shape.number,
        num_kv_heads=shape.number,
        notes=(NOTE,),
    )


def named(classes: Mapping[str, str]) -> Callable[[Mapping[str, Any]], str | None]:
    """Recognises a configuration by the class of diffusers that it names in `_class_name`."""

    def recognise(config: Mapping[str, Any]) -> str | None:
        name = config.get("_class_name")
        return classes.get(name) if isinstance(name, str) else None

    return recognise
