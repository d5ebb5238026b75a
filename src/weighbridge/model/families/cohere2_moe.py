"""Cohere 2 MoE: Command's parallel blocks under one norm a layer, with experts after dense first layers.

Source: transformers `models/cohere2_moe/{configuration,modeling}_cohere2_moe.py` (5.x); experts are named as in
published checkpoints. Dense layers have windows of their own pattern and a width of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Block, Experts, FeedForward, Norm
from weighbridge.model.decoder import layered, number_of_layers, sliding_but_every, windows_by_type, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with `first_k_dense_replace` dense layers, then routed ones."""
    hyperparameters = with_defaults(hyperparameters, {"sliding_window": 4096, "head_dim": 128})
    heads = hyperparameters.count("num_heads")
    settings = {**hyperparameters.settings, "num_kv_heads": hyperparameters.count("num_kv_heads", heads)}
    hyperparameters = replace(hyperparameters, settings=settings)
    num_layers = number_of_layers(hyperparameters)
    first = min(num_layers, mixture.natural(hyperparameters, "first_k_dense_replace"))
    types = [
        *sliding_but_every(hyperparameters.count("prefix_dense_sliding_window_pattern", 1), first),
        *sliding_but_every(hyperparameters.count("sliding_window_pattern", 4), num_layers - first),
    ]
    windows = {number: window for window, layers in windows_by_type(hyperparameters, types) for number in layers}
    kinds = mixture.named_layers(hyperparameters, "mlp_layer_types", num_layers, ("dense", "sparse"))
    kinds = kinds or ["dense"] * first + ["sparse"] * (num_layers - first)
    layers = [_layer(hyperparameters, windows[number], kind) for number, kind in enumerate(kinds)]
    return layered(hyperparameters, "cohere2_moe", ("Cohere2Moe",), "ForCausalLM", "model.", layers,
                   num_experts=_experts(hyperparameters).num_experts)  # fmt: skip


def _experts(hyperparameters: Hyperparameters) -> Experts:
    num_experts, active = mixture.routing(hyperparameters, 8, 2)
    return Experts(
        hidden_size=hyperparameters.count("hidden_size"), names=mixture.GATED, num_experts=num_experts,
        intermediate_size=hyperparameters.count("intermediate_size", 22528), experts_per_token=active,
    )  # fmt: skip


def _layer(hyperparameters: Hyperparameters, window: int | None, kind: str) -> Iterator[tuple[str, Block]]:
    """The parts of one layer, each behind its path."""
    bias, hidden = hyperparameters.flag("attention_bias", False), hyperparameters.count("hidden_size")
    attention = mixture.attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    yield "self_attn", replace(attention, window=window)
    yield "input_layernorm", Norm(width=hidden, bias=False, role="attention_norm")
    if kind == "dense":
        inner = hyperparameters.count("prefix_dense_intermediate_size")
        yield "mlp", FeedForward(hidden_size=hidden, intermediate_size=inner)
        return
    experts, shared = _experts(hyperparameters), mixture.natural(hyperparameters, "num_shared_experts")
    yield "mlp", experts
    if shared:
        yield "mlp.shared_experts", mixture.shared_experts(hidden, shared * experts.intermediate_size)


FAMILY = Family(
    name="cohere2_moe",
    title="Cohere 2 with experts",
    model_types=("cohere2_moe",),
    gguf={},
    source="transformers models/cohere2_moe",
    build=build,
)
