"""GPT-2 and GPT-3: learned positions, LayerNorm, fused attention, plain feed-forward, biases throughout, tied head.

Source: transformers `models/gpt2/{configuration,modeling}_gpt2.py`. Its linear maps are `Conv1D`, which stores
(in, out). GPT-3 (Brown et al. 2020, table 2.1) has the same wiring in larger sizes, with banded attention in every
other layer, which changes no parameter.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, GgufMeaning, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hyperparameters.refuse("add_cross_attention", "which this family does not describe")
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    head_dim = hyperparameters.divided("head_dim", hidden, num_heads)
    # The reference class reads `n_inner` alone: another spelling of the same setting means nothing to it.
    foreign = hyperparameters.spellings.get("intermediate_size") == "intermediate_size"
    inner = 4 * hidden if foreign else hyperparameters.count("intermediate_size", 4 * hidden)
    layers, norm = range(num_layers), Norm(width=hidden)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim,
                          names=("c_attn", "c_proj"), qkv_bias=True, output_bias=True, transposed=True)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="c_fc", down="c_proj",
                               bias=True, transposed=True)  # fmt: skip
    head = language_head(
        hyperparameters, ("GPT2",), default="LMHeadModel", embedding="transformer.wte.weight", tied=True
    )
    return Architecture(
        family="gpt2",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.wte", Embedding(rows=vocab, width=hidden)),
            Placement("transformer.wpe", Embedding(rows=hyperparameters.count("max_positions", 1024), width=hidden,
                                                   role="position_embedding")),
            Placement("transformer.h.{layer}.ln_1", replace(norm, role="attention_norm"), layers),
            Placement("transformer.h.{layer}.attn", attention, layers),
            Placement("transformer.h.{layer}.ln_2", replace(norm, role="mlp_norm"), layers),
            Placement("transformer.h.{layer}.mlp", feed_forward, layers),
            Placement("transformer.ln_f", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="transformer.",
        tie_embeddings=head.tied,
        gguf_architecture="gpt2",
        notes=head.notes,
    )  # fmt: skip


FAMILY = Family(
    name="gpt2",
    title="GPT-2 and GPT-3",
    model_types=("gpt2",),
    # Old converters wrote the tied head a second time; llama.cpp takes it from the token table either way.
    gguf={"gpt2": GgufMeaning("gpt2", "GPT2LMHeadModel", settings={"tie_embeddings": True})},
    source="transformers models/gpt2",
    build=build,
)
