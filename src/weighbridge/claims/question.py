"""What do people ask about parameters, and what does the engine answer? Every number is computed when it is asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from weighbridge.claims.example import (
    LARGE,
    SMALL,
    adapter_parameters,
    cache_bytes,
    floor_s,
    states_bytes,
    training_flops,
)
from weighbridge.errors import UnknownNameError
from weighbridge.inspection import inspect
from weighbridge.layer import count_layer
from weighbridge.model.catalogue import find_model
from weighbridge.planning import fit
from weighbridge.predict.scaling_laws.gains import gain_of
from weighbridge.predict.scaling_laws.laws import find_law
from weighbridge.predict.scaling_laws.optimum import RULE, verdict
from weighbridge.predict.thresholds import rules
from weighbridge.regulation import thresholds
from weighbridge.training import TrainingPlan, train
from weighbridge.training_wish import Wish
from weighbridge.units import format_bytes, format_count, format_energy, format_seconds

BRAIN_SYNAPSES = 100e12
BRAIN_BYTES = 2.5e15
"""Of a human brain, as articles have it: assumed, and estimates differ by a factor of ten and more."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the function that answers it."""

    number: int
    text: str
    answer: Callable[[], str]

    def to_json(self) -> dict[str, Any]:
        """One entry of the documents of `weigh explain`."""
        return {"question": self.number, "text": self.text, "answer": self.answer()}


def _total(name: str) -> int:
    return inspect(find_model(name)).parameters.total


def _active(name: str) -> int:
    return inspect(find_model(name)).parameters.active_per_token


def _bytes(size: float) -> str:
    return format_bytes(round(size))


def _run(name: str, tokens: int, devices: int) -> TrainingPlan:
    return train(find_model(name), "a100-sxm-80", Wish(tokens=tokens, devices=devices))


def _days(plan: TrainingPlan) -> str:
    return f"{plan.hours.days.low or 0:,.0f} to {plan.hours.days.high or 0:,.0f} days"


def _usd(plan: TrainingPlan) -> str:
    return f"${plan.cost_usd.low or 0:,.0f} to ${plan.cost_usd.high or 0:,.0f}"


def _tokens_or_parameters() -> str:
    return (
        f"Parameters are what a model has learned, tokens what it reads and writes. Llama 2 70B holds "
        f"{_total(LARGE):,} "
        f"parameters and was trained on {find_model(LARGE).training_tokens:,} tokens."
    )


def _can_i_train() -> str:
    plan = _run(SMALL, 140 * 10**9, 64)
    count = adapter_parameters(SMALL, 8)
    return (
        f"A model of 7B on 140B tokens takes 64 A100 {_days(plan)} and {_usd(plan)}. Adapting a finished one is "
        f"another matter: rank 8 on its queries and values trains {count:,} parameters on one card."
    )


def _intelligence() -> str:
    data = verdict(_total("gpt-3"), find_model("gpt-3").training_tokens or 0)
    return (
        "No. They bound what can be learned; data and training decide what is. GPT-3 has "
        f"{data.tokens_per_parameter:.1f} tokens a parameter where about 20 suit it, so smaller models with more data "
        "overtook it."
    )


def _always_better() -> str:
    low, high = (gain_of(find_law(name), 70e9, 10.0) or 0.0 for name in ("chinchilla-corrected", "kaplan"))
    return (
        f"Not by much: ten times the parameters of 70B lower the loss by {low:.1%} by the corrected law of Chinchilla "
        f"and {high:.1%} by Kaplan's, given data enough for either."
    )


def _share_used() -> str:
    dense, moe = 1.0, _active("mixtral-8x7b") / _total("mixtral-8x7b")
    switch = _active("switch-c-2048") / _total("switch-c-2048")
    return (
        f"{dense:.0%} of a dense model's for each token; {moe:.1%} of Mixtral 8x7B's and {switch:.2%} of Switch-C's, "
        "while all of them have to be stored."
    )


def _how_long() -> str:
    plan = _run("llama-3.2-1b", 100 * 10**9, 8)
    return f"A billion parameters on 100B tokens take eight A100 {_days(plan)}."


def _transfer() -> str:
    added = adapter_parameters(LARGE, 8)
    share = added / _total(LARGE)
    return (
        f"Yes: with LoRA all {_total(LARGE):,} of Llama 2 70B stay frozen and {added:,} new ones are trained, "
        f"{share:.3%} as many. How well it works is to be measured on the task."
    )


