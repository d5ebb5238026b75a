"""Gemma 4: wider heads in the layers with a full context, shared caches, an embedding for each layer, experts beside
the feed-forward block, towers for images and sound.

Source: transformers `models/gemma4/{configuration,modeling}_gemma4.py` (5.x). Every sixth layer and the last one have
the full context and heads of `global_head_dim` numbers; with `attention_k_eq_v` they have
`num_global_key_value_heads`, whose keys are values too. The last `num_kv_shared_layers` layers take keys and values
from earlier ones. Published files may hold the projections that those layers do not use: the class drops them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.block import Use
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.lean_attention import LeanAttention
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.composite import tower
from weighbridge.model.decoder import (
    SANDWICH_NORMS,
    feed_forward,
    layered,
    number_of_layers,
    sliding_but_every,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_EXPERTS, Hyperparameters
from weighbridge.model.tensors import Component

_PREFIXES = ("Gemma4Text", "Gemma4")
TEXT = {"vocab_size": 262144, "hidden_size": 2304, "intermediate_size": 9216, "num_layers": 30, "num_heads": 8,
         "num_kv_heads": 4, "head_dim": 256, "sliding_window": 512, "global_head_dim": 512,
         "hidden_size_per_layer_input": 256, "vocab_size_per_layer_input": 262144}  # fmt: skip
"""What the reference class of the decoder has where a key is missing."""
_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_layers": 16, "num_heads": 12, "num_kv_heads": 12,
           "head_dim": 64, "patch_size": 16, "position_embedding_size": 10240}  # fmt: skip
_AUDIO: dict[str, Any] = {"hidden_size": 1024, "num_layers": 12, "num_heads": 8, "subsampling_conv_channels": (128, 32),
          "conv_kernel_size": 5, "output_proj_dims": 1536}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder alone (`gemma4_text`), or with the towers that the configuration has (`gemma4`)."""
    if hyperparameters.model_type == "gemma4_text":
        return decoder(with_defaults(hyperparameters, TEXT), _PREFIXES, "ForCausalLM", "model.")
    text = with_defaults(hyperparameters.part("text_config"), TEXT)
    # the whole says which class it is and whether the head is tied; the part, everything else
    own = {"tie_embeddings": hyperparameters.settings.get("tie_embeddings", True)}
    whole = replace(hyperparameters, settings={**text.settings, **own})
    width = text.count("hidden_size")
    parts: list[Placement] = []
    if hyperparameters.settings.get("vision_config") is not None:
        vision = with_defaults(hyperparameters.part("vision_config"), _VISION)
        parts += [
            *_vision(vision, "model.vision_tower."),
            bridge("model.embed_vision", vision.count("hidden_size"), width),
        ]
    if hyperparameters.settings.get("audio_config") is not None:
        audio = with_defaults(hyperparameters.part("audio_config"), _AUDIO)
        parts += [
            *_audio(audio, "model.audio_tower."),
            bridge("model.embed_audio", audio.count("output_proj_dims"), width),
        ]
    return decoder(whole, _PREFIXES, "ForConditionalGeneration", "model.language_model.", tower(parts))


def decoder(
    hyperparameters: Hyperparameters,
    prefixes: tuple[str, ...],
    default_class: str,
    body: str,
    before: tuple[Placement, ...] = (),
) -> Architecture:
    """The decoder at a path, behind what stands before it; Gemma 4 Unified has it too."""
    hyperparameters.refuse("per_layer_config", "which this family does not describe")
    if hyperparameters.settings.get("use_bidirectional_attention") == "all":
        hyperparameters.refuse("use_bidirectional_attention", "which this decoder does not describe")
    num_layers = number_of_layers(hyperparameters)
    layers = [_layer(hyperparameters, window, shared=number >= num_layers - _shared(hyperparameters))
              for number, window in enumerate(_windows(hyperparameters, num_layers))]  # fmt: skip
    by_layer = hyperparameters.settings.get("hidden_size_per_layer_input")
    return layered(
        hyperparameters, "gemma4", prefixes, default_class, body, layers, before=before,
        after=layer_inputs(hyperparameters, body) if by_layer else (),
        num_experts=_experts(hyperparameters).num_experts if _routed(hyperparameters) else 0,
    )  # fmt: skip


def _windows(hyperparameters: Hyperparameters, num_layers: int) -> list[int | None]:
    """The window of each layer; the last one never has any."""
    windows: list[int | None] = [None] * num_layers
    for window, layers in windows_by_type(hyperparameters, sliding_but_every(6, num_layers)):
        for layer in layers:
            windows[layer] = window
    windows[-1] = None
    return windows


def _shared(hyperparameters: Hyperparameters) -> int:
    """How many of the last layers take keys and values from earlier ones."""
    return hyperparameters.count("num_kv_shared_layers") if hyperparameters.settings.get("num_kv_shared_layers") else 0


