"""Which ways to train a model fit, what does each cost, and what is said of its price?

The same run by full training, LoRA, QLoRA and a learned prompt, each in its best layout. A way that does not fit has no
price; for it the devices that would do are looked for, twice as many at a time. What publications say of prices stands
beside what was worked out and enters into nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.device import Device
from weighbridge.predict.disputed import Dispute, dispute_of_method
from weighbridge.predict.ownership import TotalCost
from weighbridge.training import TrainingPlan, train
from weighbridge.training_wish import Wish

METHODS = ("full", "lora", "qlora", "prompt")
"""From the one that trains the most to the one that trains the least."""
USUAL_PROMPT = 20
"""Tokens of a learned prompt where none are given: those of Lester et al. 2021, up to 100 there."""
MOST_DOUBLINGS = 10
"""How often the devices are doubled at most, to find how many would do."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to train. `devices_that_fit` are how many would do: those of the plan where it fits, None where no number
    that was tried does, or none was tried: the layout is given, the memory unknown, or the device is this machine.
    """

    plan: TrainingPlan
    devices_that_fit: int | None
    said: Dispute | None

    @property
    def device_hours(self) -> Estimate:
        """Hours of the devices; unknown where it does not fit."""
        return self._unless_too_large(self.plan.hours.device_hours)

    @property
    def usd(self) -> Estimate:
        """What they cost; unknown where it does not fit."""
        return self._unless_too_large(self.plan.cost_usd)

    @property
    def project(self) -> TotalCost | None:
        """All that is paid; None where it does not fit, or nothing is paid beside the run."""
        return None if self.plan.memory.fits is False else self.plan.project

    def _unless_too_large(self, estimate: Estimate) -> Estimate:
        if self.plan.memory.fits is not False:
            return estimate
        return Estimate(None, None, None, estimate.unit, Basis.SPECIFIED, "it does not fit: nothing is run")

    def to_json(self) -> dict[str, Any]:
        """One entry of `ways`."""
        return {
            "method": self.plan.run.method.name, "trainable_parameters": self.plan.trainable_parameters,
            "fits": self.plan.memory.fits, "devices_that_fit": self.devices_that_fit,
            "gpu_hours": self.device_hours.to_json(), "cost_usd": self.usd.to_json(),
            "project_usd": None if self.project is None else self.project.total.to_json(),
            "said": None if self.said is None else self.said.to_json(),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ways:
    """All ways, in the order of `METHODS`."""

    ways: tuple[Way, ...]

    @property
    def plans(self) -> tuple[TrainingPlan, ...]:
        """The plan of each."""
        return tuple(way.plan for way in self.ways)

    @property
    def first_that_fits(self) -> Way | None:
        """The one that trains the most of those that fit."""
        return next((way for way in self.ways if way.plan.memory.fits), None)

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh train --compare --json`."""
        first = self.first_that_fits
        return {
            "first_that_fits": None if first is None else first.plan.run.method.name,
            "ways": [way.to_json() for way in self.ways], "plans": [plan.to_json() for plan in self.plans],
        }  # fmt: skip


def ways_to_train(source: Any, on: str | Device, wish: Wish, **options: Any) -> Ways:
    """The same run by every method of `METHODS`, each in its best layout.

    Args:
        source: what `train` takes.
        on: the device.
        wish: what is asked; its rank, targets and prompt are those of the methods that have them.
        **options: those of `train`.

    Raises:
        UnitError: when the wish names a method.
        WeighbridgeError: what `train` raises.

    Example:
        >>> found = ways_to_train("llama-2-7b", "rtx-4090", Wish(tokens=10**7, sequence_tokens=512))
        >>> [(way.plan.run.method.name, way.devices_that_fit) for way in found.ways]
        [('full', 8), ('lora', 1), ('qlora', 1), ('prompt', 1)]
    """
    if wish.method.name != "full" or wish.method.trained_layers:
        raise UnitError("a method to train by", "none, where all are set side by side", "leave it out")
    found = []
    for name in METHODS:
        method = replace(wish.method, name=name, prompt_tokens=wish.method.prompt_tokens or USUAL_PROMPT)
        asked = replace(wish, method=method)
        plan = train(source, on, asked, **options)
        found.append(Way(plan, _devices_that_fit(plan, source, on, asked, options), dispute_of_method(name)))
    return Ways(tuple(found))


def _devices_that_fit(
    plan: TrainingPlan, source: Any, on: str | Device, wish: Wish, options: dict[str, Any]
) -> int | None:
    """The first number of devices that does, of that of the plan and its doubles."""
    if plan.memory.fits:
        return plan.devices
    if plan.memory.fits is None or not wish.is_searched or plan.device.measured is not None:
        return None
    for doubling in range(1, MOST_DOUBLINGS + 1):
        try:
            larger = train(source, on, replace(wish, devices=wish.devices * 2**doubling), **options)
        except UnitError:  # more devices than any machine has, or than the batch can be divided among
            return None
        if larger.memory.fits:
            return larger.devices
    return None
