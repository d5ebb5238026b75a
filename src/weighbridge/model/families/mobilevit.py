"""MobileViT: inverted bottlenecks, and in the later stages a small transformer between two convolutions.

Source: transformers `models/mobilevit` (Mehta and Rastegari 2021). Segmentation is not described.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.families import vit
from weighbridge.model.families.mobilenet import normalised
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, Grid, counts, divisible, image_grid, one_image, ratio, spread
from weighbridge.model.tensors import Component

_CLASSES = ("Model", "ForImageClassification")
_DEPTHS = (2, 4, 3)
"""Layers of the three transformers."""


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The stages, with a classifier where the class has one."""
    suffix = head_class(hyperparameters, ("MobileViT",), "Model")
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple("MobileViT" + name for name in _CLASSES))
    base = "" if suffix == "Model" else "mobilevit."
    necks = counts(hyperparameters, "neck_hidden_sizes", (16, 32, 64, 96, 128, 160, 640))
    hidden, heads = counts(hyperparameters, "hidden_sizes", (144, 192, 240)), hyperparameters.count("num_heads", 4)
    if (len(necks), len(hidden)) != (7, 3):
        read = f"{hyperparameters.source} has {len(necks)} neck_hidden_sizes and {len(hidden)} hidden_sizes"
        raise ConfigError(read, "seven and three", "correct the keys")
    body, image = base + "encoder.layer.", image_grid(hyperparameters, default=256)
    first = image.halved()
    grid = first.halved()
    placements = [*normalised(base + "conv_stem", 3, hyperparameters.count("num_channels", 3), necks[0],
                              positions=first.positions),
                  *_bottleneck(hyperparameters, body + "0.layer.0", necks[0], necks[1], first, first)]  # fmt: skip
    for place, (width, before) in enumerate(((necks[1], first), (necks[2], grid), (necks[2], grid))):
        placements += _bottleneck(hyperparameters, f"{body}1.layer.{place}", width, necks[2], before, grid)
    done, scale, most = 0, 4, hyperparameters.count("output_stride", 32)  # beyond it, dilation stands for strides
    for stage, (width, depth) in enumerate(zip(hidden, _DEPTHS, strict=True)):
        path = f"{body}{stage + 2}."
        step = 1 if stage and scale == most else 2
        scale, after = scale * step, grid.halved(step)
        placements += _bottleneck(hyperparameters, path + "downsampling_layer", necks[stage + 2], necks[stage + 3],
                                  grid, after)  # fmt: skip
        placements += _transformer(hyperparameters, path, necks[stage + 3], width, depth, heads, done, after)
        done, grid = done + depth, after
    placements += normalised(base + "conv_1x1_exp", 1, necks[5], necks[6], positions=grid.positions)
    if base:
        score = Linear(in_features=necks[6], out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements.append(Placement("classifier", score))
    return Architecture(family="mobilevit", model_type="mobilevit", placements=tuple(placements), num_layers=done,
                        num_heads=heads, num_kv_heads=heads, base_prefix="mobilevit.",
                        notes=one_image(hyperparameters, image, grid))  # fmt: skip


def _bottleneck(hyperparameters: Hyperparameters, path: str, inputs: int, outputs: int, before: Grid,
                after: Grid) -> list[Placement]:  # fmt: skip
    wide = divisible(round(inputs * ratio(hyperparameters, "expand_ratio", 4.0)), 8)
    return [
        *normalised(path + ".expand_1x1", 1, inputs, wide, positions=before.positions),
        *normalised(path + ".conv_3x3", 3, wide, wide, wide, positions=after.positions),
        *normalised(path + ".reduce_1x1", 1, wide, outputs, positions=after.positions),
    ]


def _transformer(
    hyperparameters: Hyperparameters,
    path: str,
    channels: int,
    width: int,
    depth: int,
    heads: int,
    offset: int,
    grid: Grid,
) -> list[Placement]:
    """A transformer of its own width, between convolutions from the channels and back, and one that joins both.

    A position attends to those at the same place of every patch; the map is stretched to whole patches before.
    """
    patch, positions = hyperparameters.count("patch_size", 2), grid.positions
    whole = grid.halved(patch)
    hyperparameters.divided("head_dim", width, heads)
    kernel = hyperparameters.count("conv_kernel_size", 3)
    inner = hyperparameters.derived("the width of the MLP", int(width * ratio(hyperparameters, "mlp_ratio", 2.0)))
    layers = Encoder(hidden_size=width, intermediate_size=inner, num_layers=depth, num_heads=heads, names=vit.NAMES,
                     qkv_bias=hyperparameters.flag("qkv_bias", True), offset=offset)  # fmt: skip
    return [
        *normalised(path + "conv_kxk", kernel, channels, channels, positions=positions),
        Placement(path + "conv_1x1.convolution", Convolution(kernel=(1, 1), in_channels=channels, out_channels=width,
                                                             positions=positions)),
        *spread(layers.placements(path + "transformer.layer.{layer}"), whole.positions * patch**2, whole.positions),
        Placement(path + "layernorm", Norm(width=width, role="final_norm")),
        *normalised(path + "conv_projection", 1, width, channels, positions=positions),
        *normalised(path + "fusion", kernel, 2 * channels, channels, positions=positions),
    ]  # fmt: skip


FAMILY = Family(
    name="mobilevit",
    title="MobileViT",
    model_types=("mobilevit",),
    gguf={},
    source="transformers models/mobilevit",
    build=build,
)
