"""Granite MoE: Llama's wiring with stacked experts in every layer, and in the shared variant one dense expert beside.

Source: transformers `models/{granitemoe,granitemoeshared}/{configuration,modeling}_*.py`. Tensor names are those of the
published checkpoints (`block_sparse_moe.input_linear`), which transformers 5 renames when it loads them.
"""

from __future__ import annotations

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import FeedForward, Linear
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts in every layer."""
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    num_experts, active = mixture.routing(hyperparameters, 8, 2)
    hidden, layers = attention.hidden_size, range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    experts = StackedExperts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 11008),
        num_experts=num_experts, experts_per_token=active, names=("input_linear.weight", "output_linear.weight"),
    )  # fmt: skip
    router = Linear(in_features=hidden, out_features=num_experts, bias=False, role="router", component=Component.ROUTER)
    body = [
        Placement(LAYER + "self_attn", attention, layers),
        Placement(LAYER + "block_sparse_moe.router.layer", router, layers),
        Placement(LAYER + "block_sparse_moe", experts, layers),
    ]
    shared = mixture.natural(hyperparameters, "shared_intermediate_size")
    if shared and hyperparameters.model_type == "granitemoeshared":
        block = FeedForward(hidden_size=hidden, intermediate_size=shared, up="input_linear",
                            down="output_linear", fused=True, kind="shared",
                            component=Component.SHARED_EXPERTS)  # fmt: skip
        body.append(Placement(LAYER + "shared_mlp", block, layers))
    return mixture.decoder(hyperparameters, "granitemoe", ("GraniteMoe", "GraniteMoeShared"), body,
                           attention=attention, num_experts=num_experts)  # fmt: skip


FAMILY = Family(
    name="granitemoe",
    title="Granite 3 MoE",
    model_types=("granitemoe", "granitemoeshared"),
    gguf={},
    source="transformers models/granitemoe, models/granitemoeshared",
    build=build,
)
