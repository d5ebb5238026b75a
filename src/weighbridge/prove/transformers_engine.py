"""What probability does a causal language model give each token of a text? A folder of safetensors under transformers.

Nothing is fetched, no code of the folder is run and nothing is unpickled. Numbers are worked out in the format that the
weights are stored in, and log-probabilities in fp32. Each window begins with the token that begins a text, where the
tokenizer has one, so that its first token is scored as well.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from weighbridge.errors import ConfigError
from weighbridge.inspection import inspect

WINDOW = 512
"""Tokens of a window where the model has positions for as many."""


class CausalModel:
    """One model with its tokenizer.

    `begin` begins a text: its BOS, or else its EOS token. `positions` is how long a window may be.
    """

    def __init__(self, path: str | Path) -> None:
        """Loads a model.

        Raises:
            ConfigError: when it is no folder of safetensors with a tokenizer, or transformers cannot load it.
        """
        inspection = inspect(path)
        if inspection.format != "safetensors" or inspection.stored is None or not Path(path).is_dir():
            read = f"{path} is {inspection.format}"
            raise ConfigError(read, "a folder of safetensors with its configuration and tokenizer", "name one")
        try:
            self.torch: Any = importlib.import_module("torch")
            transformers: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise ConfigError("transformers is not installed, which scores safetensors", "the extra `torch`",
                              "run: pip install 'weighbridge[torch]'") from error  # fmt: skip
        transformers.utils.logging.disable_progress_bar()
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(str(path), **local)
            self.model: Any = transformers.AutoModelForCausalLM.from_pretrained(
                str(path), dtype="auto", use_safetensors=True, **local
            ).eval()
        except Exception as error:  # whatever a stranger's folder makes the library raise
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise ConfigError(f"transformers cannot load {path} (it said: {said})", "a causal language model that it "
                              "knows, with its tokenizer", "try it in transformers to see more") from error  # fmt: skip
        self.path = str(path)
        self.positions = inspection.longest_context
        self.engine = f"transformers {transformers.__version__}, torch {self.torch.__version__}"
        begin = self.tokenizer.bos_token_id
        self.begin: int | None = self.tokenizer.eos_token_id if begin is None else begin

    def tokens(self, text: str) -> list[int]:
        """The tokens of a text, without any that a tokenizer adds."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def log_probabilities(self, tokens: list[int]) -> NDArray[np.float32]:
        """Natural logarithms for each place after the first, over the vocabulary: tokens - 1 rows."""
        with self.torch.inference_mode():
            logits = self.model(input_ids=self.torch.tensor([tokens])).logits[0, :-1].float()
            found: NDArray[np.float32] = self.torch.log_softmax(logits, dim=-1).numpy()
        return found


def windows(tokens: list[int], begin: int | None, length: int) -> list[list[int]]:
    """Windows of so many tokens that together score each token once, except the first of each without a beginning.

    Example:
        >>> windows([5, 6, 7, 8, 9], 0, 3), windows([5, 6, 7, 8, 9], None, 3)
        ([[0, 5, 6], [0, 7, 8], [0, 9]], [[5, 6, 7], [8, 9]])
    """
    each = length if begin is None else length - 1
    parts = [tokens[start : start + each] for start in range(0, len(tokens), each)]
    return [part if begin is None else [begin, *part] for part in parts]
