"""Is every device possible, named once and sourced, and has every device of the published data a name?"""

from __future__ import annotations

import csv
import datetime
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from weighbridge.errors import UnknownNameError
from weighbridge.hardware import catalogue
from weighbridge.hardware.catalogue import devices, find_device, matching
from weighbridge.hardware.device import Device
from weighbridge.names import plain
from weighbridge.predict.speed import prompt_flops_per_s

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
        where = r"\((?P<provider>[A-Z][\w ]+), (?P<region>[\w() -]+), \d{4}-\d\d-\d\d; "
        assert re.search(where, device.source_of("price_usd_per_h")), "a price has a provider, a region and a date"


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


def test_an_unknown_name_without_neighbours_lists_well_known_ones() -> None:
    with pytest.raises(UnknownNameError) as raised:
        find_device("nope")
    assert {"h100-sxm", "a100-sxm-80", "rtx-4090", "apple-m2-max"} <= set(raised.value.nearest)
    assert set(raised.value.nearest) <= {device.name for device in devices()}


@pytest.mark.parametrize(
    ("printed", "name"),
    [("NVIDIA A100-SXM4-80GB", "a100-sxm-80"), ("NVIDIA A100-SXM4-40GB", "a100-sxm-40"),
     ("NVIDIA A100-PCIE-40GB", "a100-pcie-40"), ("NVIDIA A100 80GB PCIe", "a100-pcie-80"),
     ("NVIDIA GeForce RTX 4090", "rtx-4090"), ("NVIDIA H100 80GB HBM3", "h100-sxm"), ("NVIDIA H100 PCIe", "h100-pcie"),
     ("NVIDIA H100 NVL", "h100-nvl"), ("NVIDIA H200", "h200-sxm"), ("NVIDIA B200", "b200"), ("Tesla T4", "t4"),
     ("Tesla V100-SXM2-16GB", "v100-sxm2-16"), ("Tesla V100-SXM2-32GB", "v100-sxm2-32"), ("Tesla P40", "p40"),
     ("Tesla V100-PCIE-16GB", "v100-pcie-16"), ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
     ("NVIDIA L40S", "l40s"), ("NVIDIA L4", "l4"), ("NVIDIA A10G", "a10g"), ("NVIDIA RTX A6000", "rtx-a6000"),
     ("NVIDIA GH200 480GB", "gh200"), ("AMD Instinct MI300X", "mi300x"), ("AMD Instinct MI210", "mi210"),
     ("AMD Radeon RX 7900 XTX", "rx-7900-xtx")],
)  # fmt: skip
def test_names_that_tools_print(printed: str, name: str) -> None:
    assert find_device(printed).name == name


@pytest.mark.parametrize("name", ["rtx 4090 48GB", "h100-sxm-40gb", "Tesla", "NVIDIA", "80GB", "-", ""])
def test_a_printed_name_of_another_size_is_unknown(name: str) -> None:
    with pytest.raises(UnknownNameError):
        find_device(name)


def test_sixteen_bits() -> None:
    assert find_device("jetson-agx-thor").peak_flops_per_s("bf16") == 258.5e12
    assert find_device("arc-a580").peak_flops_per_s("fp16") == 98.5e12
    assert find_device("max-1100").peak_flops_per_s("bf16") == 355.5e12
    assert find_device("gb10").peak_flops_per_s("bf16") is None
    assert find_device("a100-sxm-80").peak_flops_per_s("fp8") == 312e12, "a card without fp8 runs it in 16 bits"
    assert find_device("gtx-1080").peak_flops_per_s("bf16") == 8.87e12, "a card without 16 bits runs them in fp32"
    p40 = find_device("p40")
    assert p40.peak_flops_per_s("fp16") == p40.flops_per_s["fp32"]


def test_fp32_does_not_stand_in_for_matrix_units() -> None:
    device = replace(find_device("jetson-agx-thor"), flops_per_s={"fp32": 8e12, "fp4": 1e15})
    assert [device.peak_flops_per_s(name) for name in ("fp4", "fp8", "bf16", "fp16", "int8", "fp32")] == [
        1e15, None, None, None, None, 8e12]  # fmt: skip


@pytest.mark.parametrize("name", ["orange-pi-5", "rock-5b", "xdna-2-npu", "snapdragon-x-elite-npu", "hailo-8"])
def test_prompts_do_not_run_at_the_rate_of_an_npu(name: str) -> None:
    assert prompt_flops_per_s(find_device(name)) is None


def test_prompts_run_at_half_of_int8_on_cards() -> None:
    card = find_device("rtx-3090")
    assert prompt_flops_per_s(card) == card.flops_per_s["int8"] / 2


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
                            "region", "source", "notes", "reserved_1_year_usd_per_h", "reserved_3_years_usd_per_h",
                            "reserved_date", "reserved_source"}  # fmt: skip
    assert find_device(facts["device"]).name == facts["device"]
    assert facts["devices"] >= 1
    assert facts["source"].startswith("https://")
    assert facts.get("vcpus", 1) >= 1
    assert facts.get("memory_bytes", 2**30) >= 2**30
    assert ("price_usd_per_h" in facts) == ("price_date" in facts) == ("region" in facts)
    if "reserved_date" in facts:
        assert facts["reserved_source"].startswith("https://")
        assert facts["reserved_3_years_usd_per_h"] < facts["reserved_1_year_usd_per_h"] < facts["price_usd_per_h"]
    if "price_usd_per_h" in facts:
        assert 0.05 <= facts["price_usd_per_h"] / facts["devices"] <= 20
        assert datetime.date(2017, 1, 1) <= facts["price_date"] <= datetime.date(2026, 11, 22)
