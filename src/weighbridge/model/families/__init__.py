"""Which family describes a model? One file a family; it only wires blocks from hyperparameters.

A family file defines `FAMILY`. It is found by its presence in this folder: nothing else has to be changed to add one.
The files that do not mention a model type are not loaded to look for it.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from weighbridge.errors import UnknownNameError
from weighbridge.model.architecture import Architecture
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters


def _modules() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def _load(module: str) -> Family:
    family = importlib.import_module(f"{__name__}.{module}").FAMILY
    assert isinstance(family, Family)
    return family


def mentioning(text: str) -> Iterator[Family]:
    """The families whose files hold a text, so that one can be found without loading all."""
    return (_load(module) for module, source in _sources(tuple(__path__)) if source is None or text in source)


@functools.cache
def _sources(folders: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """The text of each family's file, read once; None where a package does not lie in files."""
    found = []
    for folder in map(Path, folders):
        for module in sorted(module.name for module in pkgutil.iter_modules([str(folder)])):
            path = folder / f"{module}.py"
            found.append((module, path.read_text(encoding="utf-8") if path.exists() else None))
    return tuple(found)


def families() -> Iterator[Family]:
    """Every family, by the name of its file."""
    return (_load(module) for module in _modules())


def find(model_type: str) -> Family:
    """The family that describes this `model_type`.

    Raises:
        UnknownNameError: when none does; it lists the nearest that are described.

    Example:
        >>> find("qwen2").name
        'llama'
    """
    return _find(model_type, tuple(__path__))


@functools.cache
def _find(model_type: str, folders: tuple[str, ...]) -> Family:
    """The family of a model type, looked for once in these folders."""
    candidates = [module for module, text in _sources(folders) if text is None or f'"{model_type}"' in text]
    candidates.sort(key=lambda module: module != model_type)  # the file of that name first: most are right
    for family in map(_load, candidates):
        if model_type in family.model_types:
            return family
    known = [name for family in families() for name in family.model_types]
    action = "count it like one of these (--like), by its own class (--with-transformers), or weigh its weight files"
    raise UnknownNameError("model type", model_type, known, action)


def is_known(model_type: str) -> bool:
    """Whether a family describes this `model_type`."""
    try:
        find(model_type)
    except UnknownNameError:
        return False
    return True


def model_type(name: str) -> str:
    """The model type that a name of a model type or of a family stands for.

    Raises:
        UnknownNameError: when it is neither.

    Example:
        >>> model_type("qwen2"), model_type("internlm")
        ('qwen2', 'internlm')
    """
    if name in _modules() and not is_known(name):
        return _load(name).model_types[0]
    find(name)
    return name


def recognise(config: Mapping[str, Any]) -> str | None:
    """The model type that a configuration without `model_type` means: by the first family that knows its keys, or else
    by the name of its class.

    Example:
        >>> recognise({"architectures": ["Qwen2MoeForCausalLM"], "hidden_size": 64})
        'qwen2_moe'
    """
    by_keys = next((found for family in mentioning("recognise=") if (found := family.recognise(config))), None)
    classes = config.get("architectures")
    if by_keys is not None or not isinstance(classes, list) or len(classes) != 1 or not isinstance(classes[0], str):
        return by_keys
    named = re.fullmatch(
        r"(\w+?)(?:For[A-Z]\w+|LMHead\w*|WithLMHead\w*|DoubleHeads\w*|EncoderModel|Model\w*)", classes[0]
    )
    if named is None:
        return None
    plain = {re.sub("[-_]", "", name).lower(): name for family in families() for name in family.model_types}
    start = named[1].replace("_", "").lower()
    alone = "text" if classes[0].endswith("ForCausalLM") and "text_config" not in config else ""
    return next((plain[name] for name in (start + alone, start, start + "model") if name in plain), None)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The description of the model that these hyperparameters mean.

    Raises:
        UnknownNameError: when no family describes the model type.
        ConfigError: when a setting is missing, impossible or not described by the family.
    """
    return find(hyperparameters.model_type).build(hyperparameters)
