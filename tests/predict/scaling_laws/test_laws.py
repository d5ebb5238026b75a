"""Published laws against the figures of their own papers."""

from __future__ import annotations

import math

import pytest

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.estimate import Basis
from weighbridge.predict.scaling_laws.forms import Additive, Kaplan
from weighbridge.predict.scaling_laws.gains import gain, gain_of
from weighbridge.predict.scaling_laws.hyperparameters import batch_tokens, learning_rate
from weighbridge.predict.scaling_laws.laws import additive_law, find_law, law_json, laws
from weighbridge.predict.scaling_laws.optimum import (
    DENSE,
    flops_for_loss,
    optima,
    optimum,
    outside,
    predicted_loss,
    verdict,
)
from weighbridge.predict.scaling_laws.repetition import (
    effective_tokens,
    repeated_loss,
    repeated_optimum,
    worth_of_last,
)
from weighbridge.predict.scaling_laws.served import served_optimum
from weighbridge.predict.scaling_laws.supply import supply

TABLE_A3_APPROACH_3 = [  # parameters, FLOPs, tokens of Hoffmann et al. 2022; the FLOPs of 175B are printed as 1.26e24
    (400e6, 2.21e19, 9.2e9), (1e9, 1.62e20, 27.1e9), (10e9, 2.46e22, 410.1e9), (67e9, 1.71e24, 4.1e12),
    (280e9, 3.52e25, 20.1e12), (520e9, 1.36e26, 43.5e12), (1e12, 5.65e26, 94.1e12), (10e12, 8.55e28, 1425.5e12),
]  # fmt: skip


@pytest.mark.parametrize(("parameters", "tokens"), [(7e9, 140e9), (70e9, 1.4e12), (175e9, 3.5e12)])
def test_twenty_tokens_a_parameter_both_ways(parameters: float, tokens: float) -> None:
    assert optimum("twenty", parameters=parameters).tokens.value == pytest.approx(tokens, rel=1e-9)
    assert optimum("twenty", tokens=tokens).parameters.value == pytest.approx(parameters, rel=1e-9)


def test_the_rule_at_gpt_3() -> None:
    assert optimum("twenty", tokens=300e9).parameters.value == pytest.approx(15e9, rel=1e-9)
    found = optimum("twenty", flops=6 * 175e9 * 300e9)
    assert found.parameters.value == pytest.approx(51.2e9, rel=1e-3)
    assert found.flops.basis is Basis.EXACT


@pytest.mark.parametrize("name", ["chinchilla-1", "chinchilla-2"])
def test_tables_of_chinchilla_are_met_and_consistent(name: str) -> None:
    law = find_law(name)
    for flops, parameters, tokens in law.points:  # type: ignore[attr-defined]
        found = optimum(law, flops=flops)
        assert found.parameters.value == pytest.approx(parameters, rel=1e-9)
        assert found.tokens.value == pytest.approx(tokens, rel=0.1), "6 N D is the budget to the digits printed"
        assert optimum(law, parameters=parameters).flops.value == pytest.approx(flops, rel=1e-6)
    between = optimum(law, flops=1e21).parameters.value
    assert between is not None and 1e9 < between < 10e9
    exponent = math.log(law.optimal_parameters(1e30) / law.optimal_parameters(1e29)) / math.log(10)
    assert exponent == pytest.approx({"chinchilla-1": 0.50, "chinchilla-2": 0.49}[name], abs=0.006)


def test_approach_1_at_the_budget_of_the_head_to_head() -> None:
    """Appendix D.4: approach 1 gives 2.86 billion parameters at 1e21 FLOPs."""
    assert optimum("chinchilla-1", flops=1e21).parameters.value == pytest.approx(2.86e9, rel=0.02)


