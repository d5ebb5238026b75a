"""Are the loads of whole services what was asked for: as many replicas as keep the limits, and all of their money?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from weighbridge.errors import UnitError
from weighbridge.loading import Load, load
from weighbridge.predict import load as simulation
from weighbridge.predict.traffic import Lengths, Traffic, open_loop
from weighbridge.service_level import Limit

MODEL, DEVICE = "llama-3.1-8b", "h100-sxm"
LIMITS = [Limit("ttft", 2.0), Limit("tpot", 0.05)]


def served(**asked: Any) -> Load:
    """A load of the same plan."""
    return load(MODEL, DEVICE, **asked)


def test_many_replicas_are_each_as_busy_as_few() -> None:
    few, many = (served(rate=30.0 * replicas, replicas=replicas) for replicas in (4, 1000))
    # The sample is of some replicas, long enough to be in balance, and the numbers are of all.
    assert many.outcome.replicas < 10 and many.rate == 30_000 and few.rate == 120
    assert many.requests_per_s == pytest.approx(30_000, rel=0.02)
    assert many.rate_of_one == few.rate_of_one == 30
    assert many.outcome.sequences == pytest.approx(few.outcome.sequences, rel=0.15)
    each, all_ = few.cost()["usd_per_million_output_tokens"].value, many.cost()["usd_per_million_output_tokens"].value
    assert each is not None and all_ == pytest.approx(each, rel=0.02)
    watts, joules = many.energy()["average_power_w"].value, many.energy()["j_per_request"].value
    assert watts is not None and joules == pytest.approx(watts / many.requests_per_s)
    assert watts < 1000 * 700


@pytest.mark.parametrize("rate", [20.0, 33.2, 120.0, 400.0, 5000.0])
def test_the_replicas_that_were_found_keep_the_limits(rate: float) -> None:
    found = served(rate=rate, limits=LIMITS)
    assert found.is_met and found.is_stable and found.rate == rate
    assert found.capacity is not None and found.capacity.value is not None
    assert found.replicas >= math.ceil(rate / found.capacity.value)


def test_replicas_are_for_the_peak_however_little_of_the_day_is_simulated() -> None:
    hour, day = (served(rate=20.0, duration_s=seconds, peak=3.0, limits=LIMITS) for seconds in (3600.0, 86_400.0))
    assert hour.replicas == day.replicas == 2
    assert hour.rate < 10 and day.rate == pytest.approx(20.0, rel=1e-6)
    # The night is part of the day: what was used in it, over all of it.
    alone = served(rate=1.0, duration_s=86_400.0, peak=24.0)
    assert alone.requests_per_s == pytest.approx(1.0, rel=0.001) and len(alone.hours()) == 24
    assert not any("less than a day" in note for note in alone.notes)


def test_a_log_has_replicas_for_its_busiest_hour() -> None:
    quiet = open_loop(0.2, 720, Lengths(prompt_tokens=512, output_tokens=128), seed=1)
    busy = open_loop(50.0, 180_000, Lengths(prompt_tokens=512, output_tokens=128), seed=2)
    assert served(rate=50.0, limits=LIMITS).replicas == 2
    both = [np.concatenate([getattr(quiet, name), getattr(busy, name)]) for name in ("prompt_tokens", "output_tokens")]
    arrival = np.concatenate([quiet.arrival_s, 3600 + busy.arrival_s])
    log = Traffic(arrival_s=arrival, prompt_tokens=both[0], output_tokens=both[1])
    found = served(traffic=log, limits=LIMITS)
    assert found.rate < 26 and found.replicas == 2 and found.is_met
    # The second half of a log whose beginning has short prompts counts too.
    longer = replace(log, prompt_tokens=np.where(np.arange(len(log)) < 90_000, 64, 1024))
    short = replace(log, prompt_tokens=np.full(len(log), 64))
    most, less = (served(traffic=one, replicas=2).bearable.value for one in (short, longer))
    assert most is not None and less is not None and less < 0.7 * most


def test_what_was_stopped_costs_as_much_for_each_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "BLOCK", 100)

    def stop(ended: int, total: int) -> None:
        if ended > total / 2:
            raise KeyboardInterrupt

    asked: dict[str, Any] = {"rate": 80.0, "replicas": 4, "duration_s": 900.0}
    whole, stopped = served(**asked), served(**asked, progress=stop)
    assert stopped.outcome.is_stopped and stopped.outcome.replicas < 4
    assert stopped.requests_per_s == pytest.approx(whole.requests_per_s, rel=0.02)
    for found, expected in ((stopped.cost(), whole.cost()), (stopped.energy(), whole.energy())):
        for name, one in found.items():
            assert one.value == pytest.approx(expected[name].value, rel=0.03), name


def test_an_answer_of_one_token_breaks_no_limit_between_tokens() -> None:
    found = served(rate=10.0, lengths=Lengths(prompt_tokens=512, output_tokens=1), limits=LIMITS)
    assert found.latency["tpot_s"]["p95"].value is None and found.is_met


@pytest.mark.parametrize("asked", [
    {"rate": 1.0, "think_s": 3.0}, {"clients": 3, "duration_s": 60.0}, {"clients": 3, "burstiness": 0.5},
    {"clients": 3, "peak": 2.0}, {"rate": 1.0, "peak": 2.0}, {"rate": 1.0, "seed": -1}, {"rate": 1e12},
    {"rate": 1.0, "replicas": 10**8}, {"rate": 1.0, "max_sequences": 0}, {"rate": 1.0, "step_tokens": 0},
    {"rate": 1.0, "step_tokens": 128}, {"rate": 1e9, "duration_s": 1e300, "replicas": 1},
])  # fmt: skip
def test_what_would_be_ignored_or_never_end_is_refused(asked: dict[str, Any]) -> None:
    with pytest.raises(UnitError):
        served(**asked)
