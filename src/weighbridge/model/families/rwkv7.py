"""RWKV-7 (Goose): time mixing by a delta rule with low-rank maps, channel mixing without a gate, LayerNorm.

Source: flash-linear-attention `fla/models/rwkv7` and `fla/layers/rwkv7.py` (0.6), whose names the published files in
this format have. The first layer has a norm before its norm and no mixture of values. Layers of softmax attention
(`attn`) are not described. Files of 2024 hold the six mixing vectors in one tensor.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Norm
from weighbridge.model.blocks.rwkv import ChannelMix, DeltaTimeMix
from weighbridge.model.decoder import number_of_layers, with_defaults
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_DEFAULTS = {"hidden_size": 2048, "num_layers": 24, "vocab_size": 32000, "head_dim": 64, "decay_low_rank_dim": 64,
             "a_low_rank_dim": 64, "v_low_rank_dim": 16, "gate_low_rank_dim": 128}  # fmt: skip
# The rank where the key is null: so many times the root of the width, and whether wider heads raise it.
_RANKS = {"decay": (2.5, True), "a": (2.5, True), "v": (1.7, True), "gate": (5, False)}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Layers of time and channel mixing."""
    hyperparameters.refuse("attn", "which this family does not describe")
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS)
    hidden, num_layers = hyperparameters.count("hidden_size"), number_of_layers(hyperparameters)
    _check_values(hyperparameters, hidden, num_layers)
    norm = Norm(width=hidden, bias=hyperparameters.flag("norm_bias", True))
    head = language_head(hyperparameters, ("RWKV7",), embedding="model.embeddings.weight")
    first = [0] if hyperparameters.flag("norm_first", True) else []
    layers, layer = range(num_layers), "model.layers.{layer}."
    mix = _time_mix(hyperparameters)
    channel_mix = ChannelMix(hidden_size=hidden, intermediate_size=_inner(hyperparameters), mixes=("x_k",), gated=False)
    return Architecture(
        family="rwkv7",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embeddings", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            *(Placement(layer + "pre_norm", replace(norm, role="embedding_norm"), [number], Component.OTHER)
              for number in first),
            Placement(layer + "attn_norm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "attn", replace(mix, ranks=(*mix.ranks[:2], None, mix.ranks[3])), layers[:1]),
            *([Placement(layer + "attn", mix, layers[1:])] if num_layers > 1 else []),
            Placement(layer + "ffn_norm", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "ffn", channel_mix, layers),
            Placement("model.norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=hidden // _head_size(hyperparameters),
        num_kv_heads=hidden // _head_size(hyperparameters),
        base_prefix="model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )  # fmt: skip


def _head_size(hyperparameters: Hyperparameters) -> int:
    hidden = hyperparameters.count("hidden_size")
    size = hyperparameters.optional_count("head_dim")
    size = size or hyperparameters.divided("head_dim", hidden, hyperparameters.count("num_heads"))
    hyperparameters.divided("number of heads", hidden, size)
    return size


def _time_mix(hyperparameters: Hyperparameters) -> DeltaTimeMix:
    hidden, head_size = hyperparameters.count("hidden_size"), _head_size(hyperparameters)
    decay, rate, mixture, gate = (_rank(hyperparameters, name, hidden, head_size) for name in _RANKS)
    return DeltaTimeMix(hidden_size=hidden, head_size=head_size, ranks=(decay, rate, mixture, gate))


def _rank(hyperparameters: Hyperparameters, name: str, hidden: int, head_size: int) -> int:
    times, scales = _RANKS[name]
    usual = max(32, round(times * hidden**0.5 * (head_size / 64 if scales else 1) / 32) * 32)
    return hyperparameters.count(f"{name}_low_rank_dim", usual)


def _check_values(hyperparameters: Hyperparameters, hidden: int, num_layers: int) -> None:
    """Refuses values of another width than the model's: the reference class cannot build them."""
    given = hyperparameters.settings.get("value_dim")
    if given not in (None, hidden, [hidden] * num_layers):
        hyperparameters.refuse("value_dim", "where only the width of the model is described")


def _inner(hyperparameters: Hyperparameters) -> int:
    """The inner width of channel mixing: `hidden_ratio` times the width, rounded up to a multiple of 32."""
    ratio = hyperparameters.settings.get("hidden_ratio")
    if isinstance(ratio, float) and not ratio.is_integer():
        hyperparameters.refuse("hidden_ratio", "which is not a whole number")
    usual = hyperparameters.count("hidden_size") * hyperparameters.count("hidden_ratio", 4)
    return hyperparameters.count("intermediate_size", -(-usual // 32) * 32)


FAMILY = Family(
    name="rwkv7",
    title="RWKV-7 (Goose)",
    model_types=("rwkv7",),
    gguf={},
    source="flash-linear-attention fla/models/rwkv7",
    build=build,
)
