"""Laguna: as many query heads as each layer says, gated attention, windows, a shared expert beside the routed.

Source: transformers `models/laguna/{configuration,modeling}_laguna.py`. The gate is one number a head or one a channel.
The bias that balances the router is a frozen parameter there and counted as one.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward, Linear
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component, Kind


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with dense and routed layers."""
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, num_heads=48, num_kv_heads=8, head_dim=128, qkv_bias=bias,
                                  output_bias=bias)  # fmt: skip
    hidden, num_layers = attention.hidden_size, hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts, active = mixture.routing(hyperparameters, 256, 8)
    experts = Experts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("moe_intermediate_size", 512),
        num_experts=num_experts, experts_per_token=active, names=mixture.GATED,
        correction="experts.e_score_correction_bias", correction_kind=Kind.PARAMETER,
    )  # fmt: skip
    shared = mixture.shared_experts(hidden, hyperparameters.count("shared_expert_intermediate_size", 512))
    dense_block = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 8192))
    dense, sparse = mixture.dense_and_sparse(hyperparameters, num_layers, 1)
    per_head = _gate_per_head(hyperparameters)
    body = []
    for (heads, window), layers in mixture.grouped(_attention_layers(hyperparameters, num_layers)):
        hyperparameters.divided("query heads by key-value heads", heads, attention.num_kv_heads)
        gate = Linear(in_features=hidden, out_features=heads if per_head else heads * attention.head_dim, bias=False,
                      role="attention_gate", component=Component.ATTENTION)  # fmt: skip
        body.append(Placement(LAYER + "self_attn", replace(attention, num_heads=heads, window=window), layers))
        body.append(Placement(LAYER + "self_attn.g_proj", gate, layers))
    body += mixture.head_norms(attention.head_dim, attention.head_dim, range(num_layers))
    body.append(Placement(LAYER + "mlp", dense_block, dense))
    body.append(Placement(LAYER + "mlp", experts, sparse))
    body.append(Placement(LAYER + "mlp.shared_expert", shared, sparse))
    return mixture.decoder(hyperparameters, "laguna", ("Laguna",), body, attention=attention, num_experts=num_experts)


def _attention_layers(hyperparameters: Hyperparameters, num_layers: int) -> list[tuple[int, int | None]]:
    """Query heads and window of each layer."""
    heads = mixture.whole_numbers(hyperparameters, "num_attention_heads_per_layer")
    if heads is not None and (len(heads) != num_layers or 0 in heads):
        raise ConfigError(f"{hyperparameters.source} has num_attention_heads_per_layer = {repr(heads)[:60]}",
                          f"{num_layers} whole numbers from 1", "correct the key")  # fmt: skip
    heads = heads or [hyperparameters.count("num_heads", 48)] * num_layers
    kinds = mixture.named_layers(hyperparameters, "layer_types", num_layers, ("full_attention", "sliding_attention"))
    window = hyperparameters.count("sliding_window", 512)
    spans = [window if kind == "sliding_attention" else None for kind in kinds or ["full_attention"] * num_layers]
    return list(zip(heads, spans, strict=True))


def _gate_per_head(hyperparameters: Hyperparameters) -> bool:
    value = hyperparameters.settings.get("gating", True)
    if value is not True and value not in ("per-head", "per-element"):
        raise ConfigError(f"{hyperparameters.source} has gating = {repr(value)[:60]}", "true, per-head or per-element",
                          "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip
    return bool(value != "per-element")


FAMILY = Family(
    name="laguna",
    title="Laguna",
    model_types=("laguna",),
    gguf={},
    source="transformers models/laguna",
    build=build,
)
