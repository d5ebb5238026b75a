"""What does each device hold at the peak of a training step, and does that fit?

Under mixed precision a trained parameter takes 2 bytes, its gradient 2, its copy in fp32 4 and AdamW's moments 8: 16 in
all (Rajbhandari et al. 2020, section 3.1). ZeRO divides among the n devices of data and context parallelism the copy and
the moments from stage 1, the gradients from 2, the weights from 3. Tensor parallelism divides matrices, pipeline
parallelism layers, expert parallelism routed experts. A pipeline's first stage keeps the activations of as many
micro-batches as it has stages (Narayanan et al. 2021).

The peak is the largest of three moments: at the loss, with all that is kept and the arrays of the vocabulary; in the
backward pass, with one layer's; at the update, with every gradient and what the optimizer works in. So the whole is less
than the parts together, unless several micro-batches add up their gradients.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.device import Device
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use
from weighbridge.predict.training.activations import Kept, kept, layer_input
from weighbridge.predict.training.optimizers import row_state_bytes
from weighbridge.predict.training.run import Run
from weighbridge.predict.training.trained import Row, Trained

FITS = Path(__file__).parent.parent / "fits" / "training_memory.toml"
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight under QLoRA: 4 bits, a scale of 8 bits for 64 of them, one of 32 bits for 256 scales (Dettmers 2023)."""
LOSS_BYTES = 12.0
"""For each number of the logits at the loss: 2 and their copy in fp32, its gradient, and that in 16 bits; three times 4
in fp32."""
LAYERS_GATHERED = 2
"""Layers whose weights lie whole on each device under ZeRO 3: the one at work and the next."""


