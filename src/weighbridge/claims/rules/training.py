"""Training: operations, hours, money, data, adapters; each by the plan of a run."""

from __future__ import annotations

import functools
import re

from weighbridge.claims.claim import Answer, Interval
from weighbridge.claims.facts import Facts
from weighbridge.claims.measure import NOTHING
from weighbridge.claims.quantity import is_size
from weighbridge.claims.rules.subject import Subject, subjects
from weighbridge.errors import WeighbridgeError
from weighbridge.estimate import Basis, Estimate
from weighbridge.predict.scaling_laws.laws import find_law
from weighbridge.predict.scaling_laws.optimum import RULE
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.optimizers import find_optimizer
from weighbridge.predict.training.trained import trained
from weighbridge.training import TrainingPlan, train
from weighbridge.training_wish import Wish
from weighbridge.units import format_count

MOST_ADAPTED = 0.1
"""Of a model, what adapters add at most: a larger number is of something else."""
USUAL = ("a100-sxm-80", "h100-sxm")
"""On what a model is trained where nobody says."""
MOST_TOKENS_PER_PARAMETER = 300
"""Up to which a run may have gone where its tokens are not said: Llama 2 7B's 2 trillion."""


def _tokens(facts: Facts, one: Subject) -> tuple[float, float, str] | None:
    """Tokens of the run: those said, or those that its developer states."""
    if facts.tokens:
        best = max(facts.tokens, key=lambda q: q.high)
        return best.low, best.high, ""
    if one.model is not None and one.model.training_tokens:
        count = float(one.model.training_tokens)
        return count, count, one.model.source_of("training_tokens")
    return None


def _runs(facts: Facts) -> list[Subject]:
    found = [one for one in subjects(facts) if one.size]
    return found[:1]


@functools.lru_cache(256)
def _plan(source: str, device: str, tokens: int, devices: int) -> TrainingPlan | None:
    try:
        return train(source, device, Wish(tokens=tokens, devices=devices))
    except (WeighbridgeError, ArithmeticError):
        return None


def _source(one: Subject, size: float) -> str:
    return one.model.name if one.model is not None and one.inspection is not None else format_count(round(size))


def flops(facts: Facts) -> Answer | None:
    """Operations of a whole training: 6 x active parameters x tokens."""
    if facts.claim.kind not in ("", "training_flops") or len(facts.claimed) != 1 or facts.given:
        return None
    claimed = facts.claimed[0]
    if claimed.unit not in ("FLOP", NOTHING) or (claimed.unit == NOTHING and claimed.low < 1e15):
        return None
    if claimed.unit == NOTHING and not facts.has("flop", "compute"):
        return None
    if facts.claim.kind == "" and not facts.has("train"):
        return None
    for one in _runs(facts):
        tokens = _tokens(facts, one)
        size = one.active or one.size
        if tokens is None or size is None:
            return None
        law = find_law(RULE)
        low, high = (law.training_flops(size, count) for count in tokens[:2])
        step = f"6 x {size:,.0f} parameters x {tokens[0]:,.0f} tokens = {low:.4g} FLOP"
        return Answer("training flops", (Interval(low, high, claimed.unit, Basis.EXACT),), (step,),
                      tuple(filter(None, (one.source, tokens[2]))))  # fmt: skip
    return None


def data(facts: Facts) -> Answer | None:
    """Tokens that a named model was trained on, as its developer states them."""
    if len(facts.claimed) != 1 or facts.claim.kind in ("chinchilla", "kv_cache") or len(facts.models) != 1:
        return None
    claimed, one = facts.claimed[0], facts.models[0]
    if claimed.unit not in ("token", NOTHING) or not facts.has("train", "pretrain", "pre-train"):
        return None
    if not re.search(r"tokens", facts.text) or claimed.low < 1e9 or one.training_tokens is None or facts.given:
        return None
    return Answer("training data", (Interval(one.training_tokens, one.training_tokens, claimed.unit, Basis.SPECIFIED),),
                  (f"the developer of {one.title} states {one.training_tokens:,} tokens",),
                  (one.source_of("training_tokens"),))  # fmt: skip


