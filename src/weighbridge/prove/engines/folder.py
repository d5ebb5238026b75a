"""What do the small files beside the weights say? The tokenizer, the labels, how token vectors become one of a text.

Read for models that no library of ours assembles: ONNX files, and the pooling of encoders. Formats: `tokenizer.json` of
the library tokenizers, `config.json` of transformers, `modules.json` and `1_Pooling/config.json` of
sentence-transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np

from weighbridge.errors import ConfigError, WeighbridgeError
from weighbridge.formats import json_text
from weighbridge.formats.byte_source import LocalFile
from weighbridge.inspection import inspect
from weighbridge.prove.engines.model import Rows

Pooling = Literal["mean", "first", "last", "max"]
POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first", "pooling_mode_lasttoken": "last",
    "pooling_mode_max_tokens": "max",
}  # fmt: skip
T = TypeVar("T", dict[str, Any], list[Any])
PLAIN = ("Transformer", "Pooling", "Normalize")
"""Modules of sentence-transformers that a cosine can be worked out from without further weights."""


SETTINGS = ("config.json", "modules.json", "sentence_bert_config.json", "1_Pooling/config.json")
"""Files that decide what is made of a model's outputs."""


def read(path: Path, kind: type[T]) -> T:
    """The JSON object or list of a file; an empty one where there is none.

    Raises:
        WeighbridgeError: when it cannot be read, or is something else.
    """
    if not path.is_file():
        return kind()
    found = json_text.parse(
        LocalFile(path).read(0, path.stat().st_size), path.name, allow_bom=True, allow_constants=True
    )
    if not isinstance(found, kind):
        raise ConfigError(f"{path} is a {type(found).__name__}", f"a {kind.__name__} in JSON", "correct the file")
    return found


def pooling_of(folder: Path) -> tuple[Pooling, str | None]:
    """How token vectors become one, and a note where the folder does not say it.

    Raises:
        ConfigError: when it asks for modules or a pooling that are not known here.
    """
    modules = [one for one in read(folder / "modules.json", list) if isinstance(one, dict)]
    kinds = [str(one.get("type", "")).rsplit(".", 1)[-1] for one in modules]
    if strange := [kind for kind in kinds if kind not in PLAIN]:
        raise ConfigError(f"{folder} has the module {strange[0]}", f"the modules {', '.join(PLAIN)}",
                          "name a model without it")  # fmt: skip
    said = [str(one.get("path", "")) for one, kind in zip(modules, kinds, strict=True) if kind == "Pooling"]
    chosen = read(folder / (said[0] if said else "1_Pooling") / "config.json", dict)
    if not chosen:
        return "mean", f"{folder} does not say how its token vectors become one of a text: their mean is taken"
    asked = [key for key, on in chosen.items() if key.startswith("pooling_mode_") and on is True]
    if len(asked) != 1 or asked[0] not in POOLINGS:
        raise ConfigError(f"{folder} pools by {', '.join(asked) or 'nothing'}", f"one of {', '.join(POOLINGS)}",
                          "name a model that pools in one of these ways")  # fmt: skip
    return POOLINGS[asked[0]], None


def pooled(vectors: Rows, how: Pooling) -> Rows:
    """One vector of the vectors of a text's tokens.

    Example:
        >>> pooled(np.array([[1.0, 2.0], [3.0, 0.0]], dtype=np.float32), "mean").tolist()
        [2.0, 1.0]
    """
    match how:
        case "mean":
            return np.asarray(vectors.mean(axis=0, dtype=np.float64), dtype=np.float32)
        case "max":
            return np.asarray(vectors.max(axis=0))
    return np.asarray(vectors[0 if how == "first" else -1])


def longest_of(folder: Path, positions: int | None) -> int | None:
    """Tokens of a text that an encoder reads; what is beyond is cut."""
    said = read(folder / "sentence_bert_config.json", dict).get("max_seq_length")
    known = [number for number in (said, positions) if isinstance(number, int)]
    return min(known) if known else None


def positions_of(folder: Path) -> int | None:
    """How many tokens the model of a folder can see at once; None where its configuration does not say it."""
    if not (folder / "config.json").is_file():
        return None
    config = read(folder / "config.json", dict)
    try:
        return inspect(folder / "config.json").longest_context
    except WeighbridgeError:  # of a family that is not described
        limit = config.get("max_position_embeddings")
        return limit if isinstance(limit, int) else None


def labels_of(config: dict[str, Any], count: int) -> tuple[str, ...]:
    """The names of a classifier's outputs, in their order; their numbers where the configuration has none."""
    named = config.get("id2label")
    named = named if isinstance(named, dict) else {}
    return tuple(str(named.get(str(place), named.get(place, place))) for place in range(count))
