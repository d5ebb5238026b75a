"""How long does a step of training take on so many devices, and which share of their peak is that (MFU)?

Each device works on its share of the step's tokens. Its time is a sum of terms, each times a fitted factor:

- multiplications: forward, and backward the gradients of inputs and of trained weights (6 FLOPs for each parameter that
  a token uses, 4 where it is frozen), at the peak of the format; what checkpointing computes again on top;
- attention: scores and weighted sums of the tokens before, at a rate of its own, always in 16 bits;
- traffic: what multiplications read and write beside weights, at the bandwidth of the memory, which also stands for
  all that lies between them. Narrow models spend more of their time here;
- exchange: tensor parallelism reduces activations four times a layer (Shoeybi et al. 2019), data parallelism gradients,
  and with sharded weights it gathers these for each micro-batch (Rajbhandari et al. 2020); experts send tokens around;
- the update: the optimizer's states, read and written;
- a time for each layer of each micro-batch;
- where the states wait on the host, what passes to it and its update, at assumed rates.

A pipeline of p parts waits (p - 1) / (m v) of the time of m micro-batches, where each part works on v groups of layers
in turn (Narayanan et al. 2021): each layer is one, where p divides m. A ring moves 2(n - 1)/n
of what is reduced among n devices, half of that for gathering or scattering (Patarasuk and Yuan 2009).

MFU is model FLOPs / (devices x peak x seconds), without what is computed again (Chowdhery et al. 2022, appendix B), at
the peak of the run's format: in 8 bits, that of 8 bits. The
factors lie in `fits/training.toml`, with their residuals; `benchmarks/fit_training.py` writes it.
"""

from __future__ import annotations

import functools
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.device import Device
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use
from weighbridge.predict.training.compute import compute
from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.run import Run, by_operation
from weighbridge.predict.training.trained import trained

FITS = Path(__file__).parent.parent / "fits" / "training.toml"
TERMS = ("matmul", "again", "attention", "traffic", "matmul_fp8", "attention_fp8", "traffic_fp8", "tensor", "data",
         "experts", "update", "layers")  # fmt: skip
EXCHANGE = ("tensor", "data", "experts")
"""Terms that go over a link."""
AT_PEAK = ("matmul", "again", "attention", "matmul_fp8", "attention_fp8")
"""Terms that are arithmetic."""
GENERATIONS: Mapping[str, tuple[str, ...]] = {
    "volta": ("v100",),
    "ampere": ("a100", "a800", "a30", "a40", "a10"),
    "hopper": ("h100", "h200", "h800", "h20", "gh200"),
    "blackwell": ("b100", "b200", "b300", "gb200", "gb300"),
    "cdna3": ("mi300", "mi308", "mi325"),
    "cdna4": ("mi350", "mi355"),
    "tpu": ("tpu",),
}
"""Beginnings of the names of devices whose units are alike."""
NODE_DEVICES = 8
RACKS = {"gb200": 72, "gb300": 72}
"""Devices that one NVLink joins where those are more than a computer holds: NVIDIA's GB200 NVL72."""
NETWORK_BYTES_PER_S: Mapping[str, float] = {
    "volta": 12.5e9, "ampere": 25e9, "hopper": 50e9, "blackwell": 50e9, "cdna3": 50e9, "cdna4": 50e9,
}  # fmt: skip
"""Between computers, each way for each device, assumed: 100 Gbit/s for a DGX-1, 200 for a DGX A100, 400 for a DGX H100
and those that followed."""
OTHER_NETWORK_BYTES_PER_S = 12.5e9
PCIE_BYTES_PER_S = 16e9
"""Between devices whose link is unknown, assumed."""
HOST_BYTES_PER_S = 25e9
NVME_BYTES_PER_S = 3e9
"""The share of a device in its host's memory and disks, assumed: a server of eight with 200 and 24 GB/s."""
MOST_DEVICES = 1_000_000
UNMEASURED_WIDENS = 1.4


@functools.cache
def fits() -> dict[str, Any]:
    """The fitted factors and their residuals."""
    return tomllib.loads(FITS.read_text(encoding="utf-8"))


