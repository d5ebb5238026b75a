"""Bytes: of weights at a precision, of a cache, of what training holds, and whether they fit a device."""

from __future__ import annotations

import math
import re

from weighbridge.claims.claim import Answer, Interval, Verdict
from weighbridge.claims.facts import Facts
from weighbridge.claims.measure import NOTHING
from weighbridge.claims.quantity import is_size
from weighbridge.claims.rules.subject import Subject, subjects
from weighbridge.errors import WeighbridgeError
from weighbridge.estimate import Basis
from weighbridge.hardware.catalogue import find_device
from weighbridge.hardware.device import Device
from weighbridge.model import encodings
from weighbridge.model.architecture import Workload
from weighbridge.planning import fit
from weighbridge.predict.counts import state_bytes
from weighbridge.predict.training.optimizers import find_optimizer
from weighbridge.units import format_bytes

_KINDS = ("", "storage_size", "inference_memory")
USUAL_CONTEXT = 4096
"""Tokens of a sequence where none are said."""
LEAST_FREE = 0.9
"""Of a device's memory, what weights may take."""
FEWEST_BITS = 2
SAME = 0.05
_SMALLEST = 4
"""Bits to which weights are usually packed at least: what does not fit then does not fit."""
INDEX_BYTES = 4
"""A column index of 32 bits beside each value that a sparse matrix keeps."""


def _bytes(size: float) -> str:
    return format_bytes(round(size))


def _exact(sizes: list[float], basis: Basis = Basis.EXACT) -> tuple[Interval, ...]:
    return tuple(Interval(size, size, "byte", basis) for size in sizes)


def _are_bytes(facts: Facts) -> bool:
    return bool(facts.claimed) and all(q.unit == "byte" for q in facts.claimed)


def _each(facts: Facts) -> list[float]:
    """Bytes of one parameter, where the statement gives them."""
    stated = [q.value for q in (*facts.given, *facts.said) if q.unit == "byte / parameter"]
    plain = [q.value for q in facts.given if q.unit == "byte" and q.high <= 8 and q.scale <= 1]
    return stated or plain


def storage(facts: Facts) -> Answer | None:
    """Parameters x bytes of each, for one or more sizes and one or more precisions."""
    if facts.claim.kind not in _KINDS or not _are_bytes(facts) or facts.devices:
        return None
    if facts.has("cache", "activation", "fine-tun", "finetun", "train", "adapter", "optimizer", "adam", "overhead"):
        return None
    each = _each(facts) or [bits / 8 for bits in facts.bits]
    found = [one for one in subjects(facts) if one.size]
    said = [q.value for q in facts.sizes]
    sizes = [(one.title, one.size or 0.0) for one in found]
    if found and said and found[0].size is not None and len(said) == len(found) == 1:
        sizes = [(f"{said[0] / 1e9:g}B", said[0])]
    if not (facts.models or facts.sizes) and (of_context := _of_context(facts, each)):
        return of_context
    if sizes and not each:
        return _any_format(facts, sizes)
    if not sizes:
        return None
    claimed = facts.claimed
    pairs = [(title, size, one) for title, size in sizes for one in each]
    if len(pairs) == len(claimed) or (len(claimed) == 1 and len(sizes) == 1 and len(each) == 1):
        steps = tuple(f"{title} x {one:g} B = {_bytes(size * one)}" for title, size, one in pairs)
        return Answer("storage", _exact([size * one for _, size, one in pairs]), steps,
                      tuple(dict.fromkeys(one.source for one in found)))  # fmt: skip
    turns = not facts.claim.is_read or re.search(r"->|→|\bto\b|\bfrom\b|instead", facts.text)
    if len(claimed) == 2 and len(sizes) == 1 and len(each) == 1 and turns:
        title, size = sizes[0]
        before = min((size * wide for wide in (4, 2)), key=lambda wide: abs(wide - claimed[0].value))
        steps = (f"{title} x {each[0]:g} B = {_bytes(size * each[0])}", f"from {_bytes(before)}")
        return Answer("storage", _exact([before, size * each[0]]), steps, (found[0].source,))
    return None


