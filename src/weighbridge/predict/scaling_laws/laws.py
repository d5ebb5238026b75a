"""Which scaling laws are published? Those of `laws.toml`: constants, source, the range of the runs behind each."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.predict.scaling_laws.forms import FORMS, Additive, Kaplan, Law, PowerOfOne

FILE = Path(__file__).parent / "laws.toml"
DEFAULT = "chinchilla-corrected"
"""The law that losses are predicted by where none is named: its uncertainty is published, and it reproduces."""
_ABOUT = {one.name for one in fields(Law)} - {"active_share"}


@functools.cache
def laws() -> Mapping[str, Law]:
    """All of them, in the order of the file."""
    tables = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {name: _law(name, table) for name, table in tables.items()}


def _law(name: str, table: dict[str, Any]) -> Law:
    facts = {key: _frozen(value) for key, value in table.items() if key != "form"}
    if "alone" in facts:
        facts["alone"] = {key: PowerOfOne(**one) for key, one in facts["alone"].items()}
    return FORMS[table["form"]](name=name, **facts)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(one) for one in value) if isinstance(value, list) else value


def find_law(name: str) -> Law:
    """The law of this name.

    Raises:
        UnknownNameError: when there is none.

    Example:
        >>> find_law("Kaplan").year
        2020
    """
    key = name.lower().replace("_", "-")
    if key not in laws():
        raise UnknownNameError("scaling law", name, laws(), "run `weigh scaling laws`")
    return laws()[key]


def additive_law(name: str) -> Additive:
    """The law of this name, which must be one of sums.

    Raises:
        UnknownNameError: when there is none.
        UnitError: when it has another form.
    """
    law = find_law(name)
    if not isinstance(law, Additive):
        known = ", ".join(one.name for one in laws().values() if isinstance(one, Additive))
        raise UnitError(f"the law {law.name} is no sum of a floor, a term of parameters and one of tokens", known,
                        "name one of them")  # fmt: skip
    return law


def law_json(law: Law) -> dict[str, Any]:
    """One law of `weigh scaling laws`."""
    form = next(name for name, kind in FORMS.items() if type(law) is kind)
    constants = {one.name: getattr(law, one.name) for one in fields(law) if one.name not in _ABOUT}
    if isinstance(law, Kaplan):
        constants["alone"] = {name: {"scale": one.scale, "exponent": one.exponent} for name, one in law.alone.items()}
    return {
        "name": law.name, "title": law.title, "form": form, "year": law.year, "counts": law.counts,
        "gives_loss": law.loss(1e9, 1e10) is not None, "constants": constants,
        "runs": {"parameters": law.runs_parameters, "tokens": law.runs_tokens, "flops": law.runs_flops},
        "source": law.source, "url": law.url, "note": law.note,
    }  # fmt: skip
