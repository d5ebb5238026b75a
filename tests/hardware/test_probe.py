"""Is what the vendors' tools print understood, is a probe kept and found again, and is what it says possible?"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.errors import FormatError, SourceError
from weighbridge.hardware import kernels, probe
from weighbridge.hardware.catalogue import printed_device
from weighbridge.hardware.gpu_tools import apple, nvidia, rocm
from weighbridge.hardware.measured import Kernels, Measured, measured
from weighbridge.hardware.probe import Probe, saved_device, with_measured
from weighbridge.hardware.torch_training import TrainingRates

NVIDIA = """name, memory.total [MiB], power.limit [W], clocks.max.memory [MHz]
NVIDIA H100 80GB HBM3, 81559 MiB, 700.00 W, 2619 MHz
NVIDIA GeForce RTX 4090, 24564 MiB, 450.00 W, 10501 MHz
NVIDIA GeForce RTX 3060 Laptop GPU, 6144 MiB, [N/A], [N/A]
"""
ROCM = """WARNING: AMD GPU device(s) is/are in a low-power state.
{"card0": {"VRAM Total Memory (B)": "206141652992", "VRAM Total Used Memory (B)": "297463808",
 "Card Series": "AMD Instinct MI300X", "Card Model": "0x74a1", "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]"},
 "card1": {"VRAM Total Memory (B)": "25753026560", "Card Series": "Radeon RX 7900 XTX", "Card Model": "0x744c"},
 "system": {"Driver version": "6.8.5"}}
"""
APPLE = """{"SPDisplaysDataType": [{"_name": "Apple M2 Max", "spdisplays_mtlgpufamilysupport": "spdisplays_metal3",
 "spdisplays_vendor": "sppci_vendor_Apple", "sppci_bus": "spdisplays_builtin", "sppci_cores": "38",
 "sppci_device_type": "spdisplays_gpu", "sppci_model": "Apple M2 Max"},
 {"_name": "AMD Radeon Pro 5500M", "spdisplays_vram": "8 GB", "sppci_model": "AMD Radeon Pro 5500M"}]}
