"""What do pictures of a training plan show beside it? The same at each stage of ZeRO, and smaller and larger models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from weighbridge.estimate import Estimate
from weighbridge.predict.training.memory import TrainingMemory, plan_memory
from weighbridge.training import TrainingPlan


@dataclass(frozen=True, slots=True)
class StagePoint:
    """The memory of each device at one stage of ZeRO, as pictures show it."""

    label: str
    memory: TrainingMemory


@dataclass(frozen=True, slots=True)
class SizePoint:
    """What training a model of a size costs, at tokens by a rule."""

    parameters: int
    tokens: int
    rule: str
    cost_usd: Estimate


def stages(plan: TrainingPlan) -> list[StagePoint]:
    """What each device holds at every stage of ZeRO, all else as planned."""
    found = []
    for zero in range(4 if plan.run.layout.data * plan.run.layout.context > 1 else 1):
        run = replace(plan.run, layout=replace(plan.run.layout, zero=zero))
        label = f"ZeRO {zero}" if zero else "all states on each device"
        found.append(StagePoint(label, plan_memory(plan.shape.architecture, plan.held, run, plan.device)))
    return found


SIZES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""Of the parameters of the plan, for the picture of cost against size."""


def sizes(plan: TrainingPlan) -> Iterator[SizePoint]:
    """What training smaller and larger models costs in the same time for a FLOP, at 20 tokens a parameter and at those
    of the plan.
    """
    own = plan.flops.value
    assert own is not None
    for times in SIZES:
        parameters = round(plan.parameters * times)
        for rule, tokens in (("20 tokens a parameter", 20 * parameters), ("the tokens of this plan", plan.tokens)):
            flops = own * times * tokens / plan.tokens
            yield SizePoint(parameters, tokens, rule, plan.cost_usd.times(flops / own))
