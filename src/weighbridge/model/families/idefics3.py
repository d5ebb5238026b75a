"""Idefics 2, 3 and SmolVLM: a language model beside SigLIP's image encoder.

Source: transformers `models/{idefics2,idefics3,smolvlm}/{configuration,modeling}_*.py` (5.x). Idefics 3 joins them by
one map of shuffled patches: `scale_factor` squared of them become one vector. Idefics 2 by a gated map and a perceiver,
whose learned latents read the image in a few layers.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.composite import TEXT_CLASSES, check_class, joined, text_model, tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import encoder, patches

_TEXTS = {"idefics2": "mistral", "idefics3": "llama", "smolvlm": "llama"}
_CONNECTOR = "model.connector."


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its image encoder."""
    second, expected = hyperparameters.model_type == "idefics2", _TEXTS[hyperparameters.model_type]
    check_class(hyperparameters, *(("Idefics2",) if second else ("Idefics3", "SmolVLM")))
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    if text.model_type not in ("part", expected):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", expected,
                          "ask for support of this combination")  # fmt: skip
    tied, text_class = hyperparameters.flag("tie_embeddings", False), TEXT_CLASSES[expected]
    language = text_model(text, text_class, tied=tied)
    images, width = vision_encoder(vision, "model.vision_model", *((768, 12) if second else (1152, 16)))
    hidden = text.count("hidden_size", text_class.defaults["hidden_size"])
    if second:
        inner = text.count("intermediate_size", text_class.defaults["intermediate_size"])
        joint = _perceiver(hyperparameters.part("perceiver_config"), width, hidden, inner)
    else:
        shuffled = Linear(in_features=width * hyperparameters.count("scale_factor", 2) ** 2, out_features=hidden,
                          bias=False)  # fmt: skip
        joint = (Placement(_CONNECTOR + "modality_projection.proj", shuffled),)
    beside = tower((*images, *joint))
    return joined(hyperparameters, "idefics3", language, beside, [("model.", "model.text_model.")])


def vision_encoder(
    vision: Hyperparameters, path: str, hidden: int = 1152, heads: int = 16
) -> tuple[tuple[Placement, ...], int]:
    """SigLIP's image encoder without a pooling head at a path, and its width; the sizes are its class's defaults."""
    layers, cut = encoder(vision, hidden, 3072, 12, heads), patches(vision, 224, 32)
    width, table = layers.hidden_size, path + ".embeddings."
    return (
        Placement(table + "patch_embedding", cut.convolution(width)),
        Placement(table + "position_embedding", Embedding(rows=cut.count, width=width, role="position_embedding")),
        *layers.placements(path + ".encoder.layers.{layer}"),
        Placement(path + ".post_layernorm", Norm(width=width)),
    ), width


def _perceiver(perceiver: Hyperparameters, width: int, hidden: int, inner: int) -> tuple[Placement, ...]:
    """The map to the language model's width and the layers of latents that read what comes out of it."""
    perceiver.same("the widths of perceiver and text", perceiver.count("hidden_size", 4096), hidden)
    path, layers = _CONNECTOR + "perceiver_resampler", range(perceiver.count("resampler_depth", 3, most=MOST_LAYERS))
    layer, heads = path + ".layers.{layer}.", perceiver.count("resampler_n_heads", 16)
    kv_heads = perceiver.count("num_kv_heads", 4)
    perceiver.divided("query heads by key-value heads", heads, kv_heads)
    attention = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=kv_heads,
                          head_dim=perceiver.count("resampler_head_dim", 96), causal=False)  # fmt: skip
    norm, out = Norm(width=hidden, bias=False), Linear(in_features=inner, out_features=hidden, bias=False)
    widened = Linear(in_features=width, out_features=inner, bias=False)
    latents = Array(name="latents", shape=(perceiver.count("resampler_n_latents", 64), hidden))
    return (
        Placement(_CONNECTOR + "modality_projection.gate_proj", widened),
        Placement(_CONNECTOR + "modality_projection.up_proj", widened),
        Placement(_CONNECTOR + "modality_projection.down_proj", out),
        Placement(path, latents),
        Placement(layer + "self_attn", attention, layers),
        Placement(layer + "mlp", FeedForward(hidden_size=hidden, intermediate_size=4 * hidden), layers),
        *(Placement(layer + name, norm, layers)
          for name in ("input_latents_norm", "input_context_norm", "post_attention_layernorm")),
        Placement(path + ".norm", norm),
    )  # fmt: skip


FAMILY = Family(
    name="idefics3",
    title="Idefics 2, 3 and SmolVLM",
    model_types=tuple(_TEXTS),
    gguf={},
    source="transformers models/idefics2, models/idefics3, models/smolvlm",
    build=build,
)
