"""MusicGen: a T5 encoder reads the text, a decoder writes several codes for each frame, EnCodec makes sound of them.

Source: transformers `models/musicgen` (Copet et al. 2023). The decoder has a table and a head for each codebook, and no
biases but those of its norms; its positions are sines, stored as a buffer. A token here is one frame of all codebooks.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, CrossAttention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.composite import moved, tower, with_defaults
from weighbridge.model.families import encodec, t5
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component, Kind

_NAMES = ("q_proj", "k_proj", "v_proj", "out_proj")
_DEFAULTS = {"vocab_size": 2048, "max_positions": 2048, "num_layers": 24, "ffn_dim": 4096, "num_heads": 16,
             "hidden_size": 1024, "num_codebooks": 4}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The three models, and the map from the text to the decoder where their widths differ."""
    if head_class(hyperparameters, ("Musicgen",), "ForConditionalGeneration") != "ForConditionalGeneration":
        raise unknown_class(hyperparameters, ("MusicgenForConditionalGeneration",))
    words, sound = hyperparameters.part("text_encoder"), hyperparameters.part("audio_encoder")
    if (words.model_type, sound.model_type) != ("t5", "encodec"):
        read = f"{hyperparameters.source} joins {words.model_type[:40]} and {sound.model_type[:40]}"
        raise ConfigError(read, "a t5 and an encodec", "weigh the weight files themselves")
    text = t5.build(replace(words, classes=("T5EncoderModel",)))
    codec = encodec.build(replace(sound, classes=()))
    part = with_defaults(hyperparameters.part("decoder"), _DEFAULTS)
    for key in ("tie_embeddings", "cross_attention_hidden_size"):
        part.refuse(key, "which is not described")
    width, source, positions = part.count("hidden_size"), words.count("hidden_size"), words.count("max_positions", 512)
    depth, heads = part.count("num_layers", most=MOST_LAYERS), part.count("num_heads")
    joined = [Placement("enc_to_dec_proj", Linear(in_features=source, out_features=width))] if source != width else []
    return Architecture(
        family="musicgen", model_type="musicgen",
        placements=(
            *moved(text.placements, [("", "text_encoder.")]),
            *tower(moved(codec.placements, [("", "audio_encoder.")])),
            *joined,
            *_decoder(part, width, heads, range(depth), text.num_layers, positions),
        ),
        num_layers=text.num_layers + depth, num_heads=heads, num_kv_heads=heads,
        notes=(f"cross-attention is kept for {positions} positions of the text; it grows with it", *codec.notes),
    )  # fmt: skip


def _decoder(
    part: Hyperparameters, width: int, heads: int, layers: range, offset: int, positions: int
) -> list[Placement]:
    size, codes = part.divided("head_dim", width, heads), part.count("vocab_size")
    books = range(part.count("num_codebooks", most=MOST_LAYERS))
    own = Attention(hidden_size=width, num_heads=heads, num_kv_heads=heads, head_dim=size, names=_NAMES)
    cross = CrossAttention(hidden_size=width, num_heads=heads, head_dim=size, positions=positions, names=_NAMES)
    dense = FeedForward(hidden_size=width, intermediate_size=part.count("ffn_dim"), gate=None, up="fc1", down="fc2")
    norm, path = Norm(width=width), "decoder.model.decoder."
    blocks: list[tuple[str, Block]] = [
        ("self_attn", own), ("self_attn_layer_norm", norm), ("encoder_attn", cross), ("encoder_attn_layer_norm", norm),
        ("", dense), ("final_layer_norm", norm),
    ]  # fmt: skip
    sines = Array(name="weights", shape=(part.count("max_positions"), width), role="position_embedding",
                  kind=Kind.BUFFER)  # fmt: skip
    head = Linear(in_features=width, out_features=codes, bias=False, role="head", component=Component.HEAD)
    return [
        *(Placement(f"{path}embed_tokens.{book}", Embedding(rows=codes + 1, width=width)) for book in books),
        Placement(path + "embed_positions", sines),
        *(Placement(f"{path}layers.{{layer}}.{name}".rstrip("."), block, layers, offset=offset)
          for name, block in blocks),
        Placement(path + "layer_norm", replace(norm, role="final_norm")),
        *(Placement(f"decoder.lm_heads.{book}", head) for book in books),
    ]  # fmt: skip


FAMILY = Family(
    name="musicgen",
    title="MusicGen",
    model_types=("musicgen",),
    gguf={},
    source="transformers models/musicgen",
    build=build,
)
