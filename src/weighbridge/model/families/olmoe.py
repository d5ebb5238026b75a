"""OLMoE: every layer routed, and norms over all queries and all keys of a token together.

Source: transformers `models/{olmoe,flex_olmo}/{configuration,modeling}_*.py`. FlexOlmo puts the layer's norms after
attention and after the experts instead of before them.
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
    flex = hyperparameters.model_type == "flex_olmo"
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    num_experts, active = mixture.routing(hyperparameters, *((7, 5) if flex else (64, 8)))
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    experts = Experts(
        hidden_size=attention.hidden_size,
        intermediate_size=hyperparameters.count("intermediate_size", 11008 if flex else 2048),
        num_experts=num_experts, experts_per_token=active, names=mixture.GATED,
    )  # fmt: skip
    body = [
        Placement(LAYER + "self_attn", attention, layers),
        *mixture.head_norms(attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim,
                            layers),
        Placement(LAYER + "mlp", experts, layers),
    ]  # fmt: skip
    norms = ("post_attention_layernorm", "post_feedforward_layernorm")
    return mixture.decoder(
        hyperparameters, "olmoe", ("Olmoe", "FlexOlmo"), body, attention=attention, num_experts=num_experts,
        **({"norms": norms} if flex else {"gguf": "olmoe"}),
    )  # fmt: skip


FAMILY = Family(
    name="olmoe",
    title="OLMoE and FlexOlmo",
    model_types=("olmoe", "flex_olmo"),
    gguf={},
    source="transformers models/olmoe, models/flex_olmo",
    build=build,
)
