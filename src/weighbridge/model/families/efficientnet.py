"""EfficientNet: inverted bottlenecks with squeeze-and-excitation, scaled in width and depth together.

Source: transformers `models/efficientnet/{configuration,modeling}_efficientnet.py` (5.x; Tan and Le 2019). Widths are
rounded to multiples of `depth_divisor`, repeats up to whole layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Grid, counts, divisible, image_grid, one_image, ratio
from weighbridge.model.tensors import Component

# The lists of the configuration class, one entry a stage.
_STAGES = {
    "in_channels": (32, 16, 24, 40, 80, 112, 192),
    "out_channels": (16, 24, 40, 80, 112, 192, 320),
    "kernel_sizes": (3, 3, 5, 3, 5, 5, 3),
    "expand_ratios": (1, 6, 6, 6, 6, 6, 6),
    "num_block_repeats": (1, 2, 2, 3, 3, 4, 1),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The body, with a classifier where the class has one."""
    suffix = head_class(hyperparameters, ("EfficientNet",), "Model")
    if suffix not in ("Model", "ForImageClassification"):
        raise unknown_class(hyperparameters, ("EfficientNetModel", "EfficientNetForImageClassification"))
    base = "" if suffix == "Model" else "efficientnet."
    stages = [counts(hyperparameters, key, default) for key, default in _STAGES.items()]
    wider, deeper = ratio(hyperparameters, "width_coefficient", 2.0), ratio(hyperparameters, "depth_coefficient", 3.1)
    repeats = [math.ceil(deeper * number) for number in stages[-1]]
    if len({len(stage) for stage in stages}) > 1 or sum(repeats) > MOST_LAYERS:
        read = f"{hyperparameters.source} has lists of {', '.join(str(len(stage)) for stage in stages)} stages"
        raise ConfigError(read, f"one length for all of {', '.join(_STAGES)}, and few layers", "correct the keys")
    divisor = hyperparameters.count("depth_divisor", 8)

    def scaled(width: int) -> int:
        return divisible(width * wider, divisor)

    stem, squeeze = scaled(32), ratio(hyperparameters, "squeeze_expansion_ratio", 0.25)
    colours = hyperparameters.count("num_channels", 3)
    strides, padded = _strides(hyperparameters, len(repeats)), _padded(hyperparameters)
    image = image_grid(hyperparameters, default=600)
    grid = image.after(3, 2, 1)
    placements = [*_normalised(base + "embeddings.", ("convolution", "batchnorm"), 3, colours, stem, grid)]
    block, width = 0, stem
    for first, outputs, kernel, expansion, repeat, stride in zip(*stages[:4], repeats, strides, strict=True):
        width = scaled(first)
        for layer in range(repeat):
            path = f"{base}encoder.blocks.{block}."
            halves = stride == 2 and layer == 0
            after = grid.after(kernel, 2, 2 * (kernel // 2) - (block not in padded)) if halves else grid
            placements += _block(path, width, scaled(outputs), kernel, expansion, squeeze, grid, after)
            grid = after
            block, width = block + 1, scaled(outputs)
    top = scaled(1280)
    if hyperparameters.count("hidden_dim", 2560) != top:
        read = f"{hyperparameters.source} has hidden_dim = {hyperparameters.count('hidden_dim', 2560)}"
        raise ConfigError(read, f"{top}, the width of the last convolution", "correct the key")
    placements += _normalised(base + "encoder.", ("top_conv", "top_bn"), 1, width, top, grid)
    if base:
        score = Linear(in_features=top, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements.append(Placement("classifier", score))
    return Architecture(family="efficientnet", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=0, num_kv_heads=0, base_prefix="efficientnet.",
                        notes=one_image(hyperparameters, image, grid))  # fmt: skip


def _strides(hyperparameters: Hyperparameters, stages: int) -> tuple[int, ...]:
    """The stride of the first layer of each stage: 1, or 2 with a padding of its own."""
    strides = counts(hyperparameters, "strides", (1, 2, 2, 2, 1, 2, 1))
    if len(strides) != stages or max(strides) > 2:
        read = f"{hyperparameters.source} has strides = {repr(strides)[:60]}"
        raise ConfigError(read, f"1 or 2 for each of {stages} stages", "correct the key")
    return strides


def _padded(hyperparameters: Hyperparameters) -> tuple[int, ...]:
    """The layers that are padded alike on all sides where they halve the image."""
    layers = hyperparameters.settings.get("depthwise_padding") or ()
    if not isinstance(layers, list | tuple) or not all(type(layer) is int for layer in layers):
        read = f"{hyperparameters.source} has depthwise_padding = {repr(layers)[:60]}"
        raise ConfigError(read, "a list of layers", "correct the key")
    return tuple(layers)


def _block(path: str, inputs: int, outputs: int, kernel: int, expansion: int, squeeze: float, before: Grid,
           after: Grid) -> Iterator[Placement]:  # fmt: skip
    wide = inputs * expansion
    if expansion > 1:
        yield from _normalised(path + "expansion.", ("expand_conv", "expand_bn"), 1, inputs, wide, before)
    yield from _normalised(
        path + "depthwise_conv.", ("depthwise_conv", "depthwise_norm"), kernel, wide, wide, after, wide
    )
    squeezed = max(1, int(inputs * squeeze))
    for name, one, other in (("reduce", wide, squeezed), ("expand", squeezed, wide)):
        yield Placement(f"{path}squeeze_excite.{name}", Convolution(kernel=(1, 1), in_channels=one, out_channels=other,
                                                                    bias=True))  # fmt: skip
    yield from _normalised(path + "projection.", ("project_conv", "project_bn"), 1, wide, outputs, after)


def _normalised(
    path: str, names: tuple[str, str], kernel: int, inputs: int, outputs: int, grid: Grid, groups: int = 1
) -> Iterator[Placement]:
    """A convolution without bias and the batch normalisation behind it."""
    yield Placement(path + names[0], Convolution(kernel=(kernel, kernel), in_channels=inputs, out_channels=outputs,
                                                 groups=groups, positions=grid.positions))  # fmt: skip
    yield Placement(path + names[1], Norm(width=outputs, running_statistics=True))


FAMILY = Family(
    name="efficientnet",
    title="EfficientNet",
    model_types=("efficientnet",),
    gguf={},
    source="transformers models/efficientnet",
    build=build,
)
