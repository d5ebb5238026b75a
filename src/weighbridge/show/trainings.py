"""How does a training plan read on a terminal? Arithmetic, memory part by part, time, money, energy, data, layouts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from weighbridge.errors import printable
from weighbridge.estimate import Estimate
from weighbridge.layout_search import Candidate
from weighbridge.predict.carbon import J_PER_KWH
from weighbridge.predict.disputed import Dispute
from weighbridge.predict.ownership import TotalCost
from weighbridge.predict.thresholds import ENDS
from weighbridge.predict.training.footprint import TrainingEnergy
from weighbridge.predict.training.step_time import StepTime
from weighbridge.show import disputes
from weighbridge.show.footprints import between, many
from weighbridge.show.plans import VERDICTS, amount, basis, figure, size
from weighbridge.show.tables import bar, bold, table
from weighbridge.training import HoursClaim, TrainingPlan
from weighbridge.units import format_bytes, format_count, format_energy, format_mass
from weighbridge.ways_to_train import Way, Ways

MOST_LAYOUTS = 12
"""Layouts that a terminal shows; JSON has all."""
PROJECT = "whole project, USD (what comes again for a year)"
LAYOUT_HEADS = ("tensor x pipeline x data", "experts", "ZeRO", "micro-batch", "checkpointing", "bytes", "token/s", "")


def training_lines(plan: TrainingPlan) -> Iterator[str]:
    """The report of `weigh train`."""
    yield bold(printable(plan.title))
    yield run_words(plan)
    yield layout_words(plan)
    yield ""
    yield from table("compute", ("quantity", "value", "basis"), compute_rows(plan), right=(1,))
    yield from table(f"memory of each device: {VERDICTS[plan.memory.fits]}{' - narrowly' * plan.memory.is_narrow}",
                     ("part", "bytes", "basis", ""), memory_rows(plan), right=(1,))  # fmt: skip
    if (
        sum(part.value or 0.0 for part in plan.memory.parts().values())
        > (plan.memory.per_device_bytes.value or 0.0) + 1
    ):
        yield "together is less than the parts: gradients come as activations go"
        yield ""
    yield from table("time, money, energy", ("quantity", "value", "basis"), cost_rows(plan), right=(1,))
    yield from origin_rows(plan)
    yield ""
    if plan.project is not None:
        yield from table(f"the {PROJECT}", ("item", "USD", "basis"), project_rows(plan.project), right=(1,))
    yield from data_lines(plan)
    if plan.layouts:
        yield from table("layouts", LAYOUT_HEADS, layout_rows(plan.layouts), right=(5, 6))
        more = len(plan.layouts) - MOST_LAYOUTS
        if more > 0:
            yield f"and {more:,} others, in --json"
    if plan.claim is not None:
        yield from claim_lines(plan.claim, plan)
    yield from rule_lines(plan)
    yield from (f"note: {printable(note)}" for note in plan.notes)


def origin_rows(plan: TrainingPlan) -> Iterator[str]:
    """What hours, money, energy and carbon rest on: the note of each."""
    used = plan.energy
    rows = (("hours", plan.hours.device_hours), ("USD", plan.price.usd_per_hour), ("energy", used.facility_kwh),
            ("CO2e", used.carbon_g))  # fmt: skip
    for name, estimate in rows:
        if estimate.value is not None and estimate.note:
            each = f"{figure(estimate.value)} an hour, " if name == "USD" else ""
            yield f"{name}: {each}{printable(estimate.note)}"


def project_rows(project: TotalCost) -> list[tuple[str, str, str]]:
    """The run, what is paid beside it, and both together."""
    rows = [(f"{item.name} ({item.every})" if item.every != "once" else item.name, project.of(item))
            for item in project.items]  # fmt: skip
    return [(printable(name), amount(usd), basis(usd)) for name, usd in (*rows, ("in all", project.total))]


def claim_lines(claim: HoursClaim, plan: TrainingPlan) -> Iterator[str]:
    """Whether stated hours can be, and what they take."""
    words = {"impossible": "IMPOSSIBLE: more than the peak of the devices",
             "never measured": "above what any published run reached", "possible": "possible"}  # fmt: skip
    yield f"{claim.device_hours:,} device hours would be {claim.implied_mfu:.1%} of the peak: {words[claim.verdict]}"
    rated, used = claim.energy.at_rated_kwh, claim.energy
    told = [f"{figure(claim.days)} days on {plan.devices:,} devices"]
    if claim.cost_usd.value is not None:
        told.append(f"{amount(claim.cost_usd)} USD")
    if used.facility_kwh.value is not None:
        told.append(f"{between(used.facility_kwh.times(J_PER_KWH), format_energy)}, "
                    f"{between(used.carbon_g, format_mass)} of CO2e")  # fmt: skip
    if rated.value is not None:
        told.append(f"{format_energy(rated.value * J_PER_KWH)} at the rated power of the devices alone")
    yield f"  they are {'; '.join(told)}"
    if used.carbon_g.value is not None:
        yield f"  which is as much as {as_much_as(used)}"


def rule_lines(plan: TrainingPlan) -> Iterator[str]:
    """Rules that the run comes under, or may; `weigh thresholds` has all."""
    for one in plan.rules:
        if one.verdict in ("above", "undecided") and one.rule.quantity == "training_flop" and one.state not in ENDS:
            yield f"{one.verdict} {one.rule.value:.0e} FLOP of {one.rule.title} ({one.state}); see `weigh thresholds`"


def ways_lines(found: Ways) -> Iterator[str]:
    """The report of `weigh train --compare`."""
    first = found.plans[0]
    count = f"{first.devices:,} x " if first.devices > 1 else ""
    title = f"{first.source}, {format_count(first.tokens)} tokens on {count}{first.device.title}"
    yield bold(printable(title))
    heads: tuple[str, ...] = ("method", "trained", "bytes a device", "", "device hours", "USD", "claimed USD")
    rows: list[tuple[str, ...]] = []
    for way in found.ways:
        plan, told = way.plan, "nothing"
        if way.said is not None:
            told = "; ".join(disputes.said(one, way.said.unit) for one in way.said.answers)
        does_not = plan.memory.fits is False
        rows.append((
            plan.run.method.name, format_count(plan.held.trainable), size(plan.memory.per_device_bytes), _fits(way),
            "-" if does_not else amount(way.device_hours), "-" if does_not else amount(way.usd), told,
        ))  # fmt: skip
    if any(plan.project is not None for plan in found.plans):
        heads = (*heads[:6], "USD in all", heads[6])
        rows = [(*row[:6], "-" if way.project is None else amount(way.project.total), row[6])
                for row, way in zip(rows, found.ways, strict=True)]  # fmt: skip
    yield from table("ways to train", heads, rows, right=(1, 2, *range(4, len(heads) - 1)))
    fitting = found.first_that_fits
    if fitting is None:
        yield "no way is known to fit"
    elif fitting is not found.ways[0]:
        yield f"the first way that fits is {fitting.plan.run.method.name}"
    for way in found.ways:
        if way.said is not None:
            yield claimed_price(way.said)
    shown = [plan for plan in found.plans if plan.memory.fits is not False] or found.plans
    notes = dict.fromkeys(note for plan in shown for note in plan.notes)
    yield from (f"note: {printable(note)}" for note in notes)


def _fits(way: Way) -> str:
    memory = way.plan.memory
    told = {True: "fits", False: "does not fit", None: "unknown"}[memory.fits] + ", narrowly" * memory.is_narrow
    if memory.fits is False and way.devices_that_fit is not None:
        return f"{told}; {way.devices_that_fit:,} devices would do"
    return told


def claimed_price(dispute: Dispute) -> str:
    """What is said of the price of a way to train, where it contradicts itself, and that nothing rests on it."""
    told = "; ".join(f"{disputes.said(one, dispute.unit)} USD ({one.of})" for one in dispute.answers)
    sources = "; ".join(dict.fromkeys(f"{one.source}, read {one.checked}" for one in dispute.answers))
    return f"claimed of {dispute.title}: {told}: {disputes.shared(dispute)} ({sources})"


def run_words(plan: TrainingPlan) -> str:
    """What the run does, in one line."""
    run = plan.run
    trained = plan.trainable_parameters
    share = trained / plan.parameters
    told = "all" if run.method.name == "full" else f"{share:.2%}"
    return (f"{plan.parameters:,} parameters, {trained:,} trained ({told}); {run.precision}, {run.optimizer.name}; "
            f"sequences of {run.sequence_tokens:,} tokens, {run.global_batch:,} a step")  # fmt: skip


def layout_words(plan: TrainingPlan) -> str:
    """How it is spread, in one line."""
    run, layout = plan.run, plan.run.layout
    sizes = {"tensor": layout.tensor, "pipeline": layout.pipeline, "context": layout.context, "expert": layout.expert,
             "data": layout.data}  # fmt: skip
    words = [f"{name} {number}" for name, number in sizes.items() if number > 1] or ["one device"]
    offload = "" if layout.offload == "none" else f", states offloaded to {layout.offload}"
    return (f"{' x '.join(words)}, ZeRO {layout.zero}{offload}; micro-batch {run.micro_batch}, {run.accumulation} a "
            f"step; checkpointing {run.checkpointing}")  # fmt: skip


def compute_rows(plan: TrainingPlan) -> list[tuple[str, str, str]]:
    """FLOPs by the rule and by operations, and the share of the peak."""
    flops, counted = plan.flops.value, plan.model_flops.value
    assert flops is not None
    assert counted is not None
    again = plan.compute.again * plan.tokens // plan.compute.tokens
    return [
        (plan.flops.note, f"{flops:.4g} FLOP", "exact"),
        ("operation by operation, with attention", f"{counted:.4g} FLOP", "exact"),
        ("computed again", f"{again:.4g} FLOP", "exact"),
        ("share of the peak in a step (MFU)", _percent(plan.step.mfu), basis(plan.step.mfu)),
        ("share of the peak over the whole run", _percent(plan.hours.mfu), basis(plan.hours.mfu)),
    ]


def memory_rows(plan: TrainingPlan) -> list[tuple[str, str, str, str]]:
    """Part, bytes, basis and a bar."""
    memory = plan.memory
    total = memory.per_device_bytes.value or 0.0
    rows = [(name, size(part), part.basis.value, bar((part.value or 0.0) / total if total else 0.0))
            for name, part in memory.parts().items()]  # fmt: skip
    rows.append(("together", size(memory.per_device_bytes), memory.per_device_bytes.basis.value, ""))
    if memory.capacity_bytes is not None:
        rows.append(("of", format_bytes(memory.capacity_bytes), "specified", ""))
    for where, waiting in (("in the host's memory", memory.host_bytes), ("on its disks", memory.nvme_bytes)):
        if waiting:
            rows.append((where, format_bytes(waiting), "exact", ""))
    return rows


def cost_rows(plan: TrainingPlan) -> list[tuple[str, str, str]]:
    """Speed, hours, money, energy, carbon."""
    hours, used = plan.hours, plan.energy
    rows = [
        ("tokens a second", plan.step.tok_s, amount(plan.step.tok_s)),
        ("seconds a step", plan.step.seconds, amount(plan.step.seconds)),
        ("device hours", hours.device_hours, amount(hours.device_hours)),
        ("days", hours.days, amount(hours.days)),
        (f"USD, {plan.price.kind}", plan.cost_usd, amount(plan.cost_usd)),
        ("energy of the data centre", used.facility_kwh,
         between(used.facility_kwh.times(J_PER_KWH), format_energy)),
        ("CO2e", used.carbon_g, between(used.carbon_g, format_mass)),
    ]  # fmt: skip
    return [(name, value, basis(estimate)) for name, estimate, value in rows]


def as_much_as(used: TrainingEnergy) -> str:
    """Carbon and energy in things that people know."""
    return "; ".join(f"{between(Estimate.from_json(one['count']), many)} {one['title']}" for one in used.equivalents)


def data_lines(plan: TrainingPlan) -> Iterator[str]:
    """Whether the tokens suit the size."""
    found = plan.chinchilla
    if plan.run.method.name != "full" or found is None:
        return
    suits = found.optimal_tokens
    if not plan.is_pre_training:
        yield "for a model that is trained from the start; of fine-tuning scaling laws say nothing:"
    yield (f"{figure(found.tokens_per_parameter, 3)} tokens a parameter: {found.word} by the law {found.law.name}, "
           f"which gives it {_count(suits)}; {found.advice}")  # fmt: skip
    yield f"predicted loss {amount(found.predicted_loss)} ({found.predicted_loss.basis.value})"


def layout_rows(layouts: Sequence[Candidate]) -> list[tuple[str, ...]]:
    """What was tried, and why each was not taken."""
    rows: list[tuple[str, ...]] = []
    for one in layouts[:MOST_LAYOUTS]:
        layout = one.run.layout
        needed = "" if one.memory is None else size(one.memory.per_device_bytes)
        rows.append((
            f"{layout.tensor} x {layout.pipeline} x {layout.data}", str(layout.expert), str(layout.zero),
            str(one.run.micro_batch), one.run.checkpointing, needed, _speed(one.step), one.reason or "chosen",
        ))  # fmt: skip
    return rows


def _speed(step: StepTime | None) -> str:
    if step is None:
        return ""
    return "unknown" if step.tok_s.value is None else figure(step.tok_s.value)


def _percent(share: Estimate) -> str:
    return amount(share.times(100)) + ("" if share.value is None else " %")


def _count(tokens: Estimate) -> str:
    if tokens.value is None or tokens.low is None or tokens.high is None:
        return "unknown"
    low, value, high = (format_count(round(x)) for x in (tokens.low, tokens.value, tokens.high))
    return f"{value} ({low} to {high})" if low != high else value