def test_approach_3_is_near_its_table() -> None:
    """The table has an exponent of 0.46 to two digits, the printed constants 0.4565; both meet at a small budget."""
    for parameters, flops, tokens in TABLE_A3_APPROACH_3:
        found = optimum("chinchilla-3", parameters=parameters)
        assert found.tokens.value == pytest.approx(tokens, rel=0.3), parameters
        assert found.flops.value == pytest.approx(flops, rel=0.3)


def test_the_correction_has_the_published_exponent_and_losses_by_hand() -> None:
    law = additive_law("chinchilla-corrected")
    assert law.exponent == pytest.approx(0.5126, abs=1e-4)
    by_hand = 1.8172 + 482.01 / 1e10**0.3478 + 2085.43 / 1e11**0.3658
    assert predicted_loss(law, 1e10, 1e11).value == pytest.approx(by_hand, rel=1e-12)
    assert law.covariance is not None
    errors = [math.sqrt(law.covariance[i][i]) for i in range(5)]
    assert errors[0] * law.a == pytest.approx(law.standard_errors["a"], rel=0.15)
    assert errors[1] * law.b == pytest.approx(law.standard_errors["b"], rel=0.4)  # skewed: its logarithm is not
    assert errors[2] * law.floor == pytest.approx(law.standard_errors["floor"], rel=0.2)
    assert errors[4] == pytest.approx(law.standard_errors["beta"], rel=0.15)


def test_the_best_split_has_the_least_loss() -> None:
    for law in laws().values():
        if isinstance(law, Additive):
            flops = 1e22
            best = law.optimal_parameters(flops)
            tokens = law.optimal_tokens(flops)
            assert law.training_flops(best, tokens) == pytest.approx(flops)
            for factor in (0.8, 1.25):
                assert law.loss(best * factor, tokens / factor) > law.loss(best, tokens), law.name


def test_llama_3_at_its_budget() -> None:
    found = optimum("llama-3", flops=3.8e25)
    assert found.tokens.value == pytest.approx(16.55e12, rel=1e-3)
    assert found.parameters.value == pytest.approx(402e9, rel=0.06)  # 6 x 402B x 16.55T is 4.0e25
    printed = 0.29 * 3.8e25**0.53
    assert printed == pytest.approx(10.46e12, rel=1e-3), "what the note says of the printed exponent"


def test_deepseek_counts_operations_a_token() -> None:
    found = optimum("deepseek", flops=1e21)
    assert found.parameters.value == pytest.approx(0.1715 * 1e21**0.5243 / 6, rel=1e-3)
    assert found.tokens.value == pytest.approx(5.8316 * 1e21**0.4757, rel=1e-9)


def test_deepseek_hyperparameters_are_those_of_its_models() -> None:
    """DeepSeek LLM 7B: 2,304 sequences of 4,096 tokens, 4.2e-4; 67B: 4,608, 3.2e-4; both on 2 trillion tokens."""
    small, large = 6 * 7e9 * 2e12, 6 * 67e9 * 2e12
    assert batch_tokens(small).value == pytest.approx(2304 * 4096, rel=0.05)
    assert learning_rate(small).value == pytest.approx(4.2e-4, rel=0.02)
    assert batch_tokens(large).value == pytest.approx(4608 * 4096, rel=0.06)
    assert learning_rate(large).value == pytest.approx(3.2e-4, rel=0.02)


def test_kaplan_allocates_and_loses_as_printed() -> None:
    found = optimum("kaplan", flops=8.64e19)
    assert found.parameters.value == pytest.approx(1.3e9) and found.tokens.value == pytest.approx(2e10)
    law = find_law("kaplan")
    assert isinstance(law, Kaplan)
    assert law.loss(1e8, 1e15) == pytest.approx((6.4e13 / 1e8) ** 0.076, rel=0.01)  # plenty of data
    assert law.loss(1e20, 1e9) == pytest.approx((1.8e13 / 1e9) ** 0.103, rel=1e-3)  # plenty of parameters
    assert law.alone["flops"].loss(3.1e8 * 8.64e19) == pytest.approx(1.0)


