"""JetMoE: attention and feed-forward are both routed, over keys and values that all experts share.

Source: transformers `models/jetmoe/{configuration,modeling}_jetmoe.py`. There are `experts_per_token` query heads for
each key-value head.
"""

from __future__ import annotations

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Vector
from weighbridge.model.blocks.attention_experts import AttentionExperts
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed attention and routed experts in every layer."""
    hidden = hyperparameters.count("hidden_size")
    num_experts, active = mixture.routing(hyperparameters, 8, 2)
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    attention = AttentionExperts(
        hidden_size=hidden, num_kv_heads=hyperparameters.count("num_kv_heads", 16),
        head_dim=hyperparameters.count("kv_channels", 128), num_experts=num_experts, experts_per_token=active,
    )  # fmt: skip
    experts = StackedExperts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 5632),
        num_experts=num_experts, experts_per_token=active, names=("input_linear.weight", "output_linear.weight"),
    )  # fmt: skip
    router = Linear(in_features=hidden, out_features=num_experts, bias=False, role="router", component=Component.ROUTER)
    bias = Vector(name="bias", width=hidden, role="mlp_down", component=Component.MLP)
    body = [
        Placement(LAYER + "self_attention", attention, layers),
        Placement(LAYER + "mlp", bias, layers),
        Placement(LAYER + "mlp", experts, layers),
        Placement(LAYER + "mlp.router.layer", router, layers),
    ]
    head = language_head(hyperparameters, ("JetMoe",), tied=True)
    num_heads = active * attention.num_kv_heads
    return mixture.decoder(hyperparameters, "jetmoe", ("JetMoe",), body, num_experts=num_experts, head=head,
                           heads=(num_heads, attention.num_kv_heads))  # fmt: skip


FAMILY = Family(
    name="jetmoe",
    title="JetMoE",
    model_types=("jetmoe",),
    gguf={},
    source="transformers models/jetmoe",
    build=build,
)
