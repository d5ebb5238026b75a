"""Which models make a diffusion pipeline? Those that its `model_index.json` names, each in a folder of its own.

The index maps the name of each part to a library and a class: `"unet": ["diffusers", "UNet2DConditionModel"]`. Parts
without weights (schedulers, tokenizers, image processors) have no `config.json`. Source: diffusers
`pipelines/pipeline_utils.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from weighbridge.errors import ConfigError, SourceError
from weighbridge.formats import config as config_format
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.checkpoint import Checkpoint

INDEX = "model_index.json"
LEFT_OUT = ("safety_checker",)
"""Parts that judge a result and do not make it."""


def read(folder: Folder, read_folder: Callable[[Folder], Checkpoint]) -> Checkpoint:
    """The checkpoint of a pipeline: the configuration and the tensors of all its parts, under the parts' names.

    Args:
        folder: the folder with the index.
        read_folder: reads the folder of one part.

    Raises:
        SourceError: when a part is missing, or there is none.
    """
    index = config_format.parse(folder.open(INDEX))
    named = {key: value for key, value in index.items() if not key.startswith("_") and _is_part(value)}
    parts: dict[str, Checkpoint] = {}
    notes = [
        f"{key} is left out: it judges the picture and has no part in making it" for key in LEFT_OUT if key in named
    ]
    for key in (key for key in named if key not in LEFT_OUT):
        below = folder.below(key)
        if _has_weights(named[key][1]):
            try:
                parts[key] = read_folder(below)
            except SourceError as error:
                read_ = f"{folder.name} has no readable {key}, which {INDEX} names ({error.read})"
                raise SourceError(read_, "every part of the pipeline", "get the missing folder") from error
    parts = {key: _of_class(part, named[key], f"{folder.name}/{key}") for key, part in parts.items()}
    if not parts:
        raise SourceError(f"{folder.name}/{INDEX} names no model", "parts such as unet and vae", "name another folder")
    return join(folder.name, parts, notes, str(index.get("_class_name")))


def join(
    source: str, parts: Mapping[str, Checkpoint], notes: Iterable[str], class_name: str, root: str = ""
) -> Checkpoint:
    """The checkpoint of several models that work as one: files, tensors and configurations under the parts' names.

    Each part lies in a folder of its name, but for the one called `root`, which lies beside the list of parts.
    """
    config: dict[str, Any] = {"model_type": "pipeline", "_class_name": class_name}
    config |= {f"{key}_config": dict(part.config or {}) for key, part in parts.items()}
    return Checkpoint(
        source, "pipeline",
        tuple(replace(file, name=f"{key}/{file.name}") for key, part in parts.items() for file in part.files),
        tuple(replace(tensor, name=f"{key}.{tensor.name}",
                      tied_to=None if tensor.tied_to is None else f"{key}.{tensor.tied_to}")
              for key, part in parts.items() for tensor in part.tensors),
        config=config,
        metadata={"folders": {key: "" if key == root else key for key in parts}},
        notes=(*notes, *(f"{key}: {note}" for key, part in parts.items() for note in part.notes)),
        parts=parts,
    )  # fmt: skip


def _of_class(part: Checkpoint, named: list[str], name: str) -> Checkpoint:
    """A part as the class that the index names loads it, which of transformers may be a part of what is configured.

    Raises:
        ConfigError: when the part has no configuration, or that of another class of diffusers.
    """
    config, (library, expected) = part.config or {}, named
    own = config.get("_class_name")
    if not config or (library == "diffusers" and own != expected):
        read = f"{name} has the configuration of {own or 'no class'}, where {INDEX} names {expected}"
        raise ConfigError(read, "the same class", "get the part that belongs to this pipeline")
    if library == "transformers":
        return replace(part, config={**config, "architectures": [expected]})
    return part


def _is_part(value: Any) -> bool:
    """Whether an entry of the index names a library and a class; `[null, null]` stands for a part that is not used.

    Raises:
        ConfigError: for lists of anything else. Texts, numbers and objects are settings of the pipeline.
    """
    if not isinstance(value, list) or value == [None, None]:
        return False
    if len(value) == 2 and all(isinstance(name, str) for name in value):
        return True
    read = f"{INDEX} has the entry {str(value)[:80]}"
    raise ConfigError(read, "a library and a class for each part", "correct the index")


_WITHOUT_WEIGHTS = ("Scheduler", "Tokenizer", "TokenizerFast", "Processor", "FeatureExtractor", "ProcessorFast")


def _has_weights(name: str) -> bool:
    """Whether a class of this name has weights: schedulers, tokenizers and processors have none.

    Example:
        >>> _has_weights("CLIPTextModel"), _has_weights("EulerDiscreteScheduler")
        (True, False)
    """
    return not name.endswith(_WITHOUT_WEIGHTS)
