"""PoolFormer: the layer of a transformer with an average over neighbours in place of attention, in stages.

Source: transformers `models/poolformer` (Yu et al. 2022). Norms are group norms with a scale and a shift a channel.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts, image_grid, one_image, ratio
from weighbridge.model.tensors import Component

_STAGES = {
    "depths": (2, 2, 6, 2), "hidden_sizes": (64, 128, 320, 512), "patch_sizes": (7, 3, 3, 3), "strides": (4, 2, 2, 2),
    "padding": (2, 1, 1, 1),
}  # fmt: skip
_CUT = ("patch_sizes", "strides", "padding")
"""Lists of which the class takes no more than it needs."""


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The stages, with a classifier where the class has one."""
    suffix = head_class(hyperparameters, ("PoolFormer",), "Model")
    if suffix not in ("Model", "ForImageClassification"):
        raise unknown_class(hyperparameters, ("PoolFormerModel", "PoolFormerForImageClassification"))
    base = "" if suffix == "Model" else "poolformer."
    blocks = hyperparameters.count("num_encoder_blocks", 4)
    stages = [
        counts(hyperparameters, key, default, least=0 if key == "padding" else 1)[: blocks if key in _CUT else None]
        for key, default in _STAGES.items()
    ]
    if {len(stage) for stage in stages} != {blocks} or sum(stages[0]) > MOST_LAYERS:
        read = f"{hyperparameters.source} has lists of {', '.join(str(len(stage)) for stage in stages)} stages"
        raise ConfigError(read, f"{blocks} for all of {', '.join(_STAGES)}", "correct the keys")
    width, done = hyperparameters.count("num_channels", 3), 0
    placements: list[Placement] = []
    grid = image = image_grid(hyperparameters)
    for stage, (depth, outputs, patch, stride, padding) in enumerate(zip(*stages, strict=True)):
        grid = grid.after(patch, stride, 2 * padding)
        cut = Convolution(kernel=(patch, patch), in_channels=width, out_channels=outputs, bias=True,
                          positions=grid.positions, component=Component.EMBEDDING)  # fmt: skip
        width = outputs
        placements.append(Placement(f"{base}encoder.patch_embeddings.{stage}.projection", cut))
        placements += [Placement(f"{base}encoder.block.{stage}.{{layer}}{path}", block, range(depth), offset=done)
                       for path, block in _layer(hyperparameters, width, grid.positions)]  # fmt: skip
        done += depth
    if base:
        score = Linear(in_features=width, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements += [Placement("norm", Norm(width=width, role="final_norm")), Placement("classifier", score)]
    return Architecture(family="poolformer", model_type="poolformer", placements=tuple(placements), num_layers=done,
                        num_heads=0, num_kv_heads=0, base_prefix="poolformer.",
                        notes=one_image(hyperparameters, image, grid))  # fmt: skip


def _layer(hyperparameters: Hyperparameters, width: int, positions: int) -> list[tuple[str, Block]]:
    """The parts of every layer, by their paths in it."""
    inner = hyperparameters.derived("the width of the MLP", int(width * ratio(hyperparameters, "mlp_ratio", 4.0)))
    maps = (("conv1", width, inner), ("conv2", inner, width))
    scales: list[tuple[str, Block]] = []
    if hyperparameters.flag("use_layer_scale", True):
        scales = [("", Vector(name=f"layer_scale_{branch}", width=width, role="layer_scale")) for branch in (1, 2)]
    return [
        *scales,
        (".before_norm", Norm(width=width)),
        *((f".output.{name}", Convolution(kernel=(1, 1), in_channels=inputs, out_channels=outputs, bias=True,
                                          positions=positions, component=Component.MLP))
          for name, inputs, outputs in maps),
        (".after_norm", Norm(width=width, role="mlp_norm")),
    ]  # fmt: skip


FAMILY = Family(
    name="poolformer",
    title="PoolFormer",
    model_types=("poolformer",),
    gguf={},
    source="transformers models/poolformer",
    build=build,
)
