"""Voxtral Realtime: Mistral's decoder, its second norm steered by the delay, beside a causal audio encoder.

Source: transformers `models/voxtral_realtime/{configuration,modeling}_voxtral_realtime.py` (5.x). The encoder has
rotary positions, RMSNorm and a gate; keys, gate and up have no bias. The embedding of the delay is made of sines.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TextClass, check_class, joined, text_model, tower, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_TEXT = TextClass("mistral", "MistralForCausalLM", {
    "vocab_size": 131072, "hidden_size": 3072, "intermediate_size": 9216, "num_layers": 26, "num_heads": 32,
    "num_kv_heads": 8, "head_dim": 128, "sliding_window": 8192,
})  # fmt: skip
_AUDIO = {"hidden_size": 1280, "intermediate_size": 5120, "num_layers": 32, "num_heads": 32, "head_dim": 64}
_STEERED = 32


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its audio encoder and projector."""
    check_class(hyperparameters, "VoxtralRealtime")
    text, audio = hyperparameters.part("text_config"), hyperparameters.part("audio_config")
    if text.model_type not in ("part", "voxtral_realtime_text"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "voxtral_realtime_text",
                          "ask for support of this combination")  # fmt: skip
    language = text_model(text, _TEXT, tied=hyperparameters.flag("tie_embeddings", True))
    hidden, every = text.count("hidden_size", 3072), range(language.num_layers)
    layer = "model.layers.{layer}.ada_rms_norm.linear"
    steering = tuple(
        Placement(f"{layer}{number}", Linear(in_features=inputs, out_features=outputs, bias=False, role="norm",
                                             component=Component.NORM, per_sequence=True), every)
        for number, inputs, outputs in ((1, hidden, _STEERED), (2, _STEERED, hidden))
    )  # fmt: skip
    encoder, width = _encoder(with_defaults(audio, _AUDIO))
    wide, path = width * hyperparameters.count("downsample_factor", 4), "multi_modal_projector.linear_"
    beside = tower((
        *encoder,
        Placement(path + "1", Linear(in_features=wide, out_features=hidden, bias=False)),
        Placement(path + "2", Linear(in_features=hidden, out_features=hidden, bias=False)),
    ))  # fmt: skip
    language = replace(language, placements=(*language.placements, *steering))
    return joined(hyperparameters, "voxtral_realtime", language, beside, [("", "language_model.")])


def _encoder(audio: Hyperparameters) -> tuple[tuple[Placement, ...], int]:
    for key in ("encoder_layers", "encoder_attention_heads", "encoder_ffn_dim"):
        audio.refuse(key, "which published files spell as other encoders do")
    width, heads, head = audio.count("hidden_size"), audio.count("num_heads"), audio.optional_count("head_dim")
    head = head or audio.divided("head_dim", width, heads)
    every, layer = range(audio.count("num_layers", most=MOST_LAYERS)), "audio_tower.layers.{layer}."
    attention = Attention(hidden_size=width, num_heads=heads, num_kv_heads=heads, head_dim=head, output_bias=True,
                          causal=False)  # fmt: skip
    norm, bias = Norm(width=width, bias=False), Vector(name="bias", width=heads * head, component=Component.ATTENTION)
    mlp = FeedForward(hidden_size=width, intermediate_size=audio.count("intermediate_size"))
    parts: dict[str, Block] = {
        "self_attn": attention, "self_attn.q_proj": bias, "self_attn.v_proj": bias, "self_attn_layer_norm": norm,
        "mlp": mlp, "mlp.down_proj": Vector(name="bias", width=width, component=Component.MLP),
        "final_layer_norm": norm,
    }  # fmt: skip
    along = Convolution(kernel=(3,), in_channels=audio.count("num_mel_bins", 128), out_channels=width, bias=True)
    return (
        Placement("audio_tower.embedder.conv1", along),
        Placement("audio_tower.embedder.conv2", replace(along, in_channels=width)),
        *(Placement(layer + name, block, every) for name, block in parts.items()),
        Placement("audio_tower.norm", norm),
    ), width


FAMILY = Family(
    name="voxtral_realtime",
    title="Voxtral Realtime",
    model_types=("voxtral_realtime",),
    gguf={},
    source="transformers models/voxtral_realtime",
    build=build,
)
