"""Gemma 1: multi-query or multi-head attention of wide heads, gated feed-forward, tied head.

Source: transformers `models/gemma/{configuration,modeling}_gemma.py` (5.x).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.decoder import attention, decoder, feed_forward, with_defaults
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder; the reference class defaults to 16 key-value heads of 256 numbers."""
    hyperparameters.refuse("use_bidirectional_attention", "which this decoder does not describe")
    hyperparameters = with_defaults(hyperparameters, {"head_dim": 256, "num_kv_heads": 16})
    bias = hyperparameters.flag("attention_bias", False)
    return decoder(hyperparameters, "gemma", ("Gemma",), attention(hyperparameters, qkv_bias=bias, output_bias=bias),
                   feed_forward(hyperparameters), tied=True, gguf_architecture="gemma")  # fmt: skip


FAMILY = Family(
    name="gemma",
    title="Gemma 1 and CodeGemma",
    model_types=("gemma",),
    gguf={"gemma": GgufMeaning("gemma", "GemmaForCausalLM")},
    source="transformers models/gemma",
    build=build,
)
