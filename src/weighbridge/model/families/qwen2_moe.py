"""Qwen2-MoE and Qwen3-MoE: grouped-query attention and many small experts, with a gated shared expert in Qwen2.

Source: transformers `models/{qwen2_moe,qwen3_moe}/{configuration,modeling}_*.py`. Layers in `mlp_only_layers`, and
those that `decoder_sparse_step` steps over, are dense. Qwen2 has biases on queries, keys and values,
Qwen3 norms on the heads instead. Checkpoints store the experts one by one; transformers 5
merges them when it loads them.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward, Linear
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with dense and routed layers."""
    newer = hyperparameters.model_type == "qwen3_moe"
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    bias = hyperparameters.flag("attention_bias", False) if newer else hyperparameters.flag("qkv_bias", True)
    attention = mixture.attention(hyperparameters, num_kv_heads=4 if newer else 16, qkv_bias=bias,
                                  output_bias=bias and newer)  # fmt: skip
    num_experts, active = mixture.routing(hyperparameters, *((128, 8) if newer else (60, 4)))
    experts = Experts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("moe_intermediate_size", 768 if newer else 1408),
        num_experts=num_experts, experts_per_token=active, names=mixture.GATED,
    )  # fmt: skip
    step = hyperparameters.count("decoder_sparse_step", 1)
    dense_only = set(mixture.whole_numbers(hyperparameters, "mlp_only_layers") or ())
    sparse = [layer for layer in range(num_layers) if layer not in dense_only and (layer + 1) % step == 0]
    dense = sorted(set(range(num_layers)) - set(sparse))
    inner = hyperparameters.count("intermediate_size", 6144 if newer else 5632)
    body = [Placement(LAYER + "self_attn", replace(attention, window=window), layers)
            for window, layers in mixture.grouped(_windows(hyperparameters, num_layers))]  # fmt: skip
    body.append(Placement(LAYER + "mlp", experts, sparse))
    body.append(Placement(LAYER + "mlp", FeedForward(hidden_size=hidden, intermediate_size=inner), dense))
    if newer:
        body += mixture.head_norms(attention.head_dim, attention.head_dim, range(num_layers))
    else:
        shared = hyperparameters.count("shared_expert_intermediate_size", 5632)
        gate = Linear(in_features=hidden, out_features=1, bias=False, role="shared_router", component=Component.ROUTER)
        body.append(Placement(LAYER + "mlp.shared_expert", mixture.shared_experts(hidden, shared), sparse))
        body.append(Placement(LAYER + "mlp.shared_expert_gate", gate, sparse))
    return mixture.decoder(hyperparameters, "qwen2_moe", ("Qwen2Moe", "Qwen3Moe"), body, attention=attention,
                           num_experts=num_experts, gguf="qwen3moe" if newer else None)  # fmt: skip


def _windows(hyperparameters: Hyperparameters, num_layers: int) -> list[int | None]:
    """Of each layer: every layer of Qwen3 and every other one of Qwen2, once `use_sliding_window` is set."""
    if not hyperparameters.flag("use_sliding_window", False):
        return [None] * num_layers
    window = hyperparameters.count("sliding_window", 4096)
    if hyperparameters.model_type == "qwen3_moe":
        return [window] * num_layers
    kinds = mixture.named_layers(hyperparameters, "layer_types", num_layers, ("full_attention", "sliding_attention"))
    below = mixture.natural(hyperparameters, "max_window_layers", 28)
    kinds = kinds or ["sliding_attention" if layer % 2 == 0 and layer < below else "full_attention"
                      for layer in range(num_layers)]  # fmt: skip
    return [window if kind == "sliding_attention" else None for kind in kinds]


FAMILY = Family(
    name="qwen2_moe",
    title="Qwen1.5-MoE, Qwen2-MoE and Qwen3-MoE",
    model_types=("qwen2_moe", "qwen3_moe"),
    gguf={},
    source="transformers models/qwen2_moe, models/qwen3_moe",
    build=build,
)
