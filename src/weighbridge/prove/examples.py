"""Which examples are there to prove on, of what kind, and which of them cannot be used?

A file of JSON lines (`.jsonl`) has one kind of example; any other file is text, where blank lines part one document
from the next.

| kind | fields |
| --- | --- |
| texts | `text` |
| completions | `prompt`, `completion` |
| choices | `prompt`, `choices` (texts), `answer` (a place from 0, or the text) |
| labels | `text`, `label` |
| pairs | `sentence1`, `sentence2`, `score` |
| retrieval | `query`, `relevant` (ids of passages, or grades by id); the passages are a file of their own |
| code | `prompt`, `test`, `entry_point` |

Empty examples and repeated ones are left out and named: what is there twice would count twice.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from weighbridge.errors import FormatError, SourceError
from weighbridge.prove.json_lines import read_lines

Kind = Literal["texts", "completions", "choices", "labels", "pairs", "retrieval", "code"]
FIELDS: Mapping[Kind, tuple[str, ...]] = {
    "code": ("prompt", "test", "entry_point"), "choices": ("prompt", "choices", "answer"),
    "completions": ("prompt", "completion"), "pairs": ("sentence1", "sentence2", "score"),
    "retrieval": ("query", "relevant"), "labels": ("text", "label"), "texts": ("text",),
}  # fmt: skip
"""The fields that make a line an example of a kind; the first kind whose fields a line has all of is its kind."""
MOST_TEXT_BYTES = 1 << 30
MOST_VALUE = 1e300
MOST_NAMED = 5
"""Places that a note names before it only counts."""


@dataclass(frozen=True, slots=True)
class Example:
    """One example: its fields and where it stands in its file."""

    fields: Mapping[str, Any]
    place: str

    @property
    def text(self) -> str:
        """The text of a document."""
        return str(self.fields["text"])


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of a file that can be used; `digest` is the SHA-256 of the file."""

    kind: Kind
    rows: tuple[Example, ...]
    digest: str
    notes: tuple[str, ...] = ()


def read_examples(path: str | Path, limit: int | None = None, template: str | None = None) -> Examples:
    """The examples of a file, the first `limit` of them; with a template, prompts are what it makes of their fields.

    Raises:
        SourceError: when the file cannot be read.
        FormatError: when a line is not what it should be, or no example is left.
    """
    place = Path(path)
    if place.is_dir():
        raise SourceError(f"{path} is a folder", "a file of text or of JSON lines", "name a file in it")
    if not place.is_file():
        raise SourceError(f"{path} cannot be read (no such file)", "a file of text or of JSON lines", "check the name")
    suffix = place.suffix.lower()
    if suffix == ".json":
        raise FormatError(f"{place.name} is JSON", "text, or JSON lines (.jsonl)", "write an object on each line")
    if suffix in (".jsonl", ".ndjson"):
        kind, found = _lines(place)
    else:
        kind, found = "texts", _paragraphs(place)
    with place.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return usable(Examples(kind, tuple(found), digest), limit, place.name, template)


def usable(examples: Examples, limit: int | None, name: str, template: str | None = None) -> Examples:
    """Those that are neither empty nor there twice.

    Raises:
        FormatError: when none is left.
    """
    seen: set[tuple[str, ...]] = set()
    kept: list[Example] = []
    empty: list[str] = []
    twice: list[str] = []
    for example in examples.rows:
        whole = content(examples.kind, example, template)
        if not any(part.strip() for part in whole):
            empty.append(example.place)
        elif whole in seen:
            twice.append(example.place)
        else:
            seen.add(whole)
            kept.append(example)
    if not kept:
        what = "no text" if examples.kind == "texts" else "no example"
        raise FormatError(f"{name} has {what}", "examples to prove on", "name another file")
    notes = []
    if empty:
        notes.append(f"{named(empty, 'empty example')} left out")
    if twice:
        notes.append(f"{named(twice, 'example')} there already and left out")
    if limit is not None and limit < len(kept):
        notes.append(f"the first {limit:,} of {len(kept):,} examples are used")
    return replace(examples, rows=tuple(kept[:limit]), notes=tuple(notes))


def content(kind: Kind, example: Example, template: str | None = None) -> tuple[str, ...]:
    """What a model sees of an example: two with the same are one."""
    fields = example.fields
    match kind:
        case "pairs":
            return fields["sentence1"], fields["sentence2"]
        case "retrieval":
            return (fields["query"],)
        case "choices":
            return (filled(template, example) if template else fields["prompt"], *fields["choices"])
    if template is not None:
        return (filled(template, example),)
    return (example.text if kind in ("texts", "labels") else str(fields["prompt"]),)


