"""What does each device hold at the peak of a training step, and does that fit?

Under mixed precision a trained parameter takes 2 bytes, its gradient 2, its copy in fp32 4 and AdamW's moments 8: 16
in all (Rajbhandari et al. 2020, section 3.1). ZeRO divides among the n devices of data and context parallelism the copy
and the moments from stage 1, the gradients from 2, the weights from 3. Tensor parallelism divides matrices, pipeline
parallelism layers, expert parallelism routed experts. A pipeline's first stage keeps the activations of as many
micro-batches as it has stages (Narayanan et al. 2021).

The peak is the largest of three moments: at the loss, with all that is kept and the arrays of the vocabulary; in the
backward pass, with one layer's; at the update, with every gradient and what the optimizer works in. So the whole is
less than the parts together, unless several micro-batches add up their gradients.

How far off this is stands in docs/reference/accuracy.md.
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
from weighbridge.model import encodings
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use
from weighbridge.predict.training.activations import Kept, kept, layer_input
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.optimizers import optimizer_bytes, row_state_bytes
from weighbridge.predict.training.run import Run, by_operation
from weighbridge.predict.training.trained import Row, Trained

FITS = Path(__file__).parent.parent / "fits" / "training_memory.toml"
NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Of a weight under QLoRA: 4 bits, a scale of 8 bits for 64 of them, one of 32 bits for 256 scales (Dettmers 2023)."""
LOSS_ARRAYS = 3
"""Arrays of the vocabulary in 32 bits at the start of the backward pass, beside the logits: their logarithms, the
gradient of those, and that of the logits."""
SHARED_ARRAYS = 4
"""Of them where devices share the vocabulary: torch (`distributed/tensor/parallel/loss.py`) works both gradients out
at once, with the powers of the logarithms."""
CHUNKED_ARRAYS = 1
"""Of them where the loss works on a few tokens at a time: the logarithms stay."""
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

    @property
    def is_narrow(self) -> bool:
        """Whether what the device has lies inside the interval of what is needed."""
        low, high = self.per_device_bytes.low, self.per_device_bytes.high
        if self.capacity_bytes is None or low is None or high is None:
            return False
        return low <= self.capacity_bytes < high

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
    """Bytes on one device.

    Of the weights that ZeRO 3 gathers, `whole` belong to no layer and are gathered together, `layer` to the largest
    layer. `unpacked` is the largest frozen matrix of a few bits, as it is multiplied; `update` what the optimizer works
    in.
    """

    weights: float = 0.0
    gradients: float = 0.0
    optimizer: float = 0.0
    whole: float = 0.0
    layer: float = 0.0
    unpacked: float = 0.0
    update: float = 0.0


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
    return _memory(run, device, _largest_stage(architecture, held, run))


def allocated_bytes(architecture: Architecture, held: Trained, run: Run) -> float:
    """The peak of what tensors take on the device that holds most, without the context and gaps between them.

    Arguments are those of `plan_memory`.
    """
    return _largest_stage(architecture, held, run).peak


