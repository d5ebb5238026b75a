"""What has a run of long work finished, so that the next one goes on behind it?

A journal lies beside what is written. Its first line is the key of the work: a run goes on only with a journal of the
same key. Each further line is one finished piece with the SHA-256 of its bytes, against which it is held again: what
the disk has lost is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from weighbridge.compress.codecs import Values
from weighbridge.errors import SourceError

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Written:
    """A result that was written: its bytes, the relative squared error of each tensor, and what a run before had done.

    `size_bytes` are of the file, or of the weight files in a folder.
    """

    path: str
    size_bytes: int
    errors: Mapping[str, float]
    resumed: int


def key_of(
    digest: str, paths: Sequence[Path], choices: Mapping[str, str], importance: Mapping[str, Values] | None
) -> str:  # fmt: skip
    """What makes two runs the same: the source's header, sizes and times, what each tensor becomes, the importance."""
    whole = hashlib.sha256(digest.encode())
    for path in paths:
        whole.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    for name, choice in choices.items():
        matrix = (importance or {}).get(name)
        whole.update(f"{name} {choice}".encode() + (b"" if matrix is None else matrix.tobytes()))
    return whole.hexdigest()


def begin(path: Path, key: str, done: Sequence[Mapping[str, Any]] = ()) -> None:
    """Begins a journal with what is known to be finished; what was there is replaced."""
    fresh = path.with_suffix(".new")
    try:
        fresh.write_text("".join(json.dumps(entry) + "\n" for entry in ({"key": key}, *done)), encoding="utf-8")
        fresh.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def begin_folder(part: Path, path: Path, key: str) -> None:
    """Begins a journal and makes the folder of its work; what an earlier run of other work left there is removed.

    Raises:
        SourceError: when the folder is there and no journal is, so that it is somebody else's.
        OSError: when they cannot be made.
    """
    there = [place for place in (part, path) if os.path.lexists(place)]
    if there and entries(path) is None:
        raise SourceError(f"{there[0]} is there and is no unfinished work", "a name beside which nothing lies",
                          "choose another, or remove it")  # fmt: skip
    if part.exists():
        shutil.rmtree(part)
    begin(path, key)
    part.mkdir()


def add(log: TextIO, entry: Mapping[str, Any]) -> None:
    """Adds a finished piece to a journal that is open for appending."""
    log.write(f"\n{json.dumps(entry)}\n")  # a line that was cut by an earlier end stays alone
    log.flush()


def entries(path: Path, key: str | None = None) -> list[dict[str, Any]] | None:
    """The finished pieces, lines that are damaged left out; None for no journal, or one of another key.

    Example:
        >>> import tempfile
        >>> place = Path(tempfile.mkdtemp()) / "a.json"
        >>> begin(place, "one")
        >>> with place.open("a") as log:
        ...     add(log, {"name": "w"})
        >>> entries(place, "one"), entries(place, "other")
        ([{'name': 'w'}], None)
    """
    found: list[dict[str, Any]] = []
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        held = json.loads(lines[0])["key"]
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None
    if key is not None and held != key:
        return None
    for line in lines[1:]:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                found.append(entry)
    return found


def checksum(file: BinaryIO, first: int, last: int) -> str:
    """The SHA-256 of the bytes [first, last) of a file, as far as it has them; read in pieces."""
    whole = hashlib.sha256()
    file.seek(first)
    left = last - first
    while left and (piece := file.read(min(left, _PIECE_BYTES))):
        whole.update(piece)
        left -= len(piece)
    return whole.hexdigest()
