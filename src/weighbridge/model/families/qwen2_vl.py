"""Qwen2-VL and Qwen2.5-VL: Qwen2's language model beside a tower over patches of two frames each.

Source: transformers `models/{qwen2_vl,qwen2_5_vl,qwen3_vl}/{configuration,modeling}_*.py` (5.x). The towers of the
generations differ: Qwen2-VL has LayerNorm and a plain feed-forward block, Qwen2.5-VL RMSNorm and a gated one, Qwen3-VL
adds a table of positions and mergers that feed the language model's first layers. Tensor names are those of the
published files (`visual.blocks`, `model.layers`), which transformers 5 renames when it loads them. Files spell the
language model's settings beside `vision_config`, newer ones in `text_config`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TextClass, check_class, joined, text_model, tied_anywhere, tower, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

TEXT = TextClass("qwen2", "Qwen2ForCausalLM", {
    "hidden_size": 8192, "intermediate_size": 29568, "num_layers": 80, "num_heads": 64, "num_kv_heads": 8,
    "vocab_size": 152064, "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 80,
})  # fmt: skip

# The defaults of the tower's configuration class.
_TOWERS = {
    "qwen2_vl": {"depth": 32, "embed_dim": 1280, "hidden_size": 3584, "mlp_ratio": 4, "num_heads": 16,
                 "patch_size": 14},
    "qwen2_5_vl": {"depth": 32, "hidden_size": 3584, "intermediate_size": 3420, "num_heads": 16, "patch_size": 14,
                   "out_hidden_size": 3584},
    "qwen3_vl": {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16, "patch_size": 16,
                 "out_hidden_size": 3584, "num_position_embeddings": 2304},
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its tower."""
    check_class(hyperparameters, "Qwen2VL", "Qwen2_5_VL")
    nested = hyperparameters.settings.get("text_config") is not None
    text = hyperparameters.part("text_config") if nested else hyperparameters
    language = text_model(text, TEXT, tied=tied_anywhere(hyperparameters, text))
    visual = vision_tower(hyperparameters.part("vision_config"), "visual", hyperparameters.model_type)
    return joined(hyperparameters, "qwen2_vl", language, visual)


def vision_tower(
    vision: Hyperparameters, path: str, generation: str, deepstack: Sequence[int] = ()
) -> tuple[Placement, ...]:
    """The tower at `path` in the wiring of `generation` (`qwen2_vl`, `qwen2_5_vl` or `qwen3_vl`).

    Each of the `deepstack` mergers feeds one early layer of the language model; their number alone counts here.
    """
    vision = with_defaults(vision, _TOWERS[generation])
    newest, gated = generation == "qwen3_vl", generation == "qwen2_5_vl"
    hidden = vision.count("embed_dim" if generation == "qwen2_vl" else "hidden_size")
    output = vision.count("hidden_size" if generation == "qwen2_vl" else "out_hidden_size")
    inner = vision.count("mlp_ratio") * hidden if generation == "qwen2_vl" else vision.count("intermediate_size")
    heads, patch = vision.count("num_heads"), vision.count("patch_size")
    layers, block = range(vision.count("depth", most=MOST_LAYERS)), path + ".blocks.{layer}."
    norm = Norm(width=hidden, bias=not gated)
    attention = Attention(hidden_size=hidden, num_heads=heads, num_kv_heads=heads,
                          head_dim=vision.divided("head_dim", hidden, heads), names=("qkv", "proj"), qkv_bias=True,
                          output_bias=True, causal=False)  # fmt: skip
    up, down = ("linear_fc1", "linear_fc2") if newest else ("fc1", "fc2")
    plain = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up=up, down=down, bias=True)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, bias=True) if gated else plain
    patches = Convolution(kernel=(vision.count("temporal_patch_size", 2), patch, patch),
                          in_channels=vision.count("in_channels", 3), out_channels=hidden, bias=newest)  # fmt: skip
    wide = hidden * vision.count("spatial_merge_size", 2) ** 2
    joins, table, first, second = (
        (["norm"], [Placement(path + ".pos_embed", Embedding(rows=vision.count("num_position_embeddings"), width=hidden,
                                                             role="position_embedding"))], "linear_fc1", "linear_fc2")
        if newest else (["ln_q"], [], "mlp.0", "mlp.2")
    )  # fmt: skip
    merger, extra = path + ".merger.", path + ".deepstack_merger_list.{layer}."
    mergers: list[tuple[str, int, range | None]] = [(merger, hidden, None)]
    mergers += [(extra, wide, range(len(deepstack)))] if deepstack else []
    return tower((
        Placement(path + ".patch_embed.proj", patches),
        *table,
        Placement(block + "norm1", norm, layers),
        Placement(block + "norm2", norm, layers),
        Placement(block + "attn", attention, layers),
        Placement(block + "mlp", feed_forward, layers),
        *(placement for place, width, which in mergers for placement in (
            Placement(place + joins[0], replace(norm, width=width), which),
            Placement(place + first, Linear(in_features=wide, out_features=wide), which),
            Placement(place + second, Linear(in_features=wide, out_features=output), which),
        )),
    ))  # fmt: skip


FAMILY = Family(
    name="qwen2_vl",
    title="Qwen2-VL and Qwen2.5-VL",
    model_types=("qwen2_vl", "qwen2_5_vl"),
    gguf={},
    source="transformers models/qwen2_vl, models/qwen2_5_vl",
    build=build,
)
