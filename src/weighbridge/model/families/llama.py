"""Llama and all that is wired like it: RMSNorm, rotary grouped-query attention, gated feed-forward, untied by default.

Source: transformers `models/{llama,mistral,qwen2}/{configuration,modeling}_*.py` (5.x). They differ in biases (Qwen2
has them on queries, keys and values; Llama only with `attention_bias`, then on the output too) and in windows (Mistral
in every layer, Qwen2 from `max_window_layers` on when `use_sliding_window` is set).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, Experts, FeedForward, Norm
from weighbridge.model.family import Family, GgufMeaning, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

_PREFIXES = ("Llama", "Mistral", "Qwen2")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with one gated feed-forward block a layer."""
    hyperparameters.refuse("num_experts", "which this dense family does not describe")
    feed_forward = FeedForward(
        hidden_size=hyperparameters.count("hidden_size"),
        intermediate_size=hyperparameters.count("intermediate_size"),
        bias=hyperparameters.flag("mlp_bias", False),
    )
    return decoder(hyperparameters, "mlp", feed_forward, _PREFIXES)


def decoder(
    hyperparameters: Hyperparameters, mlp_path: str, mlp: FeedForward | Experts, prefixes: tuple[str, ...]
) -> Architecture:
    """The wiring that this family and its mixtures of experts share."""
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    num_kv_heads = hyperparameters.count("num_kv_heads", num_heads)
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    head_dim = hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads)
    qwen = hyperparameters.model_type == "qwen2"
    bias = hyperparameters.flag("attention_bias", False)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads, head_dim=head_dim,
                          qkv_bias=qwen or bias, output_bias=bias and not qwen)  # fmt: skip
    windows, notes = _windows(hyperparameters, num_layers)
    layers = range(num_layers)
    norm = Norm(width=hidden, bias=False)
    head = language_head(hyperparameters, prefixes)
    layer = "model.layers.{layer}."
    return Architecture(
        family="mixtral" if isinstance(mlp, Experts) else "llama",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=vocab, width=hidden)),
            *(Placement(layer + "self_attn", replace(attention, window=span), part) for span, part in windows),
            Placement(layer + mlp_path, mlp, layers),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers),
            Placement("model.norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        num_experts=mlp.num_experts if isinstance(mlp, Experts) else 0,
        base_prefix="model.",
        tie_embeddings=head.tied,
        gguf_architecture="qwen2" if qwen else "llama",
        notes=(*notes, *head.notes),
    )  # fmt: skip


def _windows(
    hyperparameters: Hyperparameters, num_layers: int
) -> tuple[list[tuple[int | None, Sequence[int]]], tuple[str, ...]]:
    """Which layers have which attention window."""
    every = range(num_layers)
    window = hyperparameters.optional_count("sliding_window")
    if hyperparameters.model_type == "qwen2":
        if window is None or not hyperparameters.flag("use_sliding_window", False):
            return [(None, every)], ()
        given = hyperparameters.settings.get("max_window_layers")
        first = min(hyperparameters.count("max_window_layers") if given else 0, num_layers)
        return [pair for pair in ((None, every[:first]), (window, every[first:])) if pair[1]], ()
    if hyperparameters.model_type == "llama":
        return [(None, every)], ()
    if window is None and "sliding_window" not in hyperparameters.settings and hyperparameters.model_type == "mistral":
        note = "sliding_window is missing and taken as none; the reference class would default to 4096"
        return [(None, every)], (note,)
    return [(window, every)], ()


FAMILY = Family(
    name="llama",
    title="Llama 1-3, Mistral, Qwen 1.5-2.5, Yi, SmolLM, TinyLlama and all that is spelled like them",
    model_types=("llama", "mistral", "qwen2"),
    gguf={"llama": GgufMeaning("llama", "LlamaForCausalLM"), "qwen2": GgufMeaning("qwen2", "Qwen2ForCausalLM")},
    source="transformers models/llama, models/mistral, models/qwen2",
    build=build,
)