def _smallest() -> str:
    sizes = {name: _total(name) for name in ("mobilenet-v2", "distilbert-base", "smollm2-135m")}
    return (
        f"It depends on the task: {sizes['mobilenet-v2']:,} parameters tell pictures apart (MobileNetV2), "
        f"{sizes['distilbert-base']:,} read sentences (DistilBERT), {sizes['smollm2-135m']:,} write short texts "
        "(SmolLM2 135M). `weigh prove` measures whether that is enough for yours."
    )


def _production_cost() -> str:
    plan = fit("llama-3.2-1b", "l4", concurrency=16, alternatives=False)
    usd = plan.to_json()["cost"]["usd_per_million_output_tokens"]
    if usd["low"] is None:
        return f"unknown: {usd['note']}"
    return f"Llama 3.2 1B for 16 users on an L4: ${usd['low']:.2f} to ${usd['high']:.2f} for a million tokens written."


def _old_parameters() -> str:
    architecture_rows = adapter_parameters(LARGE, 8)
    return (
        f"In full fine-tuning all {_total(LARGE):,} of Llama 2 70B change. With LoRA none does, and "
        f"{architecture_rows:,} "
        "are added. With prompt tuning none does, and a few rows are put before the input."
    )


def _store_data() -> str:
    text, held = 4 * (find_model(LARGE).training_tokens or 0), 2 * _total(LARGE)
    return (
        f"Not as such: Llama 2 70B holds {_bytes(held)} and read about {_bytes(text)} of text, {text / held:.0f} times "
        "as much. Single passages can be remembered all the same."
    )


def _layman() -> str:
    return (
        f"They are the settings of a machine, found by trial and error. A small model such as SmolLM2 has "
        f"{_total('smollm2-135m'):,} of them, a large one such as Llama 3.1 405B {_total('llama-3.1-405b'):,}."
    )


def _standardized() -> str:
    counts = inspect(find_model("gpt-3")).parameters
    return (
        f"No. GPT-3 is {counts.total:,} with its embeddings, {counts.non_embedding:,} without, {counts.tied_per_use:,} "
        "with the shared head counted twice. Ask which is meant."
    )


def _how_much_data() -> str:
    law = find_law(RULE)
    told = ", ".join(f"{size:g}B: {format_count(round(law.optimal_tokens(law.flops_for_parameters(size * 1e9))))}"
                     for size in (7, 70, 175))  # fmt: skip
    return (
        f"About 20 tokens a parameter spend a budget of arithmetic best ({told}); models that will serve many read "
        "more."
    )


def _brains() -> str:
    claimed = [one.high for one in find_model("gpt-4").claims]
    size = 2 * min(claimed)
    return (
        f"Nobody knows how to compare them. {BRAIN_SYNAPSES / min(claimed):.0f} times as many synapses as GPT-4 "
        f"is claimed "
        f"to have parameters ({min(claimed):,}, not disclosed); or {BRAIN_BYTES / size:.0f} times the bytes, if "
        f"a brain "
        f"stores {BRAIN_BYTES / 1e15:g} PB. At 2 bytes a synapse it would be {2 * BRAIN_SYNAPSES / size:.0f} "
        f"times. Both "
        "figures of the brain are assumed."
    )


def _maximum() -> str:
    law = find_law(RULE)
    flops = law.flops_for_tokens(300e12)
    return (
        f"None is known. Of public text there are about 300T tokens, which would suit "
        f"{law.optimal_parameters(flops):.2g} "
        f"parameters and take {flops:.2g} FLOP."
    )


def _small_models() -> str:
    data = verdict(_total("llama-3.1-8b"), find_model("llama-3.1-8b").training_tokens or 0)
    return (
        f"They read far more for their size: Llama 3.1 8B {data.tokens_per_parameter:,.0f} tokens a parameter, GPT-3 "
        f"{(find_model('gpt-3').training_tokens or 0) / _total('gpt-3'):.1f}."
    )


def _power() -> str:
    plan = fit(SMALL, "a100-sxm-80", alternatives=False)
    joules = plan.joules
    if joules.low is None or joules.high is None:
        return f"Reading them does; how much is unknown here: {joules.note}"
    return (
        f"Reading and multiplying them does: Llama 2 7B on an A100 takes {joules.low:.2g} to {joules.high:.2g} J "
        f"a token, "
        f"about {format_energy(100 * (joules.value or 0))} for 100."
    )


def _after_deployment() -> str:
    return (
        "Not by themselves: a file stays as it is, byte for byte. An adapter may be put beside it "
        f"({_bytes(2 * adapter_parameters(LARGE, 16))} for Llama 2 70B at rank 16), or a new version in its place."
    )


