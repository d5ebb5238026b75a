"""Do intervals cover what they say, and do false alarms stay as rare as promised? Simulated, with fixed seeds."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from weighbridge.prove import intervals
from weighbridge.prove.comparison import Pairs, Rule, compare
from weighbridge.prove.metrics import METRICS

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
RUNS = 400
SLACK = 3 * math.sqrt(0.05 * 0.95 / RUNS)
"""Three standard errors of a share of 5% over so many runs."""


def difference(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((sums[..., 1] - sums[..., 0]) / sums[..., 2])


def perplexities(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.exp(sums[..., 1] / sums[..., 2]) - np.exp(sums[..., 0] / sums[..., 2]))


def normal(random: np.random.Generator, n: int) -> NDArray[np.float64]:
    base = random.normal(0, 1, n)
    return np.column_stack([base, base + 0.1 + random.normal(0, 0.3, n), np.ones(n)])


def skewed(random: np.random.Generator, n: int) -> NDArray[np.float64]:
    base = random.normal(0, 1, n)
    return np.column_stack([base, base + random.exponential(1, n) - 1, np.ones(n)])


def texts(random: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Losses of texts of very different lengths: 3 nats a token, and 3.05."""
    tokens = random.integers(20, 400, n).astype(float)
    base = 3 * tokens + random.normal(0, 2, n) * np.sqrt(tokens)
    return np.column_stack([base, base + 0.05 * tokens + random.normal(0, 0.5, n) * np.sqrt(tokens), tokens])


@pytest.mark.parametrize(
    ("draw", "effect", "truth"),
    [(normal, difference, 0.1), (skewed, difference, 0.0), (texts, perplexities, math.exp(3.05) - math.exp(3))],
    ids=["normal", "skewed", "texts"],
)
def test_bootstrap_intervals_cover(draw: Draw, effect: intervals.Effect, truth: float) -> None:
    random, inside = np.random.default_rng(11), 0
    for seed in range(RUNS):
        (found,) = intervals.bootstrap(draw(random, 60), [effect], 0.95, seed)
        inside += found.low <= truth <= found.high
    assert 0.95 - SLACK < inside / RUNS < 0.95 + SLACK


@pytest.mark.parametrize(("n", "both", "lost", "won"), [(100, 0.6, 0.1, 0.1), (400, 0.85, 0.05, 0.02)])
def test_intervals_of_answers_cover(n: int, both: float, lost: float, won: float) -> None:
    random, inside = np.random.default_rng(5), 0
    for _ in range(4 * RUNS):
        kind = random.choice(4, n, p=[both, lost, won, 1 - both - lost - won])
        base, candidate = ((kind == 0) | (kind == 1)) * 1.0, ((kind == 0) | (kind == 2)) * 1.0
        found = intervals.paired_shares(base, candidate, np.arange(n), 0.95)
        inside += found.low <= won - lost <= found.high
    assert 0.93 < inside / (4 * RUNS) < 0.97


def answers(random: np.random.Generator, n: int, lost: float, won: float) -> Pairs:
    kind = random.choice(3, n, p=[1 - lost - won, lost, won])
    base = np.where(kind == 0, random.random(n) < 0.8, kind == 1) * 1.0
    candidate = np.where(kind == 0, base, kind == 2) * 1.0
    ones = np.ones(n)
    return Pairs(METRICS["acc"], np.column_stack([base, ones]), np.column_stack([candidate, ones]), np.arange(n))


def test_a_model_against_its_equal_rarely_raises_an_alarm() -> None:
    """A thousand comparisons of equals, without a margin: at most 5% are called better or worse."""
    random, alarms = np.random.default_rng(2), 0
    for _ in range(1000):
        alarms += compare(answers(random, 300, 0.05, 0.05), Rule()).verdict in ("better", "worse")
    assert alarms / 1000 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 1000)


def test_equal_losses_rarely_raise_an_alarm() -> None:
    random, alarms = np.random.default_rng(3), 0
    for seed in range(RUNS):
        drawn = skewed(random, 80)
        pairs = Pairs(METRICS["perplexity"], -drawn[:, (0, 2)], -drawn[:, (1, 2)], np.arange(80))
        alarms += compare(pairs, Rule(seed=seed)).verdict in ("better", "worse")
    assert alarms / RUNS <= 0.05 + SLACK


