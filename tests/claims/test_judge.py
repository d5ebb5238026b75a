"""Does a verdict follow the digits that were stated?"""

from __future__ import annotations

import pytest

from weighbridge.claims.claim import Answer, Interval, Verdict
from weighbridge.claims.judge import judge
from weighbridge.claims.quantity import quantities
from weighbridge.estimate import Basis


def _verdict(claimed: str, low: float, high: float | None = None, **options: object) -> Verdict:
    interval = Interval(low, low if high is None else high, basis=options.pop("basis", Basis.EXACT))  # type: ignore[arg-type]
    return judge(quantities(claimed), Answer("", (interval,), (), **options))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("claimed", "computed", "verdict"),
    [
        ("13B", 12.88e9, Verdict.CONFIRMED),
        ("340M", 335_141_888, Verdict.CONFIRMED),
        ("405,000,000,000", 405_853_388_800, Verdict.CLOSE),
        ("70,015,266,816", 68_976_648_192, Verdict.WRONG),
        ("176.2B", 175.22e9, Verdict.WRONG),
        ("about 176.2B", 175.22e9, Verdict.CLOSE),
        ("9,408", 9_408, Verdict.CONFIRMED),
        ("35%", 0.332, Verdict.NEAR),
        ("98%", 0.9989, Verdict.WRONG),
        ("99.9%", 0.9989, Verdict.CONFIRMED),
        ("4-5B", 4.5e9, Verdict.CONFIRMED),
        ("4-5B", 5.1e9, Verdict.CLOSE),
        ("4-5B", 50e9, Verdict.WRONG),
        (">1B", 5e9, Verdict.CONFIRMED),
        (">10B", 5e9, Verdict.WRONG),
        ("<0.1%", 0.00208, Verdict.WRONG),
        ("2x", 2.6, Verdict.NEAR),
        ("2x", 2.8, Verdict.WRONG),
    ],
)
def test_one_number(claimed: str, computed: float, verdict: Verdict) -> None:
    assert _verdict(claimed, computed) is verdict


def test_whole_things_are_equal_or_not() -> None:
    assert _verdict("50", 49, is_whole=True) is Verdict.WRONG
    assert _verdict("49", 49, is_whole=True) is Verdict.CONFIRMED


def test_a_limit_refutes_and_never_confirms() -> None:
    limit = Answer("", (Interval(6.9, 6.9, "second", Basis.MODELLED, "least"),), ())
    assert judge(quantities("0.7 s"), limit) is Verdict.WRONG
    assert judge(quantities("8 s"), limit) is Verdict.UNVERIFIABLE


def test_an_estimate_with_a_wide_interval_confirms_only_nearly() -> None:
    assert _verdict("$50-200K", 26_000, 561_000, basis=Basis.MODELLED) is Verdict.NEAR
    assert _verdict("$50K", 106_000, 258_000, basis=Basis.MODELLED) is Verdict.WRONG


def test_the_worst_of_several_numbers_counts() -> None:
    answer = Answer("", (Interval(14e9, 14e9), Interval(140e9, 140e9)), ())
    assert judge(quantities("14B; 140B"), answer) is Verdict.CONFIRMED
    assert judge(quantities("14B; 280B"), answer) is Verdict.WRONG


def test_numbers_that_are_not_counted_one_by_one_are_not_judged() -> None:
    answer = Answer("", (Interval(1, 1), Interval(2, 2)), ())
    assert judge(quantities("1; 2; 3"), answer) is Verdict.UNVERIFIABLE
