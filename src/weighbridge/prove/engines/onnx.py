"""An ONNX file under onnxruntime, with the tokenizer of its folder or of another.

What the model is for, its outputs say: token vectors or one vector of a text (an encoder), a number for each label (a
classifier, output `logits` of two dimensions), or a number for each word of the vocabulary at each place (a causal
language model that is given whole texts).
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.errors import ConfigError
from weighbridge.prove.engines.folder import SETTINGS, labels_of, longest_of, pooled, pooling_of, positions_of, read
from weighbridge.prove.engines.model import Model, Rows, TooLongError, cut, log_softmax

INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")
TEXT_VECTORS = ("sentence_embedding", "pooled", "embeddings", "embedding")
LAST = "pooler_output"
"""What a head for the next sentence makes of the first token: the vector of a text where nothing else is."""


class OnnxModel(Model):
    """One ONNX file."""

    def __init__(self, path: str | Path, digest: str, folder: str | Path | None = None) -> None:
        """Loads a model.

        Args:
            path: an `.onnx` file.
            digest: of its content.
            folder: where its tokenizer is; its own folder without.

        Raises:
            ConfigError: when onnxruntime is not installed or cannot load it, or there is no tokenizer.
        """
        try:
            runtime: Any = importlib.import_module("onnxruntime")
            tokenizers: Any = importlib.import_module("tokenizers")
        except ImportError as error:
            raise ConfigError(f"{error.name} is not installed, which ONNX files need", "the extra `onnx`",
                              "run: pip install 'weighbridge[onnx]'") from error  # fmt: skip
        runtime.disable_telemetry_events()
        self.path = str(path)
        self.engine = f"onnxruntime {runtime.__version__}"
        self.folder = Path(path).parent if folder is None else Path(folder)
        try:
            self.tokenizer: Any = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        except Exception as error:  # the library raises no type of its own
            raise ConfigError(f"{self.folder} has no tokenizer that can be read ({error})", "a tokenizer.json",
                              "name the folder of one with --tokenizer") from error  # fmt: skip
        small = [path.read_text(encoding="utf-8", errors="replace") for path in map(self.folder.joinpath, SETTINGS)
                 if path.is_file()]  # fmt: skip
        self.digest = hashlib.sha256("\0".join([digest, self.tokenizer.to_str(), *small]).encode()).hexdigest()
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.tokenizer.encode_special_tokens = True
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        try:
            self.session: Any = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise ConfigError(f"onnxruntime cannot load {path} ({said})", "an ONNX file of a text model",
                              "try it in onnxruntime to see more") from error  # fmt: skip
        self.inputs = [one.name for one in self.session.get_inputs()]
        if strange := [name for name in self.inputs if name not in INPUTS]:
            raise ConfigError(f"{path} asks for {', '.join(strange[:3])}", f"inputs out of {', '.join(INPUTS)}",
                              "export it without a cache of earlier tokens")  # fmt: skip
        self.config = read(self.folder / "config.json", dict)
        self.positions = positions_of(self.folder)
        ends, begins = self.config.get("eos_token_id"), self.config.get("bos_token_id")
        self.ends = set(ends if isinstance(ends, list) else [ends])
        self.begin = begins if isinstance(begins, int) else next((e for e in self.ends if isinstance(e, int)), None)
        self._choose_output()

    def _choose_output(self) -> None:
        outputs = {one.name: len(one.shape) for one in self.session.get_outputs()}
        pools = (self.folder / "1_Pooling").is_dir()
        order = (*TOKEN_VECTORS, *TEXT_VECTORS) if pools else (*TEXT_VECTORS, *TOKEN_VECTORS)
        self.output = next((name for name in (*order, "logits", LAST) if name in outputs), "")
        if not self.output:
            raise ConfigError(f"{self.path} gives {', '.join(outputs)}",
                              f"one of {', '.join((*TEXT_VECTORS, *TOKEN_VECTORS, 'logits', LAST))}",
                              "export it with one of these names")  # fmt: skip
        if self.output == "logits":
            is_text = outputs["logits"] == 3
            self.abilities = frozenset({"reads", "likelihoods", "writes"}) if is_text else frozenset({"labels"})
            return
        self.abilities = frozenset({"embeds"})
        self.positions = longest_of(self.folder, self.positions)
        if self.output == LAST:
            self.notes = (f"{self.path} gives no vectors of tokens: its pooler's output is taken",)
        if self.output in TOKEN_VECTORS:
            self.pooling, note = pooling_of(self.folder)
            self.notes = (note,) if note else ()

    def _run(self, tokens: Sequence[int]) -> Rows:
        row = np.array([tokens], dtype=np.int64)
        given = {"input_ids": row, "attention_mask": np.ones_like(row), "token_type_ids": np.zeros_like(row),
                 "position_ids": np.arange(row.shape[1], dtype=np.int64)[None]}  # fmt: skip
        (found,) = self.session.run([self.output], {name: given[name] for name in self.inputs})
        return np.asarray(found[0], dtype=np.float32)

    def tokens(self, text: str) -> list[int]:
        """As `Model.tokens`."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def log_probabilities(self, tokens: Sequence[int], start: int = 0) -> Rows:
        """As `Model.log_probabilities`."""
        return log_softmax(self._run(tokens[:-1])[start:])

    def write(self, prompt: str, most_tokens: int, stop: Sequence[str]) -> str:
        """As `Model.write`; the whole text goes through the model for each token."""
        tokens = self.prompt_tokens(prompt, most_tokens)
        written: list[int] = []
        text = ""
        while len(written) < most_tokens:
            row = self._run([*tokens, *written])[-1]
            if np.isnan(row).any():
                raise ConfigError(f"{self.path} gives no number for the next token", "finite probabilities",
                                  "check its weights")  # fmt: skip
            token = int(row.argmax())
            if token in self.ends:
                break
            written.append(token)
            whole = self.tokenizer.decode([*tokens, *written], skip_special_tokens=True)
            text = whole.removeprefix(self.tokenizer.decode(tokens, skip_special_tokens=True))
            if cut(text, stop) != text:
                break
        return cut(text, stop)

    def label_probabilities(self, text: str) -> Mapping[str, float]:
        """As `Model.label_probabilities`."""
        tokens = self.tokenizer.encode(text).ids
        if self.positions is not None and len(tokens) > self.positions:
            raise TooLongError(f"{len(tokens):,} tokens")
        found = np.exp(log_softmax(self._run(tokens)[None])[0]).tolist()
        return dict(zip(labels_of(self.config, len(found)), found, strict=True))

    def embed(self, texts: Sequence[str]) -> Rows:
        """As `Model.embed`; one text at a time."""
        rows = []
        for text in texts:
            if self.positions is not None:
                self.tokenizer.enable_truncation(self.positions)
            found = self._run(self.tokenizer.encode(text).ids)
            rows.append(pooled(found, self.pooling) if found.ndim == 2 else found)
        return np.array(rows, dtype=np.float32)
