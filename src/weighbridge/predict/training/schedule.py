"""How long does a whole run take? Device-hours, calendar days, restarts and failures.

Steps x seconds a step, times what published runs took beyond steps as fast as those of benchmarks: restarts, tests on
the way, slower software, layouts that are not the best. That factor is the median of the runs in
`docs/reference/accuracy.md`, and its interval holds 90% of them.

A run that stops every M hours, loses what it did since the last checkpoint and takes R to be back. Writing a checkpoint
takes C. The interval that loses least is sqrt(2 C M) (Young 1974; Daly 2006, first order), and the share lost is
C / interval + (interval / 2 + R) / M. M of n devices is that of one, divided by n: Meta counted 419 unexpected
interruptions in 54 days on 16,384 H100, one in 50,677 device-hours (Llama Team 2024, table 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.availability import mtbf_of
from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.step_time import StepTime, fits

MTBF_H = (12_000.0, 50_677.0, 200_000.0)
"""Hours between interruptions, for each device: 54 days x 24 x 16,384 / 419 (Llama Team 2024); a fourth and four times
that for other places is assumed."""
RESTART_H = (0.1, 0.5, 2.0)
"""From an interruption until steps go on, assumed."""
CHECKPOINT_S = (5.0, 60.0, 300.0)
"""To write a checkpoint while steps wait, assumed."""
MOST_MEASURED_MFU = 0.7
"""No run of the collection reached this share; llm-foundry's best step has 0.61."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """What a whole run takes: steps, hours of all devices together, days on the calendar, the share of the peak over
    all of it.
    """

    steps: int
    devices: int
    device_hours: Estimate
    days: Estimate
    mfu: Estimate

    def to_json(self) -> dict[str, Any]:
        """One document."""
        return {"steps": self.steps, "gpu_hours": self.device_hours.to_json(), "days": self.days.to_json(),
                "mfu": self.mfu.to_json()}  # fmt: skip


def hours(step: StepTime, run: Run, tokens: float, *, is_whole: bool = True) -> Hours:
    """A run over so many tokens in steps of this time.

    The value and the interval are those of whole published runs, which take longer than their steps do in a benchmark;
    where the time of a step is less sure than these runs were predicted, so are the hours. Those runs trained from the
    start: with `is_whole` unset the value is that of the steps, and what pre-training took beside them the high end.

    Raises:
        UnitError: when the tokens are none.
    """
    if not (math.isfinite(tokens) and tokens > 0):
        raise UnitError(f"{tokens:g} training tokens", "a number above 0", "correct it")
    steps, devices = math.ceil(tokens / run.step_tokens), run.layout.devices
    beyond = fits()["whole"]
    bare = step.seconds
    if bare.value is None or bare.low is None or bare.high is None:

        def none(unit: str) -> Estimate:
            return Estimate(None, None, None, unit, Basis.MODELLED, bare.note)

        return Hours(steps=steps, devices=devices, device_hours=none("h"), days=none("day"), mfu=none("share"))
    factor = beyond["factor"] if is_whole else 1.0
    value = bare.value * factor
    low = value * min(math.exp(beyond["low"]), bare.low / bare.value) if is_whole else bare.low
    high = value * max(math.exp(beyond["high"]), bare.high / bare.value) if is_whole else bare.high * beyond["factor"]
    assert step.mfu.value is not None
    share = step.mfu.value * bare.value
    amount = tokens / run.step_tokens / 3600
    note = f"{beyond['factor']:.2f} times the steps of a benchmark, as published runs took"
    if not is_whole:
        note = f"its steps; with restarts and tests up to {beyond['factor']:.2f} times as much, as pre-training took"
    return Hours(
        steps=steps, devices=devices,
        device_hours=Estimate(value, low, high, "h", Basis.MODELLED, note).times(amount * devices),
        days=Estimate(value, low, high, "day", Basis.MODELLED, note).times(amount / 24),
        mfu=Estimate(share / value, share / high, share / low, "share", Basis.MODELLED, note),
    )  # fmt: skip


USUAL_TOKENS = 8192
"""Tokens of a micro-batch of a usual run."""


def usual_run(run: Run, is_mixture: bool) -> Run:
    """The run as it is usually laid out, where its layout is not known: every device holds a shard of the weights and
    works on two micro-batches of 8,192 tokens, all of it kept; experts are spread over up to 64 devices.

    Published hours follow from these steps more closely than from those of the best layout that fits: what a team had
    is rarely said, and neither as good as the best for small models nor as bad as what memory forces on large ones.
    """
    devices = run.layout.devices
    micro = max(1, USUAL_TOKENS // run.sequence_tokens)
    expert = math.gcd(devices, 64) if is_mixture else 1
    return replace(run, micro_batch=micro, global_batch=2 * micro * devices, checkpointing="none",
                   layout=Layout(data=devices, zero=3, expert=expert))  # fmt: skip


def no_less(whole: Hours, step: StepTime, run: Run, tokens: float) -> Hours:
    """The hours of a whole run, and no less than its own steps take."""
    found, bare = whole.device_hours, step.seconds.value
    if found.value is None or found.low is None or found.high is None or bare is None:
        return whole
    least = bare * tokens / run.step_tokens / 3600 * run.layout.devices
    if least <= found.value:
        return whole
    longer, note = least / found.value, "the steps of this layout alone, which take longer than a usual run"
    device_hours, days, share = found.times(longer), whole.days.times(longer), whole.mfu.times(1 / longer)
    return replace(whole, device_hours=replace(device_hours, note=note), days=replace(days, note=note),
                   mfu=replace(share, note=note))  # fmt: skip


def implied_mfu(flops: float, device_hours: float, flops_per_s: float) -> float:
    """The share of the peak that stated hours imply.

    Args:
        flops: model FLOPs of the run.
        device_hours: those of all devices together.
        flops_per_s: the peak of one device.

    Raises:
        UnitError: when it is more than the peak, or a number is none.

    Example:
        >>> round(implied_mfu(6 * 70e9 * 2e12, 1_720_320, 312e12), 3)
        0.435
    """
    if not (math.isfinite(flops) and flops > 0 and device_hours > 0 and flops_per_s > 0):
        read = f"{flops:g} FLOP in {device_hours:g} device-hours at {flops_per_s:g} FLOP/s"
        raise UnitError(read, "numbers above 0", "correct them")
    share = flops / (device_hours * 3600 * flops_per_s)
    if share > 1:
        read = f"{flops:.3g} FLOP in {device_hours:,.0f} device-hours are {share:.2f} of {flops_per_s:.3g} FLOP/s"
        least = flops / flops_per_s / 3600
        raise UnitError(read, f"at least {least:,.0f} device-hours, at the peak", "correct the hours or the FLOP")
    return share


def never_measured(share: float) -> bool:
    """Whether a share of the peak is more than any training run is known to have reached.

    Example:
        >>> never_measured(0.45), never_measured(0.75)
        (False, True)
    """
    return share > MOST_MEASURED_MFU


def days_of(device_hours: float, devices: int) -> float:
    """Calendar days in which so many devices work so many hours together.

    Example:
        >>> round(days_of(1.7e6, 2000), 1), round(days_of(1.7e6, 256), 1)
        (35.4, 276.7)
    """
    if devices < 1 or device_hours < 0:
        raise UnitError(f"{device_hours:g} hours of {devices} devices", "hours of 0 or more, of a device", "correct it")
    return device_hours / devices / 24


def checkpoint_interval_h(checkpoint_s: float, mtbf_h: float) -> float:
    """Hours between checkpoints that lose the least: sqrt(2 C M).

    Example:
        >>> round(checkpoint_interval_h(60.0, 3.0), 3)
        0.316
    """
    return math.sqrt(2 * checkpoint_s / 3600 * mtbf_h)


def lost_share(checkpoint_s: float, restart_h: float, mtbf_h: float) -> float:
    """The share of a run's time that checkpoints, restarts and repeated steps take, at the best interval.

    Example:
        >>> round(lost_share(36.0, 0.5, 50.0), 3)
        0.03
    """
    interval = checkpoint_interval_h(checkpoint_s, mtbf_h)
    if interval == 0:
        return min(1.0, restart_h / mtbf_h)
    return min(1.0, checkpoint_s / 3600 / interval + (interval / 2 + restart_h) / mtbf_h)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interruptions:
    """How often a run on so many devices is interrupted, and what that takes."""

    mtbf_h: Estimate
    number: Estimate
    checkpoint_interval_h: Estimate
    lost: Estimate

    def to_json(self) -> dict[str, Any]:
        """One document."""
        return {"mtbf_h": self.mtbf_h.to_json(), "interruptions": self.number.to_json(),
                "checkpoint_interval_h": self.checkpoint_interval_h.to_json(),
                "lost_share": self.lost.to_json()}  # fmt: skip


def interruptions(devices: int, days: float | None, mtbf_h: float | None = None) -> Interruptions:
    """What failures do to a run of so many days. They are part of what `hours` predicts, and come on top of no number.

    Args:
        devices: how many work together; one that fails stops all.
        days: of the calendar; None where unknown.
        mtbf_h: hours between failures of one device, where they are known.
    """
    low, value, high = MTBF_H if mtbf_h is None else (mtbf_h,) * 3
    each = [mtbf_of(devices, hours_between) for hours_between in (low, value, high)]
    note = "assumed from one published cluster" if mtbf_h is None else "as given; restart and checkpoint assumed"
    best = [checkpoint_interval_h(seconds, one) for seconds, one in zip(CHECKPOINT_S, each, strict=True)]
    worst_first = zip(reversed(CHECKPOINT_S), reversed(RESTART_H), each, strict=True)
    lost = [lost_share(seconds, restart, one) for seconds, restart, one in worst_first]
    number = Estimate(None, None, None, "1", Basis.ASSUMED, "the days of the run are unknown")
    if days is not None:
        number = Estimate(days * 24 / each[1], days * 24 / each[2], days * 24 / each[0], "1", Basis.ASSUMED, note)
    return Interruptions(
        mtbf_h=Estimate(each[1], each[0], each[2], "h", Basis.ASSUMED, note),
        number=number,
        checkpoint_interval_h=Estimate(best[1], best[0], best[2], "h", Basis.ASSUMED, note),
        lost=Estimate(lost[1], lost[2], lost[0], "share", Basis.ASSUMED, note),
    )  # fmt: skip