def test_gains_of_size() -> None:
    """C05: 1 - 10^-0.076 at any size by Kaplan's law; by laws with a floor the less the larger the model."""
    kaplan, floored = find_law("kaplan"), find_law("chinchilla-corrected")
    for times, share in ((10, 0.161), (2, 0.051), (3, 0.080)):
        for size in (1e8, 70e9):
            assert gain_of(kaplan, size, times) == pytest.approx(share, abs=5e-4)
            assert gain_of(kaplan, size, times) == pytest.approx(1 - times**-0.076)
    small, large = (gain_of(floored, size, 10) for size in (1e8, 70e9))
    assert small is not None and large is not None
    assert large < 0.03 < 0.1 < small
    assert gain_of(find_law("llama-3"), 70e9, 10) is None
    plenty = floored.loss(70e9, 1e30)
    assert floored.loss_with_plenty(70e9) == pytest.approx(plenty)


def test_a_gain_has_the_interval_of_all_laws() -> None:
    found = gain(find_law("kaplan"), 70e9, 10).share
    each = [share for law in laws().values() if (share := gain_of(law, 70e9, 10)) is not None]
    assert len(each) > 3
    assert (found.low, found.high) == (min(each), max(each))
    assert found.basis is Basis.ASSUMED and "largest run" in found.note
    assert gain(find_law("chinchilla-corrected"), 1e9, 2).share.basis is Basis.MODELLED
    unknown = gain(find_law("llama-3"), 70e9, 10).share
    assert unknown.value is None and "no loss" in unknown.note
    for parameters, times in ((0, 2), (1e9, 1), (1e9, 0.5), (1e9, 1e9), (math.nan, 2), (1e9, math.nan)):
        with pytest.raises(UnitError):
            gain(find_law("kaplan"), parameters, times)


@pytest.mark.parametrize(
    ("active", "tokens", "loss"), [(1e9, 28.94e9, 2.491), (3e9, 72.9e9, 2.245)]
)  # fmt: skip
def test_experts_lose_as_in_their_table(active: float, tokens: float, loss: float) -> None:
    """Table 2 of Krajewski et al. 2024, granularity 16; active parameters there are rounded."""
    law = additive_law("krajewski-moe-16")
    assert law.loss(active / law.active_share, tokens) == pytest.approx(loss, rel=0.015)
    assert law.active_share == 12 / (8 * 64 + 4)
    assert law.a == pytest.approx(18.1 + 2.1 / 16**0.58, rel=1e-6)
    assert additive_law("krajewski-moe-1").loss(active / law.active_share, tokens) > law.loss(
        active / law.active_share, tokens
    )


@pytest.mark.parametrize(
    ("parameters", "tokens", "word"),
    [(175e9, 300e9, "undertrained"), (70e9, 1.4e12, "optimal"), (70e9, 2e12, "overtrained"), (7e9, 140e9, "optimal"),
     (8e9, 15e12, "overtrained"), (280e9, 300e9, "undertrained")],
)  # fmt: skip
def test_verdicts(parameters: float, tokens: float, word: str) -> None:
    found = verdict(parameters, tokens)
    assert found.word == word
    assert found.tokens_per_parameter == pytest.approx(tokens / parameters)
    assert (found.pays_from_tokens is not None) == (word == "overtrained")


def test_verdicts_give_the_numbers_of_the_articles() -> None:
    gpt_3, llama = verdict(175e9, 300e9), verdict(70e9, 2e12)
    assert gpt_3.tokens_per_parameter == pytest.approx(1.71, abs=0.01)
    assert gpt_3.optimal_tokens.value == pytest.approx(3.5e12)
    assert gpt_3.optimal_parameters.value == pytest.approx(15e9)
    assert llama.tokens_per_parameter == pytest.approx(28.57, abs=0.01)


