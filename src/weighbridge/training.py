"""What does it take to train a model on a machine? Arithmetic, memory, time, money, energy, and whether the data suits.

`train` is the engine behind `weigh train`. What the caller leaves open of the layout is searched for in `layout_search`
or has its plain default, and every default is named in a note.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.estimate import Basis, Estimate
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.hardware.device import Device
from weighbridge.inspection import Inspection
from weighbridge.layout_search import Candidate, Fixed, Weigher, search
from weighbridge.model.architecture import Architecture
from weighbridge.model.catalogue import NamedModel
from weighbridge.planning import rented
from weighbridge.predict.bill import Price
from weighbridge.predict.carbon import site
from weighbridge.predict.ownership import TotalCost
from weighbridge.predict.scaling_laws.optimum import Verdict, verdict
from weighbridge.predict.scaling_laws.repetition import effective_tokens, worth_of_last
from weighbridge.predict.thresholds import Standing, standings
from weighbridge.predict.training import here
from weighbridge.predict.training.compute import Compute, compute
from weighbridge.predict.training.footprint import TrainingEnergy, energy
from weighbridge.predict.training.layout import Layout, refusal
from weighbridge.predict.training.memory import TrainingMemory, checkpoint_bytes, plan_memory
from weighbridge.predict.training.methods import ALL_LINEAR, Method
from weighbridge.predict.training.money import Outlay, device_price, money, project
from weighbridge.predict.training.optimizers import find_optimizer
from weighbridge.predict.training.run import CHECKPOINTING, Run
from weighbridge.predict.training.schedule import (
    Hours,
    Interruptions,
    hours,
    interruptions,
    never_measured,
    no_less,
    usual_run,
)
from weighbridge.predict.training.step_time import StepTime, format_of, of_seconds, timed, work
from weighbridge.predict.training.trained import Trained, trained
from weighbridge.training_source import Shape, shape
from weighbridge.training_wish import Wish, check
from weighbridge.units import format_count

LONGEST_ASSUMED = 4096
"""Tokens of a sequence where none are given: those of the configuration, up to what most pre-training takes (Llama 2,
OLMo 2, DeepSeek-V3; Llama 3 takes twice as many)."""
USUAL_SEQUENCE = 2048
"""And where the configuration names none."""
STEP_TOKENS = 4_194_304
"""Tokens of a step that pre-training is assumed to take: Llama 2's."""
FINE_TUNING_SEQUENCES = 64
ASSUMED_WIDENS = 1.15
"""How much wider the interval of the time is on either side where the shape is assumed: assumed."""
PRE_TRAINING_TOKENS = 10_000_000_000
"""From so many tokens on a run is taken to be pre-training."""


