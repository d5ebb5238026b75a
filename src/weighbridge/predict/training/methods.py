"""Which parameters does a way of training change? All of them, adapters beside frozen ones, a learned prompt, the last
layers.
"""

from __future__ import annotations

from dataclasses import dataclass

METHODS = ("full", "lora", "dora", "qlora", "prompt", "freeze")


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way of training. `rank` and `targets` are those of low-rank adapters (roles of matrices as in `model.recipes`,
    or `all-linear`), `prompt_tokens` those of a learned prompt, `trained_layers` the last layers that are not frozen.

    `frozen` names the encoding of frozen weights where it differs from that of the run, as `nf4` under QLoRA.
    """

    name: str = "full"
    rank: int = 16
    targets: tuple[str, ...] = ("attention_q", "attention_v")
    prompt_tokens: int = 0
    trained_layers: int = 0
    frozen: str | None = None
