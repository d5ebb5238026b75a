"""Diffusion pipelines as the sum of their parts: text encoders, denoiser, autoencoder, perhaps a refiner.

Each `<part>_config` of the configuration is that of one part, as its own folder has it; the parts' placements stand
under their names. A part that no family describes is refused, and with it the whole. Source: diffusers
`pipelines/pipeline_utils.py` (`model_index.json`).
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import families
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.composite import moved
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters

_SUFFIX = "_config"


def build(hyperparameters: Hyperparameters) -> Architecture:
    """All parts, side by side."""
    parts = {key.removesuffix(_SUFFIX): _part(key, value, hyperparameters.source)
             for key, value in hyperparameters.settings.items() if key.endswith(_SUFFIX)}  # fmt: skip
    if not parts:
        read = f"{hyperparameters.source} is a pipeline without parts"
        raise ConfigError(read, f"the configuration of each part as <name>{_SUFFIX}", "name its folder")
    built = {name: families.build(part) for name, part in parts.items()}
    placements: list[Placement] = []
    num_layers = 0
    for name, part in built.items():
        inside = moved(part.placements, [("", f"{name}.")])
        placements += [replace(placement, offset=placement.offset + num_layers) for placement in inside]
        num_layers += part.num_layers
    return Architecture(
        family="pipeline",
        model_type=hyperparameters.model_type,
        placements=tuple(placements),
        num_layers=num_layers,
        num_heads=max(part.num_heads for part in built.values()),
        num_kv_heads=max(part.num_kv_heads for part in built.values()),
        notes=tuple(f"{name}: {note}" for name, part in built.items() for note in part.notes),
        parts=tuple(built),
    )


def _part(key: str, value: object, source: str) -> Hyperparameters:
    if not isinstance(value, Hyperparameters) or "." in key or value.model_type == "pipeline":
        read = f"{source} has {key} = {str(value)[:80] if not isinstance(value, Hyperparameters) else value.model_type}"
        raise ConfigError(read, "the configuration of one model under a plain name", "correct it")
    return value


FAMILY = Family(
    name="pipeline",
    title="Diffusion pipelines of diffusers: Stable Diffusion 1 to 3, XL with its refiner, Flux and others",
    model_types=("pipeline",),
    gguf={},
    source="diffusers pipelines/pipeline_utils.py",
    build=build,
)
