"""ResNet and RegNet: stages of convolutions with batch normalisation, each around a shortcut.

Source: transformers `models/{resnet,regnet}/{configuration,modeling}_*.py` (5.x; He et al. 2016, Radosavovic et al.
2020). A shortcut is a convolution where a layer changes the width or the resolution. RegNet groups its middle
convolution and, with `layer_type` y, weighs the channels by a squeeze-and-excitation pair.
"""

from __future__ import annotations

from collections.abc import Iterator

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Grid, counts, image_grid, one_image
from weighbridge.model.tensors import Component

# Name of the class, width and kernel of the stem, widths and depths of the stages, kinds of layers, first stage halves.
_KINDS: dict[str, tuple[str, int, int, tuple[int, ...], tuple[int, ...], tuple[str, ...], bool]] = {
    "resnet": ("ResNet", 64, 7, (256, 512, 1024, 2048), (3, 4, 6, 3), ("bottleneck", "basic"), False),
    "regnet": ("RegNet", 32, 3, (128, 192, 512, 1088), (2, 6, 12, 2), ("y", "x"), True),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The stages, with a classifier where the class has one."""
    name, stem, kernel, widths, depths, kinds, strides = _KINDS[hyperparameters.model_type]
    suffix = head_class(hyperparameters, (name,), "Model")
    if suffix not in ("Model", "ForImageClassification"):
        raise unknown_class(hyperparameters, (name + "Model", name + "ForImageClassification"))
    kind = hyperparameters.settings.get("layer_type") or kinds[0]
    widths = counts(hyperparameters, "hidden_sizes", widths)
    depths = counts(hyperparameters, "depths", depths, most=MOST_LAYERS)
    if kind not in kinds or len(widths) != len(depths):
        read = f"{hyperparameters.source} has layers of the type {str(kind)[:60]}, {len(widths)} widths, {len(depths)} "
        raise ConfigError(read + "depths", f"{' or '.join(kinds)}, and as many widths as depths", "correct the keys")
    base = "" if suffix == "Model" else hyperparameters.model_type + "."
    width = hyperparameters.count("embedding_size", stem)
    colours = hyperparameters.count("num_channels", 3)
    image = image_grid(hyperparameters)
    grid = image.halved()
    placements = [*_normalised(base + "embedder.embedder", kernel, colours, width, grid)]
    grid = grid.halved() if name == "ResNet" else grid  # by pooling
    strided = hyperparameters.flag("downsample_in_first_stage", strides)
    for stage, (outputs, depth) in enumerate(zip(widths, depths, strict=True)):
        for layer in range(depth):
            path = f"{base}encoder.stages.{stage}.layers.{layer}"
            halves = layer == 0 and (stage > 0 or strided)
            after = grid.halved() if halves else grid
            if width != outputs or halves:
                placements += _normalised(path + ".shortcut", 1, width, outputs, after)
            placements += _layer(hyperparameters, kind, path + ".layer.", width, outputs, grid, after)
            width, grid = outputs, after
    if base:
        score = Linear(in_features=width, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements.append(Placement("classifier.1", score))
    return Architecture(family="resnet", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=0, num_kv_heads=0,
                        base_prefix=hyperparameters.model_type + ".",
                        notes=one_image(hyperparameters, image, grid))  # fmt: skip


def _layer(hyperparameters: Hyperparameters, kind: str, path: str, inputs: int, outputs: int, before: Grid,
           after: Grid) -> Iterator[Placement]:  # fmt: skip
    if kind == "basic":
        yield from _normalised(path + "0", 3, inputs, outputs, after)
        yield from _normalised(path + "1", 3, outputs, outputs, after)
        return
    bottleneck = kind == "bottleneck"
    inner = outputs // 4 if bottleneck else outputs
    groups = 1 if bottleneck else max(1, outputs // hyperparameters.count("groups_width", 64))
    if not inner or inner % groups:
        hyperparameters.divided("channels by groups", inner or 1, groups if inner else 2)
    first = after if bottleneck and hyperparameters.flag("downsample_in_bottleneck", False) else before
    yield from _normalised(path + "0", 1, inputs, inner, first)
    yield from _normalised(path + "1", 3, inner, inner, after, groups)
    if kind == "y":
        squeezed = round(inputs / 4)
        for place, (one, other) in ((0, (inner, squeezed)), (2, (squeezed, inner))):
            yield Placement(f"{path}2.attention.{place}",
                            Convolution(kernel=(1, 1), in_channels=one, out_channels=other, bias=True,
                                        component=Component.ATTENTION))  # fmt: skip
    yield from _normalised(path + ("3" if kind == "y" else "2"), 1, inner, outputs, after)


def _normalised(path: str, kernel: int, inputs: int, outputs: int, grid: Grid, groups: int = 1) -> Iterator[Placement]:
    """A convolution without bias and the batch normalisation behind it."""
    yield Placement(path + ".convolution", Convolution(kernel=(kernel, kernel), in_channels=inputs,
                                                       out_channels=outputs, groups=groups,
                                                       positions=grid.positions))  # fmt: skip
    yield Placement(path + ".normalization", Norm(width=outputs, running_statistics=True))


FAMILY = Family(
    name="resnet",
    title="ResNet and RegNet",
    model_types=("resnet", "regnet"),
    gguf={},
    source="transformers models/resnet, models/regnet",
    build=build,
)
