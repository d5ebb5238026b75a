"""Grok-1: grouped-query attention, eight experts in every layer, and a norm on both sides of each of the two.

Source: `modeling_grok1.py` beside the converted weights (hpcai-tech/grok-1, keyfan/grok-1-hf), after `model.py` of
xai-org/grok-1. Its configurations do not agree on tying by default, so that a missing key is refused.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, Norm
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts in every layer."""
    if hyperparameters.settings.get("tie_embeddings") is None:
        raise ConfigError(f"{hyperparameters.source} has no tie_word_embeddings", "the key with true or false",
                          "use the model's full config.json")  # fmt: skip
    attention = mixture.attention(hyperparameters)
    num_experts, active = mixture.routing(hyperparameters, None, None)
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    experts = Experts(
        hidden_size=attention.hidden_size, intermediate_size=hyperparameters.count("intermediate_size"),
        num_experts=num_experts, experts_per_token=active,
        names=("experts.{expert}.linear", "experts.{expert}.linear_v", "experts.{expert}.linear_1"),
    )  # fmt: skip
    norms = (("post_attn_norm", "attention_post_norm"), ("post_moe_norm", "mlp_post_norm"))
    body = [
        Placement(LAYER + "attn", attention, layers),
        Placement(LAYER + "moe_block", experts, layers),
        *(Placement(LAYER + name, Norm(width=attention.hidden_size, bias=False, role=role), layers)
          for name, role in norms),
    ]  # fmt: skip
    return mixture.decoder(hyperparameters, "grok_1", ("Grok1Model", "Grok1"), body, attention=attention,
                           num_experts=num_experts, norms=("pre_attn_norm", "pre_moe_norm"))  # fmt: skip


FAMILY = Family(
    name="grok_1",
    title="Grok-1",
    model_types=("grok-1",),
    gguf={},
    source="modeling_grok1.py of hpcai-tech/grok-1; model.py of xai-org/grok-1",
    build=build,
)
