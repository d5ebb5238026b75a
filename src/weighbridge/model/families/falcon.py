"""Falcon: fused attention with few key-value heads, LayerNorm, attention and feed-forward in parallel, tied head.

Source: transformers `models/falcon/{configuration,modeling}_falcon.py`. `RefinedWeb` (40B) and `RefinedWebModel` (7B,
RW) are spellings of the first releases: the former means `new_decoder_architecture`. That architecture has
`num_kv_heads` groups and a norm for each part; otherwise there is one key-value head with `multi_query` (the default),
as many as query heads without, and one norm, or two when the parts are not parallel.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    _check(hyperparameters)
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    num_kv_heads = _kv_heads(hyperparameters, num_heads)
    bias = hyperparameters.flag("bias", False)
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("query_key_value", "dense"), qkv_bias=bias, output_bias=bias,
    )  # fmt: skip
    feed_forward = FeedForward(
        hidden_size=hidden, intermediate_size=hyperparameters.count("ffn_hidden_size", 4 * hidden), gate=None,
        up="dense_h_to_4h", down="dense_4h_to_h", bias=bias,
    )  # fmt: skip
    head = language_head(hyperparameters, ("Falcon", "RW"), embedding="transformer.word_embeddings.weight", tied=True)
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden)
    return Architecture(
        family="falcon",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.word_embeddings", Embedding(rows=vocab, width=hidden)),
            *(Placement(layer + name, replace(norm, role=role), layers) for name, role in _norms(hyperparameters)),
            Placement(layer + "self_attention", attention, layers),
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
    )


def _check(hyperparameters: Hyperparameters) -> None:
    """The defaults of the first releases differed from release to release: what they leave out is not guessed."""
    needed = {"RefinedWeb": ("num_kv_heads",), "RefinedWebModel": ("multi_query", "parallel_attn")}
    for name in needed.get(hyperparameters.model_type, ()):
        if hyperparameters.settings.get(name) is None:
            read = f"{hyperparameters.source} is a {hyperparameters.model_type} without {name}"
            raise ConfigError(read, "the key, as its default differed between releases", "add the key")


def _new_decoder(hyperparameters: Hyperparameters) -> bool:
    return hyperparameters.flag("new_decoder_architecture", hyperparameters.model_type == "RefinedWeb")


def _kv_heads(hyperparameters: Hyperparameters, num_heads: int) -> int:
    if _new_decoder(hyperparameters):
        return hyperparameters.count("num_kv_heads", num_heads)
    if hyperparameters.flag("multi_query", True):
        return 1
    if hyperparameters.count("num_kv_heads", num_heads) != num_heads:
        hyperparameters.refuse("num_kv_heads", "which the reference class ignores without multi_query")
    return num_heads


def _norms(hyperparameters: Hyperparameters) -> tuple[tuple[str, str], ...]:
    """Names and roles of a layer's norms."""
    if not hyperparameters.flag("parallel_attn", True):
        return ("input_layernorm", "attention_norm"), ("post_attention_layernorm", "mlp_norm")
    if hyperparameters.count("num_ln_in_parallel_attn", 2 if _new_decoder(hyperparameters) else 1) == 2:
        return ("ln_attn", "attention_norm"), ("ln_mlp", "mlp_norm")
    return (("input_layernorm", "attention_norm"),)


FAMILY = Family(
    name="falcon",
    title="Falcon 7B to 180B, Falcon 2, Falcon-RW",
    model_types=("falcon", "RefinedWeb", "RefinedWebModel"),
    gguf={},
    source="transformers models/falcon; modelling_RW.py of the first releases",
    build=build,
)
