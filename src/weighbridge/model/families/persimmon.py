"""Persimmon and Fuyu: fused attention with LayerNorm on queries and keys, squared-ReLU feed-forward, biases.

Source: transformers `models/{persimmon,fuyu}/{configuration,modeling}_*.py`. Fuyu maps patches of an image straight
into Persimmon, without a tower; its published configuration is flat, newer ones nest the text's.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.composite import TextClass, joined, text_model, tower
from weighbridge.model.family import Family, language_head, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

_TEXT = TextClass("persimmon", "PersimmonForCausalLM", {
    "vocab_size": 262144, "hidden_size": 4096, "intermediate_size": 16384, "num_layers": 36, "num_heads": 64,
})  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder, with a map for patches in Fuyu."""
    return _fuyu(hyperparameters) if hyperparameters.model_type == "fuyu" else _decoder(hyperparameters)


def _fuyu(hyperparameters: Hyperparameters) -> Architecture:
    if hyperparameters.classes not in ((), ("FuyuForCausalLM",)):
        raise unknown_class(hyperparameters, ("FuyuForCausalLM",))
    nested = hyperparameters.settings.get("text_config") is not None
    text = hyperparameters.part("text_config") if nested else hyperparameters
    if text.model_type not in ("part", "fuyu", "persimmon"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "persimmon",
                          "ask for support of this combination")  # fmt: skip
    language = text_model(text, _TEXT, tied=hyperparameters.flag("tie_embeddings", False))
    pixels = hyperparameters.count("patch_size", 30) ** 2 * hyperparameters.count("num_channels", 3)
    patch = Linear(in_features=pixels, out_features=text.count("hidden_size", 4096))
    beside = tower([Placement("vision_embed_tokens", patch)])
    return joined(hyperparameters, "persimmon", language, beside, [("", "language_model.")])


def _decoder(hyperparameters: Hyperparameters) -> Architecture:
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    head_dim = hyperparameters.divided("head_dim", hidden, num_heads)
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim,
                          names=("query_key_value", "dense"), qkv_bias=True, output_bias=True)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="dense_h_to_4h", down="dense_4h_to_h", bias=True)  # fmt: skip
    head = language_head(hyperparameters, ("Persimmon",))
    layers, layer, norm = range(num_layers), "model.layers.{layer}.", Norm(width=hidden)
    normed = [Placement(f"{layer}self_attn.{part}_layernorm", Norm(width=head_dim, role=f"attention_{part}_norm"),
                        layers) for part in ("q", "k")]  # fmt: skip
    return Architecture(
        family="persimmon",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=vocab, width=hidden)),
            Placement(layer + "self_attn", attention, layers),
            *(normed if hyperparameters.flag("qk_layernorm", True) else ()),
            Placement(layer + "mlp", feed_forward, layers),
            Placement(layer + "input_layernorm", replace(norm, role="attention_norm"), layers),
            Placement(layer + "post_attention_layernorm", replace(norm, role="mlp_norm"), layers),
            Placement("model.final_layernorm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


FAMILY = Family(
    name="persimmon",
    title="Persimmon 8B and Fuyu 8B",
    model_types=("persimmon", "fuyu"),
    gguf={},
    source="transformers models/persimmon, models/fuyu",
    build=build,
)
