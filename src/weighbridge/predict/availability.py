"""How often does a machine of several devices stand still, and how many spare replicas keep a service up?

- A replica works when all of its n devices do: p^n, where they fail independently of each other.
- Of N replicas with availability a, X work: a binomial distribution, P(X >= k) = the sum over i from k to N of
  C(N, i) a^i (1 - a)^(N - i).
- A device that runs so many hours between failures and takes so many to be back works a share MTBF / (MTBF + MTTR) of
  the time, and n of them fail n times as often (Barlow and Proschan, Mathematical Theory of Reliability, 1965).

Failures that take several devices at once (a computer, a switch, a power line) are not independent: count these
together as one device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError

MOST_REPLICAS = 1_000_000
"""More than any service has."""


def share_up(mtbf_h: float, mttr_h: float) -> float:
    """The share of time that something works, from the hours between its failures and those until it is back.

    Raises:
        UnitError: when a time is negative, or both are 0.

    Example:
        >>> share_up(99.0, 1.0)
        0.99
    """
    if not (math.isfinite(mtbf_h) and math.isfinite(mttr_h) and mtbf_h >= 0 and mttr_h >= 0 and mtbf_h + mttr_h > 0):
        read = f"{mtbf_h} hours between failures and {mttr_h} until it is back"
        raise UnitError(read, "hours of 0 or more, not both 0", "correct them")
    return mtbf_h / (mtbf_h + mttr_h)


def mtbf_of(devices: int, mtbf_h: float) -> float:
    """Hours between failures of any of so many devices.

    Example:
        >>> mtbf_of(8, 40_000.0)
        5000.0
    """
    _check_count("devices", devices, 1)
    return mtbf_h / devices


def all_up(devices: int, availability: float) -> float:
    """The share of time that all of so many devices work.

    Raises:
        UnitError: for an availability that is no share, or no devices.

    Example:
        >>> all_up(2, 0.5)
        0.25
    """
    _check_count("devices", devices, 1)
    return _checked(availability) ** devices


def expected_down(replicas: int, availability: float) -> float:
    """How many of so many replicas do not work, on average.

    Example:
        >>> expected_down(4, 0.75)
        1.0
    """
    _check_count("replicas", replicas, 0)
    return replicas * (1.0 - _checked(availability))


def at_least_up(needed: int, replicas: int, availability: float) -> float:
    """The share of time that at least so many of the replicas work.

    Raises:
        UnitError: for an availability that is no share, or a negative number.

    Example:
        >>> round(at_least_up(1, 2, 0.5), 9), round(at_least_up(2, 3, 0.9), 9)
        (0.75, 0.972)
    """
    _check_count("replicas", replicas, 0)
    _check_count("replicas needed", needed, 0)
    up = _checked(availability)
    if needed > replicas:
        return 0.0
    if up in (0.0, 1.0):
        return 1.0 if up == 1.0 or needed == 0 else 0.0
    lost = range(replicas - needed + 1)
    if 2 * len(lost) > replicas:  # the shorter tail, so that a rare failure is not lost in rounding
        return 1.0 - math.fsum(_exactly(replicas, number, up) for number in range(needed))
    return math.fsum(_exactly(replicas, replicas - number, up) for number in lost)


def _exactly(replicas: int, working: int, up: float) -> float:
    """The binomial probability, by logarithms: the coefficient may be larger than a float can be."""
    ways = math.lgamma(replicas + 1) - math.lgamma(working + 1) - math.lgamma(replicas - working + 1)
    return math.exp(ways + working * math.log(up) + (replicas - working) * math.log1p(-up))


def spares(needed: int, availability: float, target: float) -> int:
    """How many replicas beyond those needed keep enough of them at work for a share of the time.

    Raises:
        UnitError: for shares that are none, a target of 1 with replicas that fail, or more than `MOST_REPLICAS`.

    Example:
        >>> spares(10, 0.99, 0.9), spares(10, 0.99, 0.999)
        (0, 2)
    """
    _check_count("replicas needed", needed, 0)
    if not 0.0 < target <= 1.0:
        raise UnitError(f"the target is {target}", "a share above 0 and up to 1", "correct it")
    up = _checked(availability)
    if at_least_up(needed, needed, up) >= target:
        return 0
    if target == 1.0 or up == 0.0:
        read = f"{needed:,} replicas that each work {up:.6g} of the time, for {target:.6g} of it"
        raise UnitError(read, "a target below 1, of replicas that work at all", "lower the target")
    low, high = needed, max(1, needed)
    while at_least_up(needed, high, up) < target:
        low, high = high, 2 * high
        if high > MOST_REPLICAS:
            read = f"more than {MOST_REPLICAS:,} replicas of availability {up:.6g} for {needed:,}"
            raise UnitError(read, "a service of fewer", "lower the target")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at_least_up(needed, middle, up) >= target else (middle, high)
    return high - needed


def _checked(availability: float) -> float:
    if not 0.0 <= availability <= 1.0:
        raise UnitError(f"the availability is {availability}", "a share from 0 to 1", "correct it")
    return availability


def _check_count(what: str, number: int, least: int) -> None:
    if not least <= number <= MOST_REPLICAS:
        raise UnitError(f"{what}: {number:,}", f"a whole number from {least} to {MOST_REPLICAS:,}", "correct it")


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """How often machines fail, and what it takes that enough of them work.

    `device` and `replica` are shares of the time that one works; `enough` is that of all replicas as they are, and
    `spares` are what it takes beyond them for `uptime`.
    """

    device: float
    replica: float
    enough: float
    uptime: float
    spares: int

    @staticmethod
    def of(replicas: int, devices: int, availability: float, uptime: float) -> Failures:
        """Of so many replicas of so many devices, each of which works for this share of the time.

        Example:
            >>> found = Failures.of(8, 4, 0.999, 0.999)
            >>> round(found.replica, 6), round(found.enough, 4), found.spares
            (0.996006, 0.9685, 1)
        """
        one = all_up(devices, availability)
        return Failures(device=availability, replica=one, enough=at_least_up(replicas, replicas, one), uptime=uptime,
                        spares=spares(replicas, one, uptime))  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """One document."""
        return {"device": self.device, "replica": self.replica, "all_replicas": self.enough, "uptime": self.uptime,
                "spares": self.spares}  # fmt: skip
