"""Two logged sample files of lm-evaluation-harness: which lines are of the same question, and what was scored?

A line of `samples_*.jsonl` (`lm_eval --log_samples`, version 0.4) has `doc_id`, `doc_hash`, `prompt_hash`, `filter`,
`metrics` (names), and a value for each name: a number, or a pair of a log-likelihood and a count (`word_perplexity`,
`byte_perplexity`, `bits_per_byte`), or of gold and predicted label (`f1`, which other tasks log as a number). Lines
pair by `doc_id` and `filter`, and their `doc_hash` has to agree: the same number in other data is another question.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.errors import FormatError
from weighbridge.prove.comparison import Pairs
from weighbridge.prove.json_lines import read_lines
from weighbridge.prove.metrics import F1_OF_EACH, METRICS, Metric, f1_sums

MOST_VALUE = 1e300
Key = tuple[str, str]
"""The number of a question and the filter of the answer."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Two logs that were paired: what each metric counted, and the questions of each for slices."""

    pairs: Mapping[str, Pairs]
    documents: Mapping[str, tuple[Any, ...]]
    left_out: int
    notes: tuple[str, ...] = ()


def pair(base: str | Path, candidate: str | Path, metrics: tuple[str, ...] = ()) -> Logged:
    """Pairs two logs.

    Args:
        base: the log of the base.
        candidate: the log of the candidate.
        metrics: names to keep; all that are known and in both without them.

    Raises:
        FormatError: when a line is no sample, or the two are not logs of the same questions.
    """
    first, second = _samples(Path(base)), _samples(Path(candidate))
    both = [key for key in first if key in second]
    if not both:
        raise FormatError(f"{base} and {candidate} have no question in common", "two logs of the same task",
                          "name the logs of one task")  # fmt: skip
    for key in both:
        for mark in ("doc_hash", "target_hash"):
            if first[key].get(mark) != second[key].get(mark):
                raise FormatError(f"question {key[0]} is another one in {Path(candidate).name} ({mark})",
                                  "logs of the same data", "run both on one version of the task")  # fmt: skip
    names = list(dict.fromkeys(name for side in (first, second) for key in both for name in _names(side[key])))
    asked = [name.split(",")[0] for name in metrics]
    for name in asked:
        if name not in names:
            raise FormatError(f"the logs have no metric {name}", f"one of {', '.join(names)}", "name one of these")
    notes = []
    if any("doc_hash" not in side[key] for side in (first, second) for key in both):
        notes.append("the logs have no doc_hash: whether the questions are the same was not checked")
    if any(first[key].get("prompt_hash") != second[key].get("prompt_hash") for key in both):
        notes.append("prompts differ between the logs: few-shot examples or templates are not the same")
    filters = sorted({key[1] for key in both})
    found: dict[str, Pairs] = {}
    documents: dict[str, tuple[Any, ...]] = {}
    for kind in filters:
        keys = [key for key in both if key[1] == kind]
        for name in (name for name in names if not asked or name in asked):
            title = name if len(filters) == 1 else f"{name},{kind}"
            try:
                found[title] = _pairs(name, keys, first, second)
            except FormatError as error:
                if name in asked:
                    raise
                notes.append(f"{title} is not compared: {error.read}")
                continue
            documents[title] = tuple(first[key].get("doc") for key in keys)
    if not found:
        raise FormatError(f"{base} has no metric that can be compared", "a number for each question", "; ".join(notes))
    return Logged(found, documents, len(first) + len(second) - 2 * len(both), tuple(notes))


def _pairs(name: str, keys: list[Key], first: dict[Key, dict[str, Any]], second: dict[Key, dict[str, Any]]) -> Pairs:
    """One metric of the same questions in two logs.

    Raises:
        FormatError: when which way is good is not known, or a value is none of this metric.
    """
    if name not in METRICS:
        raise FormatError(f"which way is good of {name} is not known", "a known metric", "name another")
    metric = METRICS[name]
    if name == "f1" and not isinstance(first[keys[0]].get(name), list):
        metric = F1_OF_EACH
    sums = [np.array([_sums(metric, side[key].get(name), key[0]) for key in keys]) for side in (first, second)]
    if metric.is_share and not all(np.isin(one[:, 0], (0.0, 1.0)).all() for one in sums):
        metric = replace(metric, is_share=False, is_count=False)  # a score of each question, not right or wrong
    return Pairs(metric, sums[0], sums[1], np.arange(len(keys), dtype=np.int64))


def _samples(path: Path) -> dict[Key, dict[str, Any]]:
    found: dict[Key, dict[str, Any]] = {}
    for number, sample in read_lines(path):
        if "doc_id" not in sample or not isinstance(sample.get("metrics"), list):
            raise FormatError(f"{path.name} line {number} is no sample: it lacks doc_id or metrics",
                              "what lm_eval --log_samples writes", "name its samples_*.jsonl")  # fmt: skip
        key = str(sample["doc_id"]), str(sample.get("filter", "none"))
        if key in found:
            raise FormatError(f"{path.name} line {number} repeats question {key[0]}", "each question once",
                              "name the log of one run")  # fmt: skip
        found[key] = sample
    if not found:
        raise FormatError(f"{path.name} has no sample", "what lm_eval --log_samples writes", "check the file")
    return found


def _names(sample: dict[str, Any]) -> list[str]:
    return [str(name) for name in sample["metrics"]]


def _sums(metric: Metric, value: Any, question: str) -> tuple[float, ...]:
    """The sums of one logged value."""
    numbers = value if isinstance(value, list) else [value]
    good = all(isinstance(x, int | float) and abs(x) < MOST_VALUE for x in numbers)  # no NaN is
    if metric is METRICS["f1"]:
        if not good or len(numbers) != 2 or not {0, 1}.issuperset(numbers):
            read = f"question {question} has {json.dumps(value)[:80]} as f1"
            raise FormatError(read, "labels of 0 and 1: which average other labels had is not logged", "name another")
        return f1_sums(*numbers)
    wanted = 1 if metric.name == "perplexity" or metric.sums[-1] == "examples" else 2
    if not good or len(numbers) != wanted:
        read = f"question {question} has {json.dumps(value)[:80]} as {metric.name}"
        raise FormatError(read, "a number" if wanted == 1 else "a log-likelihood and a count", "run it again")
    return (float(numbers[0]), 1.0 if wanted == 1 else float(numbers[1]))
