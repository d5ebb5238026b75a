"""What does a machine take while it waits? Power = idle + (busy - idle) x utilisation; work carries the waiting too.

Linear in utilisation: Fan, Weber and Barroso, Power Provisioning for a Warehouse-sized Computer (ISCA 2007).
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.errors import UnitError
from weighbridge.estimate import Estimate, weakest


@dataclass(frozen=True, slots=True)
class Duty:
    """A machine that is busy for a share of the time: its mean power, and how much of its energy goes into waiting."""

    idle_w: Estimate
    busy_w: Estimate
    utilisation: float

    def __post_init__(self) -> None:
        if not 0 < self.utilisation <= 1:
            read = f"a utilisation of {self.utilisation:g}"
            raise UnitError(read, "a share above 0 and up to 1", "correct it")
        idle, busy = self.idle_w.value, self.busy_w.value
        if idle is not None and busy is not None and idle > busy:
            raise UnitError(
                f"{idle:g} W idle and {busy:g} W busy", "more when it works than when it waits", "correct it"
            )

    @property
    def mean_w(self) -> Estimate:
        """Watts over all of the time.

        Example:
            >>> from weighbridge.estimate import Basis
            >>> idle, busy = (Estimate(w, w, w, "W", Basis.MEASURED) for w in (100.0, 500.0))
            >>> Duty(idle, busy, 0.25).mean_w.value, Duty(idle, busy, 0.25).idle_share
            (200.0, 0.375)
        """
        return Estimate.sum([self.idle_w.times(1 - self.utilisation), self.busy_w.times(self.utilisation)])

    @property
    def idle_share(self) -> float | None:
        """The share of the energy that goes into waiting; None where a power is unknown."""
        idle, mean = self.idle_w.value, self.mean_w.value
        return None if idle is None or not mean else idle * (1 - self.utilisation) / mean

    def work_j(self, busy_s: Estimate) -> Estimate:
        """Joules of work that keeps the machine busy for so long, with its share of the waiting.

        The work comes as often at each speed: where it takes less time, the machine waits for longer.
        """
        basis = weakest([self.idle_w.basis, self.busy_w.basis, busy_s.basis])
        if self.mean_w.value is None or busy_s.value is None:
            return Estimate(None, None, None, "J", basis, self.mean_w.note or busy_s.note)
        period_s = busy_s.value / self.utilisation

        def joules(idle: float | None, busy: float | None, seconds: float | None) -> float:
            assert idle is not None and busy is not None and seconds is not None
            return busy * seconds + idle * max(0.0, period_s - seconds)

        idle, busy = self.idle_w, self.busy_w
        value = joules(idle.value, busy.value, busy_s.value)
        low, high = joules(idle.low, busy.low, busy_s.low), joules(idle.high, busy.high, busy_s.high)
        return Estimate(value, low, high, "J", basis, f"busy {self.utilisation:.0%} of the time")