def test_what_is_saved_in_service_pays_for_longer_training() -> None:
    """At the break-even both models have taken the same operations."""
    law = additive_law("chinchilla-corrected")
    found = verdict(7e9, 2e12)
    loss = law.loss(7e9, 2e12)
    least = flops_for_loss(law, loss)
    assert least is not None and found.pays_from_tokens is not None
    larger = law.optimal_parameters(least)
    assert law.loss(larger, law.optimal_tokens(least)) == pytest.approx(loss, rel=1e-9)
    one = 6 * 7e9 * 2e12 + 2 * 7e9 * found.pays_from_tokens
    assert one == pytest.approx(least + 2 * larger * found.pays_from_tokens, rel=1e-6)


def test_the_example_of_sardana() -> None:
    """Figure 1: quality of 13B by Chinchilla, 2T served tokens: 7B saves 1.7e22 FLOPs, 17%."""
    law = additive_law("chinchilla-3")
    trained = optimum(law, parameters=13e9)
    assert trained.loss.value is not None
    found = served_optimum(trained.loss.value, 2e12, law)
    assert found.plain_parameters == pytest.approx(13e9, rel=1e-3)
    assert found.parameters == pytest.approx(7e9, rel=0.03)
    assert found.saved == pytest.approx(0.17, abs=0.01)
    assert found.plain_flops - found.training_flops - found.served_flops == pytest.approx(1.7e22, rel=0.05)
    assert law.loss(found.parameters, found.tokens) == pytest.approx(trained.loss.value, rel=1e-9)


def test_without_service_nothing_is_saved() -> None:
    found = served_optimum(2.1, 0.0)
    assert found.saved == pytest.approx(0.0, abs=1e-6)
    assert found.parameters == pytest.approx(found.plain_parameters, rel=2e-3)
    sizes = [served_optimum(2.1, served).parameters for served in (0.0, 1e12, 1e13, 1e14)]
    assert sizes == sorted(sizes, reverse=True)
    with pytest.raises(UnitError, match="models reach"):
        served_optimum(1.5, 1e12)


def test_repeated_tokens_are_worth_less() -> None:
    """Section 6 of Muennighoff et al. 2023 and the limits of the formula."""
    assert effective_tokens(1.0, 2.0, 1e12) == pytest.approx(2.0, rel=1e-9)
    assert effective_tokens(5.0, 1e6) == pytest.approx(5.0 * (1 + 15.387756), rel=1e-9)
    assert effective_tokens(1.0, 5.0, 3.0) == pytest.approx(1 + 3 * (1 - math.exp(-4 / 3)))  # the paper's 3.21
    assert effective_tokens(1.0, 4.0) / 4 > 0.93, "four epochs are nearly as good"
    assert worth_of_last(1 + 15.387756) == pytest.approx(1 / math.e)
    with pytest.raises(UnitError):
        effective_tokens(0.0, 4.0)


def test_repetition_suits_the_data_limited_run_of_the_paper() -> None:
    """9.3e21 FLOPs and 25 billion unique tokens: 6.34 billion parameters for 9.7 epochs."""
    found = repeated_optimum(9.3e21, 25e9)
    assert found.parameters == pytest.approx(6.34e9, rel=0.1)
    assert found.epochs == pytest.approx(9.7, rel=0.1)
    assert found.loss > found.fresh_loss
    chinchilla = repeated_loss(8.67e9, 178e9, 25e9)
    assert found.loss < chinchilla, "fewer parameters and more epochs are better"


def test_enough_data_is_not_repeated() -> None:
    found = repeated_optimum(1e21, 1e12)
    assert found.epochs == 1.0 and found.loss == found.fresh_loss and not found.notes
    law = additive_law("muennighoff")
    assert repeated_loss(2e9, 40e9, 1e12) == law.loss(2e9, 40e9)
    assert repeated_optimum(1e23, 1e9).notes


