"""Which reader opens a path? From a file or folder to a `Checkpoint`, whatever its format."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weighbridge.errors import SourceError, UnknownNameError, WeighbridgeError
from weighbridge.formats import config as config_format
from weighbridge.formats.byte_source import Folder, LocalFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.marks import ADAPTER, ADAPTER_WEIGHTS, SENTENCE_TRANSFORMERS
from weighbridge.formats.parallel import workers

if TYPE_CHECKING:
    from weighbridge.model.catalogue import NamedModel

TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".jit", ".pt2")
OTHER_SUFFIXES = {
    ".onnx": "onnx", ".h5": "keras", ".hdf5": "keras", ".keras": "keras", ".tflite": "tflite",
    ".npz": "npz", ".npy": "npz",
    ".mlmodel": "coreml", ".xml": "openvino", ".pb": "saved_model", ".ftz": "fasttext",
    ".pkl": "pickled_arrays", ".pickle": "pickled_arrays", ".sav": "pickled_arrays", ".joblib": "pickled_arrays",
}  # fmt: skip
"""Further endings of files with weights, and the module whose `read(folder, name)` reads them."""
ENDINGS = (".json", ".safetensors", ".gguf", *TORCH_SUFFIXES, *OTHER_SUFFIXES)
"""All endings of files that can be read."""
LEFT_ASIDE = (".msgpack", ".ot")
"""Endings of the same weights for Flax and Rust, which are not read."""
MARKS = {"saved_model.pb": "saved_model", "Manifest.json": "coreml", "config.cfg": "spacy"}
"""Files that tell what their folder is, and the module whose `read(folder, name)` reads it."""
COMMON_PLACES = ("onnx", "openvino", "coreml", "gguf", "model", "models", "weights")
"""Folders of a repository where people put its weights in other forms."""
READABLE = (
    "a folder of a model, adapter or pipeline, config.json, or a weight file: *.safetensors, *.index.json, *.gguf, "
    "*.pt, *.pth, *.bin, *.ckpt, *.onnx, *.h5, *.keras, *.tflite, *.npz, *.xml, *.pb, *.mlpackage and others"
)
_VARIANT = re.compile(r"\.(fp16|bf16|fp32|ema|non_ema)[.-]")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.[a-z]+$)")


def read(path: str | Path) -> Checkpoint:
    """The checkpoint at a path: a folder, a weight file, an index or a configuration.

    A `config.json` beside weights is taken with them. Only headers are read. What is no path may be an address of
    `http` or `https`, then the name of a model of the catalogue, then that of a hub's repository, `org/name@revision`.

    Raises:
        SourceError: when there is nothing readable there, no named model with a published shape, no such repository, or
            one that may not be read.
        FormatError: when a header is not what its format demands.
        ConfigError: when a configuration is none.
    """
    if str(path).startswith(("https://", "http://")):
        return _read_remote(str(path))
    if not str(path):
        raise SourceError("the source has no name", READABLE, "name one; . is the current folder")
    place = Path(path)
    try:
        is_folder, exists = place.is_dir(), place.exists()
    except PermissionError as error:
        read_ = f"{str(path)[:200]} cannot be reached ({error.strerror})"
        raise SourceError(read_, "a path that may be read", "check the permissions of its folders") from error
    except (OSError, ValueError) as error:  # a name that no file can have
        raise SourceError(f"{str(path)[:100]!r} is no path ({error})", READABLE, "check the spelling") from error
    if is_folder:
        return _read_folder(LocalFolder(place))
    if not exists:
        return _named(str(path))
    folder = LocalFolder(place.parent)
    return replace(read_file(folder, place.name), source=str(place))


def _named(name: str) -> Checkpoint:
    """The shape of a model of the built-in catalogue, or else the repository of that name."""
    action = "check the spelling and the current folder"
    if name.lower().endswith(ENDINGS):
        raise SourceError(f"{name} does not exist", READABLE, action)
    from weighbridge.model import catalogue

    is_repository = "/" in name and _is_repository(name)
    if is_repository and not catalogue.may_name(name):
        return _read_remote(name)
    try:
        model = catalogue.find_model(name)
    except UnknownNameError as error:
        if is_repository:
            return _read_remote(name)
        read = f"{name} does not exist, and no model of the catalogue is called so"
        expected = f"{READABLE}; or a name such as {', '.join(error.nearest)}"
        raise SourceError(read, expected, f"{action}; `weigh models` lists the names") from error
    return named(model, name)


def _is_repository(name: str) -> bool:
    """Whether a name may be that of a repository of a hub."""
    from weighbridge.formats import hub

    return hub.is_name(name)


def _read_remote(name: str) -> Checkpoint:
    """What lies behind an address or the name of a repository."""
    from weighbridge.formats import hub
    from weighbridge.formats.addresses import shown

    place = hub.find(name, ENDINGS)
    try:
        found = _read_folder(place.folder) if place.file is None else read_file(place.folder, place.file)
    finally:
        place.client.close()
    return replace(found, source=shown(name), notes=(*found.notes, *place.notes), remote=place.remote())


def named(model: NamedModel, name: str | None = None) -> Checkpoint:
    """The shape of a named model, as a configuration without a file.

    Raises:
        SourceError: when its shape is not published.
    """
    if not model.config:
        raise SourceError(
            f"the shape of {model.title} is not published: {model.known_size}", "a model whose shape is known",
            "see what is known with `weigh compare`, or name another",
        )  # fmt: skip
    note = f"{model.title}, from the built-in catalogue: {model.source}, read on {model.checked}"
    return Checkpoint(name or model.name, "config", (), (), config=model.config, notes=(note,))


def read_file(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint that a file of a folder belongs to.

    Raises:
        SourceError: when its ending is that of no known format.
    """
    ending = name.lower()
    if name in MARKS:
        return _by(MARKS[name], folder, name)
    if ending.endswith(".json"):
        return _read_json(folder, name)
    if ending.endswith((".safetensors", ".gguf", *TORCH_SUFFIXES, *OTHER_SUFFIXES)):
        _refuse_pointer(folder, name)
    if name in ADAPTER_WEIGHTS and ADAPTER in folder.names():
        from weighbridge.formats import peft

        return peft.read(
            folder, _read_safetensors(folder, [name]) if ending.endswith("s") else _read_torch(folder, [name])
        )
    if ending.endswith(".safetensors"):
        return _with_config(folder, _read_safetensors(folder, _siblings(folder, name)), required=False)
    module = _binary(folder, name) if ending.endswith(".bin") else OTHER_SUFFIXES.get("." + ending.rpartition(".")[2])
    if ending.endswith(".gguf") or module == "gguf":
        from weighbridge.formats import gguf

        return gguf.read(folder.open(name), folder)
    if module is not None:
        return _by(module, folder, name)
    if ending.endswith(TORCH_SUFFIXES):
        return _with_config(folder, _read_torch(folder, _siblings(folder, name)), required=False)
    raise SourceError(f"{name} has an ending of no known format", READABLE, "give such a file")


