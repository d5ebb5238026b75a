"""How many parameters has an RWKV layer, and what does it keep?

RWKV-4 (Peng et al. 2023), with d the width, a the attention width and f the inner width: time mixing has 3*d*a in, a*d
out, a decay and a bonus of a each and three mixing vectors of d; channel mixing has d*f and f*d, a gate d*d and two
mixing vectors of d.

State, as transformers keeps it: numerator, denominator and maximum of the weighted sum (3a) and the last token's input
(d) for time mixing, the last token's input (d) for channel mixing.

RWKV-5 and 6 (Peng et al. 2024) keep one matrix a head, s*a numbers with heads of width s, add an output gate d*a and a
norm of each head (2d), and mix in four and six vectors. RWKV-6 makes mixing and decay depend on the token through
low-rank maps: 2*5*m*d for the five mixtures and n*(d+a) for the decay.

RWKV-7 (Peng et al. 2025) corrects its matrices by a delta rule. With low-rank maps of ranks w, a, m and g for decay,
learning rate, value mixture and gate: 4*d*d for the projections, 2*(w+a+m+g)*d + 3*d for the maps, 6*d for the mixing
vectors, 3*d for key scale, rate scale and bonus, 2*d for the norm of the heads. The first layer has no value mixture.
Channel mixing has no gate.
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
class MatrixTimeMix(Block):
    """What RWKV-5 and 6 have in place of attention.

    `mixes` are the names of the mixing vectors; `ranks` those of the low-rank maps of mixing and decay (RWKV-6).

    Example:
        >>> eagle = MatrixTimeMix(hidden_size=2048, attention_size=2048, head_size=64,
        ...                       mixes=("time_mix_gate", "time_mix_key", "time_mix_value", "time_mix_receptance"))
        >>> eagle.parameters, eagle.states()[0].elements_per_sequence
        (20987904, 133120)
    """

    hidden_size: int
    attention_size: int
    head_size: int
    mixes: tuple[str, ...]
    ranks: tuple[int, int] | None = None

    def weights(self) -> tuple[Weight, ...]:
        """Mixing vectors (1, 1, hidden), decay and bonus by head, low-rank maps, projections, the norm of the heads."""
        hidden, inner, part = self.hidden_size, self.attention_size, Component.ATTENTION
        by_head = (inner // self.head_size, self.head_size)
        decay = by_head if self.ranks is None else (1, 1, inner)
        inputs = ("receptance", "key", "value", "gate")
        return (
            *(mixer_vector(name, (1, 1, hidden), "time_mix_lerp", part) for name in self.mixes),
            mixer_vector("time_decay", decay, "time_mix_decay", part),
            mixer_vector("time_faaaa", by_head, "time_mix_first", part),
            *self._low_rank(),
            *(weight for name in inputs
              for weight in projection(name, hidden, inner, role=f"time_mix_{name}", component=part)),
            *projection("output", inner, hidden, role="time_mix_output", component=part),
            *(mixer_vector(f"ln_x.{name}", (hidden,), "time_mix_norm", Component.NORM) for name in ("weight", "bias")),
        )  # fmt: skip

    def _low_rank(self) -> tuple[Weight, ...]:
        if self.ranks is None:
            return ()
        (mix, decay), hidden, part = self.ranks, self.hidden_size, Component.ATTENTION
        shapes = (("time_maa_w1", (hidden, 5 * mix)), ("time_maa_w2", (5, mix, hidden)),
                  ("time_decay_w1", (hidden, decay)), ("time_decay_w2", (decay, self.attention_size)))  # fmt: skip
        return tuple(Weight(name=name, shape=shape, role="time_mix_low_rank", component=part, transposed=True)
                     for name, shape in shapes)  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """One matrix a head, and the last token's input."""
        elements = self.attention_size * self.head_size + self.hidden_size
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=elements),)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeltaTimeMix(Block):
    """What RWKV-7 has in place of attention; `ranks` are those of decay, rate, value mixture (None: no map) and gate.

    Example:
        >>> goose = DeltaTimeMix(hidden_size=768, head_size=64, ranks=(64, 64, 32, 128))
        >>> goose.parameters, goose.states()[0].elements_per_sequence
        (2812416, 49920)
    """

    hidden_size: int
    head_size: int
    ranks: tuple[int, int, int | None, int]

    def weights(self) -> tuple[Weight, ...]:
        """Mixing vectors (1, 1, hidden), scales, bonus by head, projections, low-rank maps, the norm of the heads."""
        hidden, part = self.hidden_size, Component.ATTENTION
        by_head = (hidden // self.head_size, self.head_size)
        inputs = (("r_proj", "receptance"), ("k_proj", "key"), ("v_proj", "value"))
        return (
            *(mixer_vector(f"x_{letter}", (1, 1, hidden), "time_mix_lerp", part) for letter in "rwkvag"),
            *(mixer_vector(name, (hidden,), "time_mix_scale", part) for name in ("k_k", "k_a")),
            mixer_vector("r_k", by_head, "time_mix_first", part),
            *(weight for name, role in inputs
              for weight in projection(name, hidden, hidden, role=f"time_mix_{role}", component=part)),
            *projection("o_proj", hidden, hidden, role="time_mix_output", component=part),
            *(weight for letter, rank in zip("wavg", self.ranks, strict=True) if rank
              for weight in self._low_rank(f"{letter}_lora.lora", rank, bias=letter != "g")),
            *(mixer_vector(f"g_norm.{name}", (hidden,), "time_mix_norm", Component.NORM)
              for name in ("weight", "bias")),
        )  # fmt: skip

    def _low_rank(self, name: str, rank: int, *, bias: bool) -> tuple[Weight, ...]:
        hidden, role, part = self.hidden_size, "time_mix_low_rank", Component.ATTENTION
        return (*projection(f"{name}.0", hidden, rank, role=role, component=part),
                *projection(f"{name}.2", rank, hidden, role=role, component=part, bias=bias))  # fmt: skip

    def states(self) -> tuple[State, ...]:
        """One matrix a head, and the last token's input."""
        elements = (self.head_size + 1) * self.hidden_size
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=elements),)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelMix(Block):
    """What RWKV has in place of a feed-forward block; the receptance gates it up to RWKV-6.

    Example:
        >>> ChannelMix(hidden_size=768, intermediate_size=3072).parameters
        5309952
    """

    hidden_size: int
    intermediate_size: int
    mixes: tuple[str, ...] = ("time_mix_key", "time_mix_receptance")
    gated: bool = True

    def weights(self) -> tuple[Weight, ...]:
        """Mixing vectors (1, 1, hidden), or (hidden,) in RWKV-7, key (intermediate, hidden), receptance, value."""
        hidden, inner, part = self.hidden_size, self.intermediate_size, Component.MLP
        mix = (1, 1, hidden) if self.gated else (hidden,)
        gate = projection("receptance", hidden, hidden, role="channel_mix_receptance", component=part)
        return (
            *(mixer_vector(name, mix, "channel_mix_lerp", part) for name in self.mixes),
            *projection("key", hidden, inner, role="channel_mix_key", component=part),
            *(gate if self.gated else ()),
            *projection("value", inner, hidden, role="channel_mix_value", component=part),
        )

    def states(self) -> tuple[State, ...]:
        """The last token's input."""
        return (State(kind=StateKind.RECURRENT, elements_per_sequence=self.hidden_size),)
