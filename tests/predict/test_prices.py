"""Are the listed prices those of their sources, dated, and refused by name where there is none?"""

from __future__ import annotations

import datetime

import pytest

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.predict.prices import api_prices, bytes_prices, egress_of, find_api, find_bytes


def test_gpt_4_asked_3_and_6_cents_for_1_000_tokens() -> None:
    price = find_api("gpt-4")
    assert price.request_usd(1000, 0).value == pytest.approx(0.03)
    assert price.request_usd(0, 1000).value == pytest.approx(0.06)


@pytest.mark.parametrize(
    ("name", "prompt", "answer"),
    [("gpt-4-turbo", 10, 30), ("gpt-4o", 2.5, 10), ("gpt-4o-mini", 0.15, 0.6), ("gpt-3.5-turbo", 0.5, 1.5),
     ("claude-3-opus", 15, 75), ("claude-3.5-sonnet", 3, 15), ("gemini-1.5-pro", 1.25, 5),
     ("together/llama-3.3-70b-turbo", 0.88, 0.88), ("groq/llama-3.3-70b", 0.59, 0.79)],
)  # fmt: skip
def test_published_prices(name: str, prompt: float, answer: float) -> None:
    """As litellm 1.109.1 and the providers' pages have them too."""
    price = find_api(name)
    assert (price.input_usd_per_million_tokens, price.output_usd_per_million_tokens) == (prompt, answer)


def test_every_price_is_dated_and_has_a_source() -> None:
    assert len(api_prices()) >= 40
    told = [(one.source, one.checked) for one in api_prices()] + [(one.source, one.checked) for one in bytes_prices()]
    for source, checked in told:
        assert source.startswith("https://")
        assert checked is not None
        assert datetime.date(2022, 1, 1) <= checked <= datetime.date(2026, 11, 22), source
    for api in api_prices():
        assert 0 < api.input_usd_per_million_tokens <= api.output_usd_per_million_tokens <= 200, api.name
        assert (api.cached_input_usd_per_million_tokens or 0) < api.input_usd_per_million_tokens, api.name
        assert 0 < (api.batch_discount or 0.5) < 1, api.name


def test_batches_and_cached_prompts() -> None:
    price = find_api("gpt-4o")
    assert price.request_usd(1_000_000, 100_000).value == pytest.approx(2.5 + 1.0)
    assert price.request_usd(1_000_000, 100_000, batch=True).value == pytest.approx(1.75)
    assert price.request_usd(1_000_000, 0, cached_share=0.8).value == pytest.approx(0.2 * 2.5 + 0.8 * 1.25)


def test_discounts_that_nobody_lists_are_refused() -> None:
    with pytest.raises(UnitError):
        find_api("together/llama-2-70b").request_usd(1, 1, batch=True)
    with pytest.raises(UnitError):
        find_api("gpt-4").request_usd(1, 1, cached_share=0.5)
    with pytest.raises(UnitError):
        find_api("gpt-4o").request_usd(1, 1, cached_share=1.5)


def test_140_gb_cost_3_22_usd_a_month_to_keep() -> None:
    found = find_bytes("s3-standard").month_usd(140_000_000_000)
    assert found.value == pytest.approx(3.22)
    assert found.low == pytest.approx(140e9 / 2**30 * 0.023)


def test_tiers_are_paid_one_after_the_other() -> None:
    sent = egress_of(find_bytes("s3-standard"))
    assert sent.name == "aws-egress"
    assert sent.month_usd(10_000 * 10**9).value == pytest.approx(900)
    assert sent.month_usd(15_000 * 10**9).value == pytest.approx(900 + 5_000 * 0.085)
    assert sent.month_usd(60_000 * 10**9).value == pytest.approx(900 + 40_000 * 0.085 + 10_000 * 0.07)
    beyond = 900 + 3_400 + 7_000 + 50_000 * 0.05  # the tiers' own sums, as the source has them, and 50 TB more
    assert sent.month_usd(200_000 * 10**9).value == pytest.approx(beyond)


def test_every_class_of_storage_has_the_egress_of_its_cloud() -> None:
    for price in bytes_prices():
        if price.kind == "storage":
            assert egress_of(price).cloud == price.cloud


def test_unknown_names_are_refused_with_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"gpt-4\.1"):
        find_api("gpt-4.2")
    with pytest.raises(UnknownNameError, match="s3-standard"):
        find_bytes("s3-normal")
    with pytest.raises(UnknownNameError):
        find_bytes("aws-egress")
