"""A GGUF file under llama.cpp, in a process of its own: a decoder, or an encoder that pools."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.prove.engines.model import Model, Rows

SECONDS = 1800
"""Longer than any answer takes on a machine that can run the model at all."""


class GgufModel(Model):
    """One GGUF file; its process starts with the first question."""

    program = "weighbridge.prove.engines.llama_cpp_process"

    def __init__(self, path: str | Path, digest: str, threads: int | None = None) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise ConfigError("xllamacpp is not installed, which runs GGUF files", "the extra `run`",
                              "run: pip install 'weighbridge[run]'")  # fmt: skip
        self.path, self.digest = str(path), digest
        self.threads = threads or max(1, (os.cpu_count() or 1) // 2)
        about = self._ask(self._process, {"path": str(Path(path).resolve()), "threads": self.threads})[0]
        self.engine = f"llama.cpp (xllamacpp {about['version']})"
        self.begin, self.positions = about["begin"], about["positions"]
        self.prefix, self.suffix = tuple(about["before"]), tuple(about["after"])
        self.abilities = frozenset({"embeds"} if about["is_encoder"] else {"reads", "likelihoods", "writes"})

    @cached_property
    def _process(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", self.program]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def _ask(self, process: subprocess.Popen[bytes], order: dict[str, Any]) -> tuple[dict[str, Any], Rows]:
        assert process.stdin is not None and process.stdout is not None
        late = threading.Timer(SECONDS, process.kill)
        late.start()
        try:
            process.stdin.write(json.dumps(order).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(process.stdout.readline() or b"{}")
            data = process.stdout.read(answer.get("bytes", 0))
        except BrokenPipeError:
            answer, data = {}, b""
        finally:
            late.cancel()
        if "error" in answer or "shape" not in answer or len(data) != answer["bytes"]:
            self.close()
            said = answer.get("error") or f"its process ended with {process.returncode}"
            raise ConfigError(f"llama.cpp failed on {self.path} ({said})", "a decoder, or an encoder that pools",
                              "try --engine transformers, or another release of xllamacpp")  # fmt: skip
        return answer, np.frombuffer(data, dtype=np.float32).reshape(answer["shape"])

    def tokens(self, text: str) -> list[int]:
        """As `Model.tokens`."""
        found: list[int] = self._ask(self._process, {"text": text})[0]["tokens"]
        return found

    def pieces(self, tokens: Sequence[int]) -> list[str]:
        """The text of each token alone."""
        found: list[str] = self._ask(self._process, {"pieces": list(tokens)})[0]["pieces"]
        return found

    def log_probabilities(self, tokens: Sequence[int], start: int = 0) -> Rows:
        """As `Model.log_probabilities`."""
        return self._ask(self._process, {"rows": list(tokens[:-1]), "start": start})[1]

    def scores(self, tokens: Sequence[int], start: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """As `Model.scores`; worked out in the process, which gives two numbers for a token and not a vocabulary."""
        found = self._ask(self._process, {"scores": list(tokens), "start": start})[1].astype(np.float64)
        return found[0], found[1] > 0

    def write(self, prompt: str, most_tokens: int, stop: Sequence[str]) -> str:
        """As `Model.write`."""
        tokens = self.prompt_tokens(prompt, most_tokens)
        order = {"write": tokens, "most_tokens": most_tokens, "stop": list(stop)}
        found: str = self._ask(self._process, order)[0]["written"]
        return found

    def embed(self, texts: Sequence[str]) -> Rows:
        """As `Model.embed`; one text at a time, cut to the positions and pooled as the file says."""
        room = (self.positions or 0) - len(self.prefix) - len(self.suffix)
        rows = []
        for text in texts:
            tokens = [*self.prefix, *self.tokens(text)[: max(0, room)], *self.suffix]
            rows.append(self._ask(self._process, {"vector": tokens})[1][0])
        return np.array(rows, dtype=np.float32)

    def close(self) -> None:
        """Ends the process."""
        process = self.__dict__.pop("_process", None)
        if process is not None:
            process.kill()
            process.communicate()
