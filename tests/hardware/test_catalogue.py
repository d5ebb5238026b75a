"""Is every device possible, named once and sourced, and has every device of the published data a name?"""

from __future__ import annotations

import csv
import datetime
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from weighbridge.errors import UnknownNameError
from weighbridge.hardware import catalogue
from weighbridge.hardware.catalogue import devices, find_device, matching
from weighbridge.hardware.device import Device
from weighbridge.names import plain

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "perf"
"""The project's published measurements, where they lie beside the checkout."""

INSTANCES = catalogue.FOLDER.parent / "instances.toml"

ENCODINGS = {"fp32", "bf16", "fp16", "fp8", "int8", "fp4"}

ON_CHIP = {"cerebras-wse-2", "cerebras-wse-3", "groq-lpu-v1", "graphcore-gc200"}
"""Their memory is SRAM on the chip, which is faster than any that stands beside one."""

NO_LESS = (("fp16", "fp32"), ("bf16", "fp32"), ("fp8", "fp16"), ("fp8", "bf16"), ("fp4", "fp8"))
"""The first is never slower than the second. int8 may be: Blackwell Ultra gave most of its units to fp4."""

TABLES = {
    "hardware": ("name",),
    "inference": ("hardware", "hardware_key"),
    "inference_memory": ("hardware",),
    "training": ("hardware", "hardware_key"),
    "training_memory": ("hardware",),
}

every_device = pytest.mark.parametrize("device", devices(), ids=lambda device: device.name)


def test_size() -> None:
    assert len(devices()) >= 120
    assert {device.kind for device in devices()} >= {"gpu", "accelerator", "cpu", "soc", "npu", "phone", "board"}


def test_names_are_unique() -> None:
    assert [name for name, times in Counter(device.name for device in devices()).items() if times > 1] == []
    owners: dict[str, str] = {}
    for device in devices():
        for name in device.names:
            assert owners.setdefault(plain(name), device.name) == device.name


@every_device
def test_found_by_every_name(device: Device) -> None:
    assert device.name == plain(device.name)
    for name in device.names:
        assert plain(name)
        assert find_device(name) is device
        assert find_device(name.upper().replace("-", "_")) is device


@every_device
def test_sources(device: Device) -> None:
    assert device.source.startswith("https://")
    assert isinstance(device.checked, datetime.date)
    for fact, source in device.sources.items():
        assert source.startswith("https://")
        assert getattr(device, fact), f"a source of {fact}, which is unknown"
    if device.price_usd_per_h is not None:
        assert re.search(r"\d{4}-\d\d-\d\d", device.source_of("price_usd_per_h")), "a price has a date"


@every_device
def test_values_are_possible(device: Device) -> None:
    assert device.released is None or 1990 <= device.released <= 2027
    assert device.memory_bytes is None or 1024 <= device.memory_bytes <= 2e12
    assert set(device.flops_per_s) <= ENCODINGS
    for value in (device.link_bytes_per_s, device.tdp_w, device.cores, device.price_usd, device.price_usd_per_h):
        assert value is None or value > 0
    if device.memory_bytes_per_s is not None:
        assert 1e6 <= device.memory_bytes_per_s <= (3e16 if device.name in ON_CHIP else 3e13)
    for rate in device.flops_per_s.values():
        assert 1e8 <= rate <= 1e17
    for narrow, wide in NO_LESS:
        if {narrow, wide} <= device.flops_per_s.keys():
            assert device.flops_per_s[narrow] >= device.flops_per_s[wide], (narrow, wide)


@every_device
def test_units(device: Device) -> None:
    """A GB/s written for a B/s, or a TFLOP/s for a FLOP/s, is off by more than any device is."""
    if device.memory_bytes and device.memory_bytes_per_s and device.name not in ON_CHIP:
        assert 1e-6 <= device.memory_bytes / device.memory_bytes_per_s <= 15, "seconds to read its memory once"
    if device.flops_per_s and device.tdp_w:
        assert 1e9 <= max(device.flops_per_s.values()) / device.tdp_w <= 1e14
    if device.link_bytes_per_s and device.memory_bytes_per_s:
        assert device.link_bytes_per_s < device.memory_bytes_per_s


def test_unstated_knows_nothing() -> None:
    device = find_device("unstated")
    known = (device.memory_bytes, device.memory_bytes_per_s, device.link_bytes_per_s, device.tdp_w, device.released)
    assert known == (None,) * 5
    assert not device.flops_per_s
    assert device.notes


def test_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="h100"):
        find_device("h100-smx")


def test_matching() -> None:
    assert {device.name for device in matching("raspberry pi 5")} >= {"raspberry-pi-5", "raspberry-pi-500"}


def _published() -> Iterator[tuple[str, str]]:
    for table, columns in TABLES.items():
        with (DATA / f"{table}.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                yield from ((table, row[column]) for column in columns if row[column])


@pytest.mark.skipif(not DATA.exists(), reason="the published measurements are not beside this checkout")
def test_published_devices_have_names() -> None:
    known = {plain(name) for device in devices() for name in device.names}
    assert sorted({(table, name) for table, name in _published() if plain(name) not in known}) == []


def _instances() -> dict[str, dict[str, Any]]:
    return tomllib.loads(INSTANCES.read_text(encoding="utf-8"))


def test_number_of_instances() -> None:
    assert len(_instances()) >= 40


@pytest.mark.parametrize("name", _instances())
def test_instances(name: str) -> None:
    facts = _instances()[name]
    assert facts.keys() <= {"cloud", "device", "devices", "vcpus", "memory_bytes", "price_usd_per_h", "price_date",
                            "region", "source", "notes"}  # fmt: skip
    assert find_device(facts["device"]).name == facts["device"]
    assert facts["devices"] >= 1
    assert facts["source"].startswith("https://")
    assert facts.get("vcpus", 1) >= 1
    assert facts.get("memory_bytes", 2**30) >= 2**30
    assert ("price_usd_per_h" in facts) == ("price_date" in facts) == ("region" in facts)
    if "price_usd_per_h" in facts:
        assert 0.05 <= facts["price_usd_per_h"] / facts["devices"] <= 20
        assert datetime.date(2017, 1, 1) <= facts["price_date"] <= datetime.date(2026, 11, 22)
