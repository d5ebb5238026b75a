"""SegFormer: stages of attention over a shortened sequence, and a light head that joins all of them.

Source: transformers `models/segformer` (Xie et al. 2021). Keys and values are computed from patches that a strided
convolution joins. Tensor names are those of published files, which transformers 5 renames when it loads them.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Encoder, Grid, Names, counts, image_grid, one_image, spread
from weighbridge.model.tensors import Component

_NAMES = Names(attention="attention", projections=("self.query", "self.key", "self.value", "output.dense"),
               norms=("layer_norm_1", "layer_norm_2"), mlp="mlp", up="dense1", down="dense2")  # fmt: skip
_CLASSES = ("Model", "ForImageClassification", "ForSemanticSegmentation")
_STAGES = {
    "depths": (2, 2, 2, 2), "hidden_sizes": (32, 64, 160, 256), "num_heads": (1, 2, 5, 8), "sr_ratios": (8, 4, 2, 1),
    "patch_sizes": (7, 3, 3, 3), "mlp_ratios": (4, 4, 4, 4), "strides": (4, 2, 2, 2),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The stages, with the head of the class."""
    suffix = head_class(hyperparameters, ("Segformer",), "Model")
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple("Segformer" + part for part in _CLASSES))
    base = "" if suffix == "Model" else "segformer."
    stages = [counts(hyperparameters, *item) for item in _STAGES.items()]
    stages[-1] = stages[-1][: len(stages[0])]  # the class takes no more strides than it needs
    blocks = {hyperparameters.count(key, len(stages[0])) for key in ("num_encoder_blocks", "num_layers")}
    if len({len(stage) for stage in stages} | blocks) > 1 or sum(stages[0]) > MOST_LAYERS:
        read = f"{hyperparameters.source} has lists of {', '.join(str(len(stage)) for stage in stages)} stages"
        raise ConfigError(read, f"one length for all of {', '.join(_STAGES)}", "correct the keys")
    placements: list[Placement] = []
    width, done = hyperparameters.count("num_channels", 3), 0
    grid = image = image_grid(hyperparameters, default=512)
    grids, seen = [], []
    for stage, (depth, outputs, heads, shortening, patch, ratio, stride) in enumerate(zip(*stages, strict=True)):
        grid = grid.after(patch, stride, 2 * (patch // 2))
        short = grid.after(shortening, shortening)
        grids.append(grid)
        seen.append(short)
        cut = f"{base}encoder.patch_embeddings.{stage}"
        placements += [
            Placement(cut + ".proj", Convolution(kernel=(patch, patch), in_channels=width, out_channels=outputs,
                                                 bias=True, positions=grid.positions,
                                                 component=Component.EMBEDDING)),
            Placement(cut + ".layer_norm", Norm(width=outputs, role="embedding_norm")),
        ]  # fmt: skip
        width = outputs
        hyperparameters.divided("head_dim", width, heads)
        layers = Encoder(hidden_size=width, intermediate_size=ratio * width, num_layers=depth, num_heads=heads,
                         names=_NAMES, offset=done)  # fmt: skip
        placements += _stage(
            f"{base}encoder.block.{stage}.{{layer}}", layers, shortening, grid.positions, short.positions
        )
        placements.append(Placement(f"{base}encoder.layer_norm.{stage}", Norm(width=width, role="final_norm")))
        done += depth
    heads = stages[2][-1]
    return Architecture(
        family="segformer", model_type="segformer",
        placements=(*placements, *_top(hyperparameters, suffix, stages[1], grids)), num_layers=done,
        num_heads=heads, num_kv_heads=heads, base_prefix="segformer.",
        notes=one_image(hyperparameters, image, min(seen, key=lambda grid: grid.positions)),
    )  # fmt: skip


def _stage(path: str, layers: Encoder, shortening: int, positions: int, short: int) -> list[Placement]:
    """The layers of one stage, with what shortens keys and values, and the convolution between the maps."""
    width, inner, every = layers.hidden_size, layers.intermediate_size, range(layers.num_layers)
    mixing = Convolution(kernel=(3, 3), in_channels=inner, out_channels=inner, groups=inner, bias=True,
                         positions=positions, component=Component.MLP)  # fmt: skip
    placements = [
        *spread(layers.placements(path), positions, short, sources=short),
        Placement(path + ".mlp.dwconv.dwconv", mixing, every, offset=layers.offset),
    ]
    if shortening > 1:
        joined = Convolution(kernel=(shortening, shortening), in_channels=width, out_channels=width, bias=True,
                             positions=short, component=Component.ATTENTION)  # fmt: skip
        placements += [Placement(path + ".attention.self.sr", joined, every, offset=layers.offset),
                       Placement(path + ".attention.self.layer_norm", Norm(width=width), every,
                                 offset=layers.offset)]  # fmt: skip
    return placements


def _top(hyperparameters: Hyperparameters, suffix: str, widths: tuple[int, ...], grids: list[Grid]) -> list[Placement]:
    labels = hyperparameters.count("num_labels", 2)
    if suffix == "Model":
        return []
    if suffix == "ForImageClassification":
        return [Placement("classifier", Linear(in_features=widths[-1], out_features=labels, role="score",
                                               component=Component.HEAD))]  # fmt: skip
    joined = hyperparameters.count("decoder_hidden_size", 256)

    def mixed(inputs: int, outputs: int, bias: bool) -> Convolution:
        return Convolution(kernel=(1, 1), in_channels=inputs, out_channels=outputs, bias=bias,
                           positions=grids[0].positions, component=Component.HEAD)  # fmt: skip

    return [
        *(Placement(f"decode_head.linear_c.{stage}.proj",
                    Linear(in_features=width, out_features=joined, role="head_transform", component=Component.HEAD,
                           positions=grid.positions))
          for stage, (width, grid) in enumerate(zip(widths, grids, strict=True))),
        Placement("decode_head.linear_fuse", mixed(joined * len(widths), joined, False)),
        Placement("decode_head.batch_norm", Norm(width=joined, running_statistics=True)),
        Placement("decode_head.classifier", mixed(joined, labels, True)),
    ]  # fmt: skip


FAMILY = Family(
    name="segformer",
    title="SegFormer",
    model_types=("segformer",),
    gguf={},
    source="transformers models/segformer",
    build=build,
)
