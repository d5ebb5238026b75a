"""Ways to train side by side: what fits, what would, what it costs, and what is said of it."""

from __future__ import annotations

import pytest

from weighbridge.predict.training.money import outlay
from weighbridge.show.trainings import ways_lines
from weighbridge.training import train
from weighbridge.training_wish import wish
from weighbridge.ways_to_train import Way, Ways, ways_to_train


@pytest.fixture(scope="module")
def ways() -> Ways:
    return ways_to_train("llama-2-7b", "rtx-4090", wish(10**7, seq=512), outlay=outlay(items=["data=500"]))


def by_name(ways: Ways) -> dict[str, Way]:
    return {way.plan.run.method.name: way for way in ways.ways}


def test_what_does_not_fit_has_no_price(ways: Ways) -> None:
    full = by_name(ways)["full"]
    assert full.plan.memory.fits is False
    assert (full.usd.value, full.device_hours.value, full.project) == (None, None, None)
    assert "does not fit" in full.usd.note
    lora = by_name(ways)["lora"]
    assert lora.usd == lora.plan.cost_usd
    assert lora.project is not None
    assert lora.project.total.value == pytest.approx(500 + (lora.usd.value or 0))
    row = next(line for line in ways_lines(ways) if line.startswith("full "))
    assert "does not fit; 8 devices would do" in row
    assert not any(character.isdigit() for character in row.split("would do")[1].split("1,000 to")[0])


def test_the_devices_that_would_do_are_the_fewest_of_the_doubles(ways: Ways) -> None:
    assert by_name(ways)["full"].devices_that_fit == 8
    for devices, fits in ((4, False), (8, True)):
        assert train("llama-2-7b", "rtx-4090", wish(10**7, seq=512, devices=devices)).memory.fits is fits
    assert by_name(ways)["lora"].devices_that_fit == 1
    given = ways_to_train("llama-2-7b", "rtx-4090", wish(10**7, seq=512, micro_batch=1, zero=0))
    assert by_name(given)["full"].devices_that_fit is None, "the layout is given: no other is tried"


def test_the_first_that_fits_trains_the_most(ways: Ways) -> None:
    assert ways.first_that_fits is by_name(ways)["lora"]
    assert "the first way that fits is lora" in list(ways_lines(ways))
    none = ways_to_train("llama-3.1-405b", "rtx-4090", wish(10**7, seq=512))
    assert none.first_that_fits is None
    assert none.to_json()["first_that_fits"] is None
    assert "no way is known to fit" in list(ways_lines(none))


def test_prices_that_contradict_each_other_stand_beside_what_was_worked_out(ways: Ways) -> None:
    """E15: full 1,000 to 10,000, LoRA 50 to 500, a prompt 10 to 100, and 500 to 5,000 for any of them."""
    found = {name: way.said for name, way in by_name(ways).items()}
    assert found["qlora"] is None
    for name, bounds, common in (("full", (1000, 10_000), (1000, 5000)), ("lora", (50, 500), (500, 500)),
                                 ("prompt", (10, 100), None)):  # fmt: skip
        said = found[name]
        assert said is not None
        assert [(one.low, one.high) for one in said.answers] == [bounds, (500, 5000)]
        assert {one.basis for one in said.answers} == {"claimed"}
        assert said.common == common
    text = "\n".join(ways_lines(ways))
    assert "10 to 100 USD (tuning a prompt, no size named); 500 to 5,000 USD" in text
    assert "no value lies in all of them (a published article, unverified" in text
    document = ways.to_json()
    assert [way["said"] is None for way in document["ways"]] == [False, False, True, False]
    assert document["ways"][0]["cost_usd"]["value"] is None
