"""How many parameters has a recurrent layer? The same weights serve every step, so length does not enter.

Each of its gates has an input matrix (h x in), a hidden matrix (h x h) and biases; a plain RNN has one gate, a GRU
three, an LSTM four. PyTorch and cuDNN keep two bias vectors a gate, one for each matrix; Keras keeps one (two for its
default GRU, `reset_after=True`).
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Use, Weight
from weighbridge.model.tensors import Component

GATES = {"rnn": 1, "gru": 3, "lstm": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrent(Block):
    """A stack of `num_layers` RNN, GRU or LSTM layers, in PyTorch's layout.

    Without `kept` it runs over whole sequences at once, and no state outlives the pass.

    Example:
        >>> Recurrent(cell="lstm", input_size=128, hidden_size=256).parameters
        395264
        >>> Recurrent(cell="gru", input_size=128, hidden_size=256, num_layers=2, bidirectional=True).parameters
        1775616
    """

    cell: str
    input_size: int
    hidden_size: int
    num_layers: int = 1
    bidirectional: bool = False
    biases: int = 2
    kept: bool = True

    def weights(self) -> tuple[Weight, ...]:
        """`weight_ih_l0` (gates*h, in), `weight_hh_l0` (gates*h, h) and biases (gates*h,), by layer and direction."""
        rows, hidden = GATES[self.cell] * self.hidden_size, self.hidden_size
        directions = ("", "_reverse") if self.bidirectional else ("",)
        weights = []
        for layer in range(self.num_layers):
            inputs = self.input_size if layer == 0 else hidden * len(directions)
            for direction in directions:
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, inputs), "weight_hh": (rows, hidden)}
                shapes |= dict.fromkeys(("bias_ih", "bias_hh")[: self.biases], (rows,))
                weights += [Weight(name=f"{name}_l{layer}{direction}", shape=shape, role="recurrent",
                                   component=Component.OTHER,
                                   use=Use.MATMUL if name.startswith("weight") else Use.ELEMENTWISE)
                            for name, shape in shapes.items()]  # fmt: skip
        return tuple(weights)

    def states(self) -> tuple[State, ...]:
        """The hidden state, and for an LSTM the cell state, of each layer and direction."""
        if not self.kept:
            return ()
        vectors = (2 if self.cell == "lstm" else 1) * self.num_layers * (2 if self.bidirectional else 1)
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=vectors * self.hidden_size),)
