"""What does one training run do? Method, precision, batch and layout together."""

from __future__ import annotations

from dataclasses import dataclass, field

from weighbridge.predict.training.layout import Layout
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.optimizers import OPTIMIZERS, Optimizer

CHECKPOINTING = ("none", "selective", "full")
KERNELS = ("eager", "fused")
LOSSES = ("plain", "chunked")
PRECISIONS = ("bf16", "fp16", "fp32", "fp8", "bf16-true")
"""16 and 8 bits are mixed precision, with a copy of the weights in 32 bits; `bf16-true` keeps all in 16 bits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run by what repeats in it: a step over `global_batch` sequences, of which each device works on `micro_batch` at
    a time.

    `checkpointing` says what is computed again in the backward pass instead of kept: nothing; attention's scores, or
    under flash attention every second multiplication; or all of a layer but its input. `attention` is `flash` or
    `eager` (which stores scores). `loss` is `chunked` where the head and the loss work on a few tokens at a time.
    `kernels` are `fused` where norms and activation functions keep nothing of their own, as compiled or in Megatron;
    `eager` is plain PyTorch.
    """

    sequence_tokens: int
    micro_batch: int = 1
    global_batch: int
    method: Method = field(default_factory=Method)
    optimizer: Optimizer = OPTIMIZERS["adamw"]
    precision: str = "bf16"
    checkpointing: str = "none"
    attention: str = "flash"
    loss: str = "plain"
    kernels: str = "eager"
    layout: Layout = field(default_factory=Layout)

    @property
    def step_tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.global_batch * self.sequence_tokens

    @property
    def accumulation(self) -> int:
        """Micro-batches that each device works on in one step.

        Example:
            >>> Run(sequence_tokens=2048, micro_batch=2, global_batch=64, layout=Layout(data=8)).accumulation
            4
        """
        return max(1, self.global_batch // (self.micro_batch * self.layout.data))


def by_operation(run: Run) -> bool:
    """Whether checkpointing chooses among the operations of a layer: selective, where attention stores no scores."""
    return run.checkpointing == "selective" and run.attention == "flash"
