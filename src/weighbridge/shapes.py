"""Which shape has a wanted number of parameters? Layers, width and inner size, found by the counts of the engine.

For each width a model grows by a constant number of parameters a layer, and by a constant one for each step of the
inner size; two counts give either constant, so that no formula is repeated here. Shapes are ordered by how far their
width for each layer is from that of published models of the size: about 64 at 0.1 billion parameters and 128 from a
billion on (GPT-3's table 2.1, the Llama reports). Loss depends weakly on it over a wide range (Kaplan et al. 2020).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from weighbridge.errors import ConfigError, UnitError
from weighbridge.formats import config as config_format
from weighbridge.inspection import Inspection, inspect
from weighbridge.model import families
from weighbridge.model.architecture import Architecture

TOLERANCE = 0.01
_INNER = ("moe_intermediate_size", "intermediate_size", "n_inner")
"""Spellings of the inner size; a wiring reads some of them."""
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

    A configuration holds what the wiring reads and nothing else: where one ignores the inner size, there is none.

    Raises:
        UnitError: when a number is none that can be wished for, or the wish contradicts itself.
        ConfigError: for a wiring that needs other settings, or does not read one that is wished for.
        UnknownNameError: when no family has the wiring.

    Example:
        >>> found = design(Wish(parameters=1_300_000_000, vocab_size=50_000))
        >>> config = found[0].config
        >>> abs(found[0].total / 1.3e9 - 1) < 0.01, config["hidden_size"] % config["num_attention_heads"]
        (True, 0)
    """
    for name, value in asdict(wish).items():
        if type(value) is int and not 1 <= value < 2**50:
            raise UnitError(f"{name.replace('_', ' ')} is {value:,}", "a whole number of 1 or more", "correct it")
    if (wish.experts is None) != (wish.experts_per_token is None):
        raise UnitError("a mixture is half described", "experts and how many a token uses", "give both or none")
    families.find(wish.model_type)
    found = {(d.config["hidden_size"], d.config["num_hidden_layers"]): d for d in _shapes(wish, *_read_keys(wish))}
    usual = 64 * max(1.0, min(2.0, 2 ** math.log10(max(wish.parameters, 1) / 1e8)))

    def oddity(candidate: Design) -> float:
        hidden = candidate.config["hidden_size"]
        inner = next((candidate.config[key] for key in _INNER if key in candidate.config), hidden * 8 / 3)
        proportions = abs(math.log(hidden / candidate.config["num_hidden_layers"] / usual))
        return proportions + abs(math.log(inner / hidden * 3 / 8)) + 20 * abs(candidate.deviation)

    return sorted(found.values(), key=oddity)[:most]


def _read_keys(wish: Wish) -> tuple[frozenset[str], tuple[str, ...]]:
    """The keys that this wiring ignores, as changing them changes nothing described; and those of its inner size.

    Raises:
        ConfigError: when it needs other settings than a shape has, or ignores one that the wish fixes.
    """
    base = _config(wish, 512, 8, 2)
    other: dict[str, Any] = {
        "vocab_size": base["vocab_size"] + 1, "num_key_value_heads": 2 if base["num_key_value_heads"] != 2 else 4,
        "head_dim": 32,
    }  # fmt: skip
    if wish.experts is not None:
        other["num_local_experts"] = wish.experts + 1
    try:
        inner = _inner_keys(base)
        base |= dict.fromkeys(inner, 1024)
        built = _built(base)
        ignored = frozenset(key for key, value in other.items() if _built(base | {key: value}) == built)
    except ConfigError as error:
        read = f"{wish.model_type} cannot be built from a shape alone: {error.read}"
        raise ConfigError(read, "a wiring such as llama, gpt2, qwen3 or mixtral", "choose another") from error
    wished = {"vocab_size": True, "num_key_value_heads": wish.num_kv_heads is not None,
              "head_dim": wish.head_dim is not None, "num_local_experts": True}  # fmt: skip
    for key in sorted(ignored):
        if wished.get(key):
            read = f"{wish.model_type} does not read {key}"
            raise ConfigError(read, "a wiring that has what is wished for", "choose another model type, or wish less")
    return ignored, inner


def _inner_keys(base: dict[str, Any]) -> tuple[str, ...]:
    """The keys of the inner size that a wiring reads: one of its two spellings, and that of experts."""

    def reads(key: str, beside: dict[str, Any]) -> bool:
        return _built(base | beside | {key: 1024}) != _built(base | beside | {key: 2048})

    usual = next((key for key in ("intermediate_size", "n_inner") if reads(key, {})), None)
    beside = {} if usual is None else {usual: 1024}
    experts = ("moe_intermediate_size",) if reads("moe_intermediate_size", beside) else ()
    return (*beside, *experts)


def _built(config: dict[str, Any]) -> Architecture:
    return families.build(config_format.hyperparameters(config, "a shape"))


def designs_json(wish: Wish, found: Iterable[Design]) -> dict[str, Any]:
    """The document of `weigh design --json`: the target and the shapes found for it."""
    return {"target": wish.parameters, "designs": [shape.to_json() for shape in found]}


def _shapes(wish: Wish, ignored: frozenset[str], inner_keys: tuple[str, ...]) -> Iterator[Design]:
    """At most one shape for each width: the layers that fit best, then the inner size that closes the gap."""
    for hidden, heads in _widths(wish):
        if wish.num_kv_heads is not None and heads % wish.num_kv_heads:
            continue
        inner = _multiple(hidden * 8 / 3, _STEPS[0] if hidden >= 1024 else 64)
        base = _config(wish, hidden, heads, 1) | dict.fromkeys(inner_keys, inner)
        fixed, each = _line(base, ("num_hidden_layers",), 1)
        if each <= 0:
            read = f"a {wish.model_type}, whose parameters do not grow with num_hidden_layers"
            raise ConfigError(read, "a wiring of layers, such as llama", "choose another model type")
        layers = wish.num_layers or round((wish.parameters - fixed) / each)
        if not 1 <= layers <= 1000 or not 4 <= hidden / layers <= 1024:
            continue
        for step in _STEPS if inner_keys else _STEPS[:1]:
            config = _config(wish, hidden, heads, layers) | dict.fromkeys(inner_keys, step)
            if inner_keys:
                start, slope = _line(config, inner_keys, step)
                wanted = round((wish.parameters - start) / slope) * step
                if not hidden // 4 <= wanted <= 8 * hidden:
                    continue
                config |= dict.fromkeys(inner_keys, wanted)
            config = {key: value for key, value in config.items() if key not in ignored}
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


def _config(wish: Wish, hidden: int, heads: int, layers: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": wish.model_type, "vocab_size": wish.vocab_size, "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": wish.num_kv_heads or heads, "head_dim": hidden // heads,
        "max_position_embeddings": wish.max_positions, "tie_word_embeddings": wish.tied,
    }  # fmt: skip
    if wish.experts is not None:
        config |= {"num_local_experts": wish.experts, "num_experts_per_tok": wish.experts_per_token}
    return config


def _line(config: dict[str, Any], keys: tuple[str, ...], step: int) -> tuple[int, int]:
    """What is left at 0 of a setting (in all its spellings), and what each step of it adds."""
    value = config[keys[0]]
    one, two = (inspect(config | dict.fromkeys(keys, value + more)).parameters.total for more in (0, step))
    return one - (two - one) * (value // step), two - one


def _multiple(value: float, of: int) -> int:
    return max(of, round(value / of) * of)
