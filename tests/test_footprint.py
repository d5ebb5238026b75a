"""Energy and carbon of requests: the articles' figures, a day with waiting, and claims that cannot be."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given as drawn
from hypothesis import strategies as st

from weighbridge.cli import main
from weighbridge.footprint import given, of_energy, of_plan, of_power
from weighbridge.hardware import meter
from weighbridge.hardware.catalogue import find_device
from weighbridge.planning import fit
from weighbridge.predict.carbon import Site, site
from weighbridge.show.footprints import footprint_lines


def weigh(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_144_joules_contradict_50_to_100_watts() -> None:
    result = weigh("energy", "--watts", "50-100", "--seconds", "0.5-1", "--claim", "144J", "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["claim"] == {"claimed_j": 144.0, "low_j": 25.0, "high_j": 100.0, "verdict": "above", "ratio": 1.44}
    told = weigh("energy", "--watts", "50-100", "--seconds", "0.5-1", "--claim", "144J").stdout
    assert "CONTRADICTION, 1.44 times the most" in told and "144 to 288 W" in told


@pytest.mark.parametrize(
    ("claim", "verdict"), [("25J", "inside"), ("100J", "inside"), ("24J", "below"), ("1Wh", "above")]
)
def test_a_claim_is_inside_or_outside(claim: str, verdict: str) -> None:
    result = weigh("energy", "--watts", "50-100", "--seconds", "0.5-1", "--claim", claim, "--json")
    assert json.loads(result.stdout)["claim"]["verdict"] == verdict
    assert result.exit_code == (0 if verdict == "inside" else 1)


def test_a_billion_of_0_00004_kwh_are_40_mwh() -> None:
    found = json.loads(weigh("energy", "--energy", "0.00004kWh", "--requests", "1e9", "--json").stdout)
    each, all_of_them = found["amounts"]
    assert each["energy_j"]["value"] == pytest.approx(144)
    assert all_of_them["requests"] == 10**9 and all_of_them["energy_kwh"]["value"] == pytest.approx(40_000)


def test_equivalents_are_of_the_whole_data_centre() -> None:
    """3.6 MJ at a PUE of 1.5 are 1.5 kWh: 125 charges of 0.012 kWh, and at 244 g a kWh 1.5 km in a car."""
    found = of_energy(given((3.6e6, 3.6e6), "J"), site("244", "1.5"), requests=1)
    counts = {one["name"]: one["count"]["value"] for one in found.equivalents}
    assert counts["telephone_charges"] == pytest.approx(125) and counts["car_km"] == pytest.approx(1.5)
    assert found.to_json()["equivalents"] == found.equivalents


def test_the_training_of_llama_2_70b_by_command() -> None:
    found = json.loads(weigh("energy", "--watts", "400", "--hours", "1720320", "--grid", "423", "--pue", "1",
                             "--json").stdout)  # fmt: skip
    (run,) = found["amounts"]
    assert run["facility_kwh"]["value"] == pytest.approx(688_128)
    assert run["carbon_g"]["value"] == pytest.approx(291.1e6, rel=1e-3)
    assert found["equivalents"][0]["count"]["value"] == pytest.approx(63.3, abs=0.05)


def test_a_day_carries_the_waiting() -> None:
    """1,000 requests of 10 s at 300 W: 10,000 s busy, 76,400 s at 100 W; 3 MJ + 7.64 MJ."""
    found = of_power(given((300.0, 300.0), "W"), given((10.0, 10.0), "s"), site("500", "1"), requests_per_day=1000,
                     idle_w=given((100.0, 100.0), "W"))  # fmt: skip
    one, day, year, _ = found.amounts()
    assert found.machines == 1 and one.energy_j.value == 3000
    assert day.energy_j.value == pytest.approx(3e6 + 7.64e6)
    assert year.energy_j.value == pytest.approx(365.25 * 10.64e6) and found.pictured.what == "a year"
    assert day.carbon_g.value == pytest.approx(10.64e6 / 3.6e6 * 500)
    assert any("72% of a day's energy" in note for note in found.all_notes())


def test_without_idle_power_the_waiting_is_left_out_and_said() -> None:
    found = of_power(given((300.0, 300.0), "W"), given((100.0, 100.0), "s"), Site(), requests_per_day=10_000)
    assert found.machines == math.ceil(10_000 * 100 / 86_400)
    assert [amount.energy_j.value for amount in found.amounts()][1] == pytest.approx(10_000 * 30_000)
    assert any("not counted: give the power of the idle machine" in note for note in found.all_notes())


def test_a_plans_request_is_its_tokens_energy() -> None:
    plan = fit("llama-2-7b", "a100-sxm-80", output_tokens=200, alternatives=False)
    found = of_plan(plan)
    joules = plan.to_json()["energy"]["j_per_output_token"]["value"]
    assert found.energy_j.value == pytest.approx(200 * joules)
    assert found.power_w is not None and found.seconds is not None and plan.speed.output_tok_s.value
    assert found.seconds.value == pytest.approx(200 / plan.speed.output_tok_s.value)
    assert found.power_w.value == pytest.approx(joules * plan.speed.output_tok_s.value)
    assert found.embodied_g.value is not None


def test_what_does_not_fit_is_told_and_exits_with_1() -> None:
    result = weigh("energy", "llama-2-70b", "--on", "rtx-4090", "--json")
    notes = json.loads(result.stdout)["notes"]
    assert result.exit_code == 1 and any("does not fit" in note for note in notes)
    assert notes[0].startswith(
        "llama-2-70b in bf16 on 1 x NVIDIA GeForce RTX 4090 under vllm, a batch of 1, prompts of 512"
    )


def test_a_device_without_power_has_unknown_energy() -> None:
    device = replace(find_device("rtx-4090"), tdp_w=None)
    found = of_plan(fit("llama-3.2-1b", device, alternatives=False), claimed_j=1.0, requests_per_day=10)
    document = found.to_json()
    assert [amount["carbon_g"]["value"] for amount in document["amounts"]] == [None, None, None]
    assert document["amounts"][0]["carbon_g"]["note"] and document["claim"]["verdict"] == "unknown"
    assert any("nothing is known to hold it against" in line for line in footprint_lines(found))


@drawn(st.floats(1e-3, 1e6), st.integers(1, 10**12), st.floats(1, 3), st.floats(1, 1000))
def test_amounts_are_proportional(joules: float, requests: int, pue: float, grams: float) -> None:
    found = of_energy(given((joules, joules), "J"), site(repr(grams), repr(pue)), requests=requests)
    one, many = found.amounts()
    assert many.carbon_g.value == pytest.approx(requests * one.carbon_g.value)  # type: ignore[operator]
    assert one.carbon_g.value == pytest.approx(joules / 3.6e6 * pue * grams)


def test_a_range_may_have_exponents() -> None:
    found = json.loads(weigh("energy", "--watts", "1e3", "--seconds", "1e-3-2E-3", "--json").stdout)["amounts"][0]
    assert (found["energy_j"]["low"], found["energy_j"]["high"]) == pytest.approx((1.0, 2.0))


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["llama-2-7b"],
        ["llama-2-7b", "--on", "h100-sxm", "--watts", "5", "--seconds", "1"],
        ["--watts", "50"],
        ["--seconds", "1"],
        ["--watts", "50", "--seconds", "1", "--hours", "1"],
        ["--watts", "100-50", "--seconds", "1"],
        ["--watts", "0", "--seconds", "1"],
        ["--watts", "nan", "--seconds", "1"],
        ["--energy", "144"],
        ["--energy", "3kW"],
        ["--energy", "144J", "--tp", "2"],
        ["--energy", "144J", "--requests", "0"],
        ["--energy", "144J", "--grid", "atlantis"],
        ["--energy", "144J", "--pue", "0.5"],
        ["--watts", "50", "--seconds", "1", "--requests-per-day", "10", "--idle-watts", "60"],
        ["--watts", "50", "--seconds", "1", "--idle-watts", "20"],
        ["--energy", "144J", "--requests-per-day", "10", "--idle-watts", "20"],
        ["--energy", "144mj"],
        ["--meter", "nan"],
    ],
)
def test_what_makes_no_sense_is_one_sentence(arguments: list[str]) -> None:
    result = weigh("energy", *arguments)
    assert result.exit_code == 2 and "rror: " in result.stderr, result.output
    assert result.stdout == ""


def test_meters_of_a_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A processor that counts 1 J whenever it is read, and a machine that has none."""

    class Counter:
        name, is_counter, wraps_j = "package-0", True, None
        joules = 0.0

        def read(self) -> float:
            self.joules += 1.0
            return self.joules

    def found(*_: Any) -> Any:
        return [Counter()], []

    monkeypatch.setattr(meter, "cards", lambda: ([], ["no cards"]))
    monkeypatch.setattr(meter, "rapl", lambda root: found())
    result = weigh("energy", "--meter", "0.3", "--json")
    document = json.loads(result.stdout)
    assert result.exit_code == 0 and document["amounts"][0]["energy_j"]["basis"] == "measured"
    assert 0 < document["amounts"][0]["energy_j"]["value"] < 10 and "no cards" in document["notes"]
    watts = document["amounts"][0]["energy_j"]["value"] / document["seconds"]["value"]
    assert document["power_w"]["value"] == pytest.approx(watts)
    monkeypatch.setattr(meter, "rapl", lambda root: ([], ["no counters"]))
    result = weigh("energy", "--meter", "0.3")
    assert result.exit_code == 1 and "no counters" in result.stdout


def test_grids_are_listed() -> None:
    rows = json.loads(weigh("grids", "france", "--json").stdout)
    assert {"fra", "eu-west-3", "francecentral"} <= {row["name"] for row in rows}
    assert "no grid holds" in weigh("grids", "atlantis").stderr


def test_devices_draw_no_more_than_their_rated_power() -> None:
    """Where the energy would take more, the request takes longer: watts times seconds stay its energy."""
    plan = fit("llama-3.1-8b", "h100-sxm", concurrency=128, alternatives=False)
    found = of_plan(plan)
    assert found.power_w is not None and found.seconds is not None
    assert found.power_w.value == plan.machine.device.tdp_w == 700
    assert found.power_w.value * (found.seconds.value or 0) == pytest.approx(found.energy_j.value)
    assert any("times as long as the plan says" in note for note in found.notes)
    alone = of_plan(fit("llama-3.1-8b", "h100-sxm", alternatives=False))
    assert alone.power_w is not None and 200 < (alone.power_w.value or 0) < 700
    assert any("one sequence at a time" in note for note in alone.notes)