def filled(template: str, example: Example) -> str:
    """A template with the fields of an example in its braces.

    Raises:
        FormatError: when the example lacks a field.

    Example:
        >>> filled("{n}: {text}", Example({"n": 1, "text": "a"}, "line 1"))
        '1: a'
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in example.fields:
            raise FormatError(f"{example.place} has no field {found[1]}", f"one of {', '.join(sorted(example.fields))}",
                              "correct the template")  # fmt: skip
        return str(example.fields[found[1]])

    return re.sub(r"\{(\w+)\}", value, template)


def named(places: Sequence[str], what: str) -> str:
    """How many there are and where.

    Example:
        >>> named(["line 2", "line 5"], "empty example"), named(["line 2"], "example")
        ('2 empty examples (line 2, line 5) are', '1 example (line 2) is')
    """
    shown = ", ".join(places[:MOST_NAMED]) + (", ..." if len(places) > MOST_NAMED else "")
    return f"{len(places):,} {what}{'' if len(places) == 1 else 's'} ({shown}) {'is' if len(places) == 1 else 'are'}"


def _lines(path: Path) -> tuple[Kind, list[Example]]:
    kind: Kind | None = None
    first = 0
    found = []
    for number, line in read_lines(path):
        where = f"{path.name} line {number}"
        this = next((kind for kind, fields in FIELDS.items() if all(field in line for field in fields)), None)
        if kind is None:
            kind, first = this, number
        if this is None or kind is None or this != kind:
            expected = " | ".join("+".join(fields) for fields in FIELDS.values())
            if this is None or kind is None:
                lacks = "has no text" if kind in (None, "texts") else f"lacks {_missing(kind, line)}"
                raise FormatError(f"{where} {lacks} (its keys: {', '.join(sorted(line)) or 'none'})",
                                  f"an object with {expected}", "correct the line")  # fmt: skip
            raise FormatError(f"{where} is one of the {this}, line {first} one of the {kind}", "one kind of example",
                              "split the file")  # fmt: skip
        if _has_half_a_letter(line):
            raise FormatError(f"{where} has half of a letter (a lone surrogate)", "text", "correct it")
        for key in FIELDS[kind]:
            if not IS[CHECKS[key]](line[key]):
                read = f"{where}: {key} is {json.dumps(line[key])[:80]}"
                raise FormatError(read, CHECKS[key], "correct the line")
        fields = dict(line)
        if kind == "choices":
            fields["answer"] = _answer(line["choices"], line["answer"], where)
        elif kind == "labels":
            fields["label"] = str(line["label"])
        found.append(Example(fields, f"line {number}"))
    return kind or "texts", found


def _missing(kind: Kind, line: Mapping[str, Any]) -> str:
    return ", ".join(field for field in FIELDS[kind] if field not in line)


def _answer(choices: Sequence[str], answer: Any, where: str) -> int:
    if isinstance(answer, str) and answer in choices:
        return choices.index(answer)
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    raise FormatError(f"{where}: the answer is {json.dumps(answer)[:80]}",
                      f"a place from 0 to {len(choices) - 1}, or one of the choices", "correct the line")  # fmt: skip


def _has_half_a_letter(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_half_a_letter(one) for one in (*value, *value.values()))
    if isinstance(value, list):
        return any(map(_has_half_a_letter, value))
    return isinstance(value, str) and any("\ud800" <= letter <= "\udfff" for letter in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < MOST_VALUE


def _is_relevant(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(isinstance(one, str | int) and not isinstance(one, bool) for one in value)
    return isinstance(value, dict) and any(_is_number(grade) and grade > 0 for grade in value.values()) and all(
        _is_number(grade) and grade >= 0 for grade in value.values())  # fmt: skip


IS: Mapping[str, Callable[[Any], bool]] = {
    "a text": lambda value: isinstance(value, str),
    "two choices or more that differ, each a text that is not empty": lambda value: isinstance(value, list)
    and len(value) > 1 and all(isinstance(one, str) and one.strip() for one in value)
    and len(set(value)) == len(value),
    "a label: a text or a number": lambda value: isinstance(value, str | int | float) and bool(str(value).strip()),
    "a number": _is_number,
    "a place or a text": lambda value: isinstance(value, str | int),
    "ids of passages, or grades of 0 or more by id, one above 0": _is_relevant,
}  # fmt: skip
CHECKS: Mapping[str, str] = {
    **dict.fromkeys(("text", "prompt", "completion", "sentence1", "sentence2", "query"), "a text"),
    **dict.fromkeys(("test", "entry_point"), "a text"), "label": "a label: a text or a number", "score": "a number",
    "choices": "two choices or more that differ, each a text that is not empty", "answer": "a place or a text",
    "relevant": "ids of passages, or grades of 0 or more by id, one above 0",
}  # fmt: skip


def read_passages(path: str | Path) -> dict[str, str]:
    """The passages that queries search, by `id`: JSON lines with `id` and `text`.

    Raises:
        WeighbridgeError: when the file cannot be read or a line is none.
    """
    place = Path(path)
    found: dict[str, str] = {}
    for number, line in read_lines(place):
        where = f"{place.name} line {number}"
        key, text = line.get("id"), line.get("text")
        if not isinstance(key, str | int) or not isinstance(text, str) or not text.strip():
            raise FormatError(f"{where} is no passage", "an object with `id` and a `text` that is not empty",
                              "correct the line")  # fmt: skip
        if _has_half_a_letter(line):
            raise FormatError(f"{where} has half of a letter (a lone surrogate)", "text", "correct it")
        if str(key) in found:
            raise FormatError(f"{where} repeats the id {key}", "each id once", "correct the line")
        found[str(key)] = text
    if len(found) < 2:
        raise FormatError(f"{place.name} has {len(found)} passages", "two or more to choose from", "name another file")
    return found


def _paragraphs(path: Path) -> list[Example]:
    try:
        if path.stat().st_size > MOST_TEXT_BYTES:
            raise FormatError(f"{path.name} is larger than {MOST_TEXT_BYTES:,} bytes", "a text to prove on", "split it")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})", "a file of text", "check the name") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path.name} is not UTF-8 (byte {error.start})", "UTF-8", "convert the file") from error
    found: list[Example] = []
    lines: list[str] = []
    first = 1
    for number, line in enumerate([*text.replace("\r\n", "\n").split("\n"), ""], start=1):
        if line.strip():
            first = first if lines else number
            lines.append(line)
        elif lines:
            found.append(Example({"text": "\n".join(lines)}, f"line {first}"))
            lines = []
    return found
