"""Weighbridge: what does a neural network weigh?

    import weighbridge
    weighbridge.inspect("config.json").parameters.total

The names below are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weighbridge.errors import WeighbridgeError
    from weighbridge.formats.torch_module import read_module
    from weighbridge.growth import Point, history
    from weighbridge.layer import LayerCount, count_layer
    from weighbridge.model.catalogue import NamedModel, find_model
    from weighbridge.notebook import Inspection, inspect
    from weighbridge.shapes import Design, Wish, design
    from weighbridge.side_by_side import SideBySide, compare

__version__ = "0.1.0"
__all__ = [
    "Design", "Inspection", "LayerCount", "NamedModel", "Point", "SideBySide", "WeighbridgeError", "Wish", "compare",
    "count_layer", "design", "find_model", "history", "inspect", "read_module",
]  # fmt: skip

_HOMES = {
    "Inspection": "weighbridge.notebook", "inspect": "weighbridge.notebook",
    "LayerCount": "weighbridge.layer", "count_layer": "weighbridge.layer",
    "WeighbridgeError": "weighbridge.errors", "read_module": "weighbridge.formats.torch_module",
    "NamedModel": "weighbridge.model.catalogue", "find_model": "weighbridge.model.catalogue",
    "SideBySide": "weighbridge.side_by_side", "compare": "weighbridge.side_by_side",
    "Point": "weighbridge.growth", "history": "weighbridge.growth",
    "Design": "weighbridge.shapes", "Wish": "weighbridge.shapes", "design": "weighbridge.shapes",
}  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'weighbridge' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
