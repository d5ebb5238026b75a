"""How many parameters has a mixture of experts, and how many does a token use?

E experts of a feed-forward block each, of which a router (d*E) picks k for every token. All must be held; a token
multiplies with k of them (Shazeer et al. 2017; Jiang et al. 2024). A layer's other parts are shared: multiplying
a whole model by E counts them E times.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.tensors import Component, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts(Block):
    """Routed experts, one set of tensors each, and their router.

    `names` are those of gate, up and down, with `{expert}` for the number; without a gate the first is left out.
    `width` is what the experts read and write where it is not the hidden size, as behind a projection to a latent.
    The router chooses among `idle_experts` too, which have no weights (LongCat-Flash).
    `correction` names the bias that balances the load (DeepSeek-V3): most implementations keep it as a buffer.

    Example:
        >>> mixtral = Experts(hidden_size=4096, intermediate_size=14336, num_experts=8, experts_per_token=2)
        >>> mixtral.parameters
        1409318912
    """

    hidden_size: int
    intermediate_size: int
    num_experts: int
    experts_per_token: int
    router: str = "gate"
    names: tuple[str, ...] = ("experts.{expert}.w1", "experts.{expert}.w3", "experts.{expert}.w2")
    router_bias: bool = False
    expert_bias: bool = False
    width: int | None = None
    correction: str | None = None
    correction_kind: Kind = Kind.BUFFER
    correction_shape: tuple[int, ...] | None = None
    idle_experts: int = 0

    def weights(self) -> tuple[Weight, ...]:
        """Router (experts, hidden); of each expert gate and up (intermediate, hidden), down (hidden, intermediate)."""
        *ups, down = self.names
        roles = ("experts_gate", "experts_up") if len(ups) == 2 else ("experts_up",)
        d, f = self.width or self.hidden_size, self.intermediate_size
        maps = [(name, d, f, role) for name, role in zip(ups, roles, strict=True)] + [(down, f, d, "experts_down")]
        router = projection(self.router, self.hidden_size, self.num_experts + self.idle_experts, role="router",
                            component=Component.ROUTER, bias=self.router_bias)  # fmt: skip
        correction = () if self.correction is None else (
            Weight(name=self.correction, shape=self.correction_shape or (self.num_experts,),
                   role="router_correction",
                   component=Component.ROUTER, use=Use.ELEMENTWISE, kind=self.correction_kind),
        )  # fmt: skip
        return (*router, *correction, *(weight for name, inputs, outputs, role in maps
                           for weight in projection(name, inputs, outputs, role=role, component=Component.EXPERTS,
                                                    bias=self.expert_bias, experts=self.num_experts,
                                                    active=self.experts_per_token)))  # fmt: skip