def _routed(hyperparameters: Hyperparameters) -> bool:
    return hyperparameters.flag("enable_moe_block", False)


def _experts(hyperparameters: Hyperparameters) -> StackedExperts:
    experts = StackedExperts(
        hidden_size=hyperparameters.count("hidden_size"),
        intermediate_size=hyperparameters.count("moe_intermediate_size"),
        num_experts=hyperparameters.count("num_experts", most=MOST_EXPERTS),
        experts_per_token=hyperparameters.count("top_k_experts"), names=("gate_up_proj", "down_proj"),
    )  # fmt: skip
    hyperparameters.check_experts(experts.num_experts, experts.experts_per_token)
    return experts


def _layer(hyperparameters: Hyperparameters, window: int | None, *, shared: bool) -> Iterator[tuple[str, Block]]:
    """The parts of one layer, each behind its path."""
    hidden = hyperparameters.count("hidden_size")
    norm = Norm(width=hidden, bias=False)
    yield from _attention(hyperparameters, window, shared=shared)
    mlp = feed_forward(hyperparameters)
    if shared and hyperparameters.flag("use_double_wide_mlp", False):
        mlp = replace(mlp, intermediate_size=2 * mlp.intermediate_size)
    yield "mlp", mlp
    for role, name in SANDWICH_NORMS.items():
        yield name, replace(norm, role=role)
    if hyperparameters.settings.get("hidden_size_per_layer_input"):
        yield from layer_input(hidden, hyperparameters.count("hidden_size_per_layer_input"))
    if _routed(hyperparameters):
        experts = _experts(hyperparameters)
        router = Linear(in_features=hidden, out_features=experts.num_experts, bias=False, role="router",
                        component=Component.ROUTER)  # fmt: skip
        yield "router.proj", router
        yield "router", Vector(name="scale", width=hidden, component=Component.ROUTER)
        yield "router", Vector(name="per_expert_scale", width=experts.num_experts, component=Component.ROUTER)
        yield "experts", experts
        for name in ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2", "pre_feedforward_layernorm_2"):
            yield name, norm


def _attention(hyperparameters: Hyperparameters, window: int | None, *, shared: bool) -> Iterator[tuple[str, Block]]:
    num_heads, num_kv_heads = hyperparameters.count("num_heads"), hyperparameters.count("num_kv_heads")
    keys_are_values = window is None and hyperparameters.flag("attention_k_eq_v", False)
    if keys_are_values:
        num_kv_heads = hyperparameters.count("num_global_key_value_heads", num_kv_heads)
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    head_dim = hyperparameters.count("global_head_dim" if window is None else "head_dim")
    bias = hyperparameters.flag("attention_bias", False)
    whole = Attention(hidden_size=hyperparameters.count("hidden_size"), num_heads=num_heads, num_kv_heads=num_kv_heads,
                      head_dim=head_dim, qkv_bias=bias, output_bias=bias, window=window)  # fmt: skip
    yield "self_attn", LeanAttention(whole=whole, shared=shared) if shared or keys_are_values else whole
    norm = Norm(width=head_dim, bias=False)
    yield "self_attn.q_norm", replace(norm, role="attention_q_norm")
    if not shared:
        yield "self_attn.k_norm", replace(norm, role="attention_k_norm")


def layer_input(hidden: int, narrow: int) -> Iterator[tuple[str, Block]]:
    """What adds a layer's own embedding to it: a gate, the way back to the width, a norm."""
    gate = Linear(in_features=hidden, out_features=narrow, bias=False, role="layer_input_gate")
    yield "per_layer_input_gate", gate
    yield "per_layer_projection", replace(gate, in_features=narrow, out_features=hidden)
    yield "post_per_layer_input_norm", Norm(width=hidden, bias=False)


def layer_inputs(hyperparameters: Hyperparameters, body: str) -> Iterator[Placement]:
    """The second table, with an embedding for each layer, and what mixes it with the first."""
    narrow = hyperparameters.count("hidden_size_per_layer_input")
    wide = number_of_layers(hyperparameters) * narrow
    rows = hyperparameters.count("vocab_size_per_layer_input")
    yield Placement(body + "embed_tokens_per_layer", Embedding(rows=rows, width=wide, role="layer_embedding"))
    mixed = Linear(in_features=hyperparameters.count("hidden_size"), out_features=wide, bias=False)
    yield Placement(body + "per_layer_model_projection", mixed)
    yield Placement(body + "per_layer_projection_norm", Norm(width=narrow, bias=False))


def bridge(path: str, inputs: int, width: int) -> Placement:
    """The map from a tower into the decoder's width."""
    return Placement(path + ".embedding_projection", Linear(in_features=inputs, out_features=width, bias=False))


