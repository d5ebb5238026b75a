"""Which graphics processors does this machine have? As the vendors' tools print it; the parsers are pure functions.

`nvidia-smi --query-gpu=... --format=csv`, `rocm-smi --showproductname --showmeminfo vram --json` and, on macOS,
`system_profiler SPDisplaysDataType -json`. A name is looked up in the catalogue for its specified rates.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from weighbridge.hardware.catalogue import printed_device
from weighbridge.hardware.device import Device

TOOL_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One graphics processor: the name and memory that its tool prints, and its name in the catalogue."""

    title: str
    memory_bytes: int | None = None
    power_limit_w: float | None = None
    memory_clock_mhz: float | None = None
    tool: str = ""

    @property
    def device(self) -> Device | None:
        """The catalogue's entry; None when no name fits."""
        return printed_device(self.title, self.memory_bytes)

    def to_json(self) -> dict[str, Any]:
        """One entry of `gpus`."""
        found = self.device
        return {"title": self.title, "memory_bytes": self.memory_bytes, "power_limit_w": self.power_limit_w,
                "memory_clock_mhz": self.memory_clock_mhz, "tool": self.tool,
                "device": found.name if found else None}  # fmt: skip


def nvidia(text: str) -> Iterator[Gpu]:
    """The cards that `nvidia-smi --query-gpu=name,memory.total,power.limit,clocks.max.mem --format=csv` lists."""
    for row in csv.DictReader(text.splitlines(), skipinitialspace=True):
        facts = {key.split(" ")[0]: value for key, value in row.items() if key and value}
        if "name" in facts:
            memory = _number(facts.get("memory.total"))
            yield Gpu(title=facts["name"], memory_bytes=None if memory is None else round(memory * 2**20),
                      power_limit_w=_number(facts.get("power.limit")),
                      memory_clock_mhz=_number(facts.get("clocks.max.mem")
                                               or facts.get("clocks.max.memory")), tool="nvidia-smi")  # fmt: skip


def rocm(text: str) -> Iterator[Gpu]:
    """The cards that `rocm-smi --showproductname --showmeminfo vram --json` lists."""
    for card in _object(text).values():
        if not isinstance(card, dict):
            continue
        facts = {str(key).lower(): value for key, value in card.items()}
        names = [facts.get(key) for key in ("card series", "device name", "card model", "market name")]
        title = next((str(name) for name in names if name and not str(name).startswith("0x")), None)
        if title:
            memory = _number(str(facts.get("vram total memory (b)", "")))
            yield Gpu(title=title, memory_bytes=None if memory is None else int(memory), tool="rocm-smi")


def apple(text: str) -> Iterator[Gpu]:
    """The displays' processors that `system_profiler SPDisplaysDataType -json` lists; those of a chip share memory."""
    for card in _object(text).get("SPDisplaysDataType", []):
        title = card.get("sppci_model") or card.get("_name") if isinstance(card, dict) else None
        if title:
            memory = re.match(r"(\d+)\s*(GB|MB)", str(card.get("spdisplays_vram", "")))
            size = None if memory is None else int(memory[1]) * (2**30 if memory[2] == "GB" else 2**20)
            yield Gpu(title=str(title), memory_bytes=size, tool="system_profiler")


def _object(text: str) -> dict[str, Any]:
    start = text.find("{")  # rocm-smi may print warnings first
    try:
        found = json.loads(text[start:]) if start >= 0 else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _number(text: str | None) -> float | None:
    found = re.match(r"\s*(\d+(?:\.\d+)?)", text or "")
    return float(found[1]) if found else None


TOOLS: tuple[tuple[tuple[str, ...], Callable[[str], Iterator[Gpu]]], ...] = (
    (("nvidia-smi", "--query-gpu=name,memory.total,power.limit,clocks.max.mem", "--format=csv"), nvidia),
    (("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--json"), rocm),
    (("system_profiler", "SPDisplaysDataType", "-json"), apple),
)


def gpus() -> tuple[tuple[Gpu, ...], tuple[str, ...]]:
    """The graphics processors of this machine, and what went wrong with a tool that is there."""
    found: list[Gpu] = []
    notes = []
    for command, parse in TOOLS:
        if shutil.which(command[0]) is None:
            continue
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TOOL_SECONDS)
        except (OSError, subprocess.TimeoutExpired) as error:
            notes.append(f"{command[0]} did not answer ({type(error).__name__})")
            continue
        if done.returncode:
            notes.append(f"{command[0]} ended with {done.returncode}: no graphics processor is known through it")
            continue
        found += parse(done.stdout)
    return tuple(found), tuple(notes)
