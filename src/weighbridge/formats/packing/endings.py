"""What is a tensor for, by the last part of its name, where its module is packed?

The endings are those that the packers' libraries write; the layouts beside this module name them as their sources.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

SCALES = ("weight_scale_inv", "weight_scale", "scale_weight", "scale_inv", "scale", "scales")
"""Endings of the scales that lie beside a weight of its own shape."""

ROLES: Mapping[str, str] = {
    ending: role for role, endings in {
        "weights": ("qweight", "weight_packed", "compressed", "W_q", "q_weight", "trellis", "B", "blocks"),
        "scale": (*SCALES, "absmax", "nested_absmax", "SCB", "q_scale", "q_scale_max", "suh", "svh", "su", "sv",
                  "s", "weight_scale_2", "scale_2", "weight_global_scale", "input_scale", "input_global_scale",
                  "output_scale", "activation_scale", "input_activation_scale", "output_activation_scale", "k_scale",
                  "v_scale", "pre_quant_scale"),
        "zero_point": ("qzeros", "zero", "biases", "qbiases", "weight_zero_point", "input_zero_point",
                       "output_zero_point"),
        "group_index": ("g_idx", "weight_g_idx", "q_perm", "q_invperm", "q_groups", "q_group_map"),
        "codebook": ("quant_map", "nested_quant_map", "mcg", "mul1"),
        "metadata": ("weight_shape", "shape", "quant_state", "weight_format", "bitmask", "row_offsets", "nbits", "axis",
                     "group_size", "packing", "view_as_float", "unpack_view_dtype", "compute_dtype", "channel_wise",
                     "optimize", "round_zero", "quant_scale", "quant_zero", "offload_meta", "encoded_state_dict",
                     "stores_quant_config", "workspace"),
    }.items() for ending in endings
}  # fmt: skip
"""What a tensor is for, by the last part of its name, where its module is packed."""

HOLDERS = frozenset(ending for ending, role in ROLES.items() if role == "weights")
"""Endings of the tensors that hold the weights themselves."""

ATTACHED = (
    "_activation_scale",
    "_input_scale",
    "_weight_scale",
    "_scale_inv",
    "_scale_2",
    "_blocks",
    "_scales",
    "_scale",
)
"""Endings that stand in the last part of a name behind the name of a weight: `gate_up_proj_scales`."""

ALONE = frozenset({"k_scale", "v_scale", "input_scale", "output_scale"})
"""Scales of the key-value cache and of activations, which belong to a packed model even where no weight is beside."""

_STATE = ".quant_state."
MOST_ENDINGS = 16
"""Endings of names that are looked for in all of them."""


@dataclass(frozen=True, slots=True)
class Part:
    """Tensors that end alike: `suffix` is what follows the name of the module, `ending` what it means."""

    suffix: str
    ending: str
    names: Sequence[str]


def cut(last: str) -> tuple[str, int] | None:
    """What a tensor is by the last part of its name, and how many letters at the end of the name say so."""
    if last in ROLES:
        return last, len(last) + 1
    if last.startswith("bitsandbytes__"):
        return "quant_state", len(_STATE + last)
    for attached in ATTACHED:
        if last.endswith(attached) and last != attached:
            return attached[1:], len(attached)
    return None


def parts_of(names: Iterable[str]) -> list[Part]:
    """The tensors that may belong to something packed.

    Example:
        >>> parts_of(["h.0.w.weight", "h.0.w.weight_scale", "h.0.up_scale"])[0]
        Part(suffix='.weight_scale', ending='weight_scale', names=['h.0.w.weight_scale'])
    """
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for last, own in _by_last([name for name in names if not name.endswith(".weight")]):  # which is never such a part
        of = cut(last.removeprefix("."))
        if of is None:
            continue
        ending, length = of
        if length <= len(last):
            found[last[-length:], ending] += own
        else:
            for name in own:
                found[name[-length:], ending].append(name)
    return [Part(suffix, ending, own) for (suffix, ending), own in found.items()]


def _by_last(names: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    """The names by their last part, with the dot before it where there is one."""
    # Most names have one of a few endings, and to look for one in all names is three times as fast as to cut each.
    for _ in range(MOST_ENDINGS):
        if not names or "." not in names[0]:
            break
        last = names[0][names[0].rfind(".") :]
        yield last, [name for name in names if name.endswith(last)]
        names = [name for name in names if not name.endswith(last)]
    rest: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        rest["".join(name.rpartition(".")[1:])].append(name)
    yield from rest.items()
