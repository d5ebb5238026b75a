"""What does an optimizer keep beside each trained parameter?

An update reads the gradient and the state of a parameter and writes both: SGD keeps nothing, with momentum one number,
Adam and AdamW two (Kingma and Ba 2015; Loshchilov and Hutter 2019). Under mixed precision the update works on a copy of
the weights in 32 bits (Micikevicius et al. 2018), and the state has 32 bits too. Where all is kept in 16 bits, it has
the type of the weight (torch 2.13 `optim/adam.py`: zeros_like); that of bitsandbytes never has 16.

State of 8 bits has one scale in fp32 for every 256 numbers, and a tensor of less than 4,096 elements keeps 32 bits
(bitsandbytes 0.50 `optim/optimizer.py`). The Trainer of transformers keeps tables in 32 bits as well; that is not
counted here. Adafactor keeps the sums over the last axis of a matrix and over the one before it instead of each element
(Shazeer and Stern 2018; torch 2.13 `optim/_adafactor.py`). Muon keeps one number for each element of the matrices
inside the layers, and leaves the rest to AdamW (Jordan 2024; Liu et al. 2025).

The counter of steps, one number a tensor, and the tables of 8-bit codes, 2 KiB a run, are not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from weighbridge.errors import UnknownNameError
from weighbridge.model.blocks import Use
from weighbridge.model.tensors import Component
from weighbridge.predict.training.trained import Row, Trained

BLOCK = 256
"""Numbers of 8-bit state that share a scale."""
LEAST_8BIT = 4096
"""Elements of the smallest tensor whose state has 8 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Optimizer:
    """An optimizer by what it keeps: so many `moments` for each parameter; `source` says where that is from.

    `is_factored` keeps the sums of rows and columns of a matrix instead of a number for each element. `matrices_only`
    leaves tables, the head, norms and biases to AdamW. `is_8bit` holds the moments in 8 bits; `is_paged` lets them move
    to the host's memory when the device's is full. `is_foreach` updates all weights at once, with an array of their
    size beside them, as torch's AdamW does where it is not asked for a fused update.
    """

    name: str
    moments: int
    source: str
    is_factored: bool = False
    matrices_only: bool = False
    is_8bit: bool = False
    is_paged: bool = False
    is_foreach: bool = False

    @property
    def state_bytes(self) -> float:
        """Bytes for each parameter of a large matrix, under mixed precision; the sums of Adafactor come to next to
        nothing.

        Example:
            >>> [OPTIMIZERS[name].state_bytes for name in ("adamw", "adamw8bit", "adafactor")]
            [8, 2.03125, 0]
        """
        return self.moments * (1 + 4 / BLOCK) if self.is_8bit else 4 * self.moments


_BITSANDBYTES = "bitsandbytes 0.50, optim/optimizer.py; Dettmers et al. 2022"
_TABLE = (
    Optimizer(name="adamw", moments=2, source="Loshchilov and Hutter 2019"),
    Optimizer(name="adam", moments=2, source="Kingma and Ba 2015"),
    Optimizer(name="sgd", moments=0, source="no state: torch 2.13, optim/sgd.py"),
    Optimizer(name="sgdmomentum", moments=1, source="Polyak 1964; torch 2.13, optim/sgd.py"),
    Optimizer(name="adafactor", moments=0, source="Shazeer and Stern 2018; torch 2.13, optim/_adafactor.py, which "
              "keeps no first moment", is_factored=True),
    Optimizer(name="lion", moments=1, source="Chen et al. 2023"),
    Optimizer(name="muon", moments=1, source="Jordan 2024; torch 2.13, optim/_muon.py", matrices_only=True),
    Optimizer(name="adamw8bit", moments=2, source=_BITSANDBYTES, is_8bit=True),
    Optimizer(name="lion8bit", moments=1, source=_BITSANDBYTES, is_8bit=True),
    Optimizer(name="pagedadamw", moments=2, source=_BITSANDBYTES, is_paged=True),
    Optimizer(name="pagedadamw8bit", moments=2, source=_BITSANDBYTES, is_8bit=True, is_paged=True),
)  # fmt: skip
OPTIMIZERS: Mapping[str, Optimizer] = {one.name: one for one in _TABLE}


def find_optimizer(name: str) -> Optimizer:
    """The optimizer of this name; dashes and underscores do not matter, as in `adamw_8bit`.

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


def optimizer_bytes(trained: Trained, optimizer: Optimizer, precision: str = "bf16") -> int:
    """Bytes of state for all trained parameters, on one device without sharding, without copies of the weights.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.predict.training.methods import Method
        >>> from weighbridge.predict.training.trained import trained
        >>> llama = trained(inspect("llama-2-70b").architecture, Method())
        >>> optimizer_bytes(llama, OPTIMIZERS["adamw"]) == 8 * 68_976_648_192
        True
    """
    return sum(row_state_bytes(row, optimizer, precision) for row in trained.rows)


def row_state_bytes(row: Row, optimizer: Optimizer, precision: str = "bf16") -> int:
    """Bytes of state for the tensors of one row; none for frozen ones.

    Example:
        >>> from weighbridge.model.tensors import Component
        >>> row = Row("up", "mlp_up", Component.MLP, Use.MATMUL, (300, 100), 2, 1, 60_000, True)
        >>> [row_state_bytes(row, OPTIMIZERS[name]) for name in ("adamw", "sgd", "adafactor", "adamw8bit")]
        [480000, 0, 3200, 121888]
    """
    if not row.is_trained or row.elements == 0:
        return 0
    if optimizer.matrices_only and not _is_inner_matrix(row):
        return row_state_bytes(row, OPTIMIZERS["adamw"], precision)
    each = prod(row.shape)
    number = 2 if precision == "bf16-true" and not (optimizer.is_8bit or optimizer.is_paged) else 4
    if optimizer.is_factored:
        kept = each // row.shape[-1] + each // row.shape[-2] if len(row.shape) > 1 else each
        return row.tensors * number * kept
    if optimizer.is_8bit and each >= LEAST_8BIT:
        return row.tensors * optimizer.moments * (each + 4 * -(-each // BLOCK))
    return row.tensors * optimizer.moments * each * number


def _is_inner_matrix(row: Row) -> bool:
    """Whether a row is matrices inside the layers: those of experts in one tensor are, convolutions are not."""
    is_matrix = len(row.shape) == 2 or (row.component is Component.EXPERTS and len(row.shape) == 3)
    return row.use is Use.MATMUL and is_matrix and row.role not in ("head", "score")
