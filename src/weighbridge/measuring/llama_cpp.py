"""Runs a GGUF file through llama.cpp; its own clock tells what each prompt and token took.

A process of its own: `python -m weighbridge.measuring.llama_cpp`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

from weighbridge.measuring.process import follow


def load(order: dict[str, Any]) -> Callable[[list[int]], dict[str, Any]]:
    """What runs a prompt."""
    engine: Any = importlib.import_module("xllamacpp")
    settings = engine.CommonParams()
    settings.model.path = order["path"]
    settings.n_ctx = order["context"]
    settings.n_parallel = 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = order["threads"]
    settings.n_gpu_layers = 0
    settings.warmup = False
    settings.cache_ram_mib = 0
    settings.verbosity = 0
    server = engine.Server(settings)

    def answer(prompt: list[int]) -> dict[str, Any]:
        found = server.handle_completions({
            "prompt": prompt, "max_tokens": order["output"], "temperature": 0, "ignore_eos": True,
            "cache_prompt": False})  # fmt: skip
        return dict(json.loads(found) if isinstance(found, str | bytes) else found)

    return answer


if __name__ == "__main__":
    follow(load)
