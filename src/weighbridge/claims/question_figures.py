"""The numbers of the answers to questions, each from the engine that answers it elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from weighbridge.claims.computed import (
    FINE_TUNING_TOKENS,
    planned,
    ratio,
    share,
    specified,
    stated_tokens,
    stored,
    tokens,
    total,
    trained,
    weighed,
)
from weighbridge.claims.entry import Compute
from weighbridge.claims.figure import Figure, Figures, count
from weighbridge.claims.published import published
from weighbridge.costing import cost
from weighbridge.estimate import Basis, Estimate
from weighbridge.hardware.catalogue import find_device
from weighbridge.inspection import inspect
from weighbridge.model.catalogue import Claim, find_model
from weighbridge.predict.bill import over
from weighbridge.predict.scaling_laws.laws import DEFAULT, additive_law
from weighbridge.predict.scaling_laws.optimum import DENSE, optimum, predicted_loss
from weighbridge.predict.scaling_laws.supply import supply
from weighbridge.predict.thresholds import rules
from weighbridge.scaling import size_gains
from weighbridge.units import parse_seconds

SMALLEST = {
    "words": "mlperf-tiny-keyword-spotting", "pictures": "mobilenet-v2", "vectors": "all-minilm-l6-v2",
    "moods": "distilbert", "speech": "whisper-tiny", "chat": "llama-3.2-1b",
}  # fmt: skip
"""Named models that do a task with few parameters. That none does it with fewer is not said."""


def _q1() -> Figures:
    seen, held = stated_tokens("llama-2-70b"), total("llama-2-70b")
    return {
        "parameters": held,
        "tokens": seen,
        "ratio": ratio("tokens a parameter", seen.amount, held.amount, "tokens"),
    }


def _q2() -> Figures:
    whole = trained("llama-2-7b", tokens("llama-2-7b"), 64)
    tuned = trained("llama-2-7b", FINE_TUNING_TOKENS, method="qlora", on="rtx-4090")
    return {
        "tokens": stated_tokens("llama-2-7b"), "days": Figure("days on 64 H100s", whole.hours.days),
        "cost": Figure("their price", whole.cost_usd),
        "few": count("tokens of fine-tuning", FINE_TUNING_TOKENS, "tokens"),
        "hours": Figure("hours of an RTX 4090", tuned.hours.device_hours),
        "memory": Figure("memory of QLoRA", tuned.memory.per_device_bytes),
        "little": Figure("its price", tuned.cost_usd),
    }  # fmt: skip


def stated(name: str) -> Figure:
    """Parameters that a developer states."""
    model = find_model(name)
    assert model.stated is not None
    return specified(f"parameters of {model.title}", float(model.stated), "parameters", model.source_of("stated"))


def _q3() -> Figures:
    return {"small": stated("chinchilla"), "large": stated("gopher"), "small_right": published("chinchilla-mmlu"),
            "large_right": published("gopher-mmlu")}  # fmt: skip


def _q4() -> Figures:
    found = sorted(size_gains(7e9, [10]).gains, key=lambda one: one.share.value or 0.0)
    return {name: Figure(f"{name}, by {one.law.title}", replace(one.share, low=one.share.value, high=one.share.value,
                                                                unit="share", note=""))
            for name, one in (("least", found[0]), ("most", found[-1]))}  # fmt: skip


def active_share(name: str) -> Figure:
    """The share of a model's parameters that a token uses."""
    found = weighed(name).parameters
    return share(f"active share of {find_model(name).title}", found.active_per_token, found.total)


def _q5() -> Figures:
    return {short: active_share(name) for short, name in
            (("dense", "llama-2-70b"), ("mixtral", "mixtral-8x7b"), ("deepseek", "deepseek-v3"))}  # fmt: skip


def _q6() -> Figures:
    rule = round(optimum("twenty", parameters=weighed("llama-3.2-1b").parameters.total).tokens.value or 0)
    short = trained("llama-3.2-1b", rule, 8)
    long = trained("llama-3.2-1b", tokens("llama-3.2-1b"), 512)
    return {"few": count("tokens by the rule", rule, "tokens"), "short": Figure("days on 8 H100s", short.hours.days),
            "many": stated_tokens("llama-3.2-1b"), "long": Figure("days on 512 H100s", long.hours.days)}  # fmt: skip


