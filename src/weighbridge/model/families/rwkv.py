"""RWKV 4 to 6: time mixing in place of attention, channel mixing in place of a feed-forward block, LayerNorm.

Source: transformers `models/rwkv/{configuration,modeling}_rwkv.py` (5.x) for RWKV-4; the modeling code that the
published RWKV-5 and RWKV-6 checkpoints bring (`modeling_rwkv5.py`, `modeling_rwkv6.py`), whose low-rank maps are twice
as wide at a width of 4096. The first layer has a norm before its norm.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Embedding, Norm
from weighbridge.model.blocks.rwkv import ChannelMix, MatrixTimeMix, TimeMix
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_MIXES = ("time_mix_gate", "time_mix_key", "time_mix_value", "time_mix_receptance")
_WIDE = 4096


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Layers of time and channel mixing."""
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    newer = hyperparameters.model_type != "rwkv"
    inner = hyperparameters.count("intermediate_size", hidden * 7 // 2 // 32 * 32 if newer else 4 * hidden)
    channel_mix = ChannelMix(hidden_size=hidden, intermediate_size=hyperparameters.derived("the inner width", inner))
    if hyperparameters.model_type == "rwkv6":
        channel_mix = replace(channel_mix, mixes=("time_maa_k", "time_maa_r"))
    head = language_head(hyperparameters, ("Rwkv", "Rwkv5", "Rwkv6"), embedding="rwkv.embeddings.weight", path="head")
    layers, block = range(num_layers), "rwkv.blocks.{layer}."
    return Architecture(
        family="rwkv",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("rwkv.embeddings", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement(block + "pre_ln", Norm(width=hidden, role="embedding_norm", component=Component.OTHER), (0,)),
            Placement(block + "ln1", Norm(width=hidden, role="attention_norm"), layers),
            Placement(block + "ln2", Norm(width=hidden, role="mlp_norm"), layers),
            Placement(block + "attention", _time_mix(hyperparameters), layers),
            Placement(block + "feed_forward", channel_mix, layers),
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


def _time_mix(hyperparameters: Hyperparameters) -> Block:
    hidden = hyperparameters.count("hidden_size")
    width = hyperparameters.count("attention_hidden_size", hidden)
    if hyperparameters.model_type == "rwkv":
        return TimeMix(hidden_size=hidden, attention_size=width)
    head = hyperparameters.count("head_size", 64)
    hyperparameters.divided("number of heads", width, head)
    if hyperparameters.model_type == "rwkv5":
        for key in ("model_version", "rwkv_version"):
            if hyperparameters.settings.get(key) not in (None, "5_2", "5.2"):
                hyperparameters.refuse(key, "of which only 5.2 is described")
        return MatrixTimeMix(hidden_size=hidden, attention_size=width, head_size=head, mixes=_MIXES)
    ranks = (64, 128) if hidden == _WIDE else (32, 64)
    mixes = tuple(f"time_maa_{letter}" for letter in "xwkvrg")
    return MatrixTimeMix(hidden_size=hidden, attention_size=width, head_size=head, mixes=mixes, ranks=ranks)


FAMILY = Family(
    name="rwkv",
    title="RWKV 4 to 6",
    model_types=("rwkv", "rwkv5", "rwkv6"),
    gguf={},
    source="transformers models/rwkv; the modeling code of RWKV-5 and RWKV-6 checkpoints",
    build=build,
)
