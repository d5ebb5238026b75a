"""Which shape is trained? That of a model, or of a number of parameters alone, for which the usual one is assumed.

A size without a shape (`7B`, or a model whose developer states no more) is planned in a Llama-like shape of about as
many parameters, from `shapes`. What depends on the shape is then assumed, and a note says so.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError, SourceError, UnitError, UnknownNameError
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import Inspection, inspect
from weighbridge.model.architecture import Architecture
from weighbridge.model.catalogue import NamedModel, find_model
from weighbridge.shapes import Design, Wish, design
from weighbridge.units import parse_count

ASSUMED_VOCABULARIES = ((100_000_000, 8_192), (1_000_000_000, 32_000))
"""Rows of the token table that are assumed up to a size; 64,000 beyond."""
LARGEST_VOCABULARY = 64_000
_SIZE = re.compile(r"[0-9][0-9._]*(?:e[0-9]+)?\s*[KMBT]?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Shape:
    """What is trained. `is_assumed` says that only the number of parameters is known, `stated`."""

    inspection: Inspection
    is_assumed: bool = False
    stated: int | None = None

    @property
    def architecture(self) -> Architecture:
        """Its description."""
        assert self.inspection.architecture is not None
        return self.inspection.architecture

    @property
    def parameters(self) -> int:
        """Those of the model, or those that are stated."""
        return self.stated or self.inspection.parameters.total

    @property
    def active_parameters(self) -> int:
        """Those that a token uses."""
        return self.stated or self.inspection.parameters.active_per_token

    @property
    def notes(self) -> tuple[str, ...]:
        """What the reader should know about it."""
        if not self.is_assumed:
            return self.inspection.notes
        config = self.inspection.hyperparameters
        assert config is not None
        return (
            f"only a number of parameters is known: a Llama-like shape of {self.inspection.parameters.total:,} is "
            f"assumed, {self.architecture.num_layers} layers of {config.settings['hidden_size']:,}",
        )


def shape(source: str | int | Path | Mapping[str, Any] | Checkpoint | NamedModel | Inspection) -> Shape:
    """The shape of a model that `inspect` takes, or of a number of parameters such as `7B`.

    Raises:
        WeighbridgeError: when the source cannot be read or is not described, or its size is not disclosed.

    Example:
        >>> shape("llama-2-7b").is_assumed, shape("7B").is_assumed
        (False, True)
        >>> 0.99 < shape("7B").inspection.parameters.total / 7e9 < 1.01
        True
    """
    stated = _stated(source)
    if stated is not None:
        return Shape(_usual(stated).inspection, True, stated)
    assert not isinstance(source, int)
    inspection = source if isinstance(source, Inspection) else inspect(source)
    if inspection.architecture is None:
        read = f"no family describes {inspection.source}"
        raise ConfigError(
            read, "a described model", "name one that `weigh families` lists, or its number of parameters"
        )
    if inspection.architecture.parts:
        parts = ", ".join(inspection.architecture.parts)
        read = f"{inspection.source} is a pipeline of {parts}"
        raise ConfigError(read, "one model", "name the folder of the part that is trained")
    return Shape(inspection)


def _stated(source: object) -> int | None:
    """The number of parameters where nothing else is known: what was typed, or what a developer states."""
    if isinstance(source, int):
        return source
    if isinstance(source, str) and not Path(source).exists():
        if _SIZE.fullmatch(source.strip()):
            return parse_count(source)
        try:
            source = find_model(source)
        except UnknownNameError:
            return None
    if isinstance(source, NamedModel) and not source.config:
        if source.stated is None:
            read = f"the size of {source.title} is not disclosed"
            raise SourceError(read, "a model of a known size", "give a number of parameters such as 7B")
        return source.stated
    return None


def _usual(parameters: int) -> Design:
    """A shape of about so many parameters whose heads and layers divide evenly where there are many.

    Raises:
        UnitError: when no such shape has that number.
    """
    vocabulary = next((rows for most, rows in ASSUMED_VOCABULARIES if parameters <= most), LARGEST_VOCABULARY)
    found = design(Wish(parameters=parameters, vocab_size=min(vocabulary, max(256, parameters // 512))), 24)
    if not found:
        raise UnitError(f"{parameters:,} parameters", "a size that a shape comes within a hundredth of", "correct it")
    even = (
        one for one in found if one.config["num_attention_heads"] % 8 == 0 and one.config["num_hidden_layers"] % 4 == 0
    )
    return next(even, found[0])
