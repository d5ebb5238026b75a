"""What is an engine given to load: a file, a folder, a repository of a hub, or something that is still to be made?

A plan can be made from a configuration alone, and in an encoding that no file has yet. The launch line then has a name
that stands for what is missing, and a note that says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from weighbridge.errors import ConfigError, UnitError, UnknownNameError
from weighbridge.inspection import Inspection
from weighbridge.model import catalogue, recipes
from weighbridge.planning import WIDE, stored_recipe

LOADABLE = ("safetensors", "torch")
"""Formats of weights that vLLM, SGLang and TensorRT-LLM load from a folder with its `config.json`."""
GUESSED_TOKENS = 3
"""Tokens that a draft model guesses at a time: llama.cpp's default (`--spec-draft-n-max`)."""
GUESSES = (
    f"{GUESSED_TOKENS} tokens are guessed at a time, llama.cpp's default: the plan does not say how many, "
    "and its speed is that without a draft"
)


@dataclass(frozen=True, slots=True)
class Source:
    """A name to load, of a hub with its revision. `file` is a file of a hub's repository; `note` says what is missing.

    `quantization` is the name of what the engine makes of plain weights when it loads them; `dtype` that of plain ones.
    """

    name: str
    revision: str | None = None
    file: str | None = None
    from_hub: bool = False
    quantization: str | None = None
    dtype: str | None = None
    note: str = ""


DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}


def gguf_file(inspection: Inspection, recipe: str) -> Source:
    """The GGUF file of a model in an encoding, or the name that it might have."""
    checkpoint = inspection.checkpoint
    if inspection.format == "gguf" and recipe == stored_recipe(inspection) and checkpoint.files:
        if checkpoint.remote is None:
            return Source(inspection.source)
        hub = _hub(inspection)
        if hub is not None:
            return Source(hub.name, hub.revision, checkpoint.files[0].name, from_hub=True)
    name = f"{_stem(inspection.source)}-{recipe}.gguf"
    why = f"{name} stands for a GGUF file that is still to be made"
    if inspection.format == "config":
        return Source(name, note=f"{why} or downloaded: the plan was made from a configuration")
    return Source(name, note=f"{why} of {inspection.source}, as `weigh shrink` and llama.cpp's own tools do")


def local_gguf(source: Source, notes: list[str]) -> str:
    """The file of a source for engines that read files only; says what is missing."""
    if source.note:
        notes.append(source.note)
    if source.from_hub:
        notes.append(f"{source.file} is a file of {source.name}: download it first")
    return source.file or source.name


def folder(inspection: Inspection, recipe: str, engine: str, makes: Mapping[str, str]) -> Source:
    """The folder or repository of a model in an encoding, or the name that it might have.

    Args:
        inspection: the model.
        recipe: the encoding of the plan.
        engine: its name, for errors.
        makes: what the engine can make of plain weights when it loads them: its own name of each encoding.

    Raises:
        UnitError: for an encoding that is no way of packing.
        ConfigError: for files of a format that the engine does not load.
    """
    if recipe in ("int4", "int8"):
        known = "gptq-int4-g128 or awq-int4-g128" if recipe == "int4" else "w8a8"
        read = f"weights in {recipe} for {engine}, which says how many bits and not how they are packed"
        raise UnitError(read, "a way of packing that it loads", f"plan with --weights {known}")
    if inspection.format not in (*LOADABLE, "config"):
        read, expected = f"{inspection.source} is {inspection.format}", f"what {engine} loads: a folder of safetensors"
        raise ConfigError(read, expected, "name that folder, or launch a GGUF file with llama-server")
    found = _given(inspection)
    packed = isinstance((inspection.checkpoint.config or {}).get("quantization_config"), Mapping)
    if packed and recipe == stored_recipe(inspection):
        return found
    if recipe in WIDE and not packed:
        return Source(found.name, found.revision, from_hub=found.from_hub, dtype=DTYPES[recipe], note=found.note)
    if recipe in makes and not packed:
        what = f"{engine} makes {recipe} of the linear maps when it loads the weights"
        note = "; ".join(filter(None, (found.note, what)))
        return Source(found.name, found.revision, from_hub=found.from_hub, quantization=makes[recipe], note=note)
    name = f"{_stem(inspection.source)}-{recipe}"
    note = f"{name} stands for a checkpoint in {recipe}, which {engine} does not make of others when it loads them"
    return Source(name, note=note)


def _given(inspection: Inspection) -> Source:
    """What the user named, as a folder or repository."""
    checkpoint, place = inspection.checkpoint, Path(inspection.source)
    if checkpoint.remote is not None or not checkpoint.files:
        hub = _hub(inspection)
        if hub is not None:
            return hub
        name = _stem(inspection.source)
        return Source(name, note=f"{name} stands for the folder of the model: the plan was made without its weights")
    path = str(place if place.is_dir() else place.parent)
    return Source(f"./{path}" if path.startswith("-") else path)


def _hub(inspection: Inspection) -> Source | None:
    """The repository of a model that was read from a hub, or that the catalogue names."""
    remote, source = inspection.checkpoint.remote, inspection.source
    if remote is not None:
        name, _, asked = source.partition("@")
        return None if "://" in source else Source(name, remote.revision or asked or None, from_hub=True)
    try:
        known = None if Path(source).exists() else catalogue.find_model(source)
    except UnknownNameError:
        return None
    if known is None or known.hub is None:
        return None
    licence = known.licence or "not known"
    note = f"{known.hub} is the catalogue's name of {known.title} on the hub; its licence: {licence}"
    return Source(known.hub, from_hub=True, note=note)


def _stem(source: str) -> str:
    """A short name for what is made of a source."""
    path = PurePath(source.partition("@")[0].partition("?")[0])
    name = (
        path.parent.name
        if path.name in ("config.json", "model.safetensors", "model.safetensors.index.json")
        else path.name
    )
    name = name.removesuffix(".gguf").removesuffix(".json").removesuffix(".safetensors")
    return name or "model"


def is_gguf(recipe: str) -> bool:
    """Whether weights of this recipe are those of GGUF files."""
    return recipes.find(recipe).kind == "gguf"
