"""The language model of Aria: Llama's wiring with stacked experts in every layer and shared ones beside them.

Source: transformers `models/aria/{configuration,modeling}_aria.py` (5.x); experts are named as in published checkpoints
(`fc1`, `fc2`), which transformers renames when it loads them. The tower and its projector are not described.
"""

from __future__ import annotations

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.decoder import with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component

_DEFAULTS = {"vocab_size": 32000, "hidden_size": 4096, "num_layers": 32, "num_heads": 32}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts in every layer."""
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS)
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    hidden, layers = attention.hidden_size, range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    num_experts = hyperparameters.count("moe_num_experts", 8, most=MOST_EXPERTS)
    active = hyperparameters.count("moe_topk", 2)
    hyperparameters.check_experts(num_experts, active)
    inner = hyperparameters.count("intermediate_size", 4096)
    experts = StackedExperts(
        hidden_size=hidden, intermediate_size=inner, num_experts=num_experts, experts_per_token=active,
        names=("fc1.weight", "fc2.weight"), layout="in_out",
    )  # fmt: skip
    router = Linear(in_features=hidden, out_features=num_experts, bias=False, role="router", component=Component.ROUTER)
    body = [
        Placement(LAYER + "self_attn", attention, layers),
        Placement(LAYER + "mlp.router", router, layers),
        Placement(LAYER + "mlp.experts", experts, layers),
    ]
    shared = mixture.natural(hyperparameters, "moe_num_shared_experts", 2)
    if shared:
        block = mixture.shared_experts(hidden, shared * inner, hyperparameters.flag("mlp_bias", False))
        body.append(Placement(LAYER + "mlp.shared_experts", block, layers))
    return mixture.decoder(hyperparameters, "aria_text", ("AriaText",), body, attention=attention,
                           num_experts=num_experts)  # fmt: skip


FAMILY = Family(
    name="aria_text",
    title="Aria, its language model alone",
    model_types=("aria_text",),
    gguf={},
    source="transformers models/aria",
    build=build,
)
