"""Which examples belong together? Groups by a field's values, or by a rule."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import FormatError

MOST_SLICES = 200
"""More values of a field are no groups: a name or a text."""
RULE = re.compile(r"^\s*(\w+)\s*(<=|>=|!=|<|>|=|~)\s*(.+?)\s*$")
ORDER: Mapping[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip
PLAIN = "slice"
"""A field whose values are names of slices by themselves."""
LENGTH = "length"
"""A field that every example has in rules: the characters of what a model sees of it."""


def slices_of(
    documents: Sequence[Any], asked: Sequence[str], lengths: Sequence[int] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """The examples of each slice: of each value of a field, and of both sides of a rule such as `length>500`.

    Args:
        documents: the fields of each example.
        asked: names of fields, or rules: FIELD with <, <=, >, >= and a number, = or != and a value, ~ and a part.
        lengths: the characters of each example, for the field `length`.

    Raises:
        FormatError: when an example lacks the field, it is no number where one is compared, or it has too many values.

    Example:
        >>> rows = [{"a": 1}, {"a": 2}]
        >>> {name: chosen.tolist() for name, chosen in slices_of(rows, ["a", "a>=2"]).items()}
        {'a=1': [True, False], 'a=2': [False, True], 'a>=2': [False, True], 'not a>=2': [True, False]}
    """
    found: dict[str, NDArray[np.bool_]] = {}
    for one in asked:
        rule = RULE.match(one)
        key = rule[1] if rule else one
        values = [_value(document, key, place, lengths) for place, document in enumerate(documents)]
        if rule:
            chosen = np.array([_holds(value, rule[2], rule[3], place, key) for place, value in enumerate(values)], bool)
            found |= {one: chosen, f"not {one}": ~chosen}
            continue
        texts = [str(value) for value in values]
        if len(set(texts)) > MOST_SLICES:
            raise FormatError(f"{key} has {len(set(texts)):,} values", f"at most {MOST_SLICES} groups",
                              "name a field that groups the examples, or a rule")  # fmt: skip
        title = "" if key == PLAIN else f"{key}="
        found |= {f"{title}{text}": np.array([other == text for other in texts]) for text in sorted(set(texts))}
    return {name: chosen for name, chosen in found.items() if chosen.any()}


def clusters_of(documents: Sequence[Any], key: str | None) -> NDArray[np.int64]:
    """The number of the cluster of each example: those with the same value of a field stand and fall together.

    Raises:
        FormatError: when an example lacks the field.
    """
    if key is None:
        return np.arange(len(documents), dtype=np.int64)
    values = [str(_value(document, key, place, None)) for place, document in enumerate(documents)]
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _value(document: Any, key: str, place: int, lengths: Sequence[int] | None) -> Any:
    if isinstance(document, Mapping) and key in document:
        return document[key]
    if key == LENGTH and lengths is not None:
        return lengths[place]
    known = ", ".join(sorted(map(str, document))) if isinstance(document, Mapping) else "none"
    raise FormatError(f"example {place + 1} has no field {key}", f"one of its fields: {known}", "name one of these")


def _holds(value: Any, sign: str, wanted: str, place: int, key: str) -> bool:
    if sign == "~":
        return wanted.lower() in str(value).lower()
    if sign in ("=", "!="):
        return (str(value) == wanted) is (sign == "=")
    try:
        return ORDER[sign](float(value), float(wanted))
    except (TypeError, ValueError) as error:
        raise FormatError(f"example {place + 1} has {str(value)[:80]!r} as {key}, compared with {wanted!r}",
                          "two numbers", "correct the rule, or the data") from error  # fmt: skip
