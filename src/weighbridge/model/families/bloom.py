"""BLOOM: ALiBi in place of positions, a norm after the embedding, LayerNorm, biases throughout, tied head.

Source: transformers `models/bloom/{configuration,modeling}_bloom.py`. The inner size is always four times the width;
`n_embed` is an old spelling of `hidden_size`. Published checkpoints leave out `transformer.` in front of names.
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
    if hyperparameters.count("intermediate_size", 4 * hidden) != 4 * hidden:
        hyperparameters.refuse("intermediate_size", "where the reference class always has four times the width")
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("query_key_value", "dense"), qkv_bias=True, output_bias=True,
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=4 * hidden, gate=None, up="dense_h_to_4h",
                               down="dense_4h_to_h", bias=True)  # fmt: skip
    head = language_head(hyperparameters, ("Bloom",), embedding="transformer.word_embeddings.weight", tied=True)
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden)
    return Architecture(
        family="bloom",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.word_embeddings", Embedding(rows=vocab, width=hidden)),
            Placement("transformer.word_embeddings_layernorm", replace(norm, role="embedding_norm")),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "self_attention", attention, layers),
            Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement("transformer.ln_f", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="transformer.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


FAMILY = Family(
    name="bloom",
    title="BLOOM and BLOOMZ",
    model_types=("bloom",),
    gguf={},
    source="transformers models/bloom",
    build=build,
)
