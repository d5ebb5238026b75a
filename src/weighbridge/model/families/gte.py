"""GTE 1.5 and multilingual: BERT's layout with rotary positions and gated feed-forward blocks, biases behind each part.

Source: transformers `models/gte/modeling_gte.py` and, for the names in files of the type `new`, its conversion of them
(`conversion_mapping.py`): queries, keys and values are one map there, gate and up another.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm, Vector
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import natural
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": (),
    "ForMaskedLM": ("masked",),
    "ForSequenceClassification": ("pooler", "classifier"),
    "ForTokenClassification": ("token",),
}
# What a file of the type `new` must say where it says it, for the wiring below to be its own.
_PUBLISHED = {"pack_qkv": True, "position_embedding_type": "rope", "layer_norm_type": "layer_norm"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    published = hyperparameters.model_type == "new"
    body = "new." if published else "gte."
    suffix = bert.known_class(hyperparameters, ("New" if published else "Gte",), _CLASSES)
    if published:
        _check(hyperparameters)
    names, base = _CLASSES[suffix], "" if suffix == "Model" else body
    tied = "masked" in names and hyperparameters.flag("tie_embeddings", True)
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    layers = range(hyperparameters.count("num_layers", most=MOST_LAYERS))
    layer = base + ("encoder.layer.{layer}." if published else "layers.{layer}.")
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads), qkv_bias=True, output_bias=True, causal=False,
        names=("qkv_proj", "o_proj") if published else ("q_proj", "k_proj", "v_proj", "o_proj"),
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               up="up_gate_proj" if published else "up_proj", fused=published)  # fmt: skip
    bias = Vector(name="bias", width=hidden, role="mlp_down", component=Component.MLP)
    norm = Norm(width=hidden, role="attention_output_norm")
    top = [placement for name in names
           for placement in (bert.lm_head(hyperparameters, base, tied, norm="norm" if published else "layer_norm")
                             if name == "masked" else bert.heads(hyperparameters, (name,), base, tied))]  # fmt: skip
    rows = [("word_embeddings", hyperparameters.count("vocab_size"), "token_embedding"),
            ("token_type_embeddings", natural(hyperparameters, "num_token_types", 1), "type_embedding")]  # fmt: skip
    return Architecture(
        family="gte",
        model_type=hyperparameters.model_type,
        placements=(
            *(Placement(f"{base}embeddings.{name}", Embedding(rows=count, width=hidden, role=role))
              for name, count, role in rows if count),
            Placement(base + "embeddings.LayerNorm", replace(norm, role="embedding_norm")),
            Placement(layer + ("attention" if published else "self_attn"), attention, layers),
            Placement(layer + ("attn_ln" if published else "post_attention_layernorm"), norm, layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(layer + "mlp.down_proj", bias, layers),
            Placement(layer + ("mlp_ln" if published else "post_mlp_layernorm"),
                      replace(norm, role="mlp_output_norm"), layers),
            *top,
        ),
        num_layers=len(layers),
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix=body,
        tie_embeddings=tied,
        notes=bert.unnamed(hyperparameters),
    )  # fmt: skip


def _check(hyperparameters: Hyperparameters) -> None:
    """Refuses a published file with other parts than those that are described."""
    for name, expected in _PUBLISHED.items():
        found = hyperparameters.settings.get(name, expected)
        if found != expected:
            raise ConfigError(f"{hyperparameters.source} has {name} = {repr(found)[:60]}", repr(expected),
                              "ask for support of this variant, as no count is better than a wrong one")  # fmt: skip


FAMILY = Family(
    name="gte",
    title="GTE 1.5 and multilingual",
    model_types=("gte", "new"),
    gguf={},
    source="transformers models/gte",
    build=build,
)
