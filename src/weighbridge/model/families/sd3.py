"""Stable Diffusion 3 and 3.5: image and text in two streams with one attention over both; the text's ends first.

Source: diffusers `models/transformers/transformer_sd3.py` (defaults of `SD3Transformer2DModel.__init__`). The table of
positions is made of sines; files hold it all the same. SD 3.5 medium attends once more, to the image alone, in some
layers.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks.array import Array
from weighbridge.model.diffusion_transformer import (
    ADDED,
    ADDED_NORMS,
    OWN_NORMS,
    SINES,
    architecture,
    embedder,
    feed_forward,
    heads,
    mapped,
    named,
    one_of,
    outputs,
    patch_map,
    rms,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component, Kind


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The layers between the maps of patches, text and time."""
    shape = heads(hyperparameters, 18, 64)
    width, count = shape.width, hyperparameters.count("num_layers", 18, most=MOST_LAYERS)
    inputs, patch = hyperparameters.count("in_channels", 16), hyperparameters.count("patch_size", 2)
    hyperparameters.same("the width of the text", hyperparameters.count("caption_projection_dim", 1152), width)
    normed = one_of(hyperparameters, "qk_norm", None, "rms_norm") is not None
    layers, dual = range(count), _dual(hyperparameters, count)
    path, last = "transformer_blocks.{layer}.", [count - 1]
    placements = [patch_map("pos_embed.proj", (patch, patch), inputs, width), *_positions(hyperparameters, width)]
    placements += embedder("time_text_embed.timestep_embedder", SINES, width)
    placements += embedder("time_text_embed.text_embedder", hyperparameters.count("pooled_projection_dim", 2048), width)
    placements += [
        mapped("context_embedder", hyperparameters.count("joint_attention_dim", 4096), width),
        shape.modulation(path + "norm1.linear", 6, [layer for layer in layers if layer not in dual]),
        shape.modulation(path + "norm1.linear", 9, dual),
        shape.modulation(path + "norm1_context.linear", 6, layers[:-1]),
        shape.modulation(path + "norm1_context.linear", 2, last),
        shape.attention(path + "attn", layers),
        *shape.added(path + "attn", layers[:-1]),
        *shape.added(path + "attn", last, ADDED[:3]),
        shape.attention(path + "attn2", dual),
        feed_forward(path + "ff", width, 4 * width, layers),
        feed_forward(path + "ff_context", width, 4 * width, layers[:-1]),
    ]
    if normed:
        placements += rms(path + "attn", (*OWN_NORMS, *ADDED_NORMS), shape.size, layers)
        placements += rms(path + "attn2", OWN_NORMS, shape.size, dual)
    placements += shape.ends(patch**2 * outputs(hyperparameters, inputs, 16))
    return architecture(hyperparameters, "sd3", shape, count, placements)


def _dual(hyperparameters: Hyperparameters, count: int) -> list[int]:
    """The layers that attend twice."""
    layers = hyperparameters.settings.get("dual_attention_layers", ())
    if not isinstance(layers, list | tuple) or not all(type(layer) is int for layer in layers):
        read = f"{hyperparameters.source} has dual_attention_layers = {repr(layers)[:60]}"
        raise ConfigError(read, "a list of layers", "correct the key")
    return sorted({layer for layer in layers if 0 <= layer < count})


def _positions(hyperparameters: Hyperparameters, width: int) -> list[Placement]:
    side = hyperparameters.count("pos_embed_max_size", 96)
    if hyperparameters.settings.get("pos_embed_max_size", side) is None:
        return []
    return [Placement("pos_embed", Array(name="pos_embed", shape=(1, side**2, width), role="position_embedding",
                                         component=Component.EMBEDDING, kind=Kind.BUFFER))]  # fmt: skip


FAMILY = Family(
    name="sd3",
    title="Stable Diffusion 3 and 3.5",
    model_types=("sd3",),
    gguf={},
    source="diffusers models/transformers/transformer_sd3.py",
    build=build,
    recognise=named({"SD3Transformer2DModel": "sd3"}),
)
