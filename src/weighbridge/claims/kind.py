"""What kind of claim is a sentence with this number? By the unit of the number and the words around it."""

from __future__ import annotations

import re

from weighbridge.claims.measure import NOTHING
from weighbridge.claims.quantity import Quantity, is_size

_LAW = r"\bai act\b|european union|\beu\b|executive order|\bsb[- ]?\d+|raise act|basic act|legislat|regulat"
_BY_UNIT: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("byte", (("kv_cache", r"kv[- ]cache|key-value"), ("activation_memory", r"activations?"),
              ("inference_memory", r"fine-?tun|train|adam|optimi[sz]er|vram|memory|serv|run|fit|need|requir"),
              ("storage_size", r"stor(?:e|age)|disk|file|download|size|quanti|fp\d|int\d|bf16|\bbits?\b|shr[iu]nk"))),
    ("USD", (("training_cost", r"train|from scratch|fine-?tun"), ("inference_cost", r"token|request|query|call"),
             ("tco", r""))),
    ("FLOP", (("regulation", _LAW), ("training_flops", r"train|compute budget"), ("inference_cost", r""))),
    ("device * second", (("gpu_hours", r""),)),
    ("second", (("gpu_hours", r"train|pre-?train"), ("latency", r""))),
    ("token / second", (("throughput", r""),)),
    ("joule", (("energy", r""),)), ("joule / second", (("energy", r""),)), ("gram", (("carbon", r""),)),
    ("car", (("carbon", r""),)),
    ("token / parameter", (("chinchilla", r""),)),
    ("token", (("kv_cache", r"context|window"), ("training_flops", r"train"), ("chinchilla", r""))),
    ("word", (("chinchilla", r""),)), ("layer", (("model_param_count", r""),)), ("head", (("model_param_count", r""),)),
    ("expert", (("moe_active", r"active|activat"), ("model_param_count", r""))),
    ("parameter", (("lora_trainable", r"lora|adapter"), ("moe_active", r"\bactive|activat"),
                   ("layer_param_count", r"\blayers? (?:has|have|holds?|of)|convolution|dense layer|linear layer"),
                   ("regulation", _LAW), ("model_param_count", r""))),
)  # fmt: skip
_SHARES = (
    ("lora_trainable", r"lora|adapter|low-rank"), ("moe_active", r"\bactive|activat|dormant|per token"),
    ("precision_ratio", r"\bbits?\b|fp\d|int\d|quanti[sz]"), ("pruning", r"prun"),
    ("layer_param_count", r"norm|embedding"), ("growth_ratio", r""),
)  # fmt: skip
PRIORITY = (
    "byte", "USD", "device * second", "joule", "gram", "car", "token / second", "FLOP", "second", "word", NOTHING,
    "layer", "head", "expert", "token / parameter", "joule / second", "token", "parameter", "device",
)  # fmt: skip
"""Which number of a sentence is the claimed one: what follows from others before what others follow from."""


def kind_of(text: str, quantity: Quantity) -> str:
    """The kind, as the JSON contract calls it; empty where the words and the unit say none.

    Example:
        >>> from weighbridge.claims.quantity import quantities
        >>> text = "The KV cache of Llama 2 70B takes 80 GB"
        >>> kind_of(text, quantities(text)[-1])
        'kv_cache'
    """
    lower = text.lower()
    unit = quantity.unit
    if unit == NOTHING:
        if not is_size(quantity) and quantity.relation != "==" and quantity.digits < 4:
            return next((kind for kind, words in _SHARES if re.search(words, lower)), "")
        unit = "parameter"
    unit = unit if any(unit == name for name, _ in _BY_UNIT) else unit.split(" / ")[0]
    kinds = next((kinds for name, kinds in _BY_UNIT if name == unit), ())
    return next((kind for kind, words in kinds if re.search(words, lower)), "")


_UNITS_OF: dict[str, tuple[tuple[str, ...], str]] = {
    "energy": (("joule", "joule / request", "joule / token"), "energy, as J or kWh"),
    "carbon": (("gram", "gram / request", "car", "person"), "a mass, as t or kg of CO2"),
    "latency": (("second", "second / token"), "a time, as ms or s"),
    "throughput": (("token / second", NOTHING), "a rate, as tokens/s"),
    "storage_size": (("byte",), "bytes, as GB or GiB"),
    "inference_memory": (("byte", NOTHING, "device"), "bytes, as GB or GiB"),
    "training_flops": (("FLOP", NOTHING, "token", "step"), "operations, as FLOP, and no rate of them"),
    "gpu_hours": (("second", "device * second", "device", NOTHING), "a time, as GPU-hours or days"),
    "training_cost": (("USD", NOTHING), "money, as $"),
}  # fmt: skip
"""In which units a kind of claim is stated, and what that is called."""
_CALLED = {"joule / second": "power", "FLOP / second": "a rate of operations", "byte": "bytes", "word": "words",
           "token": "tokens", "second": "a time", "joule": "energy", "parameter": "a count of parameters",
           "USD": "money", "bit_width": "bits"}  # fmt: skip


def mismatch(kind: str, quantity: Quantity) -> str:
    """What a number should be stated in where its unit is of another kind; empty where it is not.

    Example:
        >>> from weighbridge.claims.quantity import quantities
        >>> mismatch("energy", quantities("50-100 W")[0])
        'energy, as J or kWh: 50-100 W is power'
    """
    units, wanted = _UNITS_OF.get(kind, ((), ""))
    if not units or quantity.unit in units:
        return ""
    return f"{wanted}: {quantity.text} is {_CALLED.get(quantity.unit, quantity.unit)}"


def rank(quantity: Quantity) -> int:
    """The place of a quantity in `PRIORITY`."""
    own = "parameter" if is_size(quantity) else quantity.unit
    for unit in (own, own.split(" / ")[0]):
        if unit in PRIORITY:
            return PRIORITY.index(unit)
    return len(PRIORITY)


def place(quantity: Quantity) -> tuple[int, int]:
    """Where a quantity stands among those of a sentence: by its rank, and what is whole before what is per another."""
    return rank(quantity), len(quantity.unit.split(" / "))
