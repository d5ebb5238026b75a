"""Which parameters does a way of training change? All of them, adapters beside frozen ones, a learned prompt, the last
layers.

- full: every parameter.
- lora: A [r, in] and B [out, r] beside each targeted matrix, r*(in + out) (Hu et al. 2021).
- dora: those, and a magnitude for each output (Liu et al. 2024).
- qlora: those of lora, beside weights frozen in 4 bits (Dettmers et al. 2023).
- prompt: prompt_tokens vectors of the width of the token table (Lester et al. 2021).
- prefix: keys and values of prompt_tokens tokens in every layer (Li and Liang 2021).
- bitfit: the biases (Ben Zaken et al. 2022).
- freeze: the last layers, and all that follows them.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.errors import ConfigError, UnknownNameError

METHODS = ("full", "lora", "dora", "qlora", "prompt", "prefix", "bitfit", "freeze")
ALL_LINEAR = "all-linear"
"""Stands for every linear map but the head, as in PEFT. Routed experts that files hold one by one are linear maps, with
their router; those that lie in one tensor are not, and have to be named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """A way of training. `rank` and `targets` are those of low-rank adapters, `prompt_tokens` those of a learned prompt
    or prefix, `trained_layers` the last layers that are not frozen.

    A target is a role (`attention_q`, `mlp_down`, ...), the end of a module's name as PEFT takes it (`q_proj`,
    `query_key_value`, `layers.0.mlp.up_proj`), or `all-linear`. Where queries, keys and values lie in one matrix, the
    role of one of them stands for its part of it (Hu et al. 2021), and the name for the whole matrix.
    `modules_to_save` are the ends of names of modules of which the run trains a copy as a whole, beside adapters.

    `dropout` is the share of an adapter's inputs that is dropped while training: above 0, each keeps its own copy.
    With `keeps_inputs` frozen matrices of a few bits keep their inputs, as those of bitsandbytes did before 0.44.
    `frozen` names the encoding of frozen weights where it differs from that of the run, as `nf4` under QLoRA.
    """

    name: str = "full"
    rank: int = 16
    targets: tuple[str, ...] = ("attention_q", "attention_v")
    prompt_tokens: int = 0
    trained_layers: int = 0
    dropout: float = 0.0
    keeps_inputs: bool = False
    frozen: str | None = None
    modules_to_save: tuple[str, ...] = ()

    @property
    def has_adapters(self) -> bool:
        """Whether low-rank matrices stand beside those of the model."""
        return self.name in ("lora", "dora", "qlora")

    @property
    def learns_prompt(self) -> bool:
        """Whether vectors are learned that stand before those of the text."""
        return self.name in ("prompt", "prefix")

    @property
    def frozen_encoding(self) -> str | None:
        """The encoding of frozen weights: the one that is named, else NF4 under QLoRA; None for that of the run.

        Example:
            >>> Method(name="qlora").frozen_encoding, Method(name="lora").frozen_encoding
            ('nf4', None)
        """
        return self.frozen or ("nf4" if self.name == "qlora" else None)

    def check(self) -> None:
        """Refuses a method that trains nothing.

        Raises:
            UnknownNameError: for a name that is in no table.
            ConfigError: when a number that the method needs is missing or below its least.
        """
        if self.name not in METHODS:
            raise UnknownNameError("method of training", self.name, METHODS, "name one of them")
        needed = []
        if self.has_adapters:
            needed.append(("rank", self.rank, 1))
        if self.learns_prompt:
            needed.append(("prompt_tokens", self.prompt_tokens, 1))
        if self.name == "freeze":
            needed.append(("trained_layers", self.trained_layers, 0))
        for what, number, least in needed:
            if number < least:
                raise ConfigError(f"{self.name} with {what} = {number}", f"{what} of at least {least}", "give it")
        if self.has_adapters and not (self.targets or self.modules_to_save):
            raise ConfigError(f"{self.name} without targets", "matrices to adapt", f"name some, or {ALL_LINEAR}")
