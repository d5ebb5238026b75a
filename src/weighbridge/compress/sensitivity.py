"""What does an error of each tensor cost the model?

The cost of a tensor is what the model loses when the tensor's relative squared error is one: what comes out of it is
then as wrong as it is large. Errors of a few percent cost that share of it, and those of several tensors add up, as
long as they are small. Where data are given, costs are worked out from gradients or columns are weighed by what comes
in through them; without data they are shares by role, worked out once from gradients of three small models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from weighbridge.compress.codecs import Values
from weighbridge.compress.importance import Importance
from weighbridge.model.layouts import GGUF_NAMES
from weighbridge.model.tensors import TensorSpec

SHARES = {
    "attention_q": 0.079, "attention_k": 0.076, "attention_v": 0.099, "attention_qkv": 0.254, "attention_output": 0.093,
    "mlp_gate": 0.181, "mlp_up": 0.156, "mlp_down": 0.316, "experts_gate": 0.181, "experts_up": 0.156,
    "experts_down": 0.316, "token_embedding": 0.36, "head": 0.89,
}  # fmt: skip
"""Of the cost of all layers, by role, all layers together; embedding and head beside them. The mean of two families, as
`python benchmarks/allocation.py --shares FOLDER ...` printed them: the decoders of `examples/small_decoder`, which
count as one, and SmolLM2 135M. Their embeddings are tied: 1.25 of both uses was parted as the gradients of the two in
the small decoders are, 5 to 2."""
OTHER_SHARE = 0.05
"""Of a role that the decoders did not have."""
ROLES = {name: role for role, name in GGUF_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What errors cost.

    `costs` are of tensors by name, in `unit` for a token or a text where that is known: then their sum over the errors
    is what the model is expected to lose. `columns` weigh the columns of a tensor's rows, or of each expert's.
    """

    costs: Mapping[str, float]
    columns: Mapping[str, Values] = field(default_factory=dict)
    unit: str | None = None
    basis: str = "shares of roles"
    notes: tuple[str, ...] = ()


def role_of(tensor: TensorSpec) -> str:
    """The role of a tensor, by llama.cpp's name where nothing else says it.

    Example:
        >>> from weighbridge.model.encodings import find
        >>> role_of(TensorSpec("blk.3.ffn_down.weight", (8, 8), find("fp16")))
        'mlp_down'
    """
    parts = tensor.name.split(".")
    return tensor.role or ROLES.get(parts[-2] if len(parts) > 1 else "", "")


def by_role(tensors: Sequence[TensorSpec]) -> Sensitivity:
    """The costs of matrices without data: each role's share, the same for all of its tensors.

    A head that is not stored is the embedding, which then costs what both do.
    """
    roles = {one.name: role_of(one) for one in tensors if len(one.shape) > 1 and one.encoding.is_float}
    count = Counter(roles.values())
    shares = dict(SHARES)
    if not count["head"]:
        shares["token_embedding"] += shares["head"]
    return Sensitivity({name: shares.get(role, OTHER_SHARE) / count[role] for name, role in roles.items()})


def with_importance(tensors: Sequence[TensorSpec], importance: Importance, source: str) -> Sensitivity:
    """The same, with columns weighed by an importance matrix.

    Raises:
        FormatError: when it is of another model.
    """
    columns = {}
    for tensor in tensors:
        found = importance.for_tensor(tensor.name, tensor.shape)
        if found is not None and len(tensor.shape) > 1:
            alike = np.float32(1.0)  # where nothing came in, no column counts more than another
            columns[tensor.name] = np.where(found.any(axis=-1, keepdims=True), found, alike)
    if not columns:
        return replace(by_role(tensors), notes=(f"{source} knows none of these tensors",))
    return replace(by_role(tensors), columns=columns, basis=f"shares of roles, columns by {source}")


def completed(tensors: Sequence[TensorSpec], found: Sensitivity) -> Sensitivity:
    """Costs for all matrices: one that `found` does not have gets its share by role of what the others cost."""
    shares = by_role(tensors).costs
    lacking = [name for name in shares if name not in found.costs]
    known = sum(share for name, share in shares.items() if name in found.costs)
    if not lacking or not known:
        return found if known else replace(by_role(tensors), notes=found.notes)
    scale = sum(found.costs[name] for name in shares if name in found.costs) / known
    note = f"{len(lacking):,} tensors were not seen at work, {lacking[0]} among them: their costs are shares by role"
    return replace(found, costs={**{name: shares[name] * scale for name in lacking}, **found.costs},
                   notes=(*found.notes, note))  # fmt: skip
