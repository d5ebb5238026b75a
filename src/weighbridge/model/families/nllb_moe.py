"""NLLB-MoE: M2M-100's encoder-decoder with routed experts, two a token, in every so many layers of both sides.

Source: transformers `models/nllb_moe/{configuration,modeling}_nllb_moe.py` (NLLB Team 2022). Positions are sines that
are not stored.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Experts, FeedForward, Linear, Norm
from weighbridge.model.encoder_decoder import Stack, stack
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_EXPERTS, Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder with the tied head, or without one."""
    suffix = head_class(hyperparameters, ("NllbMoe",), "ForConditionalGeneration")
    if suffix not in ("ForConditionalGeneration", "Model"):
        raise unknown_class(hyperparameters, ("NllbMoeForConditionalGeneration", "NllbMoeModel"))
    if not hyperparameters.flag("tie_embeddings", True):
        raise ConfigError(f"{hyperparameters.source} shares one token table and unties it",
                          "shared tables tied, as in published files", "correct tie_word_embeddings")  # fmt: skip
    base = "" if suffix == "Model" else "model."
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    positions = hyperparameters.count("max_positions", 1024)
    encoder = stack(hyperparameters, base, "encoder")
    decoder = stack(hyperparameters, base, "decoder", positions=positions, offset=encoder.num_layers)
    decoder = replace(decoder, cross_name="cross_attention")
    shared = f"{base}shared.weight"
    copy = Embedding(rows=vocab, width=hidden, tied_to=shared)
    placements = [Placement(f"{base}shared", Embedding(rows=vocab, width=hidden))]
    for side, role in ((encoder, "encoder_norm"), (decoder, "final_norm")):
        placements += [
            Placement(f"{side.path}.embed_tokens", copy),
            *side.attention(),
            *_feed_forward(hyperparameters, side),
            side.at("ff_layer_norm", Norm(width=hidden, role="mlp_norm")),
            Placement(f"{side.path}.layer_norm", Norm(width=hidden, role=role)),
        ]
    if suffix != "Model":
        head = Linear(in_features=hidden, out_features=vocab, bias=False, role="head", component=Component.HEAD,
                      tied_to=shared)  # fmt: skip
        placements.append(Placement("lm_head", head))
    return Architecture(
        family="nllb_moe",
        model_type=hyperparameters.model_type,
        placements=tuple(placements),
        num_layers=encoder.num_layers + decoder.num_layers,
        num_heads=decoder.num_heads,
        num_kv_heads=decoder.num_heads,
        num_experts=_num_experts(hyperparameters),
        base_prefix="model.",
        tie_embeddings=suffix != "Model",
        notes=(f"cross-attention is kept for {positions} positions of the encoder, the most it takes",),
    )


def _num_experts(hyperparameters: Hyperparameters) -> int:
    number = hyperparameters.count("num_experts", 128, most=MOST_EXPERTS)
    hyperparameters.check_experts(number, 2)
    return number


def _feed_forward(hyperparameters: Hyperparameters, side: Stack) -> list[Placement]:
    """The dense layers, and the experts in every so many of them."""
    step = hyperparameters.count(f"{side.path.rpartition('.')[2]}_sparse_step", 4)
    sparse = [layer for layer in side.layers if (layer + 1) % step == 0]
    dense = [layer for layer in side.layers if layer not in sparse]
    experts = Experts(
        hidden_size=side.hidden_size, intermediate_size=side.intermediate_size,
        num_experts=_num_experts(hyperparameters), experts_per_token=2, router="router.classifier",
        names=("experts.expert_{expert}.fc1", "experts.expert_{expert}.fc2"), expert_bias=True,
        router_bias=hyperparameters.flag("router_bias", False),
    )  # fmt: skip
    block = FeedForward(hidden_size=side.hidden_size, intermediate_size=side.intermediate_size, gate=None, up="fc1",
                        down="fc2", bias=True)  # fmt: skip
    path = f"{side.path}.layers.{{layer}}.ffn"
    placements = [Placement(path, block, dense, offset=side.offset)] if dense else []
    return [*placements, *([Placement(path, experts, sparse, offset=side.offset)] if sparse else [])]


FAMILY = Family(
    name="nllb_moe",
    title="NLLB-MoE 54B",
    model_types=("nllb-moe",),
    gguf={},
    source="transformers models/nllb_moe",
    build=build,
)
