"""CLIP: a text encoder and an image encoder that meet in one space, and each of the two alone.

Source: transformers `models/{clip,metaclip_2}/{configuration,modeling}_*.py` (5.x). Tensor names are those of published
files, in which the parts alone keep their prefixes (`text_model.`, `vision_model.`); `pre_layrnorm` is their spelling.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.composite import tower
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, encoder, patches, token
from weighbridge.model.tensors import Component

_CLASSES = {
    "clip": ("CLIPModel", "CLIPForImageClassification"),
    "clip_text_model": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "clip_vision_model": ("CLIPVisionModel", "CLIPVisionModelWithProjection"),
    "metaclip_2": ("MetaClip2Model", "MetaClip2ForImageClassification"),
    "metaclip_2_text_model": ("MetaClip2TextModel", "MetaClip2TextModelWithProjection"),
    "metaclip_2_vision_model": ("MetaClip2VisionModel", "MetaClip2VisionModelWithProjection"),
}

_SHAPE = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
          "max_position_embeddings", "image_size", "patch_size", "num_channels")  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both encoders with their projections, or the one that the model type names."""
    known = _CLASSES[hyperparameters.model_type]
    name = hyperparameters.classes[0] if hyperparameters.classes else known[0]
    if name not in known or len(hyperparameters.classes) > 1:
        raise unknown_class(hyperparameters, known)
    if hyperparameters.model_type.endswith("_text_model"):
        placements, main = text_encoder(hyperparameters, "text_model")
        if name == known[1]:
            placements += (_projection("text_projection", main, hyperparameters.count("projection_dim", 512)),)
    elif hyperparameters.model_type.endswith("_vision_model"):
        placements, main = vision_encoder(hyperparameters, "vision_model")
        if name == known[1]:
            projection = _projection("visual_projection", main, hyperparameters.count("projection_dim", 512))
            placements = tower((*placements, projection))
    elif name == known[0]:
        width = hyperparameters.count("projection_dim", 512)
        words, main = text_encoder(part(hyperparameters, "text_config"), "text_model")
        images, vision = vision_encoder(part(hyperparameters, "vision_config"), "vision_model")
        placements = (
            Placement("", Array(name="logit_scale", shape=())),
            *words,
            *tower((*images, _projection("visual_projection", vision, width))),
            _projection("text_projection", main, width),
        )
    else:
        images, main = vision_encoder(part(hyperparameters, "vision_config"), "vision_model")
        score = Linear(in_features=main.hidden_size, out_features=hyperparameters.count("num_labels", 2), role="score",
                       component=Component.HEAD)  # fmt: skip
        placements = (*tower(images), Placement("classifier", score))
    return Architecture(
        family="clip",
        model_type=hyperparameters.model_type,
        placements=placements,
        num_layers=0 if name.endswith("ForImageClassification") else main.num_layers,
        num_heads=main.num_heads,
        num_kv_heads=main.num_heads,
    )


def part(hyperparameters: Hyperparameters, name: str) -> Hyperparameters:
    """The settings of a part, unless the older spelling beside it says otherwise, which the class would follow.

    Raises:
        ConfigError: when the two spellings differ.
    """
    found, older = hyperparameters.part(name), hyperparameters.settings.get(f"{name}_dict")
    older = older if isinstance(older, dict) else {}
    ours = {spelled: found.settings[key] for key, spelled in found.spellings.items()}
    for key in _SHAPE:
        if older.get(key) is not None and older[key] != ours.get(key):
            raise ConfigError(f"{found.source} has {key} = {ours.get(key)} and {name}_dict {repr(older[key])[:60]}",
                              "one value for both", "remove the wrong one")  # fmt: skip
    return found


def text_encoder(hyperparameters: Hyperparameters, path: str) -> tuple[tuple[Placement, ...], Encoder]:
    """The text encoder at a path."""
    layers = encoder(hyperparameters, 512, 2048, 12, 8)
    width = layers.hidden_size
    tokens = Embedding(rows=hyperparameters.count("vocab_size", 49408), width=width)
    positions = Embedding(rows=hyperparameters.count("max_positions", 77), width=width, role="position_embedding")
    return (
        Placement(path + ".embeddings.token_embedding", tokens),
        Placement(path + ".embeddings.position_embedding", positions),
        *layers.placements(path + ".encoder.layers.{layer}"),
        Placement(path + ".final_layer_norm", Norm(width=width, role="final_norm")),
    ), layers


def vision_encoder(hyperparameters: Hyperparameters, path: str) -> tuple[tuple[Placement, ...], Encoder]:
    """The image encoder at a path."""
    layers, cut = encoder(hyperparameters, 768, 3072, 12, 12), patches(hyperparameters, 224, 32)
    width = layers.hidden_size
    positions = Embedding(rows=cut.count + 1, width=width, role="position_embedding")
    return (
        Placement(path + ".embeddings", token("class_embedding", width)),
        Placement(path + ".embeddings.patch_embedding", cut.convolution(width, bias=False)),
        Placement(path + ".embeddings.position_embedding", positions),
        Placement(path + ".pre_layrnorm", Norm(width=width, role="embedding_norm")),
        *layers.placements(path + ".encoder.layers.{layer}"),
        Placement(path + ".post_layernorm", Norm(width=width, role="final_norm")),
    ), layers


def _projection(path: str, layers: Encoder, width: int) -> Placement:
    return Placement(path, Linear(in_features=layers.hidden_size, out_features=width, bias=False, role="projection"))


FAMILY = Family(
    name="clip",
    title="CLIP and MetaCLIP 2, and their text and image encoders alone",
    model_types=tuple(_CLASSES),
    gguf={},
    source="transformers models/clip, models/metaclip_2",
    build=build,
)