def _vision(vision: Hyperparameters, path: str) -> Iterator[Placement]:
    """The image tower: the decoder's four norms a layer around attention to all patches, positions by two tables."""
    hidden, num_heads, head_dim = vision.count("hidden_size"), vision.count("num_heads"), vision.count("head_dim")
    layers, layer = range(number_of_layers(vision)), path + "encoder.layers.{layer}."
    norm = Norm(width=hidden, bias=False)
    inputs = 3 * vision.count("patch_size") ** 2
    table = Array(name="position_embedding_table", shape=(2, vision.count("position_embedding_size"), hidden),
                  use=Use.LOOKUP)  # fmt: skip
    yield Placement(path + "patch_embedder.input_proj", Linear(in_features=inputs, out_features=hidden, bias=False))
    yield Placement(path + "patch_embedder", table)
    names = ("q_proj.linear", "k_proj.linear", "v_proj.linear", "o_proj.linear")
    yield Placement(layer + "self_attn", Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=vision.count("num_kv_heads"), head_dim=head_dim,
        names=names, causal=False), layers)  # fmt: skip
    for name in ("q_norm", "k_norm"):
        yield Placement(f"{layer}self_attn.{name}", Norm(width=head_dim, bias=False), layers)
    yield Placement(layer + "mlp", feed_forward(vision, gate="gate_proj.linear", up="up_proj.linear",
                                                down="down_proj.linear"), layers)  # fmt: skip
    for name in SANDWICH_NORMS.values():
        yield Placement(layer + name, norm, layers)


def _audio(audio: Hyperparameters, path: str) -> Iterator[Placement]:
    """The sound tower: two convolutions, then Conformer layers, with half-step feed-forward blocks at both ends."""
    hidden, num_heads = audio.count("hidden_size"), audio.count("num_heads")
    layers, layer = range(number_of_layers(audio)), path + "layers.{layer}."
    norm = Norm(width=hidden, bias=False)
    square = Linear(in_features=hidden, out_features=hidden, bias=False)
    before = 1
    for number, channels in enumerate(_channels(audio)):
        convolution = f"{path}subsample_conv_projection.layer{number}."
        yield Placement(convolution + "conv", Convolution(kernel=(3, 3), in_channels=before, out_channels=channels))
        yield Placement(convolution + "norm", Norm(width=channels, bias=False))
        before = channels
    first, second = _channels(audio)
    yield Placement(path + "subsample_conv_projection.input_proj_linear",
                    replace(square, in_features=first // 4 * second))  # fmt: skip
    half = FeedForward(hidden_size=hidden, intermediate_size=4 * hidden, gate=None, up="ffw_layer_1.linear",
                       down="ffw_layer_2.linear")  # fmt: skip
    for name in ("feed_forward1", "feed_forward2"):
        yield Placement(layer + name, half, layers)
        for inner in ("pre_layer_norm", "post_layer_norm"):
            yield Placement(f"{layer}{name}.{inner}", norm, layers)
    head_dim = audio.divided("head_dim", hidden, num_heads)
    names = ("q_proj.linear", "k_proj.linear", "v_proj.linear", "post.linear")
    yield Placement(layer + "self_attn", Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                                                   head_dim=head_dim, names=names, causal=False), layers)  # fmt: skip
    yield Placement(layer + "self_attn.relative_k_proj", square, layers)
    yield Placement(layer + "self_attn", Vector(name="per_dim_scale", width=head_dim), layers)
    yield Placement(layer + "lconv1d.linear_start.linear", replace(square, out_features=2 * hidden), layers)
    yield Placement(layer + "lconv1d.linear_end.linear", square, layers)
    depthwise = Convolution(kernel=(audio.count("conv_kernel_size"),), in_channels=hidden, out_channels=hidden,
                            groups=hidden)  # fmt: skip
    yield Placement(layer + "lconv1d.depthwise_conv1d", depthwise, layers)
    for name in ("lconv1d.pre_layer_norm", "lconv1d.conv_norm", "norm_pre_attn", "norm_post_attn", "norm_out"):
        yield Placement(layer + name, norm, layers)
    yield Placement(path + "output_proj", Linear(in_features=hidden, out_features=audio.count("output_proj_dims")))


def _channels(audio: Hyperparameters) -> tuple[int, int]:
    """The channels of the two convolutions."""
    channels = audio.settings.get("subsampling_conv_channels")
    if not isinstance(channels, list | tuple) or len(channels) != len(_AUDIO["subsampling_conv_channels"]):
        raise ConfigError(f"{audio.source} has subsampling_conv_channels = {repr(channels)[:60]}",
                          "two whole numbers", "correct the key")  # fmt: skip
    names = ("subsampling_conv_channels[0]", "subsampling_conv_channels[1]")
    both = replace(audio, settings=dict(zip(names, channels, strict=True)))
    return both.count(names[0]), both.count(names[1])


FAMILY = Family(
    name="gemma4",
    title="Gemma 4, with and without its towers",
    model_types=("gemma4", "gemma4_text"),
    gguf={},
    source="transformers models/gemma4",
    build=build,
)
