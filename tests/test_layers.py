"""Does every module import only from rooms above its own, and does the command start without heavy libraries?

The rooms are those of the design, in the order in which data flows through them. Imports are read with `ast`, inside
functions too: an import that is late is still an import. Only the start-up test looks at what runs.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "weighbridge"
SOURCE = Path(__file__).resolve().parent.parent / "src" / PACKAGE

LEVELS: tuple[tuple[str, ...], ...] = (
    ("errors", "units", "estimate", "names", "output_file"),
    ("model",),
    ("formats",),
    ("hardware",),
    ("predict",),
    ("family_guess", "what_if"),
    ("inspection", "layer"),
    ("side_by_side", "shapes", "planning", "adapted", "traffic_log", "run_log", "scaling"),
    (
        "rankings",
        "footprint",
        "regulation",
        "launch",
        "service_level",
        "load_engine",
        "load_search",
        "loading",
        "load_curve",
        "layout_search",
        "training",
        "training_points",
        "training_source",
        "training_wish",
        "ways_to_train",
    ),
    ("growth", "measuring"),
    ("prove",),
    ("costing",),
    ("compress",),
    ("convert",),
    ("choose",),
    ("claims",),
    ("serve",),
    ("steward",),
    ("show",),
    ("notebook",),
    ("__init__",),
    ("cli", "web"),
    ("__main__",),
)
"""Rooms from the top down: a room imports from levels above its own, and from its own level without a cycle."""

STRANGERS = {("predict", "formats"): "a prediction does not read headers", ("web", "cli"): "the page is not a command"}
"""Imports that the levels would allow and the design does not. `formats` cannot import `predict`: it is above it."""

LATE_ONLY = {("cli", "web"): "the web server is loaded only by the command that starts it"}
"""Imports that are allowed inside functions only."""

HEAVY = ("torch", "transformers", "numpy", "matplotlib")
"""Libraries that a command loads only when it needs them."""

NEVER_AT_START = ("torch", "transformers", "numpy", "matplotlib")


@dataclass(frozen=True, slots=True)
class Import:
    """One import: the module that has it, what it names, where, and whether it runs when the module is loaded."""

    importer: str
    imported: str
    line: int
    at_load: bool


def module_name(path: Path, source: Path) -> str:
    """`model.families` for `model/families/__init__.py`, `units` for `units.py`, `__init__` for the package itself."""
    parts = list(path.relative_to(source).with_suffix("").parts)
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    return ".".join(parts)


def statements(tree: ast.AST, at_load: bool = True) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import of a module; True with those that run when it is loaded (not in functions, not for types only)."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, at_load
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from statements(node, False)
        elif isinstance(node, ast.If) and ast.unparse(node.test).split(".")[-1] == "TYPE_CHECKING":
            for child in node.body:
                yield from statements(ast.Module([child], []), False)
            for child in node.orelse:
                yield from statements(ast.Module([child], []), at_load)
        else:
            yield from statements(node, at_load)


def imports(source: Path) -> list[Import]:
    """Every import of every module of the package; names inside the package are written without its own name."""
    modules = {module_name(path, source): path for path in sorted(source.rglob("*.py"))}
    found = []
    for importer, path in modules.items():
        package = [] if importer == "__init__" else importer.split(".")
        if path.name != "__init__.py":
            package = package[:-1]
        for node, at_load in statements(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif node.level:
                base = [PACKAGE, *package[: len(package) - node.level + 1]]
                names = [".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names]
            else:
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for name in names:
                imported = name
                if name == PACKAGE or name.startswith(PACKAGE + "."):
                    imported = "." + inside(name, modules)
                found.append(Import(importer, imported, node.lineno, at_load))
    return found


def inside(name: str, modules: dict[str, Path]) -> str:
    """The longest module of the package that a dotted name starts with.

    An attribute of the package is `__init__`'s; a path into a room that has no module yet is that room's.
    """
    parts = name.split(".")[1:]
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in modules:
            return ".".join(parts[:length])
    return parts[0] if len(parts) > 1 else "__init__"


def room(module: str) -> str:
    """The room of a module: the first part of its name."""
    return module.split(".")[0]


def layer_faults(source: Path) -> list[str]:
    """Every import that goes against the order of the rooms, and every cycle between rooms, in words."""
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    rooms = {room(module_name(path, source)) for path in source.rglob("*.py")}
    faults = [f"the room {name} is in no level: give it its place in LEVELS" for name in sorted(rooms - level.keys())]
    edges: dict[str, set[str]] = {}
    for item in imports(source):
        if not item.imported.startswith("."):
            continue
        here, there = room(item.importer), room(item.imported[1:])
        if here == there or here not in level or there not in level:
            continue
        edges.setdefault(here, set()).add(there)
        place = f"{item.importer} imports {item.imported[1:]} (line {item.line})"
        if level[there] > level[here]:
            faults.append(f"{place}: {there} comes after {here}")
        if (here, there) in STRANGERS:
            faults.append(f"{place}: {STRANGERS[here, there]}")
        if (here, there) in LATE_ONLY and item.at_load:
            faults.append(f"{place} when it is loaded: {LATE_ONLY[here, there]}")
    faults += [f"rooms import each other in a circle: {' -> '.join(circle)}" for circle in circles(edges)]
    return faults


def circles(edges: dict[str, set[str]]) -> list[list[str]]:
    """The circles in a graph, each once, from its first name in the alphabet back to it."""
    found = []

    def follow(path: list[str]) -> None:
        for name in sorted(edges.get(path[-1], ())):
            if name == path[0]:
                found.append([*path, name])
            elif name > path[0] and name not in path:
                follow([*path, name])

    for start in sorted(edges):
        follow([start])
    return found


def heavy_faults(source: Path) -> list[str]:
    """Every heavy library that the package's front or its command line loads before it knows what is asked."""
    return [
        f"{item.importer} imports {item.imported} when it is loaded (line {item.line}): move it into the function"
        for item in imports(source)
        if room(item.importer) in ("__init__", "__main__", "cli") and item.at_load and room(item.imported) in HEAVY
    ]


