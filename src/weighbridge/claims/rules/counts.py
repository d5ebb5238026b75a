"""Counts: parameters of a layer, of a model, of a part of it, and how many of them a token uses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from weighbridge.claims.claim import Answer, Interval, Verdict
from weighbridge.claims.facts import Facts
from weighbridge.claims.judge import CLOSE
from weighbridge.claims.measure import NOTHING
from weighbridge.claims.quantity import Quantity, is_size
from weighbridge.claims.rules.subject import KEY_NAMES, Subject, named, subjects
from weighbridge.claims.subjects import names
from weighbridge.errors import WeighbridgeError
from weighbridge.estimate import Basis
from weighbridge.layer import count_layer
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.tensors import Component

_KERNEL = re.compile(r"(\d+)\s?[x×]\s?(\d+)\b")
_CHANNELS = (
    re.compile(r"(\d+)\s+(?:in\b|input)[^\d]*(\d+)\s+(?:out\b|output|filters)"),
    re.compile(r"(\d+)\s*(?:->|→|to)\s*(\d+)"),
    re.compile(r"(\d+) filters[^\d]+(\d+)[- ](?:input )?channels"),
)  # fmt: skip
_DENSE = re.compile(r"(\d[\d,]*)\s*(?:->|→|to|x|×|by)\s*(\d[\d,]*)")


def _whole(number: float) -> str:
    return f"{number:,.0f}"


def _exact(*numbers: float, unit: str = NOTHING) -> tuple[Interval, ...]:
    return tuple(Interval(number, number, unit) for number in numbers)


def is_count(quantity: Quantity) -> bool:
    """Whether a claimed number can count parameters."""
    return quantity.unit in (NOTHING, "parameter") and not quantity.is_share


def layer(facts: Facts) -> Answer | None:
    """Weights of one layer, with and without its biases, from the sizes that the statement gives."""
    claim = facts.claim
    if claim.kind not in ("", "layer_param_count") or not facts.claimed or not all(map(is_count, facts.claimed)):
        return None
    specs = list(_specs(facts))
    if not specs:
        return None
    try:
        counts = [count_layer(spec) for spec in specs]
    except WeighbridgeError:
        return None
    steps = tuple(f"{one.spec}: {one.formula} = {_whole(one.parameters)}" for one in counts)
    if len(specs) == len(facts.claimed) > 1:
        return Answer("layer", _exact(*(one.parameters for one in counts)), steps)
    first = counts[0]
    both = dict.fromkeys((first.without_bias, first.with_bias))
    return Answer("layer", _exact(*both), (*steps, f"without biases {_whole(first.without_bias)}, with them "
                  f"{_whole(first.with_bias)}"), conventions=True)  # fmt: skip


def _specs(facts: Facts) -> Iterator[str]:
    keys, text = facts.keys, facts.text
    whole = {name: int(value) for name, value in keys.items() if value == int(value) > 0}
    if facts.has("router", "gating network", "gate"):
        return
    if facts.has("conv") or _KERNEL.search(text):
        kernel = _KERNEL.search(text)
        channels = next((found for pattern in _CHANNELS if (found := pattern.search(text))), None)
        if kernel and channels and not facts.models:
            yield f"conv:{kernel[1]}x{kernel[2]}:{channels[1]}:{channels[2]}"
            return
    if facts.has("attention", "self-attention", "qkv"):
        widths = [int(value) for value in re.findall(r"\bd(?:_model)?\s?=\s?(\d+)", text)]
        if len(widths) > 1 and len(widths) == len(facts.claimed):
            yield from (f"attention:{width}:1" for width in widths)
        elif "d" in whole:
            heads = whole.get("h", 1)
            groups = ":kv={kv}".format(**whole) if {"kv", "h"} <= whole.keys() else ""
            yield f"attention:{whole['d']}:{heads}{groups}"
        return
    if facts.has("feed-forward", "feedforward", "ffn", "mlp") and {"d", "ff"} <= whole.keys():
        yield f"mlp:{whole['d']}:{whole['ff']}"
    elif facts.has("embedding") and {"V", "d"} <= whole.keys():
        yield f"embedding:{whole['V']}x{whole['d']}"
    elif facts.has("layernorm", "layer norm") and "d" in whole:
        yield f"layernorm:{whole['d']}"
    elif {"in", "out"} <= whole.keys():
        yield f"linear:{whole['in']}x{whole['out']}"
    elif facts.has("dense", "linear", "fully connected", "fully-connected") and (found := _DENSE.search(text)):
        yield "linear:{}x{}".format(*(part.replace(",", "") for part in found.groups()))


def router(facts: Facts) -> Answer | None:
    """Weights of the routers: width x experts, once a layer that has experts."""
    if not facts.has("router", "gating network") or not facts.claimed or not all(map(is_count, facts.claimed)):
        return None
    width, experts, layers = (facts.keys.get(key) for key in ("d", "E", "L"))
    if width and experts and layers:
        count = width * experts * layers
        step = f"{width:g} wide x {experts:g} experts x {layers:g} layers = {_whole(count)}"
        return Answer("router", _exact(count), (step,))
    for one in subjects(facts):
        if one.inspection is not None and one.inspection.parameters.by_component["router"]:
            count = one.inspection.parameters.by_component["router"]
            return Answer("router", _exact(count), (f"routers of {one.title}: {_whole(count)}",), (one.source,))
    return None


_PARTS = (
    ("vision", r"(?:vision|image)[- ](?:encoder|tower|model|transformer|side)"), ("text", r"text[- ](?:encoder|tower)"),
    ("unet", r"u-?net"), ("vae", r"\bvae\b|autoencoder"), ("refiner", r"refiner[- ]u-?net"),
)  # fmt: skip
_COMPONENTS = (
    ("norm", r"(?:batch|layer|rms)[- ]?norm|normali[sz]ation"), ("embedding", r"embeddings?\b"),
    ("attention", r"attention"), ("mlp", r"feed-?forward|\bmlp\b|\bffn\b"),
    ("experts", r"experts? (?:weights|parameters)"), ("head", r"output head|lm head|unembedding"),
)  # fmt: skip
_KINDS = ("", "model_param_count", "layer_param_count", "moe_active", "distillation")
SAME = 0.005
"""What a size in a name may be off by for no better reason than its digits."""
_SAYS_COUNT = re.compile(r"param|weights|\bhas \S*\d|\bhave \S*\d|\bis (?:exactly |about )?\S*\d\S*[bmt]\b|size")
"""How a sentence of a text says that its number counts parameters."""
_NEAR_ACTIVE = r"\bactive|activat|per token"
"""How a text says that not all parameters are meant."""
_HAS_COUNT = (
    r"(?:has|have|holds?|contains?|counts?|is|are|totals?|comes? to|with|parameters:?)"
    r"(?: about| exactly| roughly| around| nearly| some| over| only| a total of| ~)* ?"
)
"""What stands before the count of a model; another number beside `parameters` may be of a part."""
_GOES_ON = re.compile(r"^(?:or|and|but|it|its|this|that|these|the model|another|while)\b")
"""How a sentence begins that speaks of the model of the one before."""


def model(facts: Facts) -> Answer | None:
    """Parameters of a model, of a part of it, or those that a token uses; as a number or as a share of all."""
    if facts.claim.kind not in _KINDS or not facts.claimed:
        return None
    if not all(is_count(q) or q.is_share for q in facts.claimed):
        return None
    is_share = all(q.is_share for q in facts.claimed)
    sized = next((q.value for q in facts.claimed if q.low >= 1e6), None)
    found = subjects(facts, sized)
    if facts.named_models and (listed := _series(facts)):
        return listed
    counted = [one for one in found if one.inspection is not None]
    if not counted:
        if found and not is_share and len(facts.claimed) == 1 and found[0].model and found[0].size:
            return _stated(found[0])
        if found and found[0].model and found[0].size is None:
            return None
        return _nominal(facts)
    answers = [answer for one in counted if (answer := _aspect(facts, one, is_share))]
    if not answers:
        return None
    if len(answers) == 1 or not is_share:
        return answers[0]
    return _spread(answers)


def _spread(answers: list[Answer]) -> Answer:
    """Several models that one statement names: what it says has to hold of each."""
    values = [interval for answer in answers for interval in answer.computed]
    low, high = min(v.low for v in values), max(v.high for v in values)
    steps = tuple(step for answer in answers for step in answer.steps)
    sources = tuple(dict.fromkeys(source for answer in answers for source in answer.sources))
    return Answer(answers[0].rule, (Interval(low, high),), steps, sources)


def _stated(one: Subject) -> Answer:
    assert one.size is not None
    return Answer("developer", (Interval(one.size, one.size, NOTHING, Basis.SPECIFIED),),
                  (f"the developer of {one.title} states {_whole(one.size)}",), (one.source,))  # fmt: skip


def _nominal(facts: Facts) -> Answer | None:
    """A size that says itself: `a 70B model has about 70B weights`."""
    sizes = [q for q in facts.said if is_size(q)]
    if facts.claim.kind == "model_param_count" and len(facts.claimed) == 1 == len(sizes) == len(facts.said):
        one = sizes[0]
        error = abs(facts.claimed[0].value / one.value - 1)
        if error > CLOSE:
            return None
        verdict = Verdict.CONFIRMED if error < SAME else Verdict.CLOSE
        return Answer("developer", (Interval(one.low, one.high, basis=Basis.SPECIFIED),), ("as its size says",),
                      (), verdict)  # fmt: skip
    return None


def _series(facts: Facts) -> Answer | None:
    """Sizes of a series of models, each claimed as one number."""
    if len(facts.claimed) < 2 or len(facts.named_models) != 1 or not facts.has("sizes", "models", "versions", "family"):
        return None
    thing = facts.named_models[0]
    called = [f"{thing.text} {quantity.text}" for quantity in facts.claimed]
    found = [names(name) for name in called]
    if not all(
        len(one) == 1 and one[0].models and one[0].text == name for one, name in zip(found, called, strict=True)
    ):
        return None
    members = [named(one[0].models[0].name) for one in found]
    sizes = [one.size for one in members]
    steps = tuple(f"{one.title}: {_whole(one.size or 0)}" for one in members)
    return Answer("total", _exact(*(size or 0 for size in sizes)), steps, tuple(one.source for one in members))


def _aspect(facts: Facts, one: Subject, is_share: bool) -> Answer | None:
    assert one.inspection is not None
    counts, architecture = one.inspection.parameters, one.inspection.architecture
    assert architecture is not None
    quote = facts.claim.quote.lower()
    kind, sources = facts.claim.kind, (one.source,)
    total = counts.total
    if is_share:
        label, part = _share(facts, one)
        if label == "":
            return None
        step = f"{label} of {one.title}: {_whole(part)} of {_whole(total)} = {part / total:.4%}"
        return Answer("share", _exact(part / total), (step,), sources)
    if "per block" in facts.text or re.search(r"blocks? (?:hold|have|has|contain)", quote):
        return _blocks(one)
    if len(facts.claimed) == 2 and re.search(r"\bactive\b|per token|for a token|activates", quote):
        step = f"{one.title}: {_whole(total)} in all, {_whole(counts.active_per_token)} active"
        return Answer("active", _exact(total, counts.active_per_token), (step,), sources)
    if len(facts.claimed) != 1:
        return None
    if kind == "moe_active" or re.search(r"\bactive\b|per token|activates|activated", quote):
        if facts.claimed[0].low < 1e6:
            return None
        step = f"{one.title}: {_whole(counts.active_per_token)} of {_whole(total)} are active for a token"
        is_weak = facts.claim.is_read and not (len(facts.models) < 2 and re.search(_NEAR_ACTIVE, quote))
        return Answer("active", _exact(counts.active_per_token, counts.active_per_token - counts.embedding), (step,),
                      sources, conventions=True, is_weak=is_weak)  # fmt: skip
    for name, pattern in _PARTS:
        if re.search(pattern, quote):
            part = _part(one, name)
            step = f"{name} of {one.title}: {_whole(part)}"
            return Answer("part", _exact(part), (step,), sources, is_weak=True) if part else None
    if facts.claimed[0].low < 1e4:
        return None
    for name, pattern in _COMPONENTS:
        if re.search(pattern, quote) and counts.by_component[name]:
            part = counts.by_component[name]
            step = f"{name} of {one.title}: {_whole(part)}"
            return Answer("part", _exact(part), (step,), sources, is_weak=True)
    if kind == "layer_param_count":
        return None
    if facts.claim.is_read and not (_SAYS_COUNT.search(quote) and len(facts.models) < 2):
        return None
    said = rf"{_HAS_COUNT}{re.escape(facts.claimed[0].text.lower())}"
    is_weak = facts.claim.is_read and re.search(said, quote) is None
    if not facts.named_models and not _GOES_ON.match(facts.claim.quote) and not facts.keys:
        return None
    return replace(_total(one), is_weak=is_weak)


def _total(one: Subject) -> Answer:
    assert one.inspection is not None
    counts = one.inspection.parameters
    ways = {"in all": counts.total, "with a tied head counted twice": counts.tied_per_use,
            "without the embedding tables": counts.non_embedding}  # fmt: skip
    ways |= {f"its {name} alone": size for name, size in counts.by_part.items() if "unet" in name or "transf" in name}
    ways = {name: size for name, size in ways.items() if size != counts.total or name == "in all"}
    step = f"{one.title}: " + ", ".join(f"{_whole(size)} {name}" for name, size in ways.items())
    return Answer("total", _exact(*ways.values()), (step,), (one.source,), conventions=True)


def _share(facts: Facts, one: Subject) -> tuple[str, int]:
    assert one.inspection is not None
    counts, quote = one.inspection.parameters, facts.claim.quote.lower()
    if re.search(r"dormant|inactive|idle|unused", quote):
        return "what no token of its own uses", counts.total - counts.active_per_token
    if facts.claim.kind == "moe_active" or re.search(r"\bactive\b|activates?|per token|\buses?\b", quote):
        return "what a token uses", counts.active_per_token
    if facts.claim.kind in ("layer_param_count", "model_param_count", ""):
        for name, pattern in _COMPONENTS:
            if re.search(pattern, quote) and counts.by_component[name]:
                return name, counts.by_component[name]
    return "", 0


def _part(one: Subject, name: str) -> int:
    assert one.inspection is not None
    architecture, by_part = one.inspection.architecture, one.inspection.parameters.by_part
    assert architecture is not None
    if by_part:
        if name == "text":
            return sum(size for part, size in by_part.items() if part.startswith("text"))
        return next((size for part, size in by_part.items() if part.startswith(name)), 0)
    groups = [group for group in architecture.groups if group.weight.kind.value == "parameter"]
    vision = Component.VISION_AUDIO if name == "vision" else None
    return sum(group.elements for group in groups if group.path.startswith(name) or group.component is vision)


_STAGED = re.compile(r"^(.*?(?:stages?|layer|blocks?)\.?\d*\.(?:layers?|blocks?)\.\d+)\.")


def _blocks(one: Subject) -> Answer | None:
    """The parameters of each residual block of a network that has stages."""
    assert one.inspection is not None and one.inspection.architecture is not None
    sizes: dict[str, int] = {}
    for placement in one.inspection.architecture.placements:
        match = _STAGED.match(placement.path)
        if match:
            sizes[match[1]] = sizes.get(match[1], 0) + placement.block.parameters * placement.repeat
    if not sizes:
        return None
    low, high = min(sizes.values()), max(sizes.values())
    step = f"the {len(sizes)} blocks of {one.title} have {_whole(low)} to {_whole(high)}"
    return Answer("blocks", (Interval(low, high),), (step,), (one.source,))


_SHAPE = (
    ("layers", r"conv(?:olution(?:al)?)? layers"), ("experts", r"\bexperts?\b"), ("heads", r"\bheads?\b"),
    ("layers", r"\blayers?\b"),
)  # fmt: skip


_CONTEXT = (
    r"context (?:window|length)|(?:has|have|supports?|offers?|reads?) (?:a |up to )?(?:context|\S+ tokens of context)"
)


def shape(facts: Facts) -> Answer | None:
    """Layers, experts and heads of a model, and the tokens of its context: whole numbers, equal or not."""
    if len(facts.claimed) != 1 or (not facts.named_models and not facts.before):
        return None
    claimed, quote = facts.claimed[0], facts.claim.quote.lower()
    if (
        claimed.is_share
        or claimed.low > 1e7
        or re.search(r"times|fold|[x×]$", claimed.text)
        or facts.has("trained on", "training tokens")
    ):
        return None
    found = [one for one in subjects(facts) if one.inspection is not None]
    if not found:
        return None
    one = found[0]
    assert one.inspection is not None and one.inspection.architecture is not None
    architecture = one.inspection.architecture
    said = f"{facts.claim.claimed} {quote}".lower()
    sources = (one.source,)
    if (
        re.search(_CONTEXT if facts.claim.is_read else r"context", said)
        and claimed.unit in (NOTHING, "token")
        and claimed.low >= 128
    ):
        longest = one.inspection.longest_context
        if longest is None:
            return None
        return Answer("context", _exact(longest), (f"{one.title} has {longest:,} positions",), sources, is_whole=True)
    if claimed.unit not in (NOTHING, "layer", "expert", "head") or claimed.low >= 1e6 or claimed.has_magnitude:
        return None
    wide = re.search(r"hidden (?:size|dim\w*)|d_model|embedding (?:size|dim\w*)|width|vocab\w*", said)
    if wide is not None and facts.named_models and one.model is not None:
        spellings = KEY_NAMES["V" if wide[0].startswith("vocab") else "d"]
        size = next((one.model.config[name] for name in spellings if name in one.model.config), None)
        if not isinstance(size, int):
            return None
        return Answer("shape", _exact(size), (f"{wide[0]} of {one.title}: {size:,}",), sources, is_whole=True)
    if re.search(r"conv(?:olution(?:al)?)? layers", said):
        paths = [p.path for p in architecture.placements if isinstance(p.block, Convolution) for _ in range(p.repeat)]
        main = [path for path in paths if "shortcut" not in path and "downsample" not in path]
        if not paths:
            return None
        step = f"{one.title} has {len(main)} convolutions, {len(paths)} with those of its shortcuts"
        return Answer("shape", _exact(*dict.fromkeys((len(main), len(paths)))), (step,), sources, conventions=True,
                      is_whole=True)  # fmt: skip
    stated = re.search(r"\b(layers?|experts?|heads?)\b", said)
    value = {"l": architecture.num_layers, "e": architecture.num_experts, "h": architecture.num_heads}
    if stated is None or not value[stated[1][0]] or re.search(r"active|per token|top-", said):
        return None
    count = value[stated[1][0]]
    return Answer("shape", _exact(count), (f"{one.title} has {count:,} {stated[1]}",), sources, is_whole=True)


RULES = (router, layer, shape, model)
