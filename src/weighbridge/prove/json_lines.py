"""What stands on each line of a file of JSON lines? Objects with their numbers, and errors that name the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from weighbridge.errors import FormatError, SourceError

MOST_LINE_BYTES = 64 << 20
"""A longer line is no sample: prompts of a million tokens are below it."""


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a file of JSON lines with their numbers, blank lines left out.

    Raises:
        SourceError: when the file cannot be read.
        FormatError: when a line is none, named by its number.
    """
    try:
        with path.open("rb") as file:
            for number in range(1, 1 << 62):
                line = file.readline(MOST_LINE_BYTES + 1)
                if not line:
                    return
                if len(line) > MOST_LINE_BYTES:
                    read = f"{path.name} line {number} is longer than {MOST_LINE_BYTES:,} bytes"
                    raise FormatError(read, "one JSON object on each line", "split the file into lines")
                if line.strip():
                    yield number, _object(line, path.name, number)
    except OSError as error:
        read = f"{path} cannot be read ({error.strerror})"
        raise SourceError(read, "a file of JSON lines", "check the name") from error


def _object(line: bytes, name: str, number: int) -> dict[str, Any]:
    where = f"{name} line {number}"
    try:
        found = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise FormatError(f"{where} is not UTF-8 (byte {error.start})", "UTF-8", "convert the file") from error
    except (ValueError, RecursionError) as error:
        said = getattr(error, "msg", "too deep, or too long a number")
        raise FormatError(f"{where} is no JSON ({said})", "one JSON object on each line", "correct the line") from error
    if not isinstance(found, dict):
        raise FormatError(f"{where} is no object", "one JSON object on each line", "correct the line")
    return found
