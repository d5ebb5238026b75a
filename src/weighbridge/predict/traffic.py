"""Who asks when, and for how much? Arrivals and lengths of requests: drawn from distributions, or as logged.

Open loops draw the time between two arrivals from a gamma distribution: shape 1 is a Poisson process, less comes in
bursts, more evenly (the `--burstiness` of vLLM's benchmark). Over a day the rate may follow exp(k cos): `peak` is its
highest over its mean. Lengths are lognormal, as wide as their coefficient of variation says until the longest are cut
(of 1 there stays 0.96, of 2 1.4), and as long on average as asked for after that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import UnitError

DAY_S = 86_400.0
MOST_REQUESTS = 50_000_000
"""More requests than this are refused: they would not have room in memory."""
STAGGER_S = 1e-4
"""The clients of a closed loop start so far apart."""
LONGEST = 8.0
"""No drawn length is over so many times the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Requests in the order in which they arrive. `shared_tokens` of each prompt, or so many of each, are in the cache
    already. The load goes on until `lasts_s`, or ends with the last arrival where that is later.
    """

    arrival_s: NDArray[np.float64]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    shared_tokens: int | NDArray[np.int64] = 0
    notes: tuple[str, ...] = ()
    lasts_s: float = 0.0

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def duration_s(self) -> float:
        """From 0 to the end of the load."""
        return max(self.lasts_s, float(self.arrival_s[-1]))

    @property
    def rate(self) -> float:
        """Requests a second, on average."""
        return len(self) / self.duration_s if self.duration_s else math.inf

    def at_rate(self, rate: float) -> Traffic:
        """The same requests, closer together or further apart.

        Raises:
            UnitError: when they all come at once, or for a rate that is none.
        """
        if not (math.isfinite(rate) and rate > 0):
            raise UnitError(f"a rate of {rate} requests a second", "more than 0", "correct --rate")
        if not self.duration_s:
            read = f"{len(self):,} requests that come at the same time, at another rate"
            raise UnitError(read, "requests over some time", "leave the rate out, or use a longer log")
        longer = self.rate / rate
        return replace(self, arrival_s=self.arrival_s * longer, lasts_s=self.lasts_s * longer)

    def share(self, place: int, of: int) -> Traffic:
        """What comes to one of several replicas, which take turns."""
        return self.picked(slice(place, None, of))

    def first(self, requests: int) -> Traffic:
        """The first so many of them."""
        return replace(self.picked(slice(requests)), lasts_s=0.0)

    def picked(self, which: slice | NDArray[Any]) -> Traffic:
        """Some of them, as an index picks them."""
        shared = self.shared_tokens
        return replace(self, arrival_s=self.arrival_s[which], prompt_tokens=self.prompt_tokens[which],
                       output_tokens=self.output_tokens[which],
                       shared_tokens=shared if isinstance(shared, int) else shared[which])  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long prompts and answers are: means, and coefficients of variation about them."""

    prompt_tokens: int
    output_tokens: int
    prompt_cv: float = 0.0
    output_cv: float = 0.0
    shared_tokens: int = 0

    def __post_init__(self) -> None:
        for name, value in (("prompt", self.prompt_cv), ("answer", self.output_cv)):
            if not 0 <= value <= 5:
                read = f"a coefficient of variation of {value} for the {name}"
                raise UnitError(read, "0 for one length to 5", "correct it")
        for name, tokens in (("prompts", self.prompt_tokens), ("answers", self.output_tokens)):
            if tokens < 1:
                raise UnitError(f"{name} of {tokens} tokens", "1 or more", "correct it")
        if not 0 <= self.shared_tokens < self.prompt_tokens:
            read = f"{self.shared_tokens} shared tokens of prompts of {self.prompt_tokens}"
            raise UnitError(read, "fewer than a prompt has", "correct --shared-prefix")


def open_loop(
    rate: float, requests: int, lengths: Lengths, *, seed: int, burstiness: float = 1.0, peak: float = 1.0
) -> Traffic:
    """Requests that come whatever becomes of those before them, at a mean rate a second.

    With a `peak` above 1 the first comes at the quietest hour, and days repeat. The load lasts as long as so many
    requests take at that rate, so that its own rate is the one that was asked for.

    Raises:
        UnitError: for a rate, a number, a burstiness or a peak that cannot be.

    Example:
        >>> found = open_loop(10.0, 50_000, Lengths(prompt_tokens=512, output_tokens=128), seed=1)
        >>> found.rate, found.duration_s, found.prompt_tokens.min().item()
        (10.0, 5000.0, 512)
    """
    if not (math.isfinite(rate) and rate > 0):
        raise UnitError(f"a rate of {rate} requests a second", "more than 0", "correct --rate")
    if not 1 <= requests <= MOST_REQUESTS:
        read = f"{requests:,} requests"
        raise UnitError(read, f"1 to {MOST_REQUESTS:,}", "shorten --duration, or simulate a part of the load")
    if not 0.01 <= burstiness <= 1000:
        raise UnitError(f"a burstiness of {burstiness}", "0.01 to 1000; 1 is a Poisson process", "correct it")
    lasts = _over_the_day(np.array([requests / rate]), peak)[0] if peak != 1 else requests / rate
    random = _random(seed)
    arrival = np.cumsum(np.maximum(random.gamma(burstiness, 1.0, requests + 1), 1e-300))
    arrival = arrival[:-1] * (requests / rate / arrival[-1])
    if peak != 1:
        arrival = _over_the_day(arrival, peak)
    return Traffic(arrival_s=arrival, lasts_s=float(lasts), shared_tokens=lengths.shared_tokens,
                   prompt_tokens=_drawn(random, lengths.prompt_tokens, lengths.prompt_cv, requests,
                                        1 + lengths.shared_tokens),
                   output_tokens=_drawn(random, lengths.output_tokens, lengths.output_cv, requests, 1))  # fmt: skip


