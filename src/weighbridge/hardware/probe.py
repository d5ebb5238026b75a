"""What can this machine do? Memory bandwidth, arithmetic, disk, cores, memory, measured in under half a minute.

Bandwidth is that of a copy (a byte read and a byte written count two) and of a sum, best of several, on arrays larger
than the caches; several threads share the work, since numpy lets go of the interpreter meanwhile. Arithmetic is an
fp32 matrix product by numpy's own library. What an engine's kernels take is timed by `kernels`, where the engine is
installed. Formats that were not timed stay unknown.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError, FormatError
from weighbridge.hardware.catalogue import checks
from weighbridge.hardware.device import Device
from weighbridge.hardware.gpu_tools import Gpu, gpus
from weighbridge.hardware.kernels import time_kernels, time_training
from weighbridge.hardware.measured import HERE, Measured, measured, read_tables, toml

ARRAY_BYTES, ARRAY_BYTES_QUICK = 256 << 20, 96 << 20
DISK_BYTES, DISK_BYTES_QUICK = 512 << 20, 64 << 20
GEMM_SIDE = 1536
TIMES, TIMES_QUICK = 6, 3
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
GEMM = f"""
import sys, time, numpy as np
a = np.random.default_rng(0).standard_normal(({GEMM_SIDE}, {GEMM_SIDE})).astype("float32")
b, c = a.T.copy(), np.empty_like(a)
best = float("inf")
for _ in range(int(sys.argv[1]) + 1):
    start = time.perf_counter()
    np.matmul(a, b, out=c)
    best = min(best, time.perf_counter() - start)
