"""Makes a GGUF file that fits a budget, and leaves it only where it is still good enough.

Without a proof the best choice for the budget is written. With one, and with what may be lost, budgets are tried from
the smallest upward: each file is written beside its place, proved against the source, and renamed into its place when
it passes; the first that does is the answer. What fails is removed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.compress import gguf_file, plan
from weighbridge.compress.gguf_file import GgufModel, GgufSource
from weighbridge.compress.plan import Option, Plan
from weighbridge.errors import UnitError
from weighbridge.measuring.process import peak_resident_bytes
from weighbridge.model import encodings
from weighbridge.prove.comparison import Rule
from weighbridge.prove.ladder import stricter
from weighbridge.prove.plan import Plan as ProofPlan
from weighbridge.prove.plan import Tell
from weighbridge.prove.proof import Proof
from weighbridge.prove.runs import of_models

RUNGS = (2.75, 3.25, 3.75, 4.25, 4.75, 5.5, 6.5, 8.5)
"""Bits of a weight in the mean, of the budgets that are tried below the one that was asked for."""
PASSING = ("better", "equivalent")


@dataclass(frozen=True, slots=True)
class Step:
    """One budget that was tried: its bytes, and what the proof said."""

    size_bytes: int
    verdict: str
    reason: str


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What was planned and, where `path` is not None, written. `proof` is the last one."""

    source: str
    path: str | None
    input_bytes: int
    elements: int
    plan: Plan
    errors: Mapping[str, float]
    seconds: float
    proof: Proof | None = None
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def bits_per_weight(self) -> float:
        """Bits of the file for each weight."""
        return 8 * self.plan.size_bytes / self.elements

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh shrink --json`."""
        chosen = self.plan.encodings
        return {
            "source": self.source, "output": self.path, "input_bytes": self.input_bytes,
            "output_bytes": self.plan.size_bytes, "budget_bytes": self.plan.budget_bytes,
            "bits_per_weight": self.bits_per_weight,
            "tensors": [{"name": name, "encoding": chosen[name].name, "relative_error": self.errors[name] ** 0.5}
                        for name in chosen],
            "unfit": [{"name": name, "encodings": list(found)} for name, found in self.plan.unfit.items()],
            "predicted_loss": None, "proof": None if self.proof is None else self.proof.to_json(),
            "tried": [{"bytes": one.size_bytes, "verdict": one.verdict, "reason": one.reason} for one in self.steps],
            "peak_rss_bytes": peak_resident_bytes(), "seconds": self.seconds, "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for: a budget of bytes, bits of a weight, or one encoding for all matrices; and how to work."""

    to_bytes: int | None = None
    bits: float | None = None
    method: str | None = None
    memory_bytes: int = gguf_file.MEMORY_BYTES
    jobs: int = 1

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.to_bytes, self.bits, self.method)) != 1:
            raise UnitError("no budget, or several", "one of --to, --bits and --method", "name one")
        if self.bits is not None and not 0 < self.bits <= 64:
            raise UnitError(f"{self.bits} bits of a weight", "a number above 0 and up to 64", "correct it")


def shrink(
    source: str | Path, target: str | Path | None, wish: Wish, proof: ProofPlan | None = None, rule: Rule | None = None,
    tell: Tell | None = None,
) -> Shrunk:  # fmt: skip
    """Makes the file, or only plans it where there is no target.

    Args:
        source: a GGUF file.
        target: the file to write; None only plans.
        wish: what is asked for.
        proof: what the source and the result are asked.
        rule: what a verdict needs; a result that has to keep something is left only when it passes.
        tell: is told how far the work has come.

    Raises:
        WeighbridgeError: when the source cannot be read, the budget cannot be met, or the target cannot be written.
    """
    start = time.perf_counter()
    read = GgufSource(source)
    if target is not None and any(Path(target).resolve() == path.resolve() for path in read.paths):
        raise UnitError(f"{target} is what is read", "another file to write", "choose another")
    options = plan.options_of(read)
    elements = sum(tensor.elements for tensor in read.tensors)
    plans = _plans(read, options, wish, elements, climbs=proof is not None and _gates(rule))
    asked = stricter(rule or Rule(), len(plans))  # each budget is a chance to pass by luck
    notes = _notes(read)
    steps: list[Step] = []
    found: Proof | None = None
    errors: Mapping[str, float] = plans[-1].errors
    chosen, path = plans[-1], None
    for one in plans if target is not None else ():
        place = Path(str(target))
        trial = place.with_name(f"{place.name}.trial.gguf") if proof is not None else place
        written = gguf_file.write(read, trial, one.encodings, memory_bytes=wish.memory_bytes, jobs=wish.jobs, tell=tell)
        chosen, errors = one, written.errors
        if proof is None:
            path = str(place)
            break
        try:
            found = of_models(str(source), str(trial), proof, asked, tell)
            steps.append(Step(one.size_bytes, found.verdict, found.reason))
            if found.verdict in PASSING or not _gates(rule):
                path = str(trial.replace(place))
                break
        finally:
            trial.unlink(missing_ok=True)
    if found is not None and path is not None:
        found = replace(found, candidate=path)
    return Shrunk(str(source), path, read.size_bytes, elements, chosen, errors, time.perf_counter() - start,
                  found, tuple(steps), notes)  # fmt: skip


def _gates(rule: Rule | None) -> bool:
    return rule is not None and (rule.keep is not None or rule.margin is not None)


def _plans(
    source: GgufModel, options: Mapping[str, Sequence[Option]], wish: Wish, elements: int, *, climbs: bool
) -> list[Plan]:  # fmt: skip
    """The plans to try, the largest last."""
    if wish.method is not None:
        return [_uniform(source, options, wish.method)]
    asked = wish.to_bytes if wish.to_bytes is not None else int((wish.bits or 0) * elements / 8)
    last = plan.choose(source, options, asked)
    if not climbs:
        return [last]
    least = plan.smallest(source, options)
    lower = [int(bits * elements / 8) for bits in RUNGS]
    found = [plan.choose(source, options, size) for size in lower if least <= size < asked]
    distinct = {one.size_bytes: one for one in [*found, last]}
    return [distinct[size] for size in sorted(distinct)]


def _uniform(source: GgufModel, options: Mapping[str, Sequence[Option]], name: str) -> Plan:
    """One encoding for every matrix, and the next larger one where its blocks do not fit the rows."""
    wanted = encodings.find(name)
    if name not in plan.CHOICES:
        raise UnitError(f"the method {name}", f"one of {', '.join(plan.CHOICES)}", "name one of these")
    larger = sorted((encodings.find(one) for one in plan.CHOICES), key=lambda one: one.bits_per_weight)
    larger = [wanted, *(one for one in larger if one.bits_per_weight > wanted.bits_per_weight)]
    picked = {}
    for tensor, some in options.items():
        by_name = {one.encoding.name: one for one in some}
        picked[tensor] = next((by_name[one.name] for one in larger if one.name in by_name), some[0])
    return plan.made(source, picked, 0)


def _notes(source: GgufModel) -> tuple[str, ...]:
    packed = sorted({tensor.encoding.name for tensor in source.tensors if tensor.encoding.elements_per_block > 1})
    if not packed:
        return ()
    return (f"the source is already quantized ({', '.join(packed)}): errors are measured against it, and what it has "
            "lost before is not seen",)  # fmt: skip
