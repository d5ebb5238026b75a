"""Mellum 2: grouped-query attention with head norms, windows and experts where the configuration lists them.

Source: transformers `models/mellum/{configuration,modeling}_mellum.py` (5.x); experts are named as in published
checkpoints. Next-token-prediction layers (`num_mtp_layers`) are not described.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward
from weighbridge.model.decoder import windows_by_type, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with full or windowed, dense or routed layers."""
    hyperparameters = with_defaults(hyperparameters, {"sliding_window": 1024, "head_dim": 128})
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, num_kv_heads=4, qkv_bias=bias, output_bias=bias)
    hidden, layers = attention.hidden_size, range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    num_experts, active = mixture.routing(hyperparameters, 64, 8)
    experts = Experts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("moe_intermediate_size", 896),
        num_experts=num_experts, experts_per_token=active, names=mixture.GATED,
    )  # fmt: skip
    dense_block = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 7168))
    kinds = mixture.named_layers(hyperparameters, "mlp_layer_types", len(layers), ("dense", "sparse"))
    parts = dict(mixture.grouped(kinds or ["sparse"] * len(layers)))
    body = [
        *(Placement(LAYER + "self_attn", replace(attention, window=window), some)
          for window, some in windows_by_type(hyperparameters, ["full_attention"] * len(layers))),
        *mixture.head_norms(attention.head_dim, attention.head_dim, layers),
        Placement(LAYER + "mlp", dense_block, parts.get("dense", ())),
        Placement(LAYER + "mlp", experts, parts.get("sparse", ())),
    ]  # fmt: skip
    return mixture.decoder(hyperparameters, "mellum", ("Mellum",), body, attention=attention, num_experts=num_experts)


FAMILY = Family(
    name="mellum",
    title="Mellum 2",
    model_types=("mellum",),
    gguf={},
    source="transformers models/mellum",
    build=build,
)
