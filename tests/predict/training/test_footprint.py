"""Energy and carbon of training against published figures, and power against the runs that were metered."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.catalogue import find_device
from weighbridge.predict.carbon import site
from weighbridge.predict.training.footprint import STUDENT_T, energy, metered, power

DATA = Path(__file__).resolve().parents[4] / "shared/data/perf/training.csv"
A100 = find_device("a100-sxm-80")


def hours(count: int) -> Estimate:
    return Estimate.exact(count, "h")


def test_llama_2_70b_at_its_rated_power() -> None:
    """F07 and F09: 1,720,320 h x 400 W = 688.128 MWh; at 423.5 g 291.42 t, which are 63.35 cars of 4.6 t."""
    found = energy(hours(1_720_320), A100, site("423.5", "1"), watts=(400, 400))
    assert found.facility_kwh.value == pytest.approx(688_128) and found.facility_kwh.low == found.facility_kwh.high
    assert (found.carbon_g.value or 0) / 1e6 == pytest.approx(291.42, abs=0.01)
    cars = next(one for one in found.equivalents if one["name"] == "car_years")
    assert cars["count"]["value"] == pytest.approx(63.35, abs=0.01)
    assert found.at_rated_kwh.value == pytest.approx(688_128)


def test_bloom_at_its_rated_power() -> None:
    """Luccioni et al. 2022: 1,082,990 h x 400 W = 433,196 kWh."""
    assert energy(hours(1_082_990), A100).at_rated_kwh.value == pytest.approx(433_196)


def test_pue_is_of_the_data_centre_and_not_of_the_machines() -> None:
    found = energy(hours(1000), A100, site("100", "1.5"), watts=(500, 700))
    assert found.machines_kwh.value == 600 and found.machines_kwh.low == 500
    assert found.facility_kwh.value == 900 and (found.carbon_g.value or 0) == pytest.approx(90_000)


def test_a_metered_device_takes_the_mean_of_its_runs() -> None:
    """The geometric mean of 310 and 289 W, and an interval that holds both (Patterson et al. 2021, Table 4)."""
    found = power(find_device("tpu-v3"))
    assert found.value == pytest.approx(math.sqrt(310 * 289)) and found.basis is Basis.MODELLED
    assert found.low is not None and found.high is not None and found.low < 289 and found.high > 310
    one = power(find_device("tpu-v4"))
    assert one.value == pytest.approx(378.5)
    assert one.high is not None and (one.high / 378.5) > (found.high / (found.value or 0)), "one run says less than two"


def test_the_interval_of_a_metered_device_by_hand() -> None:
    """Two devices have two runs each: half the squared logarithms of their ratios, two degrees of freedom."""
    spread = math.sqrt((math.log(310 / 289) ** 2 + math.log(969 / 868) ** 2) / 2 / 2)
    wide = 2.920 * spread * math.sqrt(1.5)
    found = power(find_device("h100-sxm"))
    assert found.high is not None and found.high == pytest.approx(math.sqrt(969 * 868) * math.exp(wide))


def test_other_cards_take_a_share_of_their_rated_power() -> None:
    """The geometric mean of 330/300, 969/700 and 868/700; TPUs, which have no turbo, take no part for cards."""
    share = (330 / 300 * 969 / 700 * 868 / 700) ** (1 / 3)
    found = power(A100)
    assert found.value == pytest.approx(400 * share) and found.low is not None and found.high is not None
    assert found.low < 400 and found.high < 813, "above what a computer of eight is rated for: 6.5 kW"
    assert "rated 400 W" in found.note


def test_metered_runs_are_inside_when_they_are_left_out() -> None:
    for row in metered():
        found = power(find_device(row.device), [one for one in metered() if one.name != row.name])
        if found.value is not None:
            assert found.low is not None and found.high is not None and found.low <= row.watts <= found.high, row.name


@pytest.mark.parametrize("name", ["tpu-v5e", "apple-m2-max"])
def test_power_that_nobody_knows_stays_unknown(name: str) -> None:
    found = energy(hours(10), find_device(name))
    assert found.watts.value is None and found.facility_kwh.value is None and found.carbon_g.value is None
    assert found.facility_kwh.note
    known = energy(hours(10), find_device(name), watts=(100, 100))
    assert known.machines_kwh.value == pytest.approx(1.0)


@pytest.mark.parametrize("watts", [(0, 1), (2, 1), (1, 1e9), (math.nan, 1)])
def test_watts_that_cannot_be_are_refused(watts: tuple[float, float]) -> None:
    with pytest.raises(UnitError):
        energy(hours(10), A100, watts=watts)


def test_making_is_a_share_of_the_devices_life() -> None:
    """127.6 kg over four years of use: 1000 hours are 1000 / 35,064 of it; an unknown device stays unknown."""
    found = energy(hours(1000), A100).to_json()["embodied_kg"]
    assert found["value"] == pytest.approx(127.6 * 1000 / (4 * 8766))
    assert energy(hours(10), find_device("rtx-4090")).embodied_g.value is None


def test_students_t() -> None:
    """The table of any book: 6.314 with one degree of freedom, 1.833 with nine."""
    assert (STUDENT_T[1], STUDENT_T[2], STUDENT_T[9]) == (6.314, 2.920, 1.833)
    assert len(metered()) <= 1 + max(STUDENT_T)


@pytest.mark.skipif(not DATA.exists(), reason="the collected runs are not beside this checkout")
def test_published_runs_are_as_near_as_the_table_says() -> None:
    from benchmarks.training_energy import lines

    with DATA.open(encoding="utf-8") as file:
        found = list(lines(list(csv.DictReader(file))))
    arithmetic = [line for line in found if line.rests_on not in ("metered", "an estimate")]
    others = [line for line in found if line not in arithmetic]
    assert len(arithmetic) >= 5 and all(abs(line.error) < 0.005 for line in arithmetic)
    assert len(others) >= 3 and all(abs(line.error) < 0.15 for line in others)
