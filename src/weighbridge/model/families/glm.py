"""GLM-4 in the spelling of transformers: two key-value heads, biases on queries, keys and values, gate and up fused.

Source: transformers `models/{glm,glm4}/{configuration,modeling}_*.py` (5.x). GLM-4-0414 (`glm4`) adds a norm behind
attention and one behind the feed-forward block.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import FeedForward
from weighbridge.model.decoder import PRE_NORMS, attention, decoder, with_defaults
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters

_FOUR_NORMS = {**PRE_NORMS, "attention_post_norm": "post_self_attn_layernorm", "mlp_post_norm": "post_mlp_layernorm"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with two or four norms a layer."""
    hyperparameters = with_defaults(hyperparameters, {"num_kv_heads": 2, "head_dim": 128})
    four = hyperparameters.model_type == "glm4"
    mlp = FeedForward(hidden_size=hyperparameters.count("hidden_size"), up="gate_up_proj", fused=True,
                      intermediate_size=hyperparameters.count("intermediate_size"))  # fmt: skip
    heads = attention(hyperparameters, qkv_bias=hyperparameters.flag("attention_bias", True))
    return decoder(hyperparameters, "glm", ("Glm4" if four else "Glm",), heads, mlp,
                   norms=_FOUR_NORMS if four else PRE_NORMS)  # fmt: skip


FAMILY = Family(
    name="glm",
    title="GLM-4-9B and GLM-4-0414, Z1",
    model_types=("glm", "glm4"),
    gguf={},
    source="transformers models/glm, models/glm4",
    build=build,
)
