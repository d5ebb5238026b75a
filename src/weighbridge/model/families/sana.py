"""Sana: linear attention over latent patches, attention to a text, and a gated feed-forward of convolutions.

Linear attention multiplies keys by values and the queries by that: as much for a patch as if it attended to the numbers
of a head and one more.

Source: diffusers `models/transformers/sana_transformer.py` (defaults of `SanaTransformer2DModel.__init__`).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.scores import Scores
from weighbridge.model.diffusion_transformer import (
    OWN,
    OWN_NORMS,
    SINES,
    architecture,
    embedder,
    heads,
    mapped,
    named,
    one_of,
    outputs,
    patch_map,
    rms,
    shifts,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ratio
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The layers between the maps of patches, text and time."""
    hyperparameters.refuse("norm_elementwise_affine", "which this family does not describe")
    normed = one_of(hyperparameters, "qk_norm", None, "rms_norm_across_heads") is not None
    shape = heads(hyperparameters, 70, 32)
    width, layers = shape.width, range(hyperparameters.count("num_layers", 20, most=MOST_LAYERS))
    inputs, patch = hyperparameters.count("in_channels", 32), hyperparameters.count("patch_size", 1)
    biased, path = hyperparameters.flag("attention_bias", False), "transformer_blocks.{layer}."
    guided = hyperparameters.flag("guidance_embeds", False)
    steps = ("timestep_embedder", "guidance_embedder") if guided else ("emb.timestep_embedder",)
    placements = [shifts("", 2, width), patch_map("patch_embed.proj", (patch, patch), inputs, width)]
    placements += [placement for step in steps for placement in embedder(f"time_embed.{step}", SINES, width)]
    placements += [
        shape.modulation("time_embed.linear", 6),
        *embedder("caption_projection", hyperparameters.count("caption_channels", 2304), width, once=False),
        *rms("caption_norm", ("",), width),
        shifts(path.rstrip("."), 6, width, layers=layers),
        *_attention(path + "attn1.", width, width, width, layers, biased=biased, normed=normed),
        Placement(path + "attn1", Scores(width=width, positions=1, attended=shape.size + 1), layers),
    ]
    context = hyperparameters.count("cross_attention_dim", 2240)
    if hyperparameters.settings.get("cross_attention_dim", context) is not None:
        crossed = hyperparameters.count("num_cross_attention_heads", 20)
        crossed *= hyperparameters.count("cross_attention_head_dim", 112)
        placements += _attention(path + "attn2.", width, context, crossed, layers, biased=True, normed=normed)
    placements += _feed_forward(path + "ff.", width, int(ratio(hyperparameters, "mlp_ratio", 2.5) * width), layers)
    numbers = patch**2 * outputs(hyperparameters, inputs, 32)
    placements.append(mapped("proj_out", width, numbers, component=Component.HEAD))
    return architecture(hyperparameters, "sana", shape, len(layers), placements)


def _attention(path: str, width: int, source: int, inner: int, layers: range, *, biased: bool,
               normed: bool) -> list[Placement]:  # fmt: skip
    """The four maps, linear attention's like those to the text: neither looks at every pair of patches."""
    sizes = ((width, inner), (source, inner), (source, inner), (inner, width))
    maps = [mapped(path + name, *size, layers, component=Component.ATTENTION, bias=biased or name == OWN[3])
            for name, size in zip(OWN, sizes, strict=True)]  # fmt: skip
    return maps + (rms(path.rstrip("."), OWN_NORMS, inner, layers) if normed else [])


def _feed_forward(path: str, width: int, inner: int, layers: range) -> list[Placement]:
    """Up twice as wide, a depthwise convolution, and down from the half that the other gates."""
    sizes = (("conv_inverted", 1, width, 2 * inner, 1), ("conv_depth", 3, 2 * inner, 2 * inner, 2 * inner),
             ("conv_point", 1, inner, width, 1))  # fmt: skip
    return [Placement(path + name, Convolution(kernel=(kernel, kernel), in_channels=one, out_channels=other,
                                               groups=groups, bias=name != "conv_point", component=Component.MLP),
                      layers) for name, kernel, one, other, groups in sizes]  # fmt: skip


FAMILY = Family(
    name="sana",
    title="Sana",
    model_types=("sana",),
    gguf={},
    source="diffusers models/transformers/sana_transformer.py",
    build=build,
    recognise=named({"SanaTransformer2DModel": "sana"}),
)
