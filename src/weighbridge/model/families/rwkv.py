"""RWKV-4: time mixing in place of attention, channel mixing in place of a feed-forward block, LayerNorm throughout.

Source: transformers `models/rwkv/{configuration,modeling}_rwkv.py` (5.x). The first layer has a norm before its norm.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Norm
from weighbridge.model.blocks.rwkv import ChannelMix, TimeMix
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Layers of time and channel mixing."""
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    attention_size = hyperparameters.count("attention_hidden_size", hidden)
    inner = hyperparameters.count("intermediate_size", 4 * hidden)
    head = language_head(hyperparameters, ("Rwkv",), embedding="rwkv.embeddings.weight", path="head")
    layers, block = range(num_layers), "rwkv.blocks.{layer}."
    return Architecture(
        family="rwkv",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("rwkv.embeddings", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement(block + "pre_ln", Norm(width=hidden, role="embedding_norm", component=Component.OTHER), (0,)),
            Placement(block + "ln1", Norm(width=hidden, role="attention_norm"), layers),
            Placement(block + "ln2", Norm(width=hidden, role="mlp_norm"), layers),
            Placement(block + "attention", TimeMix(hidden_size=hidden, attention_size=attention_size), layers),
            Placement(block + "feed_forward", ChannelMix(hidden_size=hidden, intermediate_size=inner), layers),
            Placement("rwkv.ln_out", Norm(width=hidden, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=1,  # nothing is shared out among heads
        num_kv_heads=1,
        base_prefix="rwkv.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


FAMILY = Family(
    name="rwkv",
    title="RWKV-4",
    model_types=("rwkv",),
    gguf={},
    source="transformers models/rwkv",
    build=build,
)
