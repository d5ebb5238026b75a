"""EXAONE 4: norms behind attention and feed-forward, and on each head's queries and keys.

Source: transformers `models/exaone4/{configuration,modeling}_exaone4.py` (5.x). Where `layer_types` does not say,
`sliding_window_pattern` does: a number n leaves each n-th layer the full context; letters (`LLLG`) repeat over the
layers, of which the last one is global, as in the published modelling code.
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

_DEFAULTS = {"num_kv_heads": 32, "sliding_window": 4096, "sliding_window_pattern": 4}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with windows in most layers of the larger model."""
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS)
    heads = attention(hyperparameters)
    norm = Norm(width=heads.head_dim, bias=False)
    return decoder(hyperparameters, "exaone4", ("Exaone4",), heads, feed_forward(hyperparameters), norms=POST_NORMS,
                   query_norm=norm, key_norm=norm, gguf_architecture="exaone4",
                   windows=windows_by_type(hyperparameters, _types(hyperparameters)))  # fmt: skip


def _types(hyperparameters: Hyperparameters) -> list[str]:
    """The type of each layer where no key lists them."""
    num_layers, pattern = number_of_layers(hyperparameters), hyperparameters.settings.get("sliding_window_pattern")
    if hyperparameters.settings.get("sliding_window") is None or pattern is None:
        return ["full_attention"] * num_layers
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        local = [pattern[layer % len(pattern)] == "L" and layer != num_layers - 1 for layer in range(num_layers)]
        return ["sliding_attention" if here else "full_attention" for here in local]
    return sliding_but_every(hyperparameters.count("sliding_window_pattern"), num_layers)


FAMILY = Family(
    name="exaone4",
    title="EXAONE 4",
    model_types=("exaone4",),
    gguf={},  # no key tells which layers have the window
    source="transformers models/exaone4",
    build=build,
)
