"""ConvNeXt and ConvNeXt V2: depthwise convolutions and two maps a layer, in stages of growing width.

Source: transformers `models/{convnext,convnextv2}/{configuration,modeling}_*.py` (5.x; Liu et al. 2022, Woo et al.
2023). V2 has a response normalisation between the maps in place of the scale on the branch.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts, image_grid, one_image, pair
from weighbridge.model.tensors import Component

_NAMES = {"convnext": "ConvNext", "convnextv2": "ConvNextV2"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The stages and a final norm, with a classifier where the class has one."""
    name = _NAMES[hyperparameters.model_type]
    suffix = head_class(hyperparameters, (name,), "Model")
    if suffix not in ("Model", "ForImageClassification"):
        raise unknown_class(hyperparameters, (name + "Model", name + "ForImageClassification"))
    widths = counts(hyperparameters, "hidden_sizes", (96, 192, 384, 768))
    depths = counts(hyperparameters, "depths", (3, 3, 9, 3), most=MOST_LAYERS)
    stages = hyperparameters.settings.get("num_stages", hyperparameters.settings.get("num_layers", 4))
    if not len(widths) == len(depths) == stages:
        read = f"{hyperparameters.source} has {len(widths)} widths, {len(depths)} depths and num_stages = {stages}"
        raise ConfigError(read, "one of each a stage", "correct the keys")
    base = "" if suffix == "Model" else hyperparameters.model_type + "."
    patch, width = pair(hyperparameters, "patch_size", 4), widths[0]
    image = image_grid(hyperparameters)
    grid = image.after(patch, patch)
    cut = Convolution(kernel=patch, in_channels=hyperparameters.count("num_channels", 3), out_channels=width, bias=True,
                      positions=grid.positions, component=Component.EMBEDDING)  # fmt: skip
    placements = [
        Placement(base + "embeddings.patch_embeddings", cut),
        Placement(base + "embeddings.layernorm", Norm(width=width, role="embedding_norm")),
    ]
    for stage, (outputs, depth) in enumerate(zip(widths, depths, strict=True)):
        path = f"{base}encoder.stages.{stage}."
        if stage:
            grid = grid.after(2, 2)
            halving = Convolution(kernel=(2, 2), in_channels=width, out_channels=outputs, bias=True,
                                  positions=grid.positions)  # fmt: skip
            placements += [Placement(path + "downsampling_layer.0", Norm(width=width)),
                           Placement(path + "downsampling_layer.1", halving)]  # fmt: skip
        width = outputs
        for layer in range(depth):
            placements += _layer(hyperparameters, f"{path}layers.{layer}", width, grid.positions)
    placements.append(Placement(base + "layernorm", Norm(width=width, role="final_norm")))
    if base:
        score = Linear(in_features=width, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements.append(Placement("classifier", score))
    return Architecture(family="convnext", model_type=hyperparameters.model_type, placements=tuple(placements),
                        num_layers=0, num_heads=0, num_kv_heads=0,
                        base_prefix=hyperparameters.model_type + ".",
                        notes=one_image(hyperparameters, image, grid))  # fmt: skip


def _layer(hyperparameters: Hyperparameters, path: str, width: int, positions: int) -> list[Placement]:
    depthwise = Convolution(kernel=(7, 7), in_channels=width, out_channels=width, groups=width, bias=True,
                            positions=positions)  # fmt: skip
    layer = [
        Placement(path + ".dwconv", depthwise),
        Placement(path + ".layernorm", Norm(width=width)),
        Placement(path + ".pwconv1", Linear(in_features=width, out_features=4 * width, positions=positions)),
        Placement(path + ".pwconv2", Linear(in_features=4 * width, out_features=width, positions=positions)),
    ]
    if hyperparameters.model_type == "convnextv2":
        return [*layer, *(Placement(path + ".grn", Array(name=part, shape=(1, 1, 1, 4 * width)))
                          for part in ("weight", "bias"))]  # fmt: skip
    scale = hyperparameters.settings.get("layer_scale_init_value", 1e-6)
    if not isinstance(scale, int | float):
        read = f"{hyperparameters.source} has layer_scale_init_value = {repr(scale)[:60]}"
        raise ConfigError(read, "a number", "correct the key")
    return [*layer, Placement(path, Vector(name="layer_scale_parameter", width=width))] if scale > 0 else layer


FAMILY = Family(
    name="convnext",
    title="ConvNeXt and ConvNeXt V2",
    model_types=("convnext", "convnextv2"),
    gguf={},
    source="transformers models/convnext, models/convnextv2",
    build=build,
)
