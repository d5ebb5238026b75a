"""OLMo 1: Llama's wiring with LayerNorms that learn nothing.

Source: transformers `models/olmo/{configuration,modeling}_olmo.py` (5.x).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.decoder import attention, decoder, feed_forward
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder without a parameter in its norms."""
    bias = hyperparameters.flag("attention_bias", False)
    return decoder(hyperparameters, "olmo", ("Olmo",), attention(hyperparameters, qkv_bias=bias, output_bias=bias),
                   feed_forward(hyperparameters), norms={}, final_norm=False)  # fmt: skip


FAMILY = Family(
    name="olmo",
    title="OLMo 1",
    model_types=("olmo",),
    gguf={},
    source="transformers models/olmo",
    build=build,
)