def requests_within(duration_s: float, rate: float, peak: float = 1.0) -> int:
    """How many requests `open_loop` takes to last so long: 1 or more.

    Example:
        >>> requests_within(86_400.0, 0.5, peak=2.0), requests_within(3600.0, 0.5), requests_within(3600.0, 0.5, 2.0)
        (43200, 1800, 630)
    """
    even = duration_s
    if peak != 1:
        minute, passed = _clock(peak)
        days, rest = divmod(duration_s, DAY_S)
        even = days * DAY_S + float(np.interp(rest, minute, passed))
    return max(1, round(rate * even)) if rate * even < math.inf else MOST_REQUESTS + 1


def closed_loop(clients: int, requests: int, lengths: Lengths, *, seed: int, think_s: float = 0.0) -> Traffic:
    """Requests of so many clients who each wait for their answer: when the others come, the machine decides.

    Clients who ask again after some time have not all begun at once: their first requests come within that time.

    Raises:
        UnitError: without a client, or with fewer requests than clients.
    """
    if not 1 <= clients <= requests <= MOST_REQUESTS:
        read = f"{requests:,} requests of {clients:,} clients"
        raise UnitError(read, f"a client or more, each with a request, up to {MOST_REQUESTS:,}", "correct them")
    random = _random(seed)
    arrival = np.arange(requests, dtype=np.float64) * STAGGER_S
    if think_s > 0:
        arrival[:clients] += np.sort(random.uniform(0, think_s, clients))
        arrival[clients:] += think_s
    return Traffic(arrival_s=arrival, shared_tokens=lengths.shared_tokens,
                   prompt_tokens=_drawn(random, lengths.prompt_tokens, lengths.prompt_cv, requests,
                                        1 + lengths.shared_tokens),
                   output_tokens=_drawn(random, lengths.output_tokens, lengths.output_cv, requests, 1))  # fmt: skip


def _random(seed: int) -> np.random.Generator:
    if seed < 0:
        raise UnitError(f"a seed of {seed}", "0 or more", "correct --seed")
    return np.random.default_rng(seed)


def _drawn(random: np.random.Generator, mean: int, cv: float, many: int, least: int) -> NDArray[np.int64]:
    spread = math.sqrt(math.log1p(cv * cv))
    if not spread:
        return np.full(many, mean, dtype=np.int64)
    drawn = random.lognormal(math.log(mean) + _centre(spread), spread, many)
    return np.clip(np.rint(drawn), least, LONGEST * mean).astype(np.int64)


def _centre(spread: float) -> float:
    """The logarithm of the median at which lognormal lengths, cut at `LONGEST`, are 1 on average."""
    low, high = -spread * spread / 2, 0.0
    longest, root = math.log(LONGEST), spread * math.sqrt(2)
    for _ in range(60):
        centre = (low + high) / 2
        below = math.exp(centre + spread * spread / 2) * math.erfc((centre + spread * spread - longest) / root) / 2
        cut = LONGEST * math.erfc((longest - centre) / root) / 2
        low, high = (centre, high) if below + cut < 1 else (low, centre)
    return high


def _over_the_day(arrival: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """Moves arrivals of an even rate so that the rate follows the day: through the inverse of its integral."""
    minute, passed = _clock(peak)
    day, rest = np.divmod(arrival, DAY_S)
    return np.asarray(day * DAY_S + np.interp(rest, passed, minute))


def _clock(peak: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of a day, minute by minute, and when as many requests would have come at an even rate."""
    if not 1 <= peak <= 24:
        raise UnitError(f"a peak of {peak} times the mean", "1 to 24", "correct --peak")
    low, high = 0.0, 300.0
    for _ in range(60):
        sharpness = (low + high) / 2
        low, high = (sharpness, high) if _peak_of(sharpness) < peak else (low, sharpness)
    minute = np.arange(0.0, DAY_S + 1, 60.0)
    rate = np.exp(high * (np.cos(2 * math.pi * (minute / DAY_S - 0.5)) - 1))
    passed = np.concatenate([[0.0], np.cumsum((rate[1:] + rate[:-1]) / 2)])
    return minute, passed * (DAY_S / passed[-1])


def _peak_of(sharpness: float) -> float:
    """The highest of exp(k cos) over its mean, which is the modified Bessel function I0(k)."""
    values = np.exp(sharpness * (np.cos(np.linspace(0, math.pi, 2001)) - 1))
    return float(2 / (values[1:] + values[:-1]).mean())
