"""How does a model run here, and was that predicted? Repetitions, their percentiles, and the plan beside them.

Energy is what the processor's own meters say of each repetition, prompt and answer: of the whole processor and its
memory, whatever else ran. Without a meter the estimate of the plan stands alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError, SourceError
from weighbridge.estimate import Estimate
from weighbridge.hardware import kernels
from weighbridge.hardware.device import Device
from weighbridge.hardware.measured import Measured
from weighbridge.hardware.meter import Meter
from weighbridge.inspection import inspect
from weighbridge.planning import NO_DECODING, Plan, fit
from weighbridge.predict.demand import demand

LOAD_SECONDS = 120
LEAST_TOKENS_PER_S = 2.0
"""A run that is slower than this is ended."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """One prompt and its answer by the engine's own clock."""

    prompt_s: float
    prompt_tokens: int
    step_s: float
    peak_bytes: int | None
    started_s: float
    ended_s: float


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which that share lies, with straight lines between.

    Example:
        >>> percentile([3.0, 1.0, 2.0], 0.5), percentile([1.0, 2.0], 0.9)
        (2.0, 1.9)
    """
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


@dataclass(frozen=True, slots=True)
class Compared:
    """One quantity: measured as median with percentiles, predicted with its interval; no values without a meter."""

    values: tuple[float, ...]
    predicted: Estimate

    @property
    def median(self) -> float | None:
        """The median of the repetitions; None when nothing was measured."""
        return percentile(self.values, 0.5) if self.values else None

    @property
    def ratio(self) -> float | None:
        """Measured over predicted."""
        median = self.median
        return median / self.predicted.value if self.predicted.value and median is not None else None

    @property
    def covered(self) -> bool | None:
        """Whether the interval contains the measurement; None where nothing was predicted or measured."""
        low, high, median = self.predicted.low, self.predicted.high, self.median
        return None if low is None or high is None or median is None else low <= median <= high

    def to_json(self) -> dict[str, Any]:
        """One field of `weigh measure`."""
        return {
            "measured": {"value": self.median, "p10": percentile(self.values, 0.1), "p90": percentile(self.values, 0.9),
                         "n": len(self.values), "unit": self.predicted.unit, "basis": "measured"}
            if self.values else None,
            "predicted": self.predicted.to_json(), "ratio": self.ratio, "covered": self.covered,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """A model that ran here, and its plan."""

    plan: Plan
    speed: dict[str, Compared]
    memory: dict[str, Compared]
    energy: dict[str, Compared]
    threads: int
    repeat: int
    load_average: tuple[float, float] | None
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh measure --json`."""
        service = self.plan.service
        return {
            "source": self.plan.source, "runtime": service.runtime.name, "device": self.plan.machine.device.name,
            "threads": self.threads, "repeat": self.repeat, "prompt_tokens": service.prompt_tokens,
            "output_tokens": service.output_tokens,
            "load_average": None if self.load_average is None else
            {"before": self.load_average[0], "after": self.load_average[1]},
            "memory": {name: compared.to_json() for name, compared in self.memory.items()},
            "speed": {name: compared.to_json() for name, compared in self.speed.items()},
            "energy": {name: compared.to_json() for name, compared in self.energy.items()},
            "notes": [*self.plan.notes, *self.notes],
        }  # fmt: skip

    def learned(self, found: Measured) -> Measured:
        """What was measured on this machine with this run added: its factors move towards what the model took.

        Raises:
            ConfigError: when the engine's kernels were not timed here, so that there is nothing to correct.
        """
        decode, prefill, runtime = (
            self.speed["tpot_s"].ratio,
            self.speed["ttft_s"].ratio,
            self.plan.service.runtime.name,
        )
        timed = found.kernels_of(runtime)
        if timed is None or decode is None or prefill is None:
            raise ConfigError(f"{runtime} was not installed when this machine was probed", "its kernels as timed here",
                              "run `weigh probe` again")  # fmt: skip
        corrected = timed.with_run(decode * (timed.decode_factor or 1.0), prefill * (timed.prefill_factor or 1.0))
        return replace(found, kernels={**found.kernels, runtime: corrected})


@dataclass(frozen=True, slots=True)
class Runner:
    """An engine that can run a model here: the module of its process, and the extra that installs it."""

    runtime: str
    module: str
    extra: str


