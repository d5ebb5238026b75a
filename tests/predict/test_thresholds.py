"""Rules of training: the published thresholds, their states on a day, and runs on both sides of them."""

from __future__ import annotations

import datetime
import json

import pytest
from click.testing import CliRunner, Result

from weighbridge.cli import main
from weighbridge.errors import ConfigError, UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.thresholds import Rule, rules, standings
from weighbridge.regulation import LEAST_OF_6ND, MOST_OF_6ND, thresholds

TODAY = datetime.date(2026, 11, 23)
BY_NAME = {rule.name: rule for rule in rules()}


def weigh(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def verdicts(flops: float, on: datetime.date = TODAY) -> dict[str, str]:
    return {one.rule.name: one.verdict for one in standings(on, Estimate(flops, flops, flops, "FLOP", Basis.SPECIFIED))}


@pytest.mark.parametrize(
    ("name", "value"),
    [("eu-systemic-risk", 1e25), ("eu-general-purpose", 1e23), ("eu-billion-parameters", 1e9), ("eu-modifier", 1 / 3),
     ("us-executive-order", 1e26), ("us-executive-order-biology", 1e23), ("california-sb-53", 1e26),
     ("california-sb-1047", 1e26), ("new-york-raise", 1e26), ("illinois-sb-315", 1e26), ("us-model-weights", 1e26),
     ("korea-basic-act", 1e26)],
)  # fmt: skip
def test_thresholds_are_those_of_the_laws(name: str, value: float) -> None:
    assert BY_NAME[name].value == value


def test_every_rule_has_a_source_that_was_read() -> None:
    for rule in rules():
        assert rule.url.startswith("https://") and rule.source and rule.checked <= TODAY, rule.name
        assert rule.applies_from is None or rule.applies_from >= rule.made, rule.name
        assert rule.ended is None or rule.ended >= rule.made, rule.name


@pytest.mark.parametrize(
    ("name", "day", "state"),
    [("eu-systemic-risk", "2024-07-11", "to come"), ("eu-systemic-risk", "2025-08-01", "adopted"),
     ("eu-systemic-risk", "2025-08-02", "applies"), ("us-executive-order", "2025-01-19", "applies"),
     ("us-executive-order", "2025-01-20", "revoked"), ("us-model-weights", "2025-05-12", "adopted"),
     ("us-model-weights", "2025-05-15", "withdrawn"), ("california-sb-53", "2025-12-31", "adopted"),
     ("california-sb-53", "2026-01-01", "applies"), ("california-sb-1047", "2026-01-01", "vetoed"),
     ("new-york-raise", "2026-11-23", "adopted"), ("new-york-raise", "2027-01-01", "applies")],
)  # fmt: skip
def test_a_rule_has_a_state_on_each_day(name: str, day: str, state: str) -> None:
    assert BY_NAME[name].state(datetime.date.fromisoformat(day)) == state


def test_gpt_3_is_above_the_indication_and_gpt_4_above_the_presumption() -> None:
    gpt_3, gpt_4 = verdicts(3.14e23), verdicts(2.1e25)
    assert (gpt_3["eu-general-purpose"], gpt_3["eu-systemic-risk"]) == ("above", "below")
    assert (gpt_4["eu-systemic-risk"], gpt_4["california-sb-53"]) == ("above", "below")


def test_a_threshold_itself_is_not_above_it_and_is_at_least_it() -> None:
    assert verdicts(1e25)["eu-systemic-risk"] == "below"
    assert verdicts(1.0001e25)["eu-systemic-risk"] == "above"
    found = {one.rule.name: one.verdict for one in standings(TODAY, parameters=10**9)}
    assert found["eu-billion-parameters"] == "above" and found["eu-systemic-risk"] == "unknown"
    assert [one.verdict for one in standings(TODAY, parameters=10**9 - 1) if one.rule.quantity == "parameters"] == [
        "below"
    ]


def test_an_interval_over_the_threshold_is_undecided() -> None:
    near = Estimate(9e24, 8e24, 1.1e25, "FLOP", Basis.MODELLED)
    found = {one.rule.name: one for one in standings(TODAY, near)}
    assert found["eu-systemic-risk"].verdict == "undecided" and found["eu-general-purpose"].verdict == "above"
    ratio = found["eu-systemic-risk"].ratio
    assert ratio is not None and (ratio.low, ratio.high) == pytest.approx((0.8, 1.1))


def test_ten_billion_parameters_at_20_tokens_are_far_below() -> None:
    """I01: 6 x 10^10 x 2 x 10^11 = 1.2e22, 833 times less than 1e25 (claims of 10 and 500 billion parameters)."""
    found = thresholds(TODAY, parameters=10**10, tokens=2 * 10**11)
    assert found.flops is not None and found.flops.value == 12 * 10**21
    placed = {one.rule.name: one for one in found.standings}
    assert {one.verdict for one in found.standings if one.rule.quantity == "training_flop"} == {"below"}
    ratio = placed["eu-systemic-risk"].ratio
    assert ratio is not None and 1 / (ratio.value or 0) == pytest.approx(833.3, rel=1e-3)
    assert any("no rule of the table has a threshold of parameters" in note for note in found.notes)


def test_thresholds_in_parameters_at_20_tokens() -> None:
    """sqrt(1e25 / 120) = 289 billion and sqrt(1e26 / 120) = 913 billion, not 10 and 500."""
    assert BY_NAME["eu-systemic-risk"].parameters_at_20 == pytest.approx(288.7e9, rel=1e-3)
    assert BY_NAME["california-sb-53"].parameters_at_20 == pytest.approx(912.9e9, rel=1e-3)
    assert BY_NAME["eu-billion-parameters"].parameters_at_20 is None
    assert BY_NAME["us-executive-order"].tokens(500e9) == pytest.approx(33.33e12, rel=1e-3)


def test_parameters_alone_rest_on_an_assumed_ratio() -> None:
    found = thresholds(TODAY, parameters=10**10).flops
    assert found is not None and found.basis is Basis.ASSUMED and found.value == 12 * 10**21
    assert found.low == pytest.approx(6e20 * 1.7) and found.high == pytest.approx(6e20 * 2000)


def test_a_named_model_is_counted() -> None:
    found = thresholds(TODAY, "gpt-3", tokens=300 * 10**9)
    assert found.flops is not None and found.flops.value == pytest.approx(3.143e23, rel=1e-3)
    attention = 3 * 300e9 * 2 * 2 * 96 * 12288 * 4096
    assert found.flops.high == pytest.approx((found.flops.low or 0) + attention, rel=1e-2)


def test_a_mixture_counts_what_a_token_uses() -> None:
    found = thresholds(TODAY, "mixtral-8x7b", tokens=10**12)
    assert found.parameters is not None and found.parameters > 46 * 10**9
    assert found.flops is not None and found.flops.value == pytest.approx(6 * 12.88e21, rel=0.01)


def test_a_change_counts_with_the_original_and_against_a_third_of_it() -> None:
    def share(flops: int) -> str:
        found = thresholds(TODAY, flops=flops, original_flops=9 * 10**24)
        return next(one.verdict for one in found.standings if one.rule.name == "eu-modifier")

    assert share(2 * 10**24) == "below" and share(4 * 10**24) == "above"
    together = thresholds(TODAY, flops=2 * 10**24, original_flops=9 * 10**24)
    assert next(one.verdict for one in together.standings if one.rule.name == "eu-systemic-risk") == "above"


@pytest.mark.parametrize(
    "given",
    [{}, {"tokens": 10}, {"flops": 10, "tokens": 10}, {"parameters": 0}, {"flops": 0},
     {"source": "gpt-2", "parameters": 10}, {"flops": 10, "original_flops": 0}],
)  # fmt: skip
def test_what_cannot_be_placed_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(UnitError):
        thresholds(TODAY, **given)  # type: ignore[arg-type]


def test_a_net_of_convolutions_has_no_tokens() -> None:
    with pytest.raises(ConfigError, match="--flops"):
        thresholds(TODAY, "resnet-50", tokens=10**9)
    with pytest.raises(ConfigError, match="--flops"):
        thresholds(TODAY, "resnet-50")


def test_a_product_near_a_threshold_decides_nothing() -> None:
    """6 x 405e9 x 4.1e12 = 9.96e24 leaves attention out, which puts Llama 3.1 405B above 1e25."""
    near = thresholds(TODAY, parameters=405 * 10**9, tokens=41 * 10**11)
    shaped = thresholds(TODAY, "llama-3.1-405b", tokens=41 * 10**11)
    for found in (near, shaped):
        assert next(one.verdict for one in found.standings if one.rule.name == "eu-systemic-risk") == "undecided"
    assert near.flops is not None and shaped.flops is not None and near.flops.low is not None
    assert near.flops.low < (shaped.flops.low or 0) and (near.flops.high or 0) > (shaped.flops.high or 0)


@pytest.mark.parametrize("name", ["llama-3.2-1b", "mistral-7b", "mixtral-8x7b", "gpt-3", "deepseek-v3", "falcon-180b"])
def test_operations_of_a_shape_lie_in_the_interval_of_the_product(name: str) -> None:
    shaped = thresholds(TODAY, name, tokens=10**12)
    assert shaped.flops is not None and shaped.flops.value is not None
    assert (shaped.flops.low or 0) / shaped.flops.value >= LEAST_OF_6ND
    assert (shaped.flops.high or 0) / shaped.flops.value <= MOST_OF_6ND


def test_the_command_says_the_day_and_that_it_is_no_advice() -> None:
    told = weigh("thresholds", "--parameters", "10B", "--tokens", "200B", "--date", "2026-11-23")
    assert told.exit_code == 0 and "1.2e22 (9.6e21 to 1.56e22) FLOP" in told.output and "no legal advice" in told.output
    assert "adopted, applies from 2027-01-01" in told.output and "revoked 2025-01-20" in told.output
    later = json.loads(weigh("thresholds", "--flops", "1e24", "--date", "2030-01-01", "--json").stdout)
    assert any("last checked" in note for note in later["notes"]) and later["on"] == "2030-01-01"
    assert weigh("thresholds").exit_code == 2 and weigh("thresholds", "--flops", "1e24", "--date", "x").exit_code == 2


def test_a_rule_of_another_kind_is_a_mistake_of_the_file() -> None:
    facts = {key: getattr(BY_NAME["eu-systemic-risk"], key) for key in Rule.__slots__}
    with pytest.raises(AssertionError):
        Rule(**{**facts, "quantity": "layers"})
