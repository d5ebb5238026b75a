"""What are the convolutional parts of a diffusion pipeline built from? Residual blocks, attention, and resampling.

Source: diffusers `models/resnet.py`, `models/transformers/transformer_2d.py`, `models/attention.py`,
`models/unets/unet_2d_blocks.py`; the names are those of its files. Everything inside a block of attention counts as
attention but for its norms; its last map is named as an output. `positions` are the height times the width that a part
is applied at.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.scores import Scores
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

TEXT = 77
"""Tokens of the text that CLIP encodes."""


PLAIN = ("DownBlock2D", "UpBlock2D")
"""Blocks on the way down and up that do not attend."""


def block_kinds(
    hyperparameters: Hyperparameters, key: str, default: tuple[str, ...], blocks: int, attending: tuple[str, ...]
) -> list[bool]:
    """For each block whether it attends.

    Raises:
        ConfigError: when the key does not name as many blocks, or another kind of them.
    """
    names = hyperparameters.settings.get(key)
    names = default if names is None else names
    if not isinstance(names, list | tuple) or len(names) != blocks or not {*names} <= {*attending, *PLAIN}:
        read = f"{hyperparameters.source} has {key} = {repr(names)[:100]}"
        raise ConfigError(read, f"{blocks} of {', '.join((*attending, *PLAIN))}", "correct the key")
    return [name in attending for name in names]


def convolution(path: str, inputs: int, outputs: int, positions: int, kernel: int = 3) -> Placement:
    """A square convolution with a bias."""
    return Placement(path, Convolution(kernel=(kernel, kernel), in_channels=inputs, out_channels=outputs, bias=True,
                                       positions=positions))  # fmt: skip


def linear(path: str, inputs: int, outputs: int, *, bias: bool = True, component: Component = Component.OTHER,
           role: str = "linear", positions: int = 1) -> Placement:  # fmt: skip
    """A map, which is no attention unless said so."""
    return Placement(path, Linear(in_features=inputs, out_features=outputs, bias=bias, component=component, role=role,
                                  positions=positions))  # fmt: skip


def norm(path: str, width: int) -> Placement:
    """Group or layer normalisation: a scale and a shift a channel."""
    return Placement(path, Norm(width=width))


def residual(path: str, inputs: int, outputs: int, time: int | None, positions: int) -> list[Placement]:
    """Two convolutions around a shortcut; `time` is the width of the embedded time step where there is one."""
    return [
        norm(path + ".norm1", inputs),
        convolution(path + ".conv1", inputs, outputs, positions),
        *([] if time is None else [linear(path + ".time_emb_proj", time, outputs)]),
        norm(path + ".norm2", outputs),
        convolution(path + ".conv2", outputs, outputs, positions),
        *([] if inputs == outputs else [convolution(path + ".conv_shortcut", inputs, outputs, positions, 1)]),
    ]


def transformer(path: str, width: int, context: int, depth: int, linear_maps: bool, positions: int) -> list[Placement]:
    """Blocks of self-attention, attention to the text and a gated feed-forward, between two maps of the channels."""
    kernel = () if linear_maps else (1, 1)
    ends = {part: Convolution(kernel=kernel, in_channels=width, out_channels=width, bias=True, component=component,
                              positions=positions)
            for part, component in (("proj_in", Component.ATTENTION), ("proj_out", Component.HEAD))}  # fmt: skip
    placements = [norm(path + ".norm", width), Placement(path + ".proj_in", ends["proj_in"])]
    for block in range(depth):
        inner = f"{path}.transformer_blocks.{block}"
        for number, source, attended in ((1, width, positions), (2, context, TEXT)):
            placements.append(norm(f"{inner}.norm{number}", width))
            placements += attention(f"{inner}.attn{number}", width, source, bias=False, positions=positions,
                                    attended=attended)  # fmt: skip
        placements += [
            norm(inner + ".norm3", width),
            linear(inner + ".ff.net.0.proj", width, 8 * width, component=Component.ATTENTION, positions=positions),
            linear(inner + ".ff.net.2", 4 * width, width, component=Component.ATTENTION, positions=positions),
        ]
    return [*placements, Placement(path + ".proj_out", ends["proj_out"])]


def image_attention(path: str, width: int, positions: int) -> list[Placement]:
    """Attention of every position to every other, behind a norm."""
    maps = attention(path, width, width, bias=True, positions=positions, attended=positions)
    return [norm(path + ".group_norm", width), *maps]


def attention(path: str, width: int, source: int, *, bias: bool, positions: int, attended: int) -> list[Placement]:
    """The four maps of attention from `width` channels to a source of another width; the output has a bias always."""
    parts = (("to_q", width, bias, positions), ("to_k", source, bias, attended), ("to_v", source, bias, attended),
             ("to_out.0", width, True, positions))  # fmt: skip
    maps = [linear(f"{path}.{name}", inputs, width, bias=biased, component=Component.ATTENTION, positions=at,
                   role="attention_output" if name == "to_out.0" else f"attention_{name[3]}")
            for name, inputs, biased, at in parts]  # fmt: skip
    return [*maps, Placement(path, Scores(width=width, positions=positions, attended=attended))]
