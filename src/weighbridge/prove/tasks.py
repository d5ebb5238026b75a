"""What is a model asked about an example of each kind, and what is made of two models' answers?

| kind | asked | metrics |
| --- | --- | --- |
| completions | to write after the prompt | `exact_match` (spaces around aside), `f1` of words |
| choices | how likely each choice is after the prompt | `accuracy`, `acc_norm` (by characters), `calibration_error` |
| labels | the probability of each label, by a classifier or as choices | `accuracy`, `f1_macro`, `calibration_error` |
| pairs | a vector of both sentences | `spearman` and `pearson` of their cosine with the score |
| texts, of encoders | a vector | `cosine` and `neighbour_agreement` between the models |
| retrieval | a vector of the query and of all passages | `ndcg_at_10`, `recall_at_10` |
| code | to write the function | `pass_at_1`: its tests pass |

An answer is a JSON value of one model and one example, so that it can be kept; metrics come from two lists of them.
"""

from __future__ import annotations

import math
import random
import re
import string
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError, FormatError, UnitError
from weighbridge.prove import vectors
from weighbridge.prove.comparison import Pairs
from weighbridge.prove.engines.model import Ability, Model, TooLongError
from weighbridge.prove.examples import Example, Examples, Kind, filled
from weighbridge.prove.metrics import (
    METRICS,
    TOLD,
    Metric,
    calibration_sums,
    macro_f1,
    macro_f1_sums,
    mean_of,
)
from weighbridge.prove.probes import program_of

NEEDS: Mapping[Kind, tuple[Ability, ...]] = {
    "texts": ("reads", "embeds"), "completions": ("writes",), "choices": ("likelihoods",),
    "labels": ("labels", "likelihoods"),
    "pairs": ("embeds",), "retrieval": ("embeds",), "code": ("writes",),
}  # fmt: skip
"""What a model must be able to do; the first of it that both can is asked."""
ANSWERING: tuple[Kind, ...] = ("completions", "choices", "labels")
"""Kinds that prompts with worked examples make sense for."""
LABEL_TEMPLATE = "{text}\nLabel:"
BETWEEN = "\n\n"
MOST_TOKENS = {"completions": 64, "code": 384}
CODE_ENDS = ("\nclass ", "\ndef ", "\nif ", "\nprint", "\n#", "\n```")
Answer = Any
"""A JSON value; None where the prompt is longer than a model's positions."""


@dataclass(frozen=True, slots=True)
class Asking:
    """How examples are put to a model: worked examples before each, a template of prompts, and where writing ends."""

    kind: Kind
    ability: Ability
    labels: tuple[str, ...] = ()
    shots: tuple[str, ...] = ()
    template: str | None = None
    most_tokens: int = 0
    stop: tuple[str, ...] = ()
    window: int = 0

    def to_json(self) -> dict[str, Any]:
        """The part of `settings` that says how models were asked."""
        return {"kind": self.kind, "asked_for": self.ability, "shots": len(self.shots), "template": self.template,
                "max_tokens": self.most_tokens or None, "stop": list(self.stop), "labels": list(self.labels),
                "window": self.window or None}  # fmt: skip


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
    lost: bool = field(default=False)

    def to_json(self) -> dict[str, Any]:
        """One entry of `flipped`."""
        return {"example": self.place, "prompt": self.prompt, "expected": self.expected, "base": self.base,
                "candidate": self.candidate, "lost": self.lost}  # fmt: skip


def asking(
    examples: Examples, models: Sequence[Model], shots: Sequence[Example], *, template: str | None,
    most_tokens: int | None, stop: Sequence[str] | None, window: int = 0,
) -> Asking:  # fmt: skip
    """How these models are asked these examples.

    Raises:
        ConfigError: when they cannot be.
        UnitError: when a setting is for another kind.
    """
    kind = examples.kind
    ability = next((one for one in NEEDS[kind] if all(one in model.abilities for model in models)), None)
    if ability is None:
        needs = " or ".join(NEEDS[kind])
        able = "; ".join(f"{model.path} {', '.join(sorted(model.abilities)) or 'nothing'}" for model in models)
        read = f"examples of the kind {kind} need two models that both can do the same of: {needs} ({able})"
        raise ConfigError(read, "such models", "name others, or other data")
    if (shots or template is not None) and (kind not in ANSWERING or ability == "labels"):
        raise UnitError(
            f"worked examples or a template for {kind}", f"prompts: {', '.join(ANSWERING)}", "leave them out"
        )
    labels: tuple[str, ...] = ()
    if kind == "labels":
        labels = tuple(sorted({str(row.fields["label"]) for row in (*examples.rows, *shots)}))
        if len(labels) < 2:
            raise FormatError(f"all examples have the label {labels[0]}", "two labels or more", "name other data")
        template = (template or LABEL_TEMPLATE) if ability == "likelihoods" else None
    written = kind in MOST_TOKENS
    if not written and (most_tokens is not None or stop is not None):
        raise UnitError(f"--max-tokens or --stop for {kind}", "kinds that models write for", "leave them out")
    worked = tuple(f"{_joined(*one)}{BETWEEN}" for one in (_worked(kind, row, template) for row in shots))
    return Asking(kind, ability, labels, worked, template, (most_tokens or MOST_TOKENS[kind]) if written else 0,
                  tuple(_stops(examples) if stop is None else stop) if written else (),
                  window if kind == "texts" and ability == "reads" else 0)  # fmt: skip


