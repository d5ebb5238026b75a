"""GPT, the first: GPT-2's blocks with the norm after each part, none at the end, an inner size of four widths.

Source: transformers `models/openai/{configuration,modeling}_openai.py`. Linear weights are stored (in, out).
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
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads), names=("c_attn", "c_proj"), qkv_bias=True,
        output_bias=True, transposed=True,
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=4 * hidden, gate=None, up="c_fc", down="c_proj",
                               bias=True, transposed=True)  # fmt: skip
    head = language_head(hyperparameters, ("OpenAIGPT",), default="LMHeadModel",
                         embedding="transformer.tokens_embed.weight", tied=True)  # fmt: skip
    positions = Embedding(rows=hyperparameters.count("max_positions", 512), width=hidden, role="position_embedding")
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden)
    return Architecture(
        family="openai_gpt",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.tokens_embed", Embedding(rows=vocab, width=hidden)),
            Placement("transformer.positions_embed", positions),
            Placement(layer + "attn", attention, layers),
            Placement(layer + "ln_1", replace(norm, role="attention_output_norm"), layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(layer + "ln_2", replace(norm, role="mlp_output_norm"), layers),
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
    name="openai_gpt",
    title="GPT (2018)",
    model_types=("openai-gpt",),
    gguf={},
    source="transformers models/openai",
    build=build,
)