@functools.cache
def fits() -> Mapping[str, Any]:
    """Constants fitted to measured peaks."""
    return tomllib.loads(FITS.read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingMemory:
    """Bytes of the device that holds most. `host_bytes` wait in the memory of its host, `nvme_bytes` on its disks."""

    weights_bytes: Estimate
    gradients_bytes: Estimate
    optimizer_bytes: Estimate
    activation_bytes: Estimate
    overhead_bytes: Estimate
    per_device_bytes: Estimate
    capacity_bytes: int | None
    host_bytes: int = 0
    nvme_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def states_bytes(self) -> int:
        """Weights, gradients and what the optimizer keeps: exact."""
        return int(sum(part.value or 0 for part in (self.weights_bytes, self.gradients_bytes, self.optimizer_bytes)))

    @property
    def fits(self) -> bool | None:
        """Whether it fits; None where the memory of the device is unknown."""
        if self.capacity_bytes is None or self.per_device_bytes.value is None:
            return None
        return self.per_device_bytes.value <= self.capacity_bytes

    def parts(self) -> dict[str, Estimate]:
        """Each part by its name."""
        return {"weights": self.weights_bytes, "gradients": self.gradients_bytes, "optimizer": self.optimizer_bytes,
                "activations": self.activation_bytes, "overhead": self.overhead_bytes}  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The part `memory` of the JSON contract."""
        return {
            "weights_bytes": self.weights_bytes.to_json(), "gradients_bytes": self.gradients_bytes.to_json(),
            "optimizer_bytes": self.optimizer_bytes.to_json(), "activation_bytes": self.activation_bytes.to_json(),
            "overhead_bytes": self.overhead_bytes.to_json(), "per_device_bytes": self.per_device_bytes.to_json(),
            "states_bytes": self.states_bytes, "capacity_bytes": self.capacity_bytes, "fits": self.fits,
            "host_bytes": self.host_bytes, "nvme_bytes": self.nvme_bytes,
        }  # fmt: skip


@dataclass(slots=True)
class _States:
    """Bytes on one device."""

    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    whole: float = 0.0
    """Of the weights that ZeRO 3 gathers: the largest that is no layer."""
    layer: float = 0.0
    """And one layer."""
    largest: float = 0.0
    """The largest frozen matrix, unpacked."""
    update: float = 0.0
    """What the optimizer works in."""


def plan_memory(architecture: Architecture, held: Trained, run: Run, device: Device) -> TrainingMemory:
    """The memory of the device that holds most.

    Args:
        architecture: the model.
        held: what is trained of it, as `trained` says.
        run: batch, method, precision and layout; the layout is one that `refusal` does not refuse.
        device: one of the devices.

    Example:
        >>> from weighbridge.hardware.catalogue import find_device
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.predict.training.trained import trained
        >>> llama = inspect("llama-2-70b").architecture
        >>> run = Run(sequence_tokens=4096, global_batch=16)
        >>> round(plan_memory(llama, trained(llama, run.method), run, find_device("h100-sxm")).states_bytes / 1e9, 1)
        1103.6
    """
    rows = kept(architecture, held, run)
    stages = [_stage(architecture, held, run, rows, first) for first in ((True, False) if run.layout.pipeline > 1 else
                                                                         (None,))]  # fmt: skip
    found = max(stages, key=lambda stage: stage.peak)
    return _memory(run, device, found)


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage of the pipeline at its peak."""

    states: _States
    activations: float
    gathered: float
    peak: float


def _stage(architecture: Architecture, held: Trained, run: Run, rows: tuple[Kept, ...], first: bool | None) -> _Stage:
    layout = run.layout
    states = _States()
    number = 4 if run.precision == "fp32" else 2
    for row in held.rows:
        _add(states, architecture, row, run, first)
    tokens = run.micro_batch * run.sequence_tokens / layout.context
    between = layout.tensor if layout.sequence_parallel else 1
    layers = once = one_layer = 0.0
    for row in rows:
        size = _kept_bytes(row, run, number, between) * tokens
        if row.layers > 1:
            layers += _kept_bytes(row, run, number, between, run.checkpointing) * tokens * row.layers
            one_layer += size
        elif _is_on(row.path, architecture, first):
            once += size
    if run.checkpointing == "full":
        layers = layer_input(architecture, rows) * architecture.num_layers * number / between * tokens
    else:
        one_layer = 0.0
    flight = min(layout.pipeline, run.accumulation) if first is not False else 1
    layers = layers / layout.pipeline * flight
    vocabulary = max((row.shape[0] for row in held.rows if row.role in ("head", "token_embedding")), default=0)
    generates = any(p.block.states() for p in architecture.placements)
    loss = LOSS_BYTES * tokens * vocabulary / layout.tensor if generates and first is not True else 0.0
    at_loss, again = layers + once + loss, layers + one_layer
    activations = max(at_loss, again)
    offloaded = 0.0 if layout.offload == "none" else states.optimizer
    fixed = states.weights + states.optimizer - offloaded
    gathered = states.layer * LAYERS_GATHERED + states.whole if layout.zero == 3 and layout.data > 1 else 0.0
    gathered += states.largest
    if run.accumulation > 1:
        most = states.gradients + activations
    else:
        most = max(activations, states.gradients + one_layer)
    most = max(most, states.gradients + (states.update if layout.offload == "none" else 0.0))
    return _Stage(states, activations, gathered, fixed + gathered + most)


def _is_on(path: str, architecture: Architecture, first: bool | None) -> bool:
    """Whether a part that stands once is on the first stage, or on the last."""
    if first is None:
        return True
    layered = [n for n, placement in enumerate(architecture.placements) if placement.layers is not None]
    place = next((n for n, placement in enumerate(architecture.placements) if path.startswith(placement.path)), 0)
    return (not layered or place < layered[0]) is first


def _kept_bytes(row: Kept, run: Run, number: int, between: int, checkpointing: str = "none") -> float:
    """Bytes for each token of one layer."""
    divided, whole = row.divided, row.between
    scores = row.scores * run.sequence_tokens
    if checkpointing == "selective":
        divided, whole, scores = divided - row.dropped_divided, whole - row.dropped_between, 0.0
    tensor = run.layout.tensor
    return number * (divided / tensor + whole / between + scores / tensor) + 4 * row.statistics / tensor


def _add(states: _States, architecture: Architecture, row: Row, run: Run, first: bool | None) -> None:
    """Adds one row's share of a device."""
    layout = run.layout
    layered = row.layers is not None and len(row.layers) > 1
    if layered:
        share = math.ceil(row.repeat / layout.pipeline) / row.repeat
    elif _is_on(row.path, architecture, first):
        share = 1.0
    else:
        return
    is_matrix = len(row.shape) > 1
    share /= layout.tensor if is_matrix else 1
    group = layout.data * layout.context
    routed = row.experts > 1 or row.role.startswith("experts_")
    if routed:
        share /= layout.expert
        group //= layout.expert
    number = 4 if run.precision == "fp32" else 2
    packed = run.method.frozen_encoding == "nf4" and is_matrix and layered and row.use is Use.MATMUL
    each = number if row.is_trained or not packed else NF4_BYTES
    elements = row.elements * share
    states.weights += elements * each / (group if layout.zero == 3 else 1)
    if layered:
        states.layer += elements * number / max(1, row.repeat * share)
    else:
        states.whole = max(states.whole, elements * number)
    if packed:
        states.largest = max(states.largest, math.prod(row.shape) * number / layout.tensor)
    if not row.is_trained:
        return
    states.gradients += elements * number / (group if layout.zero >= 2 else 1)
    master = 4 if run.precision not in ("fp32", "bf16-true") else 0
    kept_bytes = row.elements * master + row_state_bytes(row, run.optimizer, run.precision)
    divided = group if layout.zero >= 1 else 1
    states.optimizer += kept_bytes * share / divided
    states.update += row.elements * share * (number if run.precision == "bf16-true" else 4) / divided


def _memory(run: Run, device: Device, stage: _Stage) -> TrainingMemory:
    states, table = stage.states, fits()
    context, share = float(table["context_bytes"]), float(table["fragmentation"])
    low, high = float(table["residuals"]["low"]), float(table["residuals"]["high"])
    waste = share * (stage.activations + stage.gathered)
    overhead = context + waste + stage.gathered
    peak = stage.peak + context + waste
    offload = run.layout.offload
    moved = round(states.optimizer) if offload != "none" else 0
    exact = [_exact(part) for part in (states.weights, states.gradients, states.optimizer - moved)]
    spread = Estimate(peak, peak * math.exp(low), peak * math.exp(high), "B", Basis.MODELLED,
                      "the largest moment of a step; the parts are not all there at once")  # fmt: skip
    return TrainingMemory(
        weights_bytes=exact[0], gradients_bytes=exact[1], optimizer_bytes=exact[2],
        activation_bytes=_modelled(stage.activations, low, high, "kept for the backward pass, and the loss"),
        overhead_bytes=_modelled(overhead, low, high, "context, fragments, gathered and unpacked weights"),
        per_device_bytes=spread, capacity_bytes=device.memory_bytes,
        host_bytes=moved if offload == "cpu" else 0, nvme_bytes=moved if offload == "nvme" else 0,
    )  # fmt: skip


def _exact(size: float) -> Estimate:
    return Estimate.exact(round(size), "B")


def _modelled(size: float, low: float, high: float, note: str) -> Estimate:
    return Estimate(size, size * math.exp(low), size * math.exp(high), "B", Basis.MODELLED, note)
