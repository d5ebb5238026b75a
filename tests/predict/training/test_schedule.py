"""Hours, days and failures of a whole run, by hand and against published ones."""

from __future__ import annotations

import math

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
    implied_mfu,
    interruptions,
    lost_share,
    never_measured,
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
