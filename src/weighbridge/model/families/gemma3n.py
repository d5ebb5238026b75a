"""Gemma 3n: Gemma 4's embeddings by layer and shared caches, several streams beside the first (AltUp), a low-rank
residual (LAuReL), towers for images and sound.

Source: transformers `models/gemma3n/{configuration,modeling}_gemma3n.py` (5.x). Every fifth layer has the full context.
The last `num_kv_shared_layers` layers take keys and values from earlier ones. Published files hold the projections that
those layers do not use: the class drops them. The image tower is MobileNet-V5, which the class takes from timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.blocks.lean_attention import LeanAttention
from weighbridge.model.composite import optional_part, tower
from weighbridge.model.decoder import (
    SANDWICH_NORMS,
    attention,
    layered,
    number_of_layers,
    sliding_but_every,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.families.gemma4 import layer_input, layer_inputs
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import ONCE, counts
from weighbridge.model.mixture import natural, whole_numbers
from weighbridge.model.mobilenet_v5 import OUTPUT, image_tower

_PREFIXES = ("Gemma3nText", "Gemma3n")
_TEXT = {"vocab_size": 262400, "hidden_size": 2048, "intermediate_size": 16384, "num_layers": 35, "num_heads": 8,
         "num_kv_heads": 2, "head_dim": 256, "sliding_window": 512, "hidden_size_per_layer_input": 256,
         "vocab_size_per_layer_input": 262144, "altup_num_inputs": 4, "num_kv_shared_layers": 15,
         "laurel_rank": 64}  # fmt: skip
_VISION = {"hidden_size": OUTPUT, "vocab_size": 128, "architecture": "mobilenetv5_300m_enc"}
_AUDIO: dict[str, Any] = {"hidden_size": 1536, "vocab_size": 128, "input_feat_size": 128, "conf_num_attention_heads": 8,
          "conf_num_hidden_layers": 12, "conf_conv_kernel_size": 5}  # fmt: skip
_STREAMS = 1000  # a bound on what is listed one by one


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder alone (`gemma3n_text`), or with both towers (`gemma3n`)."""
    if hyperparameters.model_type == "gemma3n_text":
        return _decoder(with_defaults(hyperparameters, _TEXT), "ForCausalLM", "model.")
    text, vision, audio = (
        with_defaults(optional_part(hyperparameters, name), defaults)
        for name, defaults in (("text_config", _TEXT), ("vision_config", _VISION), ("audio_config", _AUDIO))
    )
    # the whole says which class it is and whether the head is tied; the part, everything else
    own = {"tie_embeddings": hyperparameters.settings.get("tie_embeddings", True)}
    whole = replace(hyperparameters, settings={**text.settings, **own})
    _check_vision(vision)
    width = text.count("hidden_size")
    towers = [
        *image_tower("model.vision_tower.timm_model."),
        *_audio(audio, "model.audio_tower."),
        *_bridge("model.embed_vision.", vision, width),
        *_bridge("model.embed_audio.", audio, width),
    ]
    model = _decoder(whole, "ForConditionalGeneration", "model.language_model.", tower(towers))
    return replace(model, notes=(*model.notes, ONCE))


def _decoder(
    hyperparameters: Hyperparameters, default_class: str, body: str, before: tuple[Placement, ...] = ()
) -> Architecture:
    num_layers = number_of_layers(hyperparameters)
    hyperparameters.divided("hidden_size by heads", hyperparameters.count("hidden_size"),
                            hyperparameters.count("num_heads"))  # fmt: skip
    windows = {number: window
               for window, layers in windows_by_type(hyperparameters, sliding_but_every(5, num_layers))
               for number in layers}  # fmt: skip
    first = num_layers - natural(hyperparameters, "num_kv_shared_layers")
    if {windows[number] for number in range(first)} != set(windows.values()):
        raise ConfigError(f"{hyperparameters.source} has num_kv_shared_layers = {num_layers - first}",
                          "fewer, so that a layer of each type has its own cache", "correct the key")  # fmt: skip
    layers = [_layer(hyperparameters, windows[number], inner, shared=number >= first)
              for number, inner in enumerate(_inner_sizes(hyperparameters, num_layers))]  # fmt: skip
    after = [*layer_inputs(hyperparameters, body), *_streams(hyperparameters, body)]
    return layered(hyperparameters, "gemma3n", _PREFIXES, default_class, body, layers, before=before, after=after)


