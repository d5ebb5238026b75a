"""Voxtral and its like: a language model beside Whisper's audio encoder, with a projector of one or two maps.

Source: transformers `models/{voxtral,qwen2_audio,audioflamingo3}/{configuration,modeling}_*.py` (5.x). As in Whisper,
keys have no bias. Voxtral's projector reads four of the encoder's outputs at once. The classes never tie their heads,
whatever the configuration says. Tensor names are those of published files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TEXT_CLASSES, TextClass, check_class, joined, text_model, tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, Names, encoder
from weighbridge.model.tensors import Component

_NAMES = Names(norms=("self_attn_layer_norm", "final_layer_norm"), mlp="")
_ALIASES = {"encoder_layers": "num_layers", "encoder_attention_heads": "num_heads",
            "encoder_ffn_dim": "intermediate_size"}  # fmt: skip

_Projector = Callable[[Hyperparameters, Encoder, int], Mapping[str, Linear]]


def _four_at_once(hyperparameters: Hyperparameters, layers: Encoder, hidden: int) -> Mapping[str, Linear]:
    return {
        "linear_1": Linear(in_features=layers.intermediate_size, out_features=hidden, bias=False),
        "linear_2": Linear(in_features=hidden, out_features=hidden, bias=False),
    }


def _one_map(hyperparameters: Hyperparameters, layers: Encoder, hidden: int) -> Mapping[str, Linear]:
    return {"linear": Linear(in_features=layers.hidden_size, out_features=hidden)}


def _two_maps(hyperparameters: Hyperparameters, layers: Encoder, hidden: int) -> Mapping[str, Linear]:
    bias = hyperparameters.flag("projector_bias", True)
    return {
        "linear_1": Linear(in_features=layers.hidden_size, out_features=hidden, bias=bias),
        "linear_2": Linear(in_features=hidden, out_features=hidden, bias=bias),
    }


@dataclass(frozen=True, slots=True)
class _Kind:
    """What sets a model type apart: its class, its language model and the projector."""

    class_name: str
    text: TextClass
    projector: _Projector


_KINDS = {
    "voxtral": _Kind("Voxtral", TextClass("llama", "LlamaForCausalLM", {
        "vocab_size": 131072, "hidden_size": 3072, "intermediate_size": 8192, "num_layers": 30, "num_heads": 32,
        "num_kv_heads": 8, "head_dim": 128,
    }), _four_at_once),
    "qwen2_audio": _Kind("Qwen2Audio", TEXT_CLASSES["qwen2"], _one_map),
    "audioflamingo3": _Kind("AudioFlamingo3", TEXT_CLASSES["qwen2"], _two_maps),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its audio encoder."""
    kind = _KINDS[hyperparameters.model_type]
    check_class(hyperparameters, kind.class_name)
    text, audio = hyperparameters.part("text_config"), hyperparameters.part("audio_config")
    if text.model_type not in ("part", kind.text.model_type):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", kind.text.model_type,
                          "ask for support of this combination")  # fmt: skip
    language = text_model(text, kind.text, tied=False)
    hidden = text.count("hidden_size", kind.text.defaults["hidden_size"])
    placements, layers = audio_encoder(audio, "audio_tower")
    projector = kind.projector(hyperparameters, layers, hidden)
    beside = tower((
        *placements,
        *(Placement(f"multi_modal_projector.{name}", block) for name, block in projector.items()),
    ))  # fmt: skip
    return joined(hyperparameters, "voxtral", language, beside, [("", "language_model.")])


def audio_encoder(audio: Hyperparameters, path: str) -> tuple[tuple[Placement, ...], Encoder]:
    """Whisper's audio encoder at a path."""
    placements, layers = audio_layers(audio, path + ".layers.{layer}")
    width = layers.hidden_size
    convolution = Convolution(kernel=(3,), in_channels=audio.count("num_mel_bins", 128), out_channels=width, bias=True)
    positions = Embedding(rows=audio.count("max_source_positions", 1500), width=width, role="position_embedding")
    return (
        Placement(path + ".conv1", convolution),
        Placement(path + ".conv2", replace(convolution, in_channels=width)),
        Placement(path + ".embed_positions", positions),
        *placements,
        Placement(path + ".layer_norm", Norm(width=width)),
    ), layers


def audio_layers(
    audio: Hyperparameters, layer: str, *, key_bias: bool = False
) -> tuple[tuple[Placement, ...], Encoder]:
    """The layers of Whisper's audio encoder, spelled as Whisper spells them or as those of other encoders."""
    aliased = {ours: audio.settings[key] for key, ours in _ALIASES.items() if audio.settings.get(key) is not None}
    for key in aliased.keys() & audio.settings.keys():
        audio.same(key, aliased[key], audio.count(key, aliased[key]))
    audio = replace(audio, settings={**audio.settings, **aliased})
    layers = replace(encoder(audio, 1280, 5120, 32, 20, _NAMES), qkv_bias=key_bias)
    biased = () if key_bias else ("q_proj", "v_proj")
    bias = Vector(name="bias", width=layers.hidden_size, component=Component.ATTENTION)
    return (
        *layers.placements(layer),
        *(Placement(f"{layer}.self_attn.{name}", bias, range(layers.num_layers)) for name in biased),
    ), layers


FAMILY = Family(
    name="voxtral",
    title="Voxtral, Qwen2-Audio and Audio Flamingo 3",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/voxtral, models/qwen2_audio, models/audioflamingo3",
    build=build,
)
