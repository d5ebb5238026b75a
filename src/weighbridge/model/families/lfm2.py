"""LFM2: gated short convolutions with attention in some layers, dense or with experts after the first layers.

Source: transformers `models/{lfm2,lfm2_moe}/{configuration,modeling}_*.py` (5.x); tensor names are those of published
checkpoints. The dense models adjust the inner width: two thirds of it, times a factor, rounded up to a multiple. The
norm before the head is called `embedding_norm`; the bias that balances the experts is a buffer.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Experts, FeedForward
from weighbridge.model.blocks.short_convolution import ShortConvolution
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, attention, decoder, head_norms, named_layers, natural, whole_numbers

_MATRICES = ("w1", "w3", "w2")


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Short convolution or attention, then a feed-forward block or experts."""
    hyperparameters = _spelt(hyperparameters)
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    is_routed = hyperparameters.model_type == "lfm2_moe"
    attending = _attending(hyperparameters, num_layers, is_routed)
    mixing = [layer for layer in range(num_layers) if layer not in attending]
    heads = replace(attention(hyperparameters, num_kv_heads=8), names=("q_proj", "k_proj", "v_proj", "out_proj"))
    convolution = ShortConvolution(hidden_size=hidden, conv_kernel=hyperparameters.count("conv_L_cache", 3),
                                   bias=hyperparameters.flag("conv_bias", False))  # fmt: skip
    first = min(num_layers, natural(hyperparameters, "num_dense_layers", 2)) if is_routed else num_layers
    inner = hyperparameters.count("intermediate_size", 7168 if is_routed else 12288)
    gate, up, down = _MATRICES
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner if is_routed else _adjusted(
        hyperparameters, inner), gate=gate, up=up, down=down)  # fmt: skip
    body = [
        Placement(LAYER + "conv", convolution, mixing),
        Placement(LAYER + "self_attn", heads, attending),
        *head_norms(heads.head_dim, heads.head_dim, attending, names=("q_layernorm", "k_layernorm")),
        Placement(LAYER + "feed_forward", feed_forward, range(first)),
    ]
    num_experts = 0
    if is_routed:
        experts = _experts(hyperparameters)
        num_experts = experts.num_experts
        body.append(Placement(LAYER + "feed_forward", experts, range(first, num_layers)))
    return decoder(hyperparameters, "lfm2", (), body, attention=heads, num_experts=num_experts,
                   norms=("operator_norm", "ffn_norm"), final="model.embedding_norm",
                   head=language_head(hyperparameters, ("Lfm2", "Lfm2Moe"), tied=True))  # fmt: skip


def _spelt(hyperparameters: Hyperparameters) -> Hyperparameters:
    """The settings with the family's own spellings, which go before the usual ones."""
    settings = dict(hyperparameters.settings)
    for own, usual in (("tie_embedding", "tie_embeddings"), ("block_ff_dim", "intermediate_size")):
        if own in settings:
            settings[usual] = settings[own]
    return replace(hyperparameters, settings=settings)


def _attending(hyperparameters: Hyperparameters, num_layers: int, is_routed: bool) -> list[int]:
    kinds = named_layers(hyperparameters, "layer_types", num_layers, ("conv", "full_attention"))
    if kinds is not None:
        return [layer for layer, kind in enumerate(kinds) if kind == "full_attention"]
    if is_routed:
        raise ConfigError(f"{hyperparameters.source} has no layer_types", "the kind of every layer",
                          "use the model's full config.json")  # fmt: skip
    listed = whole_numbers(hyperparameters, "full_attn_idxs")
    return [layer for layer in range(num_layers) if listed is None or layer in listed]


def _adjusted(hyperparameters: Hyperparameters, inner: int) -> int:
    """The inner width of a dense layer, as the reference computes it."""
    if not hyperparameters.flag("block_auto_adjust_ff_dim", True):
        return inner
    inner = hyperparameters.derived("the inner width", 2 * inner // 3)
    factor = hyperparameters.settings.get("block_ffn_dim_multiplier", 1.0)
    if factor is None:
        return inner
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1000:
        read = f"{hyperparameters.source} has block_ffn_dim_multiplier = {repr(factor)[:60]}"
        raise ConfigError(read, "a number above zero", "correct the key")
    multiple = hyperparameters.count("block_multiple_of", 256)
    return hyperparameters.derived("the inner width", -(-int(factor * inner) // multiple) * multiple)


def _experts(hyperparameters: Hyperparameters) -> Experts:
    num_experts = hyperparameters.count("num_experts", 32, most=MOST_EXPERTS)
    experts_per_token = hyperparameters.count("experts_per_token", 4)
    hyperparameters.check_experts(num_experts, experts_per_token)
    return Experts(
        hidden_size=hyperparameters.count("hidden_size"), num_experts=num_experts, experts_per_token=experts_per_token,
        intermediate_size=hyperparameters.count("moe_intermediate_size", 1792),
        correction="expert_bias" if hyperparameters.flag("use_expert_bias", True) else None,
    )  # fmt: skip


FAMILY = Family(
    name="lfm2",
    title="LFM2, dense and with experts",
    model_types=("lfm2", "lfm2_moe"),
    gguf={},
    source="transformers models/lfm2, models/lfm2_moe",
    build=build,
)