def _largest_stage(architecture: Architecture, held: Trained, run: Run) -> _Stage:
    rows = kept(architecture, held, run)
    ends = (True, False) if run.layout.pipeline > 1 else (None,)
    return max((_stage(architecture, held, run, rows, first) for first in ends), key=lambda stage: stage.peak)


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage of the pipeline at its peak."""

    states: _States
    activations: float
    gathered: float
    peak: float


def _stage(architecture: Architecture, held: Trained, run: Run, rows: tuple[Kept, ...], first: bool | None) -> _Stage:
    """The first or last stage of the pipeline; the one there is where `first` is None."""
    layout = run.layout
    states = _states(architecture, held, run, first)
    number = 4 if run.precision == "fp32" else 2
    tokens = run.micro_batch * run.sequence_tokens / layout.context
    between = layout.tensor if layout.sequence_parallel else 1
    by_layers: dict[tuple[int, ...], float] = {}
    once = 0.0
    for row in rows:
        size = _kept_bytes(row, run, number, between) * tokens
        if row.layers is not None:
            layers = tuple(row.layers)
            by_layers[layers] = by_layers.get(layers, 0.0) + size
        elif _is_on(row.path, architecture, first):
            once += size
    width = layer_input(architecture)
    one_layer = 0.0
    every = sum(len(layers) * size for layers, size in by_layers.items())
    if run.checkpointing == "full" and width:
        one_layer = _largest_layer(by_layers)
        every = len(set().union(*by_layers)) * width * number / between * tokens
    elif by_operation(run):
        every += len(set().union(*by_layers)) * width * number / between * tokens
    flight = min(layout.pipeline, run.accumulation) if first is not False else 1
    stacked = every / layout.pipeline * flight
    loss = 0.0 if first else _loss_bytes(architecture, run, number) * tokens
    activations = max(stacked + once + loss, stacked + one_layer)
    states_waiting = states.optimizer if layout.offload != "none" else 0.0
    fixed = states.weights + states.optimizer - states_waiting
    gathered = states.unpacked
    is_away = layout.offload != "none" and layout.offload_weights
    if is_away:
        fixed -= states.weights
    if is_away or (layout.zero == 3 and layout.data * layout.context > 1):
        gathered += states.layer * LAYERS_GATHERED + states.whole
    summed = run.accumulation > 1
    most = states.gradients + activations if summed else max(activations, states.gradients + one_layer)
    most = max(most, states.gradients + (states.update if layout.offload == "none" else 0.0))
    return _Stage(states, activations, gathered, fixed + gathered + most)


def _loss_bytes(architecture: Architecture, run: Run, number: int) -> float:
    """Bytes for each token at the loss: all that a head writes is there at once."""
    heads = [group.weight for group in architecture.groups if group.weight.role == "head" and not group.mtp]
    vocabulary = max((max(weight.shape) for weight in heads if len(weight.shape) > 1), default=0)
    arrays = SHARED_ARRAYS if run.layout.tensor > 1 else LOSS_ARRAYS
    arrays = CHUNKED_ARRAYS if run.loss == "chunked" else arrays
    return (number + 4 * arrays) * vocabulary / run.layout.tensor


def _largest_layer(by_layers: Mapping[tuple[int, ...], float]) -> float:
    """The most that one layer has, of what some layers have each."""
    return max((sum(size for layers, size in by_layers.items() if one[0] in layers) for one in by_layers), default=0.0)


def _is_on(path: str, architecture: Architecture, first: bool | None) -> bool:
    """Whether a part that stands once is on the first stage, or on the last: all that follows the layers is there."""
    if first is None:
        return True
    places = architecture.placements
    layered = next((n for n, placement in enumerate(places) if placement.layers is not None), len(places))
    place = next((n for n, placement in enumerate(places) if placement.path and path.startswith(placement.path)), 0)
    return (place < layered) is first


def _kept_bytes(row: Kept, run: Run, number: int, between: int) -> float:
    """Bytes for each token of one layer."""
    tensor = run.layout.tensor
    if by_operation(run) and row.layers is not None:
        statistics = row.statistics if row.result else 0.0
        return (number * (row.result + row.written / 2) + 4 * statistics) / tensor
    scores = 0.0 if run.checkpointing == "selective" else row.scores * run.sequence_tokens
    wider = (4 - number) * row.wide / between + row.masks / tensor
    return number * ((row.divided + scores) / tensor + row.between / between) + 4 * row.statistics / tensor + wider


def _states(architecture: Architecture, held: Trained, run: Run, first: bool | None) -> _States:
    """What a device of a stage holds all the time, and what it gathers."""
    layout, states = run.layout, _States()
    shared = {group.weight.tied_to for group in architecture.groups if group.weight.role == "head"}
    number, master = _weight_bytes(run.precision)
    by_layers: dict[tuple[int, ...], float] = {}
    for row in held.rows:
        layered = row.layers is not None
        if layered:
            share = math.ceil(row.repeat / layout.pipeline) / row.repeat
        elif _is_on(row.path, architecture, first) or row.path in shared:
            share = 1.0
        else:
            continue
        is_matrix = len(row.shape) > 1
        cut = layout.tensor if is_matrix else 1
        group = layout.data * layout.context
        if row.experts > 1 or row.role.startswith("experts_"):
            cut *= layout.expert
            group //= layout.expert
        elements = row.elements * share / cut
        packed = packed_bytes(run.method) if _is_packed(row) else None
        each = number if packed is None else packed
        states.weights += elements * each / (group if layout.zero == 3 else 1)
        if row.layers is not None:
            by_layers[row.layers] = by_layers.get(row.layers, 0.0) + row.elements / row.repeat / cut * number
        else:
            states.whole += elements * number
        if packed is not None:
            states.unpacked = max(states.unpacked, math.prod(row.shape) * number / layout.tensor)
        if row.is_trained:
            states.gradients += elements * number / (group if layout.zero >= 2 else 1)
            divided = cut * (group if layout.zero >= 1 else 1) / share
            states.optimizer += (row.elements * master + row_state_bytes(row, run.optimizer, run.precision)) / divided
            if run.optimizer.is_foreach:
                states.update += row.elements * (number if run.precision == "bf16-true" else 4) / divided
    states.layer = _largest_layer(by_layers)
    return states


def _weight_bytes(precision: str) -> tuple[int, int]:
    """Bytes of a trained weight, and of its copy in 32 bits beside it."""
    return 4 if precision == "fp32" else 2, 0 if precision in ("fp32", "bf16-true") else 4


def checkpoint_bytes(held: Trained, run: Run) -> int:
    """Bytes of what a run needs to go on: trained weights, their copies in 32 bits and the states of the optimizer.

    Frozen weights are not kept again. Under mixed precision with AdamW that is 14 bytes a parameter, as BLOOM's
    checkpoints had it: 2.3 TB where the weights alone are 329 GB (its model card).

    Example:
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.predict.training.methods import Method
        >>> from weighbridge.predict.training.trained import trained
        >>> held = trained(inspect("llama-2-70b").architecture, Method())
        >>> checkpoint_bytes(held, Run(sequence_tokens=4096, global_batch=1)) == 14 * 68_976_648_192
        True
    """
    return held.trainable * sum(_weight_bytes(run.precision)) + optimizer_bytes(held, run.optimizer, run.precision)


def _is_packed(row: Row) -> bool:
    """Whether a weight is one that is frozen in a few bits: the matrices of layers."""
    return not row.is_trained and len(row.shape) > 1 and row.layers is not None and row.use is Use.MATMUL


def packed_bytes(method: Method) -> float | None:
    """Bytes of a frozen weight in an encoding of its own, or None; QLoRA's is quantised twice unless it names one.

    Example:
        >>> packed_bytes(Method(name="qlora", frozen="nf4")), packed_bytes(Method(name="lora"))
        (0.5625, None)
    """
    if method.frozen is not None:
        encoding = encodings.find(method.frozen)
        return encoding.bytes_per_block / encoding.elements_per_block
    return NF4_BYTES if method.name == "qlora" else None


def _memory(run: Run, device: Device, stage: _Stage) -> TrainingMemory:
    states, table = stage.states, fits()
    context, share = float(table["context_bytes"]), float(table["fragmentation"])
    low, high = float(table["residuals"]["low"]), float(table["residuals"]["high"])
    offload = run.layout.offload
    is_away = offload != "none"
    moved = round(states.optimizer) if is_away else 0
    away = round(states.weights) if is_away and run.layout.offload_weights else 0
    exact = [_exact(part) for part in (states.weights - away, states.gradients, states.optimizer - moved)]
    moved += away
    waste = share * max(0.0, stage.peak - sum(part.value or 0.0 for part in exact))
    overhead = context + waste + stage.gathered
    peak = stage.peak + context + waste
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
