"""Phi-3.5-MoE: grouped-query attention with biases, LayerNorm, routed experts in every layer, a head with a bias.

Source: transformers `models/phimoe/{configuration,modeling}_phimoe.py`; tensor names are those of the published
checkpoints (`block_sparse_moe.experts.{expert}.w1`), which transformers 5 merges when it loads them.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts in every layer."""
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, num_kv_heads=8, qkv_bias=bias, output_bias=bias)
    num_experts, active = mixture.routing(hyperparameters, 16, 2)
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    experts = Experts(
        hidden_size=attention.hidden_size, intermediate_size=hyperparameters.count("intermediate_size", 6400),
        num_experts=num_experts, experts_per_token=active,
    )  # fmt: skip
    window = hyperparameters.optional_count("sliding_window")
    body = [
        Placement(LAYER + "self_attn", replace(attention, window=window), layers),
        Placement(LAYER + "block_sparse_moe", experts, layers),
    ]
    head = language_head(hyperparameters, ("PhiMoE",), bias=hyperparameters.flag("lm_head_bias", False))
    return mixture.decoder(hyperparameters, "phimoe", ("PhiMoE",), body, attention=attention,
                           num_experts=num_experts, norm_bias=True, head=head)  # fmt: skip


FAMILY = Family(
    name="phimoe",
    title="Phi-3.5-MoE",
    model_types=("phimoe",),
    gguf={},
    source="transformers models/phimoe",
    build=build,
)
