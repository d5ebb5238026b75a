"""What do the processes that run a model share? Their order, their prompts, their answers and their peak memory.

A model runs in a process of its own: its peak memory is the model's, and a crash is its own. It reads its order as one
line of JSON on standard input and answers with a line of JSON for each repetition. Its times are of the system's
monotonic clock, which the process that reads the meters shares.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable
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


def follow(load: Callable[[dict[str, Any]], Callable[[list[int]], dict[str, Any]]]) -> None:
    """Follows one order: loads the model and answers each repetition's prompt, the first of them a warm-up.

    `load` takes the order and gives what runs a prompt and returns its `timings`, or an `error`.
    """
    order = json.loads(sys.stdin.readline())
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what the engine prints is no answer
    answer = load(order)
    for repetition in range(order["repeat"] + 1):
        started_s = time.monotonic()
        found = answer(prompt_of(order["prompt"], repetition, order["vocabulary"]))
        line = {"timings": found.get("timings"), "peak_bytes": peak_resident_bytes(), "warm_up": repetition == 0,
                "error": found.get("error"), "started_s": started_s, "ended_s": time.monotonic()}  # fmt: skip
        out.write(json.dumps(line) + "\n")
        out.flush()
    out.close()
    os._exit(0)  # the engine's threads need no farewell
