"""MiniMax-M2: grouped-query attention with norms over all queries and all keys, small experts in every layer.

Source: transformers `models/minimax_m2/{configuration,modeling}_minimax_m2.py`; tensor names are those of the published
checkpoints (`block_sparse_moe`). The bias that balances the router is a buffer.
"""

from __future__ import annotations

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts in every layer."""
    hyperparameters.refuse("shared_intermediate_size", "which adds an expert that this family does not describe")
    attention = mixture.attention(hyperparameters, num_kv_heads=8, head_dim=128)
    num_experts, active = mixture.routing(hyperparameters, 256, 8)
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    experts = Experts(
        hidden_size=attention.hidden_size, intermediate_size=hyperparameters.count("intermediate_size", 1536),
        num_experts=num_experts, experts_per_token=active, correction="e_score_correction_bias",
    )  # fmt: skip
    widths = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
    body = [
        Placement(LAYER + "self_attn", attention, layers),
        *mixture.head_norms(*widths, layers),
        Placement(LAYER + "block_sparse_moe", experts, layers),
    ]
    return mixture.decoder(hyperparameters, "minimax_m2", ("MiniMaxM2",), body, attention=attention,
                           num_experts=num_experts)  # fmt: skip


FAMILY = Family(
    name="minimax_m2",
    title="MiniMax-M2",
    model_types=("minimax_m2",),
    gguf={},
    source="transformers models/minimax_m2",
    build=build,
)
