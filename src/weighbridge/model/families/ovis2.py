"""Ovis 2 as transformers spells it (`-hf`): Qwen2's language model, and an image encoder that speaks in visual words.

Source: transformers `models/ovis2/{configuration,modeling}_ovis2.py` (5.x). The encoder gives the scores of a visual
vocabulary, and a table holds the vectors of its words; the last few of them mark where images begin and end.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.composite import TEXT_CLASSES, check_class, joined, text_model, tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Names, encoder, patches

_NAMES = Names(attention="attention", norms=("rms_norm1", "rms_norm2"), mlp="ffn", gate="gate_proj", up="up_proj",
               down="down_proj")  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its image encoder and visual table."""
    check_class(hyperparameters, "Ovis2")
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    if text.model_type not in ("part", "qwen2"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "qwen2",
                          "ask for support of this combination")  # fmt: skip
    text_class = TEXT_CLASSES["qwen2"]
    for key, default in (("hidden_size", 1536), ("vocab_size", 151643)):
        inside = text.count(key, text_class.defaults[key])
        hyperparameters.same(f"{key} of whole and text", hyperparameters.count(key, default), inside)
    hidden = text.count("hidden_size", text_class.defaults["hidden_size"])
    if hyperparameters.settings.get("tie_embeddings") is None:
        raise ConfigError(f"{hyperparameters.source} has no tie_word_embeddings", "the key with true or false",
                          "add the key")  # fmt: skip
    language = text_model(text, text_class, tied=hyperparameters.flag("tie_embeddings", True))
    bias, path = vision.flag("qkv_bias", False), "model.vision_tower."
    layers = replace(encoder(vision, 1024, 2816, 24, 8, _NAMES), qkv_bias=bias, output_bias=bias, norm_bias=False,
                     bias=vision.flag("mlp_bias", False))  # fmt: skip
    cut, width, body = patches(vision, 224, 14), layers.hidden_size, path + "transformer."
    words = vision.count("vocab_size", 16384)
    shown = vision.derived("visual words", words - vision.count("num_visual_indicator_tokens", 5))
    wide, norm = width * vision.count("hidden_stride", 1) ** 2, Norm(width=width, bias=False)
    beside = tower((
        Placement(body + "embeddings.patch_embedding", cut.convolution(width)),
        Placement(body + "embeddings.position_embedding", Embedding(rows=cut.count, width=width,
                                                                     role="position_embedding")),
        Placement(body + "embeddings.rms_norm", norm),
        *layers.placements(body + "encoder.layers.{layer}"),
        Placement(body + "rms_norm", norm),
        Placement(path + "head_linear", Linear(in_features=wide, out_features=shown, bias=False)),
        Placement(path + "head_norm", Norm(width=shown)),
        Placement("model.visual_embeddings_table", Embedding(rows=words, width=hidden)),
    ))  # fmt: skip
    return joined(hyperparameters, "ovis2", language, beside, [("model.", "model.language_model.")])


FAMILY = Family(
    name="ovis2",
    title="Ovis 2",
    model_types=("ovis2",),
    gguf={},
    source="transformers models/ovis2",
    build=build,
)
