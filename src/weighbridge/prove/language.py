"""How do two language models read the same texts? Sums of each document, for metrics over tokens and bytes.

Where both split all texts into the same tokens: perplexity, the divergence of the candidate's next-token distribution
from the base's (Kullback and Leibler, in nats), and how often both have the same likeliest token. Otherwise tokens are
not the same things, and the bits that a byte of text costs is what can be compared; it is told in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.prove.comparison import Pairs
from weighbridge.prove.data import Document
from weighbridge.prove.metrics import METRICS
from weighbridge.prove.transformers_engine import windows


class LanguageModel(Protocol):
    """What scores texts."""

    path: str
    begin: int | None

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text."""

    def log_probabilities(self, tokens: list[int]) -> NDArray[np.float32]:
        """Log-probabilities for each place after the first."""


def score(
    base: LanguageModel,
    candidate: LanguageModel,
    documents: Sequence[Document],
    window: int,
    tell: Callable[[str], None],
) -> dict[str, Pairs]:
    """The sums of both models for each document, by metric.

    Raises:
        ConfigError: when a model gives a number that is none, which names the document.
    """
    same = all(base.tokens(document.text) == candidate.tokens(document.text) for document in documents)
    rows: list[Mapping[str, tuple[tuple[float, float], tuple[float, float]]]] = []
    for number, document in enumerate(documents, start=1):
        tell(f"document {number} of {len(documents)}")
        rows.append((_together if same else _apart)(base, candidate, document, window))
    names = [name for name in METRICS if name in rows[0]]
    clusters = np.arange(len(rows), dtype=np.int64)
    sides = {name: [np.array([row[name][side] for row in rows]) for side in (0, 1)] for name in names}
    return {name: Pairs(METRICS[name], first, second, clusters) for name, (first, second) in sides.items()}


def _together(
    base: LanguageModel, candidate: LanguageModel, document: Document, window: int
) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:  # fmt: skip
    tokens = base.tokens(document.text)
    begin = base.begin if base.begin == candidate.begin else None
    likely = [0.0, 0.0]
    divergence = agreed = count = 0.0
    for part in windows(tokens, begin, window):
        if len(part) < 2:
            continue
        first, second = (_checked(model, part, document) for model in (base, candidate))
        targets = np.array(part[1:])[:, None]
        for side, found in enumerate((first, second)):
            likely[side] += float(np.take_along_axis(found, targets, axis=1).sum(dtype=np.float64))
        known = min(first.shape[1], second.shape[1])  # one vocabulary may be padded
        first, second = first[:, :known].astype(np.float64), second[:, :known].astype(np.float64)
        possible = first > -np.inf
        divergence += float((np.exp(first) * np.where(possible, first - np.where(possible, second, 0.0), 0.0)).sum())
        agreed += float((first.argmax(axis=1) == second.argmax(axis=1)).sum())
        count += len(part) - 1
    size = float(len(document.text.encode()))
    return {
        "perplexity": ((likely[0], count), (likely[1], count)),
        "bits_per_byte": ((likely[0], size), (likely[1], size)),
        "kl_divergence": ((0.0, count), (divergence, count)),
        "top1_agreement": ((count, count), (agreed, count)),
    }


def _apart(
    base: LanguageModel, candidate: LanguageModel, document: Document, window: int
) -> dict[str, tuple[tuple[float, float], tuple[float, float]]]:  # fmt: skip
    size = float(len(document.text.encode()))
    likely = []
    for model in (base, candidate):
        if model.begin is None:
            read = f"{model.path} has no token that begins a text, and the two split texts in other ways"
            raise ConfigError(read, "a first token that can be scored", "name models with one tokenizer")
        total = 0.0
        for part in windows(model.tokens(document.text), model.begin, window):
            if len(part) > 1:
                found = _checked(model, part, document)
                total += float(np.take_along_axis(found, np.array(part[1:])[:, None], axis=1).sum(dtype=np.float64))
        likely.append(total)
    return {"bits_per_byte": ((likely[0], size), (likely[1], size))}


def _checked(model: LanguageModel, part: list[int], document: Document) -> NDArray[np.float32]:
    try:
        found = model.log_probabilities(part)
    except (IndexError, RuntimeError) as error:
        said = str(error).splitlines()[0][:200]
        raise ConfigError(f"{model.path} fails on {document.place} ({said})", "a model that knows all tokens of its "
                          "tokenizer", "check that they belong together") from error  # fmt: skip
    targets = np.take_along_axis(found, np.array(part[1:])[:, None], axis=1)
    if np.isnan(found).any() or not np.isfinite(targets).all():
        raise ConfigError(f"{model.path} gives no number for a token of {document.place}", "finite probabilities",
                          "leave the document out, or check the weights with `weigh inspect --values`")  # fmt: skip
    return found
