"""Qwen3: Llama's wiring with an RMSNorm on each head's queries and keys.

Source: transformers `models/qwen3/{configuration,modeling}_qwen3.py` (5.x). Heads are 128 wide by default, whatever the
width; the window holds only with `use_sliding_window`, from `max_window_layers` on.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Norm
from weighbridge.model.decoder import (
    attention,
    decoder,
    feed_forward,
    sliding_from_max_window_layers,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters

_DEFAULTS = {"num_kv_heads": 32, "head_dim": 128, "sliding_window": 4096, "max_window_layers": 28}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with norms on queries and keys."""
    hyperparameters.refuse("num_experts", "which this dense family does not describe")
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS)
    types = sliding_from_max_window_layers(hyperparameters)
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    norm = Norm(width=heads.head_dim, bias=False)
    return decoder(
        hyperparameters, "qwen3", ("Qwen3",), heads, feed_forward(hyperparameters), query_norm=norm, key_norm=norm,
        windows=windows_by_type(hyperparameters, types), gguf_architecture="qwen3",
    )  # fmt: skip


FAMILY = Family(
    name="qwen3",
    title="Qwen3, dense",
    model_types=("qwen3",),
    gguf={"qwen3": GgufMeaning("qwen3", "Qwen3ForCausalLM")},
    source="transformers models/qwen3",
    build=build,
)
