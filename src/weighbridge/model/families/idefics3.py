"""Idefics 3 and SmolVLM: Llama's language model beside SigLIP's image encoder, joined by one map of shuffled patches.

Source: transformers `models/{idefics3,smolvlm}/{configuration,modeling}_*.py` (5.x). `scale_factor` squared patches
become one vector of the language model.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.composite import TEXT_CLASSES, check_class, joined, text_model, tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import encoder, patches


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its image encoder."""
    check_class(hyperparameters, "Idefics3", "SmolVLM")
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    if text.model_type not in ("part", "llama"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "llama",
                          "ask for support of this combination")  # fmt: skip
    tied = hyperparameters.flag("tie_embeddings", False)
    language = text_model(text, TEXT_CLASSES["llama"], tied=tied)
    layers, cut, path = encoder(vision, 1152, 3072, 12, 16), patches(vision, 224, 32), "model.vision_model."
    width = layers.hidden_size
    joint = Linear(in_features=width * hyperparameters.count("scale_factor", 2) ** 2,
                   out_features=text.count("hidden_size", 4096), bias=False)  # fmt: skip
    beside = tower((
        Placement(path + "embeddings.patch_embedding", cut.convolution(width)),
        Placement(path + "embeddings.position_embedding", Embedding(rows=cut.count, width=width,
                                                                     role="position_embedding")),
        *layers.placements(path + "encoder.layers.{layer}"),
        Placement(path + "post_layernorm", Norm(width=width)),
        Placement("model.connector.modality_projection.proj", joint),
    ))  # fmt: skip
    return joined(hyperparameters, "idefics3", language, beside, [("model.", "model.text_model.")])


FAMILY = Family(
    name="idefics3",
    title="Idefics 3 and SmolVLM",
    model_types=("idefics3", "smolvlm"),
    gguf={},
    source="transformers models/idefics3, models/smolvlm",
    build=build,
)