def _q7() -> Figures:
    last = trained("bert-base", FINE_TUNING_TOKENS, method="freeze", layers=2)
    lora = trained("llama-2-7b", FINE_TUNING_TOKENS, method="lora")
    frozen = last.parameters - last.trainable_parameters
    return {"frozen": count("frozen parameters of BERT base", frozen),
            "share": share("of all", frozen, last.parameters),
            "kept": count("frozen parameters of Llama 2 7B", lora.held.frozen)}  # fmt: skip


def _q8() -> Figures:
    return {**{task: total(name) for task, name in SMALLEST.items()}, "bytes": stored(SMALLEST["chat"], "bf16")}


def _q9() -> Figures:
    bill = cost("llama-3.2-1b", "l4").bill
    return {"hour": Figure("an hour of the L4", replace(bill.hour, unit="USD an hour")),
            "month": Figure("a month", bill.month),
            "million": Figure("a million tokens", bill.million_tokens)}  # fmt: skip


def _q10() -> Figures:
    return {name: count(f"trained by {name}",
                        trained("llama-2-7b", FINE_TUNING_TOKENS, method=name).trainable_parameters)
            for name in ("full", "lora", "prompt")}  # fmt: skip


def _q11() -> Figures:
    weights, seen = stored("llama-2-70b", "bf16"), tokens("llama-2-70b")
    per_token = 8 * (weights.amount.value or 0) / seen
    each = published("memorised-bits")
    held = replace(each.amount.times(weighed("llama-2-70b").parameters.total / 8), unit="B")
    return {"bits": Figure("bits of weights for a token", Estimate(per_token, per_token, per_token, "bits",
                           Basis.SPECIFIED, "tokens as the developer states them")),
            "measured": each, "held": Figure("bytes by heart", held),
            "share": Figure("of the weights", over(held, weights.amount, "share"))}  # fmt: skip


def _q12() -> Figures:
    found = total("llama-3.1-8b")
    return {
        "parameters": found,
        "bytes": stored("llama-3.1-8b", "bf16"),
        "years": Figure("one a second", replace(found.amount.times(1 / parse_seconds("1year")), unit="years")),
    }


def _q13() -> Figures:
    small, mixture = weighed("gpt-2").parameters, weighed("mixtral-8x7b").parameters
    return {"total": total("gpt-2"), "non_embedding": count("without tables", small.non_embedding),
            "per_use": count("tables for each use", small.tied_per_use), "all": total("mixtral-8x7b"),
            "active": count("active parameters of Mixtral 8x7B", mixture.active_per_token)}  # fmt: skip


def _q14() -> Figures:
    rule = optimum("twenty", parameters=7e9).tokens
    found = sorted((optimum(law, parameters=7e9).tokens.value or 0.0, law) for law in DENSE)
    real = stated_tokens("llama-3.1-8b")
    ends = {name: Figure(f"{name}, by {law}", Estimate(value, value, value, "tokens", Basis.MODELLED))
            for name, (value, law) in (("least", found[0]), ("most", found[-1]))}  # fmt: skip
    return {"rule": Figure("tokens by the rule", replace(rule, unit="tokens")), **ends, "real": real,
            "ratio": ratio("tokens a parameter", real.amount, total("llama-3.1-8b").amount, "tokens")}  # fmt: skip


def _q15() -> Figures:
    claimed = min(one.low for one in find_model("gpt-4").claims)
    model = Estimate(claimed, claimed, claimed, "parameters", Basis.ASSUMED, "the least claim for GPT-4; not disclosed")
    brain, synapses, each = (published(name) for name in ("brain-bytes", "synapses", "synapse-bytes"))
    weights = replace(model.times(2.0), unit="B", note="in 16 bits")
    assert each.amount.value is not None
    by_synapse = replace(synapses.amount.times(each.amount.value), unit="B", note="synapses x bytes of one")
    return {
        "synapses": synapses, "claimed": Figure("claimed for GPT-4", replace(model.times(1.0))),
        "more": Figure("synapses over parameters", over(synapses.amount, model, "times")),
        "brain": brain, "model": Figure("its weights in 16 bits", weights),
        "bytes_ratio": Figure("by the published bytes", over(brain.amount, weights, "times")),
        "each": each, "by_synapse": Figure("bytes by synapses", by_synapse),
        "synapse_ratio": Figure("by synapses", over(by_synapse, weights, "times")),
    }  # fmt: skip


