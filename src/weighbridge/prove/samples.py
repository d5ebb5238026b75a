"""Two logged sample files of lm-evaluation-harness: which lines are of the same question, and what was scored?

A line of `samples_*.jsonl` (`lm_eval --log_samples`, version 0.4) has `doc_id`, `doc_hash`, `prompt_hash`, `filter`,
`metrics` (names), and a value for each name: a number, or a pair of a log-likelihood and a count (`word_perplexity`,
`byte_perplexity`, `bits_per_byte`), or of gold and predicted label (`f1`, which other tasks log as a number). Lines
pair by `doc_id` and `filter`, and their `doc_hash` has to agree: the same number in other data is another question.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.errors import FormatError
from weighbridge.prove.comparison import Pairs
from weighbridge.prove.json_lines import read_lines
from weighbridge.prove.metrics import F1_OF_EACH, METRICS, Metric, f1_sums

Key = tuple[str, str]
"""The number of a question and the filter of the answer."""


@dataclass(frozen=True, slots=True)
class Logged:
    """Two logs that were paired: what each metric counted, and the fields of each question for slices."""

    pairs: Mapping[str, Pairs]
    documents: tuple[Mapping[str, Any], ...]
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
        if first[key].get("doc_hash") != second[key].get("doc_hash"):
            raise FormatError(f"question {key[0]} is another one in {Path(candidate).name} (doc_hash)",
                              "logs of the same data", "run both on one version of the task")  # fmt: skip
    names = _names(first[both[0]])
    unknown = sorted(set(names) - set(METRICS))
    for name in metrics:
        if name not in names:
            raise FormatError(f"the logs have no metric {name}", f"one of {', '.join(names)}", "name one of these")
    notes = [f"not compared, as which way is good is not known: {', '.join(unknown)}"] if unknown else []
    if any(first[key].get("prompt_hash") != second[key].get("prompt_hash") for key in both):
        notes.append("prompts differ between the logs: few-shot examples or templates are not the same")
    filters = sorted({key[1] for key in both})
    found: dict[str, Pairs] = {}
    for kind in filters:
        keys = [key for key in both if key[1] == kind]
        for name in (name for name in names if name in METRICS and (not metrics or name in metrics)):
            metric = METRICS[name]
            if name == "f1" and not isinstance(first[keys[0]].get(name), list):
                metric = F1_OF_EACH
            sums = [np.array([_sums(metric, side[key].get(name), key[0]) for key in keys]) for side in (first, second)]
            title = name if len(filters) == 1 else f"{name},{kind}"
            found[title] = Pairs(metric, sums[0], sums[1], np.arange(len(keys), dtype=np.int64))
    documents = tuple(first[key].get("doc") or {} for key in both if key[1] == filters[0])
    return Logged(found, documents, len(first) + len(second) - 2 * len(both), tuple(notes))


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
    good = all(isinstance(x, int | float) and math.isfinite(x) for x in numbers)
    if metric is METRICS["f1"] and good and len(numbers) == 2:
        return f1_sums(*numbers)
    wanted = 1 if metric.name == "perplexity" or metric.sums[-1] == "examples" else 2
    if not good or len(numbers) != wanted:
        read = f"question {question} has {json.dumps(value)[:80]} as {metric.name}"
        raise FormatError(read, "a number" if wanted == 1 else "a log-likelihood and a count", "run it again")
    return (float(numbers[0]), 1.0 if wanted == 1 else float(numbers[1]))
