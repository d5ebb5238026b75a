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
    "layer", "head", "expert", "token / parameter", "token", "parameter", "device", "joule / second",
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


def rank(quantity: Quantity) -> int:
    """The place of a quantity in `PRIORITY`."""
    own = "parameter" if is_size(quantity) else quantity.unit
    for unit in (own, own.split(" / ")[0]):
        if unit in PRIORITY:
            return PRIORITY.index(unit)
    return len(PRIORITY)