def test_supply() -> None:
    share = supply().share(15e12)
    assert (share.low, share.value, share.high) == pytest.approx((0.015, 0.05, 0.15))
    assert supply().years == (2026, 2032) and supply().median_year == 2028


def test_intervals_hold_their_value_and_widen_beyond_the_runs() -> None:
    for name in laws():
        for flops in (1e18, 1e21, 1e26):
            for one in (optimum(name, flops=flops), optimum(name, parameters=flops**0.5 / 10),
                        optimum(name, tokens=flops**0.5 * 2)):  # fmt: skip
                for part in (one.flops, one.parameters, one.tokens):
                    assert part.low is not None and part.value is not None and part.high is not None
                    assert part.low <= part.value <= part.high
                    assert (part.basis is Basis.EXACT) == (part.low == part.high)
    near, far = (optimum("chinchilla-corrected", flops=flops).parameters for flops in (1e20, 1e26))
    assert near.high / near.value < far.high / far.value  # type: ignore[operator]
    assert near.basis is Basis.MODELLED and far.basis is Basis.ASSUMED


def test_the_interval_of_a_law_without_one_is_the_spread_of_the_others() -> None:
    found = optimum("deepseek", flops=5.76e23).parameters
    logs = [math.log(find_law(name).optimal_parameters(5.76e23)) for name in DENSE]
    mean = sum(logs) / len(logs)
    half = 1.645 * math.sqrt(sum((log - mean) ** 2 for log in logs) / (len(logs) - 1))
    assert found.low is not None and found.high is not None
    assert math.log(found.high / found.low) == pytest.approx(2 * half)
    assert "spread" in found.note


def test_outside_of_its_runs_a_law_is_an_assumption() -> None:
    assert outside(find_law("chinchilla-1"), 7e9, 140e9) == ""
    assert "tokens are 30 times" in outside(find_law("chinchilla-1"), 7e9, 15e12)
    assert "smallest run" in outside(find_law("krajewski-dense"), 1e9, 1e9)
    assert predicted_loss("chinchilla-corrected", 7e9, 140e9).basis is Basis.MODELLED
    assert predicted_loss("chinchilla-corrected", 7e9, 15e12).basis is Basis.ASSUMED
    unknown = predicted_loss("llama-3", 7e9, 140e9)
    assert unknown.value is None and "no loss" in unknown.note


def test_errors_among_its_runs_say_nothing_of_a_law_beyond_them() -> None:
    """5.07 trillion parameters of a law of 3.7 billion: between laws the losses there differ by a fifth."""
    for name, width in (("krajewski-moe-1", 1.645 * 0.019), ("chinchilla-3", 1.645 * 0.01)):
        near, far = (predicted_loss(name, size, 100e9) for size in (1e9, 5.07e12))
        assert near.value is not None and near.high is not None and far.value is not None and far.high is not None
        assert near.high - near.value == pytest.approx(width * (near.value if name == "chinchilla-3" else 1))
        assert far.high - far.value == pytest.approx(0.05 * far.value) and "5% assumed" in far.note


def test_every_law_says_where_it_is_from() -> None:
    for law in laws().values():
        document = law_json(law)
        assert document["url"].startswith("https://") and document["source"] and document["counts"]
        assert document["runs"]["parameters"] or document["runs"]["tokens"] or document["runs"]["flops"]
    assert len(list(optima(flops=1e21))) == len(laws())


def test_what_no_run_has_is_refused() -> None:
    with pytest.raises(UnitError, match="exactly one"):
        optimum("twenty", flops=1e21, tokens=1e9)
    with pytest.raises(UnitError, match="0 parameters"):
        optimum("twenty", parameters=0)
    with pytest.raises(UnitError, match="operations"):
        optimum("twenty", flops=math.inf)
    with pytest.raises(UnknownNameError, match="chinchilla-1"):
        find_law("chinchila")
    with pytest.raises(UnitError, match="no sum"):
        additive_law("deepseek")
