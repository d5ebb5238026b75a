"""Bamba: Mamba 2 mixers with attention in the layers that `attn_layer_indices` lists, a feed-forward block in each.

Source: transformers `models/bamba/{configuration,modeling}_bamba.py` (5.x).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import FeedForward
from weighbridge.model.blocks.state_space import Mamba2
from weighbridge.model.families.mamba2 import check_inner_size
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, attention, decoder, whole_numbers


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Mixer or attention, then a feed-forward block."""
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    attending = set(whole_numbers(hyperparameters, "attn_layer_indices") or ())
    bias = hyperparameters.flag("attention_bias", False)
    kv_heads = None if "num_kv_heads" in hyperparameters.settings else 8
    heads = attention(hyperparameters, num_kv_heads=kv_heads, qkv_bias=bias, output_bias=bias)
    feed_forward = FeedForward(
        hidden_size=hyperparameters.count("hidden_size"),
        intermediate_size=hyperparameters.count("intermediate_size"),
        bias=hyperparameters.flag("mlp_bias", False),
    )
    body = (
        Placement(LAYER + "self_attn", heads, [layer for layer in layers if layer in attending]),
        Placement(LAYER + "mamba", mixer(hyperparameters), [layer for layer in layers if layer not in attending]),
        Placement(LAYER + "feed_forward", feed_forward, layers),
    )
    return decoder(hyperparameters, "bamba", ("Bamba",), body, attention=heads, num_experts=0,
                   norms=("input_layernorm", "pre_ff_layernorm"), final="model.final_layernorm")  # fmt: skip


def mixer(hyperparameters: Hyperparameters) -> Mamba2:
    """The mixer in the spelling that Bamba and Granite share."""
    hidden = hyperparameters.count("hidden_size")
    inner = hyperparameters.count("mamba_expand", 2) * hidden
    num_heads = hyperparameters.count("mamba_n_heads", 128)
    automatic = hyperparameters.settings.get("mamba_d_head") in (None, "auto")
    found = Mamba2(
        hidden_size=hidden,
        num_heads=num_heads,
        head_dim=inner // num_heads if automatic else hyperparameters.count("mamba_d_head"),
        num_groups=hyperparameters.count("mamba_n_groups", 1),
        state_size=hyperparameters.count("mamba_d_state", 256),
        conv_kernel=hyperparameters.count("mamba_d_conv", 4),
        bias=hyperparameters.flag("mamba_proj_bias", False),
        conv_bias=hyperparameters.flag("mamba_conv_bias", "mamba_conv_bias" not in hyperparameters.settings),
    )
    check_inner_size(hyperparameters, found, inner)
    return found


FAMILY = Family(
    name="bamba",
    title="Bamba",
    model_types=("bamba",),
    gguf={},
    source="transformers models/bamba",
    build=build,
)