def _inner_sizes(hyperparameters: Hyperparameters, num_layers: int) -> Iterable[int]:
    """The inner width of each layer, given once or layer by layer."""
    if not isinstance(hyperparameters.settings.get("intermediate_size"), list | tuple):
        return [hyperparameters.count("intermediate_size")] * num_layers
    sizes = whole_numbers(hyperparameters, "intermediate_size") or []
    if len(sizes) != num_layers or not all(sizes):
        raise ConfigError(f"{hyperparameters.source} has {len(sizes)} numbers in intermediate_size",
                          f"one above 0 for each of {num_layers} layers", "correct the key")  # fmt: skip
    return sizes


def _layer(
    hyperparameters: Hyperparameters, window: int | None, inner: int, *, shared: bool
) -> Iterator[tuple[str, Block]]:
    """The parts of one layer, each behind its path."""
    hidden, streams = hyperparameters.count("hidden_size"), hyperparameters.count("altup_num_inputs", most=_STREAMS)
    norm = Norm(width=hidden, bias=False)
    bias = hyperparameters.flag("attention_bias", False)
    whole = replace(attention(hyperparameters, qkv_bias=bias, output_bias=bias), window=window)
    yield "self_attn", LeanAttention(whole=whole, shared=True) if shared else whole
    yield "self_attn.q_norm", Norm(width=whole.head_dim, bias=False, role="attention_q_norm")
    if not shared:
        yield "self_attn.k_norm", Norm(width=whole.head_dim, bias=False, role="attention_k_norm")
    yield "mlp", FeedForward(hidden_size=hidden, intermediate_size=inner)
    for role, name in SANDWICH_NORMS.items():
        yield name, replace(norm, role=role)
    yield "altup", Vector(name="correct_output_scale", width=hidden)
    for name, inputs, outputs in (("correction_coefs", streams, streams), ("prediction_coefs", streams, streams**2),
                                  ("modality_router", hidden, streams)):  # fmt: skip
        yield f"altup.{name}", Linear(in_features=inputs, out_features=outputs, bias=False, role="altup")
    yield "altup.router_norm", norm
    rank = hyperparameters.count("laurel_rank")
    yield "laurel.linear_left", Linear(in_features=hidden, out_features=rank, bias=False, role="laurel")
    yield "laurel.linear_right", Linear(in_features=rank, out_features=hidden, bias=False, role="laurel")
    yield "laurel.post_laurel_norm", norm
    yield from layer_input(hidden, hyperparameters.count("hidden_size_per_layer_input"))


def _streams(hyperparameters: Hyperparameters, body: str) -> Iterator[Placement]:
    """What makes the other streams of the first, and takes them together at the end."""
    hidden = hyperparameters.count("hidden_size")
    square = Linear(in_features=hidden, out_features=hidden, bias=False, role="altup")
    for name in ("altup_projections", "altup_unembed_projections"):
        for number in range(hyperparameters.count("altup_num_inputs", most=_STREAMS) - 1):
            yield Placement(f"{body}{name}.{number}", square)


def _bridge(path: str, part: Hyperparameters, width: int) -> Iterator[Placement]:
    """What brings a tower's output, and a few tokens of its own, into the decoder's width."""
    inputs = part.count("hidden_size")
    yield Placement(path + "embedding", Embedding(rows=part.count("vocab_size"), width=inputs))
    for name in ("hard_embedding_norm", "soft_embedding_norm"):
        yield Placement(path + name, Norm(width=inputs, bias=False))
    yield Placement(path + "embedding_projection", Linear(in_features=inputs, out_features=width, bias=False))


