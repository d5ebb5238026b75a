"""GPT-J and CodeGen: one LayerNorm for attention and feed-forward in parallel, no attention biases, head with a bias.

Source: transformers `models/{gptj,codegen}/{configuration,modeling}_*.py`. CodeGen fuses the attention's inputs.
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
    fused = hyperparameters.model_type == "codegen"
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("qkv_proj", "out_proj") if fused else ("q_proj", "k_proj", "v_proj", "out_proj"),
    )  # fmt: skip
    inner = hyperparameters.count("intermediate_size", 4 * hidden)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="fc_in", down="fc_out",
                               bias=True)  # fmt: skip
    head = language_head(hyperparameters, ("CodeGen",) if fused else ("GPTJ",), embedding="transformer.wte.weight",
                         bias=True)  # fmt: skip
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden)
    return Architecture(
        family="gptj",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.wte", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "ln_1", replace(norm, role="attention_norm"), layers),
            Placement(layer + "attn", attention, layers),
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
    name="gptj",
    title="GPT-J 6B and CodeGen",
    model_types=("gptj", "codegen"),
    gguf={},
    source="transformers models/gptj, models/codegen",
    build=build,
)
