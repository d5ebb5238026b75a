"""What is explained when somebody asks? A term, a question or a myth by its number, or all of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from weighbridge.claims.glossary import Term, explain, terms
from weighbridge.claims.myth import MYTHS, Myth, find_myth
from weighbridge.claims.question import QUESTIONS, Question, find_question
from weighbridge.claims.setting import Setting, settings_of

_NUMBERED = re.compile(r"(?:(?P<question>q|question)|m|myth)\s?(?P<number>\d{1,4})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is explained; `listed` are terms that are only named, `parameters` those of the model with the settings."""

    terms: tuple[Term, ...] = ()
    listed: tuple[Term, ...] = ()
    questions: tuple[Question, ...] = ()
    myths: tuple[Myth, ...] = ()
    settings: tuple[Setting, ...] = ()
    parameters: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh explain --json`."""
        return {
            "terms": [one.to_json() for one in self.terms], "listed": [one.name for one in self.listed],
            "questions": [one.to_json() for one in self.questions], "myths": [one.to_json() for one in self.myths],
            "settings": [one.to_json() for one in self.settings], "parameters": self.parameters,
        }  # fmt: skip


def find(what: str) -> Explanation:
    """The explanation of a term, or of a question or myth by its number.

    Raises:
        UnknownNameError: when there is none; it lists the nearest.

    Example:
        >>> find("LoRA").terms[0].name, find("q21").questions[0].number, find("myth 4").myths[0].number
        ('LoRA', 21, 4)
    """
    numbered = _NUMBERED.fullmatch(what.strip())
    if numbered is None:
        return Explanation(terms=(explain(what),))
    if numbered["question"]:
        return Explanation(questions=(find_question(int(numbered["number"])),))
    return Explanation(myths=(find_myth(int(numbered["number"])),))


def explanation(*, questions: bool = False, myths: bool = False, settings: str | None = None) -> Explanation:
    """All questions, all myths, the settings of a model, or else the list of all terms.

    Raises:
        WeighbridgeError: when the model cannot be read.

    Example:
        >>> len(explanation(questions=True).questions), len(explanation(myths=True).myths)
        (26, 9)
    """
    if settings is not None:
        found, count = settings_of(settings)
        return Explanation(settings=found, parameters=count)
    if questions or myths:
        return Explanation(questions=QUESTIONS if questions else (), myths=MYTHS if myths else ())
    return Explanation(listed=terms())
