"""Wan 2.1 and 2.2: a transformer over patches of a film, which attends to itself, then to a text and to an image.

Source: diffusers `models/transformers/transformer_wan.py` (defaults of `WanTransformer3DModel.__init__`). Models that
begin with an image have `image_dim`, a second pair of keys and values and, where two images are given, positions.
"""

from __future__ import annotations

import math

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.diffusion_transformer import (
    ADDED,
    OWN,
    OWN_NORMS,
    architecture,
    embedder,
    feed_forward,
    heads,
    mapped,
    named,
    outputs,
    patch_map,
    rms,
    shifts,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The layers between the maps of patches, text, image and time."""
    shape = heads(hyperparameters, 40, 128)
    width, layers = shape.width, range(hyperparameters.count("num_layers", 40, most=MOST_LAYERS))
    inputs, patch = hyperparameters.count("in_channels", 16), counts(hyperparameters, "patch_size", (1, 2, 2))
    hyperparameters.same("axes of a patch", len(patch), 3)
    image, path, base = hyperparameters.optional_count("image_dim"), "blocks.{layer}.", "condition_embedder."
    placements = [
        shifts("", 1, 2, width),
        patch_map("patch_embedding", patch, inputs, width),
        *embedder(base + "time_embedder", hyperparameters.count("freq_dim", 256), width),
        shape.modulation(base + "time_proj", 6),
        *embedder(base + "text_embedder", hyperparameters.count("text_dim", 4096), width, once=False),
        *([] if image is None else _image(hyperparameters, base + "image_embedder", image, width)),
        shifts(path.rstrip("."), 1, 6, width, layers=layers),
    ]
    placements += [shape.attention(path + "attn1", layers), *shape.added(path + "attn2", layers, OWN)]
    for attention in ("attn1", "attn2"):
        placements += rms(path + attention, OWN_NORMS, width, layers)
    added = hyperparameters.optional_count("added_kv_proj_dim")
    if added is not None:
        placements += [mapped(f"{path}attn2.{name}", added, width, layers, component=Component.ATTENTION)
                       for name in ADDED[1:3]]  # fmt: skip
        placements += rms(path + "attn2", ("norm_added_k",), width, layers)
    if hyperparameters.flag("cross_attn_norm", True):
        placements.append(Placement(path + "norm2", Norm(width=width), layers))
    inner = hyperparameters.count("ffn_dim", 4 * width if "ffn_dim" in hyperparameters.settings else 13824)
    numbers = math.prod(patch) * outputs(hyperparameters, inputs, 16)
    placements += [
        feed_forward(path + "ffn", width, inner, layers),
        mapped("proj_out", width, numbers, component=Component.HEAD),
    ]
    return architecture(hyperparameters, "wan", shape, len(layers), placements)


def _image(hyperparameters: Hyperparameters, path: str, image: int, width: int) -> list[Placement]:
    """The map of the tokens of one image or two, between two norms."""
    positions = hyperparameters.optional_count("pos_embed_seq_len")
    table = () if positions is None else (
        Placement(path, Array(name="pos_embed", shape=(1, positions, image), role="position_embedding",
                              component=Component.EMBEDDING)),
    )  # fmt: skip
    return [
        *table,
        Placement(path + ".norm1", Norm(width=image)),
        mapped(path + ".ff.net.0.proj", image, image),
        mapped(path + ".ff.net.2", image, width),
        Placement(path + ".norm2", Norm(width=width)),
    ]


FAMILY = Family(
    name="wan",
    title="Wan 2.1 and 2.2",
    model_types=("wan",),
    gguf={},
    source="diffusers models/transformers/transformer_wan.py",
    build=build,
    recognise=named({"WanTransformer3DModel": "wan"}),
)
