"""Where do a file's bytes come from? One small interface, so that every reader works on any origin.

A reader asks for ranges and never for a whole file. `LocalFile` and `LocalFolder` read a disk; `MemoryFile` and
`MemoryFolder` are doubles for tests that count requests and bytes, and can pretend to be larger than what they hold.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

from weighbridge.errors import FormatError, SourceError

MAX_PATH_DEPTH = 16


class ByteSource(Protocol):
    """A file that can be read in ranges."""

    @property
    def name(self) -> str:
        """The file's name, for messages."""

    @property
    def size(self) -> int:
        """The file's length in bytes."""

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`.

        Raises:
            FormatError: when the range is not inside the file.
        """


class Folder(Protocol):
    """The files that lie beside each other."""

    @property
    def name(self) -> str:
        """The folder's name, for messages."""

    def names(self) -> Iterable[str]:
        """The names of its files, sorted, without those of sub-folders."""

    def open(self, name: str) -> ByteSource:
        """The file of this name.

        Raises:
            FormatError: when the name would leave the folder.
            SourceError: when there is no such file or it cannot be read.
        """

    def place_of(self, name: str) -> str:
        """How a user names the file of this name, or of this path below the folder."""

    def below(self, name: str) -> Folder:
        """The folder of this name in it, which need not exist: then it lists nothing.

        Raises:
            FormatError: when the name would leave the folder.
        """


def file_name(source: ByteSource) -> str:
    """The last part of a file's name: what it is called in its folder.

    Example:
        >>> file_name(MemoryFile("models/a.gguf", b""))
        'a.gguf'
    """
    return re.split(r"[/\\]", source.name)[-1]


def check_range(name: str, size: int, offset: int, length: int) -> None:
    """Refuses a range that does not lie inside the file, before anything is allocated for it.

    Raises:
        FormatError: when it does not.
    """
    if offset < 0 or length < 0 or offset + length > size:
        raise FormatError(
            f"{name} was asked for bytes {offset} to {offset + length} but has {size}",
            "a file at least as long as its header says",
            "it is cut short or damaged: get it again and compare its size with the publisher's",
        )


def open_path(folder: Folder, path: str) -> ByteSource:
    """The file at a path of plain names with slashes between, below a folder.

    Raises:
        FormatError: when a part of the path would leave the folder.
        SourceError: when there is no such file or it cannot be read.

    Example:
        >>> open_path(MemoryFolder({"weights/a.bin": b"abc"}), "weights/a.bin").size
        3
    """
    *folders, name = path.split("/")
    if len(folders) > MAX_PATH_DEPTH:
        raise FormatError(f"{folder.name} names a file {len(folders)} folders deep", f"at most {MAX_PATH_DEPTH}",
                          "do not use this file")  # fmt: skip
    for part in folders:
        folder = folder.below(part)
    return folder.open(name)


def check_name(folder: str, name: str) -> None:
    """Refuses the name of a neighbour that would lead out of its folder.

    Raises:
        FormatError: for separators, `..`, drive letters, control characters and empty names.
    """
    if not name or name in (".", "..") or any(c in name for c in "/\\:") or any(ord(c) < 32 for c in name):
        raise FormatError(
            f"{folder} names the file {name[:100]!r}", "a plain file name in the same folder",
            "do not use this file: it points outside its own folder",
        )  # fmt: skip


def changed(name: str) -> SourceError:
    """What is raised for a file that is no longer the one that was first opened."""
    read = f"{name} was changed while it was read"
    return SourceError(read, "an unchanged file", "read it when nothing writes to it")


class LocalFile:
    """A file on disk. It is open only while it is read: a reader asks a few times, and no handle is left behind.

    After each read its length and its time of change are still those of the beginning, or the read is refused: parts of
    two files are no file. A system keeps that time to some milliseconds, and two changes within them look like one.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise SourceError(
                    f"{self._path} is no plain file", "a file that can be read in ranges", "copy it to one"
                )
            with self._path.open("rb"):
                self._state = status.st_size, status.st_mtime_ns
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self._path)

    @property
    def size(self) -> int:
        """Bytes when it was first opened."""
        return self._state[0]

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes; a file that has changed meanwhile is an error."""
        check_range(self.name, self.size, offset, length)
        try:
            with self._path.open("rb") as file:
                file.seek(offset)
                data = file.read(length)
                status = os.fstat(file.fileno())
        except OSError as error:
            raise self._unreadable(error) from error
        if len(data) != length or (status.st_size, status.st_mtime_ns) != self._state:
            raise changed(self.name)
        return data

    def _unreadable(self, error: Exception) -> SourceError:
        read = f"{self._path} cannot be read ({getattr(error, 'strerror', None) or error})"
        return SourceError(read, "a readable file", "check the path and its permissions")


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a plain file; a link that leads nowhere is none."""
    try:
        return entry.is_file()
    except OSError:
        return False


class LocalFolder:
    """A folder on disk. Links are followed, as the hub's cache consists of them; names never lead out.

    A file of it is what it was when it was first opened here: opened again after a change, it is not read.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._files: dict[str, LocalFile] = {}

    @property
    def name(self) -> str:
        """The path as it was given."""
        return str(self._path)

    def names(self) -> Iterable[str]:
        """Names of the plain files in it, sorted."""
        try:
            return sorted(entry.name for entry in os.scandir(self._path) if _is_file(entry))
        except OSError as error:
            read = f"{self._path} cannot be listed ({error.strerror})"
            raise SourceError(read, "a readable folder", "check the path and its permissions") from error

    def open(self, name: str) -> LocalFile:
        """The file of this name in the folder."""
        check_name(self.name, name)
        if name not in self._files:
            self._files[name] = LocalFile(self._path / name)
        return self._files[name]

    def place_of(self, name: str) -> str:
        """The path."""
        return str(self._path / name)

    def below(self, name: str) -> Folder:
        """The folder of this name in it; an empty one where there is none."""
        check_name(self.name, name)
        path = self._path / name
        return LocalFolder(path) if os.path.lexists(path) else MemoryFolder({}, str(path))


class MemoryFile:
    """A file in memory that counts what is asked of it.

    `size` may exceed the bytes held: a header can be tested without its gigabytes of weights. A read past the bytes
    held is then a failure of the test, not of the file.

    Example:
        >>> file = MemoryFile("a.bin", b"abcdef", size=10**12)
        >>> file.read(1, 3), file.requests, file.bytes_read
        (b'bcd', 1, 3)
    """

    def __init__(self, name: str, data: bytes, size: int | None = None) -> None:
        self._name, self._data, self._size = name, data, len(data) if size is None else size
        self.requests = 0
        self.bytes_read = 0

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    @property
    def size(self) -> int:
        """The length that it claims."""
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes, counted."""
        check_range(self._name, self._size, offset, length)
        self.requests += 1
        self.bytes_read += length
        part = self._data[offset : offset + length]
        assert len(part) == length, f"{self._name}: read of bytes {offset} to {offset + length} that the double lacks"
        return part


class MemoryFolder:
    """A folder in memory: names and the files behind them."""

    def __init__(self, files: Mapping[str, ByteSource | bytes], name: str = "memory") -> None:
        self._files = {n: MemoryFile(n, f) if isinstance(f, bytes) else f for n, f in files.items()}
        self._name = name

    @property
    def name(self) -> str:
        """The name it was given."""
        return self._name

    def names(self) -> Iterable[str]:
        """The names of its files, sorted."""
        return sorted(name for name in self._files if "/" not in name)

    def open(self, name: str) -> ByteSource:
        """The file of this name."""
        check_name(self._name, name)
        if name not in self._files:
            raise SourceError(f"{self._name} has no file {name}", "a file of that name", "get the missing file")
        return self._files[name]

    def place_of(self, name: str) -> str:
        """The name behind that of the folder."""
        return f"{self._name}/{name}"

    def below(self, name: str) -> MemoryFolder:
        """The files whose names begin with this one and a slash."""
        check_name(self._name, name)
        inside = {key.removeprefix(name + "/"): file for key, file in self._files.items() if key.startswith(name + "/")}
        return MemoryFolder(inside, f"{self._name}/{name}")
