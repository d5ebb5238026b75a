"""MiMo-7B: Qwen2's wiring, and next-token-prediction layers that lie in its files and are not of the model's total.

Source: `modeling_mimo.py` of the published repositories, which builds on transformers `models/qwen2`. The files of
MiMo-7B-Base hold 7,833,409,536 numbers: the model and one such layer of 210,790,400.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, FeedForward, Linear, Norm
from weighbridge.model.decoder import (
    attention,
    decoder,
    feed_forward,
    sliding_from_max_window_layers,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with biases on queries, keys and values, and what predicts further tokens."""
    hyperparameters = with_defaults(hyperparameters, {"sliding_window": 4096, "max_window_layers": 28})
    types = sliding_from_max_window_layers(hyperparameters)
    heads, mlp = attention(hyperparameters, qkv_bias=True), feed_forward(hyperparameters)
    return decoder(hyperparameters, "mimo", ("MiMo",), heads, mlp, windows=windows_by_type(hyperparameters, types),
                   after=tuple(_next_token_layers(hyperparameters, heads, mlp)))  # fmt: skip


def _next_token_layers(hyperparameters: Hyperparameters, heads: Attention, mlp: FeedForward) -> Iterator[Placement]:
    """Layers of the same kind that take the last hidden state and the next token's embedding side by side."""
    if not hyperparameters.settings.get("num_nextn_predict_layers"):
        return
    layers = range(hyperparameters.count("num_nextn_predict_layers", most=MOST_LAYERS))
    layer, hidden = "model.mtp_layers.{layer}.", heads.hidden_size
    norm = Norm(width=hidden, bias=False)
    join = Linear(in_features=2 * hidden, out_features=hidden, bias=False, role="mtp_projection")
    norms = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm", "final_layernorm": "norm",
             "token_layernorm": "norm", "hidden_layernorm": "norm"}  # fmt: skip
    yield Placement(layer + "input_proj", join, layers, mtp=True)
    yield Placement(layer + "self_attn", heads, layers, mtp=True)
    yield Placement(layer + "mlp", mlp, layers, mtp=True)
    for name, role in norms.items():
        yield Placement(layer + name, replace(norm, role=role), layers, mtp=True)


FAMILY = Family(
    name="mimo",
    title="MiMo-7B",
    model_types=("mimo",),
    gguf={},
    source="modeling_mimo.py of the published repositories",
    build=build,
)