def _safety() -> str:
    name = "llama-3.1-405b"
    report = thresholds(max(rule.checked for rule in rules()), name, tokens=find_model(name).training_tokens)
    above = [one for one in report.standings if one.verdict == "above"]
    return (
        "Their number says little about behaviour. Rules look at the arithmetic of training instead: Llama 3.1 "
        "405B with "
        f"{report.flops.value if report.flops else 0:.2g} FLOP is above {len(above)} of the {len(report.standings)} "
        f"thresholds that Weighbridge knew on {report.on}, ended ones among them."
    )


def _what_are_they() -> str:
    layer = count_layer("linear:100x50")
    return f"Learned numbers: a layer of 100 inputs and 50 outputs has {layer.parameters:,} ({layer.formula})."


def _gpt_4() -> str:
    claims = ", ".join(f"{one.high:,} ({one.by})" for one in find_model("gpt-4").claims)
    return f"Its developer has not said. Others claim {claims}; nobody outside can check."


def _more_is_better() -> str:
    return (
        f"Not across models: GPT-3 has {_total('gpt-3') / _total('llama-3.1-8b'):.0f} times the parameters of "
        f"Llama 3.1 8B, "
        "and which is better at a task is to be measured. Within one family and data enough, yes, a little."
    )


def _why_costlier() -> str:
    small, large = floor_s(SMALL, "h100-sxm"), floor_s(LARGE, "h100-sxm")
    return (
        f"Every token reads every active weight: at least {format_seconds(small)} for Llama 2 7B and "
        f"{format_seconds(large)} "
        f"for 70B through the memory of an H100, and {_bytes(cache_bytes(LARGE, 4096))} for each user of 4,096 tokens."
    )


def _parameters_or_data() -> str:
    flops = training_flops("gpt-3")
    size = find_law(RULE).optimal_parameters(flops)
    return (
        f"Both, in proportion: GPT-3's {flops:.3g} FLOP would have suited {size / 1e9:.0f}B parameters and "
        f"{flops / 6 / size / 1e12:.2f}T tokens better than its {_total('gpt-3') / 1e9:.0f}B and 0.3T."
    )


def _add_parameters() -> str:
    experts = _total("mixtral-8x7b") / _total("mistral-7b")
    return (
        "Yes: adapters, more experts, deeper copies of layers. Mixtral 8x7B holds "
        f"{experts:.1f} times what Mistral 7B does. And full fine-tuning of what is there takes "
        f"{_bytes(states_bytes(SMALL))} "
        "for Llama 2 7B before any activation."
    )


_ASKED: tuple[tuple[str, Callable[[], str]], ...] = (
    ("What is the difference between parameters and tokens?", _tokens_or_parameters),
    ("Can I train a model with billions of parameters, and at what cost?", _can_i_train),
    ("Do parameters mean intelligence?", _intelligence),
    ("Are more parameters always better: what do ten times as many gain?", _always_better),
    ("What share of the parameters works when a model answers?", _share_used),
    ("How long does it take to train a billion parameters?", _how_long),
    ("Do parameters transfer between tasks?", _transfer),
    ("What is the smallest useful number of parameters?", _smallest),
    ("What does a billion parameters cost in production?", _production_cost),
    ("What happens to the old parameters in fine-tuning?", _old_parameters),
    ("Do parameters store the training data?", _store_data),
    ("How do I explain parameters to a lay person?", _layman),
    ("Are counts of parameters standardized?", _standardized),
    ("How much data do how many parameters need?", _how_much_data),
    ("How do parameters compare with a brain?", _brains),
    ("Is there a largest useful number of parameters?", _maximum),
    ("Why do smaller open models compete?", _small_models),
    ("Do parameters use power?", _power),
    ("Can parameters change after deployment?", _after_deployment),
    ("What have parameters to do with safety?", _safety),
    ("What are model parameters?", _what_are_they),
    ("How many parameters has GPT-4?", _gpt_4),
    ("Does more mean better?", _more_is_better),
    ("Why do larger models cost more?", _why_costlier),
    ("Which matters more, parameters or training data?", _parameters_or_data),
    ("Can I add parameters to an existing model?", _add_parameters),
)  # fmt: skip
QUESTIONS = tuple(Question(number, *asked) for number, asked in enumerate(_ASKED, 1))


def find_question(number: int) -> Question:
    """The question of this number.

    Raises:
        UnknownNameError: when there is none.

    Example:
        >>> find_question(21).answer()
        'Learned numbers: a layer of 100 inputs and 50 outputs has 5,050 (100*50 + 50).'
    """
    if not 1 <= number <= len(QUESTIONS):
        raise UnknownNameError("question", str(number), [str(one.number) for one in QUESTIONS],
                               "`weigh explain --questions` lists them")  # fmt: skip
    return QUESTIONS[number - 1]
