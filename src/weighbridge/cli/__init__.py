"""The command `weigh`."""

from __future__ import annotations

from weighbridge.cli.main import main

__all__ = ["main"]
