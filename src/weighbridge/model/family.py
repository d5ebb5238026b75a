"""What is a family, and which head does a class put on its body?"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture
from weighbridge.model.hyperparameters import Hyperparameters


@dataclass(frozen=True, slots=True)
class Family:
    """Models that one wiring describes.

    `model_types` are the spellings of Hugging Face configurations, `gguf_architectures` those of llama.cpp that mean
    this family, `source` names the implementation that the wiring was taken from.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    gguf_architectures: tuple[str, ...]
    source: str
    build: Callable[[Hyperparameters], Architecture]


def head_class(hyperparameters: Hyperparameters, prefixes: tuple[str, ...], default: str) -> str:
    """What follows the family's name in the class of the model: `ForCausalLM`, `Model`, `ForSequenceClassification` ...

    A configuration without `architectures` is taken as the family's usual class.

    Raises:
        ConfigError: for several classes, or for one that is not of this family: its wiring may differ.

    Example:
        >>> head_class(Hyperparameters("a.json", "llama", {}, ("LlamaModel",)), ("Llama",), "ForCausalLM")
        'Model'
    """
    if not hyperparameters.classes:
        return default
    match = re.fullmatch(
        f"(?:{'|'.join(prefixes)})((?:For|LMHead|DoubleHeads|Model|PreTrained).*)",
        hyperparameters.classes[0],
        re.IGNORECASE,
    )
    if match is None or len(hyperparameters.classes) > 1:
        raise unknown_class(hyperparameters, tuple(prefix + default for prefix in prefixes))
    return match[1]


def unknown_class(hyperparameters: Hyperparameters, known: tuple[str, ...]) -> ConfigError:
    """The refusal of a class whose wiring the family does not describe."""
    return ConfigError(
        f"{hyperparameters.source} names the class {', '.join(hyperparameters.classes)[:100]}",
        f"a class whose wiring is described, such as {', '.join(known)}",
        "correct `architectures`, or weigh the weight files themselves",
    )
