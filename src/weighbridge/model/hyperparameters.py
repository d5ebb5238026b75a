"""Which numbers fix a model's shape? One spelling for each, whatever the file calls it.

A reader translates its own spellings at the border (`formats.config`, `formats.gguf_config`); families read only these:

`vocab_size`, `hidden_size`, `num_layers`, `num_heads`, `num_kv_heads`, `head_dim`, `intermediate_size`,
`max_positions`, `num_token_types`, `num_experts`, `experts_per_token`, `sliding_window`, `tie_embeddings`,
`attention_bias`, `mlp_bias`, `num_labels`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from weighbridge.errors import ConfigError

_LARGEST = 2**40  # no published model has a dimension near this

MOST_LAYERS = 10_000
"""Lists by layer are built: a number that no model has must not fill the memory."""
MOST_EXPERTS = 100_000
"""Likewise for the tensors of each expert."""


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """The shape-giving settings of one model, with the checks that every reader of them needs.

    `model_type` and `classes` (the `architectures` of a Hugging Face configuration) say which family is meant.
    `inferred` lists the settings that were taken from the tensor table itself, which therefore prove nothing about it.
    `spellings` gives the source's own name of a setting, for messages.
    """

    source: str
    model_type: str
    settings: Mapping[str, Any]
    classes: tuple[str, ...] = ()
    inferred: tuple[str, ...] = ()
    spellings: Mapping[str, str] = field(default_factory=dict)

    def _key(self, name: str) -> str:
        return self.spellings.get(name, name)

    def _unusable(self, name: str, expected: str) -> ConfigError:
        read = f"{self.source} has {self._key(name)} = {repr(self.settings.get(name))[:60]}"
        return ConfigError(read, expected, "correct the key")

    def count(self, name: str, default: int | None = None, most: int = _LARGEST, least: int = 1) -> int:
        """A whole number from `least` to `most`; the default stands in for a key that is missing or null.

        Raises:
            ConfigError: when the key is missing without a default, or holds anything else.
        """
        value = self.settings.get(name)
        if value is None:
            if default is None:
                read = f"{self.source} has no {self._key(name)}"
                raise ConfigError(read, "the key with a whole number", "use the model's full config.json")
            return default
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self._unusable(name, f"a whole number from {least} to {most:,}")
        return value

    def optional_count(self, name: str) -> int | None:
        """As `count`, but None for a key that is missing or null."""
        return None if self.settings.get(name) is None else self.count(name)

    def flag(self, name: str, default: bool) -> bool:
        """True or false; the default stands in for a missing key, and a null is false, as it is in Python.

        Raises:
            ConfigError: when the key holds anything else.
        """
        value = self.settings.get(name, default)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self._unusable(name, "true or false")
        return value

    def part(self, name: str) -> Hyperparameters:
        """The settings of a part of the model, such as `text_config`.

        Raises:
            ConfigError: when the configuration has no such part.
        """
        value = self.settings.get(name)
        if not isinstance(value, Hyperparameters):
            read = f"{self.source} has no {name} with settings"
            raise ConfigError(read, "the configuration of every part", "use the model's full config.json")
        return value

    def of_text(self, name: str) -> int | None:
        """A whole number of the model, or of the language model in it; None where neither names one."""
        parts = (self.settings.get(key) for key in ("text_config", "llm_config", "language_config"))
        for settings in (self.settings, *(part.settings for part in parts if isinstance(part, Hyperparameters))):
            if type(settings.get(name)) is int:
                return int(settings[name])
        return None

    def divided(self, name: str, whole: int, by: int) -> int:
        """`whole / by`, for a size that has no key of its own; both must divide exactly.

        Raises:
            ConfigError: when they do not.
        """
        if whole % by:
            read = f"{self.source} gives {whole} / {by} for {name}"
            raise ConfigError(read, "a division without remainder", "correct the sizes")
        return whole // by

    def same(self, name: str, one: int, other: int) -> None:
        """Refuses two sizes that the model needs to be equal.

        Raises:
            ConfigError: when they are not.
        """
        if one != other:
            read = f"{self.source} gives {one:,} and {other:,} for {name}"
            raise ConfigError(read, "the same number", "correct the sizes")

    def derived(self, name: str, value: int) -> int:
        """A size that follows from others, when it is a size at all.

        Raises:
            ConfigError: when the others are so small that nothing is left.
        """
        if value < 1:
            raise ConfigError(
                f"{self.source} gives {value} for {name}", "sizes that leave something", "correct the sizes"
            )
        return value

    def check_experts(self, num_experts: int, experts_per_token: int) -> None:
        """Refuses a router that picks more experts than there are.

        Raises:
            ConfigError: when it does.
        """
        if experts_per_token > num_experts:
            read = f"{self.source} routes a token to {experts_per_token} of {num_experts} experts"
            raise ConfigError(read, "at most as many as there are", f"correct {self._key('experts_per_token')}")

    def refuse(self, name: str, reason: str) -> None:
        """Refuses a setting that the family does not describe, instead of counting around it.

        Raises:
            ConfigError: when the key is present with a value that switches it on.
        """
        if self.settings.get(name):
            raise ConfigError(
                f"{self.source} sets {self._key(name)} = {repr(self.settings[name])[:60]}, {reason}",
                "a model without it", "ask for support of this variant, as no count is better than a wrong one",
            )  # fmt: skip
