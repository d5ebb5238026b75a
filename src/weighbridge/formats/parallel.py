"""How are many small files waited for at once? Each read ahead by a few threads, the results in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from weighbridge.formats.byte_source import Folder

Item = TypeVar("Item")
Result = TypeVar("Result")


def workers(folder: Folder) -> int:
    """How many files of a folder may be read at once: several where a network is waited for."""
    return getattr(folder, "workers", 1)


def mapped(folder: Folder, read: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """`read` of each item, in order; several at once when a network is waited for.

    At most twice as many results are held as there are threads. The first error in order is raised, and no further item
    is begun.

    Example:
        >>> from weighbridge.formats.byte_source import MemoryFolder
        >>> list(mapped(MemoryFolder({}), str.upper, ["a", "b"]))
        ['A', 'B']
    """
    threads = min(workers(folder), len(items))
    return map(read, items) if threads <= 1 else _read_ahead(read, items, threads)


def _read_ahead(read: Callable[[Item], Result], items: Sequence[Item], threads: int) -> Iterator[Result]:
    results: dict[int, Result | BaseException] = {}
    changed = threading.Condition()
    begun = taken = 0
    stopped = False

    def work() -> None:
        nonlocal begun
        while True:
            with changed:
                while not stopped and begun < len(items) and begun >= taken + 2 * threads:
                    changed.wait()
                if stopped or begun == len(items):
                    return
                place = begun
                begun += 1
            try:
                found: Result | BaseException = read(items[place])
            except BaseException as error:
                found = error
            with changed:
                results[place] = found
                changed.notify_all()

    for _ in range(threads):
        threading.Thread(target=work, daemon=True).start()
    try:
        for place in range(len(items)):
            with changed:
                while place not in results:
                    changed.wait()
                found = results.pop(place)
                taken = place + 1
                changed.notify_all()
            if isinstance(found, BaseException):
                raise found
            yield found
    finally:
        with changed:
            stopped = True
            changed.notify_all()
