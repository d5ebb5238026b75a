"""Granite Speech: Granite's language model behind a conformer over sound and a query transformer that reads it.

Source: transformers `models/granite_speech/{configuration,modeling}_granite_speech.py` (5.x). Each layer of the
conformer has a feed-forward block before attention and one behind a convolution; distances have a table in each. The
query transformer is BLIP-2's. The adapter that `has_lora_adapter` tells of lies in files of its own and is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TextClass, check_class, joined, moved, text_model, tower
from weighbridge.model.families.blip import querying
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_SIZES: Mapping[str, int] = MappingProxyType({
    "hidden_size": 4096, "intermediate_size": 11008, "num_layers": 32, "num_heads": 32, "vocab_size": 32000,
})  # fmt: skip
_TEXT = TextClass("granite", "GraniteForCausalLM", _SIZES)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its conformer and query transformer."""
    check_class(hyperparameters, "GraniteSpeech")
    text = hyperparameters.part("text_config")
    if text.model_type not in ("part", "granite"):
        raise ConfigError(f"{text.source} is of the model type {text.model_type[:60]}", "granite",
                          "ask for support of this combination")  # fmt: skip
    language = text_model(text, _TEXT, tied=hyperparameters.flag("tie_embeddings", True))
    queries = hyperparameters.part("projector_config")
    transformer, width = querying(queries, queries.count("encoder_hidden_size", 1408))
    window, rate = hyperparameters.count("window_size", 15), hyperparameters.count("downsample_rate", 5)
    learned = Array(name="query", shape=(1, hyperparameters.derived("window_size / downsample_rate", window // rate),
                                         width))  # fmt: skip
    beside = tower((
        *_conformer(hyperparameters.part("encoder_config")),
        Placement("projector", learned),
        *moved(transformer, [("qformer.", "projector.qformer.")]),
        Placement("projector.linear", Linear(in_features=width, out_features=text.count("hidden_size", 4096))),
    ))  # fmt: skip
    return joined(hyperparameters, "granite_speech", language, beside, [("", "language_model.")])


def _conformer(audio: Hyperparameters) -> tuple[Placement, ...]:
    audio.refuse("hidden_size", "which the published files spell hidden_dim")
    hidden, heads = audio.count("hidden_dim", 1024), audio.count("num_heads", 8)
    head = audio.optional_count("dim_head") or audio.derived("dim_head", hidden // heads)
    layers, inner = range(audio.count("num_layers", 10, most=MOST_LAYERS)), hidden * audio.count("feedforward_mult", 4)
    wide, outputs = hidden * audio.count("conv_expansion_factor", 2), audio.count("output_dim", 42)
    distances = 2 * audio.count("max_pos_emb", 512) + 1
    attended = Component.ATTENTION
    norm = Norm(width=hidden)
    block = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, bias=True)
    kernel = (audio.count("conv_kernel_size", 15),)
    parts: tuple[tuple[str, Block], ...] = (
        *((f"{name}.pre_norm", norm) for name in ("ff1", "attn", "ff2")),
        *((name, block) for name in ("ff1", "ff2")),
        ("attn.to_q", Linear(in_features=hidden, out_features=heads * head, bias=False, component=attended)),
        ("attn.to_kv", Linear(in_features=hidden, out_features=2 * heads * head, bias=False, component=attended)),
        ("attn.to_out", Linear(in_features=heads * head, out_features=hidden, component=attended)),
        ("attn.rel_pos_emb", Embedding(rows=distances, width=head, role="position_embedding")),
        ("conv.norm", norm),
        ("conv.up_conv", Convolution(kernel=(1,), in_channels=hidden, out_channels=2 * wide, bias=True)),
        ("conv.depth_conv.conv", Convolution(kernel=kernel, in_channels=wide, out_channels=wide, groups=wide)),
        ("conv.batch_norm", Norm(width=wide, running_statistics=True)),
        ("conv.down_conv", Convolution(kernel=(1,), in_channels=wide, out_channels=hidden, bias=True)),
        ("post_norm", norm),
    )
    return (
        Placement("encoder.input_linear", Linear(in_features=audio.count("input_dim", 160), out_features=hidden)),
        *(Placement("encoder.layers.{layer}." + name, part, layers) for name, part in parts),
        Placement("encoder.out", Linear(in_features=hidden, out_features=outputs)),
        Placement("encoder.out_mid", Linear(in_features=outputs, out_features=hidden)),
    )


FAMILY = Family(
    name="granite_speech",
    title="Granite Speech",
    model_types=("granite_speech",),
    gguf={},
    source="transformers models/granite_speech",
    build=build,
)
