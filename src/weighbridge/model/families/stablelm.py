"""StableLM 2 and 3B: Llama's wiring with LayerNorm, biases on queries, keys and values on demand, norms a head.

Source: transformers `models/stablelm/{configuration,modeling}_stablelm.py`; `stablelm_epoch` is the spelling of the
first releases. With `qk_layernorm` every head has its own norm; with `use_parallel_residual` a layer has one norm.
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
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_heads = hyperparameters.count("num_heads", most=MOST_LAYERS)  # each may have norms of its own
    num_kv_heads = hyperparameters.count("num_kv_heads")
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    head_dim = hyperparameters.divided("head_dim", hidden, num_heads)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim,
                          qkv_bias=hyperparameters.flag("use_qkv_bias", False))  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"))
    head = language_head(hyperparameters, ("StableLm", "StableLMEpoch"))
    layers, layer, norm = range(num_layers), "model.layers.{layer}.", Norm(width=hidden)
    per_head = [
        Placement(f"{layer}self_attn.{part}_layernorm.norms.{number}",
                  Norm(width=head_dim, bias=False, role=f"attention_{part}_norm"), layers)
        for part, count in (("q", num_heads), ("k", num_kv_heads)) for number in range(count)
    ]  # fmt: skip
    second = Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers)
    return Architecture(
        family="stablelm",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "self_attn", attention, layers),
            *(per_head if hyperparameters.flag("qk_layernorm", False) else ()),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            *(() if hyperparameters.flag("use_parallel_residual", False) else (second,)),
            Placement("model.norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        base_prefix="model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


FAMILY = Family(
    name="stablelm",
    title="StableLM 3B, StableLM 2 1.6B and 12B, Stable Code",
    model_types=("stablelm", "stablelm_epoch"),
    gguf={},
    source="transformers models/stablelm",
    build=build,
)
