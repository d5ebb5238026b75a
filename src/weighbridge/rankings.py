"""Which device for a model, which model for a device, which encoding for so many bytes? Plans of all, ranked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnknownNameError, WeighbridgeError
from weighbridge.hardware import catalogue as hardware_catalogue
from weighbridge.hardware.device import Device
from weighbridge.inspection import inspect
from weighbridge.model import catalogue
from weighbridge.planning import NO_DECODING, Plan, fit, rented


@dataclass(frozen=True, slots=True)
class Candidate:
    """A device for a model, or a model for a device: how it would go."""

    name: str
    title: str
    plan: Plan

    def to_json(self) -> dict[str, Any]:
        """One entry of `weigh devices --for` and `weigh models --on`."""
        memory, fast = self.plan.memory, self.plan.speed
        return {
            "name": self.name, "title": self.title, "weights": self.plan.weights.recipe,
            "runtime": self.plan.service.runtime.name, "fits": memory.fits,
            "memory_total_bytes": memory.total_bytes.to_json(), "capacity_bytes": memory.capacity_bytes,
            "max_context": memory.max_context, "decode_tok_s": fast.decode_tok_s.to_json(),
        }  # fmt: skip


def _candidates(pairs: Iterable[tuple[str, str, Any, str | Device]], options: Mapping[str, Any]) -> list[Candidate]:
    """The plans of these pairs of model and device; pairs that cannot be planned are left out, unless all are.

    Raises:
        WeighbridgeError: when no pair can be planned.
    """
    found: list[Candidate] = []
    refusal: WeighbridgeError | None = None
    for name, title, source, device in pairs:
        try:
            found.append(Candidate(name, title, fit(source, device, alternatives=False, **options)))
        except WeighbridgeError as error:  # a pipeline, heads that do not divide, a recipe that cannot store it
            refusal = error
    if not found and refusal is not None:
        raise refusal
    return found


def devices_for(
    source: Any, *, kinds: Sequence[str] = (), text: str = "", own_devices: Sequence[Device] = (), **options: Any
) -> list[Candidate]:
    """Every device of the catalogue with known memory: those that the model fits on, the smallest first, and then the
    others, the largest first.

    Args:
        source: what `inspect` takes.
        kinds: only devices of these kinds.
        text: only devices of the catalogue whose names, vendor or kind hold it.
        own_devices: devices of the user's own file, ranked among them.
        options: as of `fit`.

    Raises:
        UnknownNameError: for a kind that no device has.
    """
    known = {device.kind for device in (*own_devices, *hardware_catalogue.devices())}
    for kind in kinds:
        if kind not in known:
            raise UnknownNameError("kind of device", kind, known, "name one of these")
    inspection = inspect(source)
    wanted = [device for device in (*own_devices, *hardware_catalogue.matching(text))
              if device.memory_bytes is not None and (not kinds or device.kind in kinds)]  # fmt: skip
    found = _candidates(((device.name, device.title, inspection, device) for device in wanted), options)

    def place(candidate: Candidate) -> tuple[bool, int, float]:
        memory, fits = candidate.plan.machine.device.memory_bytes or 0, bool(candidate.plan.memory.fits)
        return not fits, memory if fits else -memory, -(candidate.plan.speed.decode_tok_s.value or 0.0)

    return sorted(found, key=place)


def models_on(device: str | Device, *, text: str = "", **options: Any) -> list[Candidate]:
    """Every named model that generates, has positions for the context and can be planned: those that fit, the largest
    first, and then the others, the smallest first.

    Raises:
        WeighbridgeError: when no model can be planned so.
    """
    machine_of, instance = rented(device, options.pop("own_devices", ()))
    if instance is not None:
        options["devices"] = options.get("devices", 1) * instance.devices
    wanted = (model for model in catalogue.matching(text) if model.config)
    found = _candidates(((model.name, model.title, model, machine_of) for model in wanted), options)
    found = [
        candidate for candidate in found
        if candidate.plan.speed.tpot_s.note != NO_DECODING
        and not candidate.plan.inspection.too_long(candidate.plan.service.context_tokens)
    ]  # fmt: skip

    def place(candidate: Candidate) -> tuple[bool, int, str]:
        size, fits = candidate.plan.inspection.parameters.total, bool(candidate.plan.memory.fits)
        return not fits, -size if fits else size, candidate.name

    return sorted(found, key=place)


@dataclass(frozen=True, slots=True)
class Budget:
    """What a number of bytes leaves for the weights of a model: bits a weight, and what fits, the largest first."""

    source: str
    budget_bytes: int
    bits_per_weight: float
    recipes: tuple[tuple[str, int], ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh fit --within --json`."""
        return {
            "source": self.source, "budget_bytes": self.budget_bytes, "bits_per_weight": self.bits_per_weight,
            "recipes": [{"name": name, "bytes": size} for name, size in self.recipes], "fits": bool(self.recipes),
        }  # fmt: skip


def within(source: Any, budget_bytes: int) -> Budget:
    """Which encodings of a model's weights fit into a number of bytes.

    Example:
        >>> found = within("llama-3.2-1b", 100_000_000)
        >>> round(found.bits_per_weight, 2), found.recipes
        (0.65, ())
        >>> within("llama-3.2-1b", 1_000_000_000).recipes[0]
        ('q5_1', 945549312)
    """
    inspection = inspect(source)
    sizes = sorted(inspection.bytes_by_encoding.items(), key=lambda item: -item[1])
    return Budget(inspection.source, budget_bytes, budget_bytes * 8 / inspection.parameters.total,
                  tuple((name, size) for name, size in sizes if size <= budget_bytes))  # fmt: skip