@dataclass(frozen=True, slots=True)
class HoursClaim:
    """Device hours that somebody states for the run, the share of the peak that they imply, and what they take: days
    on the devices of the plan, money at its price, energy and carbon at its place.
    """

    device_hours: int
    implied_mfu: float
    days: float
    cost_usd: Estimate
    energy: TrainingEnergy

    @property
    def can_be(self) -> bool:
        """Whether the devices can do as much in that time."""
        return self.implied_mfu <= 1

    @property
    def verdict(self) -> str:
        """In words: `impossible`, `never measured` or `possible`."""
        return "impossible" if not self.can_be else "never measured" if never_measured(self.implied_mfu) else "possible"

    def to_json(self) -> dict[str, Any]:
        """The part `claim` of a document."""
        return {
            "gpu_hours": self.device_hours, "implied_mfu": self.implied_mfu, "verdict": self.verdict,
            "days": self.days, "cost_usd": self.cost_usd.to_json(), "energy_kwh": self.energy.facility_kwh.to_json(),
            "at_rated_power_kwh": self.energy.at_rated_kwh.to_json(), "carbon_kg": self.energy.carbon_kg.to_json(),
            "equivalents": self.energy.equivalents,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """A run planned. `compute` is one step's; `layouts` are all that were tried, the chosen one first; `project` is the
    run with all that is paid beside it, where anything is.
    """

    source: str
    shape: Shape
    wish: Wish
    device: Device
    devices: int
    run: Run
    held: Trained
    compute: Compute
    memory: TrainingMemory
    step: StepTime
    hours: Hours
    price: Price
    energy: TrainingEnergy
    chinchilla: Verdict | None
    interruptions: Interruptions
    rules: tuple[Standing, ...] = ()
    claim: HoursClaim | None = None
    layouts: tuple[Candidate, ...] = ()
    project: TotalCost | None = None
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens that are trained on."""
        return self.wish.tokens

    @property
    def parameters(self) -> int:
        """Those of the model, without what the method adds."""
        return self.shape.parameters

    @property
    def active_parameters(self) -> int:
        """Those that a token uses."""
        return self.shape.active_parameters

    @property
    def trainable_parameters(self) -> int:
        """Those that are trained; all that are stated where only their number is known."""
        is_all = self.shape.is_assumed and self.run.method.name == "full"
        return self.parameters if is_all else self.held.trainable

    @property
    def is_pre_training(self) -> bool:
        """Whether it is taken for training from the start: of all parameters, on 10 billion tokens or more."""
        return _is_pre_training(self.wish)

    @property
    def title(self) -> str:
        """The run in one line."""
        count = f"{self.devices:,} x " if self.devices > 1 else ""
        return (f"{self.source}, {self.run.method.name}, {format_count(self.tokens)} tokens on "
                f"{count}{self.device.title}")  # fmt: skip

    @property
    def flops(self) -> Estimate:
        """FLOPs by the rule of parameters: for each that a token uses and each token 2 forward, 2 where a gradient
        passes it, and 2 where it is trained. That is 6ND where all are trained.
        """
        used = self.active_parameters * self.tokens
        if self.run.method.name == "full":
            return Estimate.exact(6 * used, "FLOP", "6 FLOPs a parameter and token (6ND)")
        adapters = {row.path for row in self.held.rows if row.is_adapter}
        parts = [part for part in self.compute.parts if not part.path.endswith(".scores")]
        forward = sum(part.forward for part in parts if part.path not in adapters)
        note = "2 FLOPs a parameter and token, 2 more where a gradient passes and 2 where it is trained"
        return Estimate.exact(2 * used * sum(part.model_flops for part in parts) // max(1, forward), "FLOP", note)

    @property
    def model_flops(self) -> Estimate:
        """FLOPs that the mathematics asks for, counted operation by operation."""
        return Estimate.exact(self.compute.over(self.tokens), "FLOP", "forward and backward, with attention")

    @property
    def cost_usd(self) -> Estimate:
        """What the hours of the devices cost."""
        return money(self.hours.device_hours, self.price)

    @property
    def checkpoint_bytes(self) -> int:
        """Bytes of a checkpoint from which the run can go on."""
        return checkpoint_bytes(self.held, self.run)

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh train --json`."""
        run, step, used = self.run, self.step, self.energy
        again = self.compute.again * self.tokens // self.compute.tokens
        return {
            "source": self.source,
            "parameters": self.parameters, "active_parameters": self.active_parameters,
            "tokens": self.tokens,
            "device": self.device.name, "devices": self.devices,
            "run": {
                "method": run.method.name, "precision": run.precision, "optimizer": run.optimizer.name,
                "sequence_tokens": run.sequence_tokens, "micro_batch": run.micro_batch,
                "global_batch": run.global_batch, "accumulation": run.accumulation,
                "checkpointing": run.checkpointing, "attention": run.attention,
                "kernels": run.kernels, "loss": run.loss,
            },
            "layout": run.layout.to_json(),
            "flops": self.flops.to_json(),
            "operations": {"model_flops": self.model_flops.value, "recomputed_flops": again,
                           "attention_flops": self.compute.attention * self.tokens // self.compute.tokens},
            "mfu": step.mfu.to_json(), "run_mfu": self.hours.mfu.to_json(),
            "tok_s": step.tok_s.to_json(), "step_s": step.seconds.to_json(),
            "gpu_hours": self.hours.device_hours.to_json(), "days": self.hours.days.to_json(),
            "cost_usd": self.cost_usd.to_json(), "price": self.price.to_json(),
            "checkpoint_bytes": self.checkpoint_bytes,
            "project": None if self.project is None else self.project.to_json(),
            "energy_kwh": used.facility_kwh.to_json(), "carbon_kg": used.carbon_kg.to_json(),
            "energy": used.to_json(),
            "trainable_parameters": self.trainable_parameters,
            "memory": self.memory.to_json(),
            "chinchilla": None if self.chinchilla is None else self.chinchilla.to_json(),
            "interruptions": self.interruptions.to_json(),
            "claim": None if self.claim is None else self.claim.to_json(),
            "thresholds": [{"name": one.rule.name, "state": one.state, "verdict": one.verdict} for one in self.rules],
            "layouts": [one.to_json() for one in self.layouts],
            "notes": list(self.notes),
        }  # fmt: skip


def train(
    source: str | int | Path | Mapping[str, Any] | Checkpoint | NamedModel | Inspection,
    on: str | Device,
    wish: Wish,
    *,
    usd_per_hour: float | tuple[float, float] | None = None,
    grid: str | None = None,
    pue: str | None = None,
    watts: tuple[float, float] | None = None,
    outlay: Outlay | None = None,
    own_devices: Sequence[Device] = (),
    claimed_hours: int | None = None,
    today: datetime.date | None = None,
) -> TrainingPlan:
    """Plans a training run.

    Args:
        source: what `inspect` takes, or a number of parameters, such as `7B` as text.
        on: a device of the catalogue by any of its names, a device, an instance of a cloud with its devices, or `here`.
        wish: what is asked of the run.
        usd_per_hour: the price of one device, or its least and most; that of the catalogue without it.
        grid: where the power comes from, as `weigh grids` names it, or grams of CO2 equivalent a kilowatt-hour.
        pue: an operator of data centres, or the energy of a data centre over that of its machines.
        watts: power of one device, its least and most; that of metered runs without it.
        outlay: what is paid beside the run.
        own_devices: devices of the user's own file.
        claimed_hours: device hours that somebody states, to be held against the peak.
        today: the day whose rules of compute count; without it none are looked up.

    Raises:
        WeighbridgeError: when the source cannot be read, is not described, or the wish contradicts itself or the model.

    Example:
        >>> plan = train("llama-2-70b", "h100-sxm", Wish(tokens=10**9, devices=32))
        >>> plan.memory.fits, round(plan.flops.value / 1e20, 2)
        (True, 4.14)
    """
    found = shape(source)
    device, instance = rented(on, own_devices)
    devices = wish.devices * (instance.devices if instance else 1)
    check(wish, devices)
    notes = list(found.notes)
    wish = replace(wish, method=_targeted(wish.method, found.architecture, notes))
    base = _base(found, wish, notes)
    held = trained(found.architecture, wish.method)
    weigher = _weigher(found, held, device, base)
    layouts: list[Candidate] = []
    if wish.is_searched:
        layouts = search(found.architecture, devices, base, wish.fixed, weigher, base.global_batch)
        if not layouts or layouts[0].memory is None:
            read = layouts[0].reason if layouts else f"{devices:,} devices that no such layout accounts for"
            raise UnitError(read, "a layout that divides devices and model evenly", "change what is given of it")
        chosen = layouts[0]
    else:
        chosen = _plain(found, devices, base, wish.fixed, weigher)
    run, memory = chosen.run, chosen.memory
    assert memory is not None
    if wish.fixed.global_batch is None:
        notes.append(f"steps of {run.global_batch:,} sequences are assumed")
    step = chosen.step or weigher.step(run)
    counted = compute(found.architecture, run)
    whole = _hours(found, wish, run, step, weigher, notes)
    notes += _told(found, wish, memory)
    notes += [*_of_data(found, wish), *held.notes, *memory.notes, *counted.notes, *step.notes]
    plan = TrainingPlan(
        source=str(source) if found.is_assumed else found.inspection.source, shape=found, wish=wish, device=device,
        devices=devices, run=run, held=held, compute=counted, memory=memory, step=step, hours=whole,
        price=device_price(device, usd_per_hour=usd_per_hour, instance=instance),
        energy=energy(whole.device_hours, device, site(grid, pue), watts),
        chinchilla=verdict(found.active_parameters, wish.tokens) if _writes_text(found) else None,
        interruptions=interruptions(devices, whole.days.value),
        layouts=tuple(layouts), notes=tuple(dict.fromkeys(notes)),
    )  # fmt: skip
    if outlay is not None and not outlay.is_empty:
        storage = outlay.storage(plan.checkpoint_bytes)
        plan = replace(plan, project=project(plan.cost_usd, trials=outlay.trials, storage=storage, items=outlay.items))
    if claimed_hours is not None:
        plan = replace(plan, claim=_claim(plan, claimed_hours, watts))
    return plan if today is None else replace(plan, rules=_rules(plan, today))


def _hours(found: Shape, wish: Wish, run: Run, step: StepTime, weigher: Weigher, notes: list[str]) -> Hours:
    """What the whole run takes: where it trains from the start and no layout is given, by the steps of a usual one."""
    if not (wish.is_searched and _is_pre_training(wish)):
        return hours(step, run, wish.tokens, is_whole=_is_pre_training(wish))
    usual = usual_run(run, found.architecture.num_experts > 0)
    as_usual = hours(weigher.step(usual), usual, wish.tokens)
    whole = no_less(as_usual, step, run, wish.tokens)
    if whole is as_usual:
        notes.append("the hours rest on the steps of a usual layout, not on those of the fastest: every device holds a "
                     "shard of the weights and works on two micro-batches of about 8,192 tokens")  # fmt: skip
    return whole


def _told(found: Shape, wish: Wish, memory: TrainingMemory) -> Iterator[str]:
    """What the reader should know about the memory and the method."""
    if memory.fits is False:
        yield "it does not fit: the time is that of devices that have room"
    if memory.fits is False and not wish.is_searched:
        yield "`--layout auto` searches for what is not given of the layout"
    if memory.is_narrow:
        yield "the interval of the memory holds what the device has: try it, or leave more room"
    if wish.method.name == "freeze" and not wish.method.trained_layers:
        yield "what follows the layers is trained alone: --train-layers adds the last of them"
    if not _writes_text(found):
        yield "it writes no text: scaling laws of language models say nothing of it"


def _targeted(method: Method, architecture: Architecture, notes: list[str]) -> Method:
    """The method with what its adapters stand beside: queries and values where the model has them, as in LoRA's paper,
    and every linear map elsewhere.
    """
    if not method.has_adapters or method.targets:
        return method
    weights = [group.weight for group in architecture.groups]
    usual = ("attention_q", "attention_v")
    has_both = any(weight.parts for weight in weights) or set(usual) <= {weight.role for weight in weights}
    notes.append(f"adapters stand beside {'queries and values' if has_both else 'every linear map'}")
    return replace(method, targets=usual if has_both else (ALL_LINEAR,))


def _of_data(found: Shape, wish: Wish) -> Iterator[str]:
    """What repetition costs, where the data is read more than once.

    Raises:
        UnitError: when there are no unique tokens.
    """
    unique = wish.unique_tokens
    if unique is None or unique >= wish.tokens:
        return
    epochs = wish.tokens / unique if unique > 0 else 0.0
    worth = effective_tokens(unique, epochs)
    yield (
        f"{epochs:.3g} epochs of {format_count(unique)} unique tokens are worth {format_count(round(worth))} "
        f"fresh ones; a token of the last is worth {worth_of_last(epochs):.2f} of one (Muennighoff et al. 2023)"
    )


def _claim(plan: TrainingPlan, device_hours: int, watts: tuple[float, float] | None) -> HoursClaim:
    """Stated hours against the peak.

    Raises:
        UnitError: when they are none, or the device's peak is unknown.
    """
    peak = plan.device.peak_flops_per_s(format_of(plan.run))
    if peak is None or device_hours < 1:
        read = f"{device_hours:,} hours" if device_hours < 1 else f"the peak of {plan.device.title} is unknown"
        raise UnitError(read, "device hours of 1 or more, on a device of a known rate", "correct it")
    assert plan.flops.value is not None
    stated = Estimate(device_hours, device_hours, device_hours, "h", Basis.SPECIFIED, "as stated")
    return HoursClaim(
        device_hours=device_hours, implied_mfu=plan.flops.value / (device_hours * 3600 * peak),
        days=device_hours / plan.devices / 24, cost_usd=money(stated, plan.price),
        energy=energy(stated, plan.device, plan.energy.site, watts),
    )  # fmt: skip


def _rules(plan: TrainingPlan, today: datetime.date) -> tuple[Standing, ...]:
    """Where the run stands with the rules of compute: by 6ND and by the operations."""
    rule, counted = plan.flops, plan.model_flops.value
    assert rule.value is not None
    assert counted is not None
    flops = Estimate(rule.value, min(rule.value, counted), max(rule.value, counted), "FLOP", Basis.MODELLED, rule.note)
    return tuple(standings(today, flops, plan.parameters))


def _base(found: Shape, wish: Wish, notes: list[str]) -> Run:
    """The run but for its layout, with every default told."""
    sequence = wish.sequence_tokens
    if sequence is None:
        longest = found.inspection.longest_context or _positions(found)
        sequence = min(longest or USUAL_SEQUENCE, LONGEST_ASSUMED)
        notes.append(f"sequences of {sequence:,} tokens are assumed")
    else:
        notes += found.inspection.too_long(sequence)
    pre_training = _is_pre_training(wish)
    batch = wish.fixed.global_batch
    if batch is None:
        batch = max(1, STEP_TOKENS // sequence) if pre_training else FINE_TUNING_SEQUENCES
    kernels = wish.kernels or ("fused" if pre_training else "eager")
    if wish.kernels is None:
        notes.append(f"{kernels} norms and activation functions are assumed")
    return Run(sequence_tokens=sequence, global_batch=batch, method=wish.method, precision=wish.precision,
               optimizer=find_optimizer(wish.optimizer), attention=wish.attention, loss=wish.loss, kernels=kernels,
               layout=Layout(offload=wish.offload))  # fmt: skip


def _writes_text(found: Shape) -> bool:
    """Whether it is a language model that generates, as those behind scaling laws are."""
    roles = {group.weight.role for group in found.architecture.groups}
    return "token_embedding" in roles and any(p.block.states() for p in found.architecture.placements)


def _positions(found: Shape) -> int | None:
    """Positions of a model that reads no tokens: those that it has a table of, or one for a whole picture."""
    groups = found.architecture.groups
    if any(group.weight.role == "token_embedding" for group in groups):
        return None
    tables = [group.weight.shape for group in groups if group.weight.role == "position_embedding"]
    return max((shape[-2] for shape in tables if len(shape) > 1), default=1)


def _is_pre_training(wish: Wish) -> bool:
    return wish.method.name == "full" and wish.tokens >= PRE_TRAINING_TOKENS


def _weigher(found: Shape, held: Trained, device: Device, base: Run) -> Weigher:
    """What tells memory and time: of this machine by parts that were timed here, else by the fitted model."""
    architecture, asked = found.architecture, work(found.architecture, base)
    values, widen = device.measured, ASSUMED_WIDENS if found.is_assumed else 1.0

    def step(run: Run) -> StepTime:
        if values is None:
            return timed(asked, run, device, widen=widen)
        why = here.why_not(architecture, run) or (
            "`weigh probe` timed no training here" if not values.training else None
        )
        if why is not None:
            general = timed(asked, run, device, widen=widen)
            return replace(general, notes=(*general.notes, f"{why}: planned by what cards do"))
        assert values.training is not None
        seconds = here.step_seconds(architecture, held, run, values.training)
        return of_seconds(seconds, asked.model_flops * run.step_tokens, run, values.fp32_flops_per_s_one,
                          ("time and share of the peak are those of one thread",))  # fmt: skip

    def memory(run: Run) -> TrainingMemory:
        if values is not None and here.why_not(architecture, run) is None:
            return here.memory(architecture, held, run, values.training, device.memory_bytes)
        return plan_memory(architecture, held, run, device)

    return Weigher(memory=memory, step=step)


def _plain(found: Shape, devices: int, base: Run, fixed: Fixed, weigher: Weigher) -> Candidate:
    """The layout that was given, with plain defaults for the rest: nothing shared, nothing computed again.

    Raises:
        UnitError: when it does not account for all devices, or contradicts the model.
    """
    tensor, pipeline, context = fixed.tensor or 1, fixed.pipeline or 1, fixed.context or 1
    data = fixed.data or max(1, devices // (tensor * pipeline * context))
    layout = replace(base.layout, data=data, tensor=tensor, pipeline=pipeline, context=context,
                     expert=fixed.expert or 1, zero=fixed.zero or 0)  # fmt: skip
    if layout.devices != devices:
        read = (
            f"{devices:,} devices in {data} x {tensor} x {pipeline} x {context} of data, tensor, pipeline and context"
        )
        raise UnitError(read, "sizes that multiply to all devices", "correct one of them")
    micro = fixed.micro_batch or 1
    batch = fixed.global_batch or micro * data * max(1, round(base.global_batch / (micro * data)))
    run = replace(base, layout=layout, micro_batch=micro, global_batch=batch,
                  checkpointing=fixed.checkpointing or CHECKPOINTING[0])  # fmt: skip
    why = refusal(found.architecture, layout, run)
    if why is not None:
        raise UnitError(why, "a layout that divides the model and the batch evenly", "correct one of them")
    memory = weigher.memory(run)
    return Candidate(run, memory, weigher.step(run))
