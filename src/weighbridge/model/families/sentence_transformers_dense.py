"""The dense layer that a sentence-transformers model ends with: it changes the width of the pooled vector.

Source: sentence-transformers 6.2, `base/modules/dense.py`.
"""

from __future__ import annotations

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component


def build(hyperparameters: Hyperparameters) -> Architecture:
    """One linear map, once for each text; beside it another where the residual has another width."""
    inputs, outputs = hyperparameters.count("in_features"), hyperparameters.count("out_features")
    maps = [("linear", hyperparameters.flag("bias", True))]
    if hyperparameters.flag("use_residual", False) and inputs != outputs:
        maps.append(("residual", False))
    placements = [
        Placement(name, Linear(in_features=inputs, out_features=outputs, bias=bias, component=Component.OTHER,
                               per_sequence=True))
        for name, bias in maps
    ]  # fmt: skip
    return Architecture(
        family="sentence_transformers_dense", model_type=hyperparameters.model_type, placements=tuple(placements),
        num_layers=0, num_heads=0, num_kv_heads=0,
    )  # fmt: skip


FAMILY = Family(
    name="sentence_transformers_dense",
    title="The dense layer of sentence-transformers models",
    model_types=("sentence_transformers_dense",),
    gguf={},
    source="sentence-transformers base/modules/dense.py",
    build=build,
)
