"""OLMo 2 and 3: norms behind attention and feed-forward, and on all queries and keys of a layer together.

Source: transformers `models/{olmo2,olmo3}/{configuration,modeling}_*.py` (5.x). In OLMo 3 every fourth layer has the
full context, the others a window.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Norm
from weighbridge.model.decoder import (
    POST_NORMS,
    attention,
    decoder,
    feed_forward,
    number_of_layers,
    sliding_but_every,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder, with windows in OLMo 3."""
    windows = None
    if hyperparameters.model_type == "olmo3":
        hyperparameters = with_defaults(hyperparameters, {"sliding_window": 4096})
        windows = windows_by_type(hyperparameters, sliding_but_every(4, number_of_layers(hyperparameters)))
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    return decoder(
        hyperparameters, "olmo2", ("Olmo3" if windows else "Olmo2",), heads, feed_forward(hyperparameters),
        norms=POST_NORMS, query_norm=Norm(width=heads.num_heads * heads.head_dim, bias=False),
        key_norm=Norm(width=heads.num_kv_heads * heads.head_dim, bias=False), windows=windows,
        gguf_architecture="olmo2",
    )  # fmt: skip


FAMILY = Family(
    name="olmo2",
    title="OLMo 2 and OLMo 3",
    model_types=("olmo2", "olmo3"),
    gguf={},  # OLMo 2 and 3 have one architecture there, and no key tells which layers have the window
    source="transformers models/olmo2, models/olmo3",
    build=build,
)