def test_clusters_that_move_together_widen_the_interval() -> None:
    """Ten answers of a document that all flip together tell as much as one."""
    random, inside, narrow = np.random.default_rng(4), 0, 0
    for _ in range(RUNS):
        kind = np.repeat(random.choice(3, 60, p=[0.8, 0.1, 0.1]), 10)
        base, candidate = (kind != 2) * 1.0, (kind != 1) * 1.0
        clusters = np.repeat(np.arange(60), 10)
        found = intervals.paired_shares(base, candidate, clusters, 0.95)
        inside += found.low <= 0 <= found.high
        alone = intervals.paired_shares(base, candidate, np.arange(600), 0.95)
        narrow += alone.low <= 0 <= alone.high
    assert inside / RUNS > 0.95 - SLACK
    assert narrow / RUNS < 0.8


def test_no_flip_in_ten_answers_proves_little() -> None:
    right = np.ones(10)
    found = intervals.paired_shares(right, right, np.arange(10), 0.95)
    assert found.value == 0
    assert found.low < -0.2
    many = intervals.paired_shares(np.ones(1000), np.ones(1000), np.arange(1000), 0.95)
    assert -0.006 < many.low < 0


def test_looking_often_does_not_raise_more_alarms() -> None:
    """At a hundred looks while data arrive, intervals for one look miss the truth far more often than they say."""
    random, always, once = np.random.default_rng(6), 0, 0
    for _ in range(RUNS):
        seen = random.normal(0, 1, 2000)
        looks = range(20, 2001, 20)
        errors = [(seen[:n].mean(), seen[:n].std(ddof=1) / math.sqrt(n), n) for n in looks]
        bounds = [intervals.anytime(mean, error, n, 0.95) for mean, error, n in errors]
        always += any(not found.low <= 0 <= found.high for found in bounds)
        once += any(abs(mean) > 1.96 * error for mean, error, _ in errors)
    assert always / RUNS <= 0.05 + SLACK
    assert once / RUNS > 0.2


def test_as_many_examples_as_asked_for_settle_it() -> None:
    """A loss of 4 points beyond a margin of 2 is open on a few examples; with those asked for most runs find it."""
    random, asked, settled = np.random.default_rng(7), [], 0
    for _ in range(60):
        found = compare(answers(random, 200, 0.06, 0.02), Rule(margin=0.02))
        if found.needed:
            asked.append(found.needed)
    typical = intervals.power_of(0.02, math.sqrt((0.08 - 0.0016) / 200), 200, 0.95)
    assert typical is not None
    assert 0.4 * typical < float(np.median(asked)) < 2.5 * typical
    for _ in range(RUNS):
        settled += compare(answers(random, typical, 0.06, 0.02), Rule(margin=0.02)).verdict == "worse"
    assert 0.72 < settled / RUNS < 0.88


def test_more_clusters_than_are_drawn_have_the_interval_of_the_jackknife() -> None:
    drawn = normal(np.random.default_rng(8), intervals.MOST_CLUSTERS + 1)
    many, few = (intervals.bootstrap(part, [difference], 0.95, 0)[0] for part in (drawn, drawn[:-1]))
    assert many.low == pytest.approx(few.low, abs=0.001)
    assert many.high == pytest.approx(few.high, abs=0.001)


def test_one_document_says_nothing_of_others() -> None:
    (found,) = intervals.bootstrap(np.array([[1.0, 2.0, 1.0]]), [difference], 0.95, 0)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_the_same_seed_gives_the_same_interval() -> None:
    drawn = skewed(np.random.default_rng(9), 50)
    first, again, other = (intervals.bootstrap(drawn, [difference], 0.95, seed)[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("clusters", [3, 4, 5, 6, 9, 12])
@pytest.mark.parametrize("outlier", [-9.0, 9.0])
def test_few_clusters_and_an_outlier_do_not_turn_the_interval_around(clusters: int, outlier: float) -> None:
    values = np.array([*(0.01 * place for place in range(clusters - 1)), outlier])
    counts = np.column_stack([np.zeros(clusters), values, np.ones(clusters)])
    for confidence in (0.95, 0.9975, 0.9999):
        (found,) = intervals.bootstrap(counts, [difference], confidence, 0)
        assert found.low <= found.value <= found.high
        if clusters < intervals.FEWEST_DRAWN:
            assert found.low < 0 < found.high


def test_slices_of_few_examples_keep_their_confidence() -> None:
    random, inside = np.random.default_rng(12), 0
    for seed in range(RUNS):
        values = random.lognormal(0, 1, 5) - math.exp(0.5)
        counts = np.column_stack([np.zeros(5), values, np.ones(5)])
        (found,) = intervals.bootstrap(counts, [difference], 0.9975, seed)
        inside += found.low <= 0 <= found.high
    assert inside / RUNS > 0.93  # of a very skewed metric; it was 0.84
