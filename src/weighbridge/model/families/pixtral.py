"""Pixtral's tower: RMSNorm, gated feed-forward and rotary positions over patches, without biases.

Source: transformers `models/pixtral/{configuration,modeling}_pixtral.py` (5.x).
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Norm
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, Names, encoder, patches

_NAMES = Names(attention="attention", projections=("q_proj", "k_proj", "v_proj", "o_proj"),
               norms=("attention_norm", "ffn_norm"), mlp="feed_forward", gate="gate_proj", up="up_proj",
               down="down_proj")  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The tower alone."""
    if hyperparameters.classes not in ((), ("PixtralVisionModel",)):
        raise unknown_class(hyperparameters, ("PixtralVisionModel",))
    placements, layers = vision_encoder(hyperparameters, "")
    return Architecture(family="pixtral", model_type=hyperparameters.model_type, placements=placements,
                        num_layers=layers.num_layers, num_heads=layers.num_heads,
                        num_kv_heads=layers.num_heads)  # fmt: skip


def vision_encoder(hyperparameters: Hyperparameters, path: str) -> tuple[tuple[Placement, ...], Encoder]:
    """The tower at a path, or at the root for an empty one."""
    base = path + "." if path else ""
    layers = replace(encoder(hyperparameters, 1024, 4096, 24, 16, _NAMES), bias=False, qkv_bias=False,
                     output_bias=False, norm_bias=False)  # fmt: skip
    width = layers.hidden_size
    cut = patches(hyperparameters, 1024, 16).convolution(width, bias=False)
    return (
        Placement(base + "patch_conv", cut),
        Placement(base + "ln_pre", Norm(width=width, bias=False, role="embedding_norm")),
        *layers.placements(base + "transformer.layers.{layer}"),
    ), layers


FAMILY = Family(
    name="pixtral",
    title="Pixtral's image encoder",
    model_types=("pixtral",),
    gguf={},
    source="transformers models/pixtral",
    build=build,
)
