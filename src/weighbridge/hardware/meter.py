"""How much energy did this machine take? Its own meters, read again and again and integrated.

RAPL: the counters of Linux under `/sys/class/powercap` (kernel documentation, `power/powercap/powercap.rst`), in
microjoules, which start again at `max_energy_range_uj`. Packages and their memory are added; cores and graphics lie
inside a package, `psys` around it, and `intel-rapl-mmio` is the same package by another way. AMD's processors have the
same files. Since Linux 5.10 they are readable for root alone (CVE-2020-8694).

NVML: through `nvidia-ml-py` (module `pynvml`). `nvmlDeviceGetTotalEnergyConsumption` counts millijoules on Volta and
later; others tell their power, which is integrated with straight lines between the samples.

A sensor is taken to be right within 5%: NVIDIA says so of the power of its cards; Yang et al., Part-time Power
Measurements (SC 2024, arXiv 2312.02741) find the same in steady work, and more on A100 and H100, whose power is
sampled for a quarter of the time; that of RAPL is assumed.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from weighbridge.estimate import Basis, Estimate

POWERCAP = Path("/sys/class/powercap")
SENSOR_ERROR = 0.05
INTERVAL_S = 0.1
LONGEST_GAP_S = 2.0
"""Between two samples of a power; over a longer one it may have been anything that was seen before and after."""


class Sensor(Protocol):
    """One meter: a counter of joules that starts again after `wraps_j`, or else a power in watts."""

    @property
    def name(self) -> str:
        """What it measures."""

    @property
    def is_counter(self) -> bool:
        """Whether it counts joules."""

    @property
    def wraps_j(self) -> float | None:
        """Where a counter starts again; None when it does not."""

    def read(self) -> float:
        """Joules or watts now.

        Raises:
            OSError: when it does not answer.
        """


@dataclass(frozen=True, slots=True)
class Zone:
    """A counter of RAPL: a folder with `energy_uj`."""

    name: str
    folder: Path
    wraps_j: float | None
    is_counter: bool = True

    def read(self) -> float:
        """Joules since it last started again."""
        try:
            return int((self.folder / "energy_uj").read_text(encoding="ascii")) / 1e6
        except ValueError as error:
            raise OSError(f"{self.folder.name} holds no number") from error


@dataclass(frozen=True, slots=True)
class Card:
    """A card of NVIDIA: its counter of millijoules, or its power where it has none."""

    name: str
    nvml: Any
    handle: Any
    is_counter: bool
    wraps_j: float | None = None

    def read(self) -> float:
        """Joules since the driver was loaded, or watts."""
        try:
            if self.is_counter:
                return float(self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle)) / 1000
            return float(self.nvml.nvmlDeviceGetPowerUsage(self.handle)) / 1000
        except self.nvml.NVMLError as error:
            raise OSError(f"{self.name} does not answer ({error})") from error


def rapl(root: Path = POWERCAP) -> tuple[list[Sensor], list[str]]:
    """The counters of the processors and their memory, and why one that should be there is not."""
    found: list[Sensor] = []
    notes = []
    if not root.is_dir():
        return [], [f"no energy counters of the processor: {root} is not there"]
    zones = sorted(path for path in root.glob("intel-rapl:*") if (path / "energy_uj").exists())
    named = {path: _word(path / "name") for path in zones}
    for path, name in named.items():
        is_package, is_memory = path.name.count(":") == 1 and name.startswith("package"), name == "dram"
        if not is_package and not is_memory:
            continue
        label = name if is_package else f"{named.get(path.parent / path.name.rpartition(':')[0], '')} {name}".strip()
        most = _word(path / "max_energy_range_uj")
        zone = Zone(label, path, int(most) / 1e6 if most.isdigit() and int(most) else None)
        try:
            zone.read()
        except PermissionError:
            notes.append(f"{path / 'energy_uj'} is for root alone: run as root, or let your user read it")
        except OSError as error:
            notes.append(f"{path / 'energy_uj'} cannot be read ({error})")
        else:
            found.append(zone)
    if not found and not notes:
        notes.append(f"no energy counters of the processor: {root} has no package of RAPL")
    return found, notes


def _word(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def cards() -> tuple[list[Sensor], list[str]]:
    """The cards of NVIDIA that tell energy or power, and why there are none."""
    try:
        nvml: Any = importlib.import_module("pynvml")
    except ImportError:
        return [], ["no meters of NVIDIA's cards: the extra `meter` is not installed"]
    try:
        nvml.nvmlInit()
        handles = [nvml.nvmlDeviceGetHandleByIndex(place) for place in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError as error:
        return [], [f"no meters of NVIDIA's cards: {error}"]
    found: list[Sensor] = []
    notes = []
    for place, handle in enumerate(handles):
        title = nvml.nvmlDeviceGetName(handle)
        name = f"card {place}, {title.decode() if isinstance(title, bytes) else title}"
        sensors = [Card(name, nvml, handle, is_counter) for is_counter in (True, False)]
        answering = next((sensor for sensor in sensors if _answers(sensor)), None)
        if answering is None:
            notes.append(f"{name} tells neither energy nor power")
        else:
            found.append(answering)
    return found, notes


def _answers(sensor: Sensor) -> bool:
    try:
        sensor.read()
    except OSError:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Sample:
    """What a sensor said at a time; None where it did not answer."""

    time_s: float
    value: float | None


def integrated(
    samples: Sequence[Sample], *, is_counter: bool, wraps_j: float | None, since_s: float, until_s: float
) -> Estimate:
    """Joules between two times, from the samples of one sensor.

    Between two readings of a counter its energy is spread evenly, and between two of a power lie straight lines. A
    counter that went back has started again once. A power that was not read for long lies between the least and the
    most that was seen. Ends that no sample reaches are not filled up: the energy is unknown.
    """
    seen = [(s.time_s, s.value) for s in samples if s.value is not None]
    if len(seen) < 2:
        return Estimate(
            None, None, None, "J", Basis.MEASURED, f"the meter answered {len(seen)} of {len(samples)} times"
        )
    if seen[0][0] > since_s or seen[-1][0] < until_s or until_s <= since_s:
        return Estimate(None, None, None, "J", Basis.MEASURED, "the meter was not read over the whole time")
    joules = low = high = blind_s = 0.0
    least, most = min(value for _, value in seen), max(value for _, value in seen)
    for (start, before), (end, after) in itertools.pairwise(seen):
        inside = min(end, until_s) - max(start, since_s)
        if inside <= 0:
            continue
        if is_counter:
            step = after - before
            if step < 0 and wraps_j is None:
                return Estimate(
                    None, None, None, "J", Basis.MEASURED, "the counter went back, and nobody knows how far"
                )
            part = (step if step >= 0 else step + (wraps_j or 0.0)) * inside / (end - start)
            joules, low, high = joules + part, low + part, high + part
            continue
        slope = (after - before) / (end - start)
        middle = (max(start, since_s) + min(end, until_s)) / 2
        part = (before + slope * (middle - start)) * inside
        joules += part
        if end - start > LONGEST_GAP_S:
            blind_s += inside
            low, high = low + min(least * inside, part), high + max(most * inside, part)
        else:
            low, high = low + part, high + part
    note = f"not read for {blind_s:.1f} s of {until_s - since_s:.1f} s" if blind_s else ""
    return Estimate(joules, low * (1 - SENSOR_ERROR), high * (1 + SENSOR_ERROR), "J", Basis.MEASURED, note)


@dataclass(slots=True)
class Meter:
    """Sensors that are read together, by a clock that is given: seconds that never go back."""

    sensors: Sequence[Sensor]
    clock: Callable[[], float]
    notes: tuple[str, ...] = ()
    samples: list[list[Sample]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.samples = [[] for _ in self.sensors]

    def sample(self) -> None:
        """Reads every sensor once."""
        for sensor, kept in zip(self.sensors, self.samples, strict=True):
            try:
                value: float | None = sensor.read()
            except OSError:
                value = None
            kept.append(Sample(self.clock(), value))

    @contextlib.contextmanager
    def reading(self, interval_s: float = INTERVAL_S) -> Iterator[Meter]:
        """Reads the sensors while the block runs, in a thread of its own; once more at the end."""
        stop = threading.Event()

        def follow() -> None:
            while not stop.wait(interval_s):
                self.sample()

        self.sample()
        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            stop.set()
            thread.join()
            self.sample()

    def energy(self, since_s: float, until_s: float) -> dict[str, Estimate]:
        """Joules of each sensor between two times of the clock."""
        return {sensor.name: integrated(kept, is_counter=sensor.is_counter, wraps_j=sensor.wraps_j,
                                        since_s=since_s, until_s=until_s)
                for sensor, kept in zip(self.sensors, self.samples, strict=True)}  # fmt: skip

    def total(self, since_s: float, until_s: float) -> Estimate:
        """Joules of all sensors together; unknown without one, or when one is."""
        if not self.sensors:
            return Estimate(None, None, None, "J", Basis.MEASURED, "; ".join(self.notes) or "no meter")
        return Estimate.sum(self.energy(since_s, until_s).values())


def meter(clock: Callable[[], float], *, with_cards: bool = True, root: Path = POWERCAP) -> Meter:
    """Every meter that this machine offers.

    Args:
        clock: seconds that never go back, such as `time.monotonic`.
        with_cards: whether to read NVIDIA's cards too; work on the processor leaves them idle.
        root: the folder of the processor's counters.
    """
    found, notes = rapl(root)
    if with_cards:
        more, why = cards()
        found, notes = found + more, notes + why
    return Meter(found, clock, tuple(notes))
