"""How are devices joined to run one model? How many, and which dimension of the work each group of them splits.

Tensor parallelism cuts every matrix, pipeline parallelism the layers, expert parallelism the experts, and data
parallelism runs whole copies of the attention. Devices = tensor x pipeline x data; experts spread over all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.hardware.device import Device

MOST_DEVICES = 100_000
"""More than any machine has that runs one model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """So many devices of one kind, with a layout. `expert_parallel` groups may span tensor and data parallelism."""

    device: Device
    devices: int = 1
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    data_parallel: int = 1
    expert_parallel: int = 1

    @property
    def capacity_bytes(self) -> int | None:
        """Memory of all devices together; None when it is unknown."""
        return None if self.device.memory_bytes is None else self.device.memory_bytes * self.devices

    def to_json(self) -> dict[str, Any]:
        """The part `machine` of the JSON contract."""
        return {
            "device": self.device.name, "title": self.device.title, "devices": self.devices,
            "tensor_parallel": self.tensor_parallel, "pipeline_parallel": self.pipeline_parallel,
            "data_parallel": self.data_parallel, "expert_parallel": self.expert_parallel,
            "memory_bytes_per_device": self.device.memory_bytes,
            "memory_bytes_per_s": self.device.memory_bytes_per_s, "source": self.device.source,
        }  # fmt: skip


def machine(
    device: Device,
    devices: int = 1,
    *,
    tensor_parallel: int | None = None,
    pipeline_parallel: int | None = None,
    data_parallel: int | None = None,
    expert_parallel: int | None = None,
    layers_split: bool = False,
) -> Machine:
    """A machine whose layout accounts for all of its devices.

    Without a layout all devices share each matrix, or each takes a part of the layers where `layers_split` is set, as
    llama.cpp does. A layout that is given in part leaves the rest to tensor parallelism.

    Raises:
        UnitError: when a number is none from 1 to `MOST_DEVICES`, or the layout does not multiply to that of devices.

    Example:
        >>> import datetime
        >>> today = datetime.date(2026, 1, 1)
        >>> card = Device(name="a", title="A", vendor="", kind="gpu", source="", checked=today)
        >>> machine(card, 8, data_parallel=2).tensor_parallel, machine(card, 4, layers_split=True).pipeline_parallel
        (4, 4)
    """
    parts: dict[str, Any] = {
        "devices": devices, "tensor parallelism": tensor_parallel, "pipeline parallelism": pipeline_parallel,
        "data parallelism": data_parallel, "expert parallelism": expert_parallel,
    }  # fmt: skip
    for name, number in parts.items():
        if number is not None and not (isinstance(number, int) and 1 <= number <= MOST_DEVICES):
            shown = (
                f"{number:,}"
                if abs(number) <= MOST_DEVICES
                else f"{'less than minus' if number < 0 else 'more than'} {MOST_DEVICES:,}"
            )
            raise UnitError(f"{name}: {shown}", f"a whole number from 1 to {MOST_DEVICES:,}", "correct the number")
    data, pipeline = data_parallel or 1, pipeline_parallel or 1
    tensor = tensor_parallel
    if layers_split and tensor is None and pipeline_parallel is None:
        tensor, pipeline = 1, devices
    if tensor is None:
        tensor = max(1, devices // (data * pipeline))
    if tensor * pipeline * data != devices:
        read = f"tensor {tensor} x pipeline {pipeline} x data {data} parallelism on {devices} devices"
        raise UnitError(read, "a product that is the number of devices", "correct the layout or the number")
    experts = expert_parallel or 1
    if devices % experts:
        raise UnitError(f"expert parallelism {experts} on {devices} devices", "a divisor of them", "correct it")
    return Machine(device=device, devices=devices, tensor_parallel=tensor, pipeline_parallel=pipeline,
                   data_parallel=data, expert_parallel=experts)  # fmt: skip
