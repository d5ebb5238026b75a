"""MiniMax-Text-01 and M1: lightning attention with a constant state, full attention in every eighth layer, experts.

Source: transformers `models/minimax/{configuration,modeling}_minimax.py` and `modeling_minimax_text_01.py` beside the
original weights. The original lists its layers in `attn_type_list` (1 is full attention), transformers in
`layer_types`. Lightning attention keeps one e x e matrix for each head whatever the context (arXiv 2501.08313).
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model import mixture
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts
from weighbridge.model.blocks.lightning_attention import LightningAttention
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with both kinds of attention, and routed experts in every layer."""
    hyperparameters.refuse("shared_intermediate_size", "which adds an expert that this family does not describe")
    hyperparameters.refuse("sliding_window", "which this family does not describe")
    attention = mixture.attention(hyperparameters, num_kv_heads=8)
    num_experts, active = mixture.routing(hyperparameters, 8, 2)
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    experts = Experts(
        hidden_size=attention.hidden_size, intermediate_size=hyperparameters.count("intermediate_size", 14336),
        num_experts=num_experts, experts_per_token=active,
    )  # fmt: skip
    lightning = LightningAttention(hidden_size=attention.hidden_size, num_heads=attention.num_heads,
                                   head_dim=attention.head_dim)  # fmt: skip
    full, linear = _layers(hyperparameters, num_layers)
    body = [
        Placement(LAYER + "self_attn", attention, full),
        Placement(LAYER + "self_attn", lightning, linear),
        Placement(LAYER + "block_sparse_moe", experts, range(num_layers)),
    ]
    prefixes = ("MiniMax", "MiniMaxText01", "MiniMaxM1")
    return mixture.decoder(hyperparameters, "minimax", prefixes, body, attention=attention, num_experts=num_experts)


def _layers(hyperparameters: Hyperparameters, num_layers: int) -> tuple[list[int], list[int]]:
    """The layers with full attention and those with lightning attention."""
    kinds = mixture.named_layers(hyperparameters, "layer_types", num_layers, ("full_attention", "linear_attention"))
    listed = mixture.whole_numbers(hyperparameters, "attn_type_list")
    if listed is not None:
        if len(listed) != num_layers or not set(listed) <= {0, 1}:
            raise ConfigError(f"{hyperparameters.source} has attn_type_list = {repr(listed)[:60]}",
                              f"{num_layers} entries, each 0 or 1", "correct the key")  # fmt: skip
        named = ["full_attention" if kind else "linear_attention" for kind in listed]
        if kinds not in (None, named):
            raise ConfigError(f"{hyperparameters.source} has layer_types and attn_type_list that differ",
                              "one order of layers", "remove the wrong one")  # fmt: skip
        kinds = named
    if kinds is None and hyperparameters.model_type != "minimax":
        raise ConfigError(f"{hyperparameters.source} has no attn_type_list", "the key with 0 or 1 for each layer",
                          "use the model's full config.json")  # fmt: skip
    kinds = kinds or ["linear_attention" if layer % 2 else "full_attention" for layer in range(num_layers)]
    chosen = dict(mixture.grouped(kinds))
    return list(chosen.get("full_attention", ())), list(chosen.get("linear_attention", ()))


FAMILY = Family(
    name="minimax",
    title="MiniMax-Text-01 and MiniMax-M1",
    model_types=("minimax", "minimax_text_01", "minimax_m1"),
    gguf={},
    source="transformers models/minimax; modeling_minimax_text_01.py of MiniMaxAI/MiniMax-Text-01",
    build=build,
)
