"""Carbon from energy, grid and building against hand-computed points and published totals; idle machines too."""

from __future__ import annotations

import pytest

from weighbridge.errors import UnitError, UnknownNameError
from weighbridge.estimate import Basis, Estimate
from weighbridge.planning import fit
from weighbridge.predict.carbon import Site, embodied, emitted, facility_kwh, site
from weighbridge.predict.equivalents import equivalents, pictured
from weighbridge.predict.idle import Duty


def exact(value: float, unit: str = "J") -> Estimate:
    return Estimate(value, value, value, unit, Basis.MEASURED)


def test_llama_2_70b_emitted_what_its_authors_say() -> None:
    """1,720,320 hours of 400 W are 688.1 MWh; at 0.423 kg/kWh 291 t (the paper: 291.42 t), 63.3 cars of 4.6 t."""
    joules = exact(1_720_320 * 3600 * 400)
    at = site("423", "1")
    assert facility_kwh(joules, at).value == pytest.approx(688_128)
    grams = emitted(joules, at)
    assert grams.value == pytest.approx(291.42e6, rel=0.002)
    assert grams.basis is Basis.MEASURED and grams.low == grams.high == grams.value
    cars = Estimate.from_json(pictured(joules, grams)[0]["count"])
    assert cars.value == pytest.approx(63.3, abs=0.05)


def test_without_a_place_both_are_assumed_and_say_so() -> None:
    """A kilowatt-hour with a PUE of 1.2 (1.08 to 1.54): 534 g on the world's mean, 32.4 to 1,232 g."""
    grams = emitted(exact(3.6e6), Site())
    assert (grams.value, grams.low, grams.high) == pytest.approx((534, 32.4, 1232))
    assert grams.basis is Basis.ASSUMED and grams.note == "a PUE of 1.08 to 1.54 and grids of 30 to 800 g/kWh"


def test_a_named_grid_has_the_spread_of_a_year_and_a_given_one_none() -> None:
    france = site("france").grid
    assert france.low == pytest.approx(24.18) and france.high == pytest.approx(64.18)
    poland, stockholm = site("poland").grid, site("europe-north2").grid
    assert poland.value is not None and poland.high == pytest.approx(1.18 * poland.value)
    assert stockholm.low == 0 and stockholm.high == pytest.approx(39.39)  # 2.73 g in 2024, 19.39 g in 2025
    assert "2024" in france.note and "Ember" in france.note
    assert site("50").grid.low == site("50").grid.high == 50.0
    assert site(None, "google").pue.value == 1.09 and "2024" in site(None, "google").pue.note


@pytest.mark.parametrize(("grid", "pue"), [("-1", None), ("4000", None), (None, "0.9"), (None, "11")])
def test_numbers_that_cannot_be_are_refused(grid: str | None, pue: str | None) -> None:
    with pytest.raises(UnitError):
        site(grid, pue)


@pytest.mark.parametrize(("grid", "pue"), [("nan", None), ("Atlantis", None), (None, "inf"), (None, "nobody")])
def test_names_that_nobody_has_are_refused(grid: str | None, pue: str | None) -> None:
    with pytest.raises(UnknownNameError):
        site(grid, pue)


def test_a_plan_follows_its_place() -> None:
    plan = fit("llama-2-7b", "a100-sxm-80", grid="100", pue="1.5", alternatives=False)
    energy = plan.to_json()["energy"]
    joules, grams = energy["j_per_output_token"], energy["gco2e_per_million_output_tokens"]
    assert grams["value"] == pytest.approx(joules["value"] * 1e6 / 3.6e6 * 1.5 * 100)
    other = fit("llama-2-7b", "a100-sxm-80", grid="200", pue="1.5", alternatives=False).to_json()["energy"]
    assert other["j_per_output_token"] == joules
    assert other["gco2e_per_million_output_tokens"]["value"] == pytest.approx(2 * grams["value"])


def test_making_is_spread_over_a_life() -> None:
    """Eight H100 for an hour: 8 x 164 kg over 4 years of 8,766 hours are 37.4 g."""
    share = embodied("h100-sxm", 8, exact(3600, "s"))
    assert share.value == pytest.approx(8 * 164_000 / (4 * 8766)) and share.basis is Basis.ASSUMED
    assert share.low == pytest.approx(8 * 164_000 / (6 * 8766)) and share.high == pytest.approx(8 * 273e3 / (3 * 8766))
    assert embodied("rtx-4090", 1, exact(3600, "s")).value is None


def test_a_machine_that_waits_takes_energy_for_it() -> None:
    """100 W idle, 500 W busy, busy a quarter of the time: 200 W, of which three eighths for waiting; 4 s cost 800 J."""
    duty = Duty(exact(100, "W"), exact(500, "W"), 0.25)
    assert duty.mean_w.value == 200 and duty.idle_share == 0.375
    assert duty.work_j(exact(1, "s")).value == pytest.approx(800)
    assert Duty(exact(100, "W"), exact(500, "W"), 1.0).work_j(exact(1, "s")).value == 500
    for idle, share in ((600.0, 0.5), (100.0, 0.0), (100.0, 1.1)):
        with pytest.raises(UnitError):
            Duty(exact(idle, "W"), exact(500, "W"), share)
    unknown = Estimate(None, None, None, "W", Basis.ASSUMED, "nobody knows")
    assert Duty(unknown, exact(500, "W"), 0.5).work_j(exact(1, "s")).note.endswith("nobody knows")
    assert Duty(unknown, exact(500, "W"), 0.5).idle_share is None


def test_a_machine_that_works_faster_waits_longer() -> None:
    """Work that comes every 10 s: 1 to 5 s at 500 W, the rest at 100 W; and 20 s, for which no machine waits."""
    duty = Duty(exact(100, "W"), exact(500, "W"), 0.2)
    found = duty.work_j(Estimate(2.0, 1.0, 5.0, "s", Basis.MODELLED))
    assert (found.low, found.value, found.high) == pytest.approx((500 + 900, 1000 + 800, 2500 + 500))
    assert duty.work_j(Estimate(2.0, 1.0, 20.0, "s", Basis.MODELLED)).high == pytest.approx(10_000)


def test_equivalents_are_one_kind_each_with_a_source() -> None:
    for one in equivalents():
        assert (one.carbon_g is None) != (one.energy_j is None) and one.source and one.year >= 2023
    by_name = {one.name: one for one in equivalents()}
    assert by_name["car_years_2026"].carbon_g == pytest.approx(8.887e-3 * 1e6 * 10_917 / 22.8 / 0.994, rel=0.003)
    assert by_name["telephone_charges"].energy_j == pytest.approx(0.012 * 3.6e6)
