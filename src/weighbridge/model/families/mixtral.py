"""Mixtral: Llama's wiring with eight routed experts, two a token, in place of the feed-forward block.

Source: transformers `models/mixtral/{configuration,modeling}_mixtral.py`; tensor names are those of the published
checkpoints (`block_sparse_moe.experts.{expert}.w1`), which transformers 5 merges when it loads them.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Experts
from weighbridge.model.families.llama import wired
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import MOST_EXPERTS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with routed experts; 8 and 2 are the defaults of the reference class."""
    experts = Experts(
        hidden_size=hyperparameters.count("hidden_size"),
        intermediate_size=hyperparameters.count("intermediate_size"),
        num_experts=hyperparameters.count("num_experts", 8, most=MOST_EXPERTS),
        experts_per_token=hyperparameters.count("experts_per_token", 2),
    )
    hyperparameters.check_experts(experts.num_experts, experts.experts_per_token)
    return wired(hyperparameters, "mixtral", ("Mixtral",), experts, "block_sparse_moe")


FAMILY = Family(
    name="mixtral",
    title="Mixtral 8x7B, 8x22B and their fine-tunes",
    model_types=("mixtral",),
    gguf={
        "llama": GgufMeaning("mixtral", "MixtralForCausalLM", routed=True)
    },  # llama.cpp spells it `llama`, with experts
    source="transformers models/mixtral",
    build=build,
)
