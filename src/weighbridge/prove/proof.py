"""What do all metrics together say of a candidate?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError, FormatError, UnitError, UnknownNameError
from weighbridge.prove import samples
from weighbridge.prove.comparison import Comparison, Pairs, Rule, Verdict, compare, overall
from weighbridge.prove.data import read_texts
from weighbridge.prove.language import score
from weighbridge.prove.metrics import METRICS
from weighbridge.prove.transformers_engine import WINDOW, CausalModel

MOST_SLICES = 200
"""More values of a field are no groups: a name or a text."""


@dataclass(frozen=True, slots=True)
class Proof:
    """A base and a candidate on the same data: the verdict and what it rests on."""

    base: str
    candidate: str
    metrics: tuple[Comparison, ...]
    verdict: Verdict
    reason: str
    rule: Rule
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh prove --json`."""
        return {
            "base": self.base, "candidate": self.candidate, "metrics": [found.to_json() for found in self.metrics],
            "verdict": self.verdict, "reason": self.reason, "seed": self.rule.seed, "keep": self.rule.keep,
            "sequential": self.rule.sequential, "settings": dict(self.settings), "notes": list(self.notes),
        }  # fmt: skip


def of_logs(
    base: Path, candidate: Path, rule: Rule, *, metrics: Sequence[str] = (), fields: Sequence[str] = ()
) -> Proof:  # fmt: skip
    """The proof from two logs of lm-evaluation-harness, which runs no model.

    Args:
        base: its `samples_*.jsonl`.
        candidate: the same of the candidate.
        rule: what a verdict needs.
        metrics: names of the logs; all that are known without them.
        fields: fields of the questions; each of their values is a slice.

    Raises:
        WeighbridgeError: when the logs cannot be read or paired, or scipy is not installed.
    """
    need_scipy()
    found = samples.pair(base, candidate, tuple(metrics))
    comparisons = []
    several = sum(pairs.metric.is_share for pairs in found.pairs.values()) > 1
    for name, pairs in found.pairs.items():
        slices = slices_of(found.documents[name], fields)
        comparisons.append(_named(compare(pairs, rule, slices, is_asked=bool(metrics)), name))
        if pairs.metric.is_share:
            comparisons.append(_named(compare(flips(pairs), rule, slices), f"flips of {name}" if several else "flips"))
    verdict, reason = overall(comparisons)
    notes = list(found.notes)
    if found.left_out:
        notes.append(f"{found.left_out:,} lines have no partner in the other log and are left out")
    settings = {"base_sha256": _digest(base), "candidate_sha256": _digest(candidate), "slices": list(fields),
                "metrics": list(metrics)}  # fmt: skip
    return Proof(str(base), str(candidate), tuple(comparisons), verdict, reason, rule, tuple(notes), settings)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_texts(
    base: str | Path,
    candidate: str | Path,
    data: str | Path,
    rule: Rule,
    *,
    metrics: Sequence[str] = (),
    fields: Sequence[str] = (),
    limit: int | None = None,
    window: int | None = None,
    tell: Callable[[str], None] | None = None,
) -> Proof:
    """The proof of two causal language models on texts, by the probabilities that they give to tokens or bytes.

    Args:
        base: a folder of safetensors with its configuration and tokenizer.
        candidate: the same of the candidate.
        data: a file of text, or of JSON lines with `text`.
        rule: what a verdict needs.
        metrics: names of metrics to keep; without them all, of which `kl_divergence` and `top1_agreement` only tell.
        fields: fields of the JSON lines; each of their values is a slice.
        limit: the first so many documents.
        window: tokens of a window; without it 512, or as many as both models have positions for.
        tell: is told of each document.

    Raises:
        WeighbridgeError: when the data or a model cannot be read, or scipy or transformers is not installed.
    """
    need_scipy()
    texts = read_texts(data, limit)
    slices = slices_of([document.fields for document in texts.documents], fields)
    models = CausalModel(base), CausalModel(candidate)
    longest = min(model.positions or WINDOW for model in models)
    length = min(WINDOW, longest) if window is None else window
    if not 2 <= length <= longest:
        raise UnitError(f"a window of {length} tokens", f"2 to {longest:,}, for which both models have positions",
                        "correct it")  # fmt: skip
    scored = score(*models, texts.documents, length, tell or (lambda text: None))
    for name in metrics:
        if name not in scored:
            raise UnknownNameError("metric of these models", name, scored, "name one of these")
    comparisons = tuple(compare(pairs, rule, slices, is_asked=name in metrics) for name, pairs in scored.items()
                        if not metrics or name in metrics)  # fmt: skip
    verdict, reason = overall(comparisons)
    notes = list(texts.notes)
    if "perplexity" not in scored:
        notes.append("the tokenizers split these texts in other ways: only what a byte of text costs can be compared")
    elif models[0].begin is None or models[0].begin != models[1].begin:
        notes.append("the models have no token in common that begins a text: the first of each window is not scored")
    settings = {"data": str(data), "data_sha256": texts.digest, "documents": len(texts.documents), "window": length,
                "engine": models[0].engine, "limit": limit, "slices": list(fields),
                "metrics": list(metrics)}  # fmt: skip
    return Proof(
        str(base), str(candidate), comparisons, verdict, reason, rule, tuple(notes), MappingProxyType(settings)
    )


def need_scipy() -> None:
    """Raises ConfigError when scipy is not installed."""
    try:
        import scipy  # noqa: F401
    except ImportError as error:
        raise ConfigError("scipy is not installed, which intervals need", "the extra `prove`",
                          "run: pip install 'weighbridge[prove]'") from error  # fmt: skip


def flips(pairs: Pairs) -> Pairs:
    """From right and wrong answers to how many changed, either way: 0 of the base, 1 of the candidate where it did."""
    changed = pairs.base.copy()
    changed[:, 0] = np.abs(pairs.candidate[:, 0] - pairs.base[:, 0])
    still = pairs.base.copy()
    still[:, 0] = 0.0
    return Pairs(METRICS["flips"], still, changed, pairs.clusters)


def slices_of(documents: Sequence[Any], fields: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """The examples with each value of each field.

    Raises:
        FormatError: when an example lacks the field, or it has too many values for groups.

    Example:
        >>> {name: chosen.tolist() for name, chosen in slices_of([{"a": 1}, {"a": 2}], ["a"]).items()}
        {'a=1': [True, False], 'a=2': [False, True]}
    """
    found: dict[str, NDArray[np.bool_]] = {}
    for key in fields:
        for place, document in enumerate(documents):
            if not isinstance(document, Mapping) or key not in document:
                known = ", ".join(sorted(map(str, document))) if isinstance(document, Mapping) else "none"
                raise FormatError(f"example {place + 1} has no field {key}", f"one of its fields: {known}",
                                  "name one of these")  # fmt: skip
        values = [str(document[key]) for document in documents]
        if len(set(values)) > MOST_SLICES:
            raise FormatError(f"{key} has {len(set(values)):,} values", f"at most {MOST_SLICES} groups",
                              "name a field that groups the examples")  # fmt: skip
        for value in sorted(set(values)):
            found[f"{key}={value}"] = np.array([one == value for one in values])
    return found


def _named(found: Comparison, name: str) -> Comparison:
    return replace(found, name=name)
