"""How are routed experts stored that share their tensors? Along the first axis, gate and up often in one.

The numbers are those of `blocks.experts`: E * 3*d*f gated, plus biases. Layouts differ: (experts, out, in) in Granite
and JetMoE, (experts, in, out) in Llama 4 and gpt-oss, (experts * f, d) for all three matrices in DBRX.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class StackedExperts(Block):
    """Routed experts without their router; gate and up in one tensor, or apart when `fused` is off.

    `names` are those of gate and up together (or of gate and of up) and of down. `layout` is `out_in`, `in_out` or
    `flat`. `bias` adds a tensor `<name>_bias` for each.

    Example:
        >>> gpt_oss = StackedExperts(hidden_size=2880, intermediate_size=2880, num_experts=128, experts_per_token=4,
        ...                          names=("gate_up_proj", "down_proj"), layout="in_out", bias=True)
        >>> gpt_oss.parameters, sum(weight.active_elements for weight in gpt_oss.weights())
        (3186155520, 99567360)
    """

    hidden_size: int
    intermediate_size: int
    num_experts: int
    experts_per_token: int
    names: tuple[str, ...]
    layout: str = "out_in"
    bias: bool = False

    def weights(self) -> tuple[Weight, ...]:
        """One tensor for each name, all experts in it."""
        *ups, down = self.names
        d, f = self.hidden_size, self.intermediate_size
        wide = (2 if len(ups) == 1 else 1) * f
        roles = ("experts_gate_up",) if len(ups) == 1 else ("experts_gate", "experts_up")
        maps = [(name, d, wide, role) for name, role in zip(ups, roles, strict=True)] + [(down, f, d, "experts_down")]
        weights = [self._weight(name, self._shape(inputs, outputs), role) for name, inputs, outputs, role in maps]
        if self.bias:
            weights += [self._weight(f"{name}_bias", (self.num_experts, outputs), role, Use.ELEMENTWISE)
                        for name, _, outputs, role in maps]  # fmt: skip
        return tuple(weights)

    def _shape(self, inputs: int, outputs: int) -> tuple[int, ...]:
        if self.layout == "flat":
            return (self.num_experts * self.intermediate_size, self.hidden_size)
        return (self.num_experts, *((outputs, inputs) if self.layout == "out_in" else (inputs, outputs)))

    def _weight(self, name: str, shape: tuple[int, ...], role: str, use: Use = Use.MATMUL) -> Weight:
        turned = self.layout == "in_out" and use is Use.MATMUL
        return Weight(name=name, shape=shape, role=role, component=Component.EXPERTS, use=use, transposed=turned,
                      stacked=self.num_experts, active=self.experts_per_token)  # fmt: skip