"""
CPUINFO = "".join(
    f"processor\t: {n}\nmodel name\t: Some CPU\nphysical id\t: {n // 4}\ncore id\t\t: {n % 2}\n\n" for n in range(8)
)


def test_nvidia_smi() -> None:
    cards = list(nvidia(NVIDIA))
    assert [card.memory_bytes for card in cards] == [81559 << 20, 24564 << 20, 6144 << 20]
    assert [card.device.name if card.device else None for card in cards] == ["h100-sxm", "rtx-4090", None]
    assert (cards[0].power_limit_w, cards[0].memory_clock_mhz, cards[2].power_limit_w) == (700.0, 2619.0, None)
    assert list(nvidia("No devices were found\n")) == []


def test_rocm_smi_after_a_warning() -> None:
    cards = list(rocm(ROCM))
    assert [(c.memory_bytes, c.device and c.device.name) for c in cards] == [
        (206141652992, "mi300x"), (25753026560, "rx-7900-xtx")]  # fmt: skip
    assert list(rocm("nothing")) == list(rocm("{broken")) == []


def test_system_profiler() -> None:
    cards = list(apple(APPLE))
    assert [card.memory_bytes for card in cards] == [None, 8 << 30]
    assert cards[0].device is not None
    assert cards[0].device.name == "apple-m2-max"


@pytest.mark.parametrize(
    ("title", "name"),
    [("NVIDIA A100-SXM4-80GB", "a100-sxm-80"), ("NVIDIA A100-PCIE-40GB", "a100-pcie-40"), ("Tesla T4", "t4"),
     ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"), ("NVIDIA RTX A6000", "rtx-a6000"), ("NVIDIA L4", "l4")],
)  # fmt: skip
def test_names_that_tools_print_are_found(title: str, name: str) -> None:
    found = printed_device(title)
    assert found is not None
    assert found.name == name


def test_cores_that_share_one_count_once() -> None:
    assert probe.cpuinfo_cores(CPUINFO) == 4
    assert probe.cpuinfo_name(CPUINFO) == "Some CPU"
    assert probe.cpuinfo_cores("processor : 0\n") is None


def small(**changes: Any) -> Probe:
    values = Measured(threads=2, bytes_per_s_one=2e10, bytes_per_s_all=3e10, fp32_flops_per_s_one=1e11,
                      fp32_flops_per_s_all=2e11)  # fmt: skip
    facts: dict[str, Any] = {
        "processor": 'A "quoted" CPU', "logical_cores": 4, "physical_cores": 2, "memory_bytes": 8 << 30,
        "measured": values, "disk": None, "gpus": (), "load_average": 0.5, "seconds": 1.0,
        "checked": datetime.date(2026, 1, 2), "notes": ("a note",)}  # fmt: skip
    return Probe(**facts | changes)


def test_a_saved_probe_is_the_same_device(tmp_path: Path) -> None:
    found = small()
    table = {"fp32": 90.0, "fp16": 50.0, "q4_0": 40.5}
    few = {"q4_0": [60.0, 50.0, 40.25]}
    timed = Kernels(engine="x 1", weight_ps=table, prompt_ps=table, few_ps=few, process_bytes=1)
    training = TrainingRates(product_ps=20.0, forward_score_ps=100.0, backward_score_ps=270.0, logit_ps=6000.0,
                             element_ps=840.0, adapter_ps=1900.0, update_ps=1700.0, engine="torch 1")  # fmt: skip
    kept = replace(found.measured, kernels={"llama.cpp": timed}, training=training)
    found = small(measured=kept)
    (tmp_path / "here.toml").write_text(found.to_toml())
    assert saved_device(tmp_path / "here.toml") == found.device
    learned = replace(kept, kernels={"llama.cpp": timed.with_run(2.0, 0.5)})
    (tmp_path / "here.toml").write_text(with_measured(tmp_path / "here.toml", learned))
    again = saved_device(tmp_path / "here.toml")
    assert again.measured == learned
    assert again.title == found.device.title


def test_a_file_that_is_no_probe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="weigh probe"):
        saved_device(tmp_path / "none.toml")
    slow = small().to_toml().replace("memory_bytes_per_s = 3", "memory_bytes_per_s = -3")
    for text in ("[here]\n", "no toml", slow, small().to_toml().replace("bytes_per_s_one = 2", "bytes_per_s_one = -2")):
        (tmp_path / "here.toml").write_text(text)
        with pytest.raises(FormatError, match="weigh probe"):
            saved_device(tmp_path / "here.toml")
    with pytest.raises(FormatError):
        measured({"threads": 1, "bytes_per_s_one": float("inf"), "bytes_per_s_all": 1.0})
    table = {"fp32": 90.0, "fp16": 50.0}
    for few in ([60.0, 50.0], [60.0, 50.0, 0.0], 60.0):
        kernels = {"engine": "x", "weight_ps": table, "prompt_ps": table, "few_ps": {"fp16": few}}
        with pytest.raises(FormatError, match="weigh probe"):
            measured({"threads": 1, "bytes_per_s_one": 1.0, "bytes_per_s_all": 1.0, "kernels": {"x": kernels}})


def test_probe_measures_keeps_and_fit_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(probe, "time_kernels", lambda: ({}, ["not timed"]))
    monkeypatch.setattr(probe, "ARRAY_BYTES_QUICK", 8 << 20)
    monkeypatch.setattr(probe, "DISK_BYTES_QUICK", 4 << 20)
    without = CliRunner().invoke(main, ["fit", "llama-3.2-1b", "--on", "here"])
    assert without.exit_code == 2
    assert "run `weigh probe` first" in without.stderr
    done = CliRunner().invoke(main, ["probe", "--quick", "--json"])
    assert done.exit_code == 0, done.stderr
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert 1e8 < found["measured"]["bytes_per_s_one"] <= found["measured"]["bytes_per_s_all"] < 1e13
    assert 1e8 < found["measured"]["fp32_flops_per_s_one"] < 1e14
    assert found["logical_cores"] == os.cpu_count()
    assert "not timed" in found["notes"]
    plan = CliRunner().invoke(main, ["fit", "llama-3.2-1b", "--on", "here", "--json"])
    assert plan.exit_code in (0, 1)
    machine = json.loads(plan.stdout)["machine"]
    assert machine["device"] == "here"
    assert machine["memory_bytes_per_s"] == pytest.approx(found["measured"]["bytes_per_s_all"])


def test_kernels_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert kernels.time_kernels() == (
        {}, ["llama.cpp's kernels were not timed: install the extra `run` (pip install 'weighbridge[run]')"]
    )  # fmt: skip
