"""A folder of safetensors, or a GGUF file that is dequantized, under transformers.

Nothing is fetched, no code of the folder is run and nothing is unpickled. Numbers are worked out in the format that the
weights are stored in (a GGUF file's in fp32), and log-probabilities in fp32. What the model is for, its configuration
says: a causal or a masked language model, a classifier of texts, or an encoder. The weights are loaded with the first
question; where they are more than the memory they may take, accelerate keeps the first layers in memory and reads the
others from the disk at every pass.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.errors import ConfigError, UnitError
from weighbridge.inspection import inspect
from weighbridge.prove.engines.folder import labels_of, longest_of, pooled, pooling_of
from weighbridge.prove.engines.model import Ability, Model, Rows, TooLongError, cut

MASKED_AT_ONCE = 16
"""Copies of a window, each with another token hidden, that go through a masked model together."""
CLASSES: dict[str, tuple[str, frozenset[Ability]]] = {
    "CausalLM": ("AutoModelForCausalLM", frozenset({"reads", "likelihoods", "writes"})),
    "LMHeadModel": ("AutoModelForCausalLM", frozenset({"reads", "likelihoods", "writes"})),
    "MaskedLM": ("AutoModelForMaskedLM", frozenset({"reads", "likelihoods"})),
    "SequenceClassification": ("AutoModelForSequenceClassification", frozenset({"labels"})),
    "Model": ("AutoModel", frozenset({"embeds"})),
}
"""By the end of the name in `architectures`: what loads it, and what it can be asked."""
UNUSED = "pooler."
"""Weights that an encoder's vectors of tokens do not come from, and that files may leave out."""


