"""nanochat: norms that learn nothing, a plain feed-forward block, untied head.

Source: transformers `models/nanochat/{configuration,modeling}_nanochat.py` (5.x).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.decoder import attention, decoder, feed_forward
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder without a parameter in its norms."""
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    mlp = feed_forward(hyperparameters, gate=None, up="fc1", down="fc2")
    return decoder(hyperparameters, "nanochat", ("NanoChat",), heads, mlp, norms={}, final_norm=False)


FAMILY = Family(
    name="nanochat",
    title="nanochat",
    model_types=("nanochat",),
    gguf={},
    source="transformers models/nanochat",
    build=build,
)
