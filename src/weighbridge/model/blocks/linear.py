"""How many parameters has a dense layer? in x out, plus one bias an output."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component


def projection(
    name: str,
    in_features: int,
    out_features: int,
    *,
    role: str,
    component: Component,
    bias: bool = False,
    transposed: bool = False,
    experts: int = 1,
    active: int = 1,
    tied_to: str | None = None,
    per_sequence: bool = False,
    positions: int = 1,
) -> tuple[Weight, ...]:
    """The weights of one linear map inside a block; `transposed` for the (in, out) layout of GPT-2's Conv1D."""
    shape = (in_features, out_features) if transposed else (out_features, in_features)
    weight = Weight(name=f"{name}.weight".lstrip("."), shape=shape, role=role, component=component, experts=experts,
                    active=active, transposed=transposed, tied_to=tied_to,
                    per_sequence=per_sequence, positions=positions)  # fmt: skip
    if not bias:
        return (weight,)
    return weight, Weight(name=f"{name}.bias".lstrip("."), shape=(out_features,), role=role, component=component,
                          use=Use.ELEMENTWISE, experts=experts, active=active,
                          per_sequence=per_sequence)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Block):
    """A dense layer: y = W x + b, applied at so many `positions` in one pass.

    Example:
        >>> Linear(in_features=100, out_features=50, bias=True).parameters
        5050
    """

    in_features: int
    out_features: int
    bias: bool = True
    role: str = "linear"
    component: Component = Component.OTHER
    tied_to: str | None = None
    per_sequence: bool = False
    positions: int = 1

    def weights(self) -> tuple[Weight, ...]:
        """`weight` (out_features, in_features) and `bias` (out_features,)."""
        return projection("", self.in_features, self.out_features, role=self.role, component=self.component,
                          bias=self.bias, tied_to=self.tied_to, per_sequence=self.per_sequence,
                          positions=self.positions)  # fmt: skip
