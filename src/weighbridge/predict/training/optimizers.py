"""What does an optimizer keep beside each trained parameter?

An update reads the gradient and the state of a parameter and writes both: SGD keeps nothing, with momentum one number,
Adam and AdamW two (Kingma and Ba 2015; Loshchilov and Hutter 2019). Under mixed precision the update works on a copy of
the weights in 32 bits (Micikevicius et al. 2018).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weighbridge.errors import UnknownNameError


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """An optimizer by what it keeps: `state_bytes` for each parameter of a matrix; `source` says where that is from.

    `is_factored` keeps the sums of rows and columns of a matrix instead of a number for each element. `matrices_only`
    leaves tables, the head, norms and biases to AdamW.
    """

    name: str
    state_bytes: float
    source: str
    is_factored: bool = False
    matrices_only: bool = False


_TABLE = (
    Optimizer(name="adamw", state_bytes=8, source="two moments in fp32: Loshchilov and Hutter 2019"),
    Optimizer(name="sgd", state_bytes=0, source="no state"),
)
OPTIMIZERS: Mapping[str, Optimizer] = {one.name: one for one in _TABLE}


def find_optimizer(name: str) -> Optimizer:
    """The optimizer of this name.

    Raises:
        UnknownNameError: when there is none.

    Example:
        >>> find_optimizer("AdamW").state_bytes
        8
    """
    key = name.lower().replace("_", "").replace("-", "")
    if key not in OPTIMIZERS:
        raise UnknownNameError("optimizer", name, OPTIMIZERS, "name one of them")
    return OPTIMIZERS[key]
