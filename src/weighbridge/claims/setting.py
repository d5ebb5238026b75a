"""What is a setting, and of what? A configuration's keys, told apart: none of their values is a parameter.

Architecture fixes how many parameters there are, training settings how they are found, decoding settings how an answer
is picked. Only the first change a count.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.inspection import inspect

_DECODING = re.compile(
    r"temperature|top_p|top_k$|typical_p|repetition|length_penalty|num_beams|do_sample|max_new_tokens|max_length"
    r"|min_length|no_repeat|bos_token|eos_token|pad_token|forced_|suppress"
)
_TRAINING = re.compile(
    r"dropout|_drop$|initializer|init_|label_smoothing|aux_loss|learning_rate|weight_decay|batch|warmup|epochs"
    r"|gradient|router_jitter|pretraining_tp|layerdrop|mask_time|mask_feature"
)
_RECORD = re.compile(
    r"architectures|model_type|version|dtype|_name_or_path|auto_map|use_cache|return_|output_|id2label|label2id"
    r"|problem_type|task_specific|quantization_config|tokenizer|is_decoder$"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """One key of a configuration with its value and what it sets."""

    key: str
    value: Any
    kind: str

    def to_json(self) -> dict[str, Any]:
        """One entry of `settings`."""
        return {"key": self.key, "value": self.value, "kind": self.kind}


def kind_of(key: str) -> str:
    """`architecture`, `training`, `decoding` or `record`, which says what the file is about.

    Example:
        >>> [kind_of(key) for key in ("hidden_size", "attention_dropout", "temperature", "model_type")]
        ['architecture', 'training', 'decoding', 'record']
    """
    lower = key.lower()
    for kind, pattern in (("record", _RECORD), ("decoding", _DECODING), ("training", _TRAINING)):
        if pattern.search(lower):
            return kind
    return "architecture"


def settings_of(source: str | Path) -> tuple[tuple[Setting, ...], int]:
    """The settings of a model, in their order, and its count of parameters, of which none of them is one.

    Raises:
        WeighbridgeError: when the source cannot be read.

    Example:
        >>> settings, count = settings_of("llama-2-7b")
        >>> {one.key: one.kind for one in settings}["hidden_size"], count
        ('architecture', 6738415616)
    """
    found = inspect(source)
    config = found.checkpoint.config or {}
    return tuple(Setting(key, value, kind_of(key)) for key, value in config.items()), found.parameters.total
