"""Hours, days and failures of a whole run, by hand and against published ones."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis
from weighbridge.hardware.catalogue import find_device
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.schedule import (
    MTBF_H,
    checkpoint_interval_h,
    days_of,
    hours,
    hours_of_size,
    implied_mfu,
    interruptions,
    lost_share,
    never_measured,
    usual_run,
    work_of_size,
)
from weighbridge.predict.training.step_time import fits, step_time


def described(source: str) -> Architecture:
    found = inspect(source).architecture
    assert isinstance(found, Architecture)
    return found


def test_days_of_stated_hours() -> None:
    """1.7 million hours on 2,000 devices and on 256."""
    assert days_of(1.7e6, 2000) == pytest.approx(35.4, abs=0.05)
    assert days_of(1.7e6, 256) == pytest.approx(276.7, abs=0.05)


def test_hours_that_no_device_could_meet_are_refused() -> None:
    """Llama 2 70B in 1,720,320 hours of A100 is 43.5%; in a tenth of these it would be 4.35 times the peak."""
    flops = 6 * 70e9 * 2e12
    assert implied_mfu(flops, 1_720_320, 312e12) == pytest.approx(0.435, abs=0.001)
    with pytest.raises(UnitError, match=r"4\.35 of 3\.12e\+14"):
        implied_mfu(flops, 172_032, 312e12)
    with pytest.raises(UnitError, match="at least 747,863 device-hours"):
        implied_mfu(flops, 172_032, 312e12)
    with pytest.raises(UnitError):
        implied_mfu(flops, 0, 312e12)
    assert not never_measured(0.6) and never_measured(0.71)


def test_hours_are_steps_times_their_time_and_what_runs_take_beyond() -> None:
    run = Run(sequence_tokens=2048, micro_batch=4, global_batch=2048, layout=Layout(data=512, zero=3))
    step = step_time(described("llama-2-7b"), run, find_device("a100-sxm-80"))
    whole = hours(step, run, 2e12)
    assert whole.steps == math.ceil(2e12 / (2048 * 2048))
    assert step.seconds.value is not None and whole.device_hours.value is not None
    bare = step.seconds.value * 2e12 / (2048 * 2048) * 512 / 3600
    assert whole.device_hours.value == pytest.approx(bare * fits()["whole"]["factor"])
    assert whole.days.value == pytest.approx(whole.device_hours.value / 512 / 24)
    assert step.mfu.value is not None
    assert whole.mfu.value == pytest.approx(step.mfu.value / fits()["whole"]["factor"])
    assert whole.device_hours.low is not None and whole.device_hours.high is not None
    assert whole.device_hours.low < whole.device_hours.value < whole.device_hours.high


def test_published_hours_of_runs_lie_in_the_interval() -> None:
    """LLaMA 33B: 530,432 hours (arXiv:2302.13971, table 15); Pythia 6.9B: 33,500 (arXiv:2304.01373, table 5)."""
    for source, tokens, device, devices, stated in (
        ("llama-33b", 1.4e12, "a100-sxm-80", 2048, 530_432), ("pythia-6.9b", 299.893e9, "a100-sxm-40", 128, 33_500),
    ):  # fmt: skip
        run = usual_run(devices, 2048)
        found = hours(step_time(described(source), run, find_device(device)), run, tokens).device_hours
        assert found.low is not None and found.high is not None and found.value is not None
        assert found.low < stated < found.high
        assert found.value == pytest.approx(stated, rel=0.3)


def test_a_size_alone_is_near_to_its_shape_and_less_sure() -> None:
    run = usual_run(256, 2048)
    device = find_device("a100-sxm-80")
    shaped = step_time(described("llama-13b"), run, device)
    sized, whole = hours_of_size(13.016e9, 1e12, device, 256)
    assert shaped.seconds.value is not None and sized.seconds.value is not None
    assert sized.seconds.value == pytest.approx(shaped.seconds.value, rel=0.05)

    def width(found: object) -> float:
        return math.log(found.high / found.low)  # type: ignore[attr-defined]

    assert width(sized.seconds) > width(shaped.seconds)
    assert whole.device_hours.basis is Basis.MODELLED


def test_a_size_that_is_none_is_refused() -> None:
    with pytest.raises(UnitError, match="1e\\+09 parameters, of which a token uses 2e\\+09"):
        work_of_size(1e9, 2048, active=2e9)
    with pytest.raises(UnitError):
        hours_of_size(1e9, 0, find_device("h100-sxm"), 8)


def test_the_best_checkpoint_interval_loses_the_least() -> None:
    """Young 1974: 60 s each and 3 hours between failures are sqrt(2 x 1/60 x 3) = 0.316 hours."""
    best = checkpoint_interval_h(60, 3)
    assert best == pytest.approx(math.sqrt(0.1))
    least = lost_share(60, 0, 3)
    assert least == pytest.approx(1 / 60 / best + best / 2 / 3)
    assert all(1 / 60 / other + other / 2 / 3 > least for other in (best / 2, best * 0.9, best * 1.1, best * 2))


def test_interruptions_of_the_cluster_that_they_are_from() -> None:
    """Llama 3 405B: 419 unexpected interruptions in 54 days on 16,384 devices, and over 90% of the time effective."""
    assert MTBF_H[1] == pytest.approx(54 * 24 * 16384 / 419, abs=1)
    found = interruptions(16_384, 54)
    assert found.number.value == pytest.approx(419, abs=0.1)
    assert found.lost.low is not None and found.lost.low < 0.1
    assert found.number.basis is Basis.ASSUMED
    one = interruptions(1, 54)
    assert one.lost.value is not None and found.lost.value is not None and one.lost.value < found.lost.value / 10
    assert interruptions(8, 1, mtbf_h=80.0).number.value == pytest.approx(2.4)


DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "perf" / "training.csv"


@pytest.mark.skipif(not DATA.exists(), reason="the collected measurements are not beside this checkout")
def test_hours_of_published_runs_are_nearer_than_a_flat_share() -> None:
    """By the sizes alone: within 20% on average, where 6ND at 40% of the peak is not."""
    errors, plain = [], []
    with DATA.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["kind"] == "run" and "QA:" not in row["notes"]]
    for row in rows:
        if not row["tokens_b"] or not row["gpu_hours"]:
            continue
        device = find_device(row["hardware_key"])
        size, active = float(row["params_b"]) * 1e9, float(row["active_params_b"] or 0) * 1e9
        tokens, stated = float(row["tokens_b"]) * 1e9, float(row["gpu_hours"])
        _, whole = hours_of_size(size, tokens, device, int(row["n_devices"] or 1024), active=active or None,
                                 precision=row["precision"] if row["precision"] == "fp8" else "bf16")  # fmt: skip
        peak = device.peak_flops_per_s("bf16")
        assert whole.device_hours.value is not None and peak is not None
        errors.append(abs(whole.device_hours.value / stated - 1))
        plain.append(abs(6 * (active or size) * tokens / (0.4 * peak * 3600) / stated - 1))
    assert len(errors) >= 18
    assert sum(errors) / len(errors) < 0.20 < sum(plain) / len(plain)


def test_interruptions_of_unknown_days_are_unknown() -> None:
    found = interruptions(1024, None)
    assert found.number.value is None and "unknown" in found.number.note
    assert found.mtbf_h.value == pytest.approx(MTBF_H[1] / 1024)


def test_hours_are_no_surer_than_the_steps() -> None:
    """Nobody measured training on an RTX 4090, many did on H100."""
    model = described("llama-2-7b")
    for name in ("rtx-4090", "h100-sxm"):
        run = Run(sequence_tokens=2048, global_batch=8)
        step = step_time(model, run, find_device(name))
        whole = hours(step, run, 1e9).device_hours
        assert whole.low is not None and whole.value is not None and whole.high is not None
        assert step.seconds.low is not None and step.seconds.value is not None and step.seconds.high is not None
        assert whole.low / whole.value <= step.seconds.low / step.seconds.value + 1e-9
        assert whole.high / whole.value >= step.seconds.high / step.seconds.value - 1e-9
