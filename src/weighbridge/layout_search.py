"""Which layout of a training run is the fastest that fits a cluster, and why is each other one not taken?

Tried are tensor parallelism within a machine, pipeline parallelism over groups of layers, data parallelism over the
rest with each ZeRO stage, and for each of them micro-batches and checkpointing. What the caller fixed stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.model.architecture import Architecture
from weighbridge.predict.training.layout import Layout, refusal
from weighbridge.predict.training.memory import TrainingMemory
from weighbridge.predict.training.run import CHECKPOINTING, Run
from weighbridge.predict.training.step_time import StepTime
from weighbridge.units import format_bytes

MACHINE = 8
"""Devices of one machine, beyond which no matrix is shared."""
MICRO_BATCHES = (1, 2, 4, 8, 16, 32, 64)
MOST_TIMES = 4
"""A step may be so many times as large as it should be: 16 million tokens for 4, as Llama 3.1 405B had in the end."""
MOST_STAGES = 64
MOST_EXPERT_GROUPS = 64


@dataclass(frozen=True, slots=True)
class Fixed:
    """What the search leaves as it is; None is free."""

    tensor: int | None = None
    pipeline: int | None = None
    data: int | None = None
    context: int | None = None
    expert: int | None = None
    zero: int | None = None
    micro_batch: int | None = None
    checkpointing: str | None = None
    global_batch: int | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A layout with its best micro-batch and checkpointing; `reason` says why it was not taken, empty for the chosen.

    `memory` and `step` are None where the layout is refused before anything is worked out.
    """

    run: Run
    memory: TrainingMemory | None
    step: StepTime | None
    reason: str = ""

    @property
    def seconds_per_token(self) -> float:
        """How slow it is; infinite where unknown."""
        if self.step is None or not self.step.tok_s.value:
            return float("inf")
        return 1 / self.step.tok_s.value

    @property
    def rank(self) -> tuple[bool, float]:
        """What fits with room comes before what fits narrowly, and the faster before the slower."""
        return self.memory is not None and self.memory.is_narrow, self.seconds_per_token

    def to_json(self) -> dict[str, Any]:
        """One entry of `layouts`."""
        layout = self.run.layout
        return {
            "layout": layout.to_json(), "micro_batch": self.run.micro_batch,
            "global_batch": self.run.global_batch, "checkpointing": self.run.checkpointing,
            "per_device_bytes": None if self.memory is None else self.memory.per_device_bytes.to_json(),
            "tok_s": None if self.step is None else self.step.tok_s.to_json(), "reason": self.reason,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Weigher:
    """What tells the memory and the time of a run."""

    memory: Callable[[Run], TrainingMemory]
    step: Callable[[Run], StepTime]


def search(architecture: Architecture, devices: int, base: Run, fixed: Fixed, weigher: Weigher,
           step_sequences: int) -> list[Candidate]:  # fmt: skip
    """All layouts, the chosen one first, then by speed, then those that do not fit, then those that cannot be.

    Copies that would make a step many times as large as it should be come after all that would not: they are fast in
    tokens, and take more of them to learn as much.

    Args:
        architecture: what is trained.
        devices: how many there are; all are used.
        base: the run but for what is searched.
        fixed: what stays.
        weigher: memory and time of a run.
        step_sequences: sequences of a step, about, where `fixed.global_batch` leaves it open.
    """
    found = [_best(architecture, layout, base, fixed, weigher, step_sequences)
             for layout in _layouts(architecture, devices, base, fixed)]  # fmt: skip
    most = MOST_TIMES * step_sequences
    fitting = sorted((c for c in found if c.memory is not None and c.memory.fits is not False and not c.reason),
                     key=lambda c: (max(most, c.run.global_batch), *c.rank))  # fmt: skip
    too_large = sorted((c for c in found if c.memory is not None and c.memory.fits is False), key=_size)
    refused = [c for c in found if c.memory is None]
    chosen = fitting[:1]
    slower = [replace(c, reason=_slower(c, chosen[0], step_sequences)) for c in fitting[1:]]
    return [*chosen, *slower, *too_large, *refused]


def _size(candidate: Candidate) -> float:
    assert candidate.memory is not None
    return candidate.memory.per_device_bytes.value or 0.0


def _slower(candidate: Candidate, chosen: Candidate, step_sequences: int) -> str:
    batch = candidate.run.global_batch
    if batch > max(MOST_TIMES * step_sequences, chosen.run.global_batch):
        return f"steps of {batch:,} sequences, for about {step_sequences:,}"
    ratio = candidate.seconds_per_token / chosen.seconds_per_token
    told = f"{ratio - 1:.0%} slower" if ratio < 2 else f"{ratio:.1f} times as slow"
    told = "as fast" if abs(ratio - 1) < 0.005 else f"{1 / ratio - 1:.0%} faster" if ratio < 1 else told
    is_narrow = candidate.memory is not None and candidate.memory.is_narrow
    return f"fits narrowly, {told}" if is_narrow and not (chosen.memory and chosen.memory.is_narrow) else told


def _layouts(architecture: Architecture, devices: int, base: Run, fixed: Fixed) -> Iterator[Layout]:
    """Layouts that account for all devices, possible or not."""
    tensors = [fixed.tensor] if fixed.tensor else [t for t in (1, 2, 4, 8) if t <= min(MACHINE, devices)]
    most = min(MOST_STAGES, max(1, architecture.num_layers), devices)
    stages = (
        [fixed.pipeline]
        if fixed.pipeline
        else [
            p for p in range(1, most + 1) if devices % p == 0 and (architecture.num_layers % p == 0 or p & (p - 1) == 0)
        ]
    )
    for tensor in tensors:
        for pipeline in stages:
            context = fixed.context or 1
            data, rest = divmod(devices, tensor * pipeline * context)
            if rest or not data or (fixed.data or data) != data:
                continue
            wide = math.gcd(architecture.num_experts, data * context, MOST_EXPERT_GROUPS)
            for expert in [fixed.expert] if fixed.expert else sorted({1, wide} if architecture.num_experts else {1}):
                for zero in [fixed.zero] if fixed.zero is not None else range(4 if data * context > 1 else 1):
                    yield replace(base.layout, tensor=tensor, pipeline=pipeline, data=data, context=context,
                                  expert=expert, zero=zero)  # fmt: skip


def _runs(layout: Layout, base: Run, fixed: Fixed, step_sequences: int) -> Iterator[Run]:
    """Micro-batches and checkpointing of one layout, the fastest first where all fit."""
    for checkpointing in [fixed.checkpointing] if fixed.checkpointing else CHECKPOINTING:
        for micro in [fixed.micro_batch] if fixed.micro_batch else MICRO_BATCHES:
            each = micro * layout.data
            batch = fixed.global_batch or each * max(1, round(step_sequences / each))
            is_given = fixed.global_batch or fixed.micro_batch
            if batch % each == 0 and (is_given or batch <= max(MOST_TIMES * step_sequences, layout.data)):
                yield replace(base, layout=layout, micro_batch=micro, global_batch=batch, checkpointing=checkpointing)


def _best(
    architecture: Architecture, layout: Layout, base: Run, fixed: Fixed, weigher: Weigher, step_sequences: int
) -> Candidate:
    """A layout at its best micro-batch and checkpointing, or why it cannot be."""
    first = replace(base, layout=layout)
    runs = list(_runs(layout, base, fixed, step_sequences))
    if not runs:
        read = f"{fixed.global_batch} sequences of a step do not divide among {layout.data} copies"
        return Candidate(first, None, None, read)
    why = refusal(architecture, layout, runs[0])
    if why is not None:
        return Candidate(runs[0], None, None, why)
    best: Candidate | None = None
    least: Candidate | None = None
    for run in runs:
        memory = weigher.memory(run)
        if memory.fits is None and best is not None and run.micro_batch > best.run.micro_batch:
            continue  # how much a device holds is unknown: the smallest micro-batch
        if memory.fits is False:
            candidate = Candidate(run, memory, None)
            least = candidate if least is None or _size(candidate) < _size(least) else least
            continue
        candidate = Candidate(run, memory, weigher.step(run))
        best = candidate if best is None or candidate.rank < best.rank else best
    if best is not None:
        return best
    assert least is not None and least.memory is not None
    needed, room = least.memory.per_device_bytes.value, least.memory.capacity_bytes
    assert needed is not None and room is not None
    reason = f"{format_bytes(round(needed))} a device, {format_bytes(room)} there"
    return replace(least, reason=reason)
