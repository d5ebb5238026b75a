"""GIT: a causal BERT that reads the patches of an image before its text, with CLIP's image encoder.

Source: transformers `models/git/{configuration,modeling}_git.py` (5.x). For films a vector for each of a few pictures
is added (`num_image_with_embedding`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.composite import moved, tower, with_defaults
from weighbridge.model.families.clip import vision_encoder
from weighbridge.model.families.clip_relatives import BERT
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import encoder

_TEXT: Mapping[str, int] = MappingProxyType({
    "vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_layers": 6, "num_heads": 12,
})  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its image encoder and head."""
    given = with_defaults(hyperparameters, _TEXT)
    head = language_head(given, ("Git",), embedding="git.embeddings.word_embeddings.weight", path="output", bias=True)
    layers = replace(encoder(given, 768, 3072, 6, 12, BERT), causal=True)
    vision = with_defaults(given.part("vision_config"), {"patch_size": 16})
    images, seen = vision_encoder(vision, "image_encoder.vision_model")
    width, tables = layers.hidden_size, "embeddings."
    frames = 0 if given.settings.get("num_image_with_embedding") is None else given.count(
        "num_image_with_embedding", most=MOST_LAYERS)  # fmt: skip
    projector = "visual_projection.visual_projection."
    beside = tower((
        *images,
        Placement(projector + "0", Linear(in_features=seen.hidden_size, out_features=width)),
        Placement(projector + "1", Norm(width=width)),
        *(Placement("img_temporal_embedding", Array(name=str(frame), shape=(1, 1, seen.hidden_size)))
          for frame in range(frames)),
    ))  # fmt: skip
    body = (
        *beside,
        Placement(tables + "word_embeddings", Embedding(rows=given.count("vocab_size"), width=width)),
        Placement(tables + "position_embeddings", Embedding(rows=given.count("max_positions", 1024), width=width,
                                                            role="position_embedding")),
        Placement(tables + "LayerNorm", Norm(width=width, role="embedding_norm")),
        *layers.placements("encoder.layer.{layer}"),
    )  # fmt: skip
    return Architecture(
        family="git", model_type="git",
        placements=(*(moved(body, [("", "git.")]) if head.placements else body), *head.placements),
        num_layers=layers.num_layers, num_heads=layers.num_heads, num_kv_heads=layers.num_heads, base_prefix="git.",
        tie_embeddings=head.tied, notes=head.notes,
    )  # fmt: skip


FAMILY = Family(
    name="git",
    title="GIT",
    model_types=("git",),
    gguf={},
    source="transformers models/git",
    build=build,
)
