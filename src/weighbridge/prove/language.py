"""How do two language models read the same texts? Sums of each document, for metrics over tokens and bytes.

Where both split all texts into the same tokens: perplexity, the divergence of the candidate's next-token distribution
from the base's (Kullback and Leibler, in nats), and how often both have the same likeliest token. Otherwise tokens are
not the same things, and the bits that a byte of text costs is what can be compared; it is told in both cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.prove.comparison import Pairs
from weighbridge.prove.engines.model import Model, picked
from weighbridge.prove.examples import Example
from weighbridge.prove.metrics import METRICS, TOLD

T = TypeVar("T")
WINDOW = 512
"""Tokens of a window where the model has positions for as many."""
Sums = Mapping[str, Sequence[Sequence[float]]]
"""By metric: the sums of the base, and those of the candidate."""


def windows(tokens: list[int], begin: int | None, length: int) -> list[list[int]]:
    """Windows of so many tokens that together score each token once, except the first of each without a beginning.

    Example:
        >>> windows([5, 6, 7, 8, 9], 0, 3), windows([5, 6, 7, 8, 9], None, 3)
        ([[0, 5, 6], [0, 7, 8], [0, 9]], [[5, 6, 7], [8, 9]])
    """
    each = length if begin is None else length - 1
    parts = [tokens[start : start + each] for start in range(0, len(tokens), each)]
    return [part if begin is None else [begin, *part] for part in parts]


def are_alike(base: Model, candidate: Model, documents: Sequence[Example]) -> bool:
    """Whether both split all texts into the same tokens, and begin them with the same one or none."""
    return all(base.tokens(one.text) == candidate.tokens(one.text) for one in documents)


def paired(read: Sequence[Sums], clusters: NDArray[np.int64]) -> dict[str, Pairs]:
    """The sums of all documents by metric; bits of a byte decide only where perplexity is not there."""
    names = [name for name in METRICS if name in read[0]]
    sides = {name: [np.array([row[name][side] for row in read]) for side in (0, 1)] for name in names}
    metrics = METRICS if "perplexity" not in names else {**METRICS, **TOLD}
    return {name: Pairs(metrics[name], first, second, clusters) for name, (first, second) in sides.items()}


def together(base: Model, candidate: Model, document: Example, window: int) -> Sums:
    """The sums of both models for a document that both split into the same tokens.

    Raises:
        ConfigError: when a model gives a number that is none, which names the document.
    """
    tokens = base.tokens(document.text)
    begin = base.begin if base.begin == candidate.begin else None
    likely = [0.0, 0.0]
    divergence = agreed = count = 0.0
    for part in windows(tokens, begin, window):
        if len(part) < 2:
            continue
        first, second = (_checked(model.log_probabilities, model, part, document) for model in (base, candidate))
        for side, found in enumerate((first, second)):
            likely[side] += float(picked(found, np.array(part[1:]))[0].sum())
        known = min(first.shape[1], second.shape[1])  # one vocabulary may be padded
        first, second = first[:, :known], second[:, :known]
        possible = first > -np.inf
        apart = np.where(possible, first - np.where(possible, second, 0.0), 0.0)
        divergence += float((np.exp(first, dtype=np.float64) * apart).sum())
        agreed += float((first.argmax(axis=1) == second.argmax(axis=1)).sum())
        count += len(part) - 1
    size = float(len(document.text.encode()))
    return {
        "perplexity": ((likely[0], count), (likely[1], count)),
        "bits_per_byte": ((likely[0], size), (likely[1], size)),
        "kl_divergence": ((0.0, count), (divergence, count)),
        "top1_agreement": ((count, count), (agreed, count)),
    }


def cost(model: Model, document: Example, window: int) -> float:
    """The log-probability of a document, by one model.

    Raises:
        ConfigError: when no token begins a text, or the model gives a number that is none.
    """
    if model.begin is None:
        read = f"{model.path} has no token that begins a text, and the two split texts in other ways"
        raise ConfigError(read, "a first token that can be scored", "name models with one tokenizer")
    parts = windows(model.tokens(document.text), model.begin, window)
    return sum(float(_checked(model.scores, model, part, document)[0].sum()) for part in parts if len(part) > 1)


def by_bytes(costs: Sequence[float], document: Example) -> Sums:
    """The sums of a document from what it costs both models."""
    size = float(len(document.text.encode()))
    return {"bits_per_byte": ((costs[0], size), (costs[1], size))}


def _checked(ask: Callable[[list[int]], T], model: Model, part: list[int], document: Example) -> T:
    try:
        found = ask(part)
    except ConfigError as error:
        raise ConfigError(f"{document.place}: {error.read}", error.expected, error.action) from error
    except Exception as error:  # of a library, at what a stranger's model does
        said = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ConfigError(f"{model.path} fails on {document.place} ({said})", "a model that knows all tokens of its "
                          "tokenizer", "check that they belong together") from error  # fmt: skip
    each = found[0] if isinstance(found, tuple) else picked(np.asarray(found), np.array(part[1:]))[0]
    if not np.isfinite(each).all() or (not isinstance(found, tuple) and np.isnan(np.asarray(found)).any()):
        raise ConfigError(f"{model.path} gives no number for a token of {document.place}", "finite probabilities",
                          "leave the document out, or check the weights with `weigh inspect --values`")  # fmt: skip
    return found
