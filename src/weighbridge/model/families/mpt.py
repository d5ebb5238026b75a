"""MPT: ALiBi, fused attention, plain feed-forward, no biases anywhere, norms included, tied head.

Source: transformers `models/mpt/{configuration,modeling}_mpt.py`. The class describes multi-head attention with ALiBi
and an inner size of four widths; what the original repository also offered (grouped queries, learned positions, norms
on queries and keys, biases, other inner sizes) is refused.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    _check(hyperparameters)
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads), names=("Wqkv", "out_proj"),
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=4 * hidden, gate=None)
    head = language_head(hyperparameters, ("Mpt",), embedding="transformer.wte.weight", tied=True)
    layers, layer, norm = range(num_layers), "transformer.blocks.{layer}.", Norm(width=hidden, bias=False)
    return Architecture(
        family="mpt",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.wte", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "norm_1", replace(norm, role="attention_norm"), layers),
            Placement(layer + "attn", attention, layers),
            Placement(layer + "norm_2", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "ffn", feed_forward, layers),
            Placement("transformer.norm_f", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="transformer.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


def _check(hyperparameters: Hyperparameters) -> None:
    reason = "which the reference class does not describe"
    if hyperparameters.count("expansion_ratio", 4) != 4:
        hyperparameters.refuse("expansion_ratio", reason)
    _expect(hyperparameters, "no_bias", True, reason)
    if hyperparameters.settings.get("attn_config") is not None:
        attention = hyperparameters.part("attn_config")
        for key in ("qk_ln", "qk_gn"):
            attention.refuse(key, reason)
        if attention.settings.get("attn_type", "multihead_attention") != "multihead_attention":
            attention.refuse("attn_type", reason)
        _expect(attention, "alibi", True, reason)
    if hyperparameters.settings.get("ffn_config") is not None:
        feed_forward = hyperparameters.part("ffn_config")
        if feed_forward.settings.get("ffn_type", "mptmlp") != "mptmlp":
            feed_forward.refuse("ffn_type", reason)
        feed_forward.refuse("ffn_hidden_size", reason)


def _expect(hyperparameters: Hyperparameters, name: str, value: bool, reason: str) -> None:
    if hyperparameters.flag(name, value) != value:
        turned = {f"{name} = {hyperparameters.settings[name]}": True}
        replace(hyperparameters, settings=turned).refuse(next(iter(turned)), reason)


FAMILY = Family(
    name="mpt",
    title="MPT-7B, MPT-30B, Replit Code",
    model_types=("mpt",),
    gguf={},
    source="transformers models/mpt",
    build=build,
)
