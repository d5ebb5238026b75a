"""What is asked of a training run, and what is left open?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.errors import UnitError
from weighbridge.hardware.machine import MOST_DEVICES
from weighbridge.layout_search import Fixed
from weighbridge.predict.training.methods import Method
from weighbridge.predict.training.run import CHECKPOINTING, KERNELS, LOSSES, PRECISIONS

CHOICES = {
    "checkpointing": CHECKPOINTING, "precision": PRECISIONS, "attention": ("flash", "eager"),
    "offload": ("none", "cpu", "nvme"), "layout": ("auto",), "loss": LOSSES, "kernels": KERNELS,
}  # fmt: skip
"""What can be said of each in words."""
MOST_LEARNED = 1_000_000
"""No matrix has so many rows that adapters of a higher rank, or longer prompts, would make sense."""
USUAL_RANK = 16
"""Of adapters, where none is given."""
OF_METHODS = {
    "rank": ("lora", "dora", "qlora"), "targets": ("lora", "dora", "qlora"), "prompt_tokens": ("prompt", "prefix"),
    "train_layers": ("freeze",),
}  # fmt: skip
"""Options that only some methods have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked of a run; None leaves it to the search, or to a default that a note names.

    Args:
        tokens: that are trained on, all epochs together.
        devices: how many, or how many of the instance.
        method: what is trained.
        sequence_tokens: tokens of a sequence.
        precision: the number format; `bf16-true` is 16 bits without a copy in 32.
        optimizer: its name.
        attention: `flash` or `eager`.
        offload: where the optimizer's states wait: `none`, `cpu` or `nvme`.
        loss: `plain`, or `chunked` where head and loss work on a few tokens at a time.
        kernels: `fused` norms and activation functions, as compiled or in Megatron, or `eager`, as in plain PyTorch.
        fixed: what is given of the layout, micro-batch, global batch and checkpointing.
        is_searched: whether the rest of the layout is searched for; else it has plain defaults.
        unique_tokens: tokens of the data without repetition, where it is read more than once.
    """

    tokens: int
    devices: int = 1
    method: Method = field(default_factory=Method)
    sequence_tokens: int | None = None
    precision: str = "bf16"
    optimizer: str = "adamw"
    attention: str = "flash"
    offload: str = "none"
    loss: str = "plain"
    kernels: str | None = None
    fixed: Fixed = field(default_factory=Fixed)
    is_searched: bool = True
    unique_tokens: int | None = None


def wish(
    tokens: int, *, devices: int = 1, method: str = "full", rank: int | None = None, targets: str = "",
    prompt_tokens: int = 0, train_layers: int = 0, seq: int | None = None, micro_batch: int | None = None,
    global_batch: int | None = None, zero: int | None = None, tp: int | None = None, pp: int | None = None,
    dp: int | None = None,
    cp: int | None = None, ep: int | None = None, checkpointing: str | None = None, precision: str = "bf16",
    optimizer: str = "adamw", attention: str = "flash", offload: str = "none", layout: str | None = None,
    unique: int | None = None, loss: str = "plain", kernels: str | None = None,
) -> Wish:  # fmt: skip
    """A wish by the names of the options of `weigh train`.

    The layout is searched for where nothing of it is given, and where `layout` is `auto`.

    Raises:
        UnitError: for a word that is none of `CHOICES`.

    Example:
        >>> wish(10**9).is_searched, wish(10**9, zero=3).is_searched, wish(10**9, zero=3, layout="auto").is_searched
        (True, False, True)
    """
    said = {"checkpointing": checkpointing, "precision": precision, "attention": attention, "offload": offload,
            "layout": layout, "loss": loss, "kernels": kernels}  # fmt: skip
    for name, word in said.items():
        if word is not None and word not in CHOICES[name]:
            raise UnitError(f"{name} {word!r}", f"one of {', '.join(CHOICES[name])}", "choose one of them")
    fixed = Fixed(tensor=tp, pipeline=pp, data=dp, context=cp, expert=ep, zero=zero, micro_batch=micro_batch,
                  checkpointing=checkpointing, global_batch=global_batch)  # fmt: skip
    given = (tp, pp, dp, cp, ep, zero, micro_batch, checkpointing)
    named = tuple(one.strip() for one in targets.split(",") if one.strip())
    return Wish(
        tokens=tokens, devices=devices, sequence_tokens=seq, precision=precision, optimizer=optimizer,
        attention=attention, offload=offload, fixed=fixed, unique_tokens=unique, loss=loss, kernels=kernels,
        method=Method(name=method.lower(), rank=USUAL_RANK if rank is None else rank, targets=named,
                      prompt_tokens=prompt_tokens, trained_layers=train_layers),
        is_searched=layout == "auto" or all(one is None for one in given),
    )  # fmt: skip


def check_method(options: Mapping[str, Any]) -> None:
    """Refuses options of another method than the one that is asked for: who gives a rank means LoRA.

    Args:
        options: those of `wish`, by their names.

    Raises:
        UnitError: naming the option and the methods that have it.
    """
    method = str(options.get("method") or "full").lower()
    for name, methods in OF_METHODS.items():
        if options.get(name) not in (None, "", 0) and method not in methods:
            read = f"{name.replace('_', '-')} {options[name]} with the method {method}"
            raise UnitError(read, f"one of the methods {', '.join(methods)}", "name the method, or leave it out")


def check(asked: Wish, devices: int) -> None:
    """Refuses numbers that no run has.

    Raises:
        UnitError: naming the number.
    """
    numbers = {"tokens": asked.tokens, "devices": devices, "tokens of a sequence": asked.sequence_tokens,
               **{name.replace("_", " "): getattr(asked.fixed, name) for name in
                  ("tensor", "pipeline", "data", "context", "expert", "micro_batch", "global_batch")}}  # fmt: skip
    for name, number in numbers.items():
        if number is not None and not 1 <= number <= 10**18:
            raise UnitError(f"{name}: {number:,}", "a whole number from 1 to 10^18", "correct it")
    for name, number in (("rank", asked.method.rank), ("tokens of a prompt", asked.method.prompt_tokens)):
        if number > MOST_LEARNED:
            raise UnitError(f"{name}: {number:,}", f"at most {MOST_LEARNED:,}", "correct it")
    if devices > MOST_DEVICES:
        raise UnitError(f"{devices:,} devices", f"at most {MOST_DEVICES:,}", "correct it")
    if asked.fixed.zero is not None and not 0 <= asked.fixed.zero <= 3:
        raise UnitError(f"ZeRO {asked.fixed.zero}", "a stage from 0 to 3", "correct it")
