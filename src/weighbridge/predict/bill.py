"""What does serving cost? The price of an hour of machines over what they serve in it.

    requests/s of a machine = output tokens/s / output tokens of an answer
    machines                = requests/s asked for / (requests/s of one x the share of its time that may be busy)
    USD a request           = machines x USD an hour / requests an hour

An hour is paid whether a machine is busy or not, so that the price of a token is that of an hour over the tokens that
are really served in it. A batch of one, or a machine that waits most of the day, multiplies it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate, weakest

DAY_S = 86_400
DAYS_A_MONTH = 365.25 / 12
DAYS_A_YEAR = 365.25

MOST_USD = 1e12
"""No price of anything here is above it."""
MOST_REQUESTS = 1e15
"""Requests of a day; all the world's people asking once a second make less."""

SPOT_SHARE = (0.1, 0.35, 0.9)
"""The price of a spot instance over that on demand. AWS writes of up to 90% off (https://aws.amazon.com/ec2/spot/pricing/),
the SkyPilot project of three to six times less; it moves with the hour, the zone and the size."""
SPOT_LOST_SHARE = (0.01, 0.05, 0.2)
"""The share of a spot instance's paid time that is lost to interruptions: a machine that is taken away loads again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What one machine costs an hour, and where that comes from. `date` is None where the source has none."""

    usd_per_hour: Estimate
    kind: str
    source: str
    date: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The part `price` of the JSON document."""
        return {"usd_per_hour": self.usd_per_hour.to_json(), "kind": self.kind, "date": self.date,
                "source": self.source}  # fmt: skip


def spot(on_demand: Estimate) -> Estimate:
    """An hour of served time on spot instances, whose own price is not known, interruptions included.

    Example:
        >>> hour = spot(Estimate(10, 10, 10, "USD/h", Basis.SPECIFIED))
        >>> round(hour.value, 2), round(hour.low, 2), hour.basis.value
        (3.68, 1.01, 'assumed')
    """
    shares = [share / (1 - lost) for share, lost in zip(SPOT_SHARE, SPOT_LOST_SHARE, strict=True)]
    return _by(on_demand, shares, "10 to 90% of the price on demand, and 1 to 20% of the time lost to interruptions")


def interrupted(given: Estimate) -> Estimate:
    """An hour of served time on spot instances of a known price."""
    shares = [1 / (1 - lost) for lost in SPOT_LOST_SHARE]
    return _by(given, shares, "1 to 20% of the time lost to interruptions")


def _by(hour: Estimate, shares: Sequence[float], note: str) -> Estimate:
    if hour.value is None or hour.low is None or hour.high is None:
        return hour
    low, value, high = shares
    return Estimate(value * hour.value, low * hour.low, high * hour.high, hour.unit, Basis.ASSUMED, note)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """What one machine serves when it is busy all the time; the rates are those of its plan."""

    requests_per_s: Estimate
    prompt_tokens: int
    output_tokens: int
    prefill_tok_s: Estimate

    @property
    def tokens(self) -> int:
        """Tokens of a request, prompt and answer together."""
        return self.prompt_tokens + self.output_tokens


def capacity(output_tok_s: Estimate, prefill_tok_s: Estimate, prompt_tokens: int, output_tokens: int) -> Capacity:
    """What a machine serves, from the output of the whole machine in tokens a second.

    Raises:
        UnitError: for answers without tokens.
    """
    if output_tokens < 1:
        raise UnitError("an answer of 0 tokens", "answers of 1 token or more", "lengthen --output")
    rate = _scaled(output_tok_s, 1 / output_tokens, "requests/s")
    return Capacity(requests_per_s=rate, prompt_tokens=prompt_tokens, output_tokens=output_tokens,
                    prefill_tok_s=prefill_tok_s)  # fmt: skip


def _scaled(estimate: Estimate, factor: float, unit: str) -> Estimate:
    found = estimate.times(factor)
    return Estimate(found.value, found.low, found.high, unit, found.basis, found.note)


def over(dividend: Estimate, divisor: Estimate, unit: str) -> Estimate:
    """One estimate over another, the ends of both taken against each other; unknown where one is.

    Example:
        >>> over(Estimate(6, 6, 6, "USD", Basis.SPECIFIED), Estimate(2, 1, 3, "s", Basis.MODELLED), "USD/s").high
        6.0
    """
    basis = weakest([dividend.basis, divisor.basis])
    if dividend.value is None or dividend.low is None or dividend.high is None:
        return Estimate(None, None, None, unit, basis, dividend.note)
    if not divisor.value or not divisor.low or not divisor.high:
        return Estimate(None, None, None, unit, basis, divisor.note or "what it is divided by is unknown")
    low, high = dividend.low / divisor.high, dividend.high / divisor.low
    return Estimate(dividend.value / divisor.value, low, high, unit, basis)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Requests of a day, on machines of one kind. `busy` is the share of their time that they really serve.

    `ideal` counts the machines as if every second of them served; `replicas` are whole ones with room for peaks.
    """

    requests_per_day: float
    headroom: float
    ideal: Estimate
    replicas: Estimate
    busy: Estimate

    @property
    def requests_per_s(self) -> float:
        """The mean rate over the day."""
        return self.requests_per_day / DAY_S