def _any_format(facts: Facts, sizes: list[tuple[str, float]]) -> Answer | None:
    """Bytes without a format: too few for any, or those of the usual 16 bits."""
    if len(sizes) != 1 or len(facts.claimed) != 1 or not facts.claim.kind:
        return None
    title, size = sizes[0]
    least = size * FEWEST_BITS / 8
    if facts.claimed[0].high < least:
        step = f"{title} at {FEWEST_BITS} bits a parameter, fewer than any usual format has: {_bytes(least)}"
        return Answer("storage", (Interval(least, least, "byte", Basis.EXACT, "least"),), (step,))
    if abs(facts.claimed[0].value / (2 * size) - 1) > SAME:
        return None
    step = f"{title} x 2 B, the usual 16 bits = {_bytes(2 * size)}"
    return Answer("storage", _exact([2 * size], Basis.ASSUMED), (step,))


def _of_context(facts: Facts, each: list[float]) -> Answer | None:
    """Bytes of sizes that the statements before it name, where each claimed number is those of one of them."""
    named = sorted({q.value for one in facts.before for q in one.sizes if q.low >= 1e9})
    if facts.claim.kind != "storage_size" or len(each) != 1 or len(facts.claimed) < 2:
        return None
    nearest = [min(named, key=lambda size: abs(size * each[0] - q.value), default=0.0) for q in facts.claimed]
    if len(set(nearest)) != len(nearest) or 0.0 in nearest:
        return None
    steps = tuple(f"{size / 1e9:g}B x {each[0]:g} B = {_bytes(size * each[0])}" for size in nearest)
    return Answer("storage", _exact([size * each[0] for size in nearest]), steps)


def precision(facts: Facts) -> Answer | None:
    """What fewer bits save, as a share or as a ratio, from the formats or the bytes that are named."""
    if facts.claim.kind not in ("", "precision_ratio") or not facts.claimed:
        return None
    claimed = facts.claimed[0]
    if claimed.unit != "1" or claimed.has_magnitude or len(facts.claimed) > 1:
        return None
    widths = [float(bits) for bits in facts.bits]
    pair = [q.value * 8 for q in facts.given if q.unit == "byte" and q.high <= 8 and q.scale <= 1]
    pair = pair or [q.value for q in facts.given if q.unit == "bit_width"]
    if len(pair) == 2:
        widths = pair
    is_said = facts.has("cut", "reduc", "sav", "shrink", "smaller", "half", "less memory")
    if not widths or (facts.claim.is_read and not is_said) or facts.has("zeros", "sparse"):
        return None
    wide = max(widths) if len(widths) > 1 else 32.0
    if wide in widths and len(widths) > 1:
        widths = [one for one in widths if one != wide]
    if wide <= max(widths):
        return None
    if claimed.is_share:
        reduces = facts.has("cut", "reduc", "sav", "shrink", "smaller", "less", "lower")
        values = [1 - one / wide if reduces else one / wide for one in widths]
    else:
        values = [wide / one for one in widths]
    steps = tuple(f"{wide:g} bits to {one:g}: {value:.4g}" for one, value in zip(widths, values, strict=True))
    is_weak = facts.claim.is_read and len(facts.sizes) + len(facts.models) > 1
    return Answer("precision", (Interval(min(values), max(values)),), steps, is_weak=is_weak)


def sparse(facts: Facts) -> Answer | None:
    """Memory of a sparse matrix against a dense one: each value that is kept needs its column beside it."""
    shares = [q.value for q in (*facts.said, *facts.given) if q.is_share]
    if not facts.has("sparse", "sparsity") or not facts.has("memory", "storage", "size") or len(shares) != 1:
        return None
    if len(facts.claimed) != 1 or facts.claimed[0].unit != "1":
        return None
    value_bytes = min(facts.bits, default=32) / 8
    share = (1 - shares[0]) * (value_bytes + INDEX_BYTES) / value_bytes
    step = f"{1 - shares[0]:.3g} of the values x ({value_bytes:g} + {INDEX_BYTES} B) / {value_bytes:g} B = {share:.3g}"
    return Answer("sparse", (Interval(share, share),), (step,), ("compressed sparse rows: a column index of 32 bits",))


