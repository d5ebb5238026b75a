"""Qwen 1: RMSNorm, fused attention with biases on its inputs, gated feed-forward, untied head.

Source: `modeling_qwen.py` beside the published weights (its class is not part of transformers). `intermediate_size`
is that of gate and up together; `no_bias` (default true) speaks of all other projections.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, GgufMeaning, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, or none."""
    for part in ("visual", "audio"):
        hyperparameters.refuse(part, "a tower that this family does not describe")
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    if hyperparameters.count("num_kv_heads", num_heads) != num_heads:
        hyperparameters.refuse("num_kv_heads", "where this family has as many as query heads")
    bias = not hyperparameters.flag("no_bias", True)
    head_dim = hyperparameters.optional_count("kv_channels") or hyperparameters.divided("head_dim", hidden, num_heads)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim,
                          names=("c_attn", "c_proj"), qkv_bias=True, output_bias=bias)  # fmt: skip
    inner = hyperparameters.divided("gate and up each", hyperparameters.count("intermediate_size"), 2)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate="w2", up="w1", down="c_proj",
                               bias=bias)  # fmt: skip
    head = language_head(hyperparameters, ("QWen",), default="LMHeadModel", embedding="transformer.wte.weight")
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden, bias=False)
    return Architecture(
        family="qwen",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.wte", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "ln_1", replace(norm, role="attention_norm"), layers),
            Placement(layer + "attn", attention, layers),
            Placement(layer + "ln_2", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement("transformer.ln_f", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="transformer.",
        tie_embeddings=head.tied,
        gguf_architecture="qwen",
        notes=head.notes,
    )


FAMILY = Family(
    name="qwen",
    title="Qwen 1: 1.8B, 7B, 14B, 72B",
    model_types=("qwen",),
    gguf={"qwen": GgufMeaning("qwen", "QWenLMHeadModel")},
    source="modeling_qwen.py beside the published weights",
    build=build,
)
