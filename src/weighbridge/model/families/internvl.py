"""InternVL as transformers spells it (`-hf`): a language model beside InternViT, four patches of which become one.

Source: transformers `models/internvl/{configuration,modeling}_internvl.py` (5.x). Tensor names are those of published
files. Where the configuration does not say whether the head is tied, class and published weights disagree, and it is
refused.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm, Vector
from weighbridge.model.composite import TEXT_CLASSES, check_class, joined, text_model, tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Names, encoder, patches, ratio, token

_TEXTS = ("qwen2", "qwen3", "llama")
_NAMES = Names(attention="attention", projections=("q_proj", "k_proj", "v_proj", "projection_layer"),
               norms=("layernorm_before", "layernorm_after"))  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its image encoder and projector."""
    check_class(hyperparameters, "InternVL")
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    name = "qwen2" if text.model_type == "part" else text.model_type
    if name not in _TEXTS:
        raise ConfigError(f"{text.source} is of the model type {name[:60]}", f"one of {', '.join(_TEXTS)}",
                          "ask for support of this combination")  # fmt: skip
    if hyperparameters.settings.get("tie_embeddings") is None:
        raise ConfigError(f"{hyperparameters.source} has no tie_word_embeddings", "the key with true or false",
                          "add the key")  # fmt: skip
    language = text_model(text, TEXT_CLASSES[name], tied=hyperparameters.flag("tie_embeddings", True))
    hidden = text.count("hidden_size", TEXT_CLASSES[name].defaults["hidden_size"])
    images, width = _encoder(vision, "vision_tower")
    wide = width * int(1 / ratio(hyperparameters, "downsample_ratio", 0.5)) ** 2
    if not wide:
        raise ConfigError(f"{hyperparameters.source} has a downsample_ratio above 1", "one up to 1", "correct the key")
    beside = tower((
        *images,
        Placement("multi_modal_projector.layer_norm", Norm(width=wide)),
        Placement("multi_modal_projector.linear_1", Linear(in_features=wide, out_features=hidden)),
        Placement("multi_modal_projector.linear_2", Linear(in_features=hidden, out_features=hidden)),
    ))  # fmt: skip
    return joined(hyperparameters, "internvl", language, beside, [("", "language_model.")])


def _encoder(vision: Hyperparameters, path: str) -> tuple[tuple[Placement, ...], int]:
    kind = vision.settings.get("norm_type") or "layer_norm"
    if kind not in ("layer_norm", "rms_norm"):
        raise ConfigError(f"{vision.source} has norm_type = {repr(kind)[:60]}", "layer_norm or rms_norm",
                          "correct the key")  # fmt: skip
    layers = replace(encoder(vision, 1024, 4096, 24, 16, _NAMES), qkv_bias=vision.flag("attention_bias", False),
                     norm_bias=kind == "layer_norm")  # fmt: skip
    cut, width, every = patches(vision, 448, 14), layers.hidden_size, range(layers.num_layers)
    table, layer = path + ".embeddings", path + ".encoder.layer.{layer}"
    tokens = [token("cls_token", 1, 1, width)]
    if vision.flag("use_mask_token", False):
        tokens.append(token("mask_token", 1, 1, width))
    if vision.flag("use_absolute_position_embeddings", True):
        tokens.append(token("position_embeddings", 1, cut.count + 1, width))
    normed = ("q_norm", "k_norm") if vision.flag("use_qk_norm", False) else ()
    return (
        *(Placement(table, part) for part in tokens),
        Placement(table + ".patch_embeddings.projection", cut.convolution(width)),
        *layers.placements(layer),
        *(Placement(layer, Vector(name=f"lambda_{branch}", width=width), every) for branch in (1, 2)),
        *(Placement(f"{layer}.attention.{name}", Norm(width=width, bias=False), every) for name in normed),
        *(() if vision.flag("use_mean_pooling", True) else (Placement(path + ".layernorm", Norm(width=width)),)),
    ), width


FAMILY = Family(
    name="internvl",
    title="InternVL",
    model_types=("internvl",),
    gguf={},
    source="transformers models/internvl",
    build=build,
)