def _by(module: str, folder: Folder, name: str) -> Checkpoint:
    """What a further module reads."""
    found: Checkpoint = importlib.import_module(f"weighbridge.formats.{module}").read(folder, name)
    return found


def _binary(folder: Folder, name: str) -> str | None:
    """The module for a file that is only called `.bin`, by how it begins; None for one of PyTorch."""
    source = folder.open(name)
    head = source.read(0, min(source.size, 64))
    if head[:4] == b"GGUF":
        return "gguf"
    if head[:4] == bytes.fromhex("ba164f2f"):
        return "fasttext"
    if name.removesuffix(".bin") + ".xml" in folder.names():
        return "openvino"
    if head[:8] == (1).to_bytes(8, "little"):
        return "marian"
    # A version of 1 to 6, then a text with its length and its closing zero: CTranslate2's `ModelReader`.
    length = int.from_bytes(head[4:6], "little")
    if 1 <= int.from_bytes(head[:4], "little") <= 6 and 0 < length < 56 and head[5 + length : 6 + length] == b"\0":
        return "ctranslate2"
    return None


def _refuse_pointer(folder: Folder, name: str) -> None:
    """Refuses what Git leaves in the place of a large file that was not fetched."""
    source = folder.open(name)
    if source.read(0, min(source.size, 19)) == b"version https://git":
        raise SourceError(f"{name} is a pointer of Git LFS", "the file that it points to", "fetch it: git lfs pull")