def cache(facts: Facts) -> Answer | None:
    """Keys and values: 2 x layers x key-value heads x head size x bytes x tokens x sequences."""
    if facts.claim.kind not in ("", "kv_cache") or not facts.claimed:
        return None
    if all(q.unit in ("1", "byte") for q in facts.claimed) and facts.has("gqa", "grouped", "mqa", "multi-query"):
        heads, groups = facts.keys.get("h"), facts.keys.get("kv")
        if heads and groups and facts.claimed[0].unit == "1":
            step = f"{heads:g} query heads on {groups:g} key-value heads: {heads / groups:g} times less"
            return Answer("cache", (Interval(heads / groups, heads / groups),), (step,))
    is_each = all(q.unit == "byte / token" for q in facts.claimed)
    is_cache = facts.claim.kind == "kv_cache" or facts.has("kv cache", "kv-cache", "key-value")
    if not is_cache or not (is_each or _are_bytes(facts)):
        return None
    counts = [q.value for q in facts.tokens]
    tokens = max(counts, default=facts.keys.get("s", 0.0))
    batch = facts.keys.get("b", 1.0)
    wide = min(facts.bits, default=16) / 8
    layers, heads, size = (facts.keys.get(key) for key in ("L", "kv", "hd"))
    if is_each or (facts.has("per token", "each token", "a token") and not counts):
        tokens = 1.0
    if not tokens:
        return None
    if layers and heads and size:
        each = 2 * layers * heads * size * wide
        step = f"2 x {layers:g} layers x {heads:g} heads x {size:g} x {wide:g} B = {each:,.0f} B a token"
        total = each * tokens * batch
        return Answer("cache", _exact([total]), (step, f"x {tokens:,.0f} tokens = {_bytes(total)}"))
    found = [one for one in subjects(facts) if one.size]
    if not found:
        return None
    one = found[0]
    inspection = one.shaped()
    assert inspection.architecture is not None
    encoding = encodings.find({1.0: "q8_0", 4.0: "fp32"}.get(wide, "bf16"))
    work = Workload(new_tokens=int(tokens), batch_size=int(batch))
    total = float(state_bytes(inspection.architecture, work, encoding))
    basis = Basis.EXACT if one.inspection is not None else Basis.ASSUMED
    step = f"{one.title}: {tokens:,.0f} tokens x {total / tokens / batch:,.0f} B = {_bytes(total)}"
    return Answer("cache", _exact([total], basis), (step,), (one.source,))


def training(facts: Facts) -> Answer | None:
    """Weights, gradients, master copies and Adam's states of a full training in mixed precision."""
    if facts.claim.kind not in ("", "inference_memory", "training_memory", "storage_size") or not _are_bytes(facts):
        return None
    if not facts.has("fine-tun", "finetun", "training", "adam", "optimizer") or facts.has("lora", "adapter"):
        return None
    if facts.claim.is_read and any(q.unit == "byte / parameter" for q in facts.said):
        return None
    found = [one for one in subjects(facts) if one.size]
    if len(found) != 1 or len(facts.claimed) != 1:
        return None
    size = facts.sizes[0].value if facts.sizes else found[0].size
    assert size is not None
    states = find_optimizer("adamw").state_bytes
    each = 2 + 2 + 4 + states
    step = f"2 (weights) + 2 (gradients) + 4 (master copy) + {states:g} (Adam) = {each:g} B a parameter"
    total = each * size
    return Answer("training memory", _exact([total]), (step, f"x {size:,.0f} = {_bytes(total)}, without activations"),
                  (found[0].source,), is_weak=facts.claimed[0].high < size)  # fmt: skip


def activations(facts: Facts) -> Answer | None:
    """What a forward pass holds beside weights and cache."""
    if not _are_bytes(facts) or not (facts.claim.kind == "activation_memory" or facts.has("activation")):
        return None
    found = [one for one in subjects(facts) if one.size]
    if not found or facts.has("training", "backward"):
        return None
    tokens = int(facts.keys.get("s") or max((q.value for q in facts.tokens), default=0)) or 512
    batch = int(facts.keys.get("b", 1))
    try:
        device = facts.devices[0][0] if facts.devices else find_device("a100-sxm-80")
        weights = 2 * (found[0].size or 0.0)
        count = next((n for n in (1, 2, 4, 8, 16, 32) if weights < LEAST_FREE * n * (device.memory_bytes or 1)), 64)
        plan = fit(found[0].shaped(), device, devices=count, prompt_tokens=tokens, output_tokens=1, batch=batch,
                   weights="bf16", alternatives=False)  # fmt: skip
    except WeighbridgeError:
        return None
    part = plan.memory.activation_bytes
    if part.value is None or part.low is None or part.high is None:
        return None
    step = (f"{found[0].title}, {batch} sequence(s) of {tokens:,} tokens: {_bytes(part.low)} to {_bytes(part.high)} "
            f"on each of {count} x {device.title}")  # fmt: skip
    return Answer("activations", (Interval(part.low, count * part.high, "byte", part.basis),), (step,),
                  (found[0].source,), is_weak=True)  # fmt: skip


