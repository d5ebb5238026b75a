"""Do machines, bills and break-evens follow by hand, and do the articles' money rows come out?"""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict import bill as bills
from weighbridge.predict.bill import Capacity, Offer


def exactly(value: float, unit: str = "USD/h") -> Estimate:
    return Estimate(value, value, value, unit, Basis.SPECIFIED)


def served(output_tok_s: tuple[float, float, float], output_tokens: int, prompt_tokens: int = 1) -> Capacity:
    low, value, high = output_tok_s
    rate = Estimate(value, low, high, "token/s", Basis.MODELLED)
    return bills.capacity(rate, rate, prompt_tokens, output_tokens)


def test_ten_million_requests_a_day_are_115_7_a_second() -> None:
    found = bills.load(10_000_000, served((100, 100, 100), 100), 0.0)
    assert found.requests_per_s == pytest.approx(115.74, abs=0.005)
    assert found.requests_per_s * 100 == pytest.approx(11_574, abs=0.5)


def test_70b_at_ten_million_requests_a_day_takes_5_2_a100_at_the_peak_and_13_at_two_fifths_of_it() -> None:
    rate = bills.load(10_000_000, served((1, 1, 1), 100), 0.0).requests_per_s
    assert bills.at_peak(2 * 70e9 * 100, rate, 312e12) == pytest.approx(5.19, abs=0.005)
    assert bills.at_peak(2 * 70e9 * 100, rate, 0.4 * 312e12) == pytest.approx(13, abs=0.05)


def test_70b_costs_74_to_208_usd_a_million_tokens_at_its_own_speed_and_not_1_to_1_50() -> None:
    """Two A100 at 2 and at 3 USD an hour, 15 and 8 tokens a second: 50 to 200 times the price beside that speed."""
    fast = bills.bill(exactly(2 * 2.0), served((15, 15, 15), 100)).million_output_tokens
    slow = bills.bill(exactly(2 * 3.0), served((8, 8, 8), 100)).million_output_tokens
    assert fast.value == pytest.approx(74.07, abs=0.01)
    assert slow.value == pytest.approx(208.33, abs=0.01)
    assert fast.value is not None and slow.value is not None
    assert 45 < fast.value / 1.5 < slow.value / 1.0 < 210


def test_7b_costs_3_49_to_5_59_usd_a_million_tokens_at_its_own_speed() -> None:
    found = bills.bill(exactly(1.006), served((50, 65, 80), 100)).million_output_tokens
    assert found.low == pytest.approx(3.49, abs=0.005)
    assert found.high == pytest.approx(5.59, abs=0.005)


def test_one_bill_for_ten_million_requests_a_day_and_a_month_differs_thirtyfold() -> None:
    day, month = 10_000_000, 10_000_000 / bills.DAYS_A_MONTH
    assert day * bills.DAYS_A_MONTH == pytest.approx(304.4e6, rel=1e-3)
    for usd_a_month, of_day, of_month in ((3_000, 9.856, 300), (30_000, 98.56, 3_000)):
        hour = exactly(usd_a_month / bills.DAYS_A_MONTH / 24)
        costs = []
        for requests in (day, month):
            enough = served((10 * requests / bills.DAY_S,) * 3, 1)
            one = bills.load(requests, enough, 0.0)
            assert one.replicas.value == 1
            costs.append(bills.bill(hour, enough, one).request.value)
        assert costs[0] is not None and costs[1] is not None
        assert 1e6 * costs[0] == pytest.approx(of_day, rel=1e-4)
        assert 1e6 * costs[1] == pytest.approx(of_month, rel=1e-9)
        assert costs[1] / costs[0] == pytest.approx(30.4375)


def test_the_busy_share_has_the_bounds_of_every_speed_between() -> None:
    """From 0.6 to 1.65 machines in full use, of which 0.7 may be busy: from one to three."""
    one = served((1 / 1.65, 1, 1 / 0.6), 1)
    found = bills.load(bills.DAY_S, one, 0.3)
    assert (found.replicas.low, found.replicas.value, found.replicas.high) == (1, 2, 3)
    assert found.busy.value == pytest.approx(0.5)
    assert found.busy.low == pytest.approx(0.35)
    assert found.busy.high == pytest.approx(0.7)
    for step in range(106):
        ideal = 0.6 + step / 100
        share = ideal / -(-ideal // 0.7)
        assert (found.busy.low or 0) - 1e-9 <= share <= (found.busy.high or 0) + 1e-9


def test_idle_time_is_paid() -> None:
    one = served((100, 100, 100), 100)
    full, tenth = bills.bill(exactly(3.6), one), bills.bill(exactly(3.6), one, busy=0.1)
    assert full.request.value == pytest.approx(0.001)
    assert tenth.request.value == pytest.approx(0.01)
    assert tenth.day == full.day
    assert full.month.value == pytest.approx(3.6 * 730.5)


def test_prompts_take_their_own_part() -> None:
    fast, slow = exactly(1000, "token/s"), exactly(10, "token/s")
    one = bills.capacity(slow, fast, 500, 10)
    found = bills.bill(exactly(3.6), one)
    assert found.million_input_tokens.value == pytest.approx(1.0)
    assert found.request.value == pytest.approx(0.001)
    assert found.million_tokens.value == pytest.approx(0.001 * 1e6 / 510)


positive = st.floats(1e-3, 1e6)
on_a_busy_machine = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])