def _read_json(folder: Folder, name: str) -> Checkpoint:
    if name in ("model_index.json", SENTENCE_TRANSFORMERS):
        return _read_folder(folder)
    if name.endswith(".index.json"):
        return _with_config(folder, _read_index(folder, name))
    source = folder.open(name)
    return Checkpoint(source.name, "config", (), (), config=config_format.parse(source))


def _read_index(folder: Folder, name: str) -> Checkpoint:
    """The shards that an index names; of PyTorch shards the index only serves to find them."""
    from weighbridge.formats import safetensors, torch_zip

    index = folder.open(name)
    files = safetensors.read_index(index).files
    if files and all(file.endswith(TORCH_SUFFIXES) for file in files):
        return torch_zip.read_sharded(folder, files)
    return safetensors.read_sharded(folder, (), index)


def _read_folder(folder: Folder) -> Checkpoint:
    """The one model of a folder: safetensors first, then GGUF, then PyTorch files, then the bare configuration."""
    names = list(folder.names())
    if "model_index.json" in names:
        from weighbridge.formats import pipeline

        return pipeline.read(folder, _read_one_model)
    if SENTENCE_TRANSFORMERS in names:
        from weighbridge.formats import sentence_transformers

        return sentence_transformers.read(folder, _read_one_model)
    return _read_one_model(folder)


def _read_one_model(folder: Folder) -> Checkpoint:
    """The model of a folder, whatever repository it is the first part of."""
    names = list(folder.names())
    if ADAPTER in names:
        from weighbridge.formats import peft

        return read_file(folder, peft.weights_name(folder, names))
    indexes = [name for name in names if name.endswith(".safetensors.index.json")]
    marks = [name for name in MARKS if name in names]
    if marks:
        found = _by(MARKS[marks[0]], folder, marks[0])
    elif indexes:
        _only_one(folder, indexes)
        shards = _numbered(folder, indexes[0], names)
        found = _with_config(folder, _read_numbered(folder, shards)) if shards else _read_json(folder, indexes[0])
    elif group := _one_model(folder, [name for name in names if name.endswith(".safetensors")]):
        found = _with_config(folder, _read_safetensors(folder, group))
    elif group := _one_model(folder, [name for name in names if name.endswith(".gguf")]):
        from weighbridge.formats import gguf

        found = gguf.read(folder.open(group[0]), folder)
    elif (group := _one_model(folder, _torch_models(folder, names))) and len(group) == 1 and _binary(folder, group[0]):
        found = read_file(folder, group[0])
    elif group:
        found = _with_config(folder, _read_torch(folder, group))
    elif group := [name for name in names if name.lower().endswith(tuple(OTHER_SUFFIXES))]:
        _only_one(folder, group)
        found = read_file(folder, group[0])
    elif "config.json" in names:
        found = _read_json(folder, "config.json")
    else:
        inside = [f"{place}/{name}" for place in COMMON_PLACES
                  for name in folder.below(place).names() if name.lower().endswith(ENDINGS[1:])]  # fmt: skip
        action = f"name the file itself, such as {folder.place_of(inside[0])}" if inside else "name the file itself"
        raise SourceError(f"{folder.name} holds no model that can be read", READABLE, action)
    return replace(found, source=folder.name, notes=(*found.notes, *(() if marks else _not_read(found, names))))


def _not_read(found: Checkpoint, names: list[str]) -> list[str]:
    """A note that names the files of weights beside those that were read, which nothing is said of."""
    read_ = {file.name for file in found.files}
    others = [name for name in names if name.lower().endswith((*ENDINGS[1:], *LEFT_ASIDE)) and name not in read_]
    shown = ", ".join(others[:5]) + (f" and {len(others) - 5:,} more" if len(others) > 5 else "")
    return [f"beside it, and not read: {shown}"] if others and found.files else []


def _numbered(folder: Folder, index: str, names: list[str]) -> list[str]:
    """The shards beside an index, where the folder is far away and their numbers say as much as the index does."""
    stem = index.removesuffix(".safetensors.index.json")
    shards = [name for name in names if name.endswith(".safetensors")]
    matches = [match for name in shards if (match := _SHARD.search(name)) and name.startswith(stem + match[0])]
    counts = {int(match[2]) for match in matches}
    is_whole = counts == {len(shards)} and {int(match[1]) for match in matches} == set(range(1, len(shards) + 1))
    return shards if is_whole and workers(folder) > 1 else []


