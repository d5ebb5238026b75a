"""What do the engines say of the models and machines that explanations speak of? Each asked once, with its options.

Explanations keep to a few models, so that their numbers can be compared: mostly Llama 2 7B and 70B, and Llama 3.1 8B.
"""

from __future__ import annotations

import functools

from weighbridge.claims.figure import Figure, count
from weighbridge.estimate import Basis, Estimate
from weighbridge.inspection import Inspection, inspect
from weighbridge.layer import count_layer
from weighbridge.layout_search import Fixed
from weighbridge.model.catalogue import find_model
from weighbridge.planning import Plan, fit
from weighbridge.predict.bill import over
from weighbridge.predict.training.methods import Method
from weighbridge.training import TrainingPlan, train
from weighbridge.training_wish import Wish

FINE_TUNING_TOKENS = 10_000_000
"""Tokens of a fine-tuning run in examples: a few thousand texts."""
TIMES = "times"


@functools.cache
def weighed(name: str) -> Inspection:
    """A named model."""
    return inspect(find_model(name))


@functools.cache
def planned(name: str, on: str = "h100-sxm", devices: int = 1, weights: str = "bf16") -> Plan:
    """A named model on a machine, answering one request at a time."""
    return fit(find_model(name), on, devices=devices, weights=weights, alternatives=False)


@functools.cache
def trained(
    name: str, tokens: int, devices: int = 1, method: str = "full", layers: int = 0, on: str = "h100-sxm"
) -> TrainingPlan:
    """A run on a named model with the usual options of `weigh train`."""
    chosen = Method(name=method, prompt_tokens=20 if method == "prompt" else 0, trained_layers=layers)
    return train(find_model(name), on, Wish(tokens=tokens, devices=devices, method=chosen))


@functools.cache
def states(checkpointing: str = "none", zero: int = 0, devices: int = 1, attention: str = "flash") -> TrainingPlan:
    """One sequence a step of Llama 2 7B on each device, trained in full, for what a device holds."""
    fixed = Fixed(zero=zero, data=devices, micro_batch=1, global_batch=devices, checkpointing=checkpointing)
    wish = Wish(tokens=FINE_TUNING_TOKENS, devices=devices, fixed=fixed, attention=attention)
    return train(find_model("llama-2-7b"), "h100-sxm", wish)


def tokens(name: str) -> int:
    """Tokens that a named model was trained on, as its developer states them."""
    found = find_model(name).training_tokens
    assert found is not None, f"the tokens of {name} are not in the catalogue"
    return found


def stated_tokens(name: str) -> Figure:
    """The same as a figure, with its source."""
    model = find_model(name)
    return specified(f"tokens of the training of {model.title}", tokens(name), "tokens",
                     model.source_of("training_tokens"))  # fmt: skip


def total(name: str) -> Figure:
    """All parameters of a named model."""
    return count(f"parameters of {find_model(name).title}", weighed(name).parameters.total)


def stored(name: str, recipe: str) -> Figure:
    """Bytes of a named model in an encoding."""
    found = weighed(name).bytes_for([recipe])[recipe]
    return count(f"{find_model(name).title} in {recipe}", found, "B")


def cache_of_token(name: str, found: Inspection | None = None) -> Figure:
    """Bytes that a model keeps for a token, in 16 bits."""
    size = (found or weighed(name)).state_json()["kv_bytes_per_token"]["bf16"]
    return count(f"cache of {find_model(name).title} for a token", size, "B")


def layer(spec: str) -> Figure:
    """Parameters of a layer."""
    return count(f"parameters of {spec}", count_layer(spec).parameters)


def ratio(label: str, one: Estimate, other: Estimate, unit: str = TIMES) -> Figure:
    """One amount over another, which has a unit alike."""
    found = over(one, other, unit)
    if found.basis is Basis.EXACT and found.value is not None:
        found = Estimate(found.value, found.value, found.value, unit, Basis.EXACT)
    return Figure(label, found)


def share(label: str, part: int, whole: int) -> Figure:
    """A part of a whole, both counted."""
    return Figure(label, Estimate(part / whole, part / whole, part / whole, "share", Basis.EXACT))


def specified(label: str, value: float, unit: str, note: str) -> Figure:
    """A number that its publisher states."""
    return Figure(label, Estimate(value, value, value, unit, Basis.SPECIFIED, note))
