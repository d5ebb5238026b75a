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
from weighbridge.model.image import counts, divisible, ratio
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
    placements = [*_normalised(base + "embeddings.", ("convolution", "batchnorm"), 3, colours, stem)]
    block, width = 0, stem
    for first, outputs, kernel, expansion, repeat in zip(*stages[:4], repeats, strict=True):
        width = scaled(first)
        for _ in range(repeat):
            path = f"{base}encoder.blocks.{block}."
            placements += _block(path, width, scaled(outputs), kernel, expansion, squeeze)
            block, width = block + 1, scaled(outputs)
    top = scaled(1280)
    if hyperparameters.count("hidden_dim", 2560) != top:
        read = f"{hyperparameters.source} has hidden_dim = {hyperparameters.count('hidden_dim', 2560)}"
        raise ConfigError(read, f"{top}, the width of the last convolution", "correct the key")
    placements += _normalised(base + "encoder.", ("top_conv", "top_bn"), 1, width, top)
    if base:
        score = Linear(in_features=top, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements.append(Placement("classifier", score))
    return Architecture(family="efficientnet", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=0, num_kv_heads=0, base_prefix="efficientnet.")  # fmt: skip


def _block(path: str, inputs: int, outputs: int, kernel: int, expansion: int, squeeze: float) -> Iterator[Placement]:
    wide = inputs * expansion
    if expansion > 1:
        yield from _normalised(path + "expansion.", ("expand_conv", "expand_bn"), 1, inputs, wide)
    yield from _normalised(path + "depthwise_conv.", ("depthwise_conv", "depthwise_norm"), kernel, wide, wide, wide)
    squeezed = max(1, int(inputs * squeeze))
    for name, one, other in (("reduce", wide, squeezed), ("expand", squeezed, wide)):
        yield Placement(f"{path}squeeze_excite.{name}", Convolution(kernel=(1, 1), in_channels=one, out_channels=other,
                                                                    bias=True))  # fmt: skip
    yield from _normalised(path + "projection.", ("project_conv", "project_bn"), 1, wide, outputs)


def _normalised(
    path: str, names: tuple[str, str], kernel: int, inputs: int, outputs: int, groups: int = 1
) -> Iterator[Placement]:
    """A convolution without bias and the batch normalisation behind it."""
    yield Placement(path + names[0], Convolution(kernel=(kernel, kernel), in_channels=inputs, out_channels=outputs,
                                                 groups=groups))  # fmt: skip
    yield Placement(path + names[1], Norm(width=outputs, running_statistics=True))


FAMILY = Family(
    name="efficientnet",
    title="EfficientNet",
    model_types=("efficientnet",),
    gguf={},
    source="transformers models/efficientnet",
    build=build,
)
