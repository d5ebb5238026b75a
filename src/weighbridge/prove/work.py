"""Asks two models, keeps what they answer, and takes the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import FormatError, UnitError
from weighbridge.prove import language, tasks, vectors
from weighbridge.prove.answers import Answers, Remembered, digest
from weighbridge.prove.comparison import Pairs
from weighbridge.prove.engines.model import Model
from weighbridge.prove.examples import Example, content, read_passages
from weighbridge.prove.plan import Plan, Tell
from weighbridge.prove.tasks import Asking


class Work:
    """Asks two models, keeps what they answer, and takes the time."""

    def __init__(self, models: Sequence[Model], how: Asking, plan: Plan, tell: Tell) -> None:
        self.models, self.how, self.plan, self.tell = models, how, plan, tell
        self.taken, self.asked = [0.0, 0.0], [0, 0]
        self.notes: list[str] = []

    @property
    def seconds(self) -> tuple[float | None, float | None]:
        """What an example took, of those that were asked now."""
        first, second = (taken / asked if asked else None for taken, asked in zip(self.taken, self.asked, strict=True))
        return first, second

    def _kept(self, *models: Model, what: Any) -> Answers:
        key = {"models": [[model.digest, model.engine] for model in models], "asked": what}
        return Answers(self.plan.cache, key, fresh=self.plan.fresh)

    def _all(self, side: int, kept: Answers, keys: Sequence[str], ask: Callable[[int], Any], what: str) -> list[Any]:
        known = sum(key in kept.found for key in keys)
        if known:
            self.notes.append(f"{known:,} of {len(keys):,} answers of {what} were there already")
        for place, key in enumerate(keys):
            if key not in kept.found:
                start = time.perf_counter()
                found = ask(place)
                self.taken[side] += time.perf_counter() - start
                self.asked[side] += 1
                kept.add(key, found)
            self.tell(what, place + 1, len(keys))
        return [kept.found[key] for key in keys]

    def ask_both(self, rows: Sequence[Example]) -> list[list[Any]]:
        """The answers of both models, None where an example is too long.

        What runs behind an address may be another model by now: its answers serve a run that goes on and no other.
        """
        both = [self._known(side, rows) for side in (0, 1)]
        if all(key in kept.found for kept, keys in both for key in keys):
            for model, (kept, _) in zip(self.models, both, strict=True):
                if not model.is_known:
                    kept.clear()
        return [self.ask(side, rows) for side in (0, 1)]

    def _known(self, side: int, rows: Sequence[Example]) -> tuple[Answers, list[str]]:
        """What is kept of a model's answers, and the keys of the examples."""
        model, how = self.models[side], self.how
        keys = [digest([how.kind, _seen(how, row)]) for row in rows]
        return self._kept(model, what={**how.to_json(), "shots": how.shots}), keys

    def ask(self, side: int, rows: Sequence[Example]) -> list[Any]:
        """The answers of one model, None where an example is too long."""
        kept, keys = self._known(side, rows)
        model, how = self.models[side], self.how
        return self._all(side, kept, keys, lambda place: tasks.answer(model, how, rows[place]), model.path)

    def passages(self, path: str | Path | None, rows: Sequence[Example]) -> list[dict[str, list[float]]]:
        """The vectors of all passages, of both models."""
        if path is None:
            raise UnitError("queries without passages", "--passages FILE", "name the file that they search")
        held = read_passages(path)
        for row in rows:
            if absent := [name for name in vectors.grades_of(row.fields["relevant"]) if name not in held]:
                raise FormatError(f"{row.place} has {absent[0]!r} as relevant", f"an id of {path}", "correct the line")
        texts = [Example({"text": text}, f"passage {name}") for name, text in held.items()]
        as_texts = Work(self.models, Asking("texts", "embeds"), self.plan, self.tell)
        found = [dict(zip(held, each, strict=True)) for each in as_texts.ask_both(texts)]
        self.notes += as_texts.notes
        return found

    def read(self, rows: Sequence[Example], clusters: NDArray[np.int64]) -> dict[str, Pairs]:
        """The texts, read by both models together."""
        base, candidate = self.models
        keys = [digest(row.text) for row in rows]
        if not language.are_alike(base, candidate, rows):
            costs = []
            for side, model in enumerate(self.models):
                kept = self._kept(model, what=[self.how.to_json(), "bytes"])

                def cost(place: int, model: Model = model) -> float:
                    return language.cost(model, rows[place], self.how.window)

                costs.append(self._all(side, kept, keys, cost, model.path))
            pairs = [language.by_bytes(both, row) for both, row in zip(zip(*costs, strict=True), rows, strict=True)]
            return language.paired(pairs, clusters)
        if self.plan.cache is not None:
            base = Remembered(base, self.plan.cache, fresh=self.plan.fresh)
        kept = self._kept(base, candidate, what=[self.how.to_json(), "tokens"])

        def ask(place: int) -> language.Sums:
            return language.together(base, candidate, rows[place], self.how.window)

        found = self._all(1, kept, keys, ask, "both models")
        self.taken, self.asked = [0.0, 0.0], [0, 0]  # both at once: whose time it was is not known
        return language.paired(found, clusters)


def _seen(how: Asking, row: Example) -> Any:
    match how.kind:
        case "completions" | "code":
            return tasks.prompt_of(how, row)
        case "choices":
            return [tasks.prompt_of(how, row), row.fields["choices"]]
        case "labels" if how.ability == "likelihoods":
            return tasks.prompt_of(how, row)
    return list(content(how.kind, row))