class TransformersModel(Model):
    """One model with its tokenizer. A word such as `<s>` in a text is read as its letters."""

    def __init__(self, path: str | Path, digest: str, memory_bytes: int | None = None) -> None:
        """Reads the configuration and the tokenizer.

        Args:
            path: a folder with `config.json`, safetensors and a tokenizer, or a GGUF file.
            digest: of its content.
            memory_bytes: what the weights may take.

        Raises:
            ConfigError: when transformers is not installed or cannot load it.
        """
        inspection = inspect(path)
        place = Path(path)
        is_gguf = inspection.format == "gguf"
        if not is_gguf and (inspection.format != "safetensors" or inspection.stored is None or not place.is_dir()):
            read = f"{path} is {inspection.format}"
            raise ConfigError(read, "a folder of safetensors with its configuration and tokenizer", "name one")
        os.environ.setdefault("TQDM_DISABLE", "1")  # what unpacks weights draws bars of its own
        try:
            self.torch: Any = importlib.import_module("torch")
            self.library: Any = importlib.import_module("transformers")
        except ImportError as error:
            raise ConfigError("transformers is not installed, which runs safetensors", "the extra `torch`",
                              "run: pip install 'weighbridge[torch]'") from error  # fmt: skip
        self.library.utils.logging.disable_progress_bar()
        self.library.utils.logging.set_verbosity_error()
        self.path, self.digest, self.memory_bytes = str(path), digest, memory_bytes
        self.weights_bytes = inspection.parameters.total * 4 if is_gguf else inspection.checkpoint.size_bytes
        self.engine = f"transformers {self.library.__version__}, torch {self.torch.__version__}"
        self.local: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        if is_gguf:
            self.engine += ", dequantized to fp32"
            self.local["gguf_file"] = place.name
        self.folder = place.parent if is_gguf else place
        self.config = self._load("AutoConfig", "a configuration that it knows")
        self.tokenizer = self._load("AutoTokenizer", "a tokenizer that it knows beside the weights")
        kind = "CausalLM" if is_gguf else next(iter(getattr(self.config, "architectures", None) or ["?"]))
        if not is_gguf and (place / "modules.json").is_file():  # of sentence-transformers, whatever it was trained as
            kind = "Model"
        known = next((CLASSES[end] for end in CLASSES if str(kind).endswith(end)), None)
        if known is None:
            raise ConfigError(f"{path} is a {kind}", f"a class that ends in {', '.join(CLASSES)}", "name another model")
        self.loader, self.abilities = known
        self.is_masked = self.loader == "AutoModelForMaskedLM"
        self.positions = inspection.longest_context
        if self.loader == "AutoModel":
            self.pooling, note = pooling_of(self.folder)
            self.positions = longest_of(self.folder, self.positions)
            self.notes = (note,) if note else ()
        if self.is_masked:
            self.begin = self.tokenizer.cls_token_id
            self.prefix = (self.begin,) if self.begin is not None else ()
            self.positions = self.positions - 1 if self.positions else None  # for the token that ends a text
            self.notes = (f"{path} is a masked model: each token is scored with all others of its window in sight",)
        else:
            self.begin = self.tokenizer.bos_token_id
            if self.begin is None:
                self.begin = self.tokenizer.eos_token_id
            self.prefix = tuple(self._prefix())
        end = self.tokenizer.sep_token_id
        self.suffix = () if end is None else (end,)

    def _load(self, name: str, expected: str, **settings: Any) -> Any:
        try:
            return getattr(self.library, name).from_pretrained(str(self.folder), **self.local, **settings)
        except Exception as error:  # whatever a stranger's folder makes the library raise
            said = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            raise ConfigError(f"transformers cannot load {self.path} (it said: {said})", expected,
                              "try it in transformers to see more") from error  # fmt: skip

    def _prefix(self) -> list[int]:
        """What the tokenizer puts before a text by itself."""
        whole, bare = list(self.tokenizer("a")["input_ids"]), self.tokens("a")
        return next((whole[:place] for place in range(len(whole)) if whole[place : place + len(bare)] == bare), [])

    @cached_property
    def model(self) -> Any:
        """The model with its weights."""
        settings: dict[str, Any] = {"dtype": "auto"}
        if "gguf_file" in self.local:
            settings["dtype"] = self.torch.float32
        else:
            settings["use_safetensors"] = True
        if self.memory_bytes is not None and self.weights_bytes > self.memory_bytes:
            if "gguf_file" in self.local:
                read = f"{self.path} dequantized takes {self.weights_bytes:,} bytes"
                raise UnitError(read, f"at most {self.memory_bytes:,} that it may take", "use --engine llama.cpp")
            self._scratch = tempfile.TemporaryDirectory()  # asked for; safetensors are read in their place
            settings |= {"device_map": "auto", "max_memory": {"cpu": self.memory_bytes},
                         "offload_folder": self._scratch.name}  # fmt: skip
        found, told = self._load(self.loader, "weights that it knows", output_loading_info=True, **settings)
        lacking = sorted(name for name in told["missing_keys"] if UNUSED not in name)
        if lacking:  # the library would make them up
            read = f"{self.path} lacks {len(lacking):,} weights, {lacking[0]} among them"
            raise ConfigError(read, f"all weights of a {type(found).__name__}", "name a model that has them")
        return found.eval()

    @property
    def is_streamed(self) -> bool:
        """Whether layers are read from the disk at every pass."""
        return "disk" in (getattr(self.model, "hf_device_map", None) or {}).values()

    def _logits(self, rows: Sequence[Sequence[int]]) -> Any:
        with self.torch.inference_mode():
            return self.model(input_ids=self.torch.tensor(rows)).logits.float()

    def tokens(self, text: str) -> list[int]:
        """As `Model.tokens`."""
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def log_probabilities(self, tokens: Sequence[int], start: int = 0) -> Rows:
        """As `Model.log_probabilities`; of a masked model each row has all other tokens in sight."""
        if self.is_masked:
            return self._hidden(list(tokens), start)
        logits = self._logits([list(tokens[:-1])])[0, start:]
        found: Rows = self.torch.log_softmax(logits, dim=-1).numpy()
        return found

    def _hidden(self, tokens: list[int], start: int) -> Rows:
        rows = []
        for place in range(start + 1, len(tokens)):
            row = [*tokens, *self.suffix]
            row[place] = self.tokenizer.mask_token_id
            rows.append((place, row))
        found = []
        for first in range(0, len(rows), MASKED_AT_ONCE):
            part = rows[first : first + MASKED_AT_ONCE]
            logits = self._logits([row for _, row in part])
            each = logits[range(len(part)), [place for place, _ in part]]
            found.append(self.torch.log_softmax(each, dim=-1).numpy())
        return np.concatenate(found) if found else np.zeros((0, self.config.vocab_size), dtype=np.float32)

    def write(self, prompt: str, most_tokens: int, stop: Sequence[str]) -> str:
        """As `Model.write`."""
        tokens = self.prompt_tokens(prompt, most_tokens)
        given = self.torch.tensor([tokens])
        settings: dict[str, Any] = {"stop_strings": list(stop), "tokenizer": self.tokenizer} if stop else {}
        ends = self.model.generation_config.eos_token_id
        end = self.tokenizer.eos_token_id if ends is None else ends
        first = end[0] if isinstance(end, list) else end
        plain = self.library.GenerationConfig(
            max_new_tokens=most_tokens, do_sample=False, num_beams=1, eos_token_id=end,
            pad_token_id=first if self.tokenizer.pad_token_id is None else self.tokenizer.pad_token_id)  # fmt: skip
        self.model.generation_config = plain  # penalties of the folder's own would fill what is not set
        with self.torch.inference_mode():
            found = self.model.generate(input_ids=given, attention_mask=self.torch.ones_like(given),
                                        generation_config=plain, output_logits=True,
                                        return_dict_in_generate=True, **settings)  # fmt: skip
        if any(self.torch.isnan(step).any() for step in found.logits):
            raise ConfigError(f"{self.path} gives no number for the next token", "finite probabilities",
                              "check the weights with `weigh inspect --values`")  # fmt: skip
        before, whole = (self.tokenizer.decode(some, skip_special_tokens=True, clean_up_tokenization_spaces=False)
                         for some in (tokens, found.sequences[0]))  # fmt: skip
        written = whole.removeprefix(before)  # alone it could lose the space that it begins with
        return cut(written, stop)

    def label_probabilities(self, text: str) -> Mapping[str, float]:
        """As `Model.label_probabilities`."""
        with self.torch.inference_mode():
            given = self.tokenizer(text, split_special_tokens=True, return_tensors="pt")
            if self.positions is not None and given["input_ids"].shape[1] > self.positions:
                raise TooLongError(f"{given['input_ids'].shape[1]:,} tokens")
            logits = self.model(**given).logits[0].double()
        if len(logits) < 2:
            raise ConfigError(f"{self.path} has one output", "a probability for each of several labels",
                              "name a classifier")  # fmt: skip
        found = self.torch.softmax(logits, dim=0).tolist()
        return dict(zip(labels_of(self.config.to_dict(), len(found)), found, strict=True))

    def embed(self, texts: Sequence[str]) -> Rows:
        """As `Model.embed`; one text at a time, so that a vector does not depend on its neighbours."""
        rows = []
        for text in texts:
            with self.torch.inference_mode():
                given = self.tokenizer(text, split_special_tokens=True, truncation=True, max_length=self.positions,
                                       return_tensors="pt")  # fmt: skip
                rows.append(pooled(self.model(**given).last_hidden_state[0].float().numpy(), self.pooling))
        return np.array(rows, dtype=np.float32)
