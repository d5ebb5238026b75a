"""How many parameters has an RWKV layer, and what does it keep?

RWKV-4 (Peng et al. 2023), with d the width, a the attention width and f the inner width: time mixing has 3*d*a in, a*d
out, a decay and a bonus of a each and three mixing vectors of d; channel mixing has d*f and f*d, a gate d*d and two
mixing vectors of d.

State, as transformers keeps it: numerator, denominator and maximum of the weighted sum (3a) and the last token's input
(d) for time mixing, the last token's input (d) for channel mixing.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.model.blocks.block import Block, State, StateKind, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.blocks.state_space import mixer_vector
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeMix(Block):
    """What RWKV-4 has in place of attention.

    Example:
        >>> TimeMix(hidden_size=768, attention_size=768).parameters
        2363136
    """

    hidden_size: int
    attention_size: int

    def weights(self) -> tuple[Weight, ...]:
        """Decay and bonus (attention,), mixing vectors (1, 1, hidden), key, value, receptance and output."""
        hidden, inner, part = self.hidden_size, self.attention_size, Component.ATTENTION
        mixes = ("time_mix_key", "time_mix_value", "time_mix_receptance")
        inputs = (("key", "time_mix_key"), ("value", "time_mix_value"), ("receptance", "time_mix_receptance"))
        return (
            *(mixer_vector(name, (inner,), "time_mix_decay", part) for name in ("time_decay", "time_first")),
            *(mixer_vector(name, (1, 1, hidden), "time_mix_lerp", part) for name in mixes),
            *(weight for name, role in inputs for weight in projection(name, hidden, inner, role=role, component=part)),
            *projection("output", inner, hidden, role="time_mix_output", component=part),
        )

    def states(self) -> tuple[State, ...]:
        """The weighted sum in three parts, and the last token's input."""
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=3 * self.attention_size + self.hidden_size),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelMix(Block):
    """What RWKV-4 has in place of a feed-forward block.

    Example:
        >>> ChannelMix(hidden_size=768, intermediate_size=3072).parameters
        5309952
    """

    hidden_size: int
    intermediate_size: int

    def weights(self) -> tuple[Weight, ...]:
        """Mixing vectors (1, 1, hidden), key (intermediate, hidden), receptance (hidden, hidden), value."""
        hidden, inner, part = self.hidden_size, self.intermediate_size, Component.MLP
        return (
            *(mixer_vector(name, (1, 1, hidden), "channel_mix_lerp", part)
              for name in ("time_mix_key", "time_mix_receptance")),
            *projection("key", hidden, inner, role="channel_mix_key", component=part),
            *projection("receptance", hidden, hidden, role="channel_mix_receptance", component=part),
            *projection("value", inner, hidden, role="channel_mix_value", component=part),
        )  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """The last token's input."""
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=self.hidden_size),)
