"""DBRX: fused attention, LayerNorm without bias, experts stacked in three flat tensors.

Source: transformers `models/dbrx/{configuration,modeling}_dbrx.py`. Attention and experts have configurations of their
own, `attn_config` and `ffn_config`.
"""

from __future__ import annotations

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Linear
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_LAYER = "transformer.blocks.{layer}."


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts in every layer."""
    hyperparameters.refuse("tie_embeddings", "which the reference class does not allow")
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    inner, outer = hyperparameters.part("ffn_config"), hyperparameters.part("attn_config")
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=outer.count("kv_n_heads", 1),
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads), names=("Wqkv", "out_proj"),
    )  # fmt: skip
    hyperparameters.divided("query heads by key-value heads", num_heads, attention.num_kv_heads)
    num_experts, active = inner.count("moe_num_experts", 4, most=MOST_EXPERTS), inner.count("moe_top_k", 1)
    hyperparameters.check_experts(num_experts, active)
    experts = StackedExperts(
        hidden_size=hidden, intermediate_size=inner.count("ffn_hidden_size", 3584), num_experts=num_experts,
        experts_per_token=active, names=("w1", "v1", "w2"), layout="flat",
    )  # fmt: skip
    router = Linear(in_features=hidden, out_features=num_experts, bias=False, role="router", component=Component.ROUTER)
    body = [
        Placement(_LAYER + "norm_attn_norm.attn", attention, layers),
        Placement(_LAYER + "ffn.router.layer", router, layers),
        Placement(_LAYER + "ffn.experts.mlp", experts, layers),
    ]
    return mixture.decoder(
        hyperparameters, "dbrx", ("Dbrx",), body, attention=attention, num_experts=num_experts,
        norms=("norm_attn_norm.norm_1", "norm_attn_norm.norm_2"), embedding="transformer.wte", layer=_LAYER,
        final="transformer.norm_f", head=language_head(hyperparameters, ("Dbrx",)), base_prefix="transformer.",
    )  # fmt: skip


FAMILY = Family(
    name="dbrx",
    title="DBRX",
    model_types=("dbrx",),
    gguf={},
    source="transformers models/dbrx",
    build=build,
)
