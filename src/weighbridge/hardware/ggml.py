"""Where is ggml? The wheel `xllamacpp` exports the C functions of llama.cpp and ggml from its shared object."""

from __future__ import annotations

import ctypes
import importlib
import sys
from typing import Any

from weighbridge.errors import ConfigError


def library() -> Any:
    """The shared object, whose functions have no types yet.

    Raises:
        ConfigError: when the wheel is not installed.
    """
    try:
        package: Any = importlib.import_module("xllamacpp")
    except ImportError as error:
        raise ConfigError("xllamacpp is not installed, which brings llama.cpp", "the extra `run`",
                          "run: pip install 'weighbridge[run]'") from error  # fmt: skip
    return ctypes.CDLL(sys.modules["xllamacpp.xllamacpp"].__file__ or package.__file__ or "")
