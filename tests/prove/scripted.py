"""Models of a script: what they answer is known, so that what is made of it can be worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.prove.engines.model import Ability, Model, TooLongError


class Letters(Model):
    """A model of the letters a to d that gives the same probabilities everywhere."""

    abilities: frozenset[Ability] = frozenset({"reads", "likelihoods"})

    def __init__(self, *probabilities: float, letters: str = "abcd", begin: int | None = 4) -> None:
        self.path, self.engine, self.letters, self.begin = "letters", "script", letters, begin
        self.digest = f"{probabilities} {letters} {begin}"
        self.row = np.log(np.array([*probabilities, 1e-9], dtype=np.float32))
        self.asked = 0

    def tokens(self, text: str) -> list[int]:
        return [self.letters.index(letter) for letter in text]

    def log_probabilities(self, tokens: Sequence[int], start: int = 0) -> NDArray[np.float32]:
        self.asked += 1
        return np.tile(self.row, (len(tokens) - 1 - start, 1))


class Scripted(Model):
    """Answers by a function of the prompt or the text; a text that holds `too long` is, one with `broken` fails."""

    def __init__(
        self,
        name: str,
        *,
        write: Callable[[str], str] | None = None,
        labels: Callable[[str], Mapping[str, float]] | None = None,
        embed: Callable[[str], Sequence[float]] | None = None,
    ) -> None:
        self.path, self.digest, self.engine = name, name, "script"
        self.written, self.labelled, self.embedded = write, labels, embed
        offered: dict[Ability, object] = {"writes": write, "labels": labels, "embeds": embed}
        self.abilities = frozenset(ability for ability, how in offered.items() if how)
        self.prompts: list[str] = []

    def _seen(self, text: str) -> None:
        if "too long" in text:
            raise TooLongError("9 tokens")
        if "broken" in text:
            raise ConfigError("the server does not answer", "an answer", "start it")
        self.prompts.append(text)

    def write(self, prompt: str, most_tokens: int, stop: Sequence[str]) -> str:
        self._seen(prompt)
        assert self.written is not None
        return self.written(prompt)

    def label_probabilities(self, text: str) -> Mapping[str, float]:
        self._seen(text)
        assert self.labelled is not None
        return self.labelled(text)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        assert self.embedded is not None
        for text in texts:
            self._seen(text)
        return np.array([self.embedded(text) for text in texts], dtype=np.float32)
