"""Falcon H1: attention and a Mamba 2 mixer side by side in every layer, then a feed-forward block.

Source: transformers `models/falcon_h1/{configuration,modeling}_falcon_h1.py` (5.x). `mamba_d_ssm` is the mixer's width,
`mamba_rms_norm` gives it a gated norm, and its output has the bias of `projectors_bias`.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import FeedForward
from weighbridge.model.blocks.state_space import Mamba2
from weighbridge.model.families.mamba2 import check_inner_size
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, attention, decoder


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Attention and mixer, then a feed-forward block."""
    hidden = hyperparameters.count("hidden_size")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    bias = hyperparameters.flag("attention_bias", False)
    kv_heads = None if "num_kv_heads" in hyperparameters.settings else 8
    heads = attention(hyperparameters, num_kv_heads=kv_heads, qkv_bias=bias, output_bias=bias)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               bias=hyperparameters.flag("mlp_bias", False))  # fmt: skip
    body = (
        Placement(LAYER + "mamba", _mixer(hyperparameters), layers),
        Placement(LAYER + "self_attn", heads, layers),
        Placement(LAYER + "feed_forward", feed_forward, layers),
    )
    return decoder(hyperparameters, "falcon_h1", ("FalconH1",), body, attention=heads, num_experts=0,
                   norms=("input_layernorm", "pre_ff_layernorm"), final="model.final_layernorm")  # fmt: skip


def _mixer(hyperparameters: Hyperparameters) -> Mamba2:
    hidden, settings = hyperparameters.count("hidden_size"), hyperparameters.settings
    if "mamba_d_ssm" in settings and settings["mamba_d_ssm"] is None:
        inner = hyperparameters.count("mamba_expand", 2) * hidden
    else:
        inner = hyperparameters.count("mamba_d_ssm", 1024)
    num_heads = hyperparameters.count("mamba_n_heads", 128)
    automatic = settings.get("mamba_d_head") in (None, "auto")
    found = Mamba2(
        hidden_size=hidden,
        num_heads=num_heads,
        head_dim=inner // num_heads if automatic else hyperparameters.count("mamba_d_head"),
        num_groups=hyperparameters.count("mamba_n_groups", 1),
        state_size=hyperparameters.count("mamba_d_state", 256),
        conv_kernel=hyperparameters.count("mamba_d_conv", 4),
        bias=hyperparameters.flag("mamba_proj_bias", False),
        output_bias=hyperparameters.flag("projectors_bias", False),
        conv_bias=hyperparameters.flag("mamba_conv_bias", "mamba_conv_bias" not in hyperparameters.settings),
        norm=hyperparameters.flag("mamba_rms_norm", False),
    )
    check_inner_size(hyperparameters, found, inner)
    return found


FAMILY = Family(
    name="falcon_h1",
    title="Falcon H1",
    model_types=("falcon_h1",),
    gguf={},
    source="transformers models/falcon_h1",
    build=build,
)
