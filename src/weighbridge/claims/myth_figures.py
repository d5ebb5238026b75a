"""The numbers that settle each myth, and the verdict that follows from them.

A verdict is worked out, never written down: each function ends in a comparison of its own numbers.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from weighbridge.claims.computed import planned, ratio, specified, stored, tokens, total, weighed
from weighbridge.claims.entry import Settled
from weighbridge.claims.figure import Figure, count
from weighbridge.claims.published import published
from weighbridge.claims.question_figures import FIGURES as ANSWERS
from weighbridge.claims.question_figures import stated
from weighbridge.compress.prior import RECOVERIES, expected_loss
from weighbridge.estimate import Basis, Estimate
from weighbridge.model.catalogue import NamedModel, find_model, models
from weighbridge.predict.demand import demand
from weighbridge.predict.scaling_laws.forms import Additive
from weighbridge.predict.scaling_laws.laws import DEFAULT, laws
from weighbridge.predict.scaling_laws.optimum import predicted_loss

BILLION = 10**9
LEAST_KEPT = 0.95
"""A share of accuracy; what may keep less is called crippled here: assumed."""
FEW_TOKENS, MANY_TOKENS = 2 * 10**11, 15 * 10**12


def _one() -> Settled:
    found = {
        "large": stated("gopher"), "small": stated("chinchilla"), "large_right": published("gopher-mmlu"),
        "small_right": published("chinchilla-mmlu"),
    }  # fmt: skip
    for short, name in (("large", "gopher"), ("small", "chinchilla")):
        loss = predicted_loss(DEFAULT, find_model(name).stated or 0, tokens(name))
        found[f"{short}_loss"] = Figure(f"predicted loss of {find_model(name).title}", loss)
    return Settled(found, refuted=value(found["small_right"]) > value(found["large_right"])
                   and value(found["small"]) < value(found["large"]))  # fmt: skip


@functools.cache
def sizes() -> Mapping[str, int]:
    """The parameters of every named model, counted or as its developer states them; without those not disclosed."""
    found: dict[str, int] = {}
    for model in models():
        size = weighed(model.name).parameters.total if model.config else model.stated
        if size is not None:
            found[model.name] = size
    return found


def _two() -> Settled:
    known, small, kept = sizes(), total("distilbert"), published("distilbert-glue")
    below = sum(size < BILLION for size in known.values())
    figures = {
        "small": small, "kept": kept, "all": count("named models whose size is known", len(known), "models"),
        "below": count("with less than a billion", below, ""),
        "least": count("parameters of the smallest", min(known.values())),
    }  # fmt: skip
    return Settled(figures, refuted=value(small) < BILLION and value(kept) >= LEAST_KEPT)


def _three() -> Settled:
    size = weighed("llama-3.1-8b").parameters.total
    few, many = (predicted_loss(DEFAULT, size, seen) for seen in (FEW_TOKENS, MANY_TOKENS))
    assert few.low is not None and many.high is not None
    gap = few.low - many.high
    figures = {
        "size": total("llama-3.1-8b"), "few": count("few tokens", FEW_TOKENS, "tokens"),
        "few_loss": Figure("loss with few", few),
        "many": count("many tokens", MANY_TOKENS, "tokens"), "many_loss": Figure("loss with many", many),
        "apart": Figure("between the intervals", Estimate(gap, gap, gap, "", Basis.MODELLED)),
    }  # fmt: skip
    return Settled(figures, refuted=gap > 0)


def _four() -> Settled:
    figures = {name: stored("llama-3.1-8b", recipe)
               for name, recipe in (("fp32", "fp32"), ("bf16", "bf16"), ("q8", "q8_0"), ("q2", "q2_k"))}  # fmt: skip
    apart = len({value(figure) for figure in figures.values()}) > 1
    figures["ratio"] = ratio("largest over smallest", figures["fp32"].amount, figures["q2"].amount)
    return Settled({"total": total("llama-3.1-8b"), **figures}, refuted=apart)


def _five() -> Settled:
    known = sizes()
    most = {access: max((name for name in known if find_model(name).access == access), key=lambda name: known[name])
            for access in ("open weights", "closed")}  # fmt: skip
    largest = {access: _size(find_model(name), known[name]) for access, name in most.items()}
    hidden = sum(model.name not in known for model in models() if model.access == "closed")
    figures = {
        "open": largest["open weights"], "closed": largest["closed"],
        "ratio": ratio("open over closed", largest["open weights"].amount, largest["closed"].amount),
        "hidden": count("closed models that are not disclosed", hidden, "closed models"),
    }  # fmt: skip
    return Settled(figures, refuted=value(figures["open"]) >= value(figures["closed"]))


def _size(model: NamedModel, size: int) -> Figure:
    if model.config:
        return count(f"parameters of {model.title}", size)
    return specified(f"parameters of {model.title}", float(size), "parameters", model.source_of("stated"))


def _six() -> Settled:
    kept = {bits: Estimate(*RECOVERIES[scheme][:3], "share", Basis.MEASURED, RECOVERIES[scheme][3])
            for bits, scheme in (("four", "w4a16"), ("two", "w2a16"))}  # fmt: skip
    size = weighed("llama-3.1-8b").parameters.total
    small, large = stored("llama-3.1-8b", "q4_k_m"), stored("llama-3.1-8b", "bf16")
    loss = expected_loss(8 * value(small) / size, size, training_tokens=tokens("llama-3.1-8b"))
    assert loss.value is not None and loss.low is not None and loss.high is not None
    growth = Estimate(math.expm1(loss.value), math.expm1(loss.low), math.expm1(loss.high), "share", loss.basis)
    figures = {"four": Figure("accuracy kept in 4 bits", kept["four"]), "two": Figure("in 2 bits", kept["two"]),
               "small": small, "large": large, "growth": Figure("expected growth of perplexity", growth)}  # fmt: skip
    held = {bits: (share.low or 0.0) >= LEAST_KEPT for bits, share in kept.items()}
    return Settled(figures, refuted=any(held.values()), holds_in_part=not all(held.values()))


def _seven() -> Settled:
    found = dict(ANSWERS["q23"]())
    more = value(found["large_loss"]) - value(found["best_loss"])
    found["more"] = Figure("higher by", Estimate(more, more, more, "nats/token", Basis.MODELLED))
    return Settled(found, refuted=more > 0)


def _eight() -> Settled:
    speeds = {short: planned("llama-3.1-8b", on, weights="q4_k_m").speed.decode_tok_s
              for short, on in (("fast", "rtx-4090"), ("slow", "apple-m1"))}  # fmt: skip
    figures = {"fast": Figure("speed on an RTX 4090", speeds["fast"]), "slow": Figure("speed on an M1", speeds["slow"])}
    for short, name in (("mixture", "mixtral-8x7b"), ("dense", "qwen2.5-32b")):
        figures[short] = total(name)
        used = weighed(name).parameters.active_per_token
        figures[f"{short}_used"] = count(f"parameters that a token of {find_model(name).title} uses", used)
    apart = (speeds["fast"].low or 0.0) > (speeds["slow"].high or math.inf)
    larger = value(figures["mixture"]) > value(figures["dense"])
    uses_less = value(figures["mixture_used"]) < value(figures["dense_used"])
    return Settled(figures, refuted=apart and larger and uses_less)


@functools.cache
def _inverted() -> tuple[int, int, dict[str, int]]:
    """Dense models with published tokens, their pairs, and by each law the pairs of which the smaller has less loss."""
    dense = [model for model in models() if model.config and model.training_tokens and writes_text(model)
             and weighed(model.name).parameters.active_per_token == weighed(model.name).parameters.total]  # fmt: skip
    points = sorted((weighed(model.name).parameters.total, tokens(model.name)) for model in dense)
    pairs = [(one, other) for one, other in itertools.combinations(points, 2) if one[0] < other[0]]
    by_law = {law.title: sum(law.loss(*one) < law.loss(*other) for one, other in pairs)
              for law in laws().values() if isinstance(law, Additive) and law.active_share == 1.0}  # fmt: skip
    return len(points), len(pairs), by_law


def writes_text(model: NamedModel) -> bool:
    """Whether a model writes text, token by token."""
    architecture = weighed(model.name).architecture
    return architecture is not None and bool(demand(architecture).caches)


def _nine() -> Settled:
    known, pairs, by_law = _inverted()
    ends = [replace(Estimate.exact(0, "share"), value=found / pairs, low=found / pairs, high=found / pairs,
                    basis=Basis.MODELLED, note=law)
            for law, found in sorted(by_law.items(), key=lambda item: item[1])]  # fmt: skip
    figures = {
        "pairs": count("pairs of another size", pairs, "pairs"), "models": count("dense models", known, "dense models"),
        "inverted": Figure("the smaller is better, at least", ends[0]), "most": Figure("at most", ends[-1]),
    }  # fmt: skip
    return Settled(figures, refuted=value(figures["inverted"]) > 0)


def value(figure: Figure) -> float:
    """The value of a figure that is known."""
    assert figure.amount.value is not None, f"{figure.label} is unknown: {figure.amount.note}"
    return figure.amount.value


FIGURES: Mapping[str, Callable[[], Settled]] = {
    "myth1": _one, "myth2": _two, "myth3": _three, "myth4": _four, "myth5": _five, "myth6": _six, "myth7": _seven,
    "myth8": _eight, "myth9": _nine,
}  # fmt: skip
"""What settles each myth."""
