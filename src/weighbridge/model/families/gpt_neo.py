"""GPT-Neo: GPT-2's wiring with separate projections, whose inputs have no biases, and local attention in some layers.

Source: transformers `models/gpt_neo/{configuration,modeling}_gpt_neo.py`. `attention_types` lists patterns of global
and local layers with how often each is repeated; local layers attend to `window_size` tokens (default 256).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters

_DEFAULT = [[["global", "local"], 12]]


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with its language head, a classifier, or none."""
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    num_layers, num_heads = hyperparameters.count("num_layers", most=MOST_LAYERS), hyperparameters.count("num_heads")
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("q_proj", "k_proj", "v_proj", "out_proj"), output_bias=True,
    )  # fmt: skip
    inner = hyperparameters.count("intermediate_size", 4 * hidden)
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="c_fc", down="c_proj",
                               bias=True)  # fmt: skip
    head = language_head(hyperparameters, ("GPTNeo",), embedding="transformer.wte.weight", tied=True)
    layers, layer, norm = range(num_layers), "transformer.h.{layer}.", Norm(width=hidden)
    return Architecture(
        family="gpt_neo",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("transformer.wte", Embedding(rows=vocab, width=hidden)),
            Placement("transformer.wpe", Embedding(rows=hyperparameters.count("max_positions", 2048), width=hidden,
                                                   role="position_embedding")),
            Placement(layer + "ln_1", replace(norm, role="attention_norm"), layers),
            *(Placement(layer + "attn.attention", replace(attention, window=window), part)
              for window, part in _windows(hyperparameters, num_layers)),
            Placement(layer + "ln_2", replace(norm, role="mlp_norm"), layers),
            Placement(layer + "mlp", feed_forward, layers),
            Placement("transformer.ln_f", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="transformer.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )  # fmt: skip


def _windows(hyperparameters: Hyperparameters, num_layers: int) -> list[tuple[int | None, Sequence[int]]]:
    """Which layers have which attention window."""
    written: Any = hyperparameters.settings.get("attention_types") or _DEFAULT
    try:
        repeated = (kind for pattern, times in written if pattern for _ in range(times) for kind in pattern)
        kinds = list(islice(repeated, num_layers + 1))
    except (TypeError, ValueError):
        kinds = []
    if len(kinds) != num_layers or any(kind not in ("global", "local") for kind in kinds):
        read = f"{hyperparameters.source} has attention_types = {repr(written)[:60]} for {num_layers} layers"
        raise ConfigError(read, "patterns of global and local that fill the layers", "correct the key")
    window = hyperparameters.count("window_size", 256)
    parts = ((span, [i for i in range(num_layers) if kinds[i] == kind])
             for kind, span in (("global", None), ("local", window)))  # fmt: skip
    return [(span, part) for span, part in parts if part]


FAMILY = Family(
    name="gpt_neo",
    title="GPT-Neo 125M, 1.3B, 2.7B",
    model_types=("gpt_neo",),
    gguf={},
    source="transformers models/gpt_neo",
    build=build,
)