def _q16() -> Figures:
    stock = replace(supply().estimate, unit="tokens")
    assert stock.value is not None and stock.low is not None and stock.high is not None
    middle, least, most = (optimum("twenty", tokens=end) for end in (stock.value, stock.low, stock.high))

    def spread(name: str, unit: str) -> Estimate:
        value, low, high = (getattr(one, name).value for one in (middle, least, most))
        return Estimate(value, low, high, unit, stock.basis)

    device, work = find_device("h100-sxm"), spread("flops", "FLOP")
    year = device.flops_per_s["bf16"] * parse_seconds("1year")
    return {"stock": Figure("public text", stock),
            "parameters": Figure("parameters that suit it", spread("parameters", "parameters")),
            "flops": Figure("operations of training them", work),
            "years": Figure("years of an H100 at its peak", replace(work.times(1 / year), unit="years"))}  # fmt: skip


def _loss(name: str) -> Figure:
    found = predicted_loss(DEFAULT, weighed(name).parameters.total, tokens(name))
    return Figure(f"predicted loss of {find_model(name).title}", found)


def _q17() -> Figures:
    old, new = (ratio(f"tokens a parameter of {name}", stated_tokens(name).amount, total(name).amount, "tokens")
                for name in ("gpt-3", "llama-3.1-8b"))  # fmt: skip
    return {"old": old, "new": new, "ratio": ratio("the second over the first", new.amount, old.amount),
            "old_loss": _loss("gpt-3"), "new_loss": _loss("llama-3.1-8b")}  # fmt: skip


def _q18() -> Figures:
    run = trained("llama-2-7b", tokens("llama-2-7b"), 64)
    return {"small": Figure("energy of a token, Llama 3.1 8B", planned("llama-3.1-8b").joules),
            "large": Figure("energy of a token, Llama 2 70B", planned("llama-2-70b", devices=2, weights="fp16").joules),
            "training": Figure("energy of the training of Llama 2 7B", run.energy.facility_kwh)}  # fmt: skip


def _q19() -> Figures:
    adapter = count("LoRA adapter in bf16", 2 * trained("llama-2-7b", FINE_TUNING_TOKENS,
                                                        method="lora").trainable_parameters, "B")  # fmt: skip
    model = stored("llama-2-7b", "bf16")
    return {"adapter": adapter, "model": model, "ratio": ratio("adapter over model", adapter.amount, model.amount,
                                                               "share")}  # fmt: skip


def training_flops(name: str) -> Figure:
    """6 x active parameters x tokens of a named model."""
    found = 6 * weighed(name).parameters.active_per_token * tokens(name)
    return specified(f"FLOPs of the training of {find_model(name).title}", found, "FLOP", "6 x parameters x tokens")


def _q20() -> Figures:
    rule = next(rule for rule in rules() if rule.name == "eu-systemic-risk")
    bound = specified(rule.title, rule.value, "FLOP", rule.source)
    large, small = training_flops("llama-3.1-405b"), training_flops("llama-3.1-8b")
    return {"threshold": bound, "large": large, "small": small,
            "large_ratio": ratio("Llama 3.1 405B over it", large.amount, bound.amount),
            "small_ratio": ratio("Llama 3.1 8B over it", small.amount, bound.amount)}  # fmt: skip


def _q21() -> Figures:
    found = weighed("llama-3.1-8b").parameters.by_component
    return {"total": total("llama-3.1-8b"), **{name: count(f"{name} of Llama 3.1 8B", found[name], "")
            for name in ("attention", "mlp", "embedding", "head", "norm")}}  # fmt: skip


