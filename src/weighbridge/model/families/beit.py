"""BEiT and data2vec for pictures: ViT's layer with a scale on each branch, keys without bias, relative positions.

Source: transformers `models/beit`, `models/data2vec/*_data2vec_vision.py`. Tensor names are those of published files,
which transformers 5 renames when it loads BEiT. Segmentation and use as a backbone are not described.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.families import vit
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import encoder, pair, patches, token
from weighbridge.model.tensors import Component

_KINDS = {
    "beit": ("Beit", "beit.", ("Model", "ForImageClassification", "ForMaskedImageModeling")),
    "data2vec-vision": ("Data2VecVision", "data2vec_vision.", ("Model", "ForImageClassification")),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    name, prefix, known = _KINDS[hyperparameters.model_type]
    suffix = head_class(hyperparameters, (name,), "Model")
    if suffix not in known:
        raise unknown_class(hyperparameters, tuple(name + part for part in known))
    for key in ("head_dim", "add_fpn"):
        hyperparameters.refuse(key, "which is not described")
    layers = replace(encoder(hyperparameters, 768, 3072, 12, 12, vit.NAMES), key_bias=False)
    base, width, every = "" if suffix == "Model" else prefix, layers.hidden_size, range(layers.num_layers)
    path, cut, table = base + "encoder.layer.{layer}", patches(hyperparameters), base + "embeddings"
    beside: list[Placement] = []
    if hyperparameters.flag("use_shared_relative_position_bias", False):
        beside.append(Placement(base + "encoder.relative_position_bias", _relative(hyperparameters, layers.num_heads)))
    if hyperparameters.flag("use_relative_position_bias", False):
        beside.append(Placement(path + ".attention.attention.relative_position_bias",
                                _relative(hyperparameters, layers.num_heads), every))  # fmt: skip
    if _scaled(hyperparameters):
        beside += [Placement(path, Vector(name=f"lambda_{branch}", width=width, role="layer_scale"), every)
                   for branch in (1, 2)]  # fmt: skip
    tokens = [token("cls_token", 1, 1, width)]
    if hyperparameters.flag("use_mask_token", False):
        tokens.append(token("mask_token", 1, 1, width))
    if hyperparameters.flag("use_absolute_position_embeddings", False):
        tokens.append(token("position_embeddings", 1, cut.count + 1, width))
    return Architecture(
        family="beit", model_type=hyperparameters.model_type,
        placements=(
            *(Placement(table, part) for part in tokens),
            Placement(table + ".patch_embeddings.projection", cut.convolution(width)),
            *layers.placements(path),
            *beside,
            *_top(hyperparameters, suffix, base, width),
        ),
        num_layers=layers.num_layers, num_heads=layers.num_heads, num_kv_heads=layers.num_heads, base_prefix=prefix,
    )  # fmt: skip


def _top(hyperparameters: Hyperparameters, suffix: str, base: str, width: int) -> list[Placement]:
    """The norm of the mean where patches are averaged, of every position where not, and the head."""
    norm, pooled = Norm(width=width, role="final_norm"), hyperparameters.flag("use_mean_pooling", True)
    top = [] if pooled else [Placement(base + "layernorm", norm)]
    # A bare BEiT has the pooler, a bare data2vec has not.
    if pooled and (suffix == "ForImageClassification" or (suffix == "Model" and hyperparameters.model_type == "beit")):
        top.append(Placement(base + "pooler.layernorm", norm))
    if suffix == "ForMaskedImageModeling":
        head = Linear(in_features=width, out_features=hyperparameters.count("vocab_size", 8192), role="head",
                      component=Component.HEAD)  # fmt: skip
        top += [Placement("layernorm", norm), Placement("lm_head", head)]
    if suffix == "ForImageClassification":
        score = Linear(in_features=width, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        top.append(Placement("classifier", score))
    return top


def _relative(hyperparameters: Hyperparameters, heads: int) -> Array:
    """A number for each head and distance between two patches, and three for distances from and to the class token."""
    height, width = pair(hyperparameters, "image_size", 224)
    rows, columns = pair(hyperparameters, "patch_size", 16)
    distances = (2 * (height // rows) - 1) * (2 * (width // columns) - 1) + 3
    return Array(name="relative_position_bias_table", shape=(distances, heads), role="relative_position",
                 component=Component.ATTENTION)  # fmt: skip


def _scaled(hyperparameters: Hyperparameters) -> bool:
    value = hyperparameters.settings.get("layer_scale_init_value", 0.1)
    if not isinstance(value, int | float):
        read = f"{hyperparameters.source} has layer_scale_init_value = {repr(value)[:60]}"
        raise ConfigError(read, "a number", "correct the key")
    return value > 0


FAMILY = Family(
    name="beit",
    title="BEiT, data2vec for pictures",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/beit, models/data2vec",
    build=build,
)
