"""What does a block cost that a model passes several times? Its weights once, its work each time (ALBERT, Lan 2020)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.model.blocks.block import Block, State, Weight


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated(Block):
    """A block whose weights so many layers share.

    Example:
        >>> from weighbridge.model.blocks.linear import Linear
        >>> once = Linear(in_features=10, out_features=20)
        >>> Repeated(block=once, times=12).parameters == once.parameters
        True
    """

    block: Block
    times: int

    def weights(self) -> tuple[Weight, ...]:
        """Those of the block, applied so many times."""
        return tuple(replace(weight, positions=weight.positions * self.times) for weight in self.block.weights())

    def states(self) -> tuple[State, ...]:
        """What every pass keeps."""
        return tuple(
            replace(
                state,
                elements_per_token=state.elements_per_token * self.times,
                elements_per_sequence=state.elements_per_sequence * self.times,
            )
            for state in self.block.states()
        )

    def attention_flops_per_position(self) -> int:
        """That of every pass."""
        return self.block.attention_flops_per_position() * self.times