def _q22() -> Figures:
    model = find_model("gpt-4")
    ends = {"low": min(model.claims, key=lambda one: one.low), "high": max(model.claims, key=lambda one: one.high)}
    assert model.stated is None and not model.config, "the size is known after all: answer with it"
    unknown = Estimate(None, None, None, "parameters", Basis.ASSUMED, model.known_size)
    return {"known": Figure("parameters of GPT-4", unknown),
            **{name: claimed(claim, float(getattr(claim, name))) for name, claim in ends.items()}}  # fmt: skip


def claimed(claim: Claim, size: float) -> Figure:
    """What somebody claims of a size that is not disclosed."""
    return Figure(f"claimed by {claim.by}", Estimate(size, size, size, "parameters", Basis.ASSUMED, claim.source))


def _q23() -> Figures:
    law, budget = additive_law(DEFAULT), 6.0 * weighed("llama-2-70b").parameters.total * tokens("llama-2-70b")
    best = optimum(law, flops=budget)
    assert best.parameters.value is not None and best.tokens.value is not None
    large = predicted_loss(law, 10 * best.parameters.value, best.tokens.value / 10)
    return {
        "best": Figure("best size", replace(best.parameters, unit="parameters")),
        "best_loss": Figure("loss at it", best.loss),
        "large_loss": Figure("loss at ten times the size", large),
    }


def _q24() -> Figures:
    large, small = (Estimate.exact(weighed(name).flops_per_token or 0, "FLOP")
                    for name in ("llama-2-70b", "llama-3.1-8b"))  # fmt: skip
    bytes_large, bytes_small = (stored(name, "bf16").amount for name in ("llama-2-70b", "llama-3.1-8b"))
    return {
        "bytes": ratio("bytes, 70B over 8B", bytes_large, bytes_small),
        "flops": ratio("operations, 70B over 8B", large, small),
        "slow": Figure("speed of Llama 2 70B on two", planned("llama-2-70b", devices=2).speed.decode_tok_s),
        "fast": Figure("speed of Llama 3.1 8B on one", planned("llama-3.1-8b").speed.decode_tok_s),
    }  # fmt: skip


def _q25() -> Figures:
    law = additive_law(DEFAULT)
    found: dict[str, Figure] = {}
    for short, name in (("gpt", "gpt-3"), ("llama", "llama-3.1-8b")):
        size, data = weighed(name).parameters.total, tokens(name)
        for part, term in (("size", law.a / size**law.alpha), ("data", law.b / data**law.beta)):
            found[f"{short}_{part}"] = Figure(f"term of {part}, {find_model(name).title}",
                                              Estimate(term, term, term, "", Basis.MODELLED, law.title))  # fmt: skip
    return found


def _q26() -> Figures:
    model = weighed("llama-2-7b")
    layers = len(model.parameters.by_layer)
    deeper = inspect(find_model("llama-2-7b"), settings={"num_hidden_layers": layers + layers // 2})
    wider = inspect(
        find_model("llama-2-7b"), settings={"vocab_size": find_model("llama-2-7b").config["vocab_size"] + 1}
    )
    lora = trained("llama-2-7b", FINE_TUNING_TOKENS, method="lora").trainable_parameters
    return {"lora": count("added by LoRA", lora), "total": total("llama-2-7b"),
            "deeper": count("with half as many layers again", deeper.parameters.total),
            "row": count("added by a token", wider.parameters.total - model.parameters.total)}  # fmt: skip


FIGURES: Mapping[str, Compute] = {
    "q1": _q1, "q2": _q2, "q3": _q3, "q4": _q4, "q5": _q5, "q6": _q6, "q7": _q7, "q8": _q8, "q9": _q9, "q10": _q10,
    "q11": _q11, "q12": _q12, "q13": _q13, "q14": _q14, "q15": _q15, "q16": _q16, "q17": _q17, "q18": _q18, "q19": _q19,
    "q20": _q20, "q21": _q21, "q22": _q22, "q23": _q23, "q24": _q24, "q25": _q25, "q26": _q26,
}  # fmt: skip
"""What computes the numbers of each answer."""