def hours(facts: Facts) -> Answer | None:
    """Hours of a training on so many devices; never less than at their peak."""
    kinds = ("", "gpu_hours", "latency")
    if facts.claim.kind not in kinds or len(facts.claimed) != 1 or not facts.devices or not facts.tokens:
        return None
    claimed = facts.claimed[0]
    if claimed.unit not in ("second", "device * second") or (
        facts.claim.kind != "gpu_hours" and not facts.has("train")
    ):
        return None
    for one in _runs(facts):
        size = facts.sizes[0].value if facts.sizes else one.size
        device, count = facts.devices[0]
        tokens = int(facts.tokens[0].value)
        assert size is not None
        plan = _plan(_source(one, size), device.name, tokens, count)
        if plan is None:
            return None
        spent = plan.hours.device_hours
        share = 1.0 if claimed.unit == "device * second" else 1 / count
        return _of_estimate(spent.times(3600 * share), claimed.unit, "training hours",
                            f"{plan.title}: {_hours(spent, share)} at {plan.hours.mfu.value or 0:.0%} of the peak",
                            one.source)  # fmt: skip
    return None


def _hours(spent: Estimate, share: float) -> str:
    return f"{(spent.low or 0) * share:,.0f} to {(spent.high or 0) * share:,.0f} h"


def _of_estimate(found: Estimate, unit: str, rule: str, step: str, source: str) -> Answer | None:
    if found.low is None or found.high is None:
        return None
    return Answer(rule, (Interval(found.low, found.high, unit, found.basis),), (step,), (source,))


def cost(facts: Facts) -> Answer | None:
    """Money of a training from the start: device-hours by the plan x the price of one."""
    if facts.claim.kind not in ("", "training_cost") or len(facts.claimed) != 1 or facts.claimed[0].unit != "USD":
        return None
    if facts.has("fine-tun", "finetun", "lora", "adapter", "card", "inference", "serving"):
        return None
    if facts.claim.kind == "" and not facts.has("train"):
        return None
    found = _runs(facts)
    sizes = [q.low for q in facts.sizes]
    if not found or len(facts.sizes) > 1:
        return None
    one = found[0]
    size = sizes[0] if sizes else one.size
    assert size is not None
    tokens = _tokens(facts, one)
    if tokens is None:
        if facts.models or any(thing.size for thing in facts.things):
            return None
        law = find_law(RULE)
        fewest = law.optimal_tokens(law.flops_for_parameters(size))
        tokens = (fewest, size * MOST_TOKENS_PER_PARAMETER, law.source)
    devices = [device.name for device, _ in facts.devices] or list(USUAL)
    prices = [q for q in (*facts.given, *facts.said) if q.unit in ("USD / second", "USD / device / second")]
    ends: list[float] = []
    steps = []
    for device in devices:
        for count in dict.fromkeys(tokens[:2]):
            plan = _plan(_source(one, size), device, int(count), 256)
            if plan is None:
                return None
            spent, paid = plan.hours.device_hours, plan.cost_usd
            if spent.low is None or spent.high is None:
                return None
            if prices:
                ends += [spent.low * prices[0].low * 3600, spent.high * prices[0].high * 3600]
            elif paid.low is not None and paid.high is not None:
                ends += [paid.low, paid.high]
            steps.append(f"{format_count(int(count))} tokens on {device}: {spent.low:,.0f} to {spent.high:,.0f} h")
    if not ends:
        return None
    steps.append(f"{min(ends):,.0f} to {max(ends):,.0f} USD")
    return Answer("training cost", (Interval(min(ends), max(ends), "USD", Basis.MODELLED),), tuple(steps),
                  tuple(filter(None, (one.source, tokens[2]))))  # fmt: skip


def optimum(facts: Facts) -> Answer | None:
    """The model that suits so many operations best, by 20 tokens a parameter."""
    found = [q for q in (*facts.said, *facts.given) if q.unit == "FLOP"]
    if len(found) != 1 or len(facts.claimed) != 1 or not is_size(facts.claimed[0]):
        return None
    law = find_law(RULE)
    low, high = (law.optimal_parameters(end) for end in (found[0].low, found[0].high))
    unit = facts.claimed[0].unit
    return Answer("optimum", (Interval(low, high, unit, Basis.SPECIFIED),),
                  (f"sqrt({found[0].low:.3g} / (6 x 20)) = {low:.4g} parameters at 20 tokens each",),
                  (law.source,), is_weak=facts.claim.is_read and unit == NOTHING)  # fmt: skip


