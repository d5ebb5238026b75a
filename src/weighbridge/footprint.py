"""What energy and carbon do requests take: one, a day's, a year's, a billion? For a plan, or from watts and seconds.

Energy of a request = power x seconds that it keeps the machine busy. With the power of the idle machine a day also
carries the hours in which it waits. A claimed figure is held against what follows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.planning import Plan
from weighbridge.predict.bill import DAY_S, DAYS_A_YEAR
from weighbridge.predict.carbon import J_PER_KWH, Site, embodied, emitted, facility_kwh, product
from weighbridge.predict.equivalents import pictured
from weighbridge.predict.idle import Duty

BILLION = 10**9


@dataclass(frozen=True, slots=True)
class Amount:
    """So many requests, and the joules of the machines that they take."""

    what: str
    requests: int
    energy_j: Estimate
    embodied_g: Estimate
    site: Site

    @property
    def carbon_g(self) -> Estimate:
        """Grams of CO2 equivalent of the power, the building's included."""
        return emitted(self.energy_j, self.site)

    def to_json(self) -> dict[str, Any]:
        """One entry of `amounts`."""
        kwh = product([self.energy_j], "kWh", self.energy_j.note, 1 / J_PER_KWH)
        return {"what": self.what, "requests": self.requests, "energy_j": self.energy_j.to_json(),
                "energy_kwh": kwh.to_json(), "facility_kwh": facility_kwh(self.energy_j, self.site).to_json(),
                "carbon_g": self.carbon_g.to_json(), "embodied_g": self.embodied_g.to_json()}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Claim:
    """A figure that someone gives for one request, beside what follows from the rest."""

    claimed_j: float
    energy_j: Estimate

    @property
    def verdict(self) -> str:
        """`inside` the interval, `above` or `below` it; `unknown` without one."""
        if self.energy_j.low is None or self.energy_j.high is None:
            return "unknown"
        slack = 1e-9 * self.claimed_j
        if self.claimed_j > self.energy_j.high + slack:
            return "above"
        return "below" if self.claimed_j < self.energy_j.low - slack else "inside"

    @property
    def ratio(self) -> float | None:
        """The claim over the nearest bound that it crosses; over the middle when it is inside."""
        bound = {"above": self.energy_j.high, "below": self.energy_j.low}.get(self.verdict, self.energy_j.value)
        return self.claimed_j / bound if bound else None

    def to_json(self) -> dict[str, Any]:
        """The part `claim` of the document."""
        return {"claimed_j": self.claimed_j, "low_j": self.energy_j.low, "high_j": self.energy_j.high,
                "verdict": self.verdict, "ratio": self.ratio}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Energy of one request at a place, and of as many as are asked for. `idle_w` is the whole machine's."""

    source: str
    energy_j: Estimate
    embodied_g: Estimate
    site: Site
    power_w: Estimate | None = None
    seconds: Estimate | None = None
    requests: int | None = None
    requests_per_day: int | None = None
    idle_w: Estimate | None = None
    claimed_j: float | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.idle_w is not None and (self.requests_per_day is None or self.seconds is None):
            read = "the power of an idle machine without requests a day and the time that one takes"
            raise UnitError(
                read, "all of them: only then it waits", "add --requests-per-day, or leave --idle-watts out"
            )
        _ = self.duty  # which refuses a machine that takes more when it waits

    @property
    def claim(self) -> Claim | None:
        """The claim held against one request; None without one."""
        return None if self.claimed_j is None else Claim(self.claimed_j, self.energy_j)

    @property
    def machines(self) -> int | None:
        """Machines that a day's requests keep busy, whole ones; None without requests a day or their time."""
        if self.requests_per_day is None or self.seconds is None or self.seconds.value is None:
            return None
        return math.ceil(self.requests_per_day * self.seconds.value / DAY_S)

    @property
    def duty(self) -> Duty | None:
        """How busy these machines are; None where a power is not known."""
        if self.machines is None or self.idle_w is None or self.power_w is None or self.power_w.value is None:
            return None
        assert self.seconds is not None and self.seconds.value is not None and self.requests_per_day is not None
        share = self.requests_per_day * self.seconds.value / DAY_S / self.machines
        return Duty(self.idle_w, self.power_w, min(1.0, share))

    def amounts(self) -> Iterator[Amount]:
        """One request, then a day's and a year's, a billion, and as many as were asked for."""
        yield self._amount("a request", 1, self.energy_j)
        if self.requests_per_day is not None:
            served = self.energy_j
            if (duty := self.duty) is not None:
                assert self.seconds is not None
                served = duty.work_j(self.seconds)
            yield self._amount("a day", self.requests_per_day, served)
            yield self._amount("a year", round(DAYS_A_YEAR * self.requests_per_day), served)
        if self.requests is not None:
            yield self._amount(f"{self.requests:,} requests", self.requests, self.energy_j)
        elif self.energy_j.value is not None and self.energy_j.value < J_PER_KWH:
            yield self._amount("a billion requests", BILLION, self.energy_j)

    def _amount(self, what: str, requests: int, each: Estimate) -> Amount:
        return Amount(what, requests, each.times(requests), self.embodied_g.times(requests), self.site)

    def all_notes(self) -> Iterator[str]:
        """What the reader should know."""
        yield from self.notes
        if self.machines is not None:
            busy = "" if self.duty is None else f", {self.duty.utilisation:.0%} of the time"
            yield f"a day's requests keep {self.machines:,} of these machines busy{busy}"
            if self.idle_w is None:
                yield "the hours in which they wait are not counted: give the power of the idle machine"
        if self.duty is not None and self.duty.idle_share is not None:
            yield f"{self.duty.idle_share:.0%} of a day's energy goes into waiting"
        if self.embodied_g.value is None:
            yield f"making the machine is not counted: {self.embodied_g.note}"

    @property
    def pictured(self) -> Amount:
        """What is told in things that people know: what was asked for, or else a year's, or the most there is."""
        amounts = list(self.amounts())
        wanted = None if self.requests is not None or self.requests_per_day is None else "a year"
        return next((amount for amount in amounts if amount.what == wanted), amounts[-1])

    @property
    def equivalents(self) -> list[dict[str, Any]]:
        """That in things that people know: all the energy of the data centre, as the carbon is."""
        shown = self.pictured
        return pictured(facility_kwh(shown.energy_j, self.site).times(J_PER_KWH), shown.carbon_g)

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh energy --json`."""
        return {
            "source": self.source, "power_w": None if self.power_w is None else self.power_w.to_json(),
            "seconds": None if self.seconds is None else self.seconds.to_json(), "site": self.site.to_json(),
            "amounts": [amount.to_json() for amount in self.amounts()], "machines": self.machines,
            "idle_share": None if self.duty is None else self.duty.idle_share,
            "equivalents": self.equivalents, "equivalents_of": self.pictured.what,
            "claim": None if self.claim is None else self.claim.to_json(), "notes": list(self.all_notes()),
        }  # fmt: skip


def of_plan(plan: Plan, **asked: Any) -> Footprint:
    """The footprint of a plan's requests, at the plan's place; `asked` as `Footprint` has it.

    Example:
        >>> from weighbridge.planning import fit
        >>> found = of_plan(fit("llama-2-7b", "a100-sxm-80", grid="france", pue="1.2", alternatives=False))
        >>> [amount.what for amount in found.amounts()]
        ['a request', 'a billion requests']
    """
    service, rate, built = plan.service, plan.speed.output_tok_s, plan.machine
    each = Estimate.from_json(plan.to_json()["energy"]["j_per_output_token"]).times(service.output_tokens)
    seconds = Estimate(None, None, None, "s", rate.basis, rate.note or "the speed is unknown")
    if rate.value and rate.low and rate.high:
        tokens = service.output_tokens
        seconds = Estimate(tokens / rate.value, tokens / rate.high, tokens / rate.low, "s", rate.basis,
                           "of the whole machine, shared by the requests that it works on at once")  # fmt: skip
    power = Estimate(None, None, None, "W", each.basis, each.note or "unknown")
    longer = 1.0
    if each.value is not None and each.low is not None and each.high is not None and seconds.value is not None:
        assert seconds.low is not None and seconds.high is not None
        rated = math.inf if built.device.tdp_w is None else built.devices * built.device.tdp_w
        longer = max(1.0, each.value / seconds.value / rated)
        seconds = seconds.times(longer)
        assert seconds.value is not None and seconds.low is not None and seconds.high is not None
        middle = min(rated, each.value / seconds.value)
        sides = [min(rated, each.low / seconds.low), min(rated, each.high / seconds.high)]
        power = Estimate(middle, min(middle, *sides), max(middle, *sides), "W", each.basis, each.note)
    made = embodied(built.device.name, built.devices, seconds)
    told = (f"{plan.source} in {plan.weights.recipe} on {built.devices} x {built.device.title} under "
            f"{service.runtime.name}, a batch of {service.sequences:,}, prompts of {service.prompt_tokens:,} tokens, "
            f"answers of {service.output_tokens:,}")  # fmt: skip
    notes = [told, *plan.notes]
    if longer > 1:
        notes.append(f"a request keeps the devices {longer:.2f} times as long as the plan says: the metered engines, "
                     "whose energy this is, were slower, and devices draw no more than their rated power")  # fmt: skip
    if service.sequences == 1:
        notes.append("one sequence at a time: --batch or --concurrency share the energy of a step among more")
    return Footprint(source=plan.source, energy_j=each, power_w=power, seconds=seconds, embodied_g=made, site=plan.site,
                     notes=tuple(notes), **asked)  # fmt: skip


NO_MACHINE = Estimate(None, None, None, "g", Basis.SPECIFIED, "no device is named")


def of_power(power_w: Estimate, seconds: Estimate, at: Site, **asked: Any) -> Footprint:
    """The footprint of a request, or of any run, that takes so many watts for so many seconds.

    Example:
        >>> watts, seconds = given((50.0, 100.0), "W"), given((0.5, 1.0), "s")
        >>> found = of_power(watts, seconds, Site(), claimed_j=144.0)
        >>> found.energy_j.low, found.energy_j.high, found.claim.verdict
        (25.0, 100.0, 'above')
    """
    each = product([power_w, seconds], "J", "watts times seconds")
    return Footprint(source="watts and seconds", energy_j=each, power_w=power_w, seconds=seconds, embodied_g=NO_MACHINE,
                     site=at, **asked)  # fmt: skip


def of_energy(energy_j: Estimate, at: Site, **asked: Any) -> Footprint:
    """The footprint of a request of which the energy is known.

    Example:
        >>> found = of_energy(given((144.0, 144.0), "J"), Site(), requests=10**9)
        >>> [round(amount.to_json()["energy_kwh"]["value"], 6) for amount in found.amounts()]
        [4e-05, 40000.0]
    """
    return Footprint(source="energy", energy_j=energy_j, embodied_g=NO_MACHINE, site=at, **asked)


def given(bounds: tuple[float, float], unit: str) -> Estimate:
    """What a user gives, a number or a range with its middle."""
    low, high = bounds
    return Estimate((low + high) / 2, low, high, unit, Basis.SPECIFIED, "as given")


def metered(
    energy_j: Estimate, power_w: Estimate, seconds: Estimate, at: Site, notes: tuple[str, ...], **asked: Any
) -> Footprint:  # fmt: skip
    """The footprint of what meters said of a time, taken as one request; `power_w` has the unit of watts."""
    watts = Estimate(power_w.value, power_w.low, power_w.high, "W", power_w.basis, power_w.note)
    return Footprint(source="meters", energy_j=energy_j, power_w=watts, seconds=seconds, embodied_g=NO_MACHINE, site=at,
                     notes=notes, **asked)  # fmt: skip
