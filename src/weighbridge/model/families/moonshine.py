"""Moonshine: three convolutions over the waveform, an encoder and a decoder with rotary positions.

Source: transformers `models/moonshine` (Jeffries et al. 2024). LayerNorm has no bias; the feed-forward block of the
decoder is gated, gate and up in one map. The decoder's heads must be the encoder's: the class reads one for both.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, CrossAttention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import with_defaults
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ONCE
from weighbridge.model.tensors import Component

_CLASSES = ("Model", "ForConditionalGeneration")
_DEFAULTS = {
    "vocab_size": 32768, "hidden_size": 288, "intermediate_size": 1152, "max_positions": 512,
    "encoder_num_hidden_layers": 6, "decoder_num_hidden_layers": 6, "encoder_num_attention_heads": 8,
    "decoder_num_attention_heads": 8,
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder, with the head that is the token table."""
    suffix = head_class(hyperparameters, ("Moonshine",), "ForConditionalGeneration")
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple("Moonshine" + name for name in _CLASSES))
    hyperparameters.refuse("head_dim", "which is not described")
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS)
    base, hidden = "" if suffix == "Model" else "model.", hyperparameters.count("hidden_size")
    heads = hyperparameters.count("encoder_num_attention_heads")
    for key in ("num_heads", "num_kv_heads", "decoder_num_attention_heads", "encoder_num_key_value_heads",
                "decoder_num_key_value_heads"):  # fmt: skip
        hyperparameters.same("heads of attention", heads, hyperparameters.count(key, heads))
    depth, more = (hyperparameters.count(f"{side}_num_hidden_layers", most=MOST_LAYERS)
                   for side in ("encoder", "decoder"))  # fmt: skip
    hyperparameters.same("layers of the decoder", more, hyperparameters.count("num_layers", more))
    table, tied = base + "decoder.embed_tokens", bool(base) and hyperparameters.flag("tie_embeddings", True)
    tokens, positions = hyperparameters.count("vocab_size"), hyperparameters.count("max_positions")
    head = Linear(in_features=hidden, out_features=tokens, bias=False, role="head", component=Component.HEAD,
                  tied_to=f"{table}.weight" if tied else None)  # fmt: skip
    return Architecture(
        family="moonshine", model_type="moonshine",
        placements=(
            *_waveform(base + "encoder", hidden),
            *(Placement(f"{base}encoder.layers.{{layer}}.{path}", block, range(depth))
              for path, block in _layer(hyperparameters, hidden, heads, None)),
            Placement(base + "encoder.layer_norm", Norm(width=hidden, bias=False, role="encoder_norm")),
            Placement(table, Embedding(rows=tokens, width=hidden)),
            *(Placement(f"{base}decoder.layers.{{layer}}.{path}", block, range(more), offset=depth)
              for path, block in _layer(hyperparameters, hidden, heads, positions)),
            Placement(base + "decoder.norm", Norm(width=hidden, bias=False, role="final_norm")),
            *((Placement("proj_out", head),) if base else ()),
        ),
        num_layers=depth + more, num_heads=heads, num_kv_heads=heads, base_prefix="model.", tie_embeddings=tied,
        notes=(f"cross-attention is kept for {positions} positions of the encoder; it grows with the recording", ONCE),
    )  # fmt: skip


def _waveform(path: str, hidden: int) -> list[Placement]:
    """The convolutions, and the norm after the first of them."""
    shapes = (("conv1", 127, 1, hidden), ("conv2", 7, hidden, 2 * hidden), ("conv3", 3, 2 * hidden, hidden))
    return [
        *(Placement(f"{path}.{name}", Convolution(kernel=(kernel,), in_channels=inputs, out_channels=outputs,
                                                  bias=name != "conv1")) for name, kernel, inputs, outputs in shapes),
        Placement(path + ".groupnorm", Norm(width=hidden)),
    ]  # fmt: skip


def _layer(hyperparameters: Hyperparameters, hidden: int, heads: int, positions: int | None) -> list[tuple[str, Block]]:
    """The parts of a layer, by their paths in it; a decoder attends to `positions` of the encoder."""
    size, biased = hyperparameters.divided("head_dim", hidden, heads), hyperparameters.flag("attention_bias", False)
    norm, inner = Norm(width=hidden, bias=False, role="attention_norm"), hyperparameters.count("intermediate_size")
    own = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=heads, head_dim=size, qkv_bias=biased,
                    causal=positions is not None)  # fmt: skip
    first: list[tuple[str, Block]] = [("self_attn", own), ("input_layernorm", norm), ("post_attention_layernorm", norm)]
    if positions is None:
        plain = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="fc1", down="fc2", bias=True)
        return [*first, ("mlp", plain)]
    cross = CrossAttention(hidden_size=hidden, num_heads=heads, head_dim=size, positions=positions, qkv_bias=biased)
    gated = FeedForward(hidden_size=hidden, intermediate_size=inner, up="fc1", down="fc2", bias=True, fused=True)
    return [*first, ("encoder_attn", cross), ("mlp", gated), ("final_layernorm", norm)]


FAMILY = Family(
    name="moonshine",
    title="Moonshine",
    model_types=("moonshine",),
    gguf={},
    source="transformers models/moonshine",
    build=build,
)
