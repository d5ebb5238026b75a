"""StarCoder2: grouped queries in sliding windows, LayerNorm, plain feed-forward, biases throughout, tied head.

Source: transformers `models/starcoder2/{configuration,modeling}_starcoder2.py`.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, GgufMeaning, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    num_kv_heads = hyperparameters.count("num_kv_heads")
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    bias = hyperparameters.flag("use_bias", True)
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads,
        head_dim=hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads),
        qkv_bias=bias, output_bias=bias, window=hyperparameters.optional_count("sliding_window"),
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="c_fc", down="c_proj", bias=bias)  # fmt: skip
    head = language_head(hyperparameters, ("Starcoder2",), tied=True)
    layers, layer, norm = range(num_layers), "model.layers.{layer}.", Norm(width=hidden)
    return Architecture(
        family="starcoder2",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "self_attn", attention, layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers),
            Placement("model.norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        base_prefix="model.",
        tie_embeddings=head.tied,
        gguf_architecture="starcoder2",
        notes=head.notes,
    )


FAMILY = Family(
    name="starcoder2",
    title="StarCoder2 3B, 7B, 15B",
    model_types=("starcoder2",),
    gguf={"starcoder2": GgufMeaning("starcoder2", "Starcoder2ForCausalLM")},
    source="transformers models/starcoder2",
    build=build,
)
