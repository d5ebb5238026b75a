"""Aria: a decoder with experts in every layer, beside Idefics 3's image encoder and queries that read it.

Source: transformers `models/aria/{configuration,modeling}_aria.py` (5.x). The experts of a layer lie in two tensors.
There are as many queries as the largest number that `projector_patch_to_query_dict` gives, unless
`max_value_projector_patch_to_query_dict` says another.
"""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.block import Use
from weighbridge.model.blocks.stacked_experts import StackedExperts
from weighbridge.model.composite import check_class, joined, tower, with_defaults
from weighbridge.model.families.idefics3 import vision_encoder
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER
from weighbridge.model.tensors import Component

_TEXT = {"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 4096, "num_layers": 32, "num_heads": 32}
_QUERIES = 256


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its image encoder and projector."""
    check_class(hyperparameters, "Aria")
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    for part, expected in ((text, "aria_text"), (vision, "idefics3_vision")):
        if part.model_type not in ("part", expected):
            raise ConfigError(f"{part.source} is of the model type {part.model_type[:60]}", expected,
                              "ask for support of this combination")  # fmt: skip
    language = _decoder(with_defaults(text, _TEXT), hyperparameters.flag("tie_embeddings", False))
    images, width = vision_encoder(vision, "vision_tower")
    hidden, queries = text.count("hidden_size", _TEXT["hidden_size"]), _queries(hyperparameters)
    beside = tower((*images, *_projector(width, hidden, queries)))
    return joined(hyperparameters, "aria", language, beside, [("", "language_model.")])


def _decoder(text: Hyperparameters, tied: bool) -> Architecture:
    bias, mlp_bias = text.flag("attention_bias", False), text.flag("mlp_bias", False)
    attention = mixture.attention(text, qkv_bias=bias, output_bias=bias)
    hidden, inner = attention.hidden_size, text.count("intermediate_size")
    count, active = text.count("moe_num_experts", 8, most=MOST_EXPERTS), text.count("moe_topk", 2)
    text.check_experts(count, active)
    layers = range(text.count("num_layers", most=MOST_LAYERS))
    experts = StackedExperts(hidden_size=hidden, intermediate_size=inner, num_experts=count, experts_per_token=active,
                             names=("fc1.weight", "fc2.weight"), layout="in_out")  # fmt: skip
    router = Linear(in_features=hidden, out_features=count, bias=False, role="router", component=Component.ROUTER)
    shared = mixture.shared_experts(hidden, inner * text.count("moe_num_shared_experts", 2), mlp_bias)
    body = [
        Placement(LAYER + "self_attn", attention, layers),
        Placement(LAYER + "mlp.router", router, layers),
        Placement(LAYER + "mlp.experts", experts, layers),
        Placement(LAYER + "mlp.shared_experts", shared, layers),
    ]
    named = Hyperparameters(text.source, text.model_type, {**text.settings, "tie_embeddings": tied},
                            ("AriaTextForCausalLM",), spellings=text.spellings)  # fmt: skip
    return mixture.decoder(named, "aria", ("AriaText",), body, attention=attention, num_experts=count,
                           head=language_head(named, ("AriaText",)))  # fmt: skip


def _queries(hyperparameters: Hyperparameters) -> int:
    given, largest = hyperparameters.settings.get("projector_patch_to_query_dict"), _QUERIES
    if given is not None:
        largest = _largest(hyperparameters, given)
    return hyperparameters.count("max_value_projector_patch_to_query_dict", largest)


def _largest(hyperparameters: Hyperparameters, given: object) -> int:
    numbers: list[int] = list(given.values()) if isinstance(given, Mapping) else []
    if not numbers or any(type(number) is not int or not 0 < number < 2**20 for number in numbers):
        read = f"{hyperparameters.source} has projector_patch_to_query_dict = {repr(given)[:60]}"
        raise ConfigError(read, "a number of queries for each number of patches", "correct the key")
    return max(numbers)


def _projector(width: int, hidden: int, queries: int) -> tuple[Placement, ...]:
    attended, path = Component.ATTENTION, "multi_modal_projector."
    square = Linear(in_features=width, out_features=width, bias=False, component=attended)
    fused = Array(name="in_proj_weight", shape=(3 * width, width), role="attention_qkv", use=Use.MATMUL,
                  component=attended)  # fmt: skip
    out, norm = Linear(in_features=width, out_features=width, component=attended), Norm(width=width)
    parts: tuple[tuple[str, Block], ...] = (
        *((f"cross_attn.{name}_proj", square) for name in "qkv"),
        ("cross_attn.multihead_attn", fused),
        ("cross_attn.multihead_attn", Vector(name="in_proj_bias", width=3 * width, component=attended)),
        ("cross_attn.multihead_attn.out_proj", out),
        ("cross_attn.linear", out),
        ("cross_attn.layer_norm", norm),
        ("cross_attn.layer_norm_kv", norm),
        ("layer_norm", norm),
        ("feed_forward.linear_in", Linear(in_features=width, out_features=hidden, bias=False)),
        ("feed_forward.linear_out", Linear(in_features=hidden, out_features=hidden, bias=False)),
    )
    return (
        Placement(path.rstrip("."), Array(name="query", shape=(queries, width))),
        *(Placement(path + name, block) for name, block in parts),
    )


FAMILY = Family(
    name="aria",
    title="Aria",
    model_types=("aria",),
    gguf={},
    source="transformers models/aria",
    build=build,
)
