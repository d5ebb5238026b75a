"""Runs a GGUF file through llama.cpp and prints what its own clock says, a line of JSON for each repetition.

A process of its own (`python -m weighbridge.measuring.llama_cpp`): its peak memory is the model's, and a crash is its
own. It reads its orders as one line of JSON on standard input.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import re
import sys
from pathlib import Path
from typing import Any


def peak_resident_bytes() -> int | None:
    """The most that this process held in memory, as the system counts it.

    Linux's `ru_maxrss` keeps what the process that started this one held, so that its own status is asked first.
    """
    with contextlib.suppress(OSError):
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        if found := re.search(r"(?m)^VmHWM:\s*(\d+) kB", status):
            return int(found[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def prompt_of(tokens: int, repetition: int, vocabulary: int) -> list[int]:
    """Token ids that no two repetitions share, away from the control tokens at the start of a vocabulary."""
    return [500 + (7919 * place + 104_729 * (repetition + 1)) % max(1, vocabulary - 1000) for place in range(tokens)]


def main() -> None:
    """Follows one order."""
    order = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the engine prints is no answer
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
    for repetition in range(order["repeat"] + 1):
        asked = {"prompt": prompt_of(order["prompt"], repetition, order["vocabulary"]), "max_tokens": order["output"],
                 "temperature": 0, "ignore_eos": True, "cache_prompt": False}  # fmt: skip
        answer = server.handle_completions(asked)
        document = json.loads(answer) if isinstance(answer, str | bytes) else answer
        line = {"timings": document.get("timings"), "peak_bytes": peak_resident_bytes(), "warm_up": repetition == 0,
                "error": document.get("error")}  # fmt: skip
        out.write(json.dumps(line) + "\n")
        out.flush()
    out.close()
    os._exit(0)  # the engine's threads need no farewell


if __name__ == "__main__":
    main()
