"""Nemotron-H and Nemotron 3: one part a layer, by a pattern of letters, each after one norm.

`M` is a Mamba 2 mixer, `*` attention without biases, `-` a plain feed-forward block, `E` experts with shared experts,
which may work in a latent narrower than the model. Source: transformers
`models/nemotron_h/{configuration,modeling}_nemotron_h.py` (5.x). Tensor names are those of published checkpoints, whose
body is `backbone`. The mixer's width is that of its heads, whatever `expand` says.
"""

from __future__ import annotations

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, Experts, FeedForward, Linear, Norm
from weighbridge.model.blocks.state_space import Mamba2
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_LAYER = "backbone.layers.{layer}."
_KINDS = {"mamba": "M", "linear_attention": "M", "attention": "*", "full_attention": "*", "mlp": "-", "moe": "E"}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Norm and part, layer by layer of the pattern."""
    hyperparameters.refuse("attention_bias", "which the reference ignores")
    hyperparameters.refuse("tie_embeddings", "which the reference ignores")
    hidden = hyperparameters.count("hidden_size")
    pattern = _pattern(hyperparameters)
    attention = _attention(hyperparameters)
    by_kind = {kind: [layer for layer, found in enumerate(pattern) if found == kind] for kind in "M*-E"}
    num_experts = _num_experts(hyperparameters) if by_kind["E"] else 0
    body = [
        *([Placement(_LAYER + "mixer", _mixer(hyperparameters), by_kind["M"])] if by_kind["M"] else []),
        *([Placement(_LAYER + "mixer", attention, by_kind["*"])] if by_kind["*"] else []),
        *([Placement(_LAYER + "mixer", _feed_forward(hyperparameters), by_kind["-"])] if by_kind["-"] else []),
        *(_experts(hyperparameters, by_kind["E"]) if by_kind["E"] else []),
    ]
    head = language_head(hyperparameters, ("NemotronH",), embedding="backbone.embeddings.weight")
    norm = Norm(width=hidden, bias=False, role="attention_norm")
    return Architecture(
        family="nemotron_h",
        model_type=hyperparameters.model_type,
        placements=(
            Placement("backbone.embeddings", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement(_LAYER + "norm", norm, range(len(pattern))),
            *body,
            Placement("backbone.norm_f", Norm(width=hidden, bias=False, role="final_norm")),
            *head.placements,
        ),
        num_layers=len(pattern),
        num_heads=attention.num_heads,
        num_kv_heads=attention.num_kv_heads,
        num_experts=num_experts,
        base_prefix="backbone.",
        notes=(*head.notes, *_notes(hyperparameters)),
    )


def _notes(hyperparameters: Hyperparameters) -> tuple[str, ...]:
    if not hyperparameters.settings.get("num_nextn_predict_layers"):
        return ()
    return ("the next-token-prediction layers that the configuration names are not described",)


def _pattern(hyperparameters: Hyperparameters) -> str:
    """The kind of each layer; the list of names goes before the string of letters, as in the reference."""
    settings = hyperparameters.settings
    key = next((name for name in ("layers_block_type", "layer_types", "hybrid_override_pattern")
                if settings.get(name) is not None), "hybrid_override_pattern")  # fmt: skip
    value = settings.get(key)
    letters = "".join(_KINDS.get(str(kind), "?") for kind in value) if isinstance(value, list) else value
    if not isinstance(letters, str) or not 0 < len(letters) <= MOST_LAYERS or not set(letters) <= set("M*-E"):
        raise ConfigError(
            f"{hyperparameters.source} has {key} = {repr(value)[:60]}",
            "the kind of every layer: a string of M, *, - and E, or a list of names",
            "use the model's full config.json",
        )
    declared = hyperparameters.optional_count("num_layers")
    if declared not in (None, len(letters)):
        raise ConfigError(f"{hyperparameters.source} has {declared} layers and a pattern of {len(letters)}",
                          "one kind for every layer", "correct the keys")  # fmt: skip
    return letters


def _attention(hyperparameters: Hyperparameters) -> Attention:
    num_heads = hyperparameters.count("num_heads", 32)
    absent = "num_kv_heads" not in hyperparameters.settings
    num_kv_heads = hyperparameters.count("num_kv_heads", 8 if absent else num_heads)
    hyperparameters.divided("query heads by key-value heads", num_heads, num_kv_heads)
    return Attention(hidden_size=hyperparameters.count("hidden_size"), num_heads=num_heads, num_kv_heads=num_kv_heads,
                     head_dim=hyperparameters.count("head_dim", 128))  # fmt: skip


def _mixer(hyperparameters: Hyperparameters) -> Mamba2:
    return Mamba2(
        hidden_size=hyperparameters.count("hidden_size"),
        num_heads=hyperparameters.count("mamba_num_heads", 128),
        head_dim=hyperparameters.count("mamba_head_dim", 64),
        num_groups=hyperparameters.count("mamba_n_groups", hyperparameters.count("n_groups", 8)),
        state_size=hyperparameters.count("ssm_state_size", 128),
        conv_kernel=hyperparameters.count("mamba_d_conv", hyperparameters.count("conv_kernel", 4)),
        bias=hyperparameters.flag("use_bias", False),
        conv_bias=hyperparameters.flag("mamba_conv_bias", hyperparameters.flag("use_conv_bias", True)),
    )


def _feed_forward(hyperparameters: Hyperparameters) -> FeedForward:
    return FeedForward(hidden_size=hyperparameters.count("hidden_size"), gate=None,
                       intermediate_size=hyperparameters.count("intermediate_size"),
                       bias=hyperparameters.flag("mlp_bias", False))  # fmt: skip


def _num_experts(hyperparameters: Hyperparameters) -> int:
    if hyperparameters.settings.get("n_routed_experts") is not None:
        hyperparameters.refuse("num_experts", "which this family spells n_routed_experts")
    return hyperparameters.count("n_routed_experts", hyperparameters.count("num_experts", 8, most=MOST_EXPERTS),
                                 most=MOST_EXPERTS)  # fmt: skip


def _experts(hyperparameters: Hyperparameters, layers: list[int]) -> list[Placement]:
    """Router and routed experts, shared experts, and the maps into the latent and back."""
    hidden, num_experts = hyperparameters.count("hidden_size"), _num_experts(hyperparameters)
    experts_per_token = hyperparameters.count("experts_per_token", 2)
    hyperparameters.check_experts(num_experts, experts_per_token)
    latent, bias = hyperparameters.optional_count("moe_latent_size"), hyperparameters.flag("mlp_bias", False)
    experts = Experts(
        hidden_size=hidden, intermediate_size=hyperparameters.count("moe_intermediate_size", 7688), width=latent,
        num_experts=num_experts, experts_per_token=experts_per_token, router="gate",
        names=("experts.{expert}.up_proj", "experts.{expert}.down_proj"), correction="gate.e_score_correction_bias",
    )  # fmt: skip
    inner = hyperparameters.count("moe_shared_expert_intermediate_size", 7688)
    shared = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, bias=bias, kind="shared",
                         component=Component.SHARED_EXPERTS)  # fmt: skip
    maps = (("fc1_latent_proj", hidden, latent), ("fc2_latent_proj", latent, hidden)) if latent else ()
    return [
        Placement(_LAYER + "mixer", experts, layers),
        Placement(_LAYER + "mixer.shared_experts", shared, layers),
        *(Placement(f"{_LAYER}mixer.{name}", Linear(in_features=inputs, out_features=outputs, bias=bias,
                                                    role="experts_latent", component=Component.OTHER), layers)
          for name, inputs, outputs in maps),
    ]  # fmt: skip


FAMILY = Family(
    name="nemotron_h",
    title="Nemotron-H and Nemotron 3",
    model_types=("nemotron_h",),
    gguf={},
    source="transformers models/nemotron_h",
    build=build,
)
