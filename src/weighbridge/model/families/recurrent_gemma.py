"""RecurrentGemma: real-gated linear recurrences, with sliding attention in every third layer, tied head.

Source: transformers `models/recurrent_gemma/{configuration,modeling}_recurrent_gemma.py` (5.x). `block_types` repeats
over the layers, `intermediate_size` counts gate and up together, and the output projections have biases.
"""

from __future__ import annotations

from itertools import cycle, islice

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, FeedForward
from weighbridge.model.blocks.gated_recurrence import GatedRecurrence
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, decoder

_DEFAULT = ("recurrent", "recurrent", "attention")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Recurrence or attention, then a feed-forward block."""
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    recurrent_size = hyperparameters.count("lru_width", hidden)
    hyperparameters.divided("width of a block", recurrent_size, num_heads)
    num_kv_heads = hyperparameters.count("num_kv_heads", num_heads)
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    heads = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_kv_heads, output_bias=True,
        head_dim=hyperparameters.optional_count("head_dim") or hyperparameters.divided("head_dim", hidden, num_heads),
        qkv_bias=hyperparameters.flag("attention_bias", False),
        window=hyperparameters.count("attention_window_size", 2048),
    )  # fmt: skip
    recurrence = GatedRecurrence(hidden_size=hidden, recurrent_size=recurrent_size, num_blocks=num_heads,
                                 conv_kernel=hyperparameters.count("conv1d_width", 4))  # fmt: skip
    inner = hyperparameters.derived("the inner width", hyperparameters.count("intermediate_size") // 2)
    kinds = list(islice(cycle(_block_types(hyperparameters)), num_layers))
    body = (
        Placement(LAYER + "temporal_block", recurrence, [n for n, kind in enumerate(kinds) if kind == "recurrent"]),
        Placement(LAYER + "temporal_block", heads, [n for n, kind in enumerate(kinds) if kind == "attention"]),
        Placement(LAYER + "mlp_block", FeedForward(hidden_size=hidden, intermediate_size=inner, bias=True),
                  range(num_layers)),
    )  # fmt: skip
    return decoder(hyperparameters, "recurrent_gemma", (), body, attention=heads, num_experts=0,
                   norms=("temporal_pre_norm", "channel_pre_norm"), final="model.final_norm",
                   head=language_head(hyperparameters, ("RecurrentGemma",), tied=True))  # fmt: skip


def _block_types(hyperparameters: Hyperparameters) -> list[str]:
    value = hyperparameters.settings.get("block_types", _DEFAULT)
    valid = isinstance(value, list | tuple) and 0 < len(value) <= MOST_LAYERS
    if not valid or not all(kind in _DEFAULT for kind in value):
        raise ConfigError(f"{hyperparameters.source} has block_types = {repr(value)[:60]}",
                          "a list of recurrent and attention", "correct the key")  # fmt: skip
    return list(value)


FAMILY = Family(
    name="recurrent_gemma",
    title="RecurrentGemma",
    model_types=("recurrent_gemma",),
    gguf={},
    source="transformers models/recurrent_gemma",
    build=build,
)
