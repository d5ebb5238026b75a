"""What does every block answer? Which weights it has, what a token costs, what it keeps between tokens."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum

from weighbridge.model.tensors import Component, Kind


class Use(Enum):
    """What one token does with a weight."""

    MATMUL = "matmul"
    """Multiplies with all of it: 2 FLOPs an element."""
    LOOKUP = "lookup"
    """Reads one row of it."""
    ELEMENTWISE = "elementwise"
    """Scales or shifts by it: an order of magnitude below the multiplications, and not counted with them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Weight:
    """A tensor of a block, named relative to the block's path.

    `role` is what the tensor does, in one vocabulary for all families (`attention_q`, `mlp_down`, ...); the recipes and
    the GGUF names go by it. With `experts` > 1 there are so many tensors of this shape, `{expert}` in the name stands
    for the number, and a token uses `active` of them; with `stacked` > 1 so many experts lie in the one tensor, along
    its first axis. `positions` is how often one token's forward pass applies the
    weight (a convolution applies its kernel at every output position); with `per_sequence` only one token of a
    sequence meets it (a pooler reads the first). `parts` are the outputs of the queries, keys and values that lie one
    after another in a fused matrix.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    component: Component
    use: Use = Use.MATMUL
    experts: int = 1
    active: int = 1
    stacked: int = 1
    transposed: bool = False
    tied_to: str | None = None
    kind: Kind = Kind.PARAMETER
    positions: int = 1
    per_sequence: bool = False
    parts: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """Elements of one tensor, without its fellow experts."""
        return math.prod(self.shape)

    @property
    def active_elements(self) -> int:
        """Elements that one token uses, of all experts together."""
        used, rest = divmod(self.elements * self.active, self.stacked)
        assert rest == 0, self
        return used

    @property
    def in_features(self) -> int:
        """The length of a row in the layout that runtimes quantize: inputs along the row."""
        if not self.shape:
            return 1
        return self.shape[-2] if self.transposed else self.shape[-1]


class StateKind(Enum):
    """What a block keeps between tokens."""

    KV = "kv"
    LATENT = "latent"
    RECURRENT = "recurrent"
    CROSS = "cross"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What one layer keeps: so many elements for each token held, or for each sequence whatever its length.

    A runtime encodes a cache in rows of `row_elements`: the keys, or the values, of one head; 0 stands for all elements
    of a token in one row.

    `window` is the number of tokens after which the cache stops growing; None when it grows with the context.
    """

    kind: StateKind
    elements_per_token: int = 0
    elements_per_sequence: int = 0
    window: int | None = None
    row_elements: int = 0


class Block(ABC):
    """A part of a model. Immutable; equal blocks are interchangeable, so repetition can stay symbolic."""

    __slots__ = ()

    @abstractmethod
    def weights(self) -> tuple[Weight, ...]:
        """Its tensors, in the order of the reference implementation."""

    def states(self) -> tuple[State, ...]:
        """What it keeps between tokens: nothing, unless the block says otherwise."""
        return ()

    def attention_flops_per_position(self) -> int:
        """FLOPs that one new token spends for each position it attends to."""
        return 0

    def fixed_flops(self) -> int:
        """FLOPs of one pass that belong to no weight and to no context: those of attention within an image."""
        return 0

    @property
    def parameters(self) -> int:
        """Learned elements of one copy of the block; tied weights are counted where they are owned."""
        return sum(
            weight.elements * weight.experts
            for weight in self.weights()
            if weight.kind is Kind.PARAMETER and weight.tied_to is None
        )
