"""How long do requests wait and take under a load, how busy is each machine, and how much load can it bear?

Replicas are alike and take turns, each with a queue of its own, so that each is simulated by itself (`batching.run`).
What a request waits outside of steps is added to its first token afterwards, and to the time after which a client of a
closed loop asks again.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import UnitError
from weighbridge.predict import batching
from weighbridge.predict.step_times import StepTimes
from weighbridge.predict.traffic import Traffic

Progress = Callable[[int, int], None]
"""Is told how many requests of how many have ended."""
BLOCK = 20_000
CLIENT_S = 5e-4
"""A client that has its answer takes so long to ask again at least, and misses the step that begins meanwhile."""
MEASURES = ("ttft_s", "tpot_s", "e2e_s", "waiting_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the engine admits to a step. `pages` of 0 are a cache that is never full.

    `budget` is the most tokens of a step; `mixes` says whether sequences decode in steps with prompts; `reserves`
    whether a request takes the cache of its whole answer when it comes in.
    """

    budget: int
    mixes: bool = True
    pages: int = 0
    page: int = 1
    reserves: bool = False

    @property
    def tokens(self) -> float:
        """Tokens that the cache has room for."""
        return self.pages * self.page if self.pages else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of the requests that ended, times in seconds from the first moment of the load.

    `bins` has a row for each of `batching`'s kinds and a column for each stretch of `bin_s`; they and `counts` are
    those of all simulated `replicas` and of all requests, over `whole_s`. `first_s` and `finish_s` have what a request
    waits outside of steps in them.
    """

    arrival_s: NDArray[np.float64]
    admitted_s: NDArray[np.float64]
    first_s: NDArray[np.float64]
    finish_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    bins: NDArray[np.float64]
    bin_s: float
    counts: tuple[int, ...]
    replicas: int
    whole_s: float
    clients: int = 0
    left_out: int = 0
    is_stopped: bool = False

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def span_s(self) -> float:
        """From the first arrival to the last token."""
        return float(self.finish_s.max() - self.arrival_s.min())

    def measure(self, name: str) -> NDArray[np.float64]:
        """One of `MEASURES` for each request; `tpot_s` only of those with two tokens or more."""
        if name == "ttft_s":
            return self.first_s - self.arrival_s
        if name == "e2e_s":
            return self.finish_s - self.arrival_s
        if name == "waiting_s":
            return self.admitted_s - self.arrival_s
        assert name == "tpot_s", name
        several = self.output_tokens > 1
        return (self.finish_s - self.first_s)[several] / (self.output_tokens[several] - 1)

    def percentiles(self, name: str, percents: Sequence[float]) -> list[float] | None:
        """The values that so many percent of the requests do not exceed; None without any."""
        values = self.measure(name)
        return [float(value) for value in np.percentile(values, percents)] if len(values) else None

    def percentile(self, name: str, percent: float) -> float | None:
        """One of them."""
        found = self.percentiles(name, [percent])
        return None if found is None else found[0]

    def mean(self, name: str) -> float | None:
        """The mean over requests; None without any."""
        values = self.measure(name)
        return float(values.mean()) if len(values) else None

    @property
    def busy_share(self) -> float:
        """The share of their time in which the replicas work."""
        return min(1.0, float(self.bins[batching.BUSY_S].sum()) / (self.whole_s * self.replicas))

    @property
    def power_w(self) -> float:
        """Watts of one replica, averaged over all of the time."""
        return float(self.bins[batching.ENERGY_J].sum()) / self.whole_s / self.replicas

    @property
    def sequences(self) -> float:
        """Sequences in a replica, averaged over the time in which it works."""
        busy = float(self.bins[batching.BUSY_S].sum())
        return float(self.bins[batching.SEQUENCE_S].sum()) / busy if busy else 0.0

    @property
    def requests_per_s(self) -> float:
        """Requests that ended a second, all simulated replicas together."""
        return len(self) / self._counted_s

    @property
    def output_tokens_per_s(self) -> float:
        """Tokens of answers a second, all simulated replicas together."""
        return float(self.output_tokens.sum()) / self._counted_s

    @property
    def _counted_s(self) -> float:
        """Of a part of a load that goes on, between its arrivals or its ends: the last answer is followed by others."""
        if not self.left_out:
            return self.whole_s
        between = float(max(np.ptp(self.arrival_s), np.ptp(self.finish_s)))
        return between if between > 0 and not self.clients else self.span_s

    def after(self, requests: int) -> Outcome:
        """Without the first so many requests, which came to machines that had nothing to do."""
        return replace(
            self, arrival_s=self.arrival_s[requests:], admitted_s=self.admitted_s[requests:],
            first_s=self.first_s[requests:], finish_s=self.finish_s[requests:],
            prompt_tokens=self.prompt_tokens[requests:], output_tokens=self.output_tokens[requests:],
            left_out=self.left_out + requests,
        )  # fmt: skip


def simulate(
    times: StepTimes,
    policy: Policy,
    traffic: Traffic,
    *,
    replicas: int = 1,
    clients: int = 0,
    think_s: float = 0.0,
    power_w: NDArray[np.float64] | None = None,
    bin_s: float = 3600.0,
    progress: Progress | None = None,
    is_stoppable: bool = True,
) -> Outcome:
    """What becomes of the requests.

    Args:
        times: how long steps are.
        policy: what is admitted to them.
        traffic: the requests.
        replicas: machines that take turns.
        clients: of a closed loop, shared by the replicas; 0 for an open one.
        think_s: seconds that a client waits before it asks again.
        power_w: power of a replica while 0, 1, 2 ... sequences are in it; none is counted without it.
        bin_s: width of the stretches of time that work and energy are kept for.
        progress: is told how far it is.
        is_stoppable: an interrupt ends it early, and what ended until then is the outcome.

    Raises:
        UnitError: when a request cannot fit into the cache, or a number cannot be.

    Example:
        >>> from weighbridge.predict.traffic import Lengths, open_loop
        >>> steps = np.array([0.0, 1.0])
        >>> times = StepTimes(base_s=steps, mixed_s=steps, cached_s=0.0, token_s=0.01, pair_s=0.0)
        >>> one = open_loop(0.001, 1, Lengths(prompt_tokens=100, output_tokens=11), seed=0)
        >>> found = simulate(times, Policy(budget=512), one)
        >>> round(found.mean("ttft_s"), 6), round(found.mean("tpot_s"), 6), round(found.mean("e2e_s"), 6)
        (1.0, 1.0, 11.0)
    """
    _check(times, policy, traffic, replicas, clients, think_s)
    total = len(traffic)
    watts = np.zeros(times.most + 1) if power_w is None else power_w
    assert len(watts) == times.most + 1
    bins = np.zeros((3, max(1, math.ceil(traffic.duration_s / bin_s))))
    counts = np.zeros(6, dtype=np.int64)
    found = np.zeros((4, total))
    worked, begun, is_stopped, at_hand_s = 0, 0, False, 0.0
    grows = policy.pages > 0 and not policy.reserves
    for place in range(replicas):
        worked = place + 1
        if place >= total:
            worked = replicas
            break
        share, own_clients = traffic.share(place, replicas), len(range(place, clients, replicas))
        one: _Replica | None = None
        again_s = think_s
        if clients:
            step_s = times.base_s[min(own_clients, times.most)]
            again_s = max(CLIENT_S, think_s) + float(times.delay_s(share.prompt_tokens.mean(), step_s))
        try:
            # Most caches are never full, which is quicker to work out: pages are counted when one was.
            for asked in (replace(policy, pages=0), policy) if grows else (policy,):
                one = _Replica(share, bins.shape[1])
                for ended in one.run(times, asked, own_clients, again_s, watts, bin_s):
                    if not one.had_room(policy):
                        break
                    if progress is not None:
                        progress(begun + ended, total)
                else:
                    break
        except KeyboardInterrupt:
            if not is_stoppable:
                raise
            is_stopped = True
            if worked > 1:  # those that were done are like the others
                worked -= 1
                break
            if one is None or not one.had_room(policy):
                raise
        assert one is not None
        begun += len(share)
        bins += np.asarray(one.bins)
        most = max(counts[batching.MOST_PAGES], one.counts[batching.MOST_PAGES])
        counts += np.asarray(one.counts)
        counts[batching.MOST_PAGES] = most
        at_hand_s += float(np.asarray(one.finish).max()) - one.arrival[0]
        found[:, place::replicas] = (one.arrival, one.admitted, one.first, one.finish)
        if is_stopped:
            break
    prompt, output = traffic.prompt_tokens, traffic.output_tokens
    if is_stopped:
        ended_ones = found[3] > 0
        found, prompt, output = found[:, ended_ones], prompt[ended_ones], output[ended_ones]
        if not len(prompt):
            raise KeyboardInterrupt
    arrival, admitted, first, finish = found
    step_s = np.where(output > 1, (finish - first) / np.maximum(1, output - 1), times.base_s[1])
    delay = times.delay_s(prompt, step_s)
    first += delay
    finish += delay
    begin = 0.0 if traffic.lasts_s else float(arrival.min())
    end = max(float(finish.max()), 0.0 if is_stopped else traffic.lasts_s)
    bins[batching.ENERGY_J, -1] += max(0.0, worked * (end - begin) - at_hand_s) * watts[0]
    return Outcome(
        arrival_s=arrival, admitted_s=admitted, first_s=first, finish_s=finish, prompt_tokens=prompt,
        output_tokens=output, bins=bins, bin_s=bin_s, counts=tuple(int(count) for count in counts), replicas=worked,
        is_stopped=is_stopped, whole_s=end - begin, clients=clients,
    )  # fmt: skip


class _Replica:
    """One replica at work: its requests, and where what becomes of them is written."""

    def __init__(self, share: Traffic, columns: int) -> None:
        self.share = share
        nothing = bytes(8 * len(share))
        self.arrival = array("d", share.arrival_s.tobytes())
        self.admitted, self.first, self.finish = (array("d", nothing) for _ in range(3))
        self.bins = [[0.0] * columns for _ in range(3)]
        self.counts = [0] * 6

    def run(
        self, times: StepTimes, policy: Policy, clients: int, think_s: float, watts: NDArray[np.float64], bin_s: float
    ) -> Iterator[int]:
        """Works on the requests, and says after each block how many have ended."""
        share = self.share
        return batching.run(
            self.arrival, array("q", share.prompt_tokens.tobytes()), array("q", share.output_tokens.tobytes()),
            array("q", np.full(len(share), share.shared_tokens, dtype=np.int64).tobytes()), clients, think_s,
            times.base_s.tolist(), times.mixed_s.tolist(), times.cached_s, times.token_s, times.pair_s, policy.budget,
            policy.mixes, policy.pages, policy.page, policy.reserves, watts.tolist(), bin_s, self.admitted, self.first,
            self.finish, self.bins, self.counts, BLOCK,
        )  # fmt: skip

    def had_room(self, policy: Policy) -> bool:
        """Whether the cache was large enough until now, where it was taken as one that is never full."""
        return not policy.pages or self.counts[batching.MOST_PAGES] <= policy.pages


def _check(times: StepTimes, policy: Policy, traffic: Traffic, replicas: int, clients: int, think_s: float) -> None:
    longest = int((traffic.prompt_tokens + traffic.output_tokens).max())
    if policy.pages and longest > policy.tokens:
        read = f"a request of {longest:,} tokens in a cache with room for {policy.tokens:,.0f}"
        raise UnitError(read, "room for the longest request", "use more or larger devices, or shorter requests")
    if replicas < 1 or clients < 0 or (clients and clients < replicas):
        read = f"{replicas} replicas for {clients} clients"
        raise UnitError(read, "a replica or more, each with a client", "correct them")
    if not 0 <= think_s < math.inf:
        raise UnitError(f"clients that ask again after {think_s} s", "0 or more", "correct --think")
    if np.any(np.asarray(traffic.shared_tokens) >= traffic.prompt_tokens):
        read = f"a prompt of {int(traffic.prompt_tokens.min()):,} tokens that the cache holds already"
        raise UnitError(read, "one token or more of each prompt to be worked on", "share fewer")
    if policy.budget < 1:
        raise UnitError(f"steps of {policy.budget:,} tokens", "1 or more", "raise the tokens of a step")
    if policy.budget <= times.most and policy.mixes:
        read = f"steps of {policy.budget:,} tokens for {times.most:,} sequences"
        raise UnitError(read, "more tokens than sequences", "lower --max-sequences")
