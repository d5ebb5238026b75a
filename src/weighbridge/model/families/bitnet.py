"""BitNet b1.58: Llama's wiring with a norm ahead of each output projection. Packing is not counted: numbers are.

Source: transformers `models/bitnet/{configuration,modeling}_bitnet.py` (5.x).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Norm
from weighbridge.model.decoder import attention, decoder, feed_forward, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with norms inside both parts of a layer."""
    hyperparameters = with_defaults(hyperparameters, {"num_kv_heads": 5})
    bias = hyperparameters.flag("attention_bias", False)
    heads, mlp = attention(hyperparameters, qkv_bias=bias, output_bias=bias), feed_forward(hyperparameters)
    inner = (
        ("self_attn.attn_sub_norm", Norm(width=heads.hidden_size, bias=False, role="attention_sub_norm")),
        ("mlp.ffn_sub_norm", Norm(width=mlp.intermediate_size, bias=False, role="mlp_sub_norm")),
    )
    return decoder(hyperparameters, "bitnet", ("BitNet",), heads, mlp, in_layers=inner)


FAMILY = Family(
    name="bitnet",
    title="BitNet b1.58",
    model_types=("bitnet",),
    gguf={},
    source="transformers models/bitnet",
    build=build,
)
