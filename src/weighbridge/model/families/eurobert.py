"""EuroBERT: Llama's layers, attending in both directions, with a head for masked tokens of its own.

Source: transformers `models/eurobert/{configuration,modeling}_eurobert.py` (5.x).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.decoder import attention, decoder, feed_forward
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder alone or with its head."""
    bert.known_class(hyperparameters, ("EuroBert",), {"Model": (), "ForMaskedLM": ()})
    hyperparameters.refuse("mlp_bias", "which this family does not describe")
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias, causal=False)
    return decoder(
        hyperparameters, "eurobert", ("EuroBert",), heads, feed_forward(hyperparameters), default_class="ForMaskedLM"
    )


FAMILY = Family(
    name="eurobert",
    title="EuroBERT",
    model_types=("eurobert",),
    gguf={},
    source="transformers models/eurobert",
    build=build,
)
