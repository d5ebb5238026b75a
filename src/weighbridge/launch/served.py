"""What do vLLM, SGLang and TensorRT-LLM ask in common: a card, a folder of weights, one encoding of the cache?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from weighbridge.errors import UnitError
from weighbridge.launch.sources import Source, folder
from weighbridge.planning import Plan, adapter

MANY_DEVICES = 8
"""More devices than these seldom stand in one computer."""
SEVERAL_COMPUTERS = "more than 8 devices seldom stand in one computer: the engine has to be told of the others first"


@dataclass(frozen=True, slots=True)
class LowRank:
    """An adapter by the name that requests call it, its folder and its largest rank."""

    name: str
    folder: str
    rank: int


def check_device(plan: Plan, engine: str) -> list[str]:
    """Refuses machines that are no cards; says what is not sure of accelerators that are no graphics cards.

    Raises:
        UnitError: for these.
    """
    if plan.machine.device.kind not in ("gpu", "accelerator"):
        read = f"{engine} on {plan.machine.device.title}"
        raise UnitError(read, "cards, whose options these are", "launch llama-server there")
    if plan.machine.device.kind == "gpu":
        return []
    title = plan.machine.device.title
    return [
        f"whether {engine} runs on {title}, and with these options, depends on its build or a plugin: see its pages"
    ]


def cache_dtype(plan: Plan, engine: str, names: Mapping[str, str]) -> str:
    """The engine's own name of the cache's encoding.

    Raises:
        UnitError: when it has none, or keys and values differ.
    """
    key, value = plan.service.key_encoding.name, plan.service.value_encoding.name
    if key != value:
        raise UnitError(f"keys in {key} and values in {value} under {engine}", "one encoding for both", "plan with one")
    if key not in names:
        known = ", ".join(dict.fromkeys(names))
        raise UnitError(f"a cache in {key} under {engine}", f"one that it keeps: {known}", "plan with one of these")
    return names[key]


def draft_folder(plan: Plan, engine: str, makes: Mapping[str, str]) -> Source:
    """The draft model in the encoding that it was planned in."""
    assert plan.draft is not None
    return folder(plan.draft.inspection, plan.draft.recipe, engine, makes)


def adapters(plan: Plan) -> list[LowRank]:
    """The adapters of a plan, with names that are apart."""
    found: list[LowRank] = []
    for given in plan.adapters:
        place = Path(given) if Path(given).is_dir() else Path(given).parent
        name = place.resolve().name
        taken = sum(one.name == name or one.name.startswith(f"{name}-") for one in found)
        found.append(LowRank(f"{name}-{taken + 1}" if taken else name, str(place), _rank(given)))
    return found


def _rank(source: str) -> int:
    """The largest rank of an adapter's matrices: the small side of each."""
    return max(min(tensor.shape) for tensor in adapter(source).tensors if ".lora_" in tensor.name)


def layout_words(plan: Plan) -> str:
    """The layout in words, for errors."""
    built = plan.machine
    return (f"tensor {built.tensor_parallel} x pipeline {built.pipeline_parallel} x data {built.data_parallel} "
            f"parallelism with {built.expert_parallel} groups of experts")  # fmt: skip


def is_mixture(plan: Plan) -> bool:
    """Whether the model has routed experts."""
    return plan.weights.expert_bytes > 0
