"""Phi-3 and Phi-4: Llama's wiring with queries, keys and values in one matrix, gate and up in another.

Source: transformers `models/phi3/{configuration,modeling}_phi3.py` (5.x). Every layer has the window, where there is
one narrower than the longest context. Phi-4-mini is spelled like it, with a tied head.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import FeedForward
from weighbridge.model.decoder import attention, decoder, number_of_layers
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with fused projections."""
    window = hyperparameters.optional_count("sliding_window")
    if window is not None and window >= hyperparameters.count("max_positions", window + 1):
        window = None  # Phi-3.5-mini: wider than the longest context
    mlp = FeedForward(hidden_size=hyperparameters.count("hidden_size"), up="gate_up_proj", fused=True,
                      intermediate_size=hyperparameters.count("intermediate_size"))  # fmt: skip
    return decoder(hyperparameters, "phi3", ("Phi3",), attention(hyperparameters, names=("qkv_proj", "o_proj")), mlp,
                   windows=[(window, range(number_of_layers(hyperparameters)))], gguf_architecture="phi3")  # fmt: skip


FAMILY = Family(
    name="phi3",
    title="Phi-3, Phi-3.5-mini, Phi-4 and Phi-4-mini",
    model_types=("phi3",),
    gguf={"phi3": GgufMeaning("phi3", "Phi3ForCausalLM")},
    source="transformers models/phi3",
    build=build,
)
