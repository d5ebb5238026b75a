"""Do requests come and are they as long as was asked for, again and again alike?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weighbridge.errors import UnitError
from weighbridge.predict.traffic import (
    DAY_S,
    LONGEST,
    MOST_REQUESTS,
    Lengths,
    Traffic,
    closed_loop,
    open_loop,
    requests_within,
)

SHORT = Lengths(prompt_tokens=100, output_tokens=20)
MANY = 100_000


def four_errors(cv: float, many: int = MANY) -> float:
    """Four standard errors of a mean, as a share of it."""
    return 4 * cv / math.sqrt(many)


@pytest.mark.parametrize("burstiness", [0.2, 1.0, 4.0])
def test_gaps_have_the_mean_and_the_spread_of_a_gamma_distribution(burstiness: float) -> None:
    gaps = np.diff(open_loop(7.0, MANY, SHORT, seed=3, burstiness=burstiness).arrival_s, prepend=0.0)
    cv = 1 / math.sqrt(burstiness)
    assert gaps.mean() * 7 == pytest.approx(1, abs=four_errors(cv))
    # The variance of a gamma variable's square deviation: its excess kurtosis is 6 / shape.
    assert (gaps.std() * 7 / cv) ** 2 == pytest.approx(1, abs=four_errors(math.sqrt(2 + 6 / burstiness)))
    assert gaps.min() >= 0


def test_a_poisson_process_has_as_many_arrivals_as_their_variance() -> None:
    arrival = open_loop(5.0, MANY, SHORT, seed=4).arrival_s
    counts = np.bincount(arrival.astype(int))[:-1]
    assert counts.var() / counts.mean() == pytest.approx(1, abs=four_errors(math.sqrt(2), len(counts)))


@pytest.mark.parametrize("cv", [0.1, 0.5, 1.0, 2.0, 5.0])
def test_lengths_have_their_mean_and_below_the_cut_their_spread(cv: float) -> None:
    found = open_loop(1.0, MANY, Lengths(prompt_tokens=5000, output_tokens=800, output_cv=cv, prompt_cv=cv), seed=5)
    for tokens, mean in ((found.prompt_tokens, 5000), (found.output_tokens, 800)):
        # Rounded to whole tokens, and none below 1: half a token at most.
        assert tokens.mean() / mean == pytest.approx(1, abs=four_errors(cv) + 0.5 / mean)
        assert tokens.min() >= 1 and tokens.max() <= LONGEST * mean
        if cv <= 0.5:
            assert tokens.std() / tokens.mean() == pytest.approx(cv, rel=0.02)
            assert np.median(tokens) / mean == pytest.approx(1 / math.sqrt(1 + cv * cv), abs=1.3 * four_errors(cv))
    assert abs(np.corrcoef(found.prompt_tokens, found.output_tokens)[0, 1]) < four_errors(1)


@given(st.integers(1, 300), st.integers(1, 50), st.floats(0, 5), st.data())
@settings(max_examples=40, deadline=None)
def test_every_length_can_be(prompt: int, output: int, cv: float, data: st.DataObject) -> None:
    shared = data.draw(st.integers(0, prompt - 1))
    lengths = Lengths(prompt_tokens=prompt, output_tokens=output, prompt_cv=cv, output_cv=cv, shared_tokens=shared)
    for found in (open_loop(3.0, 200, lengths, seed=1), closed_loop(7, 200, lengths, seed=1)):
        assert len(found) == 200
        assert found.prompt_tokens.min() > shared and found.output_tokens.min() >= 1
        assert (np.diff(found.arrival_s) >= 0).all()
        assert found.prompt_tokens.dtype == found.output_tokens.dtype == np.int64


def test_the_same_seed_is_the_same_load() -> None:
    lengths = Lengths(prompt_tokens=100, output_tokens=20, prompt_cv=1, output_cv=1)
    one, two, other = (open_loop(2.0, 500, lengths, seed=seed, burstiness=0.5, peak=2) for seed in (1, 1, 2))
    for name in ("arrival_s", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("peak", [1.5, 3.0, 8.0])
def test_the_highest_hour_is_so_many_times_the_mean(peak: float) -> None:
    rate, days = 20.0, 3
    arrival = open_loop(rate, int(rate * DAY_S * days), SHORT, seed=6, peak=peak).arrival_s
    expected = rate * DAY_S * (days - 1)  # the mean rate is that of whole days
    assert np.searchsorted(arrival, DAY_S * (days - 1)) == pytest.approx(expected, abs=4 * math.sqrt(expected))
    hours = np.bincount((arrival[arrival < DAY_S * days] / 3600).astype(int), minlength=24 * days).reshape(days, 24)
    # exp(k cos) about its top is narrower for higher peaks: what the two hours beside noon have of it.
    k = next(k for k in np.arange(0.0, 300, 0.01) if math.exp(k) / np.i0(k) >= peak)
    fine = np.exp(k * np.cos(np.linspace(0, math.pi, 240_001)))
    hour = fine[:20_000].mean() / fine.mean()  # 240,000 pieces are 12 hours
    assert hour == pytest.approx(peak, rel=0.15) and hour <= peak * 1.0001
    assert hours[:, 11:13].mean() / (rate * 3600) == pytest.approx(hour, rel=4 / math.sqrt(hours[:, 11:13].sum()))
    assert set(hours.argmax(axis=1)) <= {11, 12} and hours[:, [0, 23]].mean() < hours[:, 6].mean()


def test_a_day_without_a_peak_is_even() -> None:
    arrival = open_loop(10.0, 864_000, SHORT, seed=7).arrival_s
    hours = np.bincount((arrival / 3600).astype(int), minlength=24)[:24]
    assert abs(hours / 36_000 - 1).max() < four_errors(1, 36_000)


@given(st.integers(1, 40), st.integers(1, 9))
def test_shares_are_all_there_is(requests: int, replicas: int) -> None:
    found = open_loop(1.0, requests, Lengths(prompt_tokens=100, output_tokens=9, prompt_cv=1), seed=8)
    each = Traffic(arrival_s=found.arrival_s, prompt_tokens=found.prompt_tokens, output_tokens=found.output_tokens,
                   shared_tokens=found.prompt_tokens - 1)  # fmt: skip
    shares = [each.share(place, replicas) for place in range(replicas)]
    assert sum(map(len, shares)) == requests
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert np.array_equal(np.sort(np.concatenate([share.arrival_s for share in shares])), found.arrival_s)
    for share in [*shares, each.first(replicas), each.first(0)]:
        assert np.array_equal(np.asarray(share.shared_tokens), share.prompt_tokens - 1)


def test_another_rate_is_the_same_requests_closer_together() -> None:
    slow = open_loop(2.0, 1000, Lengths(prompt_tokens=100, output_tokens=9, output_cv=1), seed=9)
    fast = slow.at_rate(10.0)
    assert fast.rate == pytest.approx(10)
    assert np.array_equal(fast.output_tokens, slow.output_tokens)
    assert fast.arrival_s == pytest.approx(slow.arrival_s * slow.rate / 10)
    assert len(slow.first(10)) == 10 and slow.first(10).duration_s == slow.arrival_s[9]


def test_what_cannot_be_is_refused() -> None:
    refused: list[Callable[[], object]] = [
        lambda: open_loop(0.0, 10, SHORT, seed=1), lambda: open_loop(math.nan, 10, SHORT, seed=1),
        lambda: open_loop(math.inf, 10, SHORT, seed=1), lambda: open_loop(1.0, 0, SHORT, seed=1),
        lambda: open_loop(1.0, MOST_REQUESTS + 1, SHORT, seed=1),
        lambda: open_loop(1.0, 10, SHORT, seed=1, burstiness=0.0),
        lambda: open_loop(1.0, 10, SHORT, seed=1, peak=0.5), lambda: open_loop(1.0, 10, SHORT, seed=1, peak=25),
        lambda: closed_loop(0, 10, SHORT, seed=1), lambda: closed_loop(11, 10, SHORT, seed=1),
        lambda: Lengths(prompt_tokens=0, output_tokens=1), lambda: Lengths(prompt_tokens=1, output_tokens=0),
        lambda: Lengths(prompt_tokens=9, output_tokens=1, prompt_cv=math.nan),
        lambda: Lengths(prompt_tokens=9, output_tokens=1, output_cv=-1),
        lambda: Lengths(prompt_tokens=9, output_tokens=1, shared_tokens=9),
        lambda: open_loop(1.0, 10, SHORT, seed=1).at_rate(0.0),
        lambda: replace(closed_loop(2, 10, SHORT, seed=1), arrival_s=np.zeros(10)).at_rate(3.0),
    ]  # fmt: skip
    for ask in refused:
        with pytest.raises(UnitError):
            ask()


@pytest.mark.parametrize("peak", [1.0, 2.0, 24.0])
@pytest.mark.parametrize("duration_s", [3600.0, 40_000.0, DAY_S, 2.5 * DAY_S])
def test_a_load_lasts_as_long_as_asked_at_the_rate_that_was_asked(peak: float, duration_s: float) -> None:
    requests = requests_within(duration_s, 3.0, peak)
    found = open_loop(3.0, requests, SHORT, seed=10, peak=peak)
    if requests < 100:  # of a night in which hardly one comes
        return
    assert found.duration_s == pytest.approx(duration_s, abs=61)
    assert found.arrival_s[-1] < found.duration_s
    if duration_s == DAY_S:
        assert requests == 3 * DAY_S and found.rate == pytest.approx(3.0, rel=1e-9)
    if duration_s == 3600.0 and peak == 2.0:
        # exp(k cos) is twice its mean at its highest for k = 2.16: the first hour has exp(-2k) of that, and a little.
        assert 0.34 < requests / (3.0 * 3600.0) < 0.36


def test_clients_who_take_their_time_do_not_come_at_once() -> None:
    first = closed_loop(100, 300, SHORT, seed=11, think_s=20.0).arrival_s[:100]
    assert (np.diff(first) > 0).all() and 0 <= first[0] < 2 and 18 < first[-1] < 20.1
    assert first.mean() == pytest.approx(10.0, abs=2.5)


def test_a_seed_is_not_negative() -> None:
    with pytest.raises(UnitError, match="seed"):
        open_loop(1.0, 10, SHORT, seed=-1)
    with pytest.raises(UnitError, match="seed"):
        closed_loop(2, 10, SHORT, seed=-1)
