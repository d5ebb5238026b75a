"""Makes a model fit a budget, and leaves it only where it is still good enough.

Without a proof the best choice for the budget is written. With one, and with what may be lost, budgets are tried from
the smallest upward: each result is written beside its place, proved against the source, and renamed into its place when
it passes; the first that does is the answer. What fails is removed. Where data tell what errors cost, each budget is
tried plainly first and then by these costs; without a proof both are written, and the one that diverges less from the
source on the data stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.compress import gguf_file, plan, sensitivity
from weighbridge.compress.plan import Options, Plan
from weighbridge.compress.prior import expected_loss
from weighbridge.compress.schemes import Scheme
from weighbridge.compress.sensitivity import Sensitivity
from weighbridge.compress.targets import Target, Working, bits_per_weight, target_of
from weighbridge.errors import SourceError, UnitError, WeighbridgeError
from weighbridge.estimate import Basis, Estimate
from weighbridge.inspection import inspect
from weighbridge.measuring.process import peak_resident_bytes
from weighbridge.model.tensors import TensorSpec
from weighbridge.planning import fit
from weighbridge.prove.comparison import Comparison, Rule
from weighbridge.prove.examples import read_examples
from weighbridge.prove.ladder import stricter
from weighbridge.prove.plan import Plan as ProofPlan
from weighbridge.prove.plan import Tell
from weighbridge.prove.proof import Proof
from weighbridge.prove.runs import of_models, without_leaks

RUNGS = (2.75, 3.25, 3.75, 4.25, 4.75, 5.5, 6.5, 8.5)
"""Bits of a weight in the mean, of the budgets that are tried below the one that was asked for."""
PASSING = ("better", "equivalent")
DIVERGENCES: dict[str, Callable[[Comparison], float]] = {
    "kl_divergence": lambda one: one.candidate, "cosine": lambda one: 1 - one.candidate,
}  # fmt: skip
"""By metric: how far a result is from its source."""
LEAST_WHOLE_BITS = 15.0
"""Bits of a weight in the mean of a source that has not been quantized."""
SERVED_TOKENS = 640
"""Prompt and answer together that a device is asked for, as `weigh fit` does; fewer in a shorter context."""
MOSTLY = 0.95
"""Of the weights: beyond it, a result counts as quantized throughout."""
MEASURED = 32
"""Texts of the calibration data that divergence is measured on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for: a budget of bytes, of a device, bits of a weight, or a method; and how to work.

    `device` keeps a context of `context_tokens` and a batch beside the weights. `calibrate` is a file of texts that
    tell what errors cost, `imatrix` an importance matrix.
    """

    to_bytes: int | None = None
    device: str | None = None
    context_tokens: int | None = None
    batch: int | None = None
    bits: float | None = None
    method: str | None = None
    format: str = "gguf"
    calibrate: str | Path | None = None
    imatrix: str | Path | None = None
    memory_bytes: int = gguf_file.MEMORY_BYTES
    jobs: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.to_bytes, self.device, self.bits, self.method)) != 1:
            raise UnitError("no budget, or several", "one of --to, --fit, --bits and --method", "name one")
        if self.bits is not None and not 0 < self.bits <= 64:
            raise UnitError(f"{self.bits} bits of a weight", "a number above 0 and up to 64", "correct it")
        if self.calibrate is not None and self.imatrix is not None:
            raise UnitError("both texts and an importance matrix", "one of --calibrate and --imatrix", "leave one out")
        if self.device is None and (self.context_tokens, self.batch) != (None, None):
            raise UnitError("a context or a batch without a device", "--fit DEVICE with them", "name the device")


@dataclass(frozen=True, slots=True)
class Step:
    """One result that was tried: its bytes, by which costs it was chosen, and what was said of it.

    `divergence` is what was measured of it on the calibration data, `expected` what the costs had said of it.
    """

    size_bytes: int
    by: str
    verdict: str | None = None
    reason: str | None = None
    divergence: float | None = None
    expected: float | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of `tried`."""
        return {"bytes": self.size_bytes, "by": self.by, "verdict": self.verdict, "reason": self.reason,
                "divergence": self.divergence, "expected_divergence": self.expected}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What was planned and, where `path` is not None, written. `proof` is the last one.

    `tensors` are those of the result as the source has them, `errors` relative squared errors.
    """

    source: str
    path: str | None
    format: str
    input_bytes: int
    bits_per_weight: float
    tensors: tuple[TensorSpec, ...]
    plan: Plan
    errors: Mapping[str, float]
    costs: Sensitivity
    unfit: Mapping[str, tuple[str, ...]]
    expected: Estimate
    seconds: float
    proof: Proof | None = None
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_packed(self) -> bool:
        """Whether the source had been quantized before: published losses count from 16 bits."""
        return self.bits_per_weight * self.input_bytes / self.plan.size_bytes < LEAST_WHOLE_BITS

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh shrink --json`."""
        chosen, losses = self.plan.encodings, self.plan.losses
        error = {name: self.errors[name] ** 0.5 if name in self.errors else None for name in chosen}
        return {
            "source": self.source, "output": self.path, "format": self.format, "input_bytes": self.input_bytes,
            "output_bytes": self.plan.size_bytes, "budget_bytes": self.plan.budget_bytes or None,
            "bits_per_weight": self.bits_per_weight,
            "tensors": [{"name": name, "encoding": chosen[name].name, "relative_error": error[name],
                         "loss": losses.get(name)} for name in chosen],
            "unfit": [{"name": name, "encodings": list(found)} for name, found in self.unfit.items()],
            "costs": {"by": self.costs.basis, "unit": self.costs.unit},
            "predicted_loss": self.expected.to_json(), "proof": None if self.proof is None else self.proof.to_json(),
            "tried": [one.to_json() for one in self.steps],
            "peak_rss_bytes": peak_resident_bytes(), "seconds": self.seconds, "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Choice:
    """A plan to try, and the costs by which it was chosen and is encoded."""

    plan: Plan
    costs: Sensitivity


def shrink(
    source: str | Path, place: str | Path | None, wish: Wish, proof: ProofPlan | None = None, rule: Rule | None = None,
    tell: Tell | None = None,
) -> Shrunk:  # fmt: skip
    """Makes the result, or only plans it where there is no place for it.

    Args:
        source: a GGUF file, or a folder of safetensors.
        place: the file or folder to write; None only plans.
        wish: what is asked for.
        proof: what the source and the result are asked.
        rule: what a verdict needs; a result that has to keep something is left only when it passes.
        tell: is told how far the work has come.

    Raises:
        WeighbridgeError: when the source cannot be read, the budget cannot be met, or the target cannot be written.
    """
    start = time.perf_counter()
    made = target_of(source, wish.format)
    given = (None if proof is None else proof.data, wish.calibrate, wish.imatrix)
    if place is not None:
        _check(made, Path(place), [*made.paths, *(Path(one) for one in (source, *given) if one is not None)])
    if place is not None and proof is not None and proof.data is not None:
        without_leaks(proof, read_examples(proof.data, proof.limit))  # what cannot be used is told before any work
    if wish.calibrate is not None:
        read_examples(wish.calibrate)
    elements = sum(one.elements for one in made.tensors)
    notes = list(made.notes)
    budget = None if wish.method is not None else _budget(source, wish, elements)
    if wish.device is not None and budget is not None:
        notes.append(_room(wish, budget))
    learned = _learned(source, made, wish, tell)
    gates = proof is not None and rule is not None and (rule.keep is not None or rule.margin is not None)
    choices = _choices(made, wish, budget, learned, tell, climbs=gates and place is not None)
    how = Working(memory_bytes=wish.memory_bytes, jobs=wish.jobs, tell=tell)
    last, steps, found, path = choices[-1], [], None, None
    errors = last.plan.errors
    if place is not None and gates:
        asked = stricter(rule or Rule(), len(choices))  # each is a chance to pass by luck
        for one in choices:
            last, trial = one, made.trial_of(Path(place))
            made.remove(trial)  # of a run that was killed
            try:
                errors = made.write(trial, one.plan.encodings, one.costs, how)
                found = of_models(str(source), str(trial), proof or ProofPlan(), asked, tell)
                steps.append(Step(one.plan.size_bytes, one.costs.basis, found.verdict, found.reason))
                if found.verdict in PASSING:
                    path = _settled(made, trial, Path(place))
                    break
            finally:
                made.remove(trial)
    elif place is not None:
        last, errors, steps = _best(source, made, Path(place), choices, wish, how, notes)
        path = str(place)
        if proof is not None:
            found = of_models(str(source), path, proof, rule or Rule(), tell)
            steps.append(Step(last.plan.size_bytes, last.costs.basis, found.verdict, found.reason))
    if found is not None:
        found = replace(found, candidate=path or f"{place}, which is not left")
    last = replace(last, plan=replace(last.plan, budget_bytes=budget or 0))
    if errors and not last.plan.losses:
        lost = {name: last.costs.costs.get(name, 0.0) * error for name, error in errors.items()}
        last = replace(last, plan=replace(last.plan, errors=errors, losses=lost))
    size = last.plan.size_bytes
    if size >= made.size_bytes:
        fits = " the source fits as it is;" if budget is not None and made.size_bytes <= budget else ""
        notes.append(f"nothing is saved:{fits} {size:,} bytes instead of {made.size_bytes:,}")
    unfit = made.unfit()
    if wish.method is not None:  # only what was wanted for some of the tensors
        used = {one.name for one in last.plan.encodings.values()}
        kept = {name: tuple(one for one in some if one in used) for name, some in unfit.items()}
        unfit = {name: some for name, some in kept.items() if some}
    bits, before = (bits_per_weight(made, one) for one in (size, made.size_bytes))
    return Shrunk(str(source), path, made.format, made.size_bytes, bits, tuple(made.tensors), last.plan, errors,
                  last.costs, unfit, _expected(source, last.plan, made, before), time.perf_counter() - start,
                  found, tuple(steps), tuple(dict.fromkeys((*notes, *last.costs.notes))))  # fmt: skip


def _check(made: Target, target: Path, read: Sequence[Path]) -> None:
    known = {path.resolve() for path in read}
    for one in (target, made.trial_of(target)):
        if known & {one.resolve(), one.with_name(f"{one.name}.part").resolve()}:
            raise UnitError(f"{target}, beside which or where lies what is read", "another place to write to",
                            "choose another")  # fmt: skip
    if not target.resolve().parent.is_dir():
        raise SourceError(f"{target} cannot be written", "a place in a folder that exists", "choose another")
    if made.format == "gguf" and target.exists() and not target.is_file():
        what = "a folder" if target.is_dir() else "no ordinary file"
        raise SourceError(f"{target} is {what}", "a file to write", "name a file")
    if made.format == "safetensors" and target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise SourceError(f"{target} is there already", "a folder that does not exist, or an empty one",
                          "name another")  # fmt: skip


def _budget(source: str | Path, wish: Wish, elements: int) -> int:
    if wish.to_bytes is not None:
        return wish.to_bytes
    if wish.bits is not None:
        return int(wish.bits * elements / 8)
    engine = {"gguf": ("llama.cpp", "q4_k_m"), "safetensors": ("vllm", "w8a8")}[wish.format]
    tokens = min(SERVED_TOKENS, wish.context_tokens or SERVED_TOKENS)
    answer = max(1, tokens // 5)
    planned = fit(source, wish.device or "", runtime=engine[0], weights=engine[1], alternatives=False,
                  prompt_tokens=tokens - answer, output_tokens=answer, context_tokens=wish.context_tokens,
                  batch=wish.batch)  # fmt: skip
    room = planned.memory.room_bytes
    if room is None:
        raise UnitError(f"{wish.device}, whose memory is not known", "a device with its memory",
                        "give a budget with --to")  # fmt: skip
    if room <= 0:
        raise plan.BudgetError(f"{_room(wish, 0)}", "a device with room for weights",
                               "ask for a shorter context, a smaller batch or a larger device", 0)  # fmt: skip
    return room


def _room(wish: Wish, budget: int) -> str:
    beside = [f"a context of {wish.context_tokens or SERVED_TOKENS:,} tokens", f"a batch of {wish.batch or 1:,}"]
    return f"{wish.device} has room for {budget:,} bytes of weights beside {' and '.join(beside)}"


def _learned(source: str | Path, made: Target, wish: Wish, tell: Tell | None) -> Sensitivity | None:
    """What data tell of the costs of errors."""
    if wish.imatrix is not None:
        from weighbridge.compress import importance

        return sensitivity.with_importance(made.tensors, importance.read(wish.imatrix), Path(wish.imatrix).name)
    if wish.calibrate is None:
        return None
    from weighbridge.compress import activations, gradients
    from weighbridge.prove.engines import open_model
    from weighbridge.prove.engines.transformers import TransformersModel

    if Path(source).is_dir():
        model = open_model(source)
        assert isinstance(model, TransformersModel)
        try:
            return gradients.of_model(model, activations.texts_in(wish.calibrate), wish.seed, tell)
        finally:
            model.close()
    seen = activations.collect(source, wish.calibrate, most=gradients.WINDOWS, tell=tell).importance
    return sensitivity.with_importance(made.tensors, seen, Path(wish.calibrate).name)


def _choices(
    made: Target, wish: Wish, budget: int | None, learned: Sensitivity | None, tell: Tell | None, *, climbs: bool
) -> list[_Choice]:  # fmt: skip
    """The plans to try, in order: the last is the largest, and the one by data where there are any."""
    plain = sensitivity.by_role(made.tensors)
    ways = [plain] if learned is None else [plain, sensitivity.completed(made.tensors, learned)]
    if wish.imatrix is not None and not climbs:
        ways = ways[1:]  # there are no texts to compare both on
    if wish.method is not None:
        chosen = made.method(wish.method)
        empty: dict[str, float] = {}
        ways = [one for one in ways if made.lacking(chosen, one) is None] or ways[-1:]
        return [_Choice(Plan(chosen, made.size_of(chosen), 0, empty, empty), one) for one in ways]
    assert budget is not None
    options = [made.options(one, tell) for one in ways]
    elements = sum(one.elements for one in made.tensors)
    sizes = [int(bits * elements / 8) for bits in RUNGS] if climbs else []
    found: list[_Choice] = []
    for size in [*(one for one in sizes if one < budget), budget]:
        for costs, some in zip(ways, options, strict=True):
            is_last = size == budget and costs is ways[-1] and not found  # with data there is more to choose from
            one = _chosen(made, some, size, last=is_last)
            if one is not None and all(one.encodings != known.plan.encodings or costs is not known.costs
                                       for known in found):  # fmt: skip
                found.append(_Choice(one, costs))
    return found


def _chosen(made: Target, options: Options, size: int, *, last: bool) -> Plan | None:
    try:
        return plan.choose(options, made.size_of, size, made.groups)
    except plan.BudgetError as error:
        if not last:
            return None
        elements = sum(one.elements for one in made.tensors)
        read = f"{size:,} bytes for {elements:,} weights, {8 * size / elements:.2f} bits each"
        raise plan.BudgetError(read, error.expected, error.action, size, error.smallest_bytes) from error


def _best(
    source: str | Path, made: Target, place: Path, choices: Sequence[_Choice], wish: Wish, how: Working,
    notes: list[str],
) -> tuple[_Choice, Mapping[str, float], list[Step]]:  # fmt: skip
    """Writes the only choice, or that which diverges least from the source on the calibration data."""
    if len(choices) == 1:
        return choices[0], made.write(place, choices[0].plan.encodings, choices[0].costs, how), []
    trials, steps, written = [], [], []
    try:
        for number, one in enumerate(choices):
            trials.append(made.trial_of(place.with_name(f"{place.name}.{number}")))
            made.remove(trials[-1])  # of a run that was killed
            written.append(made.write(trials[-1], one.plan.encodings, one.costs, how))
            measured = _divergence(source, trials[-1], wish, how.tell, notes)
            expected = one.plan.loss if one.costs.unit is not None and one.plan.losses else None
            steps.append(Step(one.plan.size_bytes, one.costs.basis, divergence=measured, expected=expected))
        known = [number for number, one in enumerate(steps) if one.divergence is not None]
        best = min(known, key=lambda number: steps[number].divergence or 0.0) if len(known) > 1 else len(choices) - 1
        _settled(made, trials[best], place)
        return choices[best], written[best], steps
    finally:
        for trial in trials:
            made.remove(trial)


def _divergence(source: str | Path, trial: Path, wish: Wish, tell: Tell | None, notes: list[str]) -> float | None:
    """How far a result is from its source on the calibration data; None, with a note, where no engine runs both."""
    try:
        found = of_models(str(source), str(trial), ProofPlan(data=wish.calibrate, limit=MEASURED), Rule(), tell)
    except WeighbridgeError as error:
        notes.append(f"what the result diverges by could not be measured: {error.read}")
        return None
    by_name = {one.name: one for one in found.metrics}
    for name, read in DIVERGENCES.items():
        if name in by_name:
            return read(by_name[name])
    notes.append(f"{wish.calibrate} has no texts that a divergence could be measured on")
    return None


def _settled(made: Target, trial: Path, place: Path) -> str:
    if made.format == "safetensors" and place.is_dir():
        place.rmdir()  # an empty one, as was checked
    return str(trial.replace(place))


def _expected(source: str | Path, chosen: Plan, made: Target, before: float) -> Estimate:
    """What published tables say of so many bits."""
    found = inspect(source)
    is_language_model = found.state is not None and found.state.kv_per_token + found.state.recurrent_per_sequence > 0
    elements = {tensor.name: tensor.elements for tensor in made.tensors}
    whole = sum(elements.values())
    of_rows = sum(elements[name] for name, one in chosen.encodings.items()
                  if isinstance(one, Scheme) and one.is_packed and one.group is None)  # fmt: skip
    in_fp8 = sum(elements[name] for name, one in chosen.encodings.items() if one.name == "fp8")
    if 2 * in_fp8 > whole:
        return Estimate(None, None, None, "", Basis.MODELLED, "no published losses of weights in FP8")
    packed = {name: one.bits_per_weight for name, one in chosen.encodings.items() if one.bits_per_weight < 16}
    share = sum(elements[name] for name in packed) / whole
    bits = sum(elements[name] * each for name, each in packed.items()) / (share * whole) if packed else 16.0
    expected = expected_loss(bits, whole, is_language_model=is_language_model,
                             scheme="rows" if 2 * of_rows > whole else "blocks")  # fmt: skip
    if expected.value is not None and share < MOSTLY:  # tables are of files whose matrices are all quantized
        expected = expected.times(share)
    if before >= LEAST_WHOLE_BITS or expected.value is None:
        return expected
    note = f"counted from 16 bits, of which the source has {before:.1f} left"
    return replace(expected, note="; ".join(filter(None, (expected.note, note))))
