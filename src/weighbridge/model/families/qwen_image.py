"""Qwen-Image: image and text in two streams with one attention over both, in every layer.

Source: diffusers `models/transformers/transformer_qwenimage.py` (defaults of `QwenImageTransformer2DModel.__init__`).
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding
from weighbridge.model.diffusion_transformer import (
    SINES,
    architecture,
    embedder,
    feed_forward,
    heads,
    mapped,
    named,
    outputs,
    rms,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The layers between the maps of patches, text and time."""
    shape = heads(hyperparameters, 24, 128)
    width, layers = shape.width, range(hyperparameters.count("num_layers", 60, most=MOST_LAYERS))
    inputs, text = hyperparameters.count("in_channels", 64), hyperparameters.count("joint_attention_dim", 3584)
    path = "transformer_blocks.{layer}."
    told = hyperparameters.flag("use_additional_t_cond", False)
    table = Placement("time_text_embed.addition_t_embedding", Embedding(rows=2, width=width, role="class_embedding"))
    placements = [
        *embedder("time_text_embed.timestep_embedder", SINES, width),
        *([table] if told else ()),
        *rms("txt_norm", ("",), text),
        mapped("img_in", inputs, width),
        mapped("txt_in", text, width),
        *(shape.modulation(f"{path}{stream}_mod.1", 6, layers) for stream in ("img", "txt")),
        *shape.joint(path + "attn", layers),
        *(feed_forward(f"{path}{stream}_mlp", width, 4 * width, layers) for stream in ("img", "txt")),
        *shape.ends(hyperparameters.count("patch_size", 2) ** 2 * outputs(hyperparameters, inputs, 16)),
    ]
    return architecture(hyperparameters, "qwen_image", shape, len(layers), placements)


FAMILY = Family(
    name="qwen_image",
    title="Qwen-Image",
    model_types=("qwen_image",),
    gguf={},
    source="diffusers models/transformers/transformer_qwenimage.py",
    build=build,
    recognise=named({"QwenImageTransformer2DModel": "qwen_image"}),
)
