"""What can a model be asked, whatever runs it?

An engine makes a `Model` of a file, a folder or an address. What it can be asked is its `abilities`:

- `reads`: the probability of each token of a text (`tokens`, `log_probabilities`);
- `likelihoods`: how likely a continuation is (`likelihood`), which a model that reads can tell;
- `writes`: a text after a prompt, always the likeliest token (`write`);
- `labels`: the probability of each of its labels for a text (`label_probabilities`);
- `embeds`: a vector for each text (`embed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError

Ability = Literal["reads", "likelihoods", "writes", "labels", "embeds"]
Rows = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How likely a continuation is: its log-probability (nats), whether it is the likeliest one, and its tokens."""

    total: float
    is_greedy: bool
    tokens: int


class TooLongError(Exception):
    """A prompt and its continuation are more tokens than the model has positions for."""


class Model:
    """One model that an engine runs. Engines override what their `abilities` promise.

    `is_known` says whether what runs is known by its content. `begin` is the token that begins a text (its beginning,
    or else its end), `prefix` and `suffix` what its tokenizer puts before and after every text by itself, `positions`
    how many tokens it can see at once, `digest` the SHA-256 of its content.
    """

    path: str
    engine: str
    digest: str
    is_known: bool = True
    abilities: frozenset[Ability] = frozenset()
    positions: int | None = None
    begin: int | None = None
    prefix: tuple[int, ...] = ()
    suffix: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, without any that a tokenizer adds."""
        raise NotImplementedError

    def prompt_tokens(self, prompt: str, most_tokens: int) -> list[int]:
        """The tokens that a model writes after, of which there is at least one.

        Raises:
            TooLongError: when there are not as many positions as they and what is to be written need.
            ConfigError: when a prompt is empty and no token begins a text.
        """
        found = [*self.prefix, *self.tokens(prompt)]
        if not found:
            if self.begin is None:
                raise ConfigError(f"{self.path} has no token that begins a text, and a prompt is empty", "a prompt",
                                  "give each row one")  # fmt: skip
            found = [self.begin]
        if self.positions is not None and len(found) + most_tokens > self.positions:
            raise TooLongError(f"{len(found):,} tokens and {most_tokens} to write")
        return found

    def log_probabilities(self, tokens: Sequence[int], start: int = 0) -> Rows:
        """Natural logarithms over the vocabulary, a row for each token after the place `start`, given those before."""
        raise NotImplementedError

    def scores(self, tokens: Sequence[int], start: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The log-probability of each token after the place `start`, and whether it is the likeliest one."""
        rows = self.log_probabilities(tokens, start)
        wanted = np.array(tokens[start + 1 :], dtype=np.int64)
        return picked(rows, wanted)

    def write(self, prompt: str, most_tokens: int, stop: Sequence[str]) -> str:
        """What follows a prompt, up to `most_tokens` tokens or the first of the strings `stop`, which is left out."""
        raise NotImplementedError

    def label_probabilities(self, text: str) -> Mapping[str, float]:
        """The probability of each label of the model."""
        raise NotImplementedError

    def embed(self, texts: Sequence[str]) -> Rows:
        """One row for each text."""
        raise NotImplementedError

    def close(self) -> None:
        """Lets go of what the model holds."""

    def likelihood(self, context: str, continuation: str) -> Likelihood:
        """How likely a continuation of a context is.

        The two are split into tokens together and the context alone, and what the first has beyond the second belongs
        to the continuation, with the spaces that the context ends in: as lm-evaluation-harness does it.

        Raises:
            TooLongError: when there are more tokens than positions.
            ConfigError: when a continuation has no token, nothing stands before the first token, or the model gives no
            number.
        """
        bare = context.rstrip()
        whole, before = self.tokens(context + continuation), len(self.tokens(bare))
        tokens = [*self.prefix, *whole]
        if not self.prefix and not before:
            if self.begin is None:
                read = f"{self.path} has no token that begins a text, and a prompt is empty"
                raise ConfigError(read, "a first token that can be scored", "give each row a prompt")
            tokens = [self.begin, *whole]
        if len(whole) <= before:
            raise ConfigError(f"{continuation!r} after its prompt has no token of its own in {self.path}",
                              "an answer that the tokenizer keeps", "leave the row out")  # fmt: skip
        first = len(tokens) - (len(whole) - before)
        if self.positions is not None and len(tokens) > self.positions:
            raise TooLongError(f"{len(tokens):,} tokens")
        each, greedy = self.scores(tokens, first - 1)
        if not np.isfinite(each).all():
            raise ConfigError(f"{self.path} gives no number for a token", "finite probabilities",
                              "leave the row out, or check the weights with `weigh inspect --values`")  # fmt: skip
        return Likelihood(float(each.sum()), bool(greedy.all()), len(each))


def picked(rows: Rows, wanted: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The number of each row at the place that is wanted, and whether no other is larger.

    Example:
        >>> found = picked(np.array([[0.0, 2.0], [3.0, 1.0]], dtype=np.float32), np.array([1, 1]))
        >>> [one.tolist() for one in found]
        [[2.0, 1.0], [True, False]]
    """
    each = rows[np.arange(len(wanted)), wanted]
    return each.astype(np.float64), rows.argmax(axis=1) == wanted


def cut(text: str, stop: Sequence[str]) -> str:
    r"""A text up to the first of the strings that end it.

    Example:
        >>> cut(" 42\n\nQ: 3", ["\n", "Q:"])
        ' 42'
    """
    places = [place for place in (text.find(one) for one in stop if one) if place >= 0]
    return text[: min(places)] if places else text


def log_softmax(logits: Rows) -> Rows:
    """Log-probabilities of each row, in fp32; sums in fp64.

    Example:
        >>> np.exp(log_softmax(np.zeros((1, 4), dtype=np.float32))).tolist()
        [[0.25, 0.25, 0.25, 0.25]]
    """
    above = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(above - np.log(np.exp(above, dtype=np.float64).sum(axis=1, keepdims=True)), dtype=np.float32)