def _read_numbered(folder: Folder, shards: list[str]) -> Checkpoint:
    from weighbridge.formats import safetensors

    found = safetensors.read_sharded(folder, shards)
    note = f"the index was not asked for: the {len(shards):,} shards are numbered and complete"
    return replace(found, notes=(*found.notes, note))


def _torch_models(folder: Folder, names: list[str]) -> list[str]:
    """The PyTorch files that hold weights: by the usual name where there are such, or else all.

    Beside a graph a `.bin` may hold the graph's numbers: then only what begins like a file of PyTorch is one.
    """
    found = [name for name in names if name.endswith(TORCH_SUFFIXES)]
    if any(name.endswith((".onnx", ".xml")) for name in names):
        found = [name for name in found if not name.endswith(".bin") or _begins_like_torch(folder, name)]
    usual = [name for name in found if name.startswith("pytorch_model")]
    return usual or [name for name in found if name != "training_args.bin"]


def _begins_like_torch(folder: Folder, name: str) -> bool:
    source = folder.open(name)
    return source.read(0, min(source.size, 2)) in (b"PK", b"\x80\x02")


def _siblings(folder: Folder, name: str) -> list[str]:
    """All shards of the model that a file belongs to; the file alone when its name is that of no shard."""
    return [other for other in folder.names() if _SHARD.sub("", other) == _SHARD.sub("", name)] or [name]


def _one_model(folder: Folder, names: list[str]) -> list[str]:
    """The files of the one model among these: one file, or the shards of one.

    A variant yields to the plain file, and all others to what transformers loads.
    """
    plain = [name for name in names if not _VARIANT.search(name)]
    names = plain or names
    names = [name for name in names if _SHARD.sub("", name) == "model.safetensors"] or names
    models = {_SHARD.sub("", name) for name in names}
    if len(models) > 1:
        _only_one(folder, names)
    return names


def _is_whole(folder: Folder, names: list[str]) -> bool:
    """Whether the names are those of shards; then they must be all of them.

    Raises:
        SourceError: when shards are missing.
    """
    matches = [match for name in names if (match := _SHARD.search(name))]
    if not matches:
        return False
    total = max(int(match[2]) for match in matches)
    missing = sorted(set(range(1, total + 1)) - {int(match[1]) for match in matches})
    if missing or len(matches) != len(names):
        read = f"{folder.name} holds {len(matches)} of {total} shards" + (
            f", not number {missing[0]}" if missing else ""
        )
        raise SourceError(read, f"all {total} shards and nothing else of that name", "get the missing ones")
    return True


def _only_one(folder: Folder, names: list[str]) -> None:
    if len(names) > 1:
        shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        raise SourceError(
            f"{folder.name} holds several models: {shown}", "one model in the folder",
            f"name one of the files, such as {folder.place_of(names[0])}",
        )  # fmt: skip


def _read_safetensors(folder: Folder, names: list[str]) -> Checkpoint:
    from weighbridge.formats import safetensors

    if _is_whole(folder, names):
        return safetensors.read_sharded(folder, names, None)
    return safetensors.read(folder.open(names[0]))


def _read_torch(folder: Folder, names: list[str]) -> Checkpoint:
    from weighbridge.formats import torch_zip

    return torch_zip.read_sharded(folder, names) if _is_whole(folder, names) else torch_zip.read(folder.open(names[0]))


def _with_config(folder: Folder, checkpoint: Checkpoint, required: bool = True) -> Checkpoint:
    """The checkpoint with the `config.json` beside it, where there is one.

    Beside a file that was named itself it is not `required` to be readable: then it is left aside, with a note.
    """
    config: Mapping[str, Any] | None = None
    notes = checkpoint.notes
    if "config.json" in folder.names():
        try:
            config = config_format.parse(folder.open("config.json"))
        except WeighbridgeError as error:
            if required:
                raise
            notes += (f"the config.json beside the file was left aside: {error}",)
    return replace(checkpoint, config=config, notes=notes)
