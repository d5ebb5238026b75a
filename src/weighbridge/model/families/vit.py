"""ViT and DeiT: the transformer over image patches, with a class token, and DeiT's token for distillation beside it.

Source: transformers `models/{vit,deit}/{configuration,modeling}_*.py`; tensor names are those of published files
(`encoder.layer.0.attention.attention.query`), which transformers 5 renames when it loads them.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Names, encoder, patches, token
from weighbridge.model.tensors import Component

NAMES = Names(attention="attention",
              projections=("attention.query", "attention.key", "attention.value", "output.dense"),
              norms=("layernorm_before", "layernorm_after"), mlp="", up="intermediate.dense",
              down="output.dense")  # fmt: skip

_CLASSES = ("Model", "ForImageClassification", "ForMaskedImageModeling")
_TEACHER = "ForImageClassificationWithTeacher"


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    distilled = hyperparameters.model_type == "deit"
    known = (*_CLASSES, _TEACHER) if distilled else _CLASSES
    name = "DeiT" if distilled else "ViT"
    suffix = head_class(hyperparameters, (name,), "Model")
    if suffix not in known:
        raise unknown_class(hyperparameters, tuple(name + part for part in known))
    layers = encoder(hyperparameters, 768, 3072, 12, 12, NAMES)
    layers = replace(layers, qkv_bias=hyperparameters.flag("qkv_bias", True))
    cut, width = patches(hyperparameters), layers.hidden_size
    base = "" if suffix == "Model" else hyperparameters.model_type + "."
    table = base + "embeddings"
    tokens = ["cls_token", "distillation_token"] if distilled else ["cls_token"]
    learned = [*tokens, "mask_token"] if suffix == "ForMaskedImageModeling" else tokens
    return Architecture(
        family="vit",
        model_type=hyperparameters.model_type,
        placements=(
            *(Placement(table, token(part, 1, 1, width)) for part in learned),
            Placement(table, token("position_embeddings", 1, cut.count + len(tokens), width)),
            Placement(table + ".patch_embeddings.projection", cut.convolution(width)),
            *layers.placements(base + "encoder.layer.{layer}"),
            Placement(base + "layernorm", Norm(width=width, role="final_norm")),
            *_top(hyperparameters, suffix, width, cut.channels),
        ),
        num_layers=layers.num_layers,
        num_heads=layers.num_heads,
        num_kv_heads=layers.num_heads,
        base_prefix=hyperparameters.model_type + ".",
        notes=() if hyperparameters.classes else ("no class is named; taken as the bare encoder with its pooler",),
    )


def _top(hyperparameters: Hyperparameters, suffix: str, width: int, channels: int) -> list[Placement]:
    if suffix == "Model":
        pooled = hyperparameters.count("pooler_output_size", width)
        return [Placement("pooler.dense", Linear(in_features=width, out_features=pooled, role="pooler"))]
    if suffix == "ForMaskedImageModeling":
        outputs = hyperparameters.count("encoder_stride", 16) ** 2 * channels
        return [Placement("decoder.0", Convolution(kernel=(1, 1), in_channels=width, out_channels=outputs, bias=True,
                                                   component=Component.HEAD))]  # fmt: skip
    score = Linear(in_features=width, out_features=hyperparameters.count("num_labels", 2), role="score",
                   component=Component.HEAD)  # fmt: skip
    paths = ("cls_classifier", "distillation_classifier") if suffix == _TEACHER else ("classifier",)
    return [Placement(path, score) for path in paths]


FAMILY = Family(
    name="vit",
    title="ViT and DeiT",
    model_types=("vit", "deit"),
    gguf={},
    source="transformers models/vit, models/deit",
    build=build,
)
