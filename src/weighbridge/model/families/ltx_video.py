"""LTX-Video: a transformer over patches of a film, which attends to itself, then to a text.

Source: diffusers `models/transformers/transformer_ltx.py` (defaults of `LTXVideoTransformer3DModel.__init__`).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.diffusion_transformer import (
    OWN,
    OWN_NORMS,
    SINES,
    Heads,
    architecture,
    embedder,
    feed_forward,
    heads,
    mapped,
    named,
    one_of,
    outputs,
    rms,
    shifts,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The layers between the maps of patches, text and time."""
    hyperparameters.refuse("norm_elementwise_affine", "which this family does not describe")
    one_of(hyperparameters, "qk_norm", "rms_norm_across_heads")
    one_of(hyperparameters, "activation_fn", "gelu-approximate", "gelu")
    shape = heads(hyperparameters, 32, 64, bias=hyperparameters.flag("attention_bias", True))
    width, layers = shape.width, range(hyperparameters.count("num_layers", 28, most=MOST_LAYERS))
    inputs = hyperparameters.count("in_channels", 128)
    missing = width if "cross_attention_dim" in hyperparameters.settings else 2048
    text = hyperparameters.count("cross_attention_dim", missing)
    mapped_bias, path = hyperparameters.flag("attention_out_bias", True), "transformer_blocks.{layer}."
    sizes = (width, text, text, width)
    placements = [
        mapped("proj_in", inputs, width),
        shifts("", 2, width),
        *embedder("time_embed.emb.timestep_embedder", SINES, width),
        Heads(shape.number, shape.size).modulation("time_embed.linear", 6),
        *embedder("caption_projection", hyperparameters.count("caption_channels", 4096), width, once=False),
        shape.attention(path + "attn1", layers, output_bias=mapped_bias),
        *(mapped(f"{path}attn2.{name}", size, width, layers, component=Component.ATTENTION,
                 bias=mapped_bias if name == OWN[3] else shape.bias) for name, size in zip(OWN, sizes, strict=True)),
        *(norm for attention in ("attn1", "attn2") for norm in rms(path + attention, OWN_NORMS, width, layers)),
        feed_forward(path + "ff", width, 4 * width, layers),
        shifts(path.rstrip("."), 6, width, layers=layers),
        mapped("proj_out", width, outputs(hyperparameters, inputs, 128), component=Component.HEAD),
    ]  # fmt: skip
    return architecture(hyperparameters, "ltx_video", shape, len(layers), placements)


FAMILY = Family(
    name="ltx_video",
    title="LTX-Video",
    model_types=("ltx_video",),
    gguf={},
    source="diffusers models/transformers/transformer_ltx.py",
    build=build,
    recognise=named({"LTXVideoTransformer3DModel": "ltx_video"}),
)
