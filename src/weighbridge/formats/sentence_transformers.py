"""Which modules turn a text into a vector? Those that `modules.json` of a sentence-transformers repository lists.

Each entry has the `path` of its folder, empty for the repository's own, and the `type` of its class. The transformer
has a `config.json` and weights like any model; pooling and normalisation have no weights; a dense layer after them has
its own, which a reader of the transformer alone leaves out. Source: sentence-transformers 6.2, `base/model.py` and
`base/modules/dense.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from weighbridge.errors import ConfigError, SourceError
from weighbridge.formats import json_text, pipeline
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.marks import SENTENCE_TRANSFORMERS

DENSE = "sentence_transformers_dense"
"""The model type under which a dense layer is described."""
MAX_MODULES = 100
_WEIGHTS = (".safetensors", ".bin", ".pt", ".gguf")


def read(folder: Folder, read_folder: Callable[[Folder], Checkpoint]) -> Checkpoint:
    """The checkpoint of a repository: that of its transformer, or of all modules that have weights.

    Args:
        folder: the folder with the list of modules.
        read_folder: reads the one model of a folder, without looking for a list of modules again.

    Raises:
        ConfigError: when the list is none.
        SourceError: when no module has weights.
    """
    parts: dict[str, Checkpoint] = {}
    root = ""
    without = []
    for number, (path, kind) in enumerate(_modules(folder)):
        place = folder.below(path) if path else folder
        if kind == "Transformer" or any(name.endswith(_WEIGHTS) for name in place.names()):
            own = read_folder(place)
            name = path or f"{number}_{kind}"
            root = root if path else name
            parts[name] = _described(own) if kind == "Dense" else own
        else:
            without.append(kind)
    if not parts:
        raise SourceError(
            f"{folder.name}/{SENTENCE_TRANSFORMERS} names no module with weights", "a transformer", "get its files"
        )
    note = f"a sentence-transformers model; modules without weights: {', '.join(without) or 'none'}"
    if len(parts) > 1:
        return pipeline.join(folder.name, parts, [note], "SentenceTransformer", root)
    (only,) = parts.values()
    return replace(only, source=folder.name, notes=(*only.notes, note))


def _modules(folder: Folder) -> list[tuple[str, str]]:
    """Path and class of each module, in order.

    Raises:
        ConfigError: when they are not given so.
    """
    source = folder.open(SENTENCE_TRANSFORMERS)
    if source.size > 1_000_000:
        raise ConfigError(f"{source.name} has {source.size:,} bytes", "a list of modules", "get the file again")
    entries = json_text.parse(source.read(0, source.size), source.name)
    if not isinstance(entries, list) or not 0 < len(entries) <= MAX_MODULES:
        raise ConfigError(f"{source.name} holds no list of modules", "a path and a type for each", "get the file again")
    found = []
    for entry in entries:
        path, kind = (entry.get("path"), entry.get("type")) if isinstance(entry, dict) else (None, None)
        if not isinstance(path, str) or not isinstance(kind, str):
            read_ = f"{source.name} has the entry {str(entry)[:80]}"
            raise ConfigError(read_, "a path and a type for each module", "get the file again")
        found.append((path, kind.rpartition(".")[2]))
    if len({path for path, _ in found if path}) < sum(1 for path, _ in found if path):
        raise ConfigError(f"{source.name} names a folder twice", "a folder for each module", "get the file again")
    return found


def _described(dense: Checkpoint) -> Checkpoint:
    """A dense layer under the model type that describes it."""
    config: dict[str, Any] = dict(dense.config or {})
    return replace(dense, config={**config, "model_type": DENSE})
