"""Jamba: Mamba mixers with one attention layer in eight, experts in every other layer, no positions.

Source: transformers `models/jamba/{configuration,modeling}_jamba.py` (5.x). A layer attends when its number leaves
`attn_layer_offset` over `attn_layer_period`, and has experts when it leaves `expert_layer_offset` over
`expert_layer_period`. Its mixers norm time step, B and C. Experts are named as in published checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward
from weighbridge.model.blocks.state_space import Mamba
from weighbridge.model.families.mamba import time_step_rank
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import GATED, LAYER, attention, decoder, natural


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Mixer or attention, then feed-forward block or experts."""
    hidden = hyperparameters.count("hidden_size")
    inner = hyperparameters.count("intermediate_size", 14336)
    num_experts = hyperparameters.count("num_experts", 16, most=MOST_EXPERTS)
    experts_per_token = hyperparameters.count("experts_per_token", 2)
    if num_experts > 1:
        hyperparameters.check_experts(num_experts, experts_per_token)
    attending, mixing = _layers(hyperparameters, "attn_layer", 8, 4)
    routed, dense = _layers(hyperparameters, "expert_layer", 2, 1)
    if num_experts == 1:
        routed, dense = (), sorted((*routed, *dense))
    heads = attention(hyperparameters, num_kv_heads=8)
    mixer = Mamba(
        hidden_size=hidden,
        inner_size=hyperparameters.count("mamba_expand", 2) * hidden,
        state_size=hyperparameters.count("mamba_d_state", 16),
        time_step_rank=time_step_rank(hyperparameters, "mamba_dt_rank"),
        conv_kernel=hyperparameters.count("mamba_d_conv", 4),
        bias=hyperparameters.flag("mamba_proj_bias", False),
        conv_bias=hyperparameters.flag("mamba_conv_bias", True),
        norms=("dt_layernorm", "b_layernorm", "c_layernorm"),
    )
    experts = Experts(hidden_size=hidden, intermediate_size=inner, num_experts=num_experts, names=GATED,
                      experts_per_token=experts_per_token, router="router")  # fmt: skip
    body = (
        Placement(LAYER + "self_attn", heads, attending),
        Placement(LAYER + "mamba", mixer, mixing),
        Placement(LAYER + "feed_forward", FeedForward(hidden_size=hidden, intermediate_size=inner), dense),
        Placement(LAYER + "feed_forward", experts, routed),
    )
    return decoder(hyperparameters, "jamba", ("Jamba",), body, attention=heads, num_experts=num_experts,
                   norms=("input_layernorm", "pre_ff_layernorm"), final="model.final_layernorm")  # fmt: skip


def _layers(hyperparameters: Hyperparameters, name: str, period: int, offset: int) -> tuple[Sequence[int], list[int]]:
    """The layers that a period and an offset pick, and the others."""
    period = hyperparameters.count(f"{name}_period", period)
    offset = natural(hyperparameters, f"{name}_offset", offset)
    if offset >= period:
        read = f"{hyperparameters.source} has {name}_offset = {offset} and {name}_period = {period}"
        raise ConfigError(read, "an offset below the period", "correct the keys")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    return layers[offset::period], [layer for layer in layers if layer % period != offset]


FAMILY = Family(
    name="jamba",
    title="Jamba",
    model_types=("jamba",),
    gguf={},
    source="transformers models/jamba",
    build=build,
)
