"""Command R, Command R7B, Command A and Aya: attention and feed-forward side by side behind one LayerNorm, tied head.

Source: transformers `models/{cohere,cohere2}/{configuration,modeling}_*.py` (5.x). The LayerNorm has no bias. Command
R+ has norms with scales for each head on queries and keys (`use_qk_norm`). In Cohere 2 every fourth layer has the full
context, the others a window.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Norm
from weighbridge.model.decoder import (
    attention,
    decoder,
    feed_forward,
    number_of_layers,
    sliding_but_every,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with one norm a layer."""
    second = hyperparameters.model_type == "cohere2"
    windows = None
    if second:
        hyperparameters = with_defaults(hyperparameters, {"sliding_window": 4096})
        pattern = hyperparameters.count("sliding_window_pattern", 4)
        windows = windows_by_type(hyperparameters, sliding_but_every(pattern, number_of_layers(hyperparameters)))
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    norm = Norm(width=heads.head_dim, bias=False)
    normed = not second and hyperparameters.flag("use_qk_norm", False)
    return decoder(
        hyperparameters, "cohere", ("Cohere2" if second else "Cohere",), heads, feed_forward(hyperparameters),
        norms={"attention_norm": "input_layernorm"}, windows=windows, tied=True,
        query_norm=replace(norm, heads=heads.num_heads) if normed else None,
        key_norm=replace(norm, heads=heads.num_kv_heads) if normed else None,
        gguf_architecture="cohere2" if second else "command-r",
    )  # fmt: skip


FAMILY = Family(
    name="cohere",
    title="Command R, Command R+, Command R7B, Command A, Aya",
    model_types=("cohere", "cohere2"),
    gguf={"cohere2": GgufMeaning("cohere2", "Cohere2ForCausalLM")},  # no key of `command-r` tells its norms
    source="transformers models/cohere, models/cohere2",
    build=build,
)