RUNNERS = {
    "gguf": Runner("llama.cpp", "weighbridge.measuring.llama_cpp", "run"),
    "safetensors": Runner("transformers", "weighbridge.measuring.transformers", "torch"),
}
"""By the format of the model."""
TORCH_TYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


def measure(
    source: str | Path,
    on: Device,
    *,
    repeat: int = 5,
    threads: int = 1,
    prompt_tokens: int = 512,
    output_tokens: int = 128,
    tell: Callable[[str], None] | None = None,
    meter: Meter | None = None,
) -> Comparison:
    """Runs a model on this machine and plans the same.

    Args:
        source: a GGUF file, or a folder of safetensors with its configuration.
        on: this machine, as `weigh probe` measured it.
        repeat: repetitions that count; one more before them does not.
        threads: threads of the processor.
        prompt_tokens: tokens of each prompt.
        output_tokens: tokens of each answer; two or more.
        tell: is told of each repetition.
        meter: the processor's meters, by the clock `time.monotonic`; without them no energy is measured.

    Raises:
        ConfigError: when the source is none of these or does not generate, its engine is not installed, or the run
            fails.
    """
    inspection = inspect(source)
    path = Path(source)
    runner = RUNNERS.get(inspection.format)
    if runner is None or inspection.stored is None or (runner.runtime == "llama.cpp" and not path.is_file()):
        read = f"{source} is {inspection.format}"
        raise ConfigError(read, "a GGUF file, or a folder of safetensors with its config.json", "name one of these")
    if output_tokens < 2:
        read = f"answers of {output_tokens}"
        raise ConfigError(read, "two tokens or more: the time between them is measured", "ask for more")
    if too_long := inspection.too_long(prompt_tokens + output_tokens):
        raise ConfigError(too_long[0], "a prompt and an answer within it", "ask for fewer tokens")
    if not kernels.is_installed(runner.runtime):
        raise ConfigError(f"{runner.runtime} is not installed, which runs {inspection.format}",
                          f"the extra `{runner.extra}`", f"run: pip install 'weighbridge[{runner.extra}]'")  # fmt: skip
    asked: dict[str, Any] = {"runtime": runner.runtime, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens}
    plan = fit(inspection, on, threads=threads, alternatives=False, **asked)
    if plan.speed.tpot_s.note == NO_DECODING:
        raise ConfigError(f"{source} does not generate", "a model that answers prompts", "name one that does")
    architecture = inspection.architecture
    assert architecture is not None
    if runner.runtime == "transformers" and not demand(architecture).caches:
        raise ConfigError(f"{source} keeps a recurrent state alone", "a model with a cache of keys and values",
                          "convert it to GGUF: llama.cpp runs it")  # fmt: skip
    order = {"path": str(path.resolve()), "context": plan.service.context_tokens + 8, "threads": threads,
             "repeat": repeat, "prompt": prompt_tokens, "output": output_tokens,
             "vocabulary": max(2000, demand(architecture).vocab_size)}  # fmt: skip
    if runner.runtime == "transformers":
        recipe = plan.weights.recipe
        if recipe not in TORCH_TYPES:
            read = f"{source} is stored in {recipe}"
            raise ConfigError(read, f"one of {', '.join(TORCH_TYPES)}", "name the model before it was quantized")
        plan = fit(inspection, on, threads=threads, alternatives=False, kv=recipe, **asked)
        order |= {"path": str((path if path.is_dir() else path.parent).resolve()), "dtype": TORCH_TYPES[recipe]}
    before = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    limit = LOAD_SECONDS + (repeat + 1) * (prompt_tokens + output_tokens) / LEAST_TOKENS_PER_S
    with contextlib.nullcontext() if meter is None else meter.reading():
        runs = run(runner, order, limit, tell or (lambda text: None))
    after = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    steps, firsts = tuple(r.step_s for r in runs), tuple(r.prompt_s for r in runs)
    rates = tuple(1 / step for step in steps)
    whole = tuple(output_tokens / (r.prompt_s + (output_tokens - 1) * r.step_s) for r in runs)
    fast = plan.speed
    speed = {
        "prefill_tok_s": Compared(tuple(r.prompt_tokens / r.prompt_s for r in runs), fast.prefill_tok_s),
        "decode_tok_s": Compared(rates, fast.decode_tok_s), "ttft_s": Compared(firsts, fast.ttft_s),
        "tpot_s": Compared(steps, fast.tpot_s), "output_tok_s": Compared(whole, fast.output_tok_s),
    }  # fmt: skip
    peaks = tuple(float(r.peak_bytes) for r in runs if r.peak_bytes is not None)
    memory = {"total_bytes": Compared(peaks[-1:], plan.memory.total_bytes)} if peaks else {}
    load = None if before is None or after is None else (before, after)
    energy, notes = metered(plan, runs, meter)
    return Comparison(plan, speed, memory, energy, threads, repeat, load, notes)


