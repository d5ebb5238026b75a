"""How do models differ? Their sizes, shapes and facts in rows, each cell with what it rests on.

A source that can be inspected is counted; a named model without a published shape shows what its developer states, or
what others claim, as what it is. What nobody says is unknown, and a row that is unknown for all is left out.

The dense equivalent of a mixture of experts is sqrt(total x active), a rule of thumb from the practice of model
builders: it ranks what a mixture may know against dense models, and no measurement stands behind it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.errors import SourceError, UnknownNameError
from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.inspection import Inspection, inspect
from weighbridge.model import catalogue, encodings
from weighbridge.model.architecture import Architecture, Workload
from weighbridge.model.blocks import StateKind
from weighbridge.model.catalogue import NamedModel
from weighbridge.model.tensors import Component
from weighbridge.predict import counts

SHOWN_ENCODINGS = ("bf16", "q8_0", "q4_k_m")
ORDER = (
    "developer", "released", "access", "licence", "parameters.total", "parameters.stated",
    "parameters.active_per_token", "parameters.dense_equivalent", "parameters.non_embedding", "training_tokens",
    "tokens_per_parameter", "layers", "hidden_size", "attention_heads", "kv_heads", "experts", "vocab_size",
    "max_positions", *(f"bytes.{name}" for name in SHOWN_ENCODINGS), "kv_bytes_per_token",
    "recurrent_bytes_per_sequence", "state_bytes_at_context", "flops_per_token",
)  # fmt: skip
"""The keys of all rows, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What one model has in one row: a number with its basis, or a text; None is unknown. `source` says where from."""

    content: Estimate | str | None
    source: str = ""

    @property
    def is_known(self) -> bool:
        """Whether there is anything in it."""
        return self.content.value is not None if isinstance(self.content, Estimate) else self.content is not None

    def to_json(self) -> dict[str, Any]:
        """The form `E` of the JSON contract, with its source; texts have a value alone."""
        if isinstance(self.content, Estimate):
            return {**self.content.to_json(), "source": self.source or None}
        return {"value": self.content, "source": self.source or None}


@dataclass(frozen=True, slots=True)
class Row:
    """One quantity of all models: its key in JSON, its name for people, a cell for each model."""

    key: str
    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Models in columns, quantities in rows."""

    sources: tuple[str, ...]
    titles: tuple[str, ...]
    rows: tuple[Row, ...]
    context_tokens: int
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh compare --json`."""
        return {
            "sources": list(self.sources),
            "titles": list(self.titles),
            "context_tokens": self.context_tokens,
            "rows": [{"key": r.key, "name": r.name, "cells": [c.to_json() for c in r.cells]} for r in self.rows],
            "notes": list(self.notes),
        }


def compare(sources: Sequence[str | Path | NamedModel], *, context_tokens: int = 0) -> SideBySide:
    """Sets models side by side: files, folders, configurations or names of the catalogue.

    Args:
        sources: files and folders, names of the catalogue, or its models; those without a published shape too.
        context_tokens: positions for the rows that depend on the context.

    Raises:
        WeighbridgeError: when a source cannot be read.

    Example:
        >>> table = compare(["gpt-2", "palm-540b"])
        >>> cells = next(row.cells for row in table.rows if row.key == "parameters.total")
        >>> [(cell.content.value, cell.content.basis.value) for cell in cells]
        [(124439808, 'exact'), (540350000000, 'specified')]
    """
    if not sources or not all(isinstance(source, str | Path | NamedModel) for source in sources):
        read = "nothing is named" if not sources else "there is a source that is no path and no name"
        raise SourceError(read, "models to compare", "name one or more")
    columns = [_column(source, context_tokens) for source in sources]
    names = {key: name for column in columns for key, (name, _) in column.cells.items()}
    if not any(column.is_mixture for column in columns):
        names.pop("parameters.dense_equivalent", None)
    rows = [Row(key, names[key], tuple(column.cells.get(key, ("", Cell(None)))[1] for column in columns))
            for key in ORDER if key in names]  # fmt: skip
    notes = tuple(dict.fromkeys(f"{column.title}: {note}" for column in columns for note in column.notes))
    return SideBySide(
        sources=tuple(source.name if isinstance(source, NamedModel) else str(source) for source in sources),
        titles=tuple(column.title for column in columns),
        rows=tuple(row for row in rows if _says_something(row)),
        context_tokens=context_tokens,
        notes=notes,
    )


_OFTEN_NONE = ("experts", "kv_bytes_per_token", "recurrent_bytes_per_sequence")


def _says_something(row: Row) -> bool:
    """Whether any model has a cell that is known; of what most models have none of, one must have some."""
    known = [cell.content for cell in row.cells if cell.is_known]
    if row.key in _OFTEN_NONE:
        return any(isinstance(content, Estimate) and content.value for content in known)
    return bool(known)


@dataclass(frozen=True, slots=True)
class _Column:
    title: str
    cells: dict[str, tuple[str, Cell]]
    notes: tuple[str, ...]
    is_mixture: bool


def _column(source: str | Path | NamedModel, context_tokens: int) -> _Column:
    named = source if isinstance(source, NamedModel) else None if _exists(source) else _named(str(source))
    inspection = None if named is not None and not named.config else inspect(source, context_tokens=context_tokens)
    cells = {} if named is None else dict(_facts(named))
    if inspection is not None:
        where = named.source if named is not None else str(source)
        cells |= {key: (name, Cell(estimate, where)) for key, name, estimate in _counts(inspection, context_tokens)}
    if named is not None:
        cells |= dict(_trained(named, cells))
    notes = named.notes if named is not None else ()
    mixture = inspection is not None and inspection.architecture is not None and inspection.architecture.num_experts > 0
    return _Column(named.title if named is not None else str(source), cells, notes, mixture)


def _exists(source: str | Path) -> bool:
    try:
        return Path(source).exists()
    except (OSError, ValueError):
        return False  # a name too long, a folder that may not be read: `inspect` says so


def _named(name: str) -> NamedModel | None:
    try:
        return catalogue.find_model(name)
    except UnknownNameError:
        return None  # `inspect` then says what is wrong with it


def size(model: NamedModel) -> Cell:
    """The parameters of a named model, by the strongest of what is known: counted, stated, claimed, or unknown.

    Example:
        >>> cell = size(catalogue.find_model("gpt-4"))
        >>> cell.content.low, cell.content.high, cell.content.basis.value
        (1760000000000, 1800000000000, 'assumed')
    """
    if model.config:
        return Cell(Estimate.exact(inspect(model.config).parameters.total, "parameters"), model.source)
    if model.stated is not None:
        return Cell(_specified(model.stated, "parameters", "as its developer states it"), model.source_of("stated"))
    if model.claims:
        low, high = min(claim.low for claim in model.claims), max(claim.high for claim in model.claims)
        note = "not disclosed; claimed by " + ", ".join(dict.fromkeys(claim.by for claim in model.claims))
        note += "; the value is the middle of what is claimed" if low < high else ""
        sources = ", ".join(dict.fromkeys(claim.source for claim in model.claims))
        return Cell(Estimate((low + high) / 2, low, high, "parameters", Basis.ASSUMED, note), sources)
    return Cell(Estimate(None, None, None, "parameters", Basis.ASSUMED, "not disclosed"), model.source)


def _facts(model: NamedModel) -> Iterator[tuple[str, tuple[str, Cell]]]:
    yield "developer", ("developer", Cell(model.developer, model.source))
    released = model.released.isoformat() if model.released else None
    yield "released", ("released", Cell(released, model.source_of("released")))
    yield "access", ("access", Cell(model.access, model.source))
    yield "licence", ("licence", Cell(model.licence, model.source_of("licence")))
    yield "parameters.total", ("parameters", size(model))
    if model.stated is not None:
        stated = Cell(_specified(model.stated, "parameters"), model.source_of("stated"))
        yield "parameters.stated", ("parameters, as stated", stated)


def _trained(model: NamedModel, cells: dict[str, tuple[str, Cell]]) -> Iterator[tuple[str, tuple[str, Cell]]]:
    tokens = model.training_tokens
    if tokens is None:
        return
    source = model.source_of("training_tokens")
    yield "training_tokens", ("training tokens", Cell(_specified(tokens, "tokens"), source))
    total = cells["parameters.total"][1].content
    if isinstance(total, Estimate) and total.value:
        yield "tokens_per_parameter", ("tokens a parameter", Cell(_specified(tokens / total.value, "tokens"), source))


def _specified(value: float, unit: str, note: str = "") -> Estimate:
    return Estimate(value, value, value, unit, Basis.SPECIFIED, note)


def _counts(inspection: Inspection, context_tokens: int) -> Iterator[tuple[str, str, Estimate]]:
    """What is counted in a model: key, name, number."""

    def exact(value: int, unit: str) -> Estimate:
        return Estimate(value, value, value, unit, inspection.basis)

    counted, architecture = inspection.parameters, inspection.architecture
    yield "parameters.total", "parameters", exact(counted.total, "parameters")
    if architecture is None or inspection.hyperparameters is None or inspection.state is None:
        return
    yield "parameters.active_per_token", "used by one token", exact(counted.active_per_token, "parameters")
    equivalent = math.isqrt(counted.total * counted.active_per_token)
    rule = Estimate(equivalent, equivalent, equivalent, "parameters", Basis.ASSUMED, "sqrt(total x active)")
    name = "dense equivalent, as a rule of thumb"
    yield "parameters.dense_equivalent", name, rule if architecture.num_experts else exact(counted.total, "parameters")
    yield "parameters.non_embedding", "without embeddings", exact(counted.non_embedding, "parameters")
    for key, value in _shape(architecture):
        yield key, key.replace("_", " ").replace("kv", "KV"), exact(value, "")
    for key, name in (("hidden_size", "width"), ("vocab_size", "vocabulary")):
        setting = inspection.hyperparameters.of_text(key)
        if setting is not None:
            yield key, name, exact(setting, "")
    if inspection.longest_context is not None:
        yield "max_positions", "longest context", exact(inspection.longest_context, "")
    for name, size_bytes in inspection.bytes_for(SHOWN_ENCODINGS).items():
        stored = replace(_specified(size_bytes, "B"), basis=weakest([Basis.SPECIFIED, inspection.basis]))
        yield f"bytes.{name}", f"bytes of the weights, {name}", stored
    bf16 = encodings.find("bf16")
    per_token = inspection.state.kv_bytes_per_token(bf16)
    if per_token is not None:
        yield "kv_bytes_per_token", "KV cache a token, bf16", exact(per_token, "B")
    recurrent = inspection.state.recurrent_per_sequence * bf16.bytes_per_block
    yield "recurrent_bytes_per_sequence", "recurrent state, bf16", exact(recurrent, "B")
    if context_tokens:
        held = counts.state_bytes(architecture, Workload(new_tokens=context_tokens), bf16)
        yield "state_bytes_at_context", f"cache and state at {context_tokens:,}, bf16", exact(held, "B")
    assert inspection.flops_per_token is not None
    yield "flops_per_token", "FLOPs a token, forward", exact(inspection.flops_per_token, "FLOP")


def _shape(architecture: Architecture) -> Iterator[tuple[str, int]]:
    """Layers, heads and experts, as far as the model has one number of them: a pipeline or a pair of towers has none.

    Heads are those of models that attend; a latent cache has no heads of keys and values.
    """
    repeated = {p.component is Component.VISION_AUDIO for p in architecture.placements if p.layers is not None}
    if not architecture.parts and (len(repeated) == 1 or architecture.has_tower):
        yield "layers", architecture.num_layers
        states = {state.kind for placement in architecture.placements for state in placement.block.states()}
        if any(placement.block.attention_flops_per_position() for placement in architecture.placements):
            yield "attention_heads", architecture.num_heads
            if StateKind.LATENT not in states:
                yield "kv_heads", architecture.num_kv_heads
    yield "experts", architecture.num_experts
