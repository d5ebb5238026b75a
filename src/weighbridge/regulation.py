"""Which dated rules does a planned training run come under? `weigh thresholds` is a thin layer over this.

Operations are 6 x parameters that a token uses x tokens, as the rules' own estimates are, with three forward passes a
token (forward, and twice as much backward) as the other end of the interval: without attention, and with that of a
sequence. The rules and their states are in `predict.thresholds`. No legal advice.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError, UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.inspection import Inspection, inspect
from weighbridge.predict.counts import forward_flops_per_token
from weighbridge.predict.thresholds import TOKENS_PER_PARAMETER, Standing, rules, standings

SEQUENCE_TOKENS = 8192
"""Tokens of a sequence in training, of which one attends to half in the mean, unless the run says otherwise."""
FEWEST, MOST = 1.7, 2000
"""Tokens a parameter of published models: GPT-3 has 1.7 (300 billion for 175), Llama 3 8B 1,900 (15 trillion)."""
LEAST_OF_6ND, MOST_OF_6ND = 0.8, 1.3
"""Operations over 6 x parameters x tokens, of nine tenths of the catalogue's models from a billion active parameters
on: from tables that do not multiply, and no attention, to attention over sequences of 8,192 tokens."""
NO_ADVICE = "a table of published rules, and no legal advice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Where a run stands with every rule on a day."""

    source: str
    on: datetime.date
    standings: tuple[Standing, ...]
    flops: Estimate | None = None
    parameters: int | None = None
    tokens: int | None = None
    original_flops: Estimate | None = None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh thresholds --json`."""
        return {
            "source": self.source, "on": self.on.isoformat(), "parameters": self.parameters, "tokens": self.tokens,
            "flops": None if self.flops is None else self.flops.to_json(),
            "original_flops": None if self.original_flops is None else self.original_flops.to_json(),
            "rules": [standing.to_json() for standing in self.standings], "notes": list(self.notes),
        }  # fmt: skip


def thresholds(
    on: datetime.date,
    source: str | Path | Inspection | None = None,
    *,
    tokens: int | None = None,
    flops: int | None = None,
    parameters: int | None = None,
    original_flops: int | None = None,
) -> Report:
    """Where a training run stands with every rule of the table.

    Args:
        on: the day whose rules count.
        source: a model, as `inspect` takes it; or give `flops` or `parameters`.
        tokens: that it is trained on. Without them, and without `flops`, 20 a parameter are assumed.
        flops: operations of the run, where they are known.
        parameters: of a model that is not named.
        original_flops: operations of the model that the run changes, where it is another's.

    Raises:
        UnitError: when nothing is given, or two of what excludes each other.
        ConfigError: when the model is not described, or reads no tokens, so that its operations are not known.

    Example:
        >>> found = thresholds(datetime.date(2026, 11, 23), parameters=10**10, tokens=2 * 10**11)
        >>> found.flops.value, {one.verdict for one in found.standings if one.rule.quantity == "training_flop"}
        (12000000000000000000000, {'below'})
    """
    if source is None and flops is None and parameters is None:
        raise UnitError("nothing to place", "a model, --flops or --parameters", "give one")
    if source is not None and parameters is not None:
        raise UnitError("a model and a number of parameters", "one of them", "leave --parameters out")
    if tokens is not None and flops is not None:
        raise UnitError("tokens and operations", "one of them", "leave --tokens or --flops out")
    if tokens is not None and source is None and parameters is None:
        raise UnitError("tokens of no model", "a model or --parameters beside them", "name it")
    for name, count in (("tokens", tokens), ("flops", flops), ("parameters", parameters),
                        ("original-flops", original_flops)):  # fmt: skip
        if count is not None and count < 1:
            raise UnitError(f"--{name} {count}", "a count of 1 or more", "correct it")
    found = None if source is None else source if isinstance(source, Inspection) else inspect(source)
    told = "as given" if found is None else found.source
    total = parameters if found is None else found.parameters.total
    done = None if flops is None else Estimate(flops, flops, flops, "FLOP", Basis.SPECIFIED, "as given")
    if done is None:
        done = _of_parameters(total or 0, tokens) if found is None else _of_model(found, tokens)
    given = original_flops
    original = None if given is None else Estimate(given, given, given, "FLOP", Basis.SPECIFIED, "as given")
    placed = tuple(standings(on, done, total, original))
    return Report(source=told, on=on, standings=placed, flops=done, parameters=total, tokens=tokens,
                  original_flops=original, notes=_notes(on, total))  # fmt: skip


def _of_parameters(parameters: int, tokens: int | None) -> Estimate:
    """6 x parameters x tokens, of a model without a shape; without tokens at the ratios of published models."""
    if tokens is not None:
        product = 6 * parameters * tokens
        note = f"6 x parameters x tokens; {LEAST_OF_6ND:g} to {MOST_OF_6ND:g} times it, as the shape is not known"
        return Estimate(product, LEAST_OF_6ND * product, MOST_OF_6ND * product, "FLOP", Basis.MODELLED, note)
    note = f"6 x parameters x tokens at {TOKENS_PER_PARAMETER} tokens a parameter ({FEWEST:g} to {MOST:,})"
    low, value, high = (6 * parameters**2 * ratio for ratio in (FEWEST, TOKENS_PER_PARAMETER, MOST))
    return Estimate(value, low, high, "FLOP", Basis.ASSUMED, note)


def _of_model(found: Inspection, tokens: int | None) -> Estimate:
    if found.architecture is None:
        read = f"{found.source} is not described, so that the operations of a token are not known"
        raise ConfigError(read, "a described model", "give --flops, or --parameters and --tokens")
    active = found.parameters.active_per_token
    bare, attending = (3 * forward_flops_per_token(found.architecture, context)
                       for context in (0, SEQUENCE_TOKENS // 2))  # fmt: skip
    value = 6 * active
    if bare > 2 * value:  # a convolution works once for every position of an image
        read = f"{found.source} takes {bare // value} times 6 operations a parameter: it reads no tokens"
        raise ConfigError(read, "a model of tokens", "give the operations of its training with --flops")
    if tokens is None:
        return _of_parameters(active, None)
    note = (f"6 x parameters that a token uses x tokens; from three forward passes without attention to three with "
            f"that of {SEQUENCE_TOKENS:,} tokens")  # fmt: skip
    low, high = min(bare, value), max(attending, value)
    return Estimate(value * tokens, low * tokens, high * tokens, "FLOP", Basis.MODELLED, note)


def _notes(on: datetime.date, parameters: int | None) -> tuple[str, ...]:
    notes = [NO_ADVICE]
    last = max(rule.checked for rule in rules())
    if on > last:
        notes.append(f"the rules were last checked on {last}: what changed later is not in them")
    if parameters is not None:
        notes.append(
            "no rule of the table has a threshold of parameters such as 10 or 500 billion: they count operations; "
            "recital 98 of the EU AI Act takes a billion parameters for a sign of generality"
        )
    return tuple(notes)
