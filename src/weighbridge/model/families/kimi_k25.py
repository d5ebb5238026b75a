"""Kimi-VL and Kimi K2.5: DeepSeek's decoder behind MoonViT, a vision tower with fused attention and a position table.

Source for Kimi-VL: `modeling_kimi_vl.py` beside its weights; for Kimi K2.5: transformers
`models/kimi_k25/{configuration,modeling}_kimi_k25.py` and `conversion_mapping.py`, which gives the names of the
published checkpoints. Their configuration spells the tower's sizes with `vt_`, transformers and Kimi-VL without. The
norm of the projector is as wide as the tower in both older spellings, and has a width of its own in transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import composite, mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.families import deepseek_v3
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = ("KimiK25ForConditionalGeneration", "Kimi_K25ForConditionalGeneration")
_WIDTH = 1152
_OLDER = (
    ("mm_projector.pre_norm", "multi_modal_projector.pre_norm"),
    ("mm_projector.proj.0", "multi_modal_projector.linear_1"),
    ("mm_projector.proj.2", "multi_modal_projector.linear_2"),
)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The tower, the projector and the decoder."""
    older = hyperparameters.model_type == "kimi_vl"
    known = ("KimiVLForConditionalGeneration",) if older else _CLASSES
    if hyperparameters.classes and (len(hyperparameters.classes) > 1 or hyperparameters.classes[0] not in known):
        raise unknown_class(hyperparameters, known)
    tie = False if older else hyperparameters.settings.get("tie_embeddings")
    if tie is None:
        raise ConfigError(f"{hyperparameters.source} has no tie_word_embeddings", "the key with true or false",
                          "use the model's full config.json")  # fmt: skip
    part = hyperparameters.part("text_config")
    if part.model_type not in ("part", "kimi_k2", "deepseek_v3"):
        raise ConfigError(f"{hyperparameters.source} has a text_config of type {part.model_type[:60]}",
                          "kimi_k2 or deepseek_v3", "ask for support of this variant")  # fmt: skip
    if older:
        part.refuse("tie_embeddings", "which the published models do not")
    part = replace(part, model_type="kimi_k2", classes=("DeepseekV3ForCausalLM",),
                   settings={**part.settings, "tie_embeddings": tie})  # fmt: skip
    vision = hyperparameters.part("vision_config")
    normed = _size(vision, "hidden_size", "hidden_size", _WIDTH)
    if not older:
        own = any(name.startswith("vt_") for name in vision.settings)
        normed = vision.count("mm_hidden_size", normed) if own else _WIDTH
        normed = hyperparameters.count("projection_hidden_size", normed)
    tower = _tower(vision, part.count("hidden_size"), normed)
    beside = composite.moved(tower, _OLDER if older else ())
    return composite.joined(hyperparameters, "kimi_k25", deepseek_v3.build(part), beside, [("", "language_model.")])


def _size(vision: Hyperparameters, name: str, short: str, default: int, most: int = 2**40) -> int:
    return vision.count(f"vt_{short}" if f"vt_{short}" in vision.settings else name, default, most)


def _tower(vision: Hyperparameters, text_hidden: int, normed: int) -> list[Placement]:
    hidden = _size(vision, "hidden_size", "hidden_size", _WIDTH)
    heads = _size(vision, "num_heads", "num_attention_heads", 16)
    inner = _size(vision, "intermediate_size", "intermediate_size", 4304)
    layers = range(_size(vision, "num_layers", "num_hidden_layers", 27, MOST_LAYERS))
    patch = vision.count("patch_size", 14)
    rows, columns = (
        vision.count(f"init_pos_emb_{side}" if f"init_pos_emb_{side}" in vision.settings else f"pos_emb_{side}", 64)
        for side in ("height", "width")
    )
    merge = mixture.whole_numbers(vision, "merge_kernel_size") or [2, 2]
    merged = hidden * merge[0] * merge[-1]
    attention = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=heads,
                          head_dim=vision.divided("head_dim", hidden, heads), names=("wqkv", "wo"), qkv_bias=True,
                          output_bias=True, causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="fc0", down="fc1", bias=True)
    convolution = Convolution(kernel=(patch, patch), in_channels=3, out_channels=hidden, bias=True)
    layer = "vision_tower.encoder.blocks.{layer}."
    parts: list[tuple[str, Block, Sequence[int] | None]] = [
        ("vision_tower.patch_embed.proj", convolution, None),
        (
            "vision_tower.patch_embed.pos_emb",
            Array(name="weight", shape=(rows, columns, hidden), role="position_embedding"),
            None,
        ),
        (layer + "norm0", Norm(width=hidden), layers),
        (layer.rstrip("."), attention, layers),
        (layer + "norm1", Norm(width=hidden), layers),
        (layer + "mlp", feed_forward, layers),
        ("vision_tower.encoder.final_layernorm", Norm(width=hidden), None),
        ("mm_projector.pre_norm", Norm(width=normed), None),
        ("mm_projector.proj.0", Linear(in_features=merged, out_features=merged, role="projector"), None),
        ("mm_projector.proj.2", Linear(in_features=merged, out_features=text_hidden, role="projector"), None),
    ]
    return [Placement(path, block, where, Component.VISION_AUDIO) for path, block, where in parts]


FAMILY = Family(
    name="kimi_k25",
    title="Kimi-VL and Kimi K2.5",
    model_types=("kimi_k25", "kimi_vl"),
    gguf={},
    source="transformers models/kimi_k25; modeling_kimi_vl.py of moonshotai/Kimi-VL-A3B-Instruct",
    build=build,
)
