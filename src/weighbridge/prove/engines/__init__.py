"""Which engine runs a model, and what is the model's content?"""

from __future__ import annotations

import glob
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from weighbridge.errors import ConfigError, SourceError, UnknownNameError
from weighbridge.formats.reader import read
from weighbridge.hardware.probe import memory_bytes
from weighbridge.prove.engines.model import Model

ENGINES = ("llama.cpp", "transformers", "onnxruntime", "endpoint")
SHARE_OF_MEMORY = 0.4
"""Of the machine's memory that the weights of each of two models may take before layers stay on the disk."""
CONTENT = (".safetensors", ".json", ".txt", ".model", ".jinja", ".gguf", ".onnx", ".onnx_data", ".data", ".tiktoken")
"""Endings of the files that decide what a folder's model answers."""


@dataclass(frozen=True, slots=True)
class Opening:
    """How models are opened: by which engine, in how much memory, with which threads, tokenizer, key and manner."""

    engine: str | None = None
    memory_bytes: int | None = None
    threads: int | None = None
    tokenizer: str | None = None
    key: str | None = None
    chat: bool = False

    def __post_init__(self) -> None:
        if self.engine is not None and self.engine not in ENGINES:
            raise UnknownNameError("engine", self.engine, ENGINES, "name one of these, or none for the usual one")


def is_address(source: str) -> bool:
    """Whether a source is an address and no file."""
    return bool(re.match(r"https?://", source))


def open_model(source: str | Path, how: Opening | None = None, other: str | Path | None = None) -> Model:
    """The model of a file, a folder or an address. Weights are loaded with the first question.

    Args:
        source: a GGUF or ONNX file, a folder of safetensors, or `http://HOST/v1#MODEL`.
        how: engine and settings; by the kind of the source without.
        other: the model it is compared with: an ONNX file without a tokenizer takes that one's.

    Raises:
        WeighbridgeError: when it cannot be opened.
    """
    from weighbridge.prove.engines import endpoint, llama_cpp, onnx, transformers

    how = how or Opening()
    text = str(source)
    if is_address(text):
        if how.engine not in (None, "endpoint"):
            raise ConfigError(f"{text} is an address", f"a file or folder for {how.engine}", "leave --engine out")
        return endpoint.EndpointModel(text, how.key, chat=how.chat)
    path = Path(source)
    if not path.exists():
        raise SourceError(f"{text} does not exist", "a file, a folder, or an address such as http://HOST/v1#MODEL",
                          "check the name")  # fmt: skip
    if how.chat:
        raise ConfigError(
            f"{text} is no address", "an address, for --chat", "write the model's template into the prompts"
        )
    usual = {".gguf": "llama.cpp", ".onnx": "onnxruntime"}.get(path.suffix.lower(), "transformers")
    engine = how.engine or usual
    if engine != usual and (engine, usual) != ("transformers", "llama.cpp"):
        raise ConfigError(f"{text} is nothing that {engine} runs", f"its engine, {usual}", "leave --engine out")
    digest = digest_of(path)
    if engine == "llama.cpp":
        read(path)  # a file that is none, or cut off, is named before an engine guesses
        return llama_cpp.GgufModel(path, digest, how.threads)
    if engine == "onnxruntime":
        found, note = tokenizer_of(path, how.tokenizer, other)
        model = onnx.OnnxModel(path, digest, found)
        model.notes += (note,) if note else ()
        return model
    total = memory_bytes()
    room = how.memory_bytes or (None if total is None else int(total * SHARE_OF_MEMORY))
    return transformers.TransformersModel(path, digest, room)


def tokenizer_of(path: Path, asked: str | None, other: str | Path | None) -> tuple[Path, str | None]:
    """The folder of the tokenizer of an ONNX file, and a note where it is another model's."""
    if asked is not None:
        return Path(asked), None
    if (path.parent / "tokenizer.json").is_file() or other is None:
        return path.parent, None
    folder = Path(other) if Path(other).is_dir() else Path(other).parent
    if not (folder / "tokenizer.json").is_file():
        return path.parent, None
    return folder, f"{path} has no tokenizer beside it: that of {other} is used"


def _files(path: Path) -> list[Path]:
    """The files that decide what a model answers."""
    if path.is_dir():
        return [one for one in sorted(path.rglob("*")) if one.is_file() and one.suffix.lower() in CONTENT]
    if part := re.match(r"(.+-)\d{5}(-of-\d{5}\.gguf)$", path.name):
        return sorted(path.parent.glob(f"{glob.escape(part[1])}?????{glob.escape(part[2])}"))
    if path.suffix.lower() == ".onnx" and b"location" in path.read_bytes():  # its weights lie in files beside it
        return [path, *sorted(one for one in path.parent.iterdir() if one.is_file() and one.suffix.lower() != ".onnx")]
    return [path]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, or of a folder's files that decide what its model answers, by name and content.

    Raises:
        SourceError: when one cannot be read.
    """
    try:
        files = _files(path)
        if files == [path]:
            return _sha256(path)
        folder = path if path.is_dir() else path.parent
        found = [f"{one.relative_to(folder).as_posix()}\0{_sha256(one)}\n" for one in files]
        return hashlib.sha256("".join(found).encode()).hexdigest()
    except OSError as error:
        raise SourceError(f"{path} cannot be read ({error.strerror})", "a model", "check its permissions") from error
