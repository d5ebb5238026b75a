"""MobileNet 1 and 2: depthwise and pointwise convolutions, their widths scaled by one factor.

Source: transformers `models/{mobilenet_v1,mobilenet_v2}/{configuration,modeling}_*.py` (5.x; Howard et al. 2017,
Sandler et al. 2018). Every convolution is followed by batch normalisation; the widths before scaling are fixed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Grid, divisible, image_grid, one_image, ratio
from weighbridge.model.tensors import Component

_NAMES = {"mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2"}
_FIRST = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
_SECOND = (16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320)
_FIRST_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_SECOND_STRIDES = (2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 1, 2, 1, 1, 1)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The body, with a classifier where the class has one."""
    name = _NAMES[hyperparameters.model_type]
    suffix = head_class(hyperparameters, (name,), "Model")
    if suffix not in ("Model", "ForImageClassification"):
        raise unknown_class(hyperparameters, (name + "Model", name + "ForImageClassification"))
    base = "" if suffix == "Model" else hyperparameters.model_type + "."
    body = _first if hyperparameters.model_type == "mobilenet_v1" else _second
    image = image_grid(hyperparameters)
    placements, width, grid = body(hyperparameters, base, image)
    if base:
        score = Linear(in_features=width, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements.append(Placement("classifier", score))
    return Architecture(family="mobilenet", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=0, num_kv_heads=0,
                        base_prefix=hyperparameters.model_type + ".",
                        notes=one_image(hyperparameters, image, grid))  # fmt: skip


def _first(hyperparameters: Hyperparameters, base: str, grid: Grid) -> tuple[list[Placement], int, Grid]:
    factor, least = ratio(hyperparameters, "depth_multiplier", 1.0), hyperparameters.count("min_depth", 8)
    widths = [max(int(width * factor), least) for width in _FIRST]
    grid = grid.halved()
    placements = [*_normalised(base + "conv_stem", 3, hyperparameters.count("num_channels", 3), widths[0], grid)]
    for layer, ((inputs, outputs), stride) in enumerate(zip(pairwise(widths), _FIRST_STRIDES, strict=True)):
        grid = grid.halved(stride)
        placements += _normalised(f"{base}layer.{2 * layer}", 3, inputs, inputs, grid, inputs)
        placements += _normalised(f"{base}layer.{2 * layer + 1}", 1, inputs, outputs, grid)
    return placements, widths[-1], grid


def _second(hyperparameters: Hyperparameters, base: str, grid: Grid) -> tuple[list[Placement], int, Grid]:
    factor, expansion = ratio(hyperparameters, "depth_multiplier", 1.0), ratio(hyperparameters, "expand_ratio", 6.0)
    divisor, least = hyperparameters.count("depth_divisible_by", 8), hyperparameters.count("min_depth", 8)

    def scaled(width: int, by: float = factor) -> int:
        return divisible(round(width * by), divisor, least)

    widths, stem = [scaled(width) for width in _SECOND], scaled(32)
    grid = grid.halved()
    colours = hyperparameters.count("num_channels", 3)
    placements = [*_normalised(base + "conv_stem.first_conv", 3, colours, stem, grid)]
    if not hyperparameters.flag("first_layer_is_expansion", True):
        placements += _normalised(base + "conv_stem.expand_1x1", 1, stem, stem, grid)
    placements += _normalised(base + "conv_stem.conv_3x3", 3, stem, stem, grid, stem)
    placements += _normalised(base + "conv_stem.reduce_1x1", 1, stem, widths[0], grid)
    scale, most = 2, hyperparameters.count("output_stride", 32)  # beyond it, dilation stands for strides
    for layer, ((inputs, outputs), stride) in enumerate(zip(pairwise(widths), _SECOND_STRIDES, strict=True)):
        path, wide = f"{base}layer.{layer}.", scaled(inputs, expansion)
        step = 1 if scale == most else stride
        scale, after = scale * step, grid.halved(step)
        placements += _normalised(path + "expand_1x1", 1, inputs, wide, grid)
        placements += _normalised(path + "conv_3x3", 3, wide, wide, after, wide)
        placements += _normalised(path + "reduce_1x1", 1, wide, outputs, after)
        grid = after
    last = 1280 if hyperparameters.flag("finegrained_output", True) and factor < 1 else scaled(1280)
    return [*placements, *_normalised(base + "conv_1x1", 1, widths[-1], last, grid)], last, grid


def _normalised(path: str, kernel: int, inputs: int, outputs: int, grid: Grid, groups: int = 1) -> Iterator[Placement]:
    return normalised(path, kernel, inputs, outputs, groups, positions=grid.positions)


def normalised(
    path: str, kernel: int, inputs: int, outputs: int, groups: int = 1, *, positions: int = 1
) -> Iterator[Placement]:
    """A convolution without bias and the batch normalisation behind it."""
    yield Placement(path + ".convolution", Convolution(kernel=(kernel, kernel), in_channels=inputs,
                                                       out_channels=outputs, groups=groups,
                                                       positions=positions))  # fmt: skip
    yield Placement(path + ".normalization", Norm(width=outputs, running_statistics=True))


FAMILY = Family(
    name="mobilenet",
    title="MobileNet 1 and 2",
    model_types=tuple(_NAMES),
    gguf={},
    source="transformers models/mobilenet_v1, models/mobilenet_v2",
    build=build,
)
