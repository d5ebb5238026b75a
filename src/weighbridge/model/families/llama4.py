"""Llama 4: one routed expert and a shared one in every or every other layer, chunked attention, a vision tower.

Source: transformers `models/llama4/{configuration,modeling}_llama4.py`. Layers whose `no_rope_layers` entry is 1 attend
within chunks of `attention_chunk_size` tokens, the others to everything. Head norms learn nothing. The tower's adapter
reads `intermediate_size` numbers, which is what its pixel shuffle makes of the hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import composite, mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder alone, or with the tower and the projector before it."""
    if hyperparameters.model_type == "llama4_text":
        return _text(hyperparameters)
    suffix = head_class(hyperparameters, ("Llama4",), "ForConditionalGeneration")
    part = replace(hyperparameters.part("text_config"), model_type="llama4", classes=("Llama4ForCausalLM",))
    if suffix == "ForCausalLM":
        return _text(part)
    if suffix != "ForConditionalGeneration":
        raise unknown_class(hyperparameters, ("Llama4ForConditionalGeneration", "Llama4ForCausalLM"))
    text, vision = _text(part), hyperparameters.part("vision_config")
    project = Linear(in_features=vision.count("vision_output_dim", 7680), out_features=part.count("hidden_size"),
                     bias=False, role="projector")  # fmt: skip
    tower = [*_tower(vision), Placement("multi_modal_projector.linear_1", project, component=Component.VISION_AUDIO)]
    return composite.joined(hyperparameters, "llama4", text, tower, [("", "language_model.")])


def _text(hyperparameters: Hyperparameters) -> Architecture:
    bias = hyperparameters.flag("attention_bias", False)
    attention = mixture.attention(hyperparameters, num_heads=40, num_kv_heads=8, head_dim=128, qkv_bias=bias,
                                  output_bias=bias)  # fmt: skip
    hidden, num_layers = attention.hidden_size, hyperparameters.count("num_layers", most=MOST_LAYERS)
    num_experts, active = mixture.routing(hyperparameters, 16, 1)
    inner = hyperparameters.count("intermediate_size", 8192)
    dense_inner = hyperparameters.count("intermediate_size_mlp", 16384)
    experts = StackedExperts(hidden_size=hidden, intermediate_size=inner, num_experts=num_experts,
                             experts_per_token=active, names=("gate_up_proj", "down_proj"),
                             layout="in_out")  # fmt: skip
    router = Linear(in_features=hidden, out_features=num_experts, bias=False, role="router", component=Component.ROUTER)
    step = hyperparameters.count("interleave_moe_layer_step", 1)
    listed = mixture.whole_numbers(hyperparameters, "moe_layers")
    sparse = [layer for layer in range(num_layers) if layer in listed] if listed is not None else range(
        step - 1, num_layers, step)  # fmt: skip
    dense = [layer for layer in range(num_layers) if layer not in sparse]
    body = [
        *(Placement(LAYER + "self_attn", replace(attention, window=window), layers)
          for window, layers in mixture.grouped(_windows(hyperparameters, num_layers))),
        Placement(LAYER + "feed_forward", FeedForward(hidden_size=hidden, intermediate_size=dense_inner), dense),
        Placement(LAYER + "feed_forward.experts", experts, sparse),
        Placement(LAYER + "feed_forward.router", router, sparse),
        Placement(LAYER + "feed_forward.shared_expert", mixture.shared_experts(hidden, inner), sparse),
    ]  # fmt: skip
    return mixture.decoder(hyperparameters, "llama4", ("Llama4",), body, attention=attention, num_experts=num_experts)


def _windows(hyperparameters: Hyperparameters, num_layers: int) -> list[int | None]:
    kinds = mixture.named_layers(hyperparameters, "layer_types", num_layers, ("full_attention", "chunked_attention"))
    missing = "attention_chunk_size" not in hyperparameters.settings
    chunk = 8192 if missing else hyperparameters.optional_count("attention_chunk_size")
    every = hyperparameters.count("no_rope_layer_interval", 4)
    rotary = mixture.whole_numbers(hyperparameters, "no_rope_layers") or [
        int((layer + 1) % every != 0) for layer in range(num_layers)
    ]
    if len(rotary) != num_layers:
        raise ConfigError(f"{hyperparameters.source} has {len(rotary)} entries in no_rope_layers",
                          f"one for each of {num_layers} layers", "correct the key")  # fmt: skip
    kinds = kinds or ["chunked_attention" if one else "full_attention" for one in rotary]
    return [chunk if kind == "chunked_attention" else None for kind in kinds]


def _tower(vision: Hyperparameters) -> list[Placement]:
    hidden, inner = vision.count("hidden_size", 768), vision.count("intermediate_size", 5632)
    heads, patch = vision.count("num_heads", 16), vision.count("patch_size", 14)
    width, out = vision.count("projector_input_dim", 4096), vision.count("projector_output_dim", 4096)
    layers = range(vision.count("num_layers", 34, most=MOST_LAYERS))
    patches = (vision.count("image_size", 448) // patch) ** 2 + 1
    pixels = vision.count("num_channels", 3) * patch**2
    attention = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=heads,
                          head_dim=vision.divided("head_dim", hidden, heads), qkv_bias=True, output_bias=True,
                          causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="fc1", down="fc2", bias=True)
    layer = "vision_model.model.layers.{layer}."
    parts: list[tuple[str, Block, Sequence[int] | None]] = [
        ("vision_model", Vector(name="class_embedding", width=hidden), None),
        ("vision_model", Array(name="positional_embedding_vlm", shape=(patches, hidden), role="position_embedding"),
         None),
        ("vision_model.patch_embedding.linear", _linear(pixels, hidden), None),
        ("vision_model.layernorm_pre", Norm(width=hidden), None),
        (layer + "self_attn", attention, layers),
        (layer + "mlp", feed_forward, layers),
        (layer + "input_layernorm", Norm(width=hidden), layers),
        (layer + "post_attention_layernorm", Norm(width=hidden), layers),
        ("vision_model.layernorm_post", Norm(width=hidden), None),
        ("vision_model.vision_adapter.mlp.fc1", _linear(inner, width), None),
        ("vision_model.vision_adapter.mlp.fc2", _linear(out, out), None),
    ]  # fmt: skip
    return [Placement(path, block, where, Component.VISION_AUDIO) for path, block, where in parts]


def _linear(inputs: int, outputs: int) -> Linear:
    return Linear(in_features=inputs, out_features=outputs, bias=False, role="vision")


FAMILY = Family(
    name="llama4",
    title="Llama 4",
    model_types=("llama4", "llama4_text"),
    gguf={},
    source="transformers models/llama4",
    build=build,
)
