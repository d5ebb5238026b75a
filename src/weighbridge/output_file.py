"""How does a file get written so that a killed run leaves no half of it? Beside its place, then renamed into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from weighbridge.errors import SourceError


def write_text(path: str | Path, text: str) -> None:
    """Writes UTF-8 text to a path: the old content or the new is there, never a part.

    Raises:
        SourceError: when the folder does not exist, is read-only or full.

    Example:
        >>> folder = tempfile.mkdtemp()
        >>> write_text(Path(folder) / "a.svg", "<svg/>")
        >>> os.listdir(folder), (Path(folder) / "a.svg").read_text()
        (['a.svg'], '<svg/>')
    """
    write_bytes(path, [text.encode()])


def write_bytes(path: str | Path, parts: Iterable[bytes]) -> None:
    """Writes bytes, part after part, to a path: the old content or the new is there, never a part.

    Raises:
        SourceError: when the folder does not exist, is read-only or full.
    """
    place = Path(path)
    beside = ""
    try:
        place = place.resolve()  # a link stays, and what it points to is replaced
        if place.exists() and not place.is_file():  # a device or a pipe has no content to protect
            with place.open("wb") as file:
                file.writelines(parts)
            return
        descriptor, beside = tempfile.mkstemp(dir=place.parent, prefix=place.name + ".", suffix=".part")
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
        mask = os.umask(0)
        os.umask(mask)
        Path(beside).chmod(0o666 & ~mask)  # mkstemp makes private files; this one is as any other would be
        Path(beside).replace(place)
    except OSError as error:
        if beside:
            Path(beside).unlink(missing_ok=True)
        read = f"{path} cannot be written ({error.strerror})"
        raise SourceError(
            read, "a folder that exists, can be written to and has room", "choose another path"
        ) from error
