"""Hunyuan, dense: Llama's wiring with an RMSNorm on each head's queries and keys, under names of its own.

Source: transformers `models/hunyuan_v1_dense/{configuration,modeling}_hunyuan_v1_dense.py` (5.x).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Norm
from weighbridge.model.decoder import attention, decoder, feed_forward
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with norms on queries and keys."""
    hyperparameters.refuse("use_cla", "which shares keys and values between layers")
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    norm = Norm(width=heads.head_dim, bias=False)
    return decoder(hyperparameters, "hunyuan_v1_dense", ("HunYuanDenseV1",), heads, feed_forward(hyperparameters),
                   query_norm=norm, key_norm=norm, query_key_names=("query_layernorm", "key_layernorm"))  # fmt: skip


FAMILY = Family(
    name="hunyuan_v1_dense",
    title="Hunyuan 0.5B to 7B, dense",
    model_types=("hunyuan_v1_dense",),
    gguf={},
    source="transformers models/hunyuan_v1_dense",
    build=build,
)
