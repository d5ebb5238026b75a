"""How many parameters has a feed-forward block? 2*d*f plain, 3*d*f gated (Shazeer 2020), plus biases."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedForward(Block):
    """Up and down, with a gate where `gate` names one; with `fused` the tensor `up` holds the gate too.

    `kind` begins the roles: `shared` for shared experts.

    Example:
        >>> FeedForward(hidden_size=8192, intermediate_size=28672).parameters
        704643072
        >>> FeedForward(hidden_size=768, intermediate_size=3072, gate=None, bias=True).parameters
        4722432
        >>> FeedForward(hidden_size=3072, intermediate_size=8192, up="gate_up_proj", fused=True).parameters
        75497472
    """

    hidden_size: int
    intermediate_size: int
    gate: str | None = "gate_proj"
    up: str = "up_proj"
    down: str = "down_proj"
    bias: bool = False
    transposed: bool = False
    fused: bool = False
    component: Component = Component.MLP
    kind: str = "mlp"

    def weights(self) -> tuple[Weight, ...]:
        """Gate and up (intermediate, hidden), down (hidden, intermediate)."""
        d, f = self.hidden_size, self.intermediate_size
        gate, wide = (None, 2 * f) if self.fused else (self.gate, f)
        maps = [(gate, d, f, f"{self.kind}_gate"), (self.up, d, wide, f"{self.kind}_up"),
                (self.down, f, d, f"{self.kind}_down")]  # fmt: skip
        return tuple(weight for name, inputs, outputs, role in maps if name is not None
                     for weight in projection(name, inputs, outputs, role=role, component=self.component,
                                              bias=self.bias, transposed=self.transposed))  # fmt: skip
