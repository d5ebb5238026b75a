"""Which examples are there to prove on, and which of them cannot be used?

A file of JSON lines (`.jsonl`) has an object with `text` on each line; any other file is text, where blank lines part
one document from the next. Empty documents and repeated ones are left out and named: a text that is there twice would
count twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import FormatError, SourceError
from weighbridge.prove.json_lines import read_lines

MOST_TEXT_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Document:
    """One text, where it stands in its file, and the fields beside it."""

    text: str
    place: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Texts:
    """The documents of a file that can be used; `digest` is the SHA-256 of the file."""

    documents: tuple[Document, ...]
    digest: str
    notes: tuple[str, ...]


def read_texts(path: str | Path, limit: int | None = None) -> Texts:
    """The documents of a file, the first `limit` of them.

    Raises:
        SourceError: when the file cannot be read.
        FormatError: when a line is not what it should be, or no document is left.
    """
    place = Path(path)
    if not place.is_file():
        raise SourceError(f"{path} cannot be read (no such file)", "a file of text or of JSON lines", "check the name")
    suffix = place.suffix.lower()
    if suffix == ".json":
        raise FormatError(f"{place.name} is JSON", "text, or JSON lines (.jsonl)", "write an object on each line")
    found = _lines(place) if suffix in (".jsonl", ".ndjson") else _paragraphs(place)
    seen: set[str] = set()
    kept: list[Document] = []
    empty = twice = 0
    for document in found:
        if not document.text.strip():
            empty += 1
        elif document.text in seen:
            twice += 1
        else:
            seen.add(document.text)
            kept.append(document)
    if not kept:
        raise FormatError(f"{place.name} has no text", "texts to prove on", "name another file")
    notes = []
    if empty:
        notes.append(f"{empty:,} empty documents are left out")
    if twice:
        notes.append(f"{twice:,} documents that are there already are left out")
    if limit is not None and limit < len(kept):
        notes.append(f"the first {limit:,} of {len(kept):,} documents are used")
    digest = hashlib.sha256(place.read_bytes()).hexdigest()
    return Texts(tuple(kept[:limit]), digest, tuple(notes))


def _lines(path: Path) -> Sequence[Document]:
    found = []
    for number, line in read_lines(path):
        text = line.get("text")
        if not isinstance(text, str):
            read = f"{path.name} line {number} has no text (its keys: {', '.join(sorted(line)) or 'none'})"
            raise FormatError(read, "an object with `text`, a string", "correct the line")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise FormatError(
                f"{path.name} line {number} has half of a letter (a lone surrogate)", "text", "correct it"
            )
        found.append(Document(text, f"line {number}", line))
    return found


def _paragraphs(path: Path) -> Sequence[Document]:
    try:
        if path.stat().st_size > MOST_TEXT_BYTES:
            raise FormatError(f"{path.name} is larger than {MOST_TEXT_BYTES:,} bytes", "a text to prove on", "split it")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})", "a file of text", "check the name") from error
    except UnicodeDecodeError as error:
        raise FormatError(f"{path.name} is not UTF-8 (byte {error.start})", "UTF-8", "convert the file") from error
    found: list[Document] = []
    lines: list[str] = []
    first = 1
    for number, line in enumerate([*text.replace("\r\n", "\n").split("\n"), ""], start=1):
        if line.strip():
            first = first if lines else number
            lines.append(line)
        elif lines:
            found.append(Document("\n".join(lines), f"line {first}", {}))
            lines = []
    return found
