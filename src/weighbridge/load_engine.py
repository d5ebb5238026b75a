"""What is an engine to a load: how long are its steps, what does it admit to them, how unsure is that, what power?

A plan of `planning`, with what `predict.step_times` and `predict.power` make of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError, UnitError
from weighbridge.estimate import Estimate
from weighbridge.inspection import Inspection, inspect
from weighbridge.model.catalogue import NamedModel
from weighbridge.planning import Plan, fit
from weighbridge.predict import power, speed, step_times
from weighbridge.predict.demand import demand
from weighbridge.predict.load import Outcome, Policy, simulate
from weighbridge.predict.step_times import StepTimes
from weighbridge.predict.traffic import Lengths, Traffic


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """How an engine fills a step as it starts by default: the most sequences, the most tokens, what it mixes."""

    sequences: int
    step_tokens: int
    mixes: bool = True
    reserves: bool = False


HABITS: Mapping[str, Habits] = {
    "vllm": Habits(sequences=256, step_tokens=8192),
    "sglang": Habits(sequences=1024, step_tokens=8192, mixes=False),
    "tensorrt-llm": Habits(sequences=2048, step_tokens=8192, reserves=True),
    "llama.cpp": Habits(sequences=4, step_tokens=2048, reserves=True),
    "ollama": Habits(sequences=1, step_tokens=512, reserves=True),
}
"""Sources: vLLM `vllm/engine/arg_utils.py`, SGLang `server_args.py` (no mixed chunks), TensorRT-LLM's llmapi
(GUARANTEED_NO_EVICT), llama.cpp `common/common.h` and `tools/server` (four slots, batches of 2,048), Ollama's
`envconfig` (one request at a time)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """A plan as the simulation sees it: its steps, what is admitted to them, and how unsure they are."""

    plan: Plan
    times: StepTimes
    policy: Policy
    spread: Mapping[str, tuple[float, float]]
    """Low and high bound over the middle: of the length of steps, and of what the simulation makes of it."""
    power_w: tuple[NDArray[np.float64], ...] | None
    """Watts with 0, 1, 2 ... sequences in a replica: in the middle, at the low and at the high bound."""
    power: Estimate
    """Those of one replica that is half full, for their basis; unknown where no power is."""
    notes: tuple[str, ...]
    """Those of the plan, with what holds for many requests in place of what holds for one."""

    def run(
        self, traffic: Traffic, factor: float = 1.0, *, power: int = 0, is_stoppable: bool = False, **options: Any
    ) -> Outcome:
        """What becomes of these requests when steps take so many times as long."""
        times = self.times if factor == 1.0 else self.times.times(factor)
        watts = None if self.power_w is None else self.power_w[power]
        return simulate(times, self.policy, traffic, power_w=watts, is_stoppable=is_stoppable, **options)


