"""T5Gemma 1 and 2: an encoder and a decoder of Gemma 2's or Gemma 3's layers, configured apart.

Source: transformers `models/{t5gemma,t5gemma2}/{configuration,modeling}_*.py` (5.x). In T5Gemma each side has a token
table and may have its own size; cross-attention has norms around it. In T5Gemma 2 one table serves both sides and the
head, the projections of self-attention serve for cross-attention too, queries and keys have norms, and a SigLIP tower
stands beside the encoder. Tables of T5Gemma 2 have one vector apart, for the end of an image.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import CrossAttention, Embedding, Linear, Norm, Use, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.composite import tower
from weighbridge.model.decoder import (
    attention,
    feed_forward,
    number_of_layers,
    sliding_but_every,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.families.siglip import vision_encoder
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_DEFAULTS = {"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216, "num_layers": 26, "num_heads": 8,
             "num_kv_heads": 4, "head_dim": 256, "max_positions": 8192, "sliding_window": 4096}  # fmt: skip
_SECOND = {**_DEFAULTS, "vocab_size": 262208, "max_positions": 131072}
_NORMS = (("pre_self_attn_layernorm", "attention_norm"), ("post_self_attn_layernorm", "attention_post_norm"),
          ("pre_feedforward_layernorm", "mlp_norm"), ("post_feedforward_layernorm", "mlp_post_norm"))  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both sides with the head, or without it."""
    classes = ("ForConditionalGeneration", "Model")
    second = hyperparameters.model_type == "t5gemma2"
    prefix = "T5Gemma2" if second else "T5Gemma"
    suffix = head_class(hyperparameters, (prefix,), classes[0])
    if suffix not in classes:
        raise unknown_class(hyperparameters, tuple(prefix + name for name in classes))
    if not hyperparameters.flag("is_encoder_decoder", True):
        hyperparameters.refuse("encoder", "without a decoder that is used")
    whole, decoder = (hyperparameters.part(name) for name in ("encoder", "decoder"))
    encoder = with_defaults(whole.part("text_config"), _SECOND) if second else with_defaults(whole, _DEFAULTS)
    decoder = with_defaults(decoder, _SECOND if second else _DEFAULTS)
    tied = hyperparameters.flag("tie_embeddings", True)
    base = "" if suffix == "Model" else "model."
    paths = (f"{base}encoder.text_model" if second else f"{base}encoder", f"{base}decoder")
    shared = f"{paths[0 if second else 1]}.embed_tokens"
    if second:
        for name in ("hidden_size", "vocab_size"):
            hyperparameters.same(f"{name} of both sides", encoder.count(name), decoder.count(name))
    head = Linear(in_features=decoder.count("hidden_size"), out_features=decoder.count("vocab_size"), bias=False,
                  role="head", component=Component.HEAD, tied_to=f"{shared}.weight" if tied else None)  # fmt: skip
    positions = encoder.count("max_positions")
    return Architecture(
        family="t5gemma",
        model_type=hyperparameters.model_type,
        placements=(
            *(_images(whole.part("vision_config"), f"{base}encoder.", encoder.count("hidden_size")) if second else ()),
            *_table(encoder, paths[0], second, None),
            *_side(encoder, paths[0], second, None),
            *_table(decoder, paths[1], second, shared if second and tied else None),
            *_side(decoder, paths[1], second, encoder),
            *([Placement("lm_head.out_proj", head)] if suffix != "Model" else []),
        ),
        num_layers=number_of_layers(encoder) + number_of_layers(decoder),
        num_heads=decoder.count("num_heads"),
        num_kv_heads=decoder.count("num_kv_heads"),
        base_prefix="model.",
        tie_embeddings=tied and suffix != "Model",
        notes=(f"cross-attention is kept for {positions} positions of the encoder; it grows with the input",),
    )


def _table(part: Hyperparameters, path: str, second: bool, owner: str | None) -> Iterator[Placement]:
    """The token table, which may be that of the other side."""
    hidden, tied_to = part.count("hidden_size"), f"{owner}.weight" if owner else None
    table = Embedding(rows=part.count("vocab_size"), width=hidden, tied_to=tied_to)
    yield Placement(path + ".embed_tokens", table)
    if second:
        apart = Vector(name="eoi_embedding", width=hidden, role="token_embedding", component=Component.EMBEDDING,
                       tied_to=f"{owner}.eoi_embedding" if owner else None)  # fmt: skip
        yield Placement(path + ".embed_tokens", apart)


def _side(part: Hyperparameters, path: str, second: bool, encoder: Hyperparameters | None) -> Iterator[Placement]:
    """The layers of one side; the decoder is the one with an encoder to attend to."""
    hidden, num_layers = part.count("hidden_size"), number_of_layers(part)
    part.divided("hidden_size by heads", hidden, part.count("num_heads"))
    offset = 0 if encoder is None else number_of_layers(encoder)
    layers, layer = range(num_layers), path + ".layers.{layer}."
    bias = part.flag("attention_bias", False)
    own = attention(part, qkv_bias=bias, output_bias=bias, causal=encoder is not None)
    norm = Norm(width=hidden, bias=False)
    every = part.count("sliding_window_pattern", 6) if second else 2
    for window, some in windows_by_type(part, sliding_but_every(every, num_layers)):
        yield Placement(layer + "self_attn", replace(own, window=window), some, offset=offset)
    if second:
        for name in ("q_norm", "k_norm"):
            head_norm = Norm(width=own.head_dim, bias=False, role=f"attention_{name}")
            yield Placement(f"{layer}self_attn.{name}", head_norm, layers, offset=offset)
    if encoder is not None:
        cross = CrossAttention(hidden_size=hidden, num_heads=own.num_heads, num_kv_heads=own.num_kv_heads,
                               head_dim=own.head_dim, positions=encoder.count("max_positions"), qkv_bias=bias,
                               output_bias=bias, source_size=encoder.count("hidden_size"), merged=second)  # fmt: skip
        yield Placement(layer + "cross_attn", cross, layers, offset=offset)
        for name in () if second else ("pre_cross_attn_layernorm", "post_cross_attn_layernorm"):
            yield Placement(layer + name, replace(norm, role="cross_attention_norm"), layers, offset=offset)
    yield Placement(layer + "mlp", feed_forward(part), layers, offset=offset)
    for name, role in _NORMS:
        yield Placement(layer + name, replace(norm, role=role), layers, offset=offset)
    yield Placement(path + ".norm", replace(norm, role="encoder_norm" if encoder is None else "final_norm"))


def _images(vision: Hyperparameters, path: str, hidden: int) -> tuple[Placement, ...]:
    """The tower and the map into the encoder's width."""
    images, layers = vision_encoder(vision, path + "vision_tower")
    width = layers.hidden_size
    projection = Array(name="mm_input_projection_weight", shape=(width, hidden), use=Use.MATMUL)
    return tower((
        *images,
        Placement(path + "multi_modal_projector.mm_soft_emb_norm", Norm(width=width, bias=False)),
        Placement(path + "multi_modal_projector", projection),
    ))  # fmt: skip


FAMILY = Family(
    name="t5gemma",
    title="T5Gemma 1 and 2",
    model_types=("t5gemma", "t5gemma2"),
    gguf={},
    source="transformers models/t5gemma, models/t5gemma2",
    build=build,
)
