"""DINOv3's ViT: rotary positions in place of a table, register tokens, a scale on each branch, biases one by one.

Source: transformers `models/dinov3_vit/{configuration,modeling}_dinov3_vit.py` (5.x); tensor names are those of
published files (`layer.0`, not `model.layer.0`).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import encoder, pair, token
from weighbridge.model.tensors import Component

_MAPS = (("q_proj", "query_bias", True), ("k_proj", "key_bias", False), ("v_proj", "value_bias", True),
         ("o_proj", "proj_bias", True))  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The bare encoder."""
    if hyperparameters.classes not in ((), ("DINOv3ViTModel",)):
        raise unknown_class(hyperparameters, ("DINOv3ViTModel",))
    shape = encoder(hyperparameters, 384, 1536, 12, 6)
    width, layers, layer = shape.hidden_size, range(shape.num_layers), "layer.{layer}"
    registers = 0
    if hyperparameters.settings.get("num_register_tokens"):
        registers = hyperparameters.count("num_register_tokens")
    cut = Convolution(kernel=pair(hyperparameters, "patch_size", 16), out_channels=width, bias=True,
                      in_channels=hyperparameters.count("num_channels", 3), component=Component.EMBEDDING)  # fmt: skip
    mlp = FeedForward(hidden_size=width, intermediate_size=shape.intermediate_size,
                      gate="gate_proj" if hyperparameters.flag("use_gated_mlp", False) else None,
                      bias=hyperparameters.flag("mlp_bias", True))  # fmt: skip
    scale = Vector(name="lambda1", width=width, role="layer_scale")
    tokens = [token("cls_token", 1, 1, width), token("mask_token", 1, 1, width)]
    if registers:
        tokens.append(token("register_tokens", 1, registers, width))
    return Architecture(
        family="dinov3_vit",
        model_type=hyperparameters.model_type,
        placements=(
            *(Placement("embeddings", part) for part in tokens),
            Placement("embeddings.patch_embeddings", cut),
            Placement(layer + ".norm1", Norm(width=width, role="attention_norm"), layers),
            *(Placement(f"{layer}.attention.{name}", _linear(width, hyperparameters.flag(key, default)), layers)
              for name, key, default in _MAPS),
            Placement(layer + ".layer_scale1", scale, layers),
            Placement(layer + ".norm2", Norm(width=width, role="mlp_norm"), layers),
            Placement(layer + ".mlp", mlp, layers),
            Placement(layer + ".layer_scale2", scale, layers),
            Placement("norm", Norm(width=width, role="final_norm")),
        ),
        num_layers=shape.num_layers,
        num_heads=shape.num_heads,
        num_kv_heads=shape.num_heads,
    )  # fmt: skip


def _linear(width: int, bias: bool) -> Linear:
    return Linear(in_features=width, out_features=width, bias=bias, component=Component.ATTENTION)


FAMILY = Family(
    name="dinov3_vit",
    title="DINOv3's ViT",
    model_types=("dinov3_vit",),
    gguf={},
    source="transformers models/dinov3_vit",
    build=build,
)
