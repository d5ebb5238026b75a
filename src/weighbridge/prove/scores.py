"""What is made of two models' answers to the same examples: metrics, and the answers that flipped?

| kind | metrics |
| --- | --- |
| completions | `exact_match` (spaces around aside), `f1` of words |
| choices | `accuracy`, `acc_norm` (by characters), `calibration_error` |
| labels | `accuracy`, `f1_macro`, `calibration_error` |
| pairs | `spearman` and `pearson` of their cosine with the score |
| texts, of encoders | `cosine` and `neighbour_agreement` between the models |
| retrieval | `ndcg_at_10`, `recall_at_10` |
| code | `pass_at_1`: its tests pass |
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.prove import vectors
from weighbridge.prove.comparison import Pairs
from weighbridge.prove.examples import Example
from weighbridge.prove.metrics import METRICS, TOLD, Metric, calibration_sums, macro_f1, macro_f1_sums, mean_of
from weighbridge.prove.probes import program_of
from weighbridge.prove.tasks import Answer, Asking


@dataclass(frozen=True, slots=True)
class UserMetric:
    """A metric of the user's own: a number for each example from its fields and what a model answered.

    A package offers it by the entry point `weighbridge.metrics`; `--metric` names it. What a model answered is the text
    that it wrote, or the choice or label that it found likeliest.
    """

    name: str
    score: Callable[[Mapping[str, Any], str], float]
    higher_is_better: bool = True


@dataclass(frozen=True, slots=True)
class Flip:
    """An example that one model got right and the other wrong."""

    place: str
    prompt: str
    expected: str
    base: str
    candidate: str
    lost: bool

    def to_json(self) -> dict[str, Any]:
        """One entry of `flipped`."""
        return {"example": self.place, "prompt": self.prompt, "expected": self.expected, "base": self.base,
                "candidate": self.candidate, "lost": self.lost}  # fmt: skip


def metrics_of(
    how: Asking, rows: Sequence[Example], base: Sequence[Answer], candidate: Sequence[Answer],
    clusters: NDArray[np.int64], *, passages: Sequence[Mapping[str, Sequence[float]]] = (),
    own: Sequence[UserMetric] = (), run_code: Callable[[str], bool] | None = None,
) -> tuple[dict[str, Pairs], tuple[Flip, ...]]:  # fmt: skip
    """The metrics of two lists of answers, and the examples of which the first metric flipped.

    Args:
        how: how they were asked.
        rows: the examples.
        base: an answer for each.
        candidate: the same of the other model.
        clusters: the number of the cluster of each.
        passages: for retrieval, the vectors of the passages by name, of both models.
        own: metrics of the user's own.
        run_code: says whether a program passes.
    """
    both = (base, candidate)
    found: dict[str, Pairs] = {}

    def add(metric: Metric, sums: Sequence[Sequence[Sequence[float]]]) -> None:
        first, second = (np.array(side, dtype=np.float64) for side in sums)
        found[metric.name] = Pairs(metric, first, second, clusters)

    def share(name: str, right: Sequence[Sequence[float]]) -> None:
        add(METRICS[name], [[(value, 1.0) for value in side] for side in right])

    said: list[list[str]] = [[], []]
    right: list[list[bool]] | None = None
    match how.kind, how.ability:
        case "completions", _:
            said = [[str(one).strip() for one in side] for side in both]
            wanted = [str(row.fields["completion"]).strip() for row in rows]
            right = [[one == other for one, other in zip(side, wanted, strict=True)] for side in said]
            share("exact_match", right)
            words = [[f1_of_words(one, other) for one, other in zip(side, wanted, strict=True)] for side in said]
            add(TOLD["f1"], [[(value, 1.0) for value in side] for side in words])
        case "code", _:
            assert run_code is not None
            said = [[str(one) for one in side] for side in both]
            right = [
                [run_code(program_of(row.fields, one)) for row, one in zip(rows, side, strict=True)] for side in said
            ]
            share("pass_at_1", right)
        case "choices", _:
            picked = [[int(np.argmax(one)) for one in side] for side in both]
            gold = [row.fields["answer"] for row in rows]
            said = [[row.fields["choices"][one] for row, one in zip(rows, side, strict=True)] for side in picked]
            right = [[one == other for one, other in zip(side, gold, strict=True)] for side in picked]
            share("accuracy", right)
            longs = [np.array([len(choice) for choice in row.fields["choices"]]) for row in rows]
            normal = [[int(np.argmax(np.array(one) / long)) == other for one, long, other in
                       zip(side, longs, gold, strict=True)] for side in both]  # fmt: skip
            add(TOLD["acc_norm"], [[(float(value), 1.0) for value in side] for side in normal])
            add(METRICS["calibration_error"], [[calibration_sums(_share_of(one), ok) for one, ok in
                                                zip(side, known, strict=True)]
                                               for side, known in zip(both, right, strict=True)])  # fmt: skip
        case "labels", _:
            table = [[_by_label(one, how.labels) for one in side] for side in both]
            said = [[max(one, key=lambda label: one[label]) for one in side] for side in table]
            gold_labels = [str(row.fields["label"]) for row in rows]
            right = [[one == other for one, other in zip(side, gold_labels, strict=True)] for side in said]
            share("accuracy", right)
            every = sorted({*gold_labels, *said[0], *said[1]})  # a model may find a label that the data do not have
            place = {label: number for number, label in enumerate(every)}
            add(macro_f1(len(place)), [[macro_f1_sums(place[gold], place[one], len(place)) for one, gold in
                                        zip(side, gold_labels, strict=True)] for side in said])  # fmt: skip
            add(METRICS["calibration_error"], [[calibration_sums(max(one.values()), ok) for one, ok in
                                                zip(side, known, strict=True)]
                                               for side, known in zip(table, right, strict=True)])  # fmt: skip
        case "pairs", _:
            scores = [float(row.fields["score"]) for row in rows]
            for name in ("spearman", "pearson"):
                add(METRICS[name], [list(zip(scores, side, strict=True)) for side in both])
        case "retrieval", _:
            grades = [vectors.grades_of(row.fields["relevant"]) for row in rows]
            rankings = [_rankings(side, held) for side, held in zip(both, passages, strict=True)]
            for name, measure in (("ndcg_at_10", vectors.ndcg), ("recall_at_10", vectors.recall)):
                add(METRICS[name], [[(measure(one, grade), 1.0) for one, grade in zip(side, grades, strict=True)]
                                    for side in rankings])  # fmt: skip
        case "texts", "embeds":
            first, second = (np.array(side, dtype=np.float32) for side in both)
            one = [(1.0, 1.0)] * len(rows)
            if first.shape == second.shape:
                add(METRICS["cosine"], [one, [(value, 1.0) for value in vectors.cosines(first, second).tolist()]])
            if len(rows) > 2:
                same = vectors.nearest(first) == vectors.nearest(second)
                add(METRICS["neighbour_agreement"], [one, [(float(value), 1.0) for value in same]])
    for metric in own if said[0] else ():
        numbers = [[_own(metric, row, one) for row, one in zip(rows, side, strict=True)] for side in said]
        is_count = all(value in (0.0, 1.0) for side in numbers for value in side)
        mean = mean_of(metric.name, higher_is_better=metric.higher_is_better, is_count=is_count)
        add(mean, [[(value, 1.0) for value in side] for side in numbers])
    return found, () if right is None else _flips(how, rows, said, right)


def _flips(how: Asking, rows: Sequence[Example], said: list[list[str]], right: list[list[bool]]) -> tuple[Flip, ...]:
    found = []
    for place, row in enumerate(rows):
        if right[0][place] == right[1][place]:
            continue
        expected = str(row.fields.get("label", row.fields.get("completion", row.fields.get("entry_point", ""))))
        if how.kind == "choices":
            expected = row.fields["choices"][row.fields["answer"]]
        prompt = row.text if how.kind == "labels" else str(row.fields["prompt"])
        found.append(Flip(row.place, prompt, expected, said[0][place], said[1][place], lost=right[0][place]))
    return tuple(found)


def _own(metric: UserMetric, row: Example, said: str) -> float:
    try:
        value = float(metric.score(row.fields, said))
    except Exception as error:  # of a stranger's function
        raise ConfigError(f"the metric {metric.name} fails on {row.place} ({type(error).__name__}: {error})",
                          "a number", "correct the metric") from error  # fmt: skip
    if not math.isfinite(value):
        raise ConfigError(f"the metric {metric.name} gives {value} for {row.place}", "a number", "correct the metric")
    return value


def _rankings(queries: Sequence[Answer], passages: Mapping[str, Sequence[float]]) -> list[list[str]]:
    names = list(passages)
    held = vectors.unit(np.array([passages[name] for name in names], dtype=np.float32))
    return [vectors.ranking(np.array(one, dtype=np.float32), held, names) for one in queries]


def _share_of(likelihoods: Sequence[float]) -> float:
    """The probability of the likeliest choice among the choices."""
    most = max(likelihoods)
    return 1 / sum(math.exp(one - most) for one in likelihoods)


def _by_label(found: Answer, labels: Sequence[str]) -> dict[str, float]:
    """The probability of each label, from a classifier's or from likelihoods."""
    if isinstance(found, Mapping):
        return {str(label): float(value) for label, value in found.items()}
    most = max(found)
    each = [math.exp(one - most) for one in found]
    return {label: value / sum(each) for label, value in zip(labels, each, strict=True)}


def f1_of_words(found: str, wanted: str) -> float:
    """The F1 of the words of an answer, as SQuAD counts them: without case, punctuation and articles.

    Example:
        >>> f1_of_words("The red car.", "a red bus"), f1_of_words("", "")
        (0.5, 1.0)
    """
    one, other = (_words(text) for text in (found, wanted))
    if not one or not other:
        return float(one == other)
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other))


def _words(text: str) -> list[str]:
    plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()
