"""GPT-BigCode: GPT-2's wiring with one key-value head for all queries, and linear weights stored (out, in).

Source: transformers `models/gpt_bigcode/{configuration,modeling}_gpt_bigcode.py`.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hyperparameters.refuse("add_cross_attention", "which this family does not describe")
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    num_kv_heads = 1 if hyperparameters.flag("multi_query", True) else num_heads
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("c_attn", "c_proj"), qkv_bias=True, output_bias=True,
    )  # fmt: skip
    inner = hyperparameters.count("intermediate_size", 4 * hidden)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="c_fc", down="c_proj",
                               bias=True)  # fmt: skip
    head = language_head(hyperparameters, ("GPTBigCode",), embedding="transformer.wte.weight", tied=True)
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden)
    return Architecture(
        family="gpt_bigcode",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.wte", Embedding(rows=vocab, width=hidden)),
            Placement("transformer.wpe", Embedding(rows=hyperparameters.count("max_positions", 1024), width=hidden,
                                                   role="position_embedding")),
            Placement(layer + "ln_1", replace(norm, role="attention_norm"), layers),
            Placement(layer + "attn", attention, layers),
            Placement(layer + "ln_2", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement("transformer.ln_f", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        base_prefix="transformer.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )  # fmt: skip


FAMILY = Family(
    name="gpt_bigcode",
    title="SantaCoder and StarCoder 1",
    model_types=("gpt_bigcode",),
    gguf={},
    source="transformers models/gpt_bigcode",
    build=build,
)
