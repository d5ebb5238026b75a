"""Which shape has a wanted number of parameters? Layers, width and inner size, found by the counts of the engine.

For each width a model grows by a constant number of parameters a layer, and by a constant one for each step of the
inner size; two counts give either constant, so that no formula is repeated here. Shapes are ordered by how far their
width for each layer is from that of published models of the size: about 64 at 0.1 billion parameters and 128 from a
billion on (GPT-3's table 2.1, the Llama reports). Loss depends weakly on it over a wide range (Kaplan et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import ConfigError, UnitError
from weighbridge.inspection import Inspection, inspect

TOLERANCE = 0.01
_STEPS = (256, 64, 32)
"""Multiples for the inner size, from what kernels like best to what they take."""


@dataclass(frozen=True, slots=True)
class Design:
    """A shape: its configuration, how it weighs, and how far from the target its total is (0.01 is one percent)."""

    config: dict[str, Any]
    inspection: Inspection
    deviation: float

    @property
    def total(self) -> int:
        """Its parameters."""
        return self.inspection.parameters.total

    def to_json(self) -> dict[str, Any]:
        """One entry of the document of `weigh design --json`."""
        counted = self.inspection.parameters
        return {
            "config": self.config,
            "total": counted.total,
            "deviation": self.deviation,
            "active_per_token": counted.active_per_token,
            "by_component": {name: count for name, count in counted.by_component.items() if count},
            "kv_bytes_per_token": self.inspection.state_json()["kv_bytes_per_token"],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a designer fixes; None leaves it to the search.

    `parameters` is the wanted total and `vocab_size` the rows of the token table. `model_type` names the wiring.
    `num_kv_heads` may be left out for as many as heads. `experts` and `experts_per_token` are for mixtures.
    """

    parameters: int
    vocab_size: int
    model_type: str = "llama"
    num_layers: int | None = None
    hidden_size: int | None = None
    head_dim: int | None = None
    num_kv_heads: int | None = None
    experts: int | None = None
    experts_per_token: int | None = None
    max_positions: int = 4096
    tied: bool = False


def design(wish: Wish, most: int = 5) -> list[Design]:
    """Shapes within one percent of the wanted total, the most usual proportions first.

    Raises:
        UnitError: when the wish has no parameters, no vocabulary or contradicts itself.
        WeighbridgeError: when no family has the wiring, or it needs more settings than a shape has.

    Example:
        >>> found = design(Wish(parameters=1_300_000_000, vocab_size=50_000))
        >>> config = found[0].config
        >>> abs(found[0].total / 1.3e9 - 1) < 0.01, config["hidden_size"] % config["num_attention_heads"]
        (True, 0)
    """
    if min(wish.parameters, wish.vocab_size) < 1:
        raise UnitError("nothing is to be designed", "a count of parameters and a vocabulary of 1 or more", "give both")
    if (wish.experts is None) != (wish.experts_per_token is None):
        raise UnitError("a mixture is half described", "experts and how many a token uses", "give both or none")
    found = {(d.config["hidden_size"], d.config["num_hidden_layers"]): d for d in _shapes(wish)}
    usual = 64 * max(1.0, min(2.0, 2 ** math.log10(max(wish.parameters, 1) / 1e8)))

    def oddity(candidate: Design) -> float:
        shape = candidate.config["hidden_size"] / candidate.config["num_hidden_layers"]
        return abs(math.log(shape / usual)) + 20 * abs(candidate.deviation)

    return sorted(found.values(), key=oddity)[:most]


def designs_json(wish: Wish, found: Iterable[Design]) -> dict[str, Any]:
    """The document of `weigh design --json`: the target and the shapes found for it."""
    return {"target": wish.parameters, "designs": [shape.to_json() for shape in found]}


def _shapes(wish: Wish) -> Iterator[Design]:
    """At most one shape for each width: the layers that fit best, then the inner size that closes the gap."""
    for hidden, heads in _widths(wish):
        if wish.num_kv_heads is not None and heads % wish.num_kv_heads:
            continue
        inner = _multiple(hidden * 8 / 3, _STEPS[0] if hidden >= 1024 else 64)
        base = _config(wish, hidden, heads, 1, inner)
        fixed, each = _line(base, "num_hidden_layers", 1)
        if each <= 0:
            read = f"a {wish.model_type}, whose parameters do not grow with num_hidden_layers"
            raise ConfigError(read, "a wiring of layers, such as llama", "choose another model type")
        layers = wish.num_layers or round((wish.parameters - fixed) / each)
        if not 1 <= layers <= 1000 or not 4 <= hidden / layers <= 1024:
            continue
        config = base | {"num_hidden_layers": layers}
        for step in _STEPS:
            at = _config(wish, hidden, heads, layers, step)
            start, slope = _line(at, "intermediate_size", step)
            if slope:
                wanted = round((wish.parameters - start) / slope)
                if not hidden <= wanted * step <= 8 * hidden:
                    continue
                config = at | {"intermediate_size": wanted * step}
            inspection = inspect(config)
            deviation = inspection.parameters.total / wish.parameters - 1
            if abs(deviation) <= TOLERANCE:
                yield Design(config, inspection, deviation)
                break


def _widths(wish: Wish) -> Iterator[tuple[int, int]]:
    """Widths with their heads: whole heads of 64 or 128 numbers unless the wish says otherwise."""
    if wish.hidden_size is not None:
        head = wish.head_dim or next((size for size in (128, 64, 32, 16) if wish.hidden_size % size == 0), 1)
        if wish.hidden_size % head:
            read = f"a width of {wish.hidden_size} and heads of {head}"
            raise UnitError(read, "a width of whole heads", "change one of them")
        yield wish.hidden_size, wish.hidden_size // head
        return
    for hidden in [*range(64, 1024, 64), *range(1024, 4096, 128), *range(4096, 32769, 256)]:
        head = wish.head_dim or (128 if hidden >= 2048 else 64)
        if hidden % head == 0 and hidden * wish.vocab_size < 2 * wish.parameters:
            yield hidden, hidden // head


def _config(wish: Wish, hidden: int, heads: int, layers: int, inner: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": wish.model_type, "vocab_size": wish.vocab_size, "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": wish.num_kv_heads or heads, "head_dim": hidden // heads, "intermediate_size": inner,
        "max_position_embeddings": wish.max_positions, "tie_word_embeddings": wish.tied,
    }  # fmt: skip
    if wish.experts is not None:
        config |= {"num_local_experts": wish.experts, "num_experts_per_tok": wish.experts_per_token}
    return config


def _line(config: dict[str, Any], key: str, step: int) -> tuple[int, int]:
    """What is left at 0 of a setting, and what each step of it adds."""
    one, two = (inspect(config | {key: config[key] + more}).parameters.total for more in (0, step))
    at_zero = one - (two - one) * (config[key] // step)
    return at_zero, two - one


def _multiple(value: float, of: int) -> int:
    return max(of, round(value / of) * of)