@on_a_busy_machine
@given(requests=st.floats(1, 1e9), rate=positive, price=positive, headroom=st.floats(0, 0.9))
def test_what_requests_cost_is_what_the_machines_cost(
    requests: float, rate: float, price: float, headroom: float
) -> None:
    one = served((rate, rate, rate), 7)
    load = bills.load(requests, one, headroom)
    found = bills.bill(exactly(price), one, load)
    assert found.request.value is not None and found.day.value is not None and load.replicas.value is not None
    assert found.request.value * requests == pytest.approx(found.day.value)
    assert found.day.value == pytest.approx(load.replicas.value * price * 24)
    assert load.busy.value is not None and load.busy.value <= 1 - headroom + 1e-6
    assert load.ideal.value is not None and load.replicas.value >= load.ideal.value - 1e-6


@on_a_busy_machine
@given(requests=st.floats(1, 1e9), rate=positive, more=st.floats(1, 10))
def test_more_requests_take_no_fewer_machines(requests: float, rate: float, more: float) -> None:
    one = served((rate / 2, rate, 2 * rate), 7)
    fewer, other = bills.load(requests, one, 0.3).replicas, bills.load(more * requests, one, 0.3).replicas
    assert fewer.value is not None and other.value is not None and fewer.value <= other.value


def test_break_even_is_where_the_bills_are_equal() -> None:
    """GPT-4's 0.09 USD for 1,000 tokens in and 1,000 out, against a machine of 10 USD an hour: 240 / 0.09 requests."""
    one = served((500, 1000, 2000), 1000, 1000)
    found = bills.break_even("gpt-4", 0.09, exactly(10), one, 0.3)
    assert found.verdict == "breaks even"
    assert found.requests_per_day.value == pytest.approx(240 / 0.09)
    load = bills.load(found.requests_per_day.value or 0.0, one, 0.3)
    assert load.replicas.value == 1
    assert bills.bill(exactly(10), one, load).request.value == pytest.approx(0.09)


def test_what_is_fixed_moves_the_break_even_to_a_second_machine() -> None:
    """A machine serves 86,400 requests a day for 24 USD; the API takes 86.40 for them, and 100 USD a day are fixed."""
    one = served((1, 1, 1), 1)
    found = bills.break_even("x", 0.001, exactly(1), one, 0.0, fixed_usd_per_day=100)
    assert found.requests_per_day.value == pytest.approx((2 * 24 + 100) / 0.001)
    assert 86_400 < (found.requests_per_day.value or 0.0) <= 2 * 86_400


def test_break_even_is_never_where_a_full_machine_costs_more() -> None:
    one = served((1, 1, 1), 1)
    found = bills.break_even("x", 0.0002, exactly(1), one, 0.0)
    assert found.verdict == "never"
    assert found.requests_per_day.value is None
    assert "0.000278" in found.reason and "0.0002 USD" in found.reason


def test_break_even_that_the_slow_end_never_reaches_says_so() -> None:
    found = bills.break_even("x", 0.0004, exactly(1), served((0.5, 1, 2), 1), 0.0)
    assert found.verdict == "depends on the speed"
    assert "slow end" in found.reason


def test_ranking_flips_between_the_request_and_the_correct_answer() -> None:
    small = Offer(name="small", request=exactly(0.010, "USD"), accuracy=exactly(0.5, "share"), source="")
    large = Offer(name="large", request=exactly(0.015, "USD"), accuracy=exactly(0.9, "share"), source="")
    assert [offer.name for offer in bills.ladder([large, small])] == ["small", "large"]
    assert small.correct is not None and small.correct.value == pytest.approx(0.02)
    assert large.correct is not None and large.correct.value == pytest.approx(0.015 / 0.9)
    assert bills.flips([large, small]) == [("small", "large")]
    assert large.to_json(0.010)["times_cheapest"] == pytest.approx(1.5)


def test_spot_is_cheaper_in_the_middle_and_never_sure() -> None:
    found = bills.spot(exactly(10))
    assert found.low is not None and found.value is not None and found.high is not None
    assert found.low < found.value < 10 < found.high
    assert found.basis is Basis.ASSUMED
    known = bills.interrupted(exactly(10))
    assert known.value == pytest.approx(10 / 0.95)


def test_unknown_stays_unknown() -> None:
    unknown = Estimate(None, None, None, "USD/h", Basis.SPECIFIED, "no price")
    one = served((1, 1, 1), 1)
    assert bills.bill(unknown, one).year.note == "no price"
    assert bills.break_even("x", 1.0, unknown, one, 0.0).verdict == "unknown"
    still = Estimate(None, None, None, "token/s", Basis.MODELLED, "no speed")
    load = bills.load(10, bills.capacity(still, still, 1, 1), 0.3)
    assert load.replicas.value is None and load.replicas.note == "no speed"


@pytest.mark.parametrize("requests", [0, -1, math.inf, math.nan])
def test_impossible_requests_are_refused(requests: float) -> None:
    with pytest.raises(UnitError):
        bills.load(requests, served((1, 1, 1), 1), 0.3)


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_impossible_headroom_is_refused(share: float) -> None:
    with pytest.raises(UnitError):
        bills.load(1, served((1, 1, 1), 1), share)


@pytest.mark.parametrize("share", [0.0, 1.1, math.nan])
def test_impossible_busy_share_is_refused(share: float) -> None:
    with pytest.raises(UnitError):
        bills.bill(exactly(1), served((1, 1, 1), 1), busy=share)


def test_answers_without_tokens_are_refused() -> None:
    with pytest.raises(UnitError):
        served((1, 1, 1), 0)
