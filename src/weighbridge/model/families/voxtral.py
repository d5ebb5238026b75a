"""Voxtral: Llama's language model beside Whisper's audio encoder, four of whose outputs become one vector.

Source: transformers `models/voxtral/{configuration,modeling}_voxtral.py` (5.x). As in Whisper, keys have no bias. The
class never ties its head, whatever the configuration says. Tensor names are those of published files.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TextClass, check_class, joined, text_model, tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Names, encoder
from weighbridge.model.tensors import Component

_TEXT = TextClass("llama", "LlamaForCausalLM", {
    "vocab_size": 131072, "hidden_size": 3072, "intermediate_size": 8192, "num_layers": 30, "num_heads": 32,
    "num_kv_heads": 8, "head_dim": 128,
})  # fmt: skip
_NAMES = Names(norms=("self_attn_layer_norm", "final_layer_norm"), mlp="")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its audio encoder."""
    check_class(hyperparameters, "Voxtral")
    text, audio = hyperparameters.part("text_config"), hyperparameters.part("audio_config")
    if text.model_type not in ("part", "llama"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "llama",
                          "ask for support of this combination")  # fmt: skip
    language = text_model(text, _TEXT, tied=False)
    hidden = text.count("hidden_size", 3072)
    layers = replace(encoder(audio, 1280, 5120, 32, 20, _NAMES), qkv_bias=False)
    width, path = layers.hidden_size, "audio_tower.layers.{layer}"
    convolution = Convolution(kernel=(3,), in_channels=audio.count("num_mel_bins", 128), out_channels=width, bias=True)
    positions = Embedding(rows=audio.count("max_source_positions", 1500), width=width, role="position_embedding")
    beside = tower((
        Placement("audio_tower.conv1", convolution),
        Placement("audio_tower.conv2", replace(convolution, in_channels=width)),
        Placement("audio_tower.embed_positions", positions),
        *layers.placements(path),
        *(Placement(f"{path}.self_attn.{name}", Vector(name="bias", width=width, component=Component.ATTENTION),
                    range(layers.num_layers)) for name in ("q_proj", "v_proj")),
        Placement("audio_tower.layer_norm", Norm(width=width)),
        Placement("multi_modal_projector.linear_1", Linear(in_features=layers.intermediate_size, out_features=hidden,
                                                           bias=False)),
        Placement("multi_modal_projector.linear_2", Linear(in_features=hidden, out_features=hidden, bias=False)),
    ))  # fmt: skip
    return joined(hyperparameters, "voxtral", language, beside, [("", "language_model.")])


FAMILY = Family(
    name="voxtral",
    title="Voxtral",
    model_types=("voxtral",),
    gguf={},
    source="transformers models/voxtral",
    build=build,
)