def generation(device: Device) -> str:
    """Which devices this one is like; `others` where none were measured."""
    return next((name for name, starts in GENERATIONS.items() if device.name.startswith(starts)), "others")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """How devices are joined: so many by a link, at so many bytes a second each way, the others by a network."""

    node_devices: int
    link_bytes_per_s: float
    network_bytes_per_s: float
    notes: tuple[str, ...] = ()

    def bytes_per_s(self, group: int, apart: int = 1) -> float:
        """The rate for each device of a group in a ring, whose members stand so many devices apart.

        Members in one node share the ports of all of it, so that a ring over whole nodes is as fast as these together.

        Example:
            >>> pair = Fabric(node_devices=8, link_bytes_per_s=300e9, network_bytes_per_s=25e9)
            >>> pair.bytes_per_s(8), pair.bytes_per_s(64), pair.bytes_per_s(64, 8)
            (300000000000.0, 200000000000.0, 25000000000.0)
        """
        if group * apart <= self.node_devices:
            return self.link_bytes_per_s
        members = max(1, self.node_devices // apart)
        return min(self.link_bytes_per_s, self.network_bytes_per_s * members)


def fabric(device: Device, network_bytes_per_s: float | None = None) -> Fabric:
    """How devices of this kind are usually joined; what is assumed is said in the notes.

    Args:
        device: one of them.
        network_bytes_per_s: between computers, each way for each device.
    """
    kind = generation(device)
    notes = []
    link = device.link_bytes_per_s
    if link is None:
        link = PCIE_BYTES_PER_S if kind != "tpu" else 140e9
        notes.append(f"the link between devices is unknown: {link / 1e9:g} GB/s assumed")
    if kind == "tpu":
        return Fabric(node_devices=MOST_DEVICES, link_bytes_per_s=link, network_bytes_per_s=link, notes=tuple(notes))
    if network_bytes_per_s is None:
        network_bytes_per_s = min(link, NETWORK_BYTES_PER_S.get(kind, OTHER_NETWORK_BYTES_PER_S))
        notes.append(f"between computers {network_bytes_per_s / 1e9:g} GB/s for each device assumed")
    return Fabric(node_devices=RACKS.get(device.name, NODE_DEVICES), link_bytes_per_s=link,
                  network_bytes_per_s=network_bytes_per_s, notes=tuple(notes))  # fmt: skip


def reduced(size_bytes: float, devices: int, bytes_per_s: float) -> float:
    """Seconds in which a ring of devices adds up so many bytes: 2(n - 1)/n of them pass each link.

    Example:
        >>> reduced(8e9, 8, 100e9), reduced(8e9, 1, 100e9)
        (0.14, 0.0)
    """
    return 2 * (devices - 1) / devices * size_bytes / bytes_per_s


def gathered(size_bytes: float, devices: int, bytes_per_s: float) -> float:
    """Seconds in which a ring of devices gathers, or scatters the sums of, so many bytes: half of adding them up."""
    return reduced(size_bytes, devices, bytes_per_s) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a model asks for, for each token of a run, whatever the layout.

    `matmul_flops` and `attention_flops` are those forward and backward, `again_flops` what is computed twice where
    whole layers are; `numbers` are read and written by multiplications of a forward pass beside weights, `passes` how
    often that is done, forward and backward. `width` and `kv_width` are the numbers that a token hands on between
    layers, and to those that attend to it; `experts_width` those sent to experts in all layers; `scores` what an
    attention moves that stores them, before the softmax and after it.
    """

    matmul_flops: float
    attention_flops: float
    again_flops: float
    numbers: float
    passes: float
    parameters: int
    trainable: int
    layers: int
    width: int
    kv_width: int = 0
    expert_parameters: int = 0
    experts_width: int = 0
    scores: float = 0.0

    @property
    def model_flops(self) -> float:
        """FLOPs of a token, forward and backward."""
        return self.matmul_flops + self.attention_flops


def work(architecture: Architecture, run: Run) -> Work:
    """What a token of this run asks for. It does not depend on the layout: ask once where many are compared."""
    held = trained(architecture, run.method)
    step = compute(architecture, replace(run, global_batch=1, checkpointing="full", attention="eager"))
    multiplied = [part for part in step.parts if not part.path.endswith(".scores")]
    forward = sum(part.forward for part in multiplied)
    matmul = sum(part.model_flops for part in multiplied)
    numbers = width = kv = sent = 0.0
    experts = attending = 0
    for placement in (p for p in architecture.placements if not p.mtp):
        attending += placement.repeat if placement.block.attention_flops_per_position() else 0
        kv = max([kv, *(float(state.elements_per_token) for state in placement.block.states())])
        for weight in placement.block.weights():
            if weight.use is not Use.MATMUL or not architecture.per_token(placement.component or weight.component):
                continue
            outputs = weight.elements / weight.stacked / weight.in_features
            used = weight.active * placement.repeat
            numbers += used * weight.positions * (weight.in_features + outputs)
            if weight.role == "attention_output":
                width = max(width, outputs)
            if weight.experts * weight.stacked > 1:
                experts += weight.elements * weight.experts * placement.repeat
                sent += used * outputs if weight.role == "experts_down" else 0
    return Work(
        matmul_flops=matmul / step.tokens, attention_flops=step.attention / step.tokens,
        again_flops=step.again / step.tokens, numbers=numbers, passes=matmul / max(1, forward), parameters=held.total,
        trainable=held.trainable, layers=max(1, architecture.num_layers), width=int(width), kv_width=int(kv),
        expert_parameters=experts, experts_width=int(sent),
        scores=4.0 * attending * architecture.num_heads * run.sequence_tokens,
    )  # fmt: skip


def format_of(run: Run) -> str:
    """The number format whose peak counts.

    Example:
        >>> format_of(Run(sequence_tokens=1, global_batch=1, precision="bf16-true"))
        'bf16'
    """
    return run.precision.removesuffix("-true")


def _bytes_of(precision: str) -> int:
    """Bytes in which weights and gradients of a run pass links."""
    return 4 if precision == "fp32" else 2


def terms(asked: Work, run: Run, device: Device, joined: Fabric) -> dict[str, float] | None:
    """Seconds of one step that each term would take at the peak; None when a rate of the device is unknown."""
    layout = run.layout
    peak = device.peak_flops_per_s("bf16" if run.precision == "fp8" else format_of(run))
    multiplied = device.peak_flops_per_s(format_of(run))
    if peak is None or multiplied is None or device.memory_bytes_per_s is None:
        return None
    tokens = run.step_tokens / layout.devices
    grouped = run.step_tokens / (layout.data * layout.context)
    micro = run.accumulation
    per_number = _bytes_of(run.precision)
    groups = max(1, asked.layers // layout.pipeline) if micro % layout.pipeline == 0 else 1
    waiting = 1 + (layout.pipeline - 1) / (micro * groups)
    whole = 1.0 if run.checkpointing == "full" else 0.0
    again = 0.5 if by_operation(run) else whole
    matmul = asked.matmul_flops * tokens * waiting
    repeated = again * asked.again_flops * tokens * waiting
    attention = asked.attention_flops * tokens * waiting
    moved = asked.numbers + (asked.scores if run.attention == "eager" else 0.0)
    traffic = (asked.passes + again) * per_number * moved * tokens * waiting

    inner = layout.tensor
    sharded = _sharded(asked, layout)
    changed = sharded * asked.trainable / max(1, asked.parameters)
    group = layout.data * layout.context
    rate = joined.bytes_per_s(group, inner)
    gathers = {0: 0.0, 1: 1.0, 2: 1.0 * micro, 3: 2.0 * micro}[run.layout.zero]
    scatters = 2.0 if layout.zero == 0 else 1.0 if layout.zero == 1 else float(micro)
    data = gathered(
        (gathers * (sharded if layout.zero >= 2 else changed) + scatters * changed) * per_number, group, rate
    )
    layers = asked.layers / layout.pipeline
    reductions = 4 + 2 * again
    tensor = reductions * layers * reduced(per_number * asked.width * grouped, inner, joined.bytes_per_s(inner))
    tensor += 3 * layers * gathered(per_number * asked.kv_width * grouped * layout.context / inner, layout.context,
                                    joined.bytes_per_s(layout.context, inner))  # fmt: skip
    experts = 4 * per_number * asked.experts_width / layout.pipeline * grouped / inner
    experts = gathered(experts, layout.expert, joined.bytes_per_s(layout.expert, inner))
    update = _updated(asked, run) * _update_bytes(run) if layout.offload == "none" else 0.0
    suffix = "_fp8" if run.precision == "fp8" else ""
    return {
        **dict.fromkeys(TERMS, 0.0),
        "matmul" + suffix: matmul / multiplied,
        "again": repeated / multiplied,
        "attention" + suffix: attention / peak,
        "traffic" + suffix: traffic / device.memory_bytes_per_s,
        "tensor": tensor,
        "data": data,
        "experts": experts,
        "update": update / device.memory_bytes_per_s,
        "layers": layers * micro,
    }


def _sharded(asked: Work, layout: Layout) -> float:
    """Parameters of a device before ZeRO divides them."""
    spread = asked.expert_parameters * (1 - 1 / max(1, layout.expert))
    return (asked.parameters - spread) / (layout.tensor * layout.pipeline)


def _updated(asked: Work, run: Run) -> float:
    """Parameters that a device, or its host, updates in a step."""
    layout = run.layout
    changed = _sharded(asked, layout) * asked.trainable / max(1, asked.parameters)
    return changed / (layout.data * layout.context if layout.zero >= 1 else 1)


def _update_bytes(run: Run) -> float:
    """Bytes that are read and written to update a parameter."""
    return 2 * run.optimizer.state_bytes + 2 * 4 + 4 + _bytes_of(run.precision)


def offloaded(asked: Work, run: Run) -> float:
    """Seconds of a step that states on the host take: gradients there and weights back, the update by its processor,
    and with `nvme` the states read and written.

    Example:
        >>> offloaded(Work(matmul_flops=0, attention_flops=0, again_flops=0, numbers=0, passes=3, parameters=10**9,
        ...                trainable=10**9, layers=1, width=1),
        ...           Run(sequence_tokens=1, global_batch=1, layout=Layout(offload="cpu")))
        1.45
    """
    if run.layout.offload == "none":
        return 0.0
    held = _updated(asked, run)
    seconds = held * (2 * _bytes_of(run.precision) / PCIE_BYTES_PER_S + _update_bytes(run) / HOST_BYTES_PER_S)
    states = 2 * (run.optimizer.state_bytes + 4) * held if run.layout.offload == "nvme" else 0.0
    return seconds + states / NVME_BYTES_PER_S


PARTS: Mapping[str, tuple[str, ...]] = {
    "multiplications": ("matmul", "matmul_fp8"),
    "recomputation": ("again",),
    "attention": ("attention", "attention_fp8"),
    "traffic": ("traffic", "traffic_fp8"),
    "exchange": EXCHANGE,
    "update": ("update",),
    "overhead": ("layers",),
    "offload": (),
}
"""What the terms are shown as."""


def factors(device: Device) -> dict[str, float]:
    """The fitted factor of each term on devices like this one; no arithmetic is faster than the peak."""
    table = fits()
    own = table["own"].get(generation(device), {})
    found = {name: float(table["factors"][name]) * float(own.get(name, 1.0)) for name in TERMS}
    return found | {name: max(1.0, found[name]) for name in AT_PEAK}


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """One step of a run: its seconds, what they go to, the share of the peak of its format and tokens a second of all
    devices.
    """

    seconds: Estimate
    parts: Mapping[str, float]
    mfu: Estimate
    tok_s: Estimate
    model_flops: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One document."""
        return {"step_s": self.seconds.to_json(), "step_parts_s": dict(self.parts), "mfu": self.mfu.to_json(),
                "tok_s": self.tok_s.to_json()}  # fmt: skip


def step_time(
    architecture: Architecture, run: Run, device: Device, *, network_bytes_per_s: float | None = None
) -> StepTime:
    """The time of one step of a run on as many of these devices as its layout has.

    Args:
        architecture: the model.
        run: batch, method, precision and layout.
        device: one of the devices.
        network_bytes_per_s: between computers, each way for each device; assumed by the device's generation else.

    Example:
        >>> from weighbridge.hardware.catalogue import find_device
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.predict.training.layout import Layout
        >>> run = Run(sequence_tokens=2048, micro_batch=6, global_batch=48, layout=Layout(data=8, zero=3))
        >>> found = step_time(inspect("mpt-7b").architecture, run, find_device("h100-sxm"))
        >>> 0.4 < found.mfu.value < 0.5
        True
    """
    return timed(work(architecture, run), run, device, network_bytes_per_s=network_bytes_per_s)


RANGES = ("data_parallel", "others")
MOST_MEASURED_DEVICES = 512
"""Of steps that shared nothing but states and weights: llm-foundry's."""


def range_of(run: Run) -> str:
    """Which residuals a run has: those of the many measured ones, which train all in 16 bits, share nothing but states
    and weights, and have no more devices than were measured, or those of all others.
    """
    layout = run.layout
    is_plain = run.precision != "fp8" and layout.tensor * layout.pipeline * layout.context * layout.expert == 1
    is_like = run.method.name == "full" and layout.offload == "none" and layout.devices <= MOST_MEASURED_DEVICES
    return RANGES[0] if is_plain and is_like else RANGES[1]


def timed(
    asked: Work, run: Run, device: Device, *, network_bytes_per_s: float | None = None, widen: float = 1.0
) -> StepTime:
    """As `step_time`, of work that is known; `widen` makes the interval wider by this factor on either side."""
    joined = fabric(device, network_bytes_per_s)
    found = terms(asked, run, device, joined)
    flops = asked.model_flops * run.step_tokens
    if found is None:
        return _unknown(f"the rates of {device.title} are not known", flops)
    by = factors(device)
    parts = {name: sum(found[term] * by[term] for term in members) for name, members in PARTS.items()}
    parts["offload"] = offloaded(asked, run)
    value = sum(parts.values())
    notes = [*joined.notes] if run.layout.devices > 1 else []
    if format_of(run) not in device.flops_per_s:
        notes.append(f"{device.title} has no rate in {format_of(run)}: that of the next wider format is taken")
    if run.layout.offload != "none":
        disk = f", to its disk {NVME_BYTES_PER_S / 1e9:g}" if run.layout.offload == "nvme" else ""
        notes.append(f"states on the host: {PCIE_BYTES_PER_S / 1e9:g} GB/s to it, {HOST_BYTES_PER_S / 1e9:g} to its "
                     f"memory{disk}, for each device, assumed")  # fmt: skip
    if run.method.frozen_encoding is not None:
        notes.append("that frozen weights are unpacked before they are multiplied is not in the time")
    residuals = fits()["residuals"][range_of(run)]
    low, high = residuals["low"], residuals["high"]
    if generation(device) not in fits()["own"]:
        widen *= UNMEASURED_WIDENS
        notes.append(f"no training on devices like {device.title} was measured")
    floor = sum(found[term] for term in ("matmul", "matmul_fp8", "attention", "attention_fp8"))
    seconds = Estimate(value, max(floor, value * math.exp(low) / widen), value * math.exp(high) * widen, "s",
                       Basis.MODELLED)  # fmt: skip
    peak = device.peak_flops_per_s(format_of(run))
    assert peak is not None
    return StepTime(
        seconds=seconds, parts=parts, mfu=_over(seconds, flops / (run.layout.devices * peak), "share"),
        tok_s=_over(seconds, run.step_tokens, "token/s"), model_flops=flops, notes=tuple(notes),
    )  # fmt: skip


def of_seconds(seconds: Estimate, model_flops: float, run: Run, peak: float | None, notes: tuple[str, ...]) -> StepTime:
    """A step whose seconds are known otherwise; `peak` is that of one device, in FLOP/s."""
    unknown = Estimate(None, None, None, "share", Basis.MODELLED, "the peak is not known")
    share = unknown if peak is None else _over(seconds, model_flops / (run.layout.devices * peak), "share")
    return StepTime(seconds=seconds, parts={}, mfu=share, tok_s=_over(seconds, run.step_tokens, "token/s"),
                    model_flops=model_flops, notes=notes)  # fmt: skip


def _over(seconds: Estimate, amount: float, unit: str) -> Estimate:
    """So much in a time, as a rate: the bounds change places."""
    assert seconds.value and seconds.low and seconds.high
    return Estimate(amount / seconds.value, amount / seconds.high, amount / seconds.low, unit, seconds.basis,
                    seconds.note)  # fmt: skip


def _unknown(note: str, flops: float) -> StepTime:
    def none(unit: str) -> Estimate:
        return Estimate(None, None, None, unit, Basis.MODELLED, note)

    return StepTime(seconds=none("s"), parts={}, mfu=none("share"), tok_s=none("token/s"), model_flops=flops,
                    notes=(note,))  # fmt: skip
