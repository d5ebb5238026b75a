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

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate, weakest
from weighbridge.inspection import Inspection
from weighbridge.load_engine import Engine, engine
from weighbridge.load_search import (
    HEADROOM,
    PROBED,
    WARM_UP,
    bearable_rate,
    between,
    factors,
    highest_rate,
    rate_within,
    replicas_for,
    sample_of,
    stretches,
)
from weighbridge.model.catalogue import NamedModel
from weighbridge.predict import batching
from weighbridge.predict.availability import Failures
from weighbridge.predict.carbon import emitted
from weighbridge.predict.load import MEASURES, Outcome, Progress
from weighbridge.predict.traffic import DAY_S, Lengths, Traffic, closed_loop, open_loop, requests_within
from weighbridge.service_level import Limit, keeps

SAMPLED = 20_000
"""Requests that are simulated where no duration is given, on so many replicas at most."""
SAMPLED_REPLICAS = 5
MOST_REPLICAS = 1_000_000
BOUNDED = 50_000
"""At most so many are simulated for the bounds of an interval, in stretches of a longer load."""
TURNS = 20
"""Requests of each client of a closed loop, at least; the first two of each are left out."""
MORE_REPLICAS = 1.1
"""Where those that a search found do not keep the limits, so many times as many are tried, at most `TRIES` times."""
TRIES = 24
PERCENTS = (50, 90, 95, 99)
ENERGY_UNITS = {"average_power_w": "W", "kwh_per_day": "kWh", "j_per_request": "J", "j_per_output_token": "J",
                "kgco2e_per_day": "kg", "gco2e_per_million_output_tokens": "g"}  # fmt: skip


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
        """Whether all limits hold in the middle of the intervals; None without a limit, or where it is not known."""
        found = [self.held(limit) for limit in self.limits]
        holds = all(one in ("yes", "likely") for one in found)
        return None if not found or (holds and self.is_beginning) else holds

    @property
    def is_beginning(self) -> bool:
        """Whether it was stopped so early that only the beginning of the load was simulated."""
        return self.outcome.is_stopped and float(self.outcome.arrival_s.max()) < 0.95 * self.traffic.duration_s

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
        >>> from weighbridge.service_level import Limit
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
    notes = list(built.notes)
    if traffic is None:
        sample = open_loop(1.0, PROBED, lengths, seed=seed, burstiness=burstiness)
    else:
        sample = sample_of(traffic, seed)
        notes += traffic.notes
    bearable = between(*(bearable_rate(built, sample, factor) for factor in factors(built)))
    capacity = None
    if limits and not clients:
        at_most = (bearable.value, bearable.low, bearable.high)
        capacity = between(*(rate_within(built, sample, limits, percent, factor, most or 0.0)
                              for factor, most in zip(factors(built), at_most, strict=True)))  # fmt: skip
    given, logged = replicas, traffic
    if clients is not None:
        replicas = replicas or 1
        requests, warm_up = max(TURNS * clients, PROBED), 2 * clients
    elif replicas is None:
        highest = peak * (rate or 0.0) if logged is None else highest_rate(logged)
        replicas = replicas_for(highest, bearable, capacity)
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
        if tries < 0 or outcome.is_stopped or keeps(outcome.after(warm_up), limits, percent):
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
    latency["e2e_s"] = {key: _at_least(whole, latency["ttft_s"][key]) for key, whole in latency["e2e_s"].items()}
    devices = built.plan.machine.devices
    failures = None if availability is None else Failures.of(replicas, devices, availability, uptime)
    if rate is None or peak != 1:
        rate = 0.0 if clients is not None else traffic.rate
    found = Load(engine=built, traffic=traffic, outcome=outcome, bounds=bounds, rate=rate, replicas=replicas,
                 clients=clients or 0, think_s=think_s, seed=seed, latency=latency, limits=tuple(limits),
                 percent=percent, bearable=bearable, capacity=capacity, failures=failures, notes=tuple(notes),
                 )  # fmt: skip
    return replace(found, notes=(*found.notes, *_remarks(found, given, lengths, peak)))


def _bounds(built: Engine, traffic: Traffic, run: Mapping[str, Any], warm_up: int) -> tuple[Outcome, ...]:
    """A part of the same load with steps in the middle, fast and slow; of a long one on one of its replicas."""
    run = dict(run)
    if not run["clients"] and len(traffic) > BOUNDED:
        traffic, run["replicas"] = traffic.share(0, run["replicas"]), 1
        traffic = stretches(traffic, BOUNDED) if len(traffic) > BOUNDED else traffic
    left = min(warm_up, len(traffic) // 2)
    return tuple(built.run(traffic, factor, power=place, **run).after(left)
                 for place, factor in enumerate((1.0, *built.spread["tpot"])))  # fmt: skip


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


def _at_least(whole: Estimate, part: Estimate) -> Estimate:
    """A time whose high bound is no less than that of a part of it."""
    if whole.high is None or part.high is None or part.high <= whole.high:
        return whole
    return replace(whole, high=part.high)


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
        march = ", and clients march in step, their prompts coming together" if found.clients else ""
        notes.append(f"all prompts and answers are of one length{march}; --prompt-cv and --output-cv spread them")
    if found.is_beginning:
        notes.append("only the beginning of the load was simulated: what comes later, such as its peak, is not in the "
                     "numbers, and whether the limits hold is not known")  # fmt: skip
    if peak > 1 and found.traffic.duration_s < 0.99 * DAY_S:
        notes.append("the rate is the mean of a day, which begins at its quietest hour: less than a day is not like it")
    preempted = found.outcome.counts[batching.PREEMPTED]
    if preempted:
        notes.append(f"the cache was full: sequences that gave theirs back and were worked on again: {preempted:,}")
    if found.replicas > 1:
        notes.append("replicas take turns; a router that looks at their queues does better")
    return notes