print(2 * {GEMM_SIDE} ** 3 / best)
"""
"""Run as a process of its own: the number of threads of numpy's library is set before it is loaded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """Reading a temporary file from one end to the other. `cached` says that the page cache may have answered."""

    bytes_per_s: float
    file_bytes: int
    cached: bool

    def to_json(self) -> dict[str, Any]:
        """The part `disk`."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was found on this machine. None is unknown."""

    processor: str
    logical_cores: int
    physical_cores: int | None
    memory_bytes: int | None
    measured: Measured
    disk: Disk | None
    gpus: tuple[Gpu, ...]
    load_average: float | None
    seconds: float
    checked: datetime.date
    notes: tuple[str, ...] = ()

    @property
    def device(self) -> Device:
        """The processor of the machine as a device."""
        rate = self.measured.fp32_flops_per_s_all
        return Device(
            name=HERE, title=f"this machine ({self.processor})", vendor="", kind="cpu", source="measured: weigh probe",
            checked=self.checked, memory_bytes=self.memory_bytes, memory_bytes_per_s=self.measured.bytes_per_s_all,
            flops_per_s={} if rate is None else {"fp32": rate}, cores=self.physical_cores or self.logical_cores,
            notes=self.notes, measured=self.measured,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh probe --json`."""
        return {
            "device": HERE, "basis": "measured", "processor": self.processor, "logical_cores": self.logical_cores,
            "physical_cores": self.physical_cores, "memory_bytes": self.memory_bytes,
            "measured": self.measured.to_json(), "disk": self.disk.to_json() if self.disk else None,
            "gpus": [gpu.to_json() for gpu in self.gpus], "load_average": self.load_average, "seconds": self.seconds,
            "checked": self.checked.isoformat(), "notes": list(self.notes),
        }  # fmt: skip

    def to_toml(self) -> str:
        """What is kept of it: the device in the catalogue's form, and what was measured."""
        device = self.device
        facts = {
            "title": device.title, "vendor": "", "kind": "cpu", "source": device.source,
            "memory_bytes": device.memory_bytes, "memory_bytes_per_s": device.memory_bytes_per_s,
            "flops_per_s": dict(device.flops_per_s), "cores": device.cores, "checked_on": self.checked.isoformat(),
            "notes": list(self.notes),
        }  # fmt: skip
        return toml({HERE: facts, "measured": self.measured.to_json()})


def kept_at() -> Path:
    """The file of the saved probe, in the user's cache directory."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / ".cache") / "weighbridge" / "here.toml"


def saved_device(path: Path) -> Device:
    """The machine as a probe was saved.

    Raises:
        SourceError: when no probe was saved there.
        FormatError: when the file is not what `weigh probe` writes.
    """
    tables = read_tables(path)
    try:
        facts = dict(tables[HERE])
        facts["checked"] = datetime.date.fromisoformat(facts.pop("checked_on"))
        return replace(checks.device(HERE, facts, str(path)), measured=measured(tables["measured"]))
    except ConfigError as error:
        raise FormatError(error.read, error.expected, "run `weigh probe` again") from error
    except (KeyError, TypeError, ValueError, AssertionError) as error:
        raise FormatError(f"{path} holds no probe ({error!r})", "what `weigh probe` writes",
                          "run `weigh probe` again") from error  # fmt: skip


def with_measured(path: Path, found: Measured) -> str:
    """The text of a saved probe with other measured values."""
    tables = read_tables(path)
    return toml({HERE: tables[HERE], "measured": found.to_json()})


def probe(*, quick: bool = False, environment: Mapping[str, str], tell: Callable[[str], None] | None = None) -> Probe:
    """Measures this machine.

    Args:
        quick: smaller arrays and fewer repetitions.
        environment: the variables that child processes get.
        tell: is told what is measured next.
    """
    say = tell or (lambda text: None)
    start = time.perf_counter()
    times = TIMES_QUICK if quick else TIMES
    logical, physical = os.cpu_count() or 1, physical_cores()
    threads = min(logical, physical or logical)
    notes = []
    say("memory bandwidth")
    array_bytes = ARRAY_BYTES_QUICK if quick else ARRAY_BYTES
    one = bandwidth(1, array_bytes, times)
    every = one if threads == 1 else max(one, bandwidth(threads, array_bytes, times))
    say("arithmetic")
    flops_one = gemm(1, times, environment)
    flops_all = flops_one if threads == 1 else gemm(threads, times, environment)
    if flops_one and flops_all:
        flops_all = max(flops_one, flops_all)  # threads that wait for each other are no rate of the machine
    if flops_one is None or flops_all is None:
        notes.append("the rate of fp32 products could not be measured")
    say("the kernels of the engines that are installed")
    kernels, untimed = time_kernels()
    training, untimed_training = time_training()
    notes += [*untimed, *untimed_training]
    say("disk")
    disk = read_disk(DISK_BYTES_QUICK if quick else DISK_BYTES)
    if disk is None:
        notes.append("the disk was not measured: no room for a temporary file")
    elif disk.cached:
        notes.append("the disk's rate is that of the page cache where the file was still held there")
    say("graphics processors")
    cards, complaints = gpus()
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None and load > 0.5 * logical + 1.0:
        notes.append(f"other programs kept the machine busy meanwhile (load {load:.1f} on {logical} cores)")
    values = Measured(threads=threads, bytes_per_s_one=one, bytes_per_s_all=every, fp32_flops_per_s_one=flops_one,
                      fp32_flops_per_s_all=flops_all, kernels=kernels, training=training)  # fmt: skip
    return Probe(processor=processor_name(), logical_cores=logical, physical_cores=physical,
                 memory_bytes=memory_bytes(), measured=values, disk=disk, gpus=cards, load_average=load,
                 seconds=time.perf_counter() - start, checked=datetime.date.today(),
                 notes=(*notes, *complaints))  # fmt: skip


def bandwidth(threads: int, array_bytes: int, times: int) -> float:
    """Bytes a second that so many threads copy or sum together, the better of the two, best of several."""
    import numpy as np

    parts = [(np.ones(array_bytes // threads // 8, "float64"), np.zeros(array_bytes // threads // 8, "float64"))
             for _ in range(threads)]  # fmt: skip
    size = sum(source.nbytes for source, _ in parts)
    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for moved, work in ((2 * size, lambda part: np.copyto(part[1], part[0])), (size, lambda part: part[0].max())):
            for _ in range(times):
                start = time.perf_counter()
                list(pool.map(work, parts))
                best = max(best, moved / (time.perf_counter() - start))
    return best


def gemm(threads: int, times: int, environment: Mapping[str, str]) -> float | None:
    """FLOP a second of an fp32 matrix product by numpy with so many threads; None when it could not be run."""
    variables = {**environment, **dict.fromkeys(BLAS_THREADS, str(threads))}
    try:
        done = subprocess.run([sys.executable, "-c", GEMM, str(times)], capture_output=True, text=True, check=True,
                              timeout=60, env=variables)  # fmt: skip
        return float(done.stdout)
    except (subprocess.SubprocessError, OSError, ValueError):
        return None


def read_disk(file_bytes: int) -> Disk | None:
    """Writes a temporary file, asks the system to forget it, and reads it; None when it cannot be written."""
    block = os.urandom(1 << 20)
    try:
        with tempfile.NamedTemporaryFile(prefix="weighbridge-", buffering=0) as file:
            for _ in range(file_bytes >> 20):
                file.write(block)
            os.fsync(file.fileno())
            forgets = hasattr(os, "posix_fadvise")
            if forgets:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.seek(0)
            buffer = bytearray(4 << 20)
            start, count = time.perf_counter(), 0
            while read := file.readinto(buffer):
                count += read
            return Disk(bytes_per_s=count / (time.perf_counter() - start), file_bytes=count, cached=not forgets)
    except OSError:
        return None


def processor_name() -> str:
    """The model of the processor, as the system names it."""
    with contextlib.suppress(OSError):
        if name := cpuinfo_name(Path("/proc/cpuinfo").read_text(errors="replace")):
            return name
    return sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine() or "unknown processor"


def cpuinfo_name(text: str) -> str | None:
    r"""The processor's model in the text of /proc/cpuinfo.

    Example:
        >>> cpuinfo_name("processor : 0\nmodel name\t: AMD EPYC\n")
        'AMD EPYC'
    """
    found = re.search(r"(?m)^(?:model name|Model|Hardware|cpu model)\s*:\s*(.+)$", text)
    return found[1].strip() if found else None


def physical_cores() -> int | None:
    """Cores without those that share one; None when the system does not say."""
    with contextlib.suppress(OSError):
        if count := cpuinfo_cores(Path("/proc/cpuinfo").read_text(errors="replace")):
            return count
    text = sysctl("hw.physicalcpu")
    return int(text) if text and text.isdigit() else None


def cpuinfo_cores(text: str) -> int | None:
    r"""Distinct cores in the text of /proc/cpuinfo; None where it does not tell them apart.

    Example:
        >>> cpuinfo_cores("physical id: 0\ncore id: 0\n\nphysical id: 0\ncore id: 0\n")
        1
    """
    pairs = set()
    for entry in re.split(r"\n\s*\n", text):
        facts = dict(re.findall(r"(?m)^(physical id|core id)\s*:\s*(\d+)", entry))
        if "core id" in facts:
            pairs.add((facts.get("physical id"), facts["core id"]))
    return len(pairs) or None


def memory_bytes() -> int | None:
    """Memory of this machine, and of the container it runs in where that has less."""
    total = None
    with contextlib.suppress(OSError):
        total = meminfo_bytes(Path("/proc/meminfo").read_text(errors="replace"))
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        total = limit if total is None else min(total, limit)
    if total is None and (text := sysctl("hw.memsize")) and text.isdigit():
        total = int(text)
    return total


def meminfo_bytes(text: str) -> int | None:
    r"""The total in the text of /proc/meminfo.

    Example:
        >>> meminfo_bytes("MemTotal:       1024 kB\n")
        1048576
    """
    found = re.search(r"(?m)^MemTotal:\s*(\d+)\s*kB", text)
    return int(found[1]) * 1024 if found else None


def sysctl(name: str) -> str | None:
    """A value that macOS keeps; None elsewhere."""
    if platform.system() != "Darwin":
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=True, timeout=5)
        return done.stdout.strip() or None
    return None
