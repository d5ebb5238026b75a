"""Mamba and Falcon Mamba: state-space mixers only, one norm a layer, tied head, no attention and no cache that grows.

Source: transformers `models/{mamba,falcon_mamba}/{configuration,modeling}_*.py` (5.x). The inner width is `expand`
times the width unless `intermediate_size` says otherwise. Falcon Mamba norms time step, B and C without learned scales.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Embedding, Norm
from weighbridge.model.blocks.state_space import Mamba
from weighbridge.model.family import Family, language_head
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Layers of a norm and a mixer."""
    hidden = hyperparameters.count("hidden_size")
    mixer = Mamba(
        hidden_size=hidden,
        inner_size=hyperparameters.optional_count("intermediate_size") or hyperparameters.count("expand", 2) * hidden,
        state_size=hyperparameters.count("state_size", 16),
        time_step_rank=time_step_rank(hyperparameters, "time_step_rank"),
        conv_kernel=hyperparameters.count("conv_kernel", 4),
        bias=hyperparameters.flag("use_bias", False),
        conv_bias=hyperparameters.flag("use_conv_bias", True),
    )
    return backbone(hyperparameters, "mamba", ("Mamba", "FalconMamba"), mixer, tied=True)


def time_step_rank(hyperparameters: Hyperparameters, name: str) -> int:
    """The rank of the time-step projection: a sixteenth of the width, rounded up, when the key says `auto`.

    Example:
        >>> time_step_rank(Hyperparameters("a.json", "mamba", {"hidden_size": 100}), "time_step_rank")
        7
    """
    if hyperparameters.settings.get(name) in (None, "auto"):
        return -(-hyperparameters.count("hidden_size") // 16)
    return hyperparameters.count(name)


def backbone(
    hyperparameters: Hyperparameters,
    family: str,
    prefixes: tuple[str, ...],
    mixer: Block,
    *,
    tied: bool,
    heads: int = 1,
) -> Architecture:
    """The wiring that both generations of Mamba share."""
    hidden = hyperparameters.count("hidden_size")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    head = language_head(hyperparameters, prefixes, embedding="backbone.embeddings.weight", tied=tied)
    layers = range(num_layers)
    return Architecture(
        family=family,
        model_type=hyperparameters.model_type,
        placements=(
            Placement("backbone.embeddings", Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement("backbone.layers.{layer}.norm", Norm(width=hidden, bias=False, role="attention_norm"), layers),
            Placement("backbone.layers.{layer}.mixer", mixer, layers),
            Placement("backbone.norm_f", Norm(width=hidden, bias=False, role="final_norm")),
            *head.placements,
        ),
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=heads,
        base_prefix="backbone.",
        tie_embeddings=head.tied,
        notes=head.notes,
    )


FAMILY = Family(
    name="mamba",
    title="Mamba and Falcon Mamba",
    model_types=("mamba", "falcon_mamba"),
    gguf={},
    source="transformers models/mamba, models/falcon_mamba",
    build=build,
)