def draw_shots(examples: Examples, count: int, seed: int) -> tuple[tuple[Example, ...], tuple[int, ...]]:
    """Worked examples that are drawn from the data, and the places of those that are left to prove on.

    Raises:
        UnitError: when fewer than two would be left.
    """
    if count > len(examples.rows) - 2:
        raise UnitError(
            f"{count} worked examples of {len(examples.rows)}", "two or more left to prove on", "ask for fewer"
        )
    drawn = random.Random(seed).sample(range(len(examples.rows)), count)
    return (tuple(examples.rows[place] for place in drawn),
            tuple(place for place in range(len(examples.rows)) if place not in set(drawn)))  # fmt: skip


def _stops(examples: Examples) -> tuple[str, ...]:
    """A line's end where no completion has one, else an empty line, else nothing."""
    if examples.kind == "code":
        return CODE_ENDS
    wanted = [str(row.fields["completion"]).strip() for row in examples.rows]
    return next(((end,) for end in ("\n", BETWEEN) if not any(end in one for one in wanted)), ())


def _prompt(kind: Kind, row: Example, template: str | None) -> str:
    return filled(template, row) if template is not None else str(row.fields["prompt"])


def _worked(kind: Kind, row: Example, template: str | None) -> tuple[str, str]:
    """A prompt and its right answer."""
    answer = {"completions": lambda: row.fields["completion"], "labels": lambda: row.fields["label"],
              "choices": lambda: row.fields["choices"][row.fields["answer"]]}[kind]()  # fmt: skip
    return _prompt(kind, row, template), str(answer)


def _continuation(prompt: str, answer: str) -> str:
    """A space between them, where neither has one."""
    return answer if not prompt or prompt[-1].isspace() or answer[:1].isspace() else f" {answer}"


def _joined(prompt: str, answer: str) -> str:
    return prompt + _continuation(prompt, answer)


def prompt_of(how: Asking, row: Example) -> str:
    """What a model sees before its answer.

    Example:
        >>> how = Asking("completions", "writes", shots=("1+1= 2", "2+2= 4"))
        >>> prompt_of(how, Example({"prompt": "3+3="}, "line 1"))
        '1+1= 22+2= 43+3='
    """
    return "".join(how.shots) + _prompt(how.kind, row, how.template)


def answer(model: Model, how: Asking, row: Example) -> Answer:
    """What a model answers to an example; None when that is too long for it.

    Raises:
        ConfigError: when the model fails, which names the example.
    """
    try:
        return _answer(model, how, row)
    except TooLongError:
        return None
    except ConfigError as error:
        raise ConfigError(f"{row.place}: {error.read}", error.expected, error.action) from error
    except FormatError:
        raise
    except Exception as error:  # of a library, at what a stranger's model does
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{row.place}: {model.path} fails ({said})", "a model that fits its tokenizer",
                          "check that they belong together") from error  # fmt: skip


def _answer(model: Model, how: Asking, row: Example) -> Answer:
    match how.kind, how.ability:
        case (("completions" | "code"), _):
            return model.write(prompt_of(how, row), how.most_tokens, how.stop)
        case "choices", _:
            return _likelihoods(model, prompt_of(how, row), row.fields["choices"])
        case "labels", "likelihoods":
            return _likelihoods(model, prompt_of(how, row), how.labels)
        case "labels", _:
            found = dict(model.label_probabilities(row.text))
            if strange := [label for label in how.labels if label not in found]:
                raise ConfigError(f"{model.path} has the labels {', '.join(found)[:200]}, and not {strange[0]}",
                                  "the labels of the data", "correct the data, or id2label of the model")  # fmt: skip
            return _finite(model, found)
        case "pairs", _:
            one, other = model.embed([row.fields["sentence1"], row.fields["sentence2"]])
            return _finite(model, float(vectors.cosines(one[None], other[None])[0]))
    text = row.fields["query"] if how.kind == "retrieval" else row.text
    return _finite(model, [float(number) for number in model.embed([text])[0]])


def _likelihoods(model: Model, prompt: str, choices: Sequence[str]) -> Answer:
    return [model.likelihood(prompt, _continuation(prompt, choice)).total for choice in choices]


def _finite(model: Model, found: Any) -> Any:
    values = found.values() if isinstance(found, dict) else found if isinstance(found, list) else [found]
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"{model.path} gives no number", "finite numbers", "check its weights")
    return found


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
