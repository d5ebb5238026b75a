"""What is a family, and which head does a class put on its body?"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True)
class GgufMeaning:
    """What a GGUF architecture means: the model type and class whose weights its files hold.

    `routed` says whether it is meant for files with experts. `settings` are those that converters decide.
    """

    model_type: str
    class_name: str
    routed: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Family:
    """Models that one wiring describes.

    `model_types` are the spellings of Hugging Face configurations, `gguf` maps llama.cpp's architectures to what they
    mean here, `source` names the implementation that the wiring was taken from.
    """

    name: str
    title: str
    model_types: tuple[str, ...]
    gguf: Mapping[str, GgufMeaning]
    source: str
    build: Callable[[Hyperparameters], Architecture]
    recognise: Callable[[Mapping[str, Any]], str | None] = lambda config: None
    """The model type that a configuration without `model_type` means, where its other keys tell."""


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
        f"(?:{'|'.join(prefixes)})((?:For|LMHead|DoubleHeads|Model|PreTrained|WithLMHead|EncoderModel|MTModel).*)",
        hyperparameters.classes[0],
        re.IGNORECASE,
    )
    if match is None or len(hyperparameters.classes) > 1:
        raise unknown_class(hyperparameters, tuple(prefix + default for prefix in prefixes))
    return match[1]


@dataclass(frozen=True, slots=True)
class Head:
    """What stands on a body: its placements, whether it is tied to the token table, and what should be told."""

    placements: tuple[Placement, ...] = ()
    tied: bool = False
    notes: tuple[str, ...] = ()


def language_head(
    hyperparameters: Hyperparameters,
    prefixes: tuple[str, ...],
    *,
    default: str = "ForCausalLM",
    embedding: str = "model.embed_tokens.weight",
    tied: bool = False,
    path: str = "lm_head",
    bias: bool = False,
    score_bias: bool = False,
) -> Head:
    """The head that the class of a decoder puts on its body.

    A causal language model has a linear head of the vocabulary, tied to `embedding` by `tie_embeddings` (default
    `tied`); `Model` has none; `ForSequenceClassification` has a `score` of `num_labels`.

    Raises:
        ConfigError: for a class of another family or another kind.
    """
    suffix = head_class(hyperparameters, prefixes, default)
    hidden = hyperparameters.count("hidden_size")
    if suffix == "Model":
        return Head()
    if suffix == "ForSequenceClassification":
        labels = hyperparameters.count("num_labels", 2)
        score = Linear(in_features=hidden, out_features=labels, bias=score_bias, role="score", component=Component.HEAD)
        return Head((Placement("score", score),))
    if suffix != default:
        raise unknown_class(
            hyperparameters, tuple(p + s for p in prefixes for s in (default, "Model", "ForSequenceClassification"))
        )
    tie = hyperparameters.flag("tie_embeddings", tied)
    head = Linear(in_features=hidden, out_features=hyperparameters.count("vocab_size"), bias=bias, role="head",
                  component=Component.HEAD, tied_to=embedding if tie else None)  # fmt: skip
    notes = () if hyperparameters.classes else ("no class is named; taken as a causal language model",)
    return Head((Placement(path, head),), tie, notes)


def unknown_class(hyperparameters: Hyperparameters, known: tuple[str, ...]) -> ConfigError:
    """The refusal of a class whose wiring the family does not describe."""
    return ConfigError(
        f"{hyperparameters.source} names the class {', '.join(hyperparameters.classes)[:100]}",
        f"a class whose wiring is described, such as {', '.join(known)}",
        "correct `architectures`, or weigh the weight files themselves",
    )
