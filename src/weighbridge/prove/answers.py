"""Where are finished answers kept, so that nothing is asked twice and nothing is lost when a run ends early?

A folder with a file of JSON lines for each model, engine and settings: a line for each example, written as soon as it
is answered. Beside it the distributions of models that read, a file for each window of tokens, up to `MOST_BYTES`; the
longest unused go first. Keys are made of contents (SHA-256), never of names or times.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import SourceError
from weighbridge.prove.engines.model import Model, Rows

MOST_BYTES = 4 << 30
VERSION = 1
"""Goes up whenever the same question gets another answer from the same model: what was kept before is then not used."""


def digest(value: Any) -> str:
    """The SHA-256 of a JSON value.

    Example:
        >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}), digest("a") == digest("b")
        (True, False)
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


class Answers:
    """The finished answers of one model under one set of settings; of nothing kept where there is no folder."""

    def __init__(self, folder: Path | None, key: Mapping[str, Any], *, fresh: bool = False) -> None:
        """Reads what is there.

        Raises:
            SourceError: when the folder cannot be read or made.
        """
        self.found: dict[str, Any] = {}
        self.path: Path | None = None
        if folder is None:
            return
        self.key = {"version": VERSION, **key}
        self.path = folder / "answers" / f"{digest(self.key)}.jsonl"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            if fresh or not self.path.exists():
                self.path.write_text(json.dumps({"key": self.key}) + "\n", encoding="utf-8")
            for line in self.path.read_bytes().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):  # the last line of a killed run
                    said = json.loads(line)
                    self.found[said["example"]] = said["answer"]
        except OSError as error:
            raise self._error(error) from error

    def clear(self) -> None:
        """Forgets all answers."""
        self.found = {}
        if self.path is not None:
            self.path.write_text(json.dumps({"key": self.key}) + "\n", encoding="utf-8")

    def _error(self, error: OSError) -> SourceError:
        read = f"finished answers cannot be kept in {self.path} ({error.strerror})"
        return SourceError(read, "a folder that can be written to", "name one with --cache, or use --no-cache")

    def add(self, example: str, answer: Any) -> None:
        """Keeps an answer.

        Raises:
            SourceError: when it cannot be written.
        """
        self.found[example] = answer
        if self.path is None:
            return
        try:
            with self.path.open("ab") as file:  # a killed run may have left half a line: a new one begins
                file.write(f"\n{json.dumps({'example': example, 'answer': answer})}\n".encode())
        except OSError as error:
            raise self._error(error) from error


class Remembered(Model):
    """A model that reads, with its distributions on the disk: what was asked once is not worked out again."""

    def __init__(self, model: Model, folder: Path, *, fresh: bool = False) -> None:
        self.model, self.folder = model, folder / "distributions" / digest([VERSION, model.digest, model.engine])
        self.fresh = fresh
        self.path, self.engine, self.digest, self.notes = model.path, model.engine, model.digest, model.notes
        self.abilities, self.positions = model.abilities, model.positions
        self.begin, self.prefix, self.suffix = model.begin, model.prefix, model.suffix
        self.kept_bytes = 0

    def tokens(self, text: str) -> list[int]:
        """As `Model.tokens`."""
        return self.model.tokens(text)

    def scores(self, tokens: Sequence[int], start: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """As `Model.scores`, which are too little to keep."""
        return self.model.scores(tokens, start)

    def log_probabilities(self, tokens: Sequence[int], start: int = 0) -> Rows:
        """As `Model.log_probabilities`, from the disk where they are there."""
        path = self.folder / f"{digest([list(tokens), start])}.npy"
        if not self.fresh:
            with contextlib.suppress(OSError, ValueError, EOFError):
                kept: Rows = np.load(path, allow_pickle=False)
                os.utime(path)
                return kept
        found = self.model.log_probabilities(tokens, start)
        with contextlib.suppress(OSError):  # a full disk costs only time
            self._keep(path, found)
        return found

    def _keep(self, path: Path, found: Rows) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        kept = sorted((one.stat().st_mtime, one.stat().st_size, one) for one in self.folder.parent.rglob("*.npy*"))
        total = sum(size for _, size, _ in kept) + found.nbytes
        if self.kept_bytes + found.nbytes > MOST_BYTES:  # what this run has kept is not thrown out by itself
            return
        for _, size, one in kept:
            if total <= MOST_BYTES:
                break
            one.unlink(missing_ok=True)
            total -= size
        descriptor, beside = tempfile.mkstemp(dir=self.folder, suffix=".npy.part")
        try:
            with os.fdopen(descriptor, "wb") as file:
                np.save(file, found, allow_pickle=False)
            Path(beside).replace(path)
        except OSError:
            Path(beside).unlink(missing_ok=True)
            raise
        self.kept_bytes += found.nbytes

    def close(self) -> None:
        """As `Model.close`."""
        self.model.close()
