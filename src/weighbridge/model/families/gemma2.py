"""Gemma 2 and VaultGemma: norms before and after both parts of a layer, every second layer with a full context.

Source: transformers `models/{gemma2,vaultgemma}/{configuration,modeling}_*.py` (5.x). VaultGemma leaves out the norms
behind the parts.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.decoder import (
    SANDWICH_NORMS,
    attention,
    decoder,
    feed_forward,
    number_of_layers,
    sliding_but_every,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters

_DEFAULTS = {"head_dim": 256, "num_kv_heads": 4, "sliding_window": 4096}
_VAULT = {"attention_norm": "input_layernorm", "mlp_norm": "pre_feedforward_layernorm"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with windows in the first, third and further odd layers."""
    hyperparameters.refuse("use_bidirectional_attention", "which this decoder does not describe")
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS)
    vault = hyperparameters.model_type == "vaultgemma"
    bias = hyperparameters.flag("attention_bias", False)
    return decoder(
        hyperparameters, "gemma2", ("VaultGemma",) if vault else ("Gemma2",),
        attention(hyperparameters, qkv_bias=bias, output_bias=bias), feed_forward(hyperparameters),
        norms=_VAULT if vault else SANDWICH_NORMS, tied=True,
        windows=windows_by_type(hyperparameters, sliding_but_every(2, number_of_layers(hyperparameters))),
        gguf_architecture=None if vault else "gemma2",
    )  # fmt: skip


FAMILY = Family(
    name="gemma2",
    title="Gemma 2, ShieldGemma and VaultGemma",
    model_types=("gemma2", "vaultgemma"),
    gguf={"gemma2": GgufMeaning("gemma2", "Gemma2ForCausalLM")},
    source="transformers models/gemma2, models/vaultgemma",
    build=build,
)