def load(requests_per_day: float, one: Capacity, headroom: float) -> Load:
    """The machines that a day's requests take.

    Raises:
        UnitError: when the requests are none, or the headroom is no share below 1.

    Example:
        >>> rate = Estimate(20, 10, 40, "requests/s", Basis.MODELLED)
        >>> some = Estimate(1, 1, 1, "token/s", Basis.MODELLED)
        >>> of = Capacity(requests_per_s=rate, prompt_tokens=1, output_tokens=1, prefill_tok_s=some)
        >>> found = load(10_000_000, of, 0.3)
        >>> round(found.requests_per_s, 2), round(found.ideal.value, 2), found.replicas.value, found.replicas.high
        (115.74, 5.79, 9, 17)
    """
    if not (0 < requests_per_day <= MOST_REQUESTS):
        raise UnitError(
            f"{requests_per_day:g} requests a day", f"a number above 0, up to {MOST_REQUESTS:g}", "correct it"
        )
    if not 0 <= headroom < 1:
        raise UnitError(f"a headroom of {headroom:g}", "a share of 0 or more, below 1", "correct it")
    asked = requests_per_day / DAY_S
    rate = Estimate(asked, asked, asked, "requests/s", Basis.EXACT)
    ideal = over(rate, one.requests_per_s, "machines")
    if ideal.value is None or ideal.low is None or ideal.high is None:
        return Load(requests_per_day=requests_per_day, headroom=headroom, ideal=ideal, replicas=ideal, busy=ideal)
    low, value, high = (max(1, math.ceil(x / (1 - headroom) - 1e-9)) for x in (ideal.low, ideal.value, ideal.high))
    note = f"{headroom:.0%} of each is kept for peaks"
    replicas = Estimate(value, low, high, "machines", ideal.basis, note)
    # Between two counts of machines the share falls from all that may be busy to that of one machine more.
    least, most = ideal.low / low, ideal.high / high
    if low < high:
        least, most = min(least, low * (1 - headroom) / (low + 1)), 1 - headroom
    middle = ideal.value / value
    busy = Estimate(middle, min(least, middle), max(most, middle), "share", ideal.basis)
    return Load(requests_per_day=requests_per_day, headroom=headroom, ideal=ideal, replicas=replicas, busy=busy)


