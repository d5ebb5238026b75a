"""How many users does a plan serve, how long do they wait, how many machines does it take, and what does that cost?

`load` brings a plan, the lengths of its steps and the traffic together, and simulates them request by request.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError, UnitError
from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.inspection import Inspection, inspect
from weighbridge.model.catalogue import NamedModel
from weighbridge.planning import Plan, fit
from weighbridge.predict import batching, power, speed, step_times
from weighbridge.predict.availability import all_up, at_least_up, spares
from weighbridge.predict.carbon import emitted
from weighbridge.predict.demand import demand
from weighbridge.predict.load import MEASURES, Outcome, Policy, Progress, simulate
from weighbridge.predict.step_times import StepTimes
from weighbridge.predict.traffic import DAY_S, Lengths, Traffic, closed_loop, open_loop, requests_within
from weighbridge.units import parse_seconds

SAMPLED = 20_000
"""Requests that are simulated where no duration is given, on so many replicas at most."""
SAMPLED_REPLICAS = 5
MOST_REPLICAS = 1_000_000
BOUNDED = 50_000
"""At most so many are simulated for the bounds of an interval, in so many stretches of a longer load."""
WINDOWS = 10
PROBED = 4_000
"""Requests for each rate that a search looks at."""
TURNS = 20
"""Requests of each client of a closed loop, at least; the first two of each are left out."""
WARM_UP = 0.1
"""The share of the first requests that are left out where a load is a sample of one that goes on."""
MORE_REPLICAS = 1.1
"""Where those that a search found do not keep the limits, so many times as many are tried, at most `TRIES` times."""
TRIES = 24
HEADROOM = 0.8
"""The share of what a machine can bear at most that it is given where no limits are named."""
PERCENTS = (50, 90, 95, 99)
LIMITS = ("ttft", "tpot", "e2e")


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


ENERGY_UNITS = {"average_power_w": "W", "kwh_per_day": "kWh", "j_per_request": "J", "j_per_output_token": "J",
                "kgco2e_per_day": "kg", "gco2e_per_million_output_tokens": "g"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Limit:
    """A promise: so many percent of the requests stay below."""

    name: str
    seconds: float


def limits(text: str) -> list[Limit]:
    """Limits from text such as `ttft=2s,tpot=50ms`.

    Raises:
        UnitError: when one is none.

    Example:
        >>> limits("ttft=2s,tpot=50ms")
        [Limit(name='ttft', seconds=2.0), Limit(name='tpot', seconds=0.05)]
    """
    found: dict[str, Limit] = {}
    for part in text.split(","):
        name, _, seconds = part.strip().partition("=")
        read = f"the limit {part.strip()[:100]!r}"
        if name not in LIMITS or name in found:
            raise UnitError(read, f"each of {', '.join(LIMITS)} once, as ttft=2s", "write it so")
        found[name] = Limit(name, parse_seconds(seconds))
        if found[name].seconds <= 0:
            raise UnitError(read, "more than no time", "correct it")
    return list(found.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How often machines fail, and what it takes that enough of them work.

    `device` and `replica` are shares of the time that one works; `enough` is that of all replicas as they are, and
    `spares` are what it takes beyond them for `uptime`.
    """

    device: float
    replica: float
    enough: float
    uptime: float
    spares: int

    @staticmethod
    def of(replicas: int, devices: int, availability: float, uptime: float) -> Failures:
        """Of so many replicas of so many devices, each of which works for this share of the time.

        Example:
            >>> found = Failures.of(8, 4, 0.999, 0.999)
            >>> round(found.replica, 6), round(found.enough, 4), found.spares
            (0.996006, 0.9685, 1)
        """
        one = all_up(devices, availability)
        return Failures(device=availability, replica=one, enough=at_least_up(replicas, replicas, one), uptime=uptime,
                        spares=spares(replicas, one, uptime))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """One document."""
        return {"device": self.device, "replica": self.replica, "all_replicas": self.enough, "uptime": self.uptime,
                "spares": self.spares}  # fmt: skip


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
                  power=_watts(plan, times.most / 2))  # fmt: skip


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
    known = speed.is_measured("served", runtime.name, plan.machine.device.name)
    wider = 1.0 if known else speed.UNMEASURED_WIDENS
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """A plan under a load: what its users see, how busy its machines are, and what it costs.

    `latency` has an estimate for each measure and each of its mean and percentiles. `limits` are what was promised at
    `percent`; `verdicts` says of each whether it holds. `capacity` is the most that one replica bears within the
    limits, in requests a second, `bearable` what it bears at all. `traffic` and `outcome` may be those of some of the
    replicas, which are like the others; `rate` is that of all, 0 for a closed loop.
    """

    engine: Engine
    traffic: Traffic
    outcome: Outcome
    rate: float
    replicas: int
    clients: int
    think_s: float
    seed: int
    bounds: tuple[Outcome, ...]
    """A part of the load with steps and power in the middle, at the low and at the high bound."""
    latency: Mapping[str, Mapping[str, Estimate]]
    limits: tuple[Limit, ...]
    percent: float
    bearable: Estimate
    capacity: Estimate | None
    failures: Failures | None
    notes: tuple[str, ...]

    @property
    def is_met(self) -> bool | None:
        """Whether all limits hold in the middle of the intervals; None without a limit."""
        found = [self.held(limit) for limit in self.limits]
        return None if not found else all(one in ("yes", "likely") for one in found)

    def held(self, limit: Limit) -> str:
        """Whether a limit holds: yes (at the high bound too), likely, unlikely or no."""
        one = self.latency[f"{limit.name}_s"][f"p{self.percent:g}"]
        if one.value is None or one.low is None or one.high is None:
            return "yes"  # answers of one token have no time between tokens
        if one.high <= limit.seconds:
            return "yes"
        if one.value <= limit.seconds:
            return "likely"
        return "unlikely" if one.low <= limit.seconds else "no"

    @property
    def is_stable(self) -> bool:
        """Whether the replicas keep up; a closed loop always does."""
        return bool(self.clients) or self.rate_of_one < (self.bearable.value or 0.0)

    @property
    def rate_of_one(self) -> float:
        """Requests a second that come to one replica, on average."""
        return (self.requests_per_s if self.clients else self.rate) / self.replicas

    @property
    def requests_per_s(self) -> float:
        """Requests that end a second, all replicas together."""
        return self.outcome.requests_per_s * (self.replicas / self.outcome.replicas)

    @property
    def output_tokens_per_s(self) -> float:
        """Tokens of answers a second, all replicas together."""
        return self.outcome.output_tokens_per_s * (self.replicas / self.outcome.replicas)

    @property
    def of_bearable(self) -> float:
        """The load over the most that the replicas bear."""
        return self.rate_of_one / self.bearable.value if self.bearable.value else math.inf

    @property
    def usd_per_hour(self) -> Estimate:
        """What all replicas cost."""
        machine = self.engine.plan.machine
        price = machine.device.price_usd_per_h
        if price is None:
            return Estimate(None, None, None, "USD/h", Basis.SPECIFIED, "no price of this device is known")
        whole = price * machine.devices * self.replicas
        return Estimate(whole, whole, whole, "USD/h", Basis.SPECIFIED, machine.device.source_of("price_usd_per_h"))

    def cost(self) -> dict[str, Estimate]:
        """Money by the hour, the request and the million tokens of answers, at the load as it was, idle time in it."""
        hour = self.usd_per_hour
        requests, tokens = self.requests_per_s, self.output_tokens_per_s
        if hour.value is None or not requests:
            unknown = replace(hour, unit="USD")
            return {"usd_per_hour": hour, "usd_per_day": unknown, "usd_per_year": unknown, "usd_per_request": unknown,
                    "usd_per_million_output_tokens": unknown}  # fmt: skip
        per_s = replace(hour, unit="USD", note="at the load as it is, idle time in it")
        return {
            "usd_per_hour": hour, "usd_per_day": replace(hour.times(24), unit="USD/day"),
            "usd_per_year": replace(hour.times(24 * 365), unit="USD/year"),
            "usd_per_request": per_s.times(1 / 3600 / requests),
            "usd_per_million_output_tokens": per_s.times(1e6 / 3600 / tokens),
        }  # fmt: skip

    def energy(self) -> dict[str, Estimate]:
        """Energy of all replicas, idle time in it, and the carbon of it where the plan stands."""
        plan, outcome, one = self.engine.plan, self.outcome, self.engine.power
        if one.value is None:
            return {name: replace(one, unit=unit) for name, unit in ENERGY_UNITS.items()}
        mean = outcome.power_w * self.replicas
        sides = [mean * bound.power_w / self.bounds[0].power_w for bound in self.bounds[1:]]
        watts = Estimate(mean, min(mean, *sides), max(mean, *sides), "W", one.basis, one.note)
        token = replace(watts.times(1 / self.output_tokens_per_s), unit="J")
        return {
            "average_power_w": watts,
            "kwh_per_day": replace(watts.times(24 / 1000), unit="kWh"),
            "j_per_request": replace(watts.times(1 / self.requests_per_s), unit="J"),
            "j_per_output_token": token,
            "kgco2e_per_day": replace(emitted(watts.times(DAY_S), plan.site).times(1e-3), unit="kg"),
            "gco2e_per_million_output_tokens": emitted(token.times(1e6), plan.site),
        }  # fmt: skip

    def hours(self) -> list[dict[str, Any]]:
        """The load by stretches of time: rate, work, replicas that it takes, 95th percentile of first tokens.

        Of a sample of a load that goes on, and of a closed loop, there are none.
        """
        outcome, width = self.outcome, self.outcome.bin_s
        if self.clients or outcome.left_out:
            return []
        begins = np.arange(outcome.bins.shape[1] + 1) * width
        edges = np.searchsorted(outcome.arrival_s, begins)
        edges[-1] = len(outcome)
        first, found = outcome.measure("ttft_s"), []
        last_s = float(outcome.arrival_s.max()) if outcome.is_stopped else self.traffic.duration_s
        end_s = max(last_s, float(outcome.finish_s.max()))
        share, most = outcome.replicas / self.replicas, (self.capacity or self.bearable).value
        for place, (begin, end) in enumerate(itertools.pairwise(edges)):
            start = float(begins[place])
            took = min(width, last_s - start)
            if took <= 0:
                continue
            rate = float(end - begin) / took / share
            busy = float(outcome.bins[batching.BUSY_S][place]) / outcome.replicas
            found.append({
                "start_s": start, "requests_per_s": rate,
                "busy_share": min(1.0, busy / (width if place + 1 < outcome.bins.shape[1] else end_s - start)),
                "ttft_p95_s": float(np.percentile(first[begin:end], 95)) if end > begin else None,
                "replicas_needed": math.ceil(rate / most) if most else None,
            })  # fmt: skip
        return found

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh load --json`."""
        plan, outcome, traffic = self.engine.plan, self.outcome, self.traffic
        counts = outcome.counts
        return {
            "source": plan.source, "weights": plan.weights.recipe, "runtime": plan.service.runtime.name,
            "machine": plan.machine.to_json(), "fits": plan.memory.fits, "replicas": self.replicas,
            "traffic": {
                "loop": "closed" if self.clients else "open", "clients": self.clients or None,
                "requests": len(traffic), "requests_per_s": None if self.clients else self.rate,
                "duration_s": outcome.span_s, "prompt_tokens": float(traffic.prompt_tokens.mean()),
                "output_tokens": float(traffic.output_tokens.mean()),
                "shared_tokens": float(np.mean(traffic.shared_tokens)),
                "seed": self.seed,
            },
            "simulated": {"requests": len(outcome), "left_out": outcome.left_out, "replicas": outcome.replicas,
                          "stopped": outcome.is_stopped, "steps": counts[batching.STEPS],
                          "preempted": counts[batching.PREEMPTED],
                          "tokens_worked_on_again": counts[batching.AGAIN_TOKENS]},
            "latency": {name: {key: one.to_json() for key, one in found.items()}
                        for name, found in self.latency.items()},
            "throughput": {"requests_per_s": self.requests_per_s, "output_tok_s": self.output_tokens_per_s},
            "utilization": {"of_bearable": self.of_bearable, "busy_share": outcome.busy_share,
                            "sequences": outcome.sequences,
                            "most_sequences": self.engine.times.most,
                            "cache_share": self.cache_share},
            "stable": self.is_stable,
            "slo": {"met": self.is_met, "percentile": self.percent,
                    "limits": {limit.name: {"seconds": limit.seconds, "held": self.held(limit)}
                               for limit in self.limits}},
            "capacity": {"requests_per_s_at_most": self.bearable.to_json(),
                         "requests_per_s_within_slo": None if self.capacity is None else self.capacity.to_json()},
            "failures": None if self.failures is None else self.failures.to_json(),
            "cost": {name: one.to_json() for name, one in self.cost().items()},
            "energy": {name: one.to_json() for name, one in self.energy().items()},
            "hours": self.hours(), "notes": list(self.notes),
        }  # fmt: skip

    @property
    def cache_share(self) -> float | None:
        """The fullest cache over the room in it; None where it is never full."""
        policy = self.engine.policy
        return self.outcome.counts[batching.MOST_PAGES] / policy.pages if policy.pages else None


def load(
    source: str | Path | Mapping[str, Any] | NamedModel | Inspection,
    on: str,
    *,
    rate: float | None = None,
    clients: int | None = None,
    traffic: Traffic | None = None,
    lengths: Lengths | None = None,
    replicas: int | None = None,
    duration_s: float | None = None,
    think_s: float = 0.0,
    burstiness: float = 1.0,
    peak: float = 1.0,
    availability: float | None = None,
    uptime: float = 0.999,
    limits: Sequence[Limit] = (),
    percent: float = 95.0,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> Load:
    """A plan under a load: one of a rate, a number of clients, or logged traffic.

    Args:
        source: what `fit` takes.
        on: a device, as `fit` takes it.
        rate: requests a second of an open loop, on average.
        clients: of a closed loop, who each wait for their answer.
        traffic: requests as they were logged.
        lengths: of prompts and answers, without logged traffic; 512 and 128 tokens without it.
        replicas: machines that share the load; as many as it takes without it.
        duration_s: how long the load is simulated; 20,000 requests without it.
        think_s: seconds after which a client asks again.
        burstiness: 1 for a Poisson process, less for bursts.
        peak: the highest rate of a day over its mean.
        availability: the share of the time that one device works; failures are left out without it.
        uptime: the share of the time that enough replicas are wanted.
        limits: what is promised to the users.
        percent: to how many percent of them.
        seed: of what is drawn.
        progress: is told how far the simulation is.
        options: further options of `fit`, and `max_sequences` and `step_tokens` of `engine`.

    Raises:
        UnitError: when the load contradicts itself, or a number cannot be.
        WeighbridgeError: as `fit` does.

    Example:
        >>> found = load("llama-3.1-8b", "h100-sxm", rate=2.0, limits=[Limit("ttft", 2.0)])
        >>> found.is_stable, found.is_met, found.replicas
        (True, True, 1)
    """
    if sum(one is not None for one in (rate, clients, traffic)) != 1:
        raise UnitError("none, or several, of a rate, clients and a log", "one of them", "name one")
    if rate is not None and not 0 < rate < math.inf:
        raise UnitError(f"a rate of {rate} requests a second", "more than 0", "correct --rate")
    if not 1 <= percent < 100:
        raise UnitError(f"a percentile of {percent:g}", "percent, such as 95", "correct --percentile")
    if duration_s is not None and not 0 < duration_s < math.inf:
        raise UnitError(f"a duration of {duration_s:g} s", "more than 0", "correct --duration")
    if replicas is not None and not 1 <= replicas <= MOST_REPLICAS:
        raise UnitError(f"replicas: {replicas:,}", f"1 to {MOST_REPLICAS:,}", "correct --replicas")
    if clients is None and think_s:
        raise UnitError("a time to ask again, of requests that nobody waits for", "clients", "leave --think out")
    if rate is None and (duration_s is not None or burstiness != 1 or peak != 1):
        read = "a duration, a burstiness or a peak of a load without a rate"
        raise UnitError(read, "a rate, which they are of", "leave them out, or give --rate")
    if peak != 1 and duration_s is None:
        raise UnitError("a peak of a day without a duration", "how long is simulated", "give --duration 24h")
    if traffic is not None:
        if lengths is not None:
            raise UnitError("lengths of requests that were logged", "those of the log", "leave them out")
        lengths = Lengths(prompt_tokens=max(1, round(float(traffic.prompt_tokens.mean()))),
                          output_tokens=max(1, round(float(traffic.output_tokens.mean()))),
                          shared_tokens=int(np.mean(traffic.shared_tokens)))  # fmt: skip
    lengths = lengths or Lengths(prompt_tokens=512, output_tokens=128)
    longest = {}
    if traffic is not None:
        longest["context_tokens"] = int((traffic.prompt_tokens + traffic.output_tokens).max())
    built = engine(source, on, lengths, **{**longest, **options})
    notes = list(built.plan.notes)
    if traffic is None:
        sample = open_loop(1.0, PROBED, lengths, seed=seed, burstiness=burstiness)
    else:
        sample = _sample(traffic, seed)
        notes += traffic.notes
    bearable = _between(*(_bearable(built, sample, factor) for factor in _factors(built)))
    capacity = None
    if limits and not clients:
        at_most = (bearable.value, bearable.low, bearable.high)
        capacity = _between(*(_capacity(built, sample, limits, percent, factor, most or 0.0)
                              for factor, most in zip(_factors(built), at_most, strict=True)))  # fmt: skip
    given, logged = replicas, traffic
    if clients is not None:
        replicas = replicas or 1
        requests, warm_up = max(TURNS * clients, PROBED), 2 * clients
    elif replicas is None:
        highest = peak * (rate or 0.0) if logged is None else _highest(logged)
        replicas = _replicas(highest, bearable, capacity)
        if replicas is None:
            replicas = 1
            notes.append("no number of replicas meets the limits: one is simulated")
        if replicas > MOST_REPLICAS:
            read = f"{highest:,.6g} requests a second, which take {replicas:,} replicas"
            raise UnitError(read, f"up to {MOST_REPLICAS:,}", "lower the rate, or use faster machines")
    tries = TRIES if given is None and capacity is not None and capacity.value else 0
    while True:
        part = replicas
        if clients is not None:
            traffic = closed_loop(clients, requests, lengths, seed=seed, think_s=think_s)
        elif logged is not None:
            traffic, warm_up = logged, 0
        elif duration_s is not None:
            assert rate is not None
            requests, warm_up = requests_within(duration_s, rate, peak), 0
            traffic = open_loop(rate, requests, lengths, seed=seed, burstiness=burstiness, peak=peak)
        else:
            assert rate is not None
            part, warm_up = min(replicas, SAMPLED_REPLICAS), int(WARM_UP * SAMPLED)
            # The time between every n-th of gamma distributed arrivals has n times their shape.
            even = min(1000.0, burstiness * (replicas / part)) if replicas > part else burstiness
            traffic = open_loop(rate * part / replicas, SAMPLED, lengths, seed=seed, burstiness=even)
        run: dict[str, Any] = {"clients": clients or 0, "think_s": think_s, "replicas": part}
        outcome = built.run(traffic, is_stoppable=True, progress=progress, **run)
        tries -= 1
        if tries < 0 or outcome.is_stopped or _keeps(outcome.after(warm_up), limits, percent):
            break
        replicas = max(replicas + 1, math.ceil(MORE_REPLICAS * replicas))
    if outcome.is_stopped:
        notes.append(f"stopped after {len(outcome):,} of {len(traffic):,} requests, on {outcome.replicas:,} of "
                     f"{replicas:,} replicas: the numbers are of these")  # fmt: skip
    elif len(outcome) > warm_up:
        outcome = outcome.after(warm_up)
    try:
        bounds = _bounds(built, traffic, run, warm_up)
    except KeyboardInterrupt:
        bounds = (outcome,) * 3
        notes.append("stopped before slow and fast steps were simulated: the intervals lack what they do to queues")
    percents = sorted({*PERCENTS, percent})
    latency = {name: _latency(built, name, outcome, bounds, percents) for name in MEASURES}
    devices = built.plan.machine.devices
    failures = None if availability is None else Failures.of(replicas, devices, availability, uptime)
    if rate is None or peak != 1:
        rate = 0.0 if clients is not None else traffic.rate
    found = Load(engine=built, traffic=traffic, outcome=outcome, bounds=bounds, rate=rate, replicas=replicas,
                 clients=clients or 0, think_s=think_s, seed=seed, latency=latency, limits=tuple(limits),
                 percent=percent, bearable=bearable, capacity=capacity, failures=failures, notes=tuple(notes),
                 )  # fmt: skip
    return replace(found, notes=(*found.notes, *_remarks(found, given, lengths, peak)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One replica at one rate: percentiles of each measure in seconds, and what a million tokens of answers cost."""

    requests_per_s: float
    seconds: Mapping[str, Mapping[str, float]]
    usd_per_million_output_tokens: float | None


def curve(found: Load, points: int = 14) -> list[Point]:
    """Latency and cost of one replica over its load, up to what it bears at most."""
    most = found.bearable.value or 0.0
    sample = _sample(found.traffic, found.seed, is_poisson=bool(found.clients))
    hour, done = found.usd_per_hour.value, []
    for share in np.linspace(0.05, 0.98, points):
        outcome = found.engine.run(sample.at_rate(most * float(share))).after(int(WARM_UP * len(sample)))
        seconds = {name: {f"p{percent:g}": value for percent in sorted({*PERCENTS, found.percent})
                          if (value := outcome.percentile(name, percent)) is not None}
                   for name in ("ttft_s", "tpot_s", "e2e_s")}  # fmt: skip
        usd = None if hour is None else hour / found.replicas / 3600 / outcome.output_tokens_per_s * 1e6
        done.append(Point(requests_per_s=most * float(share), seconds=seconds, usd_per_million_output_tokens=usd))
    return done


def knee(points: Sequence[Point]) -> float | None:
    """The rate from which one in twenty requests takes over twice as long as on a machine that is all but idle."""
    alone = points[0].seconds["e2e_s"]["p95"]
    return next((point.requests_per_s for point in points if point.seconds["e2e_s"]["p95"] > 2 * alone), None)


def _sample(traffic: Traffic, seed: int, *, is_poisson: bool = False) -> Traffic:
    """As many requests as a search looks at: stretches of a load, or all of it again and again when there are too few.

    The time between them is theirs, each stretch at the same rate, or that of a Poisson process where they all come at
    once, or are of clients.
    """
    if len(traffic) > PROBED:
        traffic = _stretches(traffic, PROBED)
        each = np.diff(traffic.arrival_s, prepend=0.0).reshape(WINDOWS, -1)
        gaps = (each / np.maximum(each.mean(axis=1, keepdims=True), 1e-9)).ravel()
    else:
        gaps = np.resize(np.diff(traffic.arrival_s), PROBED) if len(traffic) > 1 else np.zeros(PROBED)
    chosen = np.resize(np.arange(len(traffic)), PROBED)
    if is_poisson or not gaps.sum() > 0:
        gaps = np.random.default_rng(seed).exponential(1.0, PROBED)
    return replace(traffic.picked(chosen), arrival_s=np.cumsum(gaps), lasts_s=0.0)


def _highest(traffic: Traffic) -> float:
    """Requests a second in the busiest whole hour of a log; on average where it is shorter."""
    hours = int(traffic.duration_s // 3600)
    counts = np.bincount((traffic.arrival_s // 3600).astype(int), minlength=1)[:hours]
    return max(traffic.rate, float(counts.max()) / 3600 if hours else 0.0)


def _factors(built: Engine) -> tuple[float, float, float]:
    """How many times as long steps take: in the middle, at the slow and at the fast bound."""
    low, high = built.spread["tpot"]
    return 1.0, high, low


def _between(middle: float, slow: float, fast: float) -> Estimate:
    """Requests a second, from simulations with steps in the middle and at both bounds."""
    return Estimate(middle, min(slow, middle), max(fast, middle), "request/s", Basis.MODELLED)


def _bearable(built: Engine, sample: Traffic, factor: float) -> float:
    """Requests a second that one replica ends when there are always more: the middle half of a burst."""
    burst = replace(sample, arrival_s=np.zeros(len(sample)), lasts_s=0.0)
    finish = np.sort(built.run(burst, factor).finish_s)
    quarter = len(finish) // 4
    return 2 * quarter / float(finish[3 * quarter] - finish[quarter])


def _capacity(
    built: Engine, sample: Traffic, limits: Sequence[Limit], percent: float, factor: float, most: float
) -> float:
    """The most requests a second with which one replica keeps all limits; 0 when even a lonely request breaks one."""

    def holds(rate: float) -> bool:
        outcome = built.run(sample.at_rate(rate), factor)
        return _keeps(outcome.after(int(WARM_UP * len(sample))), limits, percent)

    low, high = most / 2**12, 1.2 * most
    if not holds(low):
        return 0.0
    for _ in range(14):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return min(low, most)


def _keeps(outcome: Outcome, limits: Sequence[Limit], percent: float) -> bool:
    """Whether so many percent of the requests keep all limits."""
    found = [outcome.percentile(f"{limit.name}_s", percent) for limit in limits]
    return all(one is None or one <= limit.seconds for one, limit in zip(found, limits, strict=True))


def _replicas(rate: float, bearable: Estimate, capacity: Estimate | None) -> int | None:
    """How many replicas a rate takes: within the limits, or else at `HEADROOM` of what they bear at most."""
    most = HEADROOM * (bearable.value or 0.0) if capacity is None else capacity.value
    return math.ceil(rate / most) if most else None


def _bounds(built: Engine, traffic: Traffic, run: Mapping[str, Any], warm_up: int) -> tuple[Outcome, ...]:
    """A part of the same load with steps in the middle, fast and slow; of a long one on one of its replicas."""
    run = dict(run)
    if not run["clients"] and len(traffic) > BOUNDED:
        traffic, run["replicas"] = traffic.share(0, run["replicas"]), 1
        traffic = _stretches(traffic, BOUNDED) if len(traffic) > BOUNDED else traffic
    left = min(warm_up, len(traffic) // 2)
    return tuple(built.run(traffic, factor, power=place, **run).after(left)
                 for place, factor in enumerate((1.0, *built.spread["tpot"])))  # fmt: skip


def _stretches(traffic: Traffic, requests: int) -> Traffic:
    """So many requests of a longer load, in `WINDOWS` stretches that are evenly apart, one after another."""
    each = requests // WINDOWS
    begins = np.linspace(0, len(traffic) - each, WINDOWS).astype(int)
    chosen = (begins[:, None] + np.arange(each)).ravel()
    gaps = np.diff(traffic.arrival_s, prepend=0.0)[chosen]
    return replace(traffic.picked(chosen), arrival_s=np.cumsum(gaps), lasts_s=0.0)


def _latency(
    built: Engine, name: str, outcome: Outcome, bounds: Sequence[Outcome], percents: Sequence[float]
) -> dict[str, Estimate]:
    """Mean and percentiles of a measure; fast and slow steps, and what simulations got wrong, make the interval."""
    low, high = built.spread.get(name.removesuffix("_s"), (1.0, 1.0))
    keys = ("mean", *(f"p{percent:g}" for percent in percents))
    columns = [[one.mean(name), *(one.percentiles(name, percents) or ())] for one in (outcome, *bounds)]
    if any(None in column for column in columns):
        unknown = Estimate(None, None, None, "s", Basis.MODELLED, "no answer has a second token")
        return dict.fromkeys(keys, unknown)
    found = {}
    for key, middle, *values in zip(keys, *columns, strict=True):
        assert middle is not None
        fast, slow = ((one or 0.0) / values[0] * middle if values[0] else (one or 0.0) for one in values[1:])
        found[key] = Estimate(middle, min(middle, fast, middle * low), max(middle, slow, middle * high), "s",
                              weakest([Basis.MODELLED, built.plan.speed.tpot_s.basis]))  # fmt: skip
    return found


def _remarks(found: Load, given: int | None, lengths: Lengths, peak: float) -> list[str]:
    """What a reader has to know to take the numbers for what they are."""
    notes = []
    if not found.is_stable:
        notes.append(f"the load is more than {found.replicas} replica{'s' * (found.replicas > 1)} can bear: the queue "
                     "grows as long as it lasts, and so do the latencies")  # fmt: skip
    elif not found.clients and found.rate_of_one > (found.bearable.low or 0.0):
        notes.append("with steps at the slow end of their interval the replicas would not keep up")
    if given is None and found.capacity is None and not found.clients:
        notes.append(f"replicas are given at most {HEADROOM:.0%} of what they bear: an assumption; --slo sets limits")
    if not (lengths.prompt_cv or lengths.output_cv) and np.ptp(found.traffic.output_tokens) == 0:
        notes.append("all prompts and all answers are of one length; --prompt-cv and --output-cv spread them")
    if peak > 1 and found.traffic.duration_s < 0.99 * DAY_S:
        notes.append("the rate is the mean of a day, which begins at its quietest hour: less than a day is not like it")
    preempted = found.outcome.counts[batching.PREEMPTED]
    if preempted:
        notes.append(f"the cache was full: sequences that gave theirs back and were worked on again: {preempted:,}")
    if found.replicas > 1:
        notes.append("replicas take turns; a router that looks at their queues does better")
    return notes
