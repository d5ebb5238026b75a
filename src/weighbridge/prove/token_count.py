"""How many tokens is a text to a model? Parameters are what a model keeps; tokens are what goes through it.

A tokenizer splits a text into pieces of its vocabulary: that of a GGUF file through llama.cpp, or a `tokenizer.json`
through the library tokenizers. No weights are needed for the latter. Counts are exact.
"""

from __future__ import annotations

import importlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weighbridge.errors import ConfigError, SourceError
from weighbridge.prove.engines.llama_cpp import GgufModel


@dataclass(frozen=True, slots=True)
class TokenCount:
    """The tokens of a text: their numbers and their pieces, without any that a tokenizer adds."""

    text: str
    ids: tuple[int, ...]
    pieces: tuple[str, ...]

    @property
    def words(self) -> int:
        """What spaces part."""
        return len(self.text.split())

    @property
    def per_word(self) -> float | None:
        """Tokens for a word; None of no word."""
        return len(self.ids) / self.words if self.words else None

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh tokens --json`."""
        return {"tokens": len(self.ids), "words": self.words, "tokens_per_word": self.per_word,
                "bytes": len(self.text.encode()), "ids": list(self.ids), "pieces": list(self.pieces)}  # fmt: skip


def count_tokens(source: str | Path, text: str) -> TokenCount:
    """The tokens of a text.

    Args:
        source: a GGUF file, a `tokenizer.json`, or a folder with one.
        text: the text.

    Raises:
        SourceError: when the source is not there.
        ConfigError: when it has no tokenizer that can be read, or a package is not installed.
    """
    path = Path(source)
    if not path.exists():
        raise SourceError(f"{source} does not exist", "a GGUF file, or a folder with tokenizer.json", "check the name")
    if path.suffix.lower() == ".gguf":
        with closing(GgufModel(path, "")) as model:
            ids = model.tokens(text)
            return TokenCount(text, tuple(ids), tuple(model.pieces(ids)))
    try:
        tokenizers: Any = importlib.import_module("tokenizers")
    except ImportError as error:
        raise ConfigError("tokenizers is not installed, which reads tokenizer.json", "the extra `onnx`",
                          "run: pip install 'weighbridge[onnx]'") from error  # fmt: skip
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises no type of its own
        raise ConfigError(f"{file} is no tokenizer that can be read ({error})", "a tokenizer.json",
                          "name the folder of one") from error  # fmt: skip
    tokenizer.no_truncation()
    tokenizer.encode_special_tokens = True
    found = tokenizer.encode(text, add_special_tokens=False)
    return TokenCount(text, tuple(found.ids), tuple(text[start:end] for start, end in found.offsets))
