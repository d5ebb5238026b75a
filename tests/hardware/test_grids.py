"""Do the facts of grids, fleets and devices hold together, and do names find them?"""

from __future__ import annotations

import re

import pytest

from weighbridge.errors import UnknownNameError
from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.facilities import find_fleet, fleets, makings
from weighbridge.hardware.grids import find_grid, grids, matching


@pytest.mark.parametrize(
    ("name", "grams"),
    [
        ("France", 44.18),  # Ember, 2024
        ("world", 473.01),
        ("gb", 210.89),
        ("United States", 383.55),
        ("CAMX", 438.15 * 0.45359237),  # eGRID2023 of January 2025, pounds of CO2e a MWh
        ("us-egrid", 775.239 * 0.45359237),
        ("us-east1", 579.44),  # Google Cloud, 2025
        ("us-east-1", 593.079 * 0.45359237),  # AWS in Virginia: SRVC
        ("EU-WEST-1", 279.7),  # AWS in Ireland
        ("westeurope", 253.31),  # Azure in the Netherlands
    ],
)
def test_published_factors_are_found_by_name(name: str, grams: float) -> None:
    assert find_grid(name).g_per_kwh == pytest.approx(grams, abs=0.06)


def test_the_mean_of_the_union_is_near_what_ember_says_of_2024() -> None:
    """Ember, European Electricity Review 2025: 213 g a kilowatt-hour; ours is weighted by the generation of 2023."""
    assert find_grid("eu").g_per_kwh == pytest.approx(213, rel=0.04)


def test_every_grid_can_be_and_every_name_is_of_one() -> None:
    owners: dict[str, str] = {}
    for grid in grids():
        assert 0 < grid.g_per_kwh < 1500 and 2021 < grid.year < 2027, grid.name
        assert grid.url.startswith("https://") and grid.source, grid.name
        for name in {name.lower() for name in grid.names}:
            assert owners.setdefault(name, grid.name) == grid.name, name


def test_a_region_says_that_its_grid_is_our_choice() -> None:
    assert "our choice" in find_grid("eastus").note and not find_grid("us-east4").note


def test_an_unknown_grid_names_its_neighbours() -> None:
    with pytest.raises(UnknownNameError, match="France") as caught:
        find_grid("Frnce")
    assert "weigh grids" in str(caught.value)


def test_a_part_of_a_name_finds_all_that_hold_it() -> None:
    found = {grid.name for grid in matching("virginia")}
    assert {"srvc", "us-east4", "us-east-1", "eastus"} <= found


def test_fleets_have_a_pue_of_a_year() -> None:
    assert {fleet.name: fleet.pue for fleet in fleets()} == {
        "aws": 1.14, "google": 1.09, "microsoft": 1.17, "meta": 1.08, "world": 1.54}  # fmt: skip
    with pytest.raises(UnknownNameError, match="google"):
        find_fleet("gogle")


def test_what_making_a_device_emitted_is_of_known_devices_and_dated() -> None:
    for name, made in makings().items():
        assert find_device(name).name == name
        assert made.low_g <= made.carbon_g <= made.high_g and re.search(r"20\d\d|arXiv", made.source)
    assert makings()["h100-sxm"].carbon_g == 1_312_000 / 8
