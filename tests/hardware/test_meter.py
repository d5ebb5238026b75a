"""Are meters integrated rightly: a planted trace, counters that start again, gaps, dead sensors, files of root?"""

from __future__ import annotations

import math
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from weighbridge.estimate import Estimate
from weighbridge.hardware import meter
from weighbridge.hardware.meter import Meter, Sample, integrated


def zone(root: Path, name: str, word: str, microjoules: int | str = 0, most: int = 262_143_328_850) -> Path:
    folder = root / name
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{word}\n")
    (folder / "energy_uj").write_text(f"{microjoules}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")
    return folder


def powers(trace: Any, step_s: float, end_s: float) -> list[Sample]:
    return [Sample(n * step_s, trace(n * step_s)) for n in range(round(end_s / step_s) + 1)]


def joules(samples: list[Sample], since_s: float = 0.0, until_s: float = 60.0) -> Estimate:
    return integrated(samples, is_counter=False, wraps_j=None, since_s=since_s, until_s=until_s)


def test_a_planted_trace_is_integrated_within_one_percent() -> None:
    """A power that swings between 100 and 300 W with a period of 3 s, read ten times a second for a minute: 12 kJ."""
    found = joules(powers(lambda t: 200 + 100 * math.sin(2 * math.pi * t / 3), 0.1, 60))
    assert found.value == pytest.approx(12_000, rel=0.01)
    assert found.low == pytest.approx(0.95 * 12_000, rel=0.01) and found.high == pytest.approx(1.05 * 12_000, rel=0.01)
    assert found.basis.value == "measured" and found.note == ""


def test_a_part_of_a_trace_is_that_part() -> None:
    """A power that rises by 10 W a second: between 1.05 and 3.05 s it is 20.5 W on average."""
    assert joules(powers(lambda t: 10 * t, 0.1, 10), 1.05, 3.05).value == pytest.approx(41.0, rel=1e-9)


def test_a_gap_widens_the_interval_to_what_was_seen() -> None:
    samples = [s for s in powers(lambda t: 100.0 if t < 5 else 300.0, 0.1, 60) if not 10 < s.time_s < 20]
    found = joules(samples)
    assert found.value == pytest.approx(5 * 100 + 55 * 300, rel=0.01)
    assert found.low is not None and found.high is not None
    assert found.low == pytest.approx(0.95 * (5 * 100 + 45 * 300 + 10 * 100), rel=0.01)
    assert found.high == pytest.approx(1.05 * (5 * 100 + 55 * 300), rel=0.01)
    assert "not read for 10" in found.note


def test_samples_without_an_answer_are_gaps_and_a_dead_sensor_is_unknown() -> None:
    some = [Sample(t, None if t == 1 else 50.0) for t in range(5)]
    assert joules(some, 0, 4).value == 200
    dead = joules([Sample(t, None) for t in range(5)], 0, 4)
    assert dead.value is None and "0 of 5" in dead.note
    assert joules([Sample(0, 50.0), Sample(3, 50.0), Sample(4, None)], 0, 4).value is None


def test_a_counter_that_starts_again_goes_on() -> None:
    """90, 95, then 2 of a counter that starts again at 100: 5 and 7 joules."""
    samples = [Sample(0, 90.0), Sample(1, 95.0), Sample(2, 2.0)]
    found = integrated(samples, is_counter=True, wraps_j=100.0, since_s=0, until_s=2)
    assert found.value == pytest.approx(12.0)
    assert integrated(samples, is_counter=True, wraps_j=100.0, since_s=0.5, until_s=1.5).value == pytest.approx(6.0)
    assert integrated(samples, is_counter=True, wraps_j=None, since_s=0, until_s=2).value is None


def test_packages_and_memory_are_added_and_nothing_twice(tmp_path: Path) -> None:
    first, second = zone(tmp_path, "intel-rapl:0", "package-0"), zone(tmp_path, "intel-rapl:1", "package-1")
    memory = zone(tmp_path, "intel-rapl:0:1", "dram")
    for name, word in {"intel-rapl:0:0": "core", "intel-rapl:2": "psys", "intel-rapl-mmio:0": "package-0"}.items():
        zone(tmp_path, name, word, 10**9)
    clock = iter([0.0] * 3 + [2.0] * 3)
    found = meter.meter(lambda: next(clock), with_cards=False, root=tmp_path)
    assert [sensor.name for sensor in found.sensors] == ["package-0", "package-0 dram", "package-1"]
    found.sample()
    for folder, microjoules in {first: 50_000_000, second: 30_000_000, memory: 4_000_000}.items():
        (folder / "energy_uj").write_text(str(microjoules))
    found.sample()
    assert found.total(0.0, 2.0).value == pytest.approx(84.0)


