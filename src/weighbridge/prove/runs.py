"""The proof of two models that are run on the same examples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from importlib.metadata import entry_points, version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError, FormatError, UnitError, UnknownNameError
from weighbridge.prove import language, probes, sandbox, scores, tasks
from weighbridge.prove.answers import digest
from weighbridge.prove.comparison import Comparison, Pairs, Rule, compare, overall
from weighbridge.prove.engines import open_model
from weighbridge.prove.engines.model import Model
from weighbridge.prove.examples import Example, Examples, Kind, content, named, read_examples, usable
from weighbridge.prove.leakage import leaks
from weighbridge.prove.metrics import METRICS
from weighbridge.prove.plan import PROBE_EXAMPLES, PROBES, Plan, Tell
from weighbridge.prove.proof import Proof, flips, need_scipy
from weighbridge.prove.scores import Flip, UserMetric
from weighbridge.prove.slices import MOST_SLICES, PLAIN, clusters_of, slices_of
from weighbridge.prove.tasks import Asking
from weighbridge.prove.work import Work

PROGRAM_S = 10.0
"""Of a program that a model wrote, before it is too slow."""


def of_models(base: str | Path, candidate: str | Path, plan: Plan, rule: Rule, tell: Tell | None = None) -> Proof:
    """The proof of two models that are run on the same examples.

    Args:
        base: a file, a folder, or an address `http://HOST/v1#MODEL`.
        candidate: the same of the candidate.
        plan: what they are asked.
        rule: what a verdict needs.
        tell: is told how far the work has come.

    Raises:
        WeighbridgeError: when data or a model cannot be read, a model fails, or a package is not installed. What was
            answered before is kept where the plan has a cache.
    """
    need_scipy()
    examples = without_leaks(plan, _examples(plan, rule.seed))
    examples, shots = _shots(plan, examples, rule.seed)
    fields = [row.fields for row in examples.rows]
    notes = list(examples.notes)
    asked = list(plan.slices)
    if PLAIN not in asked and all(PLAIN in one for one in fields):
        if len({str(one[PLAIN]) for one in fields}) <= MOST_SLICES:
            asked.append(PLAIN)
        else:
            notes.append(f"the field {PLAIN} has more than {MOST_SLICES} values and makes no slices")
    lengths = [sum(map(len, content(examples.kind, row, plan.template))) for row in examples.rows]
    slices = slices_of(fields, asked, lengths)
    clusters = clusters_of(fields, plan.cluster)
    own = _own_metrics(plan.metrics)
    _check_names(plan.metrics, [metric.name for metric in own])
    if examples.kind == "code":
        if not plan.run_code:
            raise UnitError("examples with tests, which run what a model wrote", "--run-code", "add it if you agree")
        notes.append(f"what the models wrote was run: {sandbox.isolation()}")
    with ExitStack() as opened:
        models = [opened.enter_context(closing(open_model(source, plan.opening, other)))
                  for source, other in ((base, candidate), (candidate, base))]  # fmt: skip
        how = tasks.asking(examples, models, shots, template=plan.template, most_tokens=plan.most_tokens,
                           stop=plan.stop, window=_window(models, plan.window))  # fmt: skip
        work = Work(models, how, plan, tell or (lambda what, done, of: None))
        if how.kind == "texts" and how.ability == "reads":
            kept = np.ones(len(examples.rows), dtype=bool)
            flipped: tuple[Flip, ...] = ()
            pairs = work.read(examples.rows, clusters)
            notes += _notes_of_reading(models, pairs)
        else:
            pairs, flipped, kept = _asked(work, how, plan, examples, clusters, own, notes)
        notes += [note for model in models for note in model.notes] + work.notes
        notes += _shortened(how, models, examples.rows)
    known = [*pairs, *(["flips"] if any(_flips(one) for one in pairs.values()) else [])]
    for name in plan.metrics:
        if name not in known:
            raise UnitError(f"the metric {name} for {examples.kind} that these models are asked",
                            f"one of {', '.join(known)}", "name one of these")  # fmt: skip
    slices = {name: chosen[kept] for name, chosen in slices.items() if chosen[kept].any()}
    comparisons = _comparisons(pairs, plan.metrics, rule, slices)
    verdict, reason = overall(comparisons)
    settings = {
        "weighbridge": version("weighbridge"), "data": None if plan.data is None else str(plan.data),
        "probe": plan.probe, "data_sha256": examples.digest,
        **{name: None if value is None else str(value) for name, value in (
            ("passages", plan.passages), ("calibration", plan.calibration), ("shots_from", plan.shots_from))},
        "engine": plan.opening.engine, "chat": plan.opening.chat, "run_code": plan.run_code,
        "examples": int(kept.sum()), **how.to_json(), "shots_sha256": digest(how.shots) if how.shots else None,
        "limit": plan.limit, "slices": list(plan.slices), "cluster": plan.cluster, "metrics": list(plan.metrics),
        "models": [{"path": model.path, "sha256": model.digest, "engine": model.engine} for model in models],
    }  # fmt: skip
    return Proof(str(base), str(candidate), comparisons, verdict, reason, rule, tuple(dict.fromkeys(notes)), settings,
                 flipped, work.seconds)  # fmt: skip


def _shortened(how: Asking, models: Sequence[Model], rows: Sequence[Example]) -> list[str]:
    """How many texts an encoder reads only the beginning of."""
    found = []
    for model in models if how.ability == "embeds" else ():
        if model.positions is None or not model.is_known:
            continue
        texts = [text for row in rows for text in content(how.kind, row)]
        longer = sum(len(model.tokens(text)) > model.positions - 2 for text in texts)
        if longer:
            found.append(f"{model.path} reads only the first {model.positions:,} tokens of {longer:,} texts")
    return found


def _check_names(asked: Sequence[str], own: Sequence[str]) -> None:
    """Refuses what no models and examples have, before any is asked."""
    known = {*METRICS, "f1_macro", *own}
    for name in asked:
        if name not in known:
            raise UnknownNameError("metric", name, known, "name one of these, or one that a package offers")


def _asked(
    work: Work, how: Asking, plan: Plan, examples: Examples, clusters: NDArray[np.int64],
    own: Sequence[UserMetric], notes: list[str],
) -> tuple[dict[str, Pairs], tuple[Flip, ...], NDArray[np.bool_]]:  # fmt: skip
    """The metrics of what both models answered, the examples that flipped, and which were short enough for both."""
    passages = work.passages(plan.passages, examples.rows) if how.kind == "retrieval" else []
    answers = work.ask_both(examples.rows)
    kept = np.array([all(side[place] is not None for side in answers) for place in range(len(examples.rows))])
    rows = [row for row, short in zip(examples.rows, kept, strict=True) if short]
    if not rows:
        raise FormatError("every example is longer than a model has positions for", "shorter ones", "cut them")
    if longer := [row.place for row, short in zip(examples.rows, kept, strict=True) if not short]:
        notes.append(f"{named(longer, 'example')} longer than a model has positions for and left out")
    first, second = ([side[place] for place in np.flatnonzero(kept)] for side in answers)
    pairs, flipped = scores.metrics_of(
        how, rows, first, second, np.unique(clusters[kept], return_inverse=True)[1].astype(np.int64),
        passages=passages, own=own,
        run_code=lambda program: sandbox.run(program, seconds=PROGRAM_S).passed)  # fmt: skip
    if "pass_at_1" in pairs and not pairs["pass_at_1"].base[:, 0].any() and not flipped:
        notes.append("neither model passed any test: look at what one writes, and at whether the tests themselves run")
    if "exact_match" in pairs and not pairs["exact_match"].base[:, 0].any() and not flipped:
        wanted, wrote = (str(one).strip()[:80] for one in (rows[0].fields["completion"], first[0]))
        notes.append(f"neither model got any right; {rows[0].place} expected {wanted!r}, and the base wrote {wrote!r}")
    return pairs, flipped, kept


def _comparisons(
    pairs: Mapping[str, Pairs], metrics: Sequence[str], rule: Rule, slices: Mapping[str, NDArray[np.bool_]]
) -> tuple[Comparison, ...]:  # fmt: skip
    found = []
    for name, one in pairs.items():
        if not metrics or name in metrics:
            found.append(compare(one, rule, slices, is_asked=name in metrics))
        if _flips(one) and (not metrics or name in metrics or "flips" in metrics):
            found.append(compare(flips(one), rule, slices, is_asked="flips" in metrics))
    return tuple(found)


def _flips(pairs: Pairs) -> bool:
    return pairs.metric.is_share and not pairs.metric.tells_only


def _shots(plan: Plan, examples: Examples, seed: int) -> tuple[Examples, tuple[Example, ...]]:
    """The examples that are proved on, and those that are worked before each."""
    if plan.shots_from is not None:
        given = read_examples(plan.shots_from)
        if given.kind != examples.kind:
            raise FormatError(
                f"{plan.shots_from} has {given.kind}, the data {examples.kind}", "one kind", "name others"
            )
        if plan.shots > len(given.rows):
            raise UnitError(
                f"{plan.shots} worked examples of {len(given.rows)}", "as many as there are", "ask for fewer"
            )
        shots = given.rows[: plan.shots or None]
        worked = {content(given.kind, row, plan.template) for row in shots}
        rows = [row for row in examples.rows if content(examples.kind, row, plan.template) not in worked]
        if not rows:
            raise FormatError(f"every example is in {plan.shots_from}", "others to prove on", "name another file")
        if len(rows) == len(examples.rows):
            return examples, shots
        note = f"{len(examples.rows) - len(rows):,} examples are worked before the prompts and left out"
        return replace(examples, rows=tuple(rows), notes=(*examples.notes, note)), shots
    if not plan.shots:
        return examples, ()
    shots, kept = tasks.draw_shots(examples, plan.shots, seed)
    return replace(examples, rows=tuple(examples.rows[place] for place in kept)), shots


def _examples(plan: Plan, seed: int) -> Examples:
    if plan.probe is None:
        if plan.data is None:
            raise UnitError("no data and no probe", "one of them", "name a file")
        return read_examples(plan.data, plan.limit, plan.template)
    if plan.probe not in PROBES:
        raise UnknownNameError("probe", plan.probe, PROBES, "name one of these")
    rows = probes.arithmetic(plan.limit or PROBE_EXAMPLES, seed) if plan.probe == "arithmetic" else probes.code()
    found = [Example(row, f"question {number}") for number, row in enumerate(rows, start=1)]
    kind: Kind = "completions" if plan.probe == "arithmetic" else "code"
    return usable(Examples(kind, tuple(found), digest(rows)), plan.limit, plan.probe)


def without_leaks(plan: Plan, examples: Examples) -> Examples:
    """The examples that the candidate was not made with, as far as the plan says what it was made with.

    Raises:
        FormatError: when none is left.
    """
    if plan.calibration is None:
        return examples
    others = read_examples(plan.calibration)
    texts = ("\n".join(content(others.kind, row)) for row in others.rows)
    found = set(leaks(examples.kind, examples.rows, texts, plan.template))
    if not found:
        return replace(examples, notes=(*examples.notes, f"no example is in {plan.calibration} too"))
    rows = tuple(row for place, row in enumerate(examples.rows) if place not in found)
    if not rows:
        raise FormatError(f"every example is in {plan.calibration} too", "data that the candidate was not made with",
                          "name other data")  # fmt: skip
    places = [examples.rows[place].place for place in sorted(found)]
    note = f"{named(places, 'example')} in {plan.calibration} too and left out"
    return replace(examples, rows=rows, notes=(*examples.notes, note))


def _window(models: Sequence[Model], asked: int | None) -> int:
    longest = min(model.positions or language.WINDOW for model in models)
    length = min(language.WINDOW, longest) if asked is None else asked
    if asked is not None and not 2 <= length <= longest:
        raise UnitError(f"a window of {length} tokens", f"2 to {longest:,}, for which both models have positions",
                        "correct it")  # fmt: skip
    return length


def _notes_of_reading(models: Sequence[Model], pairs: Mapping[str, Pairs]) -> list[str]:
    if "perplexity" not in pairs:
        return ["the tokenizers split these texts in other ways: only what a byte of text costs can be compared"]
    if models[0].begin is None or models[0].begin != models[1].begin:
        return ["the models have no token in common that begins a text: the first of each window is not scored"]
    return []


def _own_metrics(names: Sequence[str]) -> list[UserMetric]:
    """The metrics of these names that installed packages offer."""
    found = []
    for entry in entry_points(group="weighbridge.metrics"):
        if entry.name in names:
            try:
                metric = entry.load()
            except Exception as error:  # of a stranger's package
                raise ConfigError(f"the metric {entry.name} cannot be loaded ({type(error).__name__}: {error})",
                                  f"a UserMetric at {entry.value}", "correct the package") from error  # fmt: skip
            if not isinstance(metric, UserMetric) or metric.name != entry.name:
                raise ConfigError(
                    f"{entry.value} is no UserMetric of the name {entry.name}", "one", "correct the package"
                )
            found.append(metric)
    return found