def adapter(facts: Facts) -> Answer | None:
    """Parameters that adapters of low rank add, or their share of the model; rank x (inputs + outputs) a matrix."""
    if facts.claim.kind not in ("", "lora_trainable") or not facts.has("lora", "adapter", "low-rank"):
        return None
    if len(facts.claimed) != 1 or facts.has("cost"):
        return None
    claimed = facts.claimed[0]
    if claimed.unit not in (NOTHING, "byte", "parameter"):
        return None
    if not (claimed.is_share or is_size(claimed) or claimed.unit == "byte" or claimed.low >= 1000):
        return None
    rank = facts.keys.get("r")
    if {"d", "k"} <= facts.keys.keys() and rank:
        count = rank * (facts.keys["d"] + facts.keys["k"])
        return Answer(
            "adapter", (Interval(count, count),), (f"{rank:g} x ({facts.keys['d']:g} + {facts.keys['k']:g})",)
        )
    found = [one for one in subjects(facts) if one.size]
    if not found:
        return None
    one = found[0]
    ways = [(rank, _targets(facts))] if rank else [(8, ("q_proj", "v_proj")), (64, ("all-linear",))]
    architecture = one.shaped().architecture
    assert architecture is not None
    counts = []
    try:
        for each, targets in ways:
            held = trained(
                architecture, Method(name="dora" if facts.has("dora") else "lora", rank=int(each), targets=targets)
            )
            counts.append(held.trainable_share if claimed.is_share else float(held.trainable))
    except (WeighbridgeError, AssertionError):
        return None
    wide = min(facts.bits, default=16) / 8 if claimed.unit == "byte" else 1.0
    basis = Basis.EXACT if rank and one.inspection is not None else Basis.ASSUMED
    step = "; ".join(f"rank {each:g} on {', '.join(targets) or 'q, v'}: {count:,.6g}"
                     for (each, targets), count in zip(ways, counts, strict=True))  # fmt: skip
    is_weak = claimed.unit != "byte" and not claimed.is_share and claimed.low > MOST_ADAPTED * (one.size or 0.0)
    return Answer("adapter", (Interval(min(counts) * wide, max(counts) * wide, claimed.unit, basis),),
                  (f"{one.title}: {step}",), (one.source,), is_weak=is_weak)  # fmt: skip


def _targets(facts: Facts) -> tuple[str, ...]:
    if re.search(r"all[- ]linear|all (?:matrices|projections|layers)", facts.text):
        return ("all-linear",)
    if re.search(r"\bq,? ?k,? ?v,? ?(?:and )?o\b|all attention", facts.text):
        return ("q_proj", "k_proj", "v_proj", "o_proj")
    return ("q_proj", "v_proj")


def adapter_cost(facts: Facts) -> Answer | None:
    """What adapters save of the arithmetic: frozen weights need no gradient of their own, and no more is saved."""
    if not facts.has("lora", "low-rank") or not facts.has("cost", "compute", "flop") or not facts.claimed:
        return None
    claimed = facts.claimed[0]
    if not claimed.is_share or facts.has("memory"):
        return None
    size = next((one for one in subjects(facts) if one.inspection is not None), None)
    source = size.model.name if size and size.model else "7B"
    whole = _plan(source, USUAL[0], 10**9, 8)
    try:
        part = train(source, USUAL[0], Wish(tokens=10**9, devices=8, method=Method(name="lora")))
    except WeighbridgeError:
        return None
    if whole is None or not whole.flops.value or not part.flops.value:
        return None
    share = part.flops.value / whole.flops.value
    step = f"{part.flops.value:.4g} of {whole.flops.value:.4g} FLOP on the same tokens = {share:.1%}"
    return Answer("adapter cost", (Interval(share, share, NOTHING, Basis.MODELLED),), (step,))


def copies(facts: Facts) -> Answer | None:
    """What an optimizer keeps beside each weight."""
    if len(facts.claimed) != 1 or not facts.has("adam", "sgd", "momentum", "adafactor", "lion"):
        return None
    claimed = facts.claimed[0]
    is_bytes = claimed.unit == "byte / parameter" and facts.has("keep")
    is_copies = claimed.unit in ("copy", NOTHING) and facts.has("copies", "copy", "states", "moments")
    if not (is_bytes or is_copies):
        return None
    name = next(name for name in ("adafactor", "adamw", "adam", "lion", "sgd", "momentum") if name in facts.text)
    try:
        kept = find_optimizer({"adam": "adamw", "momentum": "sgd"}.get(name, name)).state_bytes
    except WeighbridgeError:
        return None
    count = kept if is_bytes else kept / 4
    return Answer("optimizer", (Interval(count, count, claimed.unit),),
                  (f"{name} keeps {kept:g} B a parameter: {kept / 4:g} numbers of 4 B",), is_whole=is_copies,
                  is_weak=facts.claim.is_read and is_copies)  # fmt: skip


RULES = (data, optimum, adapter_cost, adapter, copies, hours, cost, flops)
