"""What is each value of a configuration: of the architecture, of training, of decoding? None of them is a parameter.

A value is of the architecture where `formats.config` says so, or where the shape of a named model has its key. Values
of training and of decoding are taken away and the model is counted again, which shows that they are in no total. A
`generation_config.json` that lies beside the configuration is read too.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.formats import config as config_format
from weighbridge.formats import json_text, reader
from weighbridge.formats.byte_source import LocalFolder
from weighbridge.inspection import inspect
from weighbridge.model.catalogue import models

KINDS = {
    "architecture": "architecture: decides how many parameters there are, or how they are wired",
    "training": "training hyperparameter: steers how parameters are learned",
    "inference": "decoding setting: steers how the model is used",
    "other": "none of these: says where the file is from, or how it is stored",
}
"""Each kind of setting, with what it does."""

GENERATION = "generation_config.json"
_OF_FILES = frozenset({"transformers_version", "_from_model_config", "_name_or_path", "torch_dtype", "dtype",
                       "quantization_config"})  # fmt: skip
_WIRING = frozenset({"hidden_act", "activation_function", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon",
                     "layernorm_epsilon", "rope_theta", "rope_scaling", "rope_parameters"})  # fmt: skip
"""Settings of layers that have no parameters of their own."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and its kind: a key of `KINDS`."""

    key: str
    value: Any
    kind: str

    def to_json(self) -> dict[str, Any]:
        """One entry of `settings`."""
        return {"key": self.key, "value": self.value, "kind": self.kind}


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a source. `parameters_without` is the count without those of training and decoding."""

    source: str
    settings: tuple[Setting, ...]
    parameters: int
    parameters_without: int

    def of(self, kind: str) -> tuple[Setting, ...]:
        """Those of one kind."""
        return tuple(one for one in self.settings if one.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh explain --settings SOURCE --json`."""
        return {
            "source": self.source, "settings": [one.to_json() for one in self.settings],
            "counts": {kind: len(self.of(kind)) for kind in KINDS},
            "parameters": self.parameters, "parameters_without": self.parameters_without,
        }  # fmt: skip


def settings_of(source: str | Path | Mapping[str, Any]) -> Settings:
    """The settings of a `config.json`, of a folder with one, of a named model, or of a mapping with its keys.

    Raises:
        ConfigError: when the source has no configuration.
        WeighbridgeError: when it cannot be read or counted.

    Example:
        >>> shape = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
        >>> found = settings_of({**shape, "learning_rate": 3e-4, "temperature": 0.7})
        >>> [one.key for one in found.of("training")], [one.key for one in found.of("inference")]
        (['learning_rate'], ['temperature'])
        >>> found.parameters - found.parameters_without
        0
    """
    name, config, beside = _configuration(source)
    kinds = config_format.kinds_of_settings(config)
    found = [Setting(key, value, "architecture" if kinds[key] == "other" and key in _shaping() else kinds[key])
             for key, value in config.items()]  # fmt: skip
    known = {one.key for one in found}
    found += [Setting(key, value, "other" if key in _OF_FILES else "inference")
              for key, value in beside.items() if key not in known]  # fmt: skip
    kept = {one.key: one.value for one in found if one.key in config and one.kind not in ("training", "inference")}
    return Settings(name, tuple(found), inspect(config).parameters.total, inspect(kept).parameters.total)


def _configuration(source: str | Path | Mapping[str, Any]) -> tuple[str, Mapping[str, Any], Mapping[str, Any]]:
    """A name, the configuration, and the settings of generation beside it."""
    if isinstance(source, Mapping):
        return "config", source, {}
    checkpoint = reader.read(source)
    if checkpoint.config is None:
        read = f"{source} has no configuration"
        raise ConfigError(read, "a config.json, a folder with one, or a named model", "name one")
    place = Path(source)
    folder = place if place.is_dir() else place.parent
    if not place.exists() or not (folder / GENERATION).is_file():
        return checkpoint.source, checkpoint.config, {}
    file = LocalFolder(folder).open(GENERATION)
    parsed = json_text.parse(file.read(0, file.size), GENERATION, allow_bom=True, allow_constants=True)
    return checkpoint.source, checkpoint.config, parsed if isinstance(parsed, dict) else {}


@functools.cache
def _shaping() -> frozenset[str]:
    """Keys that give some named model its shape, and those that wire it without a parameter."""
    return frozenset(key for model in models() for key in model.config) - _OF_FILES | _WIRING
