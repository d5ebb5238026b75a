"""What is a model asked about an example of each kind, and how is it put?

| kind | asked |
| --- | --- |
| completions | to write after the prompt |
| choices | how likely each choice is after the prompt |
| labels | the probability of each label, by a classifier or as choices |
| pairs | a vector of both sentences |
| texts, of encoders | a vector |
| retrieval | a vector of the query and of all passages |
| code | to write the function |

An answer is a JSON value of one model and one example, so that it can be kept; `scores` makes metrics of two lists.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import ConfigError, FormatError, UnitError
from weighbridge.prove import vectors
from weighbridge.prove.engines.model import Ability, Model, TooLongError
from weighbridge.prove.examples import Example, Examples, Kind, filled

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
