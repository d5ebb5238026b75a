"""Zamba and Zamba 2: Mamba mixers, and in some layers one attention block with shared weights ahead of the mixer.

Source: transformers `models/{zamba,zamba2}/{configuration,modeling}_*.py` (5.x). The shared block reads the layer's
input beside the token embedding, twice the width; a map `linear` of each such layer brings its output in. Zamba has one
shared block and the mixers of Mamba in heads; Zamba 2 has `num_mem_blocks` of them by turns, Mamba 2's mixers, and in
each shared block a low-rank adapter for each of its uses. A shared block is counted once and works in each layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.state_space import Mamba, Mamba2
from weighbridge.model.blocks.tied import Tied
from weighbridge.model.families.mamba import time_step_rank
from weighbridge.model.families.mamba2 import check_inner_size
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.mixture import LAYER, named_layers, natural
from weighbridge.model.tensors import Component

_MIXING, _HYBRID = ("mamba", "linear_attention"), "hybrid"


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Mixers, and shared attention blocks ahead of some of them."""
    newer = hyperparameters.model_type == "zamba2"
    if not hyperparameters.flag("tie_embeddings", True):
        read = f"{hyperparameters.source} unties the head, and with it, in the reference, the shared blocks"
        raise ConfigError(read, "tied weights", "ask for support of this variant")
    hidden = hyperparameters.count("hidden_size")
    kinds = _kinds(hyperparameters, newer)
    hybrid = [layer for layer, kind in enumerate(kinds) if kind == _HYBRID]
    plain = [layer for layer, kind in enumerate(kinds) if kind != _HYBRID]
    mixer: Block = _mamba2(hyperparameters) if newer else _mamba(hyperparameters)
    heads, feed_forward = _attention(hyperparameters), _feed_forward(hyperparameters, newer)
    norm = Norm(width=hidden, bias=False, role="mixer_norm")
    parts: dict[str, Block] = {
        "self_attn": heads,
        "feed_forward": feed_forward,
        "input_layernorm": Norm(width=heads.hidden_size, bias=False, role="attention_norm"),
        "pre_ff_layernorm": Norm(width=hidden, bias=False, role="mlp_norm"),
    }
    shared = "shared_transformer" if newer else "shared_transf"
    number = hyperparameters.count("num_mem_blocks", 1) if newer else 1
    head = language_head(hyperparameters, ("Zamba2",) if newer else ("Zamba",), tied=True)
    linear = Linear(in_features=hidden, out_features=hidden, bias=False, role="shared_output")
    placements = (
        Placement("model.embed_tokens", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
        Placement(LAYER + "mamba", mixer, plain),
        Placement(LAYER + "input_layernorm", norm, plain),
        *(_uses(parts, LAYER + shared, hybrid, number)),
        *(_adapters(hyperparameters, heads, feed_forward, LAYER + shared, hybrid, number) if newer else ()),
        Placement(LAYER + "linear", linear, hybrid),
        Placement(LAYER + "mamba_decoder.mamba", mixer, hybrid),
        Placement(LAYER + "mamba_decoder.input_layernorm", norm, hybrid),
        Placement("model.final_layernorm", Norm(width=hidden, bias=False, role="final_norm")),
        *head.placements,
    )
    return Architecture(
        family="zamba",
        model_type=hyperparameters.model_type,
        placements=tuple(placement for placement in placements if placement.layers is None or len(placement.layers)),
        num_layers=len(kinds),
        num_heads=heads.num_heads,
        num_kv_heads=heads.num_kv_heads,
        base_prefix="model.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


def _uses(parts: dict[str, Block], path: str, hybrid: Sequence[int], number: int) -> list[Placement]:
    """The shared blocks where they stand first, and every further use of them, by turns."""
    found = []
    for turn, layer in enumerate(hybrid):
        for name, block in parts.items():
            owner = f"{path.format(layer=hybrid[turn % number])}.{name}"
            found.append(
                Placement(f"{path}.{name}", block if turn < number else Tied(block=block, owner=owner), [layer])
            )
    return found


def _adapters(
    hyperparameters: Hyperparameters, heads: Attention, feed_forward: FeedForward, path: str, hybrid: Sequence[int],
    number: int,
) -> list[Placement]:  # fmt: skip
    """One adapter for each use of a shared block, kept with the block, each used by one layer."""
    rank, hidden = hyperparameters.count("adapter_rank", 128), feed_forward.hidden_size
    sizes = [("feed_forward.gate_up_proj_adapter_list", hidden, 2 * feed_forward.intermediate_size, Component.MLP)]
    if hyperparameters.flag("use_shared_attention_adapter", False):
        width = heads.hidden_size
        sizes += [(f"self_attn.linear_{name}_adapter_list", width, width, Component.ATTENTION) for name in "qkv"]
    return [
        Placement(f"{path}.{name}.{turn}.{part}", Linear(in_features=inputs, out_features=outputs, bias=False,
                                                         role="adapter", component=component), [hybrid[turn % number]])
        for turn in range(len(hybrid))
        for name, width, wide, component in sizes
        for part, inputs, outputs in ((0, width, rank), (1, rank, wide))
    ]  # fmt: skip


def _kinds(hyperparameters: Hyperparameters, newer: bool) -> list[str]:
    """The kind of each layer, by the list or by the reference's rule."""
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    kinds = named_layers(hyperparameters, "layers_block_type", num_layers, (*_MIXING, _HYBRID))
    if kinds is not None:
        return kinds
    if newer or num_layers < 3:
        raise ConfigError(f"{hyperparameters.source} has no layers_block_type", "the kind of every layer",
                          "use the model's full config.json")  # fmt: skip
    period, offset = hyperparameters.count("attn_layer_period", 6), natural(hyperparameters, "attn_layer_offset", 4)
    rest = [_HYBRID if layer % period == offset else _MIXING[0] for layer in range(num_layers - 3)]
    return [_MIXING[0], _MIXING[0], _HYBRID, *rest]


def _attention(hyperparameters: Hyperparameters) -> Attention:
    """Attention over twice the width, back to the width."""
    hyperparameters.refuse("head_dim", "where this family has attention_head_dim")
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    absent = "num_kv_heads" not in hyperparameters.settings and hyperparameters.model_type == "zamba"
    num_kv_heads = hyperparameters.count("num_kv_heads", 16 if absent else num_heads)
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    head_dim = hyperparameters.count("attention_head_dim", 2 * hidden // num_heads)
    return Attention(
        hidden_size=hyperparameters.count("attention_hidden_size", 2 * hidden), num_heads=num_heads,
        num_kv_heads=num_kv_heads, head_dim=hyperparameters.derived("head_dim", head_dim),
        output_size=hidden,
    )  # fmt: skip


def _feed_forward(hyperparameters: Hyperparameters, newer: bool) -> FeedForward:
    hidden = hyperparameters.count("hidden_size")
    inner = hyperparameters.count("intermediate_size", 4 * hidden if newer else None)
    plain = FeedForward(hidden_size=hidden, intermediate_size=inner)
    return replace(plain, gate=None, up="gate_up_proj", fused=True,
                   bias=hyperparameters.flag("add_bias_linear", False)) if newer else plain  # fmt: skip


def _mamba(hyperparameters: Hyperparameters) -> Mamba:
    hidden = hyperparameters.count("hidden_size")
    heads, inner = hyperparameters.count("n_mamba_heads", 2), hyperparameters.count("mamba_expand", 2) * hidden
    hyperparameters.divided("width of a mixer's head", inner, heads)
    return Mamba(
        hidden_size=hidden,
        inner_size=inner,
        state_size=hyperparameters.count("mamba_d_state", 16),
        time_step_rank=time_step_rank(hyperparameters, "mamba_dt_rank"),
        conv_kernel=hyperparameters.count("mamba_d_conv", 4),
        bias=hyperparameters.flag("mamba_proj_bias", False),
        conv_bias=hyperparameters.flag("mamba_conv_bias", True),
        heads=heads,
    )


def _mamba2(hyperparameters: Hyperparameters) -> Mamba2:
    hyperparameters.refuse("lora_rank", "a spelling of the first published files, which the reference does not read")
    hidden = hyperparameters.count("hidden_size")
    heads, inner = hyperparameters.count("n_mamba_heads", 8), hyperparameters.count("mamba_expand", 2) * hidden
    found = Mamba2(
        hidden_size=hidden,
        num_heads=heads,
        head_dim=hyperparameters.count("mamba_headdim", inner // heads),
        num_groups=hyperparameters.count("mamba_ngroups", 1),
        state_size=hyperparameters.count("mamba_d_state", 64),
        conv_kernel=hyperparameters.count("mamba_d_conv", 4),
        bias=hyperparameters.flag("add_bias_linear", False),
    )
    check_inner_size(hyperparameters, found, inner)
    return found


FAMILY = Family(
    name="zamba",
    title="Zamba and Zamba 2",
    model_types=("zamba", "zamba2"),
    gguf={},
    source="transformers models/zamba, models/zamba2",
    build=build,
)
