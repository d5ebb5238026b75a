"""Do plan, price and terms come together, and does the command refuse what it cannot use?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from weighbridge.cli import main
from weighbridge.costing import ITSELF, Costing, Terms, accuracy_given, accuracy_of_proof, cost, prices
from weighbridge.errors import ConfigError, FormatError, SourceError, UnitError, UnknownNameError
from weighbridge.estimate import Basis
from weighbridge.hardware.instances import instances
from weighbridge.planning import fit
from weighbridge.predict.ownership import parse_item
from weighbridge.predict.prices import find_api
from weighbridge.rankings import models_on


def weigh(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), prog_name="weigh")


def seventy(terms: Terms, **options: Any) -> Costing:
    return cost(
        "llama-2-70b", "a100-sxm-80", terms, **{"devices": 2, "prompt_tokens": 1, "output_tokens": 100, **options}
    )


def test_the_planned_70b_at_batch_1_costs_what_its_speed_says() -> None:
    """At 2 USD and at 3 USD an hour for each of two A100: it meets the 74 to 208 USD of 8 to 15 tokens a second.

    Even its lower end is more than fifteen times 1.50.
    """
    cheap, dear = (seventy(Terms(usd_per_hour=usd)).bill.million_output_tokens for usd in (4.0, 6.0))
    assert cheap.low is not None and dear.high is not None
    assert 15 * 1.5 < cheap.low < dear.high < 300
    assert dear.high > 74 and cheap.low < 208
    assert dear.value is not None and 74 < dear.value < 208


def test_the_bill_of_a_plan_is_that_of_weigh_fit() -> None:
    plan = fit("llama-3.1-8b", "p5.48xlarge", batch=64, alternatives=False)
    found = cost("llama-3.1-8b", "p5.48xlarge", batch=64)
    told = plan.to_json()["cost"]["usd_per_million_output_tokens"]
    assert found.bill.million_output_tokens.value == pytest.approx(told["value"])
    assert found.bill.million_output_tokens.high == pytest.approx(told["high"])
    assert found.price.usd_per_hour.value == pytest.approx(instances()["p5.48xlarge"].price_usd_per_h)
    assert found.price.date == "2026-11-09"


def test_ten_million_requests_a_day_on_the_planned_70b() -> None:
    found = seventy(Terms(requests_per_day=10_000_000, usd_per_hour=4.0))
    assert found.load is not None and found.devices_at_peak is not None
    assert found.load.requests_per_s == pytest.approx(115.74, abs=0.005)
    assert found.devices_at_peak == pytest.approx(5.15, abs=0.01)
    assert found.load.replicas.value is not None and found.load.replicas.value * 2 > 10 * found.devices_at_peak
    busier = seventy(Terms(requests_per_day=10_000_000, usd_per_hour=4.0), batch=32)
    assert busier.load is not None and busier.load.replicas.value is not None
    assert busier.load.replicas.value < found.load.replicas.value / 5


def test_ways_to_pay() -> None:
    on_demand = cost("llama-2-70b", "p4d.24xlarge").price
    year = cost("llama-2-70b", "p4d.24xlarge", Terms(reserved_years=1)).price
    spot = cost("llama-2-70b", "p4d.24xlarge", Terms(spot=True)).price
    assert year.usd_per_hour.value == pytest.approx(19.22)
    assert (year.kind, year.date) == ("reserved for 1 year", "2025-03-02")
    assert spot.usd_per_hour.basis is Basis.ASSUMED
    assert on_demand.usd_per_hour.value is not None and spot.usd_per_hour.value is not None
    assert spot.usd_per_hour.value < on_demand.usd_per_hour.value
    two = cost("llama-2-70b", "p4d.24xlarge", Terms(reserved_years=3), devices=2).price
    assert two.usd_per_hour.value == pytest.approx(2 * 11.57)


def test_what_is_paid_stands_beside_the_price_on_demand() -> None:
    shown = weigh("cost", "llama-2-70b", "--on", "p4d.24xlarge", "--reserved", "1").stdout
    assert "paid: reserved for 1 year, 2025-03-02" in shown
    assert "on demand it would be 21.96 USD an hour, 2026-11-09" in shown


def test_a_listed_device_can_be_bought() -> None:
    terms = Terms(buy_listed=True, usd_per_kwh=0.0, write_off_years=1)
    found = cost("llama-3.1-8b", "rtx-4090", terms, weights="q4_k_m", devices=2).price
    assert found.usd_per_hour.value == pytest.approx(2 * 1599 / 8766)
    assert found.source.startswith("https://")
    with pytest.raises(UnitError, match="H100"):
        cost("llama-3.1-8b", "h100-pcie", terms)


def test_a_machine_that_was_bought_takes_the_watts_of_its_plan() -> None:
    terms = Terms(machine_usd=26_298, usd_per_kwh=0.25, write_off_years=3)
    found = cost("llama-3.1-8b", "h100-sxm", terms).price.usd_per_hour
    assert found.low is not None and found.high is not None
    assert 1.0 < found.low < found.high < 1.0 + 0.7 * 1.2 * 0.25 * 3


def test_a_machine_that_was_bought_and_waits_takes_the_watts_of_waiting() -> None:
    """A card of 450 W: about 315 W at work (0.7 of it) and 67.5 W while it waits (0.15), an hour at 0.3 USD a kWh."""

    def hour(**terms: Any) -> float:
        found = cost("llama-3.1-8b", "rtx-4090", Terms(machine_usd=0, usd_per_kwh=0.3, **terms), weights="q4_k_m")
        assert found.price.usd_per_hour.value is not None
        return found.price.usd_per_hour.value

    assert hour() == pytest.approx(0.315 * 1.2 * 0.3)
    assert hour(busy=0.25) == pytest.approx((0.25 * 0.315 + 0.75 * 0.0675) * 1.2 * 0.3)
    assert hour(requests_per_day=1) == pytest.approx(0.0675 * 1.2 * 0.3, rel=0.001)


@pytest.mark.parametrize(
    "terms",
    [
        Terms(usd_per_hour=1, reserved_years=1),
        Terms(spot=True, reserved_years=1),
        Terms(machine_usd=1000),
        Terms(usd_per_hour=-1),
        Terms(usd_per_hour=1e300),
        Terms(machine_usd=1e300, usd_per_kwh=0.1),
        Terms(requests_per_day=1e30),
        Terms(usd_per_kwh=0.3),
        Terms(api_batch=True),
        Terms(growth=0.2),
        Terms(buy_listed=True, spot=True, usd_per_kwh=0.3),
        Terms(requests_per_day=10, busy=0.5),
        Terms(reserved_years=1),
        Terms(accuracies={"gpt-4": accuracy_given(0.5)}),
        Terms(apis=(find_api("gpt-4"),), headroom=float("nan")),
        Terms(apis=(find_api("gpt-4"),), headroom=2.0),
        Terms(headroom=0.5),
        Terms(write_off_years=5),
        Terms(storage_class="gcs-standard"),
        Terms(items=(parse_item("upkeep=900/month"),)),
    ],
)
def test_terms_that_contradict_each_other_are_refused(terms: Terms) -> None:
    with pytest.raises(UnitError):
        cost("llama-3.1-8b", "h100-sxm", terms)


def test_a_device_without_a_price_has_an_unknown_bill_that_says_so() -> None:
    found = cost("llama-3.1-8b", "rtx-2060", Terms(apis=(find_api("gpt-4o"),)), weights="q4_k_m")
    assert found.price.usd_per_hour.value is None
    assert "--price" in found.bill.day.note
    assert found.break_even[0].verdict == "unknown"
    assert found.offers[-1].request.value is None


def test_break_even_ladder_and_flip() -> None:
    apis = (find_api("gpt-4"), find_api("groq/llama-3.3-70b"))
    shares = {ITSELF: accuracy_given(0.9), "groq/llama-3.3-70b": accuracy_given(0.01)}
    terms = Terms(requests_per_day=1_000_000, apis=apis, accuracies=shares)
    found = cost("llama-3.1-70b", "h100-sxm", terms, devices=4, concurrency=64)
    assert [point.verdict for point in found.break_even] == ["breaks even", "never"]
    assert found.offers[0].name == "groq/llama-3.3-70b"
    itself = next(offer.name for offer in found.offers if offer.name.startswith("llama-3.1-70b"))
    assert found.flips == [("groq/llama-3.3-70b", itself)]


def test_years_have_every_item_and_each_api() -> None:
    terms = Terms(requests_per_day=1000, apis=(find_api("gpt-4o"),), years=2, growth=0.5, storage_bytes=140 * 10**9,
                  egress_bytes=10**12, items=(parse_item("upkeep=900/month"),))  # fmt: skip
    found = cost("llama-3.1-8b", "h100-sxm", terms)
    assert found.total is not None
    assert [item.name for item in found.total.items] == ["machines", "storage", "egress", "upkeep"]
    assert found.total.of(found.total.items[1]).value == pytest.approx(24 * 3.22)
    assert found.total.of(found.total.items[2]).value == pytest.approx(12 * 90 * 2.5)
    (name, usd), *_ = found.api_totals
    request = find_api("gpt-4o").request_usd(512, 128).value
    assert request is not None
    assert name == "gpt-4o"
    assert usd.value == pytest.approx(request * 1000 * 365.25 * 2.5)
    assert found.fixed_usd_per_day == pytest.approx((3.22 + 90 + 900) / 30.4375)


def test_accuracy_comes_from_a_proof(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    path.write_text(json.dumps({"metrics": [{"name": "accuracy", "base": 0.9, "candidate": 0.8, "n": 200}]}))
    found = accuracy_of_proof(path)
    assert found.value == 0.8 and found.basis is Basis.MEASURED
    assert found.low == pytest.approx(0.7494, abs=5e-4)
    assert found.high == pytest.approx(0.8425, abs=5e-4)
    path.write_text(json.dumps({"metrics": [{"name": "perplexity", "base": 9, "candidate": 10, "n": 200}]}))
    with pytest.raises(ConfigError, match="perplexity"):
        accuracy_of_proof(path)
    endless = '{"metrics": [{"name": "accuracy", "candidate": 0.5, "n": 1e400}]}'
    for text in ("{", "[]", '{"metrics": 3}', '{"metrics": [{"name": "accuracy"}]}', endless, "\udcff"):
        path.write_text(text, errors="surrogateescape")
        with pytest.raises(FormatError):
            accuracy_of_proof(path)
    with pytest.raises(SourceError):
        accuracy_of_proof(tmp_path / "absent.json")


# --- instances --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("fit", "llama-2-7b", "--on", "p4d.xlarge"),
        ("cost", "llama-2-7b", "--on", "p4d.xlarge"),
        ("models", "--on", "p4d.xlarge"),
        ("prices", "p4d.xlarge"),
    ],
)
def test_p4d_xlarge_does_not_exist_and_p4d_24xlarge_does(arguments: tuple[str, ...]) -> None:
    result = weigh(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "a known instance such as p4d.24xlarge" in result.stderr
    assert "AWS has no p4d.xlarge: that family has p4d.24xlarge alone" in result.stderr


def test_an_instance_of_an_incomplete_family_is_only_not_known() -> None:
    with pytest.raises(UnknownNameError, match=r"known of that family: p5\.48xlarge alone"):
        fit("llama-2-7b", "p5.4xlarge")


def test_models_are_ranked_for_all_devices_of_an_instance() -> None:
    ranked = models_on("p5.48xlarge", text="llama-2-70b")
    assert {candidate.plan.machine.devices for candidate in ranked} == {8}


# --- the commands -----------------------------------------------------------------------------------------------------


def test_prices_lists_what_holds_the_text() -> None:
    found = prices("a100-sxm-40")
    assert {one.name for one in found.instances} >= {"p4d.24xlarge", "BM.GPU4.8"}
    assert not found.api
    with pytest.raises(UnknownNameError):
        prices("nothing-of-this-name")
    assert "2026-11-09" in weigh("prices", "p4d.24xlarge").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("--api", "gpt-99x"),
        ("--api-price", "3"),
        ("--api-price", "-1/2"),
        ("--api-price", "nan/2"),
        ("--accuracy", "much"),
        ("--accuracy", "2"),
        ("--accuracy", "0.9", "--accuracy", "0.8"),
        ("--accuracy", "0.5", "--proof", "absent.json"),
        ("--proof", "absent.json"),
        ("--storage", "140"  "Gb"),
        ("--storage-class", "attic"),
        ("--item", "upkeep"),
        ("--item", f"upkeep={'9' * 100}", "--years", "1"),
        ("--api-price", "1e300/1"),
        ("--years", "0"),
        ("--headroom", "1"),
        ("--busy", "0"),
        ("--cached", "0.5", "--api", "gpt-4"),
        ("--reserved", "1"),
        ("--output", "0"),
        ("--buy", "1000"),
        ("--buy", "cheap", "--electricity", "0.3"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused(arguments: tuple[str, ...]) -> None:
    extra = ("--requests-per-day", "100") if arguments[0] == "--headroom" else ()
    result = weigh("cost", "llama-3.1-8b", "--on", "h100-sxm", *arguments, *extra)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_what_does_not_fit_is_billed_and_exits_with_1() -> None:
    result = weigh("cost", "llama-2-70b", "--on", "rtx-4090", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["fits"] is False
