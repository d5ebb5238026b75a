"""The command `weigh`: thin functions over the library. Only this room and `web` read arguments, and print."""

from __future__ import annotations

from weighbridge.cli.group import main

__all__ = ["main"]