def loaded(report: str) -> set[str]:
    """The top-level names in the report of `python -X importtime`."""
    rows = [line.split("|") for line in report.splitlines() if line.startswith("import time:")]
    return {row[2].strip().split(".")[0] for row in rows if len(row) == 3}


def test_rooms_import_only_from_rooms_above() -> None:
    assert layer_faults(SOURCE) == []


def test_front_and_command_line_load_nothing_heavy() -> None:
    assert heavy_faults(SOURCE) == []


def test_help_starts_without_heavy_libraries() -> None:
    command = [sys.executable, "-X", "importtime", "-m", PACKAGE, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "inspect" in done.stdout
    names = loaded(done.stderr)
    assert PACKAGE in names, "the report of -X importtime was not understood"
    assert names.isdisjoint(NEVER_AT_START), sorted(names & set(NEVER_AT_START))


# --- the checks themselves: each must find what is planted ----------------------------------------------------------


def plant(folder: Path, files: dict[str, str]) -> Path:
    source = folder / PACKAGE
    for name in ("__init__.py", *files):
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files.get(name, ""), encoding="utf-8")
    return source


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("model/a.py", "from weighbridge.formats.gguf import read", "formats comes after model"),
        ("model/a.py", "from weighbridge import formats", "formats comes after model"),
        ("model/a.py", "import weighbridge.formats.gguf", "formats comes after model"),
        ("model/a.py", "from ..formats import gguf", "formats comes after model"),
        ("model/a.py", "def f():\n    from weighbridge.formats import gguf", "formats comes after model"),
        ("model/__init__.py", "from ..formats import gguf", "formats comes after model"),
        ("model/deep/a.py", "from ...formats import gguf", "formats comes after model"),
        ("units.py", "from .formats import gguf", "formats comes after units"),
        ("units.py", "if TYPE_CHECKING:\n    from .formats import gguf", "formats comes after units"),
        ("inspection.py", "from weighbridge import __version__", "__init__ comes after inspection"),
        ("inspection.py", "def f():\n    from weighbridge.show import report", "show comes after inspection"),
        ("predict/a.py", "from weighbridge.formats import gguf", "a prediction does not read headers"),
        ("formats/b.py", "from weighbridge.predict import memory", "predict comes after formats"),
        ("cli/a.py", "import weighbridge.web", "only by the command that starts it"),
        ("web/a.py", "from weighbridge.cli import main", "the page is not a command"),
        ("tools/a.py", "", "the room tools is in no level"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, name: str, text: str, words: str) -> None:
    rooms = {f"{room}/__init__.py": "" for room in ("formats", "predict", "web", "cli")}
    source = plant(tmp_path, rooms | {"formats/gguf.py": "", "predict/memory.py": "", name: text})
    faults = layer_faults(source)
    assert len(faults) == 1, faults
    assert words in faults[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("formats/a.py", "from weighbridge.model import tensors\nfrom weighbridge.errors import FormatError"),
        ("formats/a.py", "import os, numpy\nfrom .gguf import read"),
        ("inspection.py", "from weighbridge.formats import gguf\nfrom weighbridge.predict import memory"),
        ("cli/a.py", "def serve():\n    import weighbridge.web"),
        ("cli/a.py", "from weighbridge import __version__"),
        ("units.py", "from weighbridge.errors import UnitError"),
        ("units.py", "import weighbridgeish.formats"),
    ],
)
def test_what_is_allowed_is_not_a_fault(tmp_path: Path, name: str, text: str) -> None:
    names = ("errors.py", "model/tensors.py", "formats/gguf.py", "predict/memory.py", "web/__init__.py")
    assert layer_faults(plant(tmp_path, dict.fromkeys(names, "") | {name: text})) == []


def test_a_circle_of_rooms_is_found(tmp_path: Path) -> None:
    source = plant(tmp_path, {"units.py": "from . import errors", "errors.py": "def f():\n    from . import units"})
    assert layer_faults(source) == ["rooms import each other in a circle: errors -> units -> errors"]


@pytest.mark.parametrize(
    ("name", "text", "count"),
    [
        ("cli/a.py", "import numpy as np", 1),
        ("cli/a.py", "from numpy.linalg import norm", 1),
        ("cli/a.py", "try:\n    import torch\nexcept ImportError:\n    torch = None", 1),
        ("cli/a.py", "class A:\n    import matplotlib.pyplot", 1),
        ("__init__.py", "import transformers", 1),
        ("cli/a.py", "def f():\n    import numpy", 0),
        ("cli/a.py", "if TYPE_CHECKING:\n    import numpy", 0),
        ("cli/a.py", "if TYPE_CHECKING:\n    import numpy\nelse:\n    import torch", 1),
        ("formats/a.py", "import numpy", 0),
        ("cli/a.py", "import richness, numpyish.sub", 0),
    ],
)
def test_a_heavy_import_is_found_where_it_runs(tmp_path: Path, name: str, text: str, count: int) -> None:
    assert len(heavy_faults(plant(tmp_path, {name: text}))) == count


def test_the_report_of_import_times_is_understood() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "import json.decoder"]
    report = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stderr
    assert "json" in loaded(report)
    assert "weighbridge" not in loaded("a message that mentions | weighbridge | weighbridge")
