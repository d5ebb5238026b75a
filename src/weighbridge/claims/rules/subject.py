"""Of which model does a statement speak? A named one with its counts, or a size alone."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from weighbridge.claims.facts import Facts
from weighbridge.inspection import Inspection, inspect
from weighbridge.model.architecture import Architecture
from weighbridge.model.catalogue import NamedModel, find_model, models
from weighbridge.training_source import shape

KEY_NAMES = {
    "V": ("vocab_size",), "d": ("hidden_size", "n_embd", "d_model", "dim"),
    "L": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "ff": ("intermediate_size", "d_ff", "ffn_dim", "hidden_dim", "n_inner"),
    "kv": ("num_key_value_heads",), "E": ("num_local_experts", "num_experts", "n_routed_experts"),
}  # fmt: skip
"""What the sizes of a shape are called in configurations, by the letters of `facts.keys`."""
SAME_SIZE = 0.12
"""A size in a name is rounded by no more than this: `7B` is 6.74 billion, `8x7B` is no size."""


LIKE = 0.04
"""A size that stands for a model that was just named differs from its own by no more."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is spoken of. `size` is its parameters as the statement or its developer gives them; None where undisclosed.

    `inspection` is None where no shape is known, or only a size was said.
    """

    title: str
    size: float | None
    active: float | None
    inspection: Inspection | None
    source: str
    model: NamedModel | None = None

    @property
    def architecture(self) -> Architecture | None:
        """Its description."""
        return None if self.inspection is None else self.inspection.architecture

    def shaped(self) -> Inspection:
        """Its counts, or those of a usual shape of its size."""
        if self.inspection is not None:
            return self.inspection
        assert self.size is not None
        return _usual(float(f"{self.size:.1e}"))


@functools.lru_cache(1024)
def _usual(size: float) -> Inspection:
    """A usual shape of a size of two digits: there are few, however long a text is."""
    return shape(round(size)).inspection


@functools.lru_cache(512)
def named(name: str) -> Subject:
    """The subject that a model of the catalogue is."""
    model = find_model(name)
    if model.config:
        found = inspect(model)
        counts = found.parameters
        return Subject(model.title, counts.total, counts.active_per_token, found, model.source_of("config"), model)
    return Subject(model.title, model.stated, model.stated, None, model.source_of("stated"), model)


def of_size(low: float, high: float | None = None) -> Subject:
    """The subject that a number of parameters alone is."""
    return Subject(f"{low / 1e9:g}B parameters" if high is None else f"{low / 1e9:g}-{high / 1e9:g}B parameters",
                   (low + (high or low)) / 2, (low + (high or low)) / 2, None, "")  # fmt: skip


def of_keys(keys: dict[str, float]) -> Subject | None:
    """The model of the catalogue whose shape has all of the given sizes; None where none or two different have.

    Example:
        >>> of_keys({"V": 30522, "d": 1024, "L": 24, "ff": 4096}).title
        'BERT large'
    """
    wanted = {key: value for key, value in keys.items() if key in KEY_NAMES}
    if len(wanted) < 3 or not {"d", "L"} <= wanted.keys():
        return None
    found = [model for model in models() if model.config and _has(model, wanted)]
    sizes = {named(model.name).size for model in found}
    return named(found[0].name) if len(sizes) == 1 else None


def _has(model: NamedModel, wanted: dict[str, float]) -> bool:
    return all(any(model.config.get(name) == value for name in KEY_NAMES[key]) for key, value in wanted.items())


def subjects(facts: Facts, claimed: float | None = None) -> tuple[Subject, ...]:
    """The models that a statement speaks of: those that it names, by shape or by size, else those of the one before.

    Args:
        facts: of the statement.
        claimed: a size that is claimed, which chooses among the models that a name may mean.
    """
    found = tuple(_chosen(facts, claimed))
    above = facts.near("models")
    if found and above is not None and not facts.models:
        like = [one for one in _chosen(above, None) if any(_is_like(one, other) for other in found)]
        if like:
            return tuple(like[:1])
    for one in (above, facts.near("sizes")):
        if not found and one is not None:
            found = tuple(_chosen(one, None))
    return found


def _is_like(named_before: Subject, sized: Subject) -> bool:
    """Whether a size is that of the model named before, so that it stands for it."""
    sizes = named_before.size, sized.size
    return sizes[0] is not None and sizes[1] is not None and abs(sizes[0] / sizes[1] - 1) < LIKE


def _chosen(facts: Facts, claimed: float | None) -> list[Subject]:
    found: list[Subject] = []
    sizes = [q for q in facts.sizes if q.low >= 1e6]
    for thing in facts.named_models:
        wanted = [q.value for q in sizes] + ([claimed] if claimed else [])
        members = [named(model.name) for model in thing.models]
        if len(members) > 1:
            near = [m for m in members if m.size and any(abs(m.size / w - 1) < SAME_SIZE for w in wanted)]
            members = near or ([] if thing.is_series else members[:1])
        found += members[:1]
    if found:
        return list({one.title: one for one in found}.values())
    by_shape = of_keys(facts.keys)
    if by_shape is not None:
        return [by_shape]
    return [of_size(q.low, q.high if q.is_range else None) for q in sizes]


def undisclosed(found: tuple[Subject, ...]) -> Subject | None:
    """The first whose size its developer has not said."""
    return next((one for one in found if one.size is None), None)
