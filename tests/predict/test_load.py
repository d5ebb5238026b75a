"""Do loads keep the laws of queues: tokens, Little's law, M/D/1 and M/M/1, and does more load never make them quicker?

Sampling errors come from batch means (Law, Simulation Modeling and Analysis, 9.5.3): runs are cut into 20 stretches
much longer than queues last, and the mean of theirs is off by four of its standard errors once in a thousand times
(Student's t of 19 degrees of freedom).
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from weighbridge.errors import UnitError
from weighbridge.predict import batching, load
from weighbridge.predict.load import Outcome, Policy, simulate
from weighbridge.predict.step_times import StepTimes
from weighbridge.predict.traffic import Lengths, Traffic, closed_loop, open_loop

STRETCHES = 20
BASE_S = np.array([0.005, *(0.01 + 0.0005 * n for n in range(32))])
TIMES = StepTimes(base_s=BASE_S, mixed_s=BASE_S, cached_s=1e-8, token_s=1e-5, pair_s=1e-10)
ROOMY = Policy(budget=2048)
TIGHT = Policy(budget=512, pages=300, page=16)
POLICIES = (ROOMY, TIGHT, replace(TIGHT, reserves=True), replace(TIGHT, mixes=False))
CHAT = Lengths(prompt_tokens=300, output_tokens=100, prompt_cv=0.8, output_cv=0.8)


def mean_and_error(values: NDArray[np.float64]) -> tuple[float, float]:
    """The mean of the means of stretches, and its standard error."""
    means = np.array([stretch.mean() for stretch in np.array_split(values, STRETCHES)])
    return float(means.mean()), float(means.std(ddof=1) / math.sqrt(STRETCHES))


def single_server(service_s: NDArray[np.float64], rate: float, seed: int) -> Outcome:
    """A queue before a machine that works on one request at a time, which is a prompt with an answer of one token."""
    unit = 1e-5 * float(service_s.mean())
    prompt = np.maximum(1, np.rint(service_s / unit)).astype(np.int64)
    arrival = open_loop(rate, len(prompt), Lengths(prompt_tokens=1, output_tokens=1), seed=seed).arrival_s
    traffic = Traffic(arrival_s=arrival, prompt_tokens=prompt, output_tokens=np.ones_like(prompt))
    times = StepTimes(base_s=np.zeros(2), mixed_s=np.zeros(2), cached_s=0.0, token_s=unit, pair_s=0.0)
    return simulate(times, Policy(budget=10**12), traffic)


# --- theory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("load_share", "requests"), [(0.3, 30_000), (0.6, 40_000), (0.85, 80_000)])
def test_even_services_wait_as_long_as_m_d_1_says(load_share: float, requests: int) -> None:
    outcome = single_server(np.full(requests, 2.0), load_share / 2.0, seed=11)
    found, error = mean_and_error(outcome.measure("waiting_s")[requests // 40 :])
    expected = load_share * 2.0 / (2 * (1 - load_share))  # Pollaczek and Khinchine
    assert error < 0.06 * expected
    assert abs(found - expected) < 4 * error
    assert outcome.busy_share == pytest.approx(load_share, rel=0.03)


@pytest.mark.parametrize(("load_share", "requests"), [(0.3, 30_000), (0.6, 40_000), (0.85, 120_000)])
def test_random_services_wait_as_long_as_m_m_1_says(load_share: float, requests: int) -> None:
    service = np.random.default_rng(12).exponential(2.0, requests)
    outcome = single_server(service, load_share / 2.0, seed=13)
    waiting, error = mean_and_error(outcome.measure("waiting_s")[requests // 40 :])
    expected = load_share * 2.0 / (1 - load_share)
    assert error < 0.08 * expected
    assert abs(waiting - expected) < 4 * error
    # The time in the system is exponential with the rate that is left.
    stretches = np.array_split(outcome.measure("e2e_s")[requests // 40 :], STRETCHES)
    for percent in (50, 90, 99):
        values = np.array([np.percentile(stretch, percent) for stretch in stretches])
        error = values.std(ddof=1) / math.sqrt(STRETCHES)
        expected = -math.log(1 - percent / 100) / (0.5 - load_share / 2.0)
        assert error < 0.08 * expected
        assert abs(values.mean() - expected) < 4 * error, percent


def test_the_slowest_hundredth_grows_with_the_load_as_predicted() -> None:
    service = np.random.default_rng(14).exponential(1.0, 60_000)
    slowest = {rate: single_server(service, rate, seed=15).percentile("e2e_s", 99) or 0.0 for rate in (0.2, 0.5, 0.8)}
    # -ln(0.01) / (1 - rate): of 5.76, 9.21 and 23.03 seconds; 60,000 requests give the last to within 15%.
    for rate, found in slowest.items():
        assert found == pytest.approx(-math.log(0.01) / (1 - rate), rel=0.15)


@given(st.integers(0, 2**32), st.integers(1, 60), st.floats(0.1, 5))
@settings(max_examples=60, deadline=None)
def test_one_at_a_time_is_the_recursion_of_lindley(seed: int, requests: int, rate: float) -> None:
    random = np.random.default_rng(seed)
    times = replace(TIMES, base_s=BASE_S[:2], mixed_s=BASE_S[:2])
    traffic = Traffic(arrival_s=random.exponential(1 / rate, requests).cumsum(),
                      prompt_tokens=random.integers(1, 2000, requests),
                      output_tokens=random.integers(1, 90, requests))  # fmt: skip
    found = simulate(times, Policy(budget=10**9), traffic)
    expected = 0.0
    for number in range(requests):
        assert found.measure("waiting_s")[number] == pytest.approx(expected, abs=1e-9)
        if number + 1 < requests:
            taken = found.finish_s[number] - found.admitted_s[number]
            # The service is that of a prompt and of an answer that are alone.
            prompt, more = int(traffic.prompt_tokens[number]), int(traffic.output_tokens[number]) - 1
            decode = more * (times.base_s[1] + times.cached_s * (prompt + (more - 1) / 2))
            assert taken == pytest.approx(times.prompt_s(prompt) + decode, rel=1e-9)
            gap = traffic.arrival_s[number + 1] - traffic.arrival_s[number]
            expected = max(0.0, expected + taken - gap)


# --- conservation ----------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.sampled_from(POLICIES), st.floats(0.5, 40), st.integers(0, 50))
@settings(max_examples=40, deadline=None)
def test_tokens_and_time_are_conserved(seed: int, policy: Policy, rate: float, shared: int) -> None:
    lengths = replace(CHAT, shared_tokens=shared)
    traffic = open_loop(rate, 150, lengths, seed=seed)
    assume(not policy.pages or (traffic.prompt_tokens + traffic.output_tokens).max() <= policy.tokens)
    outcome = simulate(TIMES, policy, traffic, power_w=np.full(33, 250.0), bin_s=1.0)
    assert np.array_equal(outcome.output_tokens, traffic.output_tokens)
    assert np.array_equal(outcome.prompt_tokens, traffic.prompt_tokens)
    assert (outcome.arrival_s <= outcome.admitted_s).all() and (outcome.admitted_s < outcome.first_s).all()
    several = outcome.output_tokens > 1
    assert (outcome.first_s[several] < outcome.finish_s[several]).all()
    assert np.array_equal(outcome.first_s[~several], outcome.finish_s[~several])
    assert (np.diff(outcome.admitted_s) >= 0).all()  # first come, first served
    counts, inside = outcome.counts, outcome.bins[batching.SEQUENCE_S].sum()
    assert counts[batching.ANSWER_TOKENS] == traffic.output_tokens.sum()
    new = int(traffic.prompt_tokens.sum()) - shared * len(traffic)
    again = counts[batching.PROMPT_TOKENS] - new - counts[batching.AGAIN_TOKENS]
    # A sequence that was decoding has its last token, which was in no cache yet, worked on with the others.
    assert 0 <= again <= counts[batching.PREEMPTED]
    if not counts[batching.PREEMPTED]:
        assert counts[batching.PROMPT_TOKENS] == new
        # Little's law: what is in the machine over time is how long each was there.
        assert inside == pytest.approx((outcome.finish_s - outcome.admitted_s).sum(), rel=1e-9)
        through = len(outcome) / outcome.whole_s * (outcome.finish_s - outcome.admitted_s).mean()
        assert outcome.sequences * outcome.busy_share == pytest.approx(through, rel=1e-9)
    else:
        assert policy.pages and inside < (outcome.finish_s - outcome.admitted_s).sum()
    assert outcome.bins[batching.ENERGY_J].sum() == pytest.approx(250 * outcome.whole_s, rel=1e-9)
    assert 0 < outcome.busy_share <= 1 and outcome.sequences <= TIMES.most
    assert policy.pages == 0 or counts[batching.MOST_PAGES] <= policy.pages


def test_answers_that_outgrow_the_cache_together_are_seen() -> None:
    # Ten prompts of 10 tokens have room, their answers of 200 have not: the cache is fullest when they end.
    traffic = Traffic(arrival_s=np.zeros(10), prompt_tokens=np.full(10, 10), output_tokens=np.full(10, 200))
    enough = simulate(TIMES, Policy(budget=512, pages=140, page=16), traffic)
    assert enough.counts[batching.PREEMPTED] == 0 and enough.counts[batching.MOST_PAGES] <= 140
    short = simulate(TIMES, Policy(budget=512, pages=100, page=16), traffic)
    assert short.counts[batching.PREEMPTED] > 0
    assert short.finish_s.max() > enough.finish_s.max()


@given(st.integers(0, 2**32), st.integers(60, 400), st.integers(1, 20), st.booleans())
@settings(max_examples=30, deadline=None)
def test_a_cache_that_is_never_full_is_the_same_with_and_without_its_pages(
    seed: int, pages: int, rate: int, is_closed: bool
) -> None:
    lengths = Lengths(prompt_tokens=60, output_tokens=60, output_cv=0.7)
    traffic = closed_loop(9, 60, lengths, seed=seed) if is_closed else open_loop(rate, 60, lengths, seed=seed)
    policy = Policy(budget=256, pages=pages, page=16)
    assume((traffic.prompt_tokens + traffic.output_tokens).max() <= policy.tokens)
    outcome = simulate(TIMES, policy, traffic, clients=9 if is_closed else 0)
    direct = load._Replica(traffic, 1)
    list(direct.run(TIMES, policy, 9 if is_closed else 0, load.CLIENT_S, np.zeros(33), 1e9))
    assert outcome.finish_s == pytest.approx(np.array(direct.finish), rel=1e-9)
    assert outcome.counts[batching.PREEMPTED] == direct.counts[batching.PREEMPTED]


def test_a_closed_loop_has_its_clients_and_no_more() -> None:
    traffic = closed_loop(6, 300, CHAT, seed=2)
    times = replace(TIMES, start_s=0.3, start_token_s=1e-4, start_steps=1.0)
    outcome = simulate(times, ROOMY, traffic, clients=6, think_s=2.0)
    moments = np.sort(np.concatenate([outcome.arrival_s + 1e-9, outcome.finish_s - 1e-9]))
    waiting = np.searchsorted(np.sort(outcome.arrival_s), moments) - np.searchsorted(np.sort(outcome.finish_s), moments)
    # What a client waits outside of steps is its mean for those who ask again, so that one may come a little early.
    assert waiting.max() <= 7 and waiting.min() >= 0
    # The law of response time of closed loops: clients = rate x (time to the answer + time to ask again).
    there = outcome.after(30)
    assert there.requests_per_s * ((there.mean("e2e_s") or 0.0) + 2.0) == pytest.approx(6, rel=0.03)


def test_what_is_waited_outside_of_steps_is_added_once() -> None:
    plain = simulate(TIMES, ROOMY, open_loop(3.0, 200, CHAT, seed=3))
    times = replace(TIMES, start_s=0.3, start_token_s=1e-4, start_steps=2.0)
    outcome = simulate(times, ROOMY, open_loop(3.0, 200, CHAT, seed=3))
    step_s = (plain.finish_s - plain.first_s) / np.maximum(1, plain.output_tokens - 1)
    delay = 0.3 + 1e-4 * plain.prompt_tokens + 2 * np.where(plain.output_tokens > 1, step_s, TIMES.base_s[1])
    assert outcome.first_s - plain.first_s == pytest.approx(delay)
    assert outcome.measure("tpot_s") == pytest.approx(plain.measure("tpot_s"))
    assert np.array_equal(outcome.admitted_s, plain.admitted_s)


# --- monotony --------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.floats(1.0, 3.0), st.floats(1.0, 3.0))
@settings(max_examples=40, deadline=None)
def test_slower_steps_or_more_load_never_help_one_at_a_time(seed: int, slower: float, quicker: float) -> None:
    # A theorem for a queue with one place: Lindley's recursion grows with services and falls with gaps.
    times, policy = replace(TIMES, base_s=BASE_S[:2], mixed_s=BASE_S[:2]), Policy(budget=10**9)
    traffic = open_loop(0.9, 80, CHAT, seed=seed)
    plain = simulate(times, policy, traffic)
    assert (simulate(times.times(slower), policy, traffic).measure("e2e_s") >= plain.measure("e2e_s") - 1e-9).all()
    denser = simulate(times, policy, traffic.at_rate(traffic.rate * quicker))
    assert (denser.measure("e2e_s") >= plain.measure("e2e_s") - 1e-9).all()


def test_everything_slower_is_the_same_film_played_slower() -> None:
    traffic = open_loop(6.0, 400, CHAT, seed=4)
    slow = simulate(TIMES.times(3), TIGHT, replace(traffic, arrival_s=traffic.arrival_s * 3))
    assert slow.finish_s == pytest.approx(3 * simulate(TIMES, TIGHT, traffic).finish_s, rel=1e-9)


@pytest.mark.parametrize("policy", [ROOMY, TIGHT, replace(TIGHT, mixes=False)])
def test_more_load_slower_steps_and_fewer_replicas_are_slower_on_average(policy: Policy) -> None:
    traffic = open_loop(4.0, 2500, CHAT, seed=5)

    def mean(name: str, rate: float, slower: float = 1.0, replicas: int = 1) -> float:
        found = simulate(TIMES.times(slower), policy, traffic.at_rate(rate), replicas=replicas).after(100).mean(name)
        assert found is not None
        return found

    for name in ("ttft_s", "e2e_s"):
        by_rate = [mean(name, rate) for rate in (2.0, 6.0, 12.0, 30.0)]
        assert by_rate == sorted(by_rate) and by_rate[-1] > 2 * by_rate[0]
        by_step = [mean(name, 6.0, slower=factor) for factor in (1.0, 1.2, 1.5, 2.0)]
        assert by_step == sorted(by_step) and by_step[-1] > 2 * by_step[0]
        by_replicas = [mean(name, 12.0, replicas=replicas) for replicas in (1, 2, 4, 8)]
        assert by_replicas == sorted(by_replicas, reverse=True)


# --- replicas, and loads that are stopped ----------------------------------------------------------------------------


@pytest.mark.parametrize("clients", [0, 7])
@pytest.mark.parametrize("replicas", [1, 2, 3, 5])
def test_replicas_are_as_many_loads_of_their_own(replicas: int, clients: int) -> None:
    traffic = closed_loop(7, 90, CHAT, seed=6) if clients else open_loop(20.0, 90, CHAT, seed=6)
    together = simulate(TIMES, TIGHT, traffic, replicas=replicas, clients=clients)
    alone = [simulate(TIMES, TIGHT, traffic.share(place, replicas), clients=len(range(place, clients, replicas)))
             for place in range(replicas)]  # fmt: skip
    for name in ("arrival_s", "admitted_s", "first_s", "finish_s", "output_tokens"):
        every = np.concatenate([getattr(outcome, name) for outcome in alone])
        assert np.array_equal(np.sort(getattr(together, name)), np.sort(every))
    assert together.counts[: batching.MOST_PAGES] == tuple(
        sum(outcome.counts[kind] for outcome in alone) for kind in range(batching.MOST_PAGES)
    )
    assert together.counts[batching.MOST_PAGES] == max(outcome.counts[batching.MOST_PAGES] for outcome in alone)
    assert together.bins.sum() == pytest.approx(sum(outcome.bins.sum() for outcome in alone))
    assert together.replicas == replicas


def test_replicas_without_a_request_idle() -> None:
    watts = np.array([50.0, *[250.0] * 32])
    traffic = open_loop(1.0, 3, CHAT, seed=7)
    outcome = simulate(TIMES, ROOMY, traffic, replicas=8, power_w=watts)
    assert len(outcome) == 3 and outcome.replicas == 8
    # Each request is alone on its replica: at work from its admission to its last token, the others never.
    at_work = float((outcome.finish_s - outcome.admitted_s).sum())
    assert outcome.whole_s == max(3.0, outcome.finish_s.max())
    assert outcome.busy_share == pytest.approx(at_work / (8 * outcome.whole_s))
    joules = 50 * (8 * outcome.whole_s - at_work) + 250 * at_work
    assert outcome.power_w == pytest.approx(joules / outcome.whole_s / 8)


class Stop:
    """Interrupts when so many requests have ended."""

    def __init__(self, when: int) -> None:
        self.when, self.told = when, [0]

    def __call__(self, ended: int, total: int) -> None:
        assert self.told[-1] <= ended <= total
        self.told.append(ended)
        if ended >= self.when:
            raise KeyboardInterrupt


@pytest.mark.parametrize("policy", [ROOMY, replace(TIGHT, pages=2000)])
def test_a_load_that_is_stopped_keeps_what_ended(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "BLOCK", 10)
    traffic = open_loop(5.0, 300, CHAT, seed=8)
    whole, stopped = simulate(TIMES, policy, traffic), simulate(TIMES, policy, traffic, progress=Stop(100))
    assert stopped.is_stopped and not whole.is_stopped
    assert 100 <= len(stopped) < 150
    assert (stopped.finish_s > stopped.arrival_s).all()
    for name in ("admitted_s", "first_s", "finish_s"):
        of_arrival = dict(zip(whole.arrival_s, getattr(whole, name), strict=True))
        assert [of_arrival[arrival] for arrival in stopped.arrival_s] == list(getattr(stopped, name))
    # Those that had not ended yet were in the machine too.
    assert stopped.bins[batching.SEQUENCE_S].sum() >= (stopped.finish_s - stopped.admitted_s).sum() - 1e-9
    assert stopped.busy_share == pytest.approx(whole.busy_share, rel=0.2)


def test_replicas_that_were_done_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "BLOCK", 10)
    traffic = open_loop(20.0, 300, CHAT, seed=9)
    stopped = simulate(TIMES, ROOMY, traffic, replicas=4, progress=Stop(170))
    assert stopped.is_stopped and stopped.replicas == 2 and len(stopped) == 150
    whole = [simulate(TIMES, ROOMY, traffic.share(place, 4)) for place in range(2)]
    assert np.array_equal(np.sort(stopped.finish_s), np.sort(np.concatenate([one.finish_s for one in whole])))


def test_a_load_that_is_stopped_at_once_has_no_outcome(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(load._Replica, "__init__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        simulate(TIMES, ROOMY, open_loop(1.0, 3, CHAT, seed=1))


def test_progress_ends_with_all_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "BLOCK", 7)
    told: list[tuple[int, int]] = []
    simulate(TIMES, ROOMY, open_loop(9.0, 100, CHAT, seed=1), replicas=3, progress=lambda *now: told.append(now))
    assert told[-1] == (100, 100) and [ended for ended, _ in told] == sorted(ended for ended, _ in told)


# --- outcomes --------------------------------------------------------------------------------------------------------


def test_the_first_requests_can_be_left_out() -> None:
    whole = simulate(TIMES, ROOMY, open_loop(2.0, 400, CHAT, seed=1))
    later = whole.after(100)
    assert len(later) == 300 and later.left_out == 100
    assert np.array_equal(later.measure("e2e_s"), whole.measure("e2e_s")[100:])
    assert later.busy_share == whole.busy_share
    # The load goes on: its last answers are no longer than others, and are followed by others.
    between = max(np.ptp(later.arrival_s), np.ptp(later.finish_s))
    assert later.requests_per_s == pytest.approx(300 / between)
    assert later.output_tokens_per_s == pytest.approx(later.output_tokens.sum() / between)
    assert whole.requests_per_s == pytest.approx(400 / max(200.0, whole.finish_s.max()))


def test_an_interrupt_is_no_outcome_where_it_would_be_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "BLOCK", 10)
    with pytest.raises(KeyboardInterrupt):
        simulate(TIMES, ROOMY, open_loop(5.0, 300, CHAT, seed=8), progress=Stop(100), is_stoppable=False)


def test_measures_of_requests_by_hand() -> None:
    # Steps of prompts take 0.005 + 0.001 s, of one sequence 0.01 s, and the cache adds nothing.
    times = StepTimes(
        base_s=np.array([0.005, 0.01]), mixed_s=np.array([0.005, 0.01]), cached_s=0.0, token_s=1e-5, pair_s=0.0
    )
    traffic = Traffic(arrival_s=np.array([0.0, 0.01]), prompt_tokens=np.full(2, 100), output_tokens=np.array([3, 1]))
    outcome = simulate(times, Policy(budget=512), traffic)
    assert outcome.measure("waiting_s") == pytest.approx([0.0, 0.016])
    assert outcome.measure("ttft_s") == pytest.approx([0.006, 0.022])
    assert outcome.measure("tpot_s") == pytest.approx([0.01])
    assert outcome.measure("e2e_s") == pytest.approx([0.026, 0.022])
    assert outcome.percentile("e2e_s", 50) == pytest.approx(0.024)
    assert outcome.busy_share == 1.0 and outcome.sequences == pytest.approx(1.0)
    one = simulate(times, Policy(budget=512), traffic.share(1, 2))
    assert one.mean("tpot_s") is None and one.percentile("tpot_s", 99) is None


def test_what_cannot_be_is_refused() -> None:
    traffic = open_loop(1.0, 20, CHAT, seed=1)
    longest = int((traffic.prompt_tokens + traffic.output_tokens).max())
    refused: list[dict[str, object]] = [
        {"policy": Policy(budget=512, pages=longest - 1)}, {"policy": Policy(budget=32)},
        {"policy": Policy(budget=0, mixes=False)}, {"replicas": 0}, {"clients": -1}, {"clients": 2, "replicas": 3},
        {"think_s": -1.0}, {"think_s": math.nan}, {"traffic": replace(traffic, shared_tokens=traffic.prompt_tokens)},
        {"traffic": replace(traffic, shared_tokens=10**6)},
    ]  # fmt: skip
    for wrong in refused:
        with pytest.raises(UnitError):
            simulate(TIMES, **{"policy": ROOMY, "traffic": traffic, **wrong})  # type: ignore[arg-type]
    simulate(TIMES, Policy(budget=512, pages=longest), traffic)
