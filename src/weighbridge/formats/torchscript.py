"""What does a TorchScript archive hold? The tensors of a program, under their attribute paths; nothing of it is run.

Layout, as `torch.jit.save` writes it since 1.4, in one folder of an uncompressed zip:

    archive/data.pkl           the module: an object of a class `__torch__.<name>`, whose state is a dict of attributes
    archive/constants.pkl      a tuple of the tensors that the code names as `CONSTANTS.c0` and so on
    archive/data/<key>         one storage of data.pkl; `constants/<key>` one of constants.pkl
    archive/code/<path>.py     the classes: `__parameters__ = ["weight", ]` and `__buffers__` say what is which

The code is not interpreted: only these two lists are looked for, line by line, in the classes of the objects that hold
tensors. Where any of these classes lists a parameter, what no list names (other attributes, constants) is a buffer;
where none does, as in a frozen module, the tensors are told apart by name and type as elsewhere. An object with a
`__getstate__` of its own has the paths of what that returned. Constants are named `constants.0` and so on.

`Checkpoint.metadata` is that of `torch_zip` without a wrapper. The archives of torch 1.0 to 1.3 are refused.

Sources: pytorch/pytorch, 2.13: `torch/csrc/jit/serialization/` (`pickler.cpp`, `unpickler.cpp`, `import.cpp`,
`python_print.cpp`, `import_export_helpers.cpp`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats import torch_pickle, torch_storages
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.pickle_stream import MemoryStream
from weighbridge.formats.pickle_symbols import Node, Paths
from weighbridge.formats.torch_pickle import Tensor, TorchWalk
from weighbridge.formats.torch_storages import ArchivePlaces, Opened
from weighbridge.formats.zip_archive import ZipArchive
from weighbridge.model.tensors import Kind

MAX_PICKLE_BYTES = 64 * 1024 * 1024
MAX_RATIO = 200
MAX_CODE_BYTES = 4 * 1024 * 1024
MAX_CODE_FILES = 1000
"""Of the code of one archive, and how many of its files are read: what comes after tells no kinds."""

_CLASS = re.compile(r"class ([A-Za-z_]\w*)\(")
_LIST = re.compile(r'  __(parameters|buffers)__ = \[((?:"[^"\\]*", ?)*)\]')
_SCRIPT = "__torch__."


@dataclass(frozen=True, slots=True)
class _Lists:
    """The attributes that a class says to be parameters and buffers."""

    parameters: frozenset[str]
    buffers: frozenset[str]


def is_script(archive: ZipArchive, top: str) -> bool:
    """Whether an archive is one of `torch.jit.save`, of any version."""
    return f"{top}/constants.pkl" in archive.entries or f"{top}/model.json" in archive.entries


def read(archive: ZipArchive, top: str) -> Opened:
    """The checkpoint of one archive, and where its tensors lie.

    Raises:
        FormatError: for damage, for pickles that torch does not write, and for archives of torch before 1.4.
    """
    source = archive.source
    for name in ("data.pkl", "constants.pkl"):
        if f"{top}/{name}" not in archive.entries:
            action = "load it with a torch that can, with torch.jit.load, and save it again with torch.jit.save"
            _fail(source.name, f"it is a TorchScript archive without {name}, as torch before 1.4 wrote", name, action)
    walks, roots, pickles = [], [], []
    for name, folder in (("data", "data/"), ("constants", "constants/")):
        entry = archive.entries[f"{top}/{name}.pkl"]
        data = archive.read(entry, MAX_PICKLE_BYTES, MAX_RATIO)
        walk = TorchWalk(f"{source.name}: {name}.pkl", MemoryStream(data), folder, entry.stored)
        roots.append(walk.run())
        walks.append(walk)
        pickles.append(data)
    module, constants = roots
    if not isinstance(module, Node) or not module.name.startswith(_SCRIPT) or not isinstance(constants, tuple):
        _fail(source.name, "its pickles are not those of torch.jit.save", "a module and a tuple of constants",
              "do not load this file")  # fmt: skip
    lists = _class_lists(archive, top, _classes_with_tensors(module))
    has_lists = any(found.parameters for found in lists.values())
    paths = _ScriptPaths(f"{source.name}: data.pkl", module, lists, has_lists)
    fixed = Paths(f"{source.name}: constants.pkl", constants, Tensor)
    kind = Kind.BUFFER if has_lists else Kind.PARAMETER
    found = paths.found + [(f"constants.{path}", tensor, kind) for path, tensor, _ in fixed.found]
    rows = torch_pickle.rows(f"{source.name}: it", found)
    places = ArchivePlaces(archive, top, tuple(storage for walk in walks for storage in walk.storages.values()))
    storages = [entry for entry in archive.entries.values()
                if entry.name.startswith((f"{top}/data/", f"{top}/constants/"))]  # fmt: skip
    metadata = {
        "wrapper": "",
        "foreign_names": tuple(sorted(walks[0].foreign | walks[1].foreign)),
        "values": {},
        "aliases": {},
        "unnamed_storages": len(storages) - len({row.tensor.storage.key for row in rows}),
    }
    notes = ("it is a TorchScript archive, a program with its weights: its code was not run",)
    checkpoint = Checkpoint(
        source.name, "torch", (torch_storages.account(source, storages),),
        torch_storages.specs(source, rows, places), metadata=metadata,
        digest=hashlib.sha256(archive.directory + b"".join(pickles)).hexdigest(), notes=notes,
        byte_order=torch_storages.byte_order(archive, top),
    )  # fmt: skip
    return torch_storages.opened(checkpoint, rows, places)


class _ScriptPaths(Paths):
    """The attribute paths of a script module, with the kinds that its classes tell."""

    def __init__(self, where: str, root: Any, lists: Mapping[str, _Lists], has_lists: bool) -> None:
        self.lists, self.has_lists = lists, has_lists
        super().__init__(where, root, Tensor)

    def named(self, node: Node, key: str, child: Any, kind: Kind) -> tuple[str, Kind]:
        """An attribute; what no list names is a buffer, where there are lists. Objects of the script tell their own."""
        lists = self.lists.get(node.name)
        if lists is not None and key in lists.parameters:
            return key, Kind.PARAMETER
        if lists is not None and key in lists.buffers:
            return key, Kind.BUFFER
        is_object = isinstance(child, Node) and child.name.startswith(_SCRIPT)
        return key, Kind.BUFFER if self.has_lists and not is_object else Kind.PARAMETER


def _classes_with_tensors(root: Node) -> list[str]:
    """The classes of the objects that have a tensor as an attribute, each once, in the order of the walk."""
    names: dict[str, None] = {}
    seen: set[int] = set()
    waiting: list[Any] = [root]
    while waiting:
        value = waiting.pop()
        if id(value) in seen or not isinstance(value, Node | tuple):
            continue
        seen.add(id(value))
        if isinstance(value, tuple):
            waiting += value
            continue
        waiting += [*value.values, value.state]
        inside = value.state
        if isinstance(inside, Node) and any(isinstance(child, Tensor) for child in inside.values):
            names[value.name] = None
    return [name for name in names if name.startswith(_SCRIPT)]


def _class_lists(archive: ZipArchive, top: str, classes: Iterable[str]) -> dict[str, _Lists]:
    """The lists of these classes: `__torch__.a.B` stands in `code/__torch__/a.py`."""
    found: dict[str, _Lists] = {}
    files: dict[str, list[str]] = {}
    for name in classes:
        module, _, _ = name.rpartition(".")
        files.setdefault(f"{top}/code/{module.replace('.', '/')}.py", []).append(module)
    left = MAX_CODE_BYTES
    for path, modules in list(files.items())[:MAX_CODE_FILES]:
        entry = archive.entries.get(path)
        if entry is None or entry.size > left:
            continue
        left -= entry.size
        text = archive.read(entry, MAX_CODE_BYTES).decode("utf-8", "replace")
        for class_name, lists in _parsed(text).items():
            found[f"{modules[0]}.{class_name}"] = lists
    return found


def _parsed(text: str) -> dict[str, _Lists]:
    r"""The two lists of each class of a file.

    Example:
        >>> _parsed('class A(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n')["A"].parameters
        frozenset({'w'})
    """
    found: dict[str, _Lists] = {}
    current = ""
    named: dict[str, frozenset[str]] = {}
    for line in text.splitlines():
        if match := _CLASS.match(line):
            current, named = match[1], {}
        elif current and (match := _LIST.fullmatch(line)):
            named[match[1]] = frozenset(re.findall(r'"([^"]*)"', match[2]))
            found[current] = _Lists(named.get("parameters", frozenset()), named.get("buffers", frozenset()))
    return found


def _fail(name: str, read_: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{name}: {read_}", expected, action)