def _check_vision(vision: Hyperparameters) -> None:
    """Refuses another tower for images than the published one."""
    vision.refuse("model_args", "which this family does not describe")
    vision.same("the width of the image tower", vision.count("hidden_size"), OUTPUT)
    if vision.settings.get("architecture") != _VISION["architecture"]:
        vision.refuse("architecture", "of which only mobilenetv5_300m_enc is described")


def _audio(audio: Hyperparameters, path: str) -> Iterator[Placement]:
    """The sound tower: two convolutions, then Conformer layers, with half-step feed-forward blocks at both ends."""
    for name, usual in (("sscp_conv_kernel_size", 3), ("sscp_conv_stride_size", 2)):
        if audio.settings.get(name, [[usual, usual]] * 2) != [[usual, usual]] * 2:
            audio.refuse(name, f"of which only {usual} is described")
    hidden, num_heads = audio.count("hidden_size"), audio.count("conf_num_attention_heads")
    layers = range(audio.count("conf_num_hidden_layers", most=MOST_LAYERS))
    layer = path + "conformer.{layer}."
    norm = Norm(width=hidden, bias=False)
    square = Linear(in_features=hidden, out_features=hidden, bias=False)
    convolution = path + "subsample_conv_projection."
    before, height = 1, audio.count("input_feat_size")
    for number, channels in enumerate(counts(audio, "sscp_conv_channel_size", (128, 32))):
        at = f"{convolution}conv_{number}."
        yield Placement(at + "conv", Convolution(kernel=(3, 3), in_channels=before, out_channels=channels))
        yield Placement(at + "norm", Norm(width=channels, bias=False))
        before, height = channels, (height - 1) // 2 + 1
    yield Placement(convolution + "input_proj_linear", replace(square, in_features=before * height))
    half = FeedForward(hidden_size=hidden, intermediate_size=4 * hidden, gate=None, up="ffw_layer_1",
                       down="ffw_layer_2")  # fmt: skip
    for name in ("ffw_layer_start", "ffw_layer_end"):
        yield Placement(layer + name, half, layers)
        for inner in ("pre_layer_norm", "post_layer_norm"):
            yield Placement(f"{layer}{name}.{inner}", norm, layers)
    head_dim = audio.divided("head_dim", hidden, num_heads)
    names = ("attn.q_proj", "attn.k_proj", "attn.v_proj", "post")
    yield Placement(layer + "attention", Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                                                   head_dim=head_dim, names=names, causal=False), layers)  # fmt: skip
    yield Placement(layer + "attention.attn.relative_position_embedding.pos_proj", square, layers)
    yield Placement(layer + "attention.attn", Vector(name="per_dim_scale", width=head_dim), layers)
    yield Placement(layer + "lconv1d.linear_start", replace(square, out_features=2 * hidden), layers)
    yield Placement(layer + "lconv1d.linear_end", square, layers)
    depthwise = Convolution(kernel=(audio.count("conf_conv_kernel_size"),), in_channels=hidden, out_channels=hidden,
                            groups=hidden)  # fmt: skip
    yield Placement(layer + "lconv1d.depthwise_conv1d", depthwise, layers)
    for name in ("attention.pre_attn_norm", "attention.post_norm", "lconv1d.pre_layer_norm", "lconv1d.conv_norm",
                 "norm"):  # fmt: skip
        yield Placement(layer + name, norm, layers)


FAMILY = Family(
    name="gemma3n",
    title="Gemma 3n, with and without its towers",
    model_types=("gemma3n", "gemma3n_text"),
    gguf={},
    source="transformers models/gemma3n; timm mobilenetv5",
    build=build,
)
