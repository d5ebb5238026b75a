"""Which parameters of a model does a run hold, and which of them does it train?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use
from weighbridge.model.tensors import Component, Kind
from weighbridge.predict.training.methods import Method


@dataclass(frozen=True, slots=True)
class Row:
    """Like tensors of a run, all layers and experts together.

    `repeat` is the number of layers; `experts` of each layer; `shape` that of one tensor. `is_adapter` marks what the
    method adds to the model.
    """

    path: str
    role: str
    component: Component
    use: Use
    shape: tuple[int, ...]
    repeat: int
    experts: int
    elements: int
    is_trained: bool
    is_adapter: bool = False


@dataclass(frozen=True, slots=True)
class Trained:
    """The parameters of a run."""

    rows: tuple[Row, ...]

    @property
    def trainable(self) -> int:
        """Parameters that have a gradient."""
        return sum(row.elements for row in self.rows if row.is_trained)

    @property
    def frozen(self) -> int:
        """Parameters of the model that stay as they are."""
        return sum(row.elements for row in self.rows if not row.is_trained)

    @property
    def total(self) -> int:
        """All parameters that a run holds, adapters included."""
        return self.trainable + self.frozen


def trained(architecture: Architecture, method: Method) -> Trained:
    """What a method trains of a model.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> trained(inspect("llama-2-70b").architecture, Method(name="lora", rank=8)).trainable
        16384000
    """
    return Trained(tuple(_rows(architecture, method)))


def _rows(architecture: Architecture, method: Method) -> Iterator[Row]:
    for group in architecture.groups:
        weight = group.weight
        if group.mtp or weight.kind is not Kind.PARAMETER or weight.tied_to is not None:
            continue
        repeat = 1 if group.layers is None else len(group.layers)
        full = method.name == "full"
        yield Row(group.name, weight.role, group.component, weight.use, weight.shape, repeat, weight.experts,
                  group.elements, full)  # fmt: skip
        if method.name in ("lora", "qlora") and weight.role in method.targets and weight.use is Use.MATMUL:
            inputs = weight.in_features
            outputs = weight.elements // inputs
            adapter = method.rank * (inputs + outputs) * repeat * weight.experts
            yield Row(f"{group.name}.lora", weight.role, group.component, weight.use, (method.rank, inputs + outputs),
                      repeat, weight.experts, adapter, True, True)  # fmt: skip
