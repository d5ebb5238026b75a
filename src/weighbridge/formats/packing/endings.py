"""What is a tensor for, by the last part of its name, where its module is packed?

The endings are those that the packers' libraries write; the layouts beside this module name them as their sources.
"""

from __future__ import annotations

from collections.abc import Mapping

from weighbridge.formats.packing import scaled

ROLES: Mapping[str, str] = {
    ending: role for role, endings in {
        "weights": ("qweight", "weight_packed", "compressed", "W_q", "q_weight", "trellis", "B", "blocks"),
        "scale": (*scaled.SCALES, "absmax", "nested_absmax", "SCB", "q_scale", "q_scale_max", "suh", "svh", "su", "sv",
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
