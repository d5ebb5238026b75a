"""What every reader keeps to, whatever it is given: its own errors, a second of processor time, 100 MB of memory."""

from __future__ import annotations

import os
import pickle
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pytest
from hypothesis import strategies as st

from weighbridge.errors import WeighbridgeError
from weighbridge.formats.byte_source import ByteSource, Folder, MemoryFile, MemoryFolder, check_range
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import inspect

HUGE_BYTES = 2**40
MOST_BYTES = 100_000_000
MOST_CPU_S = 3
"""Alone each takes a fraction of a second; the machine has other work."""
T = TypeVar("T")


def within(read: Callable[[], T], more: Callable[[], object] | None = None) -> T:
    """What a reading gives or raises, within the bounds of processor time and, read again, of memory.

    `more` is read the second time instead: what is only asked for once the file has been opened.
    """
    begin = time.process_time()
    try:
        return read()
    finally:
        assert time.process_time() - begin < MOST_CPU_S
        tracemalloc.start()
        try:
            (more or read)()
        except WeighbridgeError:
            pass
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < MOST_BYTES, peak


def refused(read: Callable[[], object], part: str = "") -> None:
    """Asserts that a reading ends in an error that can be printed, says what to do, and holds these words."""
    with pytest.raises(WeighbridgeError) as error:
        read()
    assert error.value.action and len(str(error.value)) < 1000 and str(error.value).isprintable()
    assert part in str(error.value)


RUNNING = ((os, "system"), (os, "popen"), (os, "execv"), (pickle, "loads"), (pickle, "load"), (pickle, "Unpickler"))
"""Functions that would run what a pickle names."""


def forbid(monkeypatch: pytest.MonkeyPatch, *functions: tuple[object, str]) -> None:
    """Makes the test fail when one of these is called: what would run or open what a file names."""

    def called(*arguments: object, **options: object) -> None:
        raise AssertionError(f"executed: {arguments}")

    for module, name in functions:
        monkeypatch.setattr(module, name, called)


class SparseFile(MemoryFile):
    """A file of a terabyte that holds the given bytes and then zeros."""

    def __init__(self, name: str, data: bytes, size: int = HUGE_BYTES) -> None:
        super().__init__(name, data, size)
        self._held = data

    def read(self, offset: int, length: int) -> bytes:
        """The bytes, or zeros."""
        check_range(self.name, self.size, offset, length)
        assert length <= 100_000_000, f"asks for {length:,} bytes at once"
        return self._held[offset : offset + length].ljust(length, b"\0")


class Reads:
    """Reads files with one reader within the bounds, and what is made of them too."""

    def __init__(self, read: object, name: str, files: Mapping[str, bytes]) -> None:
        assert callable(read)
        self._read, self.name, self.files = read, name, files

    def __call__(self, files: Mapping[str, ByteSource | bytes], traced: bool = False) -> Checkpoint | WeighbridgeError:
        """The checkpoint, or the refusal."""
        folder: Folder = MemoryFolder(files)
        if traced:
            tracemalloc.start()
        begin = time.process_time()
        try:
            found = self._read(folder, self.name)
            assert isinstance(found, Checkpoint) and inspect(found).stored is not None
            return found
        except WeighbridgeError as error:
            assert error.action and len(str(error)) < 3000 and str(error).isprintable()
            return error
        finally:
            assert traced or time.process_time() - begin < 3  # alone it is a fraction of a second
            if traced:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert peak < 100_000_000, peak

    def refuse(self, files: Mapping[str, ByteSource | bytes], part: str = "") -> None:
        """Asserts that files are refused, for the reason that `part` tells."""
        for traced in (False, True):
            found = self(files, traced)
            assert isinstance(found, WeighbridgeError), found
            assert part in str(found), str(found)

    def cuts(self) -> None:
        """Every file of the valid ones, cut at every length."""
        for name, data in self.files.items():
            for length in range(len(data)):
                self({**self.files, name: data[:length]})

    def changes(self, changes: Sequence[tuple[int, int, bytes, int]], cut: int) -> None:
        """Valid files with bytes replaced: of each change the file, the place, what is put there and what is taken."""
        files = dict(self.files)
        for number, place, put, taken in changes:
            name = sorted(files)[number % len(files)]
            at = place % (len(files[name]) + 1)
            files[name] = files[name][:at] + put + files[name][at + taken :]
        name = sorted(files)[cut % len(files)]
        files[name] = files[name][: len(files[name]) - cut // 100]
        self(files)

    def sparse(self) -> None:
        """Every file with a terabyte of zeros behind it."""
        for name, data in self.files.items():
            for length in (0, 1, len(data) // 3, len(data) // 2, len(data)):
                self({**self.files, name: SparseFile(name, data[:length])})


NUMBERS = [struct_ for width in (1, 2, 4, 8) for value in (0, 1, 2**7, 2**15, 2**31, 2**63, 2**64 - 1, 2**32 - 1)
           for struct_ in ((value % 2 ** (8 * width)).to_bytes(width, "little"),)]  # fmt: skip
CHANGES = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 2**20), st.binary(max_size=4) | st.sampled_from(NUMBERS),
              st.sampled_from([0, 1, 2, 4, 8])),
    max_size=4,
)  # fmt: skip
CUT = st.just(0) | st.integers(0, 3000)
