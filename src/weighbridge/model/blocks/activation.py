"""Has an activation function parameters? No, but for the few that learn a slope."""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, Use, Weight
from weighbridge.model.tensors import Component

FIXED = ("elu", "gelu", "hardswish", "identity", "leaky_relu", "mish", "relu", "relu6", "selu", "sigmoid", "silu",
         "softmax", "softplus", "swish", "tanh")  # fmt: skip
LEARNED = ("prelu",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Activation(Block):
    """A non-linearity. PReLU (He et al. 2015) learns one slope, or one a channel; the others learn nothing.

    Example:
        >>> Activation(name="relu").parameters, Activation(name="prelu", channels=64).parameters
        (0, 64)
    """

    name: str
    channels: int = 1

    def weights(self) -> tuple[Weight, ...]:
        """`weight` (channels,) for PReLU; nothing otherwise."""
        if self.name not in LEARNED:
            return ()
        return (Weight(name="weight", shape=(self.channels,), role="activation", component=Component.OTHER,
                       use=Use.ELEMENTWISE),)  # fmt: skip
