"""Which layout is a module packed in? The first that knows its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from weighbridge.formats.packing import bitsandbytes, compressed_tensors, exl, hqq, scaled, words
from weighbridge.formats.packing.endings import SCALES
from weighbridge.formats.packing.module import Found, Module

LAYOUTS: Mapping[str, Callable[[Module], Found | None]] = {
    "qweight": words.qweight, "B": words.marlin, "weight_packed": compressed_tensors.packed,
    "bitmask": compressed_tensors.sparse, "absmax": bitsandbytes.four_bits, "quant_state": bitsandbytes.four_bits,
    "SCB": bitsandbytes.eight_bits,
    "W_q": hqq.w_q, "trellis": exl.exl3, "q_weight": exl.exl2, "blocks": scaled.blocks,
    **dict.fromkeys(SCALES, scaled.scaled),
}  # fmt: skip
"""The layout that a tensor's ending points to; `scales` may also be those of MLX, `qweight` one of an int8 pair."""


def found_in(module: Module) -> Found | None:
    """What the first layout that knows the module says of it, whatever the order of its tensors in the file.

    Raises:
        MismatchError: when the tensors contradict each other or the configuration.
    """
    for ending, layout in LAYOUTS.items():
        if ending not in module.parts:
            continue
        found = layout(module)
        if found is None and ending == "scales":
            found = words.mlx(module)
        if found is not None:
            return found
    return None
