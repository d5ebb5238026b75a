"""DINOv2, with or without register tokens: ViT with a mask token, a scale on each branch and optionally a gated block.

Source: transformers `models/{dinov2,dinov2_with_registers}/{configuration,modeling}_*.py`; tensor names are those of
published files, in which the gated block has gate and up in one map (`weights_in`).
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm, Vector
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, Names, encoder, patches, token
from weighbridge.model.tensors import Component

_NAMES = Names(attention="attention",
               projections=("attention.query", "attention.key", "attention.value", "output.dense"),
               norms=("norm1", "norm2"))  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The bare encoder, or a classifier over the class token and the mean of the patches."""
    registered = hyperparameters.model_type == "dinov2_with_registers"
    name = "Dinov2WithRegisters" if registered else "Dinov2"
    suffix = head_class(hyperparameters, (name,), "Model")
    if suffix not in ("Model", "ForImageClassification"):
        raise unknown_class(hyperparameters, (name + "Model", name + "ForImageClassification"))
    layers = encoder(hyperparameters, 768, 1, 12, 12, _NAMES)
    width = layers.hidden_size
    layers = replace(layers, intermediate_size=width * hyperparameters.count("mlp_ratio", 4),
                     qkv_bias=hyperparameters.flag("qkv_bias", True))  # fmt: skip
    cut = patches(hyperparameters, 224, 16 if registered else 14)
    base = "" if suffix == "Model" else hyperparameters.model_type + "."
    table = base + "embeddings"
    tokens = [token("cls_token", 1, 1, width)]
    if registered or hyperparameters.flag("use_mask_token", True):
        tokens.append(token("mask_token", 1, width))
    if registered:
        tokens.append(token("register_tokens", 1, hyperparameters.count("num_register_tokens", 4), width))
    score = Linear(in_features=2 * width, out_features=hyperparameters.count("num_labels", 2), role="score",
                   component=Component.HEAD)  # fmt: skip
    return Architecture(
        family="dinov2",
        model_type=hyperparameters.model_type,
        placements=(
            *(Placement(table, part) for part in tokens),
            Placement(table, token("position_embeddings", 1, cut.count + 1, width)),
            Placement(table + ".patch_embeddings.projection", cut.convolution(width)),
            *_layers(hyperparameters, layers, base + "encoder.layer.{layer}"),
            Placement(base + "layernorm", Norm(width=width, role="final_norm")),
            *((Placement("classifier", score),) if base else ()),
        ),
        num_layers=layers.num_layers,
        num_heads=layers.num_heads,
        num_kv_heads=layers.num_heads,
        base_prefix=hyperparameters.model_type + ".",
    )


def _layers(hyperparameters: Hyperparameters, layers: Encoder, path: str) -> tuple[Placement, ...]:
    scale = Vector(name="lambda1", width=layers.hidden_size, role="layer_scale")
    every = range(layers.num_layers)
    scales = tuple(Placement(f"{path}.layer_scale{branch}", scale, every) for branch in (1, 2))
    body = layers.placements(path)
    if hyperparameters.flag("use_swiglu_ffn", False):
        inner = (int(layers.intermediate_size * 2 / 3) + 7) // 8 * 8
        up = Linear(in_features=layers.hidden_size, out_features=2 * inner, role="mlp_gate_up",
                    component=Component.MLP)  # fmt: skip
        down = Linear(in_features=inner, out_features=layers.hidden_size, role="mlp_down", component=Component.MLP)
        body = (*body[:-1], Placement(path + ".mlp.weights_in", up, every),
                Placement(path + ".mlp.weights_out", down, every))  # fmt: skip
    return (*body, *scales)


FAMILY = Family(
    name="dinov2",
    title="DINOv2, with and without registers",
    model_types=("dinov2", "dinov2_with_registers"),
    gguf={},
    source="transformers models/dinov2, models/dinov2_with_registers",
    build=build,
)