def test_a_counter_of_rapl_wraps_at_its_own_range(tmp_path: Path) -> None:
    folder = zone(tmp_path, "intel-rapl:0", "package-0", 900_000, most=1_000_000)
    clock = iter([0.0, 1.0])
    found = meter.meter(lambda: next(clock), with_cards=False, root=tmp_path)
    found.sample()
    (folder / "energy_uj").write_text("200000")
    found.sample()
    assert found.total(0.0, 1.0).value == pytest.approx(0.3)


def test_files_of_root_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0")

    def refuse(zone: meter.Zone) -> float:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(meter.Zone, "read", refuse)
    found, notes = meter.rapl(tmp_path)
    assert found == [] and "for root alone" in notes[0]


@pytest.mark.parametrize("text", ["", "soon"])
def test_a_counter_without_a_number_is_no_meter(tmp_path: Path, text: str) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", text)
    found, notes = meter.rapl(tmp_path)
    assert found == [] and "cannot be read" in notes[0]


def test_a_machine_without_counters_says_so(tmp_path: Path) -> None:
    found = meter.meter(lambda: 0.0, with_cards=False, root=tmp_path / "none")
    total = found.total(0.0, 1.0)
    assert total.value is None and "is not there" in total.note
    (tmp_path / "intel-rapl").mkdir()
    assert "no package" in meter.rapl(tmp_path)[1][0]


class NVMLError(Exception):
    """As pynvml raises it."""


def fake_nvml(energies: dict[int, Any], watts: dict[int, Any]) -> types.ModuleType:
    module: Any = types.ModuleType("pynvml")

    def answer(values: dict[int, Any]) -> Any:
        def read(handle: int) -> Any:
            value = next(values[handle]) if hasattr(values[handle], "__next__") else values[handle]
            if value is None:
                raise NVMLError("Not Supported")
            return value

        return read

    module.NVMLError = NVMLError
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: len(energies)
    module.nvmlDeviceGetHandleByIndex = lambda place: place
    module.nvmlDeviceGetName = lambda handle: b"NVIDIA H100" if handle == 0 else "NVIDIA P40"
    module.nvmlDeviceGetTotalEnergyConsumption = answer(energies)
    module.nvmlDeviceGetPowerUsage = answer(watts)
    return module  # type: ignore[no-any-return]


def test_cards_count_joules_where_they_can_and_tell_power_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card that counts from 1,000 to 1,700 J in 2 s, and one that draws 50 W."""
    counted = iter([1_000_000, 1_000_000, 1_700_000])
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml({0: counted, 1: None}, {0: None, 1: 50_000}))
    found, notes = meter.cards()
    assert [(sensor.name, sensor.is_counter) for sensor in found] == [
        ("card 0, NVIDIA H100", True), ("card 1, NVIDIA P40", False)]  # fmt: skip
    assert notes == []
    clock = iter([0.0, 0.0, 2.0, 2.0])
    both = Meter(found, lambda: next(clock))
    both.sample()
    both.sample()
    energy = both.energy(0.0, 2.0)
    assert energy["card 0, NVIDIA H100"].value == pytest.approx(700.0)
    assert energy["card 1, NVIDIA P40"].value == pytest.approx(100.0)
    assert both.total(0.0, 2.0).value == pytest.approx(800.0)


def test_a_card_that_tells_nothing_and_a_driver_that_is_missing_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = fake_nvml({0: None}, {0: None})
    monkeypatch.setitem(sys.modules, "pynvml", module)
    assert meter.cards() == ([], ["card 0, NVIDIA H100 tells neither energy nor power"])

    def no_driver() -> None:
        raise NVMLError("Driver Not Loaded")

    monkeypatch.setattr(module, "nvmlInit", no_driver)
    assert meter.cards() == ([], ["no meters of NVIDIA's cards: Driver Not Loaded"])
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert "extra `meter`" in meter.cards()[1][0]


def test_reading_samples_while_the_block_runs(tmp_path: Path) -> None:
    import time

    zone(tmp_path, "intel-rapl:0", "package-0")
    found = meter.meter(time.monotonic, with_cards=False, root=tmp_path)
    with found.reading(0.01):
        time.sleep(0.1)
    assert len(found.samples[0]) >= 4
