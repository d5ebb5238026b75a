"""Swin and Swin 2: attention in shifted windows, in stages that halve the resolution and double the width.

Source: transformers `models/{swin,swinv2}`. Each head of Swin has a table of relative positions in the window, Swin 2 a
small network that computes it. Tensor names are those of published files, which transformers 5 renames for Swin.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import (
    Encoder,
    Grid,
    Names,
    counts,
    image_grid,
    one_image,
    pair,
    patches,
    ratio,
    spread,
    token,
)
from weighbridge.model.tensors import Component

_NAMES = Names(attention="attention", projections=("self.query", "self.key", "self.value", "output.dense"),
               norms=("layernorm_before", "layernorm_after"), mlp="", up="intermediate.dense",
               down="output.dense")  # fmt: skip
_CLASSES = ("Model", "ForImageClassification", "ForMaskedImageModeling")
_HIDDEN = 512
"""Width of the network for positions."""


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The stages, with what the class puts on them."""
    first = hyperparameters.model_type == "swin"
    name = "Swin" if first else "Swinv2"
    suffix = head_class(hyperparameters, (name,), "Model")
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple(name + part for part in _CLASSES))
    base = "" if suffix == "Model" else f"{hyperparameters.model_type}."
    depths = counts(hyperparameters, "depths", (2, 2, 6, 2), most=MOST_LAYERS)
    heads = counts(hyperparameters, "num_heads", (3, 6, 12, 24))
    width, cut, table = hyperparameters.count("embed_dim", 96), patches(hyperparameters, 224, 4), base + "embeddings"
    if len(depths) != len(heads) or len(depths) > 16:
        read = f"{hyperparameters.source} has {len(depths)} depths and {len(heads)} num_heads"
        raise ConfigError(read, "one of each for a few stages", "correct the keys")
    hyperparameters.same("the number of stages", hyperparameters.count("num_layers", len(depths)), len(depths))
    learned = [token("mask_token", 1, 1, width)] if suffix == "ForMaskedImageModeling" else []
    if hyperparameters.flag("use_absolute_embeddings", False):
        learned.append(token("position_embeddings", 1, cut.count + (0 if first else 1), width))
    image = image_grid(hyperparameters)
    grid = Grid(-(-image.height // cut.size[0]), -(-image.width // cut.size[1]))  # padded
    placements = [
        *(Placement(table, part) for part in learned),
        Placement(table + ".patch_embeddings.projection", replace(cut.convolution(width), positions=grid.positions)),
        Placement(table + ".norm", Norm(width=width, role="embedding_norm")),
    ]
    done = 0
    for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
        path = f"{base}encoder.layers.{stage}"
        most = min(grid.height, grid.width) if first else max(1, image.height // cut.size[0] >> stage)
        window = Grid(*(min(side, most) for side in pair(hyperparameters, "window_size", 7)))
        placements += _windows(stage_of(hyperparameters, path, width, depth, count, done), grid, window)
        done += depth
        if stage + 1 < len(depths):
            grid = grid.halved()
            merged = Linear(in_features=4 * width, out_features=2 * width, bias=False, positions=grid.positions)
            normed = Norm(width=4 * width if first else 2 * width)
            placements += [Placement(path + ".downsample.reduction", merged),
                           Placement(path + ".downsample.norm", normed)]  # fmt: skip
            width *= 2
    placements.append(Placement(base + "layernorm", Norm(width=width, role="final_norm")))
    if suffix == "ForImageClassification":
        score = Linear(in_features=width, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements.append(Placement("classifier", score))
    if suffix == "ForMaskedImageModeling":
        pixels = hyperparameters.count("encoder_stride", 32) ** 2 * cut.channels
        painted = Convolution(kernel=(1, 1), in_channels=width, out_channels=pixels, bias=True,
                              positions=grid.positions, component=Component.HEAD)  # fmt: skip
        placements.append(Placement("decoder.0", painted))
    return Architecture(family="swin", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=done, num_heads=heads[-1], num_kv_heads=heads[-1],
                        base_prefix=f"{hyperparameters.model_type}.",
                        notes=one_image(hyperparameters, image, grid))  # fmt: skip


def _windows(stage: list[Placement], grid: Grid, window: Grid) -> list[Placement]:
    """A stage's layers on a map that attention pads to whole windows; Swin 2 maps each distance in a window once."""
    rows, columns = -(-grid.height // window.height), -(-grid.width // window.width)
    distances = (2 * window.height - 1) * (2 * window.width - 1)
    return [
        replace(placement, block=replace(placement.block, positions=distances))
        if isinstance(placement.block, Linear) else placement
        for placement in spread(stage, grid.positions, window.positions, padded=rows * columns * window.positions)
    ]  # fmt: skip


def stage_of(
    hyperparameters: Hyperparameters, path: str, width: int, depth: int, heads: int, offset: int
) -> list[Placement]:
    """The layers of one stage, and how each of them knows positions in its window."""
    first = hyperparameters.model_type == "swin"
    hyperparameters.divided("head_dim", width, heads)
    inner = hyperparameters.derived("the width of the MLP", int(ratio(hyperparameters, "mlp_ratio", 4.0) * width))
    layers = Encoder(
        hidden_size=width, intermediate_size=inner, num_layers=depth, num_heads=heads, names=_NAMES,
        qkv_bias=hyperparameters.flag("qkv_bias", True), key_bias=first, offset=offset,
    )  # fmt: skip
    own, every = f"{path}.blocks.{{layer}}.attention.self", range(depth)
    if first:
        height, breadth = pair(hyperparameters, "window_size", 7)
        relative = Array(name="relative_position_bias_table", shape=((2 * height - 1) * (2 * breadth - 1), heads),
                         role="relative_position", component=Component.ATTENTION)  # fmt: skip
        return [*layers.placements(f"{path}.blocks.{{layer}}"), Placement(own, relative, every, offset=offset)]
    scale = Array(name="logit_scale", shape=(heads, 1, 1), component=Component.ATTENTION)
    network = [
        Linear(in_features=2, out_features=_HIDDEN, component=Component.ATTENTION),
        Linear(in_features=_HIDDEN, out_features=heads, bias=False, component=Component.ATTENTION),
    ]
    return [
        *layers.placements(f"{path}.blocks.{{layer}}"),
        Placement(own, scale, every, offset=offset),
        *(Placement(f"{own}.continuous_position_bias_mlp.{2 * place}", block, every, offset=offset)
          for place, block in enumerate(network)),
    ]  # fmt: skip


FAMILY = Family(
    name="swin",
    title="Swin and Swin 2",
    model_types=("swin", "swinv2"),
    gguf={},
    source="transformers models/swin, models/swinv2",
    build=build,
)
