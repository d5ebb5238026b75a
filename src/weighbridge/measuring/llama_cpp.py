"""Runs a GGUF file through llama.cpp; its own clock tells what each prompt and token took.

A process of its own: `python -m weighbridge.measuring.llama_cpp`.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from typing import Any

from weighbridge.measuring.process import follow


def server(path: str, context: int, threads: int, *, embeds: bool = False) -> Any:
    """llama.cpp's server in this process, to write or to embed; for one prompt at a time, none of which is kept."""
    engine: Any = importlib.import_module("xllamacpp")
    settings = engine.CommonParams()
    settings.model.path = path
    settings.n_ctx, settings.n_parallel = context, 1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.n_gpu_layers, settings.embedding = 0, embeds
    settings.warmup, settings.cache_ram_mib, settings.verbosity = False, 0, 0
    return engine.Server(settings)


def load(order: dict[str, Any]) -> Callable[[list[int]], dict[str, Any]]:
    """What runs a prompt."""
    running = server(order["path"], order["context"], order["threads"])

    def answer(prompt: list[int]) -> dict[str, Any]:
        found = running.handle_completions({
            "prompt": prompt, "max_tokens": order["output"], "temperature": 0, "ignore_eos": True,
            "cache_prompt": False})  # fmt: skip
        return dict(json.loads(found) if isinstance(found, str | bytes) else found)

    return answer


if __name__ == "__main__":
    follow(load)
