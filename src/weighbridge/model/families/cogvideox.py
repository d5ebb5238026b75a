"""CogVideoX: a transformer over patches of a film and text in one stream, both scaled by the time step in every layer.

Source: diffusers `models/transformers/cogvideox_transformer_3d.py` (defaults of
`CogVideoXTransformer3DModel.__init__`). CogVideoX 1.5 cuts patches over several frames and maps them by a matrix.
Learned positions are a buffer, of the size of the films that the model was trained on.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.diffusion_transformer import (
    OWN_NORMS,
    architecture,
    embedder,
    feed_forward,
    heads,
    mapped,
    named,
    one_of,
    outputs,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component, Kind


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The layers between the maps of patches, text and time."""
    one_of(hyperparameters, "activation_fn", "gelu-approximate", "gelu")
    one_of(hyperparameters, "norm_elementwise_affine", True)
    shape = heads(hyperparameters, 30, 64, bias=hyperparameters.flag("attention_bias", True))
    width, layers = shape.width, range(hyperparameters.count("num_layers", 30, most=MOST_LAYERS))
    time, offset = hyperparameters.count("time_embed_dim", 512), hyperparameters.optional_count("ofs_embed_dim")
    inputs, patch = hyperparameters.count("in_channels", 16), hyperparameters.count("patch_size", 2)
    frames, path = hyperparameters.optional_count("patch_size_t"), "transformer_blocks.{layer}."
    numbers = patch**2 * (frames or 1)
    if frames is None:
        cut = Placement("patch_embed.proj", Convolution(kernel=(patch, patch), in_channels=inputs, out_channels=width,
                                                        bias=hyperparameters.flag("patch_bias", True)))  # fmt: skip
    else:
        cut = mapped("patch_embed.proj", inputs * numbers, width)
    placements = [
        cut,
        mapped("patch_embed.text_proj", hyperparameters.count("text_embed_dim", 4096), width),
        *_positions(hyperparameters, width, patch, frames),
        mapped("time_embedding.linear_1", width, time, once=True),
        mapped("time_embedding.linear_2", time, time, once=True),
        *([] if offset is None else embedder("ofs_embedding", offset, offset)),
    ]
    for norm in ("norm1", "norm2"):
        placements += [
            mapped(f"{path}{norm}.linear", time, 6 * width, layers, component=Component.NORM, once=True),
            Placement(f"{path}{norm}.norm", Norm(width=width), layers),
        ]
    placements += [
        shape.attention(path + "attn1", layers, output_bias=True),
        *(Placement(f"{path}attn1.{norm}", Norm(width=shape.size), layers) for norm in OWN_NORMS),
        feed_forward(path + "ff", width, 4 * width, layers),
        Placement("norm_final", Norm(width=width)),
        mapped("norm_out.linear", time, 2 * width, component=Component.NORM, once=True),
        Placement("norm_out.norm", Norm(width=width)),
        mapped("proj_out", width, numbers * outputs(hyperparameters, inputs, 16), component=Component.HEAD),
    ]
    return architecture(hyperparameters, "cogvideox", shape, len(layers), placements)


def _positions(hyperparameters: Hyperparameters, width: int, patch: int, frames: int | None) -> list[Placement]:
    """The table of positions, where files hold it: text first, then the patches of a film."""
    if not hyperparameters.flag("use_learned_positional_embeddings", False):
        return []
    if frames is not None or not hyperparameters.flag("use_rotary_positional_embeddings", False):
        read = f"{hyperparameters.source} learns positions"
        raise ConfigError(read, "rotary positions beside, and patches of one frame", "correct the keys")
    shrinks = hyperparameters.count("temporal_compression_ratio", 4)
    patches = (hyperparameters.count("sample_frames", 49) - 1) // shrinks + 1
    for side, default in (("sample_height", 60), ("sample_width", 90)):
        patches *= hyperparameters.count(side, default) // patch
    rows = hyperparameters.count("max_text_seq_length", 226) + patches
    return [Placement("patch_embed", Array(name="pos_embedding", shape=(1, rows, width), role="position_embedding",
                                           component=Component.EMBEDDING, kind=Kind.BUFFER))]  # fmt: skip


FAMILY = Family(
    name="cogvideox",
    title="CogVideoX",
    model_types=("cogvideox",),
    gguf={},
    source="diffusers models/transformers/cogvideox_transformer_3d.py",
    build=build,
    recognise=named({"CogVideoXTransformer3DModel": "cogvideox"}),
)
