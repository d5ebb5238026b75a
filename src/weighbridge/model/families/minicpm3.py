"""MiniCPM 3 and Youtu-LLM: dense decoders with latent attention, tied head.

Source: transformers `models/{minicpm3,youtu}/{configuration,modeling}_*.py` (5.x). MiniCPM 3 gives values as many
numbers a head as the width has for each where `v_head_dim` is missing or null; the cache is counted as the latent
vector and the rotary key, as DeepSeek's runtimes keep it.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Norm
from weighbridge.model.blocks.latent_attention import LatentAttention
from weighbridge.model.decoder import PRE_NORMS, feed_forward, number_of_layers, with_defaults
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import Hyperparameters

_DEFAULTS = {
    "minicpm3": {"q_lora_rank": 768, "kv_lora_rank": 256, "qk_nope_head_dim": 64, "qk_rope_head_dim": 32},
    "youtu": {"q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
              "v_head_dim": 128},
}  # fmt: skip
_PREFIXES = {"minicpm3": "MiniCPM3", "youtu": "Youtu"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder with one latent vector a token for keys and values."""
    hyperparameters = with_defaults(hyperparameters, _DEFAULTS[hyperparameters.model_type])
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    num_layers = number_of_layers(hyperparameters)
    layers, layer, norm = range(num_layers), "model.layers.{layer}.", Norm(width=hidden, bias=False)
    value = hyperparameters.optional_count("v_head_dim") or hyperparameters.divided("v_head_dim", hidden, num_heads)
    attention = LatentAttention(
        hidden_size=hidden, num_heads=num_heads, q_lora_rank=hyperparameters.optional_count("q_lora_rank"),
        kv_lora_rank=hyperparameters.count("kv_lora_rank"), v_head_dim=value,
        qk_nope_head_dim=hyperparameters.count("qk_nope_head_dim"),
        qk_rope_head_dim=hyperparameters.count("qk_rope_head_dim"), bias=hyperparameters.flag("attention_bias", False),
    )  # fmt: skip
    bias = hyperparameters.model_type == "minicpm3" and hyperparameters.flag("mlp_bias", False)
    head = language_head(hyperparameters, (_PREFIXES[hyperparameters.model_type],), tied=True)
    return Architecture(
        family="minicpm3",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("model.embed_tokens", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement(layer + "self_attn", attention, layers),
            Placement(layer + "mlp", feed_forward(hyperparameters, bias=bias), layers),
            *(Placement(layer + name, replace(norm, role=role), layers) for role, name in PRE_NORMS.items()),
            Placement("model.norm", replace(norm, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


FAMILY = Family(
    name="minicpm3",
    title="MiniCPM 3 and Youtu-LLM",
    model_types=("minicpm3", "youtu"),
    gguf={},
    source="transformers models/minicpm3, models/youtu",
    build=build,
)