def serving(facts: Facts) -> Answer | None:
    """Everything that serving holds for one sequence: weights, cache, activations, the engine."""
    if facts.claim.kind not in ("", "inference_memory") or not _are_bytes(facts) or len(facts.claimed) != 1:
        return None
    beside = ("overhead", "fine-tun", "finetun", "train", "adapter", "cache", "activation", "adam", "optimizer")
    if facts.devices or facts.has(*beside):
        return None
    if facts.claim.kind == "" and not facts.has("memory", "vram", "inference", "serv", "run"):
        return None
    found = [one for one in subjects(facts) if one.size]
    cards = [q for q in facts.given if q.unit == "byte"]
    if len(found) != 1 or cards:
        return None
    one, card = found[0], find_device("a100-sxm-80")
    size = facts.sizes[0].high if facts.sizes else one.size
    recipe = {32: "fp32", 8: "int8", 4: "int4"}.get(min(facts.bits, default=16), "bf16")
    weights = (size or 0.0) * min(facts.bits, default=16) / 8
    count = next((n for n in (1, 2, 4, 8, 16, 32) if weights < LEAST_FREE * n * (card.memory_bytes or 1)), 64)
    try:
        plan = fit(one.shaped(), card, devices=count, weights=recipe, context_tokens=USUAL_CONTEXT, alternatives=False)
    except WeighbridgeError:
        return None
    whole = plan.memory.total_bytes
    if whole.high is None:
        return None
    top = max(whole.high, weights)
    steps = (f"{one.title}: {_bytes(weights)} for the weights", f"up to {_bytes(top)} with a cache of "
             f"{USUAL_CONTEXT:,} tokens, activations and the engine on {count} x {card.title}")  # fmt: skip
    return Answer("serving memory", (Interval(weights, top, "byte", whole.basis),), steps, (one.source,))


def room(facts: Facts) -> Answer | None:
    """Whether bytes that are said to be enough hold the weights alone, at the fewest bits that are named or usual."""
    if facts.claim.kind not in ("", "inference_memory", "training_memory") or not _are_bytes(facts):
        return None
    found = [one for one in subjects(facts) if one.size]
    if len(found) != 1 or len(facts.claimed) != 1 or facts.devices or facts.has("cache", "activation", "overhead"):
        return None
    if not facts.claim.kind:
        return None
    size = facts.sizes[0].value if facts.sizes else found[0].size or 0.0
    bits = min(facts.bits, default=_SMALLEST)
    least = size * bits / 8
    step = f"{size / 1e9:g}B x {bits / 8:g} B = {_bytes(least)} for the weights alone"
    return Answer("room", (Interval(least, least, "byte", Basis.EXACT, "least"),), (step,), (found[0].source,))


def number(facts: Facts) -> Answer | None:
    """How many devices a model needs at least, to hold its weights alone."""
    if facts.claim.kind not in ("", "inference_memory") or len(facts.claimed) != 1 or len(facts.devices) != 1:
        return None
    claimed, (device, _) = facts.claimed[0], facts.devices[0]
    if claimed.unit not in (NOTHING, "device") or claimed.has_magnitude or claimed.is_share or claimed.high > 10_000:
        return None
    counted = rf"{re.escape(claimed.text)}\s*(?:x|×)?\s*(?:NVIDIA )?\S*[A-Z]+\d|\bGPUs?\b|\bcards?\b"
    if not re.search(counted, facts.claim.claimed or facts.claim.quote):
        return None
    sizes = [one.size or 0.0 for one in subjects(facts)] or [q.value for q in facts.sizes]
    if facts.sizes:
        sizes = [facts.sizes[0].value]
    if len(sizes) != 1 or not sizes[0] or not device.memory_bytes:
        return None
    bits = min(facts.bits, default=16)
    need = sizes[0] * bits / 8
    least = math.ceil(need / device.memory_bytes)
    steps = (f"{sizes[0] / 1e9:g}B x {bits / 8:g} B = {_bytes(need)}",
             f"/ {_bytes(device.memory_bytes)} of {device.title}: at least {least}")  # fmt: skip
    verdict = Verdict.WRONG if claimed.high < least else Verdict.CONFIRMED if claimed.low <= 2 * least else None
    return Answer("devices", (Interval(least, least, claimed.unit, Basis.EXACT, "least"),), steps, (_source(device),),
                  verdict)  # fmt: skip


