"""What if a setting were another, or an unknown model were wired as a known one? A configuration, changed.

A key may lead into a nested configuration with dots: `text_config.num_hidden_layers`. A key in another spelling than
the configuration's own changes that one: `num_hidden_layers` is `n_layer` where that is written.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.errors import ConfigError, UnknownNameError
from weighbridge.formats.config import SPELLINGS
from weighbridge.model import families

GENERATING = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"""Ends of the classes whose head every family has."""


def changed(config: Mapping[str, Any], settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The configuration with these settings.

    Raises:
        ConfigError: when a key leads into something that is no configuration.
        UnknownNameError: for a key that nobody reads here but that is nearly one that somebody does.

    Example:
        >>> changed({"n_layer": 2, "text_config": {"d": 1}}, {"num_hidden_layers": 3, "text_config.d": 4}, "a.json")
        {'n_layer': 3, 'text_config': {'d': 4}}
    """
    found = dict(config)
    for key, value in settings.items():
        _set(found, key.split("."), value, key, name)
    return found


def _set(config: dict[str, Any], path: list[str], value: Any, key: str, name: str) -> None:
    first, *rest = path
    if rest:
        inner = config.get(first)
        if not isinstance(inner, Mapping):
            read = f"{name} has no {first} with settings, which {key} leads into"
            raise ConfigError(read, "a key of the configuration", "write the setting as the config.json does")
        config[first] = dict(inner)
        _set(config[first], rest, value, key, name)
        return
    config[_own_spelling(config, first, name)] = value


def _own_spelling(config: Mapping[str, Any], key: str, name: str) -> str:
    """The key as the configuration spells it."""
    if key in config:
        return key
    meaning = SPELLINGS.get(key)
    same = [other for other in config if meaning is not None and SPELLINGS.get(other) == meaning]
    if same:
        return same[0]
    nested = [path for path in _paths(config) if path.rpartition(".")[2] == key]
    if nested:
        raise UnknownNameError("setting", key, nested, f"it lies deeper in {name}: write the whole path")
    known = config.keys() | SPELLINGS.keys()
    if key not in known and difflib.get_close_matches(key, known, n=1, cutoff=0.8):
        raise UnknownNameError("setting", key, known, "write the setting as the config.json does")
    return key


def _paths(config: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Every key of the nested configurations, with those that lead to it."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from (f"{prefix}{key}.{inner}" for inner in value)
            yield from _paths(value, f"{prefix}{key}.")


def alike(config: Mapping[str, Any], like: str, name: str) -> dict[str, Any]:
    """A configuration whose unknown model type is taken for another, with the usual head of that.

    Raises:
        UnknownNameError: when there is no family or model type of this name.
        ConfigError: when the model type is known, or the class has a head that cannot be carried over.
    """
    model_type, classes = config.get("model_type"), config.get("architectures")
    if isinstance(model_type, str) and families.is_known(model_type):
        read = f"{name} has the model type {model_type!r}, which is known"
        raise ConfigError(read, "an unknown one for --like", "leave --like out")
    if isinstance(classes, list) and classes and not str(classes[0]).endswith(GENERATING):
        read = f"{name} names the class {str(classes[0])[:80]}, whose head --like cannot carry over"
        raise ConfigError(read, f"a class that ends in {', '.join(GENERATING)}", "remove `architectures` first")
    kept = {key: value for key, value in config.items() if key != "architectures"}
    return kept | {"model_type": families.model_type(like)}
