"""CTRL: sinusoidal positions, LayerNorm, separate attention projections, biases throughout, tied head with a bias.

Source: transformers `models/ctrl/{configuration,modeling}_ctrl.py`.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, language_head, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, or none."""
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    if hyperparameters.classes[:1] == ("CTRLForSequenceClassification",):
        raise unknown_class(hyperparameters, ("CTRLLMHeadModel", "CTRLModel"))
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads), names=("Wq", "Wk", "Wv", "dense"),
        qkv_bias=True, output_bias=True,
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("dff"), gate=None, up="0",
                               down="2", bias=True)  # fmt: skip
    head = language_head(hyperparameters, ("CTRL",), default="LMHeadModel", embedding="transformer.w.weight", tied=True,
                         bias=True)  # fmt: skip
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden)
    return Architecture(
        family="ctrl",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.w", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "multi_head_attention", attention, layers),
            Placement(layer + "ffn", feed_forward, layers),
            Placement(layer + "layernorm1", replace(norm, role="attention_norm"), layers),
            Placement(layer + "layernorm2", replace(norm, role="mlp_norm"), layers),
            Placement("transformer.layernorm", replace(norm, role="final_norm")),
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
    name="ctrl",
    title="CTRL",
    model_types=("ctrl",),
    gguf={},
    source="transformers models/ctrl",
    build=build,
)