_NOT = re.compile(
    r"\b(?:cannot|can't|can not|won't|will not|doesn't|does not|never|unable|too (?:big|large)|impossible)\b"
)
_SAYS_RUNS = re.compile(
    r"\b(?:runs?|running|fits?|fitting|held|holds?|deploy\w*|trains?|fine-tunes?|serves?|served|loads?)\b.{0,60}"
    r"\b(?:on|in|into|by|with)\b"
)
_RUNS = re.compile(r"\b(?:runs?|running|fits?|fitting|on|holds?|deploy\w*|train\w*|fine-tun\w*|serves?|loads?)\b")


def fits(facts: Facts) -> Answer | None:
    """Whether a model, or the bytes that are claimed for it, fits the devices that are named."""
    claim = facts.claim
    kinds = ("", "inference_memory", "training_cost", "training_memory", "lora_trainable")
    if claim.kind not in (*kinds, "model_param_count" if claim.is_read else ""):
        return None
    quote = claim.quote.lower()
    capacities = [(device, count * (device.memory_bytes or 0)) for device, count in facts.devices]
    capacities = [one for one in capacities if one[1]]
    says = _SAYS_RUNS if claim.is_read else _RUNS
    if (
        not capacities
        or not says.search(quote)
        or (claim.is_read and not subjects(facts) and not any(map(is_size, facts.claimed)))
    ):
        return None
    needs, steps, sources = _needs(facts)
    if not needs or any(need <= 0 for need in needs):
        return None
    negative = _NOT.search(quote) is not None
    verdicts = [all(need <= room for need in needs) for _, room in capacities]
    described = [f"{device.title} x {count}: {_bytes(room)}" for (device, room), count in
                 zip(capacities, (count for _, count in facts.devices), strict=False)]  # fmt: skip
    does = all(verdicts)
    if claim.kind == "training_cost" and does:
        return None
    if negative:
        does = not any(verdicts)
        least = [q for q in facts.claimed if is_size(q) and q.relation in (">", ">=")]
        if least:
            return None
    verdict = Verdict.CONFIRMED if does else Verdict.WRONG
    said = f"{'more' if not all(verdicts) else 'no more'} than there is: {', '.join(described)}"
    return Answer("fits", _exact(needs), (*steps, said), (*sources, *(_source(device) for device, _ in capacities)),
                  verdict)  # fmt: skip


def _needs(facts: Facts) -> tuple[list[float], tuple[str, ...], tuple[str, ...]]:
    """The bytes that have to fit: those claimed, else the weights at the precision named, or the usual 16 bits."""
    if _are_bytes(facts):
        return [q.high for q in facts.claimed], tuple(f"{q.text} is needed, as claimed" for q in facts.claimed), ()
    found: list[Subject] = [one for one in subjects(facts) if one.size]
    sizes = [q.high for q in (*facts.claimed, *facts.sizes) if is_size(q)] or [one.size or 0.0 for one in found]
    if not sizes:
        return [], (), ()
    trains = facts.has("train", "fine-tun")
    bits = min(facts.bits, default=_SMALLEST if trains else 16)
    size = max(sizes)
    need = size * bits / 8
    step = f"{size / 1e9:g}B x {bits / 8:g} B = {_bytes(need)} for the weights alone"
    return [need], (step,), tuple(one.source for one in found[:1])


def _source(device: Device) -> str:
    return f"{device.title}: {device.source_of('memory_bytes')}"


RULES = (cache, training, activations, sparse, number, fits, serving, precision, storage, room)
