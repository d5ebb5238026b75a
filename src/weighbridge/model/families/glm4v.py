"""GLM-4.1V, GLM-4.5V and GLM-4.6V: GLM's language model, dense or with experts, beside a tower over two frames a patch.

Source: transformers `models/{glm4v,glm4v_moe,glm46v}/{configuration,modeling}_*.py` (5.x). The tower's feed-forward
blocks are as wide as its output; its `intermediate_size` is that of the merger. Files of the routed model hold the
experts one by one, as published.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, FeedForward, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TextClass, check_class, joined, text_model, tied_anywhere, tower, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import patches, token

DENSE = TextClass("glm4", "Glm4ForCausalLM", {
    "vocab_size": 151552, "hidden_size": 4096, "intermediate_size": 13696, "num_layers": 40, "num_heads": 32,
    "num_kv_heads": 2,
})  # fmt: skip
ROUTED = TextClass("glm4_moe", "Glm4MoeForCausalLM", {
    "vocab_size": 151424, "hidden_size": 4096, "intermediate_size": 10944, "num_layers": 46, "num_heads": 96,
    "num_kv_heads": 8, "attention_bias": True, "moe_intermediate_size": 1408, "n_routed_experts": 128,
})  # fmt: skip
_VISION = {"depth": 24, "hidden_size": 1536, "num_heads": 12, "out_hidden_size": 4096, "intermediate_size": 13696}
_CLASSES = {"glm4v": "Glm4v", "glm4v_moe": "Glm4vMoe", "glm46v": "Glm46V"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its tower."""
    kind = hyperparameters.model_type
    check_class(hyperparameters, _CLASSES[kind])
    text, routed = hyperparameters.part("text_config"), kind == "glm4v_moe"
    expected = "glm4v_moe_text" if routed else "glm4v_text"
    if text.model_type not in ("part", expected):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", expected,
                          "ask for support of this combination")  # fmt: skip
    tied = hyperparameters.flag("tie_embeddings", False) if kind == "glm46v" else tied_anywhere(hyperparameters, text)
    language = text_model(text_settings(text, routed), ROUTED if routed else DENSE, tied=tied)
    visual = _tower(hyperparameters.part("vision_config"), "model.visual")
    return joined(hyperparameters, "glm4v", language, visual, [("model.", "model.language_model.")])


def text_settings(text: Hyperparameters, routed: bool) -> Hyperparameters:
    """The settings as the text's class reads them, which are not all that the language model's own class does."""
    ignored = {"use_qk_norm", "moe_layer_freq", "mlp_layer_types"} if routed else {"head_dim", "attention_bias"}
    settings = {key: value for key, value in text.settings.items() if key not in ignored}
    if not routed:
        hidden, heads = text.count("hidden_size", 4096), text.count("num_heads", 32)
        settings["head_dim"] = text.divided("head_dim", hidden, heads)
    return replace(text, settings=settings)


def _tower(vision: Hyperparameters, path: str) -> tuple[Placement, ...]:
    vision = with_defaults(vision, _VISION)
    hidden, output, heads = vision.count("hidden_size"), vision.count("out_hidden_size"), vision.count("num_heads")
    cut = patches(vision, 336, 14)
    layers, block = range(vision.count("depth", most=MOST_LAYERS)), path + ".blocks.{layer}."
    norm = Norm(width=hidden, bias=False)
    attention = Attention(
        hidden_size=hidden, num_heads=heads, num_kv_heads=heads, head_dim=vision.divided("head_dim", hidden, heads),
        names=("qkv", "proj"), qkv_bias=vision.flag("attention_bias", False), causal=False,
    )  # fmt: skip
    mlp, merger = FeedForward(hidden_size=hidden, intermediate_size=output), path + ".merger"
    frames = Convolution(kernel=(vision.count("temporal_patch_size", 2), *cut.size), bias=True,
                         in_channels=vision.count("in_channels", 3), out_channels=hidden)  # fmt: skip
    square = (vision.count("spatial_merge_size", 2),) * 2
    return tower((
        Placement(path + ".embeddings.position_embedding", token("weight", cut.count, hidden)),
        Placement(path + ".patch_embed.proj", frames),
        Placement(block + "norm1", norm, layers),
        Placement(block + "norm2", norm, layers),
        Placement(block + "attn", attention, layers),
        Placement(block + "mlp", mlp, layers),
        Placement(merger + ".proj", Linear(in_features=output, out_features=output, bias=False)),
        Placement(merger + ".post_projection_norm", Norm(width=output)),
        Placement(merger, FeedForward(hidden_size=output, intermediate_size=vision.count("intermediate_size"))),
        Placement(path + ".post_conv_layernorm", norm),
        Placement(path + ".downsample", Convolution(kernel=square, in_channels=hidden, out_channels=output, bias=True)),
        Placement(path + ".post_layernorm", norm),
    ))  # fmt: skip


FAMILY = Family(
    name="glm4v",
    title="GLM-4.1V, GLM-4.5V and GLM-4.6V",
    model_types=tuple(_CLASSES),
    gguf={},
    source="transformers models/glm4v, models/glm4v_moe, models/glm46v",
    build=build,
)
