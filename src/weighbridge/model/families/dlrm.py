"""DLRM: a table for each categorical feature, an MLP for the dense ones, their interaction, and an MLP above it.

Source: `dlrm_s_pytorch.py` of facebookresearch/dlrm (Naumov et al. 2019, arXiv 1906.00091). The model has no
configuration class: `model_type` is `dlrm`, and the keys are the arguments of that program (`arch_embedding_size`,
`arch_sparse_feature_size`, `arch_mlp_bot`, `arch_mlp_top`, `arch_interaction_op`, `arch_interaction_itself`,
`max_ind_range`), sizes as text with hyphens (`13-512-256-128`) or as lists. As there, `arch_mlp_top` leaves out its
input, which follows from the interaction. A sample is one token: it looks up one row of each table.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The tables and both MLPs."""
    if hyperparameters.classes not in ((), ("DLRM_Net",)):
        raise unknown_class(hyperparameters, ("DLRM_Net",))
    for trick in ("qr_flag", "md_flag", "weighted_pooling"):
        hyperparameters.refuse(trick, "which changes the tables in a way that is not described")
    width = hyperparameters.count("arch_sparse_feature_size")
    rows, bottom = _sizes(hyperparameters, "arch_embedding_size"), _sizes(hyperparameters, "arch_mlp_bot")
    hyperparameters.same("the width of the tables and of the last layer of arch_mlp_bot", width, bottom[-1])
    most = hyperparameters.settings.get("max_ind_range")
    if most not in (None, -1):
        rows = tuple(min(size, hyperparameters.count("max_ind_range")) for size in rows)
    top = (_interactions(hyperparameters, len(rows) + 1, width), *_sizes(hyperparameters, "arch_mlp_top"))
    return Architecture(
        family="dlrm",
        model_type=hyperparameters.model_type,
        placements=(
            *(Placement(f"emb_l.{table}", Embedding(rows=size, width=width, role="feature_embedding"))
              for table, size in enumerate(rows)),
            *_mlp("bot_l", bottom),
            *_mlp("top_l", top),
        ),
        num_layers=0, num_heads=0, num_kv_heads=0,
    )  # fmt: skip


def _interactions(hyperparameters: Hyperparameters, vectors: int, width: int) -> int:
    """The width of what the interaction gives: the dense vector with all products of pairs, or all vectors in a row."""
    kind = hyperparameters.settings.get("arch_interaction_op", "dot")
    if kind == "cat":
        return vectors * width
    if kind == "dot":
        with_itself = hyperparameters.flag("arch_interaction_itself", False)
        return width + vectors * (vectors + (1 if with_itself else -1)) // 2
    read = f"{hyperparameters.source} has arch_interaction_op = {repr(kind)[:60]}"
    raise ConfigError(read, "dot or cat", "correct the key")


def _mlp(path: str, widths: tuple[int, ...]) -> list[Placement]:
    """Dense layers; each has an activation behind it, which takes a number in the names."""
    return [
        Placement(f"{path}.{2 * layer}",
                  Linear(in_features=inputs, out_features=outputs, role="mlp", component=Component.MLP))
        for layer, (inputs, outputs) in enumerate(pairwise(widths))
    ]  # fmt: skip


def _sizes(hyperparameters: Hyperparameters, name: str) -> tuple[int, ...]:
    """Whole numbers in a list or in a text with hyphens between them.

    Raises:
        ConfigError: when the key is missing or holds anything else.
    """
    value = hyperparameters.settings.get(name)
    if isinstance(value, str) and len(value) < 2**20:
        value = [int(size) if size.isascii() and size.isdigit() and len(size) < 14 else 0 for size in value.split("-")]
    usable = isinstance(value, list | tuple) and 0 < len(value) <= MOST_LAYERS
    if value is None or not usable or not all(type(size) is int and 0 < size < 2**40 for size in value):
        read = f"{hyperparameters.source} has {name} = {repr(hyperparameters.settings.get(name))[:60]}"
        raise ConfigError(read, "sizes with hyphens between them, or a list of them", "correct the key")
    return tuple(value)


def _recognise(config: Mapping[str, Any]) -> str | None:
    return "dlrm" if "arch_embedding_size" in config else None


FAMILY = Family(
    name="dlrm",
    title="DLRM",
    model_types=("dlrm",),
    gguf={},
    source="dlrm_s_pytorch.py of facebookresearch/dlrm",
    build=build,
    recognise=_recognise,
)
