"""GPT-2 and GPT-3: learned positions, LayerNorm, fused attention, plain feed-forward, biases throughout, tied head.

Source: transformers `models/gpt2/{configuration,modeling}_gpt2.py`. Its linear maps are `Conv1D`, which stores
(in, out). GPT-3 (Brown et al. 2020, table 2.1) has the same wiring in larger sizes, with banded attention in every
other layer, which changes no parameter.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.family import Family, GgufMeaning, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hyperparameters.refuse("add_cross_attention", "which this family does not describe")
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    head_dim = hyperparameters.divided("head_dim", hidden, num_heads)
    inner = hyperparameters.count("intermediate_size", 4 * hidden)
    layers, norm = range(num_layers), Norm(width=hidden)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim,
                          names=("c_attn", "c_proj"), qkv_bias=True, output_bias=True, transposed=True)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="c_fc", down="c_proj",
                               bias=True, transposed=True)  # fmt: skip
    head, tied = _head(hyperparameters, hidden, vocab)
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
            *head,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="transformer.",
        tie_embeddings=tied,
        gguf_architecture="gpt2",
        notes=() if hyperparameters.classes else ("no class is named; taken as a causal language model",),
    )  # fmt: skip


def _head(hyperparameters: Hyperparameters, hidden: int, vocab: int) -> tuple[tuple[Placement, ...], bool]:
    suffix = head_class(hyperparameters, ("GPT2",), "LMHeadModel")
    if suffix == "Model":
        return (), False
    if suffix == "ForSequenceClassification":
        labels = hyperparameters.count("num_labels", 2)
        score = Linear(in_features=hidden, out_features=labels, bias=False, role="score", component=Component.HEAD)
        return (Placement("score", score),), False
    if suffix != "LMHeadModel":
        raise unknown_class(hyperparameters, ("GPT2LMHeadModel", "GPT2Model", "GPT2ForSequenceClassification"))
    tied = hyperparameters.flag("tie_embeddings", True)
    head = Linear(in_features=hidden, out_features=vocab, bias=False, role="head", component=Component.HEAD,
                  tied_to="transformer.wte.weight" if tied else None)  # fmt: skip
    return (Placement("lm_head", head),), tied


FAMILY = Family(
    name="gpt2",
    title="GPT-2 and GPT-3",
    model_types=("gpt2",),
    gguf={"gpt2": GgufMeaning("gpt2", "GPT2LMHeadModel")},
    source="transformers models/gpt2",
    build=build,
)