def at_peak(flops_per_request: float, requests_per_s: float, flops_per_s: float) -> float:
    """Devices that a rate takes if arithmetic at the peak were all: fewer than this cannot do it.

    Example:
        >>> round(at_peak(2 * 70e9 * 100, 10_000_000 / 86_400, 312e12), 1)
        5.2
    """
    return flops_per_request * requests_per_s / flops_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What machines cost, in USD: an hour of all of them, a request, a million tokens, a day, a month, a year."""

    hour: Estimate
    request: Estimate
    million_tokens: Estimate
    million_output_tokens: Estimate
    million_input_tokens: Estimate
    day: Estimate
    month: Estimate
    year: Estimate

    def to_json(self) -> dict[str, Any]:
        """The part `bill` of the JSON document."""
        return {
            "usd_per_hour": self.hour.to_json(), "usd_per_request": self.request.to_json(),
            "usd_per_million_tokens": self.million_tokens.to_json(),
            "usd_per_million_output_tokens": self.million_output_tokens.to_json(),
            "usd_per_million_input_tokens": self.million_input_tokens.to_json(),
            "usd_per_day": self.day.to_json(), "usd_per_month": self.month.to_json(),
            "usd_per_year": self.year.to_json(),
        }  # fmt: skip


def bill(price: Estimate, one: Capacity, asked: Load | None = None, busy: float = 1.0) -> Bill:
    """The bill of a day's requests; or of one machine that serves for this share of the time that is paid.

    `million_output_tokens` lays all of it on the answers, as `weigh fit` does. `million_input_tokens` is what the
    prompts take of it: an hour over the tokens of prompts that are read in one.

    Raises:
        UnitError: when the share is none above 0 and up to 1.

    Example:
        >>> rate = Estimate(15, 8, 15, "token/s", Basis.MODELLED)
        >>> one = capacity(rate, rate, 1, 100)
        >>> found = bill(Estimate(4, 4, 6, "USD/h", Basis.SPECIFIED), one)
        >>> [round(x) for x in (found.million_output_tokens.low, found.million_output_tokens.high)]
        [74, 208]
    """
    if not 0 < busy <= 1:
        raise UnitError(f"machines busy for {busy:g} of the time", "a share above 0 and up to 1", "correct it")
    if asked is None:
        hour = price
        request = over(price, _scaled(one.requests_per_s, 3600 * busy, "requests/h"), "USD")
        prompts = over(price, _scaled(one.prefill_tok_s, 3600 * busy / 1e6, "million tokens/h"), "USD")
    else:
        hour = _product(price, asked.replicas, "USD/h")
        request = _scaled(hour, 24 / asked.requests_per_day, "USD")
        prompts = over(price, _scaled(one.prefill_tok_s, 3600 / 1e6, "million tokens/h"), "USD")
        prompts = over(prompts, asked.busy, "USD")
    return Bill(
        hour=hour, request=request, million_tokens=_scaled(request, 1e6 / one.tokens, "USD"),
        million_output_tokens=_scaled(request, 1e6 / one.output_tokens, "USD"),
        million_input_tokens=prompts, day=_scaled(hour, 24, "USD"),
        month=_scaled(hour, 24 * DAYS_A_MONTH, "USD"), year=_scaled(hour, 24 * DAYS_A_YEAR, "USD"),
    )  # fmt: skip


def _product(one: Estimate, other: Estimate, unit: str) -> Estimate:
    basis = weakest([one.basis, other.basis])
    if one.value is None or one.low is None or one.high is None:
        return Estimate(None, None, None, unit, basis, one.note)
    if other.value is None or other.low is None or other.high is None:
        return Estimate(None, None, None, unit, basis, other.note)
    return Estimate(one.value * other.value, one.low * other.low, one.high * other.high, unit, basis)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakEven:
    """From how many requests a day serving it yourself costs no more than an API.

    `verdict` is `breaks even`, `never`, or `depends on the speed` where the slow end of its interval never does.
    """

    api: str
    verdict: str
    requests_per_day: Estimate
    reason: str

    def to_json(self) -> dict[str, Any]:
        """One entry of `break_even`."""
        return {"api": self.api, "verdict": self.verdict, "requests_per_day": self.requests_per_day.to_json(),
                "reason": self.reason}  # fmt: skip


def break_even(
    api: str, api_request_usd: float, price: Estimate, one: Capacity, headroom: float, fixed_usd_per_day: float = 0.0
) -> BreakEven:
    """The fewest requests a day for which whole machines and what is fixed cost no more than the API.

    With k machines a day costs k H + F and the API v a; they serve up to k c requests. The first k for which
    (k H + F) / a <= k c is ceil(F / (a c - H)), and none is where a c <= H: a machine in full use costs more than that.

    Example:
        >>> rate = Estimate(1, 1, 1, "requests/s", Basis.MEASURED)
        >>> one = Capacity(requests_per_s=rate, prompt_tokens=1, output_tokens=1, prefill_tok_s=rate)
        >>> hour = Estimate(2, 2, 2, "USD/h", Basis.SPECIFIED)
        >>> break_even("x", 0.01, hour, one, 0.0).requests_per_day.value
        4800.0
        >>> break_even("x", 0.0005, hour, one, 0.0).verdict
        'never'
    """
    unit, rate = "requests/day", one.requests_per_s
    if price.value is None or price.low is None or price.high is None or rate.value is None:
        note = price.note if price.value is None else rate.note
        return BreakEven(api=api, verdict="unknown", reason=note,
                         requests_per_day=Estimate(None, None, None, unit, price.basis, note))  # fmt: skip
    assert rate.low is not None and rate.high is not None
    basis = weakest([price.basis, rate.basis])

    def volume(hour: float, requests_per_s: float) -> float | None:
        day, most = 24 * hour, requests_per_s * DAY_S * (1 - headroom)
        gain = api_request_usd * most - day
        if gain <= 0:
            return None
        machines = max(1, math.ceil(fixed_usd_per_day / gain))
        return (machines * day + fixed_usd_per_day) / api_request_usd

    found = volume(price.value, rate.value)
    most = rate.value * DAY_S * (1 - headroom)
    own = 24 * price.value / most if most else math.inf
    told = "on machines as busy as the headroom lets them be"
    if found is None:
        reason = f"a request costs {own:.3g} USD {told}, and {api_request_usd:.3g} USD from the API"
        return BreakEven(api=api, verdict="never", reason=reason,
                         requests_per_day=Estimate(None, None, None, unit, basis, f"never: {reason}"))  # fmt: skip
    best = volume(price.low, rate.high)
    worst = volume(price.high, rate.low)
    assert best is not None
    bounds = sorted((best, found, found if worst is None else worst))
    verdict = "breaks even" if worst is not None else "depends on the speed"
    slow = "" if worst is not None else "; at the slow end of the speed's interval it never does"
    reason = f"a request costs {own:.3g} USD {told}, and {api_request_usd:.3g} USD from the API{slow}"
    estimate = Estimate(found, bounds[0], bounds[2], unit, basis, slow.removeprefix("; "))
    return BreakEven(api=api, verdict=verdict, requests_per_day=estimate, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """One way to have a request answered, with what share of its answers is right where that is known."""

    name: str
    request: Estimate
    source: str
    date: str | None = None
    accuracy: Estimate | None = None

    @property
    def correct(self) -> Estimate | None:
        """USD a correct answer; None without an accuracy."""
        return None if self.accuracy is None else over(self.request, self.accuracy, "USD")

    def to_json(self, cheapest: float | None) -> dict[str, Any]:
        """One entry of `offers`."""
        known = self.request.value is not None and bool(cheapest)
        return {
            "name": self.name, "usd_per_request": self.request.to_json(),
            "times_cheapest": (self.request.value or 0.0) / cheapest if known and cheapest else None,
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "usd_per_correct_answer": None if self.correct is None else self.correct.to_json(),
            "date": self.date, "source": self.source,
        }  # fmt: skip


def ladder(offers: Iterable[Offer]) -> list[Offer]:
    """The offers as tiers, the cheapest request first; those of unknown price last."""
    return sorted(offers, key=lambda offer: math.inf if offer.request.value is None else offer.request.value)


def flips(offers: Sequence[Offer]) -> list[tuple[str, str]]:
    """Pairs of which the first is the cheaper by the request, and the second by the correct answer.

    Example:
        >>> usd = [Estimate(x, x, x, "USD", Basis.SPECIFIED) for x in (0.01, 0.012)]
        >>> share = [Estimate(x, x, x, "share", Basis.MEASURED) for x in (0.5, 0.9)]
        >>> two = [Offer(name=n, request=u, accuracy=s, source="") for n, u, s in zip("ab", usd, share)]
        >>> flips(two)
        [('a', 'b')]
    """
    priced = [(offer.name, offer.request.value, None if offer.correct is None else offer.correct.value)
              for offer in ladder(offers) if offer.request.value is not None]  # fmt: skip
    return [
        (name, other)
        for place, (name, request, correct) in enumerate(priced)
        for other, dearer, better in priced[place + 1 :]
        if correct is not None and better is not None and request < dearer and correct > better
    ]