def engine(
    source: str | Path | Mapping[str, Any] | NamedModel | Inspection, on: str, lengths: Lengths, *,
    max_sequences: int | None = None, step_tokens: int | None = None, **options: Any,
) -> Engine:  # fmt: skip
    """A plan, ready to be loaded.

    Args:
        source: what `fit` takes.
        on: a device, as `fit` takes it.
        lengths: of prompts and answers.
        max_sequences: the most that are in the machine at once; the engine's own number without it.
        step_tokens: the most tokens of a step; the engine's own number without it.
        options: further options of `fit`.

    Raises:
        ConfigError: when the engine does not batch continuously, or the speed is unknown.
        WeighbridgeError: as `fit` does.
    """
    for name, value in (("sequences", max_sequences), ("tokens of a step", step_tokens)):
        if value is not None and value < 1:
            raise UnitError(f"at most {value:,} {name}", "1 or more", "correct it")
    inspection = source if isinstance(source, Inspection) else inspect(source)
    asked: dict[str, Any] = {"prompt_tokens": lengths.prompt_tokens, "output_tokens": lengths.output_tokens,
                             **options, "alternatives": False}  # fmt: skip
    plan = fit(inspection, on, **asked)
    runtime = plan.service.runtime
    habits = HABITS.get(runtime.name)
    if habits is None:
        read = f"{runtime.name}, which works on one batch after another"
        raise ConfigError(read, f"an engine that batches continuously: {', '.join(HABITS)}", "name it with --runtime")
    if plan.speed.tpot_s.value is None:
        read = f"no speed of {plan.source} on {plan.machine.device.title} is known: {plan.speed.tpot_s.note}"
        raise ConfigError(read, "a model that generates, on a device whose rates are known", "choose another")
    room = plan.memory.max_batch
    copies = plan.machine.data_parallel  # each admits requests of its own
    most = max_sequences or habits.sequences * copies
    tokens = step_tokens or habits.step_tokens * copies
    if runtime.steps == "served":
        policy = Policy(budget=tokens if step_tokens else max(tokens, most + 1), mixes=habits.mixes,
                        pages=_pages(plan, lengths), page=runtime.page_tokens, reserves=habits.reserves)  # fmt: skip
        if policy.pages:
            most = min(most, max(1, policy.pages * policy.page // max(1, lengths.prompt_tokens // 2)))
        assert inspection.architecture is not None
        times = step_times.served(demand(inspection.architecture), plan.weights, plan.machine, plan.service, most)
    else:
        most = max(1, min(most, room if room is not None else most))
        policy = Policy(budget=tokens if step_tokens else max(tokens, most + 1), mixes=habits.mixes)
        chunk = runtime.batched_tokens
        context = lengths.prompt_tokens + lengths.output_tokens
        asked["context_tokens"] = max(context, 8 * chunk + 1)

        def step_s(sequences: int, tokens: int) -> float:
            fitted = fit(inspection, on, **{**asked, "batch": sequences, "prompt_tokens": tokens, "output_tokens": 1})
            return fitted.speed.tpot_s.value or math.inf

        def prompt_s(tokens: int) -> float:
            fitted = fit(inspection, on, **{**asked, "prompt_tokens": tokens, "output_tokens": 1})
            return tokens / (fitted.speed.prefill_tok_s.value or math.nan)

        times = step_times.of_plans(step_s, prompt_s, most, context, chunk)
    if times is None or not math.isfinite(times.token_s) or not np.isfinite(times.base_s).all():
        raise ConfigError(f"the speed of prompts on {plan.machine.device.title} is unknown", "its rate of arithmetic",
                          "choose another device")  # fmt: skip
    return Engine(plan=plan, times=times, policy=policy, spread=_spread(plan), power_w=_power_w(plan, times.most),
                  power=_watts(plan, times.most / 2), notes=_notes(plan))  # fmt: skip


def _notes(plan: Plan) -> tuple[str, ...]:
    """Notes of a plan; where steps are those of closed loops, what is known of these."""
    if plan.service.runtime.steps != "served":
        return plan.notes
    others = [note for note in plan.notes if note not in plan.speed.notes]
    if _is_measured(plan):
        return tuple(others)
    title = plan.machine.device.title
    return (*others, f"no loads of {plan.service.runtime.name} on {title} were measured: intervals are wider")


def _is_measured(plan: Plan) -> bool:
    return speed.is_measured("served", plan.service.runtime.name, plan.machine.device.name)


def _watts(plan: Plan, sequences: float) -> Estimate:
    """Power of one replica with so many sequences in it."""
    architecture = plan.inspection.architecture
    assert architecture is not None
    return power.watts(demand(architecture), plan.weights, plan.machine, plan.service, sequences)


def _power_w(plan: Plan, most: int) -> tuple[NDArray[np.float64], ...] | None:
    """Power of one replica with 0, 1, 2 ... sequences in it, between powers of two along a line; None if unknown."""
    asked = sorted({0, *(2**place for place in range(most.bit_length())), most})
    found = [_watts(plan, float(sequences)) for sequences in asked]
    if any(one.value is None for one in found):
        return None
    columns = zip(*((one.value or 0.0, one.low or 0.0, one.high or 0.0) for one in found), strict=True)
    return tuple(np.interp(np.arange(most + 1), asked, column) for column in columns)


def _spread(plan: Plan) -> Mapping[str, tuple[float, float]]:
    """How unsure the length of a step is, and a first token and a whole answer after it was simulated."""
    runtime = plan.service.runtime
    if runtime.steps != "served":
        tpot, ttft = ((one.low / one.value, one.high / one.value) if one.value and one.low and one.high else (1.0, 1.0)
                      for one in (plan.speed.tpot_s, plan.speed.ttft_s))  # fmt: skip
        return {"tpot": tpot, "ttft": ttft, "e2e": tpot}
    wider = 1.0 if _is_measured(plan) else speed.UNMEASURED_WIDENS
    return {name: (math.exp(one["low"]) / wider, math.exp(one["high"]) * wider)
            for name, one in step_times.fits()["residuals"].items()}  # fmt: skip


def _pages(plan: Plan, lengths: Lengths) -> int:
    """Pages of the cache of one replica: what the engine reserves, less all that is no state. 0 without a bound."""
    memory, service = plan.memory, plan.service
    whole = memory.reserved_bytes.value
    state, total = memory.state_bytes.value, memory.total_bytes.value
    if memory.max_batch is None or whole is None or not state or total is None:
        return 0
    tokens = lengths.prompt_tokens + lengths.output_tokens
    one = state / service.sequences
    free = whole - (total - state)
    shared = lengths.shared_tokens // service.runtime.page_tokens * service.runtime.page_tokens
    return max(0, int((free / one * tokens - shared) / service.runtime.page_tokens))
