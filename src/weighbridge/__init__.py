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
    from weighbridge.layer import LayerCount, count_layer
    from weighbridge.notebook import Inspection, inspect

__version__ = "0.1.0"
__all__ = ["Inspection", "LayerCount", "WeighbridgeError", "count_layer", "inspect", "read_module"]

_HOMES = {
    "Inspection": "weighbridge.notebook", "inspect": "weighbridge.notebook",
    "LayerCount": "weighbridge.layer", "count_layer": "weighbridge.layer",
    "WeighbridgeError": "weighbridge.errors", "read_module": "weighbridge.formats.torch_module",
}  # fmt: skip


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'weighbridge' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
