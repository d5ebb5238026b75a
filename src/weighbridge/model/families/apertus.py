"""Apertus: norms on each head's queries and keys, and a plain feed-forward block whose activation learns two numbers.

Source: transformers `models/apertus/{configuration,modeling}_apertus.py` (5.x), `activations.py` for xIELU.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Block, Norm, Vector
from weighbridge.model.decoder import attention, decoder, feed_forward
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_NORMS = {"attention_norm": "attention_layernorm", "mlp_norm": "feedforward_layernorm"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder; without the xIELU activation it learns nothing in it."""
    bias = hyperparameters.flag("attention_bias", False)
    heads = attention(hyperparameters, qkv_bias=bias, output_bias=bias)
    norm = Norm(width=heads.head_dim, bias=False)
    slopes: list[tuple[str, Block]] = []
    if hyperparameters.settings.get("hidden_act", "xielu") == "xielu":
        slopes = [("mlp.act_fn", Vector(name=name, width=1, role="activation", component=Component.MLP))
                  for name in ("alpha_p", "alpha_n")]  # fmt: skip
    return decoder(hyperparameters, "apertus", ("Apertus",), heads, feed_forward(hyperparameters, gate=None),
                   norms=_NORMS, query_norm=norm, key_norm=norm, in_layers=slopes)  # fmt: skip


FAMILY = Family(
    name="apertus",
    title="Apertus",
    model_types=("apertus",),
    gguf={},
    source="transformers models/apertus",
    build=build,
)