def metered(plan: Plan, runs: Sequence[Repetition], meter: Meter | None) -> tuple[dict[str, Compared], tuple[str, ...]]:
    """Joules an output token and watts of each repetition beside the plan's; without a meter the plan's, and why."""
    predicted = Estimate.from_json(plan.to_json()["energy"]["j_per_output_token"])
    rate = plan.speed.output_tok_s
    watts = Estimate(None, None, None, "W", predicted.basis, predicted.note or "unknown")
    if predicted.value is not None and rate.value is not None and predicted.low is not None:
        assert predicted.high is not None and rate.low is not None and rate.high is not None
        middle = predicted.value * rate.value
        watts = Estimate(middle, min(middle, predicted.low * rate.high), max(middle, predicted.high * rate.low), "W",
                         predicted.basis, predicted.note)  # fmt: skip
    found = [] if meter is None else [meter.total(one.started_s, one.ended_s) for one in runs]
    joules = [(one.value, run.ended_s - run.started_s) for one, run in zip(found, runs, strict=False)
              if one.value is not None]  # fmt: skip
    tokens = plan.service.output_tokens
    compared = {"j_per_output_token": Compared(tuple(j / tokens for j, _ in joules), predicted),
                "average_power_w": Compared(tuple(j / s for j, s in joules), watts)}  # fmt: skip
    if joules:
        assert meter is not None
        names = ", ".join(sensor.name for sensor in meter.sensors)
        return compared, (f"energy is that of {names}, within 5%, with whatever else ran",)
    why = found[0].note if found else "no meter was asked"
    left = "only the plan's estimate is given" if predicted.value is not None else f"nor estimated, {predicted.note}"
    return compared, (f"energy was not measured ({why}): {left}",)


def run(runner: Runner, order: dict[str, Any], limit_s: float, tell: Callable[[str], None]) -> list[Repetition]:
    """The repetitions of one order, the warm-up left out, by a process of its own.

    Raises:
        ConfigError: when the process fails, or takes too long.
    """
    command = [sys.executable, "-P", "-m", runner.module]
    tell(f"{order['repeat']} repetitions and a warm-up")
    try:
        done = subprocess.run(command, input=json.dumps(order) + "\n", capture_output=True, text=True, check=False,
                              timeout=limit_s, errors="replace")  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"the model had not finished after {limit_s:.0f} s", "a machine that is not busy",
                          "ask for fewer tokens, fewer repetitions or one thread") from error  # fmt: skip
    except OSError as error:
        raise SourceError(f"no process could be started ({error})", "room for one more", "try again") from error
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    failed = next((line for line in lines if line["error"] or not line["timings"]), None)
    if done.returncode or failed or len(lines) != order["repeat"] + 1:
        said = str(failed["error"]) if failed else (done.stderr.strip().splitlines() or ["nothing"])[-1]
        raise ConfigError(f"{runner.runtime} could not run it (it said: {said[:300]})", "a model that it supports",
                          "run it by hand to see more") from None  # fmt: skip
    return [repetition(line) for line in lines if not line["warm_up"]]


def repetition(line: dict[str, Any]) -> Repetition:
    """One repetition from the engine's timings, which count the tokens after the first.

    Example:
        >>> timings = {"prompt_ms": 2000, "prompt_n": 100, "predicted_per_token_ms": 20}
        >>> repetition({"timings": timings, "peak_bytes": None, "started_s": 7.0, "ended_s": 9.5}).step_s
        0.02
    """
    timings = line["timings"]
    return Repetition(timings["prompt_ms"] / 1000, int(timings["prompt_n"]), timings["predicted_per_token_ms"] / 1000,
                      line["peak_bytes"], line["started_s"], line["ended_s"])  # fmt: skip
