"""gpt-oss: biases throughout, a sink logit for each head, windows in every other layer, experts stacked with biases.

Source: transformers `models/gpt_oss/{configuration,modeling}_gpt_oss.py`. The published checkpoints pack the experts in
MXFP4 under the names `gate_up_proj_blocks` and `gate_up_proj_scales`; the names here are those of unpacked ones.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Vector
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts in every layer."""
    bias = hyperparameters.flag("attention_bias", True)
    attention = mixture.attention(hyperparameters, num_heads=64, num_kv_heads=8, head_dim=64, qkv_bias=bias,
                                  output_bias=bias)  # fmt: skip
    num_experts, active = mixture.routing(hyperparameters, 128, 4)
    hidden, num_layers = attention.hidden_size, hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers = range(num_layers)
    experts = StackedExperts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size", 2880),
        num_experts=num_experts, experts_per_token=active, names=("gate_up_proj", "down_proj"), layout="in_out",
        bias=True,
    )  # fmt: skip
    router = Linear(in_features=hidden, out_features=num_experts, role="router", component=Component.ROUTER)
    sinks = Vector(name="sinks", width=attention.num_heads, role="attention_sinks", component=Component.ATTENTION)
    body = [
        *(Placement(LAYER + "self_attn", replace(attention, window=window), members)
          for window, members in mixture.grouped(_windows(hyperparameters, num_layers))),
        Placement(LAYER + "self_attn", sinks, layers),
        Placement(LAYER + "mlp.router", router, layers),
        Placement(LAYER + "mlp.experts", experts, layers),
    ]  # fmt: skip
    return mixture.decoder(hyperparameters, "gpt_oss", ("GptOss",), body, attention=attention, num_experts=num_experts)


def _windows(hyperparameters: Hyperparameters, num_layers: int) -> list[int | None]:
    kinds = mixture.named_layers(hyperparameters, "layer_types", num_layers, ("full_attention", "sliding_attention"))
    missing = "sliding_window" not in hyperparameters.settings
    window = 128 if missing else hyperparameters.optional_count("sliding_window")
    kinds = kinds or ["full_attention" if layer % 2 else "sliding_attention" for layer in range(num_layers)]
    return [window if kind == "sliding_attention" else None for kind in kinds]


FAMILY = Family(
    name="gpt_oss",
    title="gpt-oss 20B and 120B",
    model_types=("gpt_oss",),
    gguf={},
    source="transformers models/gpt_oss",
    build=build,
)
