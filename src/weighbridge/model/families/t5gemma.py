"""T5Gemma: an encoder and a decoder of Gemma 2's layers, each with a token table, cross-attention with norms around it.

Source: transformers `models/t5gemma/{configuration,modeling}_t5gemma.py` (5.x). The two sides are configured apart
(`encoder`, `decoder`) and may differ in size. The head is the decoder's table unless the whole says otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import CrossAttention, Embedding, Linear, Norm
from weighbridge.model.decoder import (
    attention,
    feed_forward,
    number_of_layers,
    sliding_but_every,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_DEFAULTS = {"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_layers": 26, "num_heads": 8,
             "num_kv_heads": 4, "head_dim": 256, "max_positions": 8192, "sliding_window": 4096}  # fmt: skip
_NORMS = (("pre_self_attn_layernorm", "attention_norm"), ("post_self_attn_layernorm", "attention_post_norm"),
          ("pre_feedforward_layernorm", "mlp_norm"), ("post_feedforward_layernorm", "mlp_post_norm"))  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both sides with the head, or without it."""
    classes = ("ForConditionalGeneration", "Model")
    suffix = head_class(hyperparameters, ("T5Gemma",), classes[0])
    if suffix not in classes:
        raise unknown_class(hyperparameters, tuple(f"T5Gemma{name}" for name in classes))
    if not hyperparameters.flag("is_encoder_decoder", True):
        hyperparameters.refuse("encoder", "without a decoder that is used")
    encoder, decoder = (with_defaults(hyperparameters.part(name), _DEFAULTS) for name in ("encoder", "decoder"))
    base = "" if suffix == "Model" else "model."
    tied = suffix != "Model" and hyperparameters.flag("tie_embeddings", True)
    head = Linear(in_features=decoder.count("hidden_size"), out_features=decoder.count("vocab_size"), bias=False,
                  role="head", component=Component.HEAD,
                  tied_to=f"{base}decoder.embed_tokens.weight" if tied else None)  # fmt: skip
    before, positions = number_of_layers(encoder), encoder.count("max_positions")
    return Architecture(
        family="t5gemma",
        model_type=hyperparameters.model_type,
        placements=(
            *_side(encoder, f"{base}encoder", None),
            *_side(decoder, f"{base}decoder", encoder),
            *([Placement("lm_head.out_proj", head)] if suffix != "Model" else []),
        ),
        num_layers=before + number_of_layers(decoder),
        num_heads=decoder.count("num_heads"),
        num_kv_heads=decoder.count("num_kv_heads"),
        base_prefix="model.",
        tie_embeddings=tied,
        notes=(f"cross-attention is kept for {positions} positions of the encoder; it grows with the input",),
    )


def _side(part: Hyperparameters, path: str, encoder: Hyperparameters | None) -> Iterator[Placement]:
    """One side; the decoder is the one with an encoder to attend to."""
    hidden, num_layers = part.count("hidden_size"), number_of_layers(part)
    part.divided("hidden_size by heads", hidden, part.count("num_heads"))
    offset = 0 if encoder is None else number_of_layers(encoder)
    layers, layer = range(num_layers), path + ".layers.{layer}."
    bias = part.flag("attention_bias", False)
    own = attention(part, qkv_bias=bias, output_bias=bias, causal=encoder is not None)
    norm = Norm(width=hidden, bias=False)
    yield Placement(path + ".embed_tokens", Embedding(rows=part.count("vocab_size"), width=hidden))
    for window, some in windows_by_type(part, sliding_but_every(2, num_layers)):
        yield Placement(layer + "self_attn", replace(own, window=window), some, offset=offset)
    if encoder is not None:
        cross = CrossAttention(hidden_size=hidden, num_heads=own.num_heads, num_kv_heads=own.num_kv_heads,
                               head_dim=own.head_dim, positions=encoder.count("max_positions"), qkv_bias=bias,
                               output_bias=bias, source_size=encoder.count("hidden_size"))  # fmt: skip
        yield Placement(layer + "cross_attn", cross, layers, offset=offset)
        for name in ("pre_cross_attn_layernorm", "post_cross_attn_layernorm"):
            yield Placement(layer + name, replace(norm, role="cross_attention_norm"), layers, offset=offset)
    yield Placement(layer + "mlp", feed_forward(part), layers, offset=offset)
    for name, role in _NORMS:
        yield Placement(layer + name, replace(norm, role=role), layers, offset=offset)
    yield Placement(path + ".norm", replace(norm, role="encoder_norm" if encoder is None else "final_norm"))


FAMILY = Family(
    name="t5gemma",
    title="T5Gemma",
    model_types=("t5gemma",),
    gguf={},
    source="transformers models/t5gemma",
    build=build,
)
