"""Is a plan under a load what its simulation says: stable or not, within its limits, at what cost?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weighbridge.errors import ConfigError, UnitError
from weighbridge.load_curve import curve, knee
from weighbridge.load_engine import HABITS, engine
from weighbridge.loading import Load, load
from weighbridge.predict import batching
from weighbridge.predict.availability import Failures
from weighbridge.predict.traffic import Lengths, Traffic
from weighbridge.service_level import Limit, limits

CHAT = Lengths(prompt_tokens=512, output_tokens=128, prompt_cv=1.0, output_cv=0.8)
ASKED: dict[str, Any] = {"source": "llama-3.1-8b", "on": "h100-sxm", "lengths": CHAT}


@pytest.fixture(scope="module")
def busy() -> Load:
    return load(**ASKED, rate=100.0, limits=[Limit("ttft", 2.0), Limit("tpot", 0.05)])


def test_replicas_that_a_rate_takes_keep_the_limits_and_one_fewer_does_not(busy: Load) -> None:
    assert busy.is_met and busy.is_stable and busy.capacity is not None and busy.capacity.value is not None
    assert busy.replicas == int(np.ceil(100.0 / busy.capacity.value))
    fewer = load(**ASKED, rate=100.0, replicas=busy.replicas - 2, limits=busy.limits)
    assert fewer.is_met is False or not fewer.is_stable


def test_bounds_lie_around_their_values_and_percentiles_rise(busy: Load) -> None:
    for found in busy.latency.values():
        values = [found[name].value for name in ("p50", "p90", "p95", "p99")]
        assert None not in values and values == sorted(values)  # type: ignore[type-var]
        for one in found.values():
            assert one.low is not None and one.value is not None and one.high is not None
            assert one.low <= one.value <= one.high
    ttft = busy.latency["ttft_s"]["p95"]
    assert ttft.high is not None and ttft.value is not None and ttft.high > 1.3 * ttft.value


def test_money_is_price_over_what_was_served(busy: Load) -> None:
    device = busy.engine.plan.machine.device
    assert device.price_usd_per_h is not None
    hour = device.price_usd_per_h * busy.replicas
    cost = busy.cost()
    assert cost["usd_per_hour"].value == pytest.approx(hour) and cost["usd_per_day"].value == pytest.approx(24 * hour)
    assert cost["usd_per_request"].value == pytest.approx(hour / 3600 / busy.requests_per_s)
    tokens = busy.traffic.output_tokens.mean()
    million = cost["usd_per_million_output_tokens"].value
    assert million == pytest.approx(1e6 * hour / 3600 / busy.requests_per_s / tokens, rel=0.01)


def test_energy_is_power_over_what_was_served(busy: Load) -> None:
    energy, machine = busy.energy(), busy.engine.plan.machine
    power = energy["average_power_w"]
    assert power.value is not None and machine.device.tdp_w is not None
    assert 0.2 * machine.device.tdp_w < power.value / busy.replicas <= machine.device.tdp_w
    request, day = energy["j_per_request"].value, energy["kwh_per_day"].value
    assert request == pytest.approx(power.value / busy.requests_per_s)
    assert day == pytest.approx(power.value * 24 / 1000)
    # What was counted while simulating: idle and busy time at their own power, and nothing else.
    outcome = busy.outcome
    assert power.value == pytest.approx(
        outcome.bins[batching.ENERGY_J].sum() / outcome.whole_s / outcome.replicas * busy.replicas
    )


def test_an_overload_is_told() -> None:
    found = load(**ASKED, rate=100.0, replicas=1)
    assert not found.is_stable and found.of_bearable > 1
    assert any("more than 1 replica can bear" in note for note in found.notes)


def test_limits_that_nobody_keeps() -> None:
    found = load(**ASKED, rate=1.0, limits=[Limit("ttft", 1e-4)])
    assert found.is_met is False and found.held(found.limits[0]) == "no"
    assert found.capacity is not None and found.capacity.value == 0
    assert any("no number of replicas meets the limits" in note for note in found.notes)


def test_a_load_that_is_stopped_counts_what_its_replicas_did(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load(**ASKED, rate=40.0, replicas=4)

    def stop(ended: int, total: int) -> None:
        if ended > 0.6 * total:
            raise KeyboardInterrupt

    monkeypatch.setattr("weighbridge.predict.load.BLOCK", 500)
    found = load(**ASKED, rate=40.0, replicas=4, progress=stop)
    assert found.outcome.is_stopped and found.outcome.replicas == 2 and found.replicas == 4
    assert any(note.startswith("stopped after 10,000 of 20,000 requests, on 2 of 4") for note in found.notes)
    assert found.requests_per_s == pytest.approx(whole.requests_per_s, rel=0.1)
    assert found.cost()["usd_per_request"].value == pytest.approx(whole.cost()["usd_per_request"].value, rel=0.1)
    assert found.energy()["j_per_request"].value == pytest.approx(whole.energy()["j_per_request"].value, rel=0.1)


def test_a_closed_loop_obeys_its_law() -> None:
    found = load("llama-3.1-8b", "h100-sxm", clients=32, lengths=CHAT, think_s=2.0)
    there = found.latency["e2e_s"]["mean"].value
    assert there is not None and found.requests_per_s * (there + 2.0) == pytest.approx(32, rel=0.05)
    assert found.is_stable and found.hours() == []


def test_the_hours_of_a_day_add_up() -> None:
    found = load(**ASKED, rate=1.0, duration_s=86_400, peak=2.0)
    hours = found.hours()
    assert len(hours) == 24 and hours[0]["start_s"] == 0
    assert sum(hour["requests_per_s"] for hour in hours) * 3600 == pytest.approx(86_400, rel=0.01)
    rates = [hour["requests_per_s"] for hour in hours]
    assert 10 <= int(np.argmax(rates)) <= 13 and max(rates) == pytest.approx(2.0, rel=0.1)


def test_the_curve_rises_and_its_knee_lies_on_it(busy: Load) -> None:
    points = curve(busy, points=6)
    e2e = [point.seconds["e2e_s"]["p95"] for point in points]
    assert e2e == sorted(e2e) and busy.bearable.value is not None
    costs = [point.usd_per_million_output_tokens or 0.0 for point in points]
    assert costs == sorted(costs, reverse=True)
    bend = knee(points)
    assert bend is not None and points[0].requests_per_s < bend <= busy.bearable.value


def test_spares() -> None:
    """Three of 4 devices at 0.99: a replica works 0.960596 of the time, all three 0.886385; two spares give 0.9994."""
    found = Failures.of(3, 4, 0.99, 0.999)
    assert found.replica == pytest.approx(0.96059601) and found.enough == pytest.approx(0.96059601**3)
    assert found.spares == 2
    asked = load(**ASKED, rate=100.0, replicas=3, availability=0.99)
    assert asked.failures is not None and asked.failures.device == asked.failures.replica == 0.99


def test_a_log_is_its_own_lengths_and_times() -> None:
    traffic = Traffic(arrival_s=np.array([0.0, 1.0, 5.0]), prompt_tokens=np.array([100, 4000, 20]),
                      output_tokens=np.array([10, 200, 1]))  # fmt: skip
    found = load("llama-3.1-8b", "h100-sxm", traffic=traffic)
    assert found.engine.plan.service.context_tokens == 4200 and len(found.outcome) == 3
    assert found.outcome.admitted_s.tolist() == pytest.approx([0.0, 1.0, 5.0])


def test_limits_are_read() -> None:
    assert limits("ttft=2s, tpot=50ms,e2e=10s") == [Limit("ttft", 2.0), Limit("tpot", 0.05), Limit("e2e", 10.0)]
    for text in ("", "ttft", "ttft=2", "ttft=2s,ttft=3s", "itl=2s", "ttft=0s", "ttft=-1s", "ttft=2s;tpot=1s"):
        with pytest.raises(UnitError):
            limits(text)


@pytest.mark.parametrize("options", [
    {}, {"rate": 1.0, "clients": 2}, {"rate": 0.0}, {"rate": float("nan")}, {"rate": 1.0, "replicas": 0},
    {"rate": 1.0, "percent": 100.0}, {"rate": 1.0, "duration_s": 0.0}, {"clients": 0},
    {"rate": 1.0, "peak": 0.5}, {"rate": 1.0, "availability": 1.5}, {"rate": 1e6, "duration_s": 1e6},
])  # fmt: skip
def test_loads_that_cannot_be(options: dict[str, Any]) -> None:
    with pytest.raises(UnitError):
        load(**ASKED, **options)


def test_models_and_engines_without_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="batches continuously"):
        engine("llama-3.1-8b", "h100-sxm", CHAT, runtime="transformers")
    with pytest.raises(ConfigError, match="does not generate"):
        engine("bert-base-uncased", "h100-sxm", CHAT)


def test_every_habit_is_of_an_engine_that_is_known() -> None:
    from weighbridge.predict.service import RUNTIMES

    assert set(HABITS) <= set(RUNTIMES)
    assert all(habit.step_tokens > 1 and habit.sequences >= 1 for habit in HABITS.values())


def test_a_log_from_a_file(tmp_path: Path) -> None:
    from weighbridge.traffic_log import read

    path = tmp_path / "log.csv"
    path.write_text("arrival_s,prompt_tokens,output_tokens\n0,100,10\n2,100,10\n4,100,10\n")
    found = load("llama-3.1-8b", "h100-sxm", traffic=read(path))
    assert len(found.outcome) == 3 and found.traffic.prompt_tokens.tolist() == [100, 100, 100]


def test_notes_are_of_loads_and_not_of_single_requests() -> None:
    """Closed loops of vLLM were measured on H200 and not on A100: the interval and the note agree, both ways."""
    known, stranger = engine("llama-3.1-8b", "h200-sxm", CHAT), engine("llama-3.1-8b", "a100-sxm-80", CHAT)
    assert not any("intervals are wider" in note for note in known.notes)
    assert "no loads of vllm on NVIDIA A100 SXM 80 GB were measured: intervals are wider" in stranger.notes
    assert stranger.spread["tpot"][1] > 1.5 * known.spread["tpot"][1]


def test_an_answer_takes_no_less_than_its_first_token() -> None:
    found = load("llama-3.1-8b", "h100-sxm", clients=1000)
    for key, whole in found.latency["e2e_s"].items():
        part = found.latency["ttft_s"][key]
        assert whole.high is not None and part.high is not None and part.high <= whole.high
    assert any("clients march in step" in note for note in found.notes)


def test_a_load_that_is_stopped_at_its_beginning_keeps_no_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(ended: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("weighbridge.predict.load.BLOCK", 500)
    found = load(**ASKED, rate=1.0, duration_s=86_400, peak=2.0, limits=[Limit("ttft", 2.0)], progress=stop)
    assert found.is_beginning and found.is_met is None and found.held(found.limits[0]) == "yes"
    assert any(note.startswith("only the beginning of the load was simulated") for note in found.notes)
