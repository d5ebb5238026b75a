"""Persimmon: fused attention with LayerNorm on queries and keys, squared-ReLU feed-forward, biases, untied head.

Source: transformers `models/persimmon/{configuration,modeling}_persimmon.py`.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    head_dim = hyperparameters.divided("head_dim", hidden, num_heads)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim,
                          names=("query_key_value", "dense"), qkv_bias=True, output_bias=True)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="dense_h_to_4h", down="dense_4h_to_h", bias=True)  # fmt: skip
    head = language_head(hyperparameters, ("Persimmon",))
    layers, layer, norm = range(num_layers), "model.layers.{layer}.", Norm(width=hidden)
    normed = [Placement(f"{layer}self_attn.{part}_layernorm", Norm(width=head_dim, role=f"attention_{part}_norm"),
                        layers) for part in ("q", "k")]  # fmt: skip
    return Architecture(
        family="persimmon",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "self_attn", attention, layers),
            *(normed if hyperparameters.flag("qk_layernorm", True) else ()),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers),
            Placement("model.final_layernorm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


FAMILY = Family(
    name="persimmon",
    title="Persimmon 8B",
    model_types=("persimmon",),
    gguf={},
    source="transformers models/persimmon",
    build=build,
)
