"""Which reader opens a path? From a file or folder to a `Checkpoint`, whatever its format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from weighbridge.errors import SourceError
from weighbridge.formats import config as config_format
from weighbridge.formats.byte_source import Folder, LocalFolder
from weighbridge.formats.checkpoint import Checkpoint

TORCH_SUFFIXES = (".pt", ".pth", ".bin")
READABLE = "a folder of a model, config.json, *.safetensors, *.index.json, *.gguf, *.pt, *.pth or *.bin"
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.[a-z]+$)")


def read(path: str | Path) -> Checkpoint:
    """The checkpoint at a path: a folder, a weight file, an index or a configuration.

    A `config.json` beside weights is taken with them. Only headers are read.

    Raises:
        SourceError: when there is nothing readable there.
        FormatError: when a header is not what its format demands.
        ConfigError: when a configuration is none.
    """
    place = Path(path)
    if place.is_dir():
        return _read_folder(LocalFolder(place))
    if not place.exists():
        raise SourceError(f"{place} does not exist", READABLE, "check the spelling and the current folder")
    folder = LocalFolder(place.parent)
    return replace(read_file(folder, place.name), source=str(place))


def read_file(folder: Folder, name: str) -> Checkpoint:
    """The checkpoint that a file of a folder belongs to.

    Raises:
        SourceError: when its ending is that of no known format.
    """
    if name.endswith(".json"):
        return _read_json(folder, name)
    if name.endswith(".safetensors"):
        return _with_config(folder, _read_safetensors(folder, [name]))
    if name.endswith(".gguf"):
        from weighbridge.formats import gguf

        return gguf.read(folder.open(name), folder)
    if name.endswith(TORCH_SUFFIXES):
        return _with_config(folder, _read_torch(folder, [name]))
    raise SourceError(f"{name} has an ending of no known format", READABLE, "give such a file")


def _read_json(folder: Folder, name: str) -> Checkpoint:
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
    indexes = [name for name in names if name.endswith(".safetensors.index.json")]
    if indexes:
        _only_one(folder, indexes)
        found = _read_json(folder, indexes[0])
    elif group := _one_model(folder, [name for name in names if name.endswith(".safetensors")]):
        found = _with_config(folder, _read_safetensors(folder, group))
    elif group := _one_model(folder, [name for name in names if name.endswith(".gguf")]):
        from weighbridge.formats import gguf

        found = gguf.read(folder.open(group[0]), folder)
    elif group := _one_model(folder, [n for n in names if n.endswith(TORCH_SUFFIXES) and n != "training_args.bin"]):
        found = _with_config(folder, _read_torch(folder, group))
    elif "config.json" in names:
        found = _read_json(folder, "config.json")
    else:
        raise SourceError(f"{folder.name} holds no model that can be read", READABLE, "name the file itself")
    return replace(found, source=folder.name)


def _one_model(folder: Folder, names: list[str]) -> list[str]:
    """The files of the one model among these: one file, or the shards of one."""
    models = {_SHARD.sub("", name) for name in names}
    if len(models) > 1:
        _only_one(folder, names)
    return names


def _only_one(folder: Folder, names: list[str]) -> None:
    if len(names) > 1:
        shown = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")
        raise SourceError(
            f"{folder.name} holds several models: {shown}", "one model in the folder", "name one of the files"
        )


def _read_safetensors(folder: Folder, names: list[str]) -> Checkpoint:
    from weighbridge.formats import safetensors

    if len(names) == 1 and (match := _SHARD.search(names[0])):
        pattern = names[0][: match.start()], match[2]
        names = [
            n for n in folder.names() if n.startswith(pattern[0]) and (m := _SHARD.search(n)) and m[2] == pattern[1]
        ]
    if len(names) == 1:
        return safetensors.read(folder.open(names[0]))
    return safetensors.read_sharded(folder, names, None)


def _read_torch(folder: Folder, names: list[str]) -> Checkpoint:
    from weighbridge.formats import torch_zip

    return torch_zip.read(folder.open(names[0])) if len(names) == 1 else torch_zip.read_sharded(folder, names)


def _with_config(folder: Folder, checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with the `config.json` beside it, where there is one."""
    config: Mapping[str, Any] | None = None
    if "config.json" in folder.names():
        config = config_format.parse(folder.open("config.json"))
    return replace(checkpoint, config=config)
