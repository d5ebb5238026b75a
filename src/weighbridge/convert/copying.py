"""How do tensors get into their new files, so that nothing is lost on the way and a killed run goes on?

Piece by piece, hashed while they are copied. The files grow in a folder beside their place, with a journal of the
finished tensors. Afterwards the new files are read as any reader would read them, and each tensor is held against what
the source gave. A run that was killed goes on behind the tensors that still have their checksums.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from weighbridge.compress import journal
from weighbridge.convert.layout import Layout, Slot
from weighbridge.errors import FormatError, SourceError, printable
from weighbridge.formats import contents, reader
from weighbridge.formats.byte_source import Folder, LocalFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.model.tensors import TensorSpec

Tell = Callable[[str, int, int], None]


def checksum(checkpoint: Checkpoint, tensor: TensorSpec, folder: Folder) -> str:
    """The SHA-256 of a stored tensor's bytes."""
    whole = hashlib.sha256()
    for piece in contents.pieces(checkpoint, tensor, folder):
        whole.update(piece)
    return whole.hexdigest()


def begin(part: Path, diary: Path, layout: Layout, key: str) -> dict[str, str]:
    """Makes the files with their headers, or finds those of an earlier run: its finished tensors and their checksums.

    Raises:
        SourceError: when something lies there that no run has left.
        OSError: when the files cannot be made.
    """
    done = _finished(part, diary, layout, key)
    if not done:
        journal.begin_folder(part, diary, key)
        for file in layout.files:
            with (part / file.name).open("wb") as out:
                out.write(file.header)
                out.truncate(file.size_bytes)
    return done


def _finished(part: Path, diary: Path, layout: Layout, key: str) -> dict[str, str]:
    checksums: dict[str, str] = {}
    slots = {slot.tensor.name: (file.name, slot) for file in layout.files for slot in file.slots}
    entries = journal.entries(diary, key)
    try:
        for file in layout.files:
            with (part / file.name).open("rb") as held:
                if held.read(len(file.header)) != file.header:
                    return {}
        for entry in entries or []:
            name, slot = slots[entry["name"]]
            with (part / name).open("rb") as held:
                if journal.checksum(held, slot.begin, slot.end) == entry["sha256"]:
                    checksums[entry["name"]] = entry["sha256"]
    except (OSError, KeyError, TypeError):
        return {}
    return checksums


def copy(
    checkpoint: Checkpoint, folder: Folder, part: Path, diary: Path, layout: Layout, done: Mapping[str, str],
    tell: Tell,
) -> dict[str, str]:  # fmt: skip
    """Copies the tensors that are not done yet; returns the checksum of each.

    Raises:
        FormatError: when a tensor does not have the bytes that its shape and type ask for.
        SourceError: when the source cannot be read any more.
        OSError: when the files cannot be written.
    """
    checksums = dict(done)
    of = sum(len(file.slots) for file in layout.files)
    with diary.open("a", encoding="utf-8") as log:
        for file in layout.files:
            with (part / file.name).open("r+b") as out:
                for slot in file.slots:
                    if slot.tensor.name in done:
                        continue
                    found = _copied(checkpoint, slot, folder, out)
                    out.flush()
                    journal.add(log, {"name": slot.tensor.name, "sha256": found})
                    checksums[slot.tensor.name] = found
                    tell(f"copied {printable(slot.tensor.name)}", len(checksums), 2 * of)
                os.fsync(out.fileno())
    return checksums


def _copied(checkpoint: Checkpoint, slot: Slot, folder: Folder, out: BinaryIO) -> str:
    whole, left = hashlib.sha256(), slot.end - slot.begin
    out.seek(slot.begin)
    for piece in contents.pieces(checkpoint, slot.tensor, folder):
        left -= len(piece)
        if left < 0:
            break
        out.write(piece)
        whole.update(piece)
    if left:
        raise FormatError(
            f"{slot.tensor.name[:200]} has {'more' if left < 0 else 'fewer'} bytes than its shape and type ask for",
            f"{slot.end - slot.begin:,} of them", "get the file again and compare its checksum with the publisher's",
        )  # fmt: skip
    return whole.hexdigest()


def verify(part: Path, layout: Layout, checksums: Mapping[str, str], tell: Tell) -> None:
    """Reads the new files and holds each tensor's name, shape, type and bytes against what was copied.

    Raises:
        SourceError: when anything differs.
        WeighbridgeError: when they cannot be read.
    """
    folder = LocalFolder(part)
    made = reader.read_file(folder, next(iter(layout.index), layout.files[0].name))
    wanted = {slot.tensor.name: slot.tensor for file in layout.files for slot in file.slots}
    if len(made.tensors) != len(wanted):
        raise _differs(part, f"holds {len(made.tensors):,} tensors", f"{len(wanted):,}")
    for number, tensor in enumerate(made.tensors, start=1):
        origin = wanted.get(tensor.name)
        if origin is None or (origin.shape, origin.encoding) != (tensor.shape, tensor.encoding):
            raise _differs(part, f"holds {tensor.name[:200]} as {tensor.encoding.name} {list(tensor.shape)}", "another")
        if checksum(made, tensor, folder) != checksums[tensor.name]:
            raise _differs(part, f"holds other bytes for {tensor.name[:200]}", "those that were copied")
        tell(f"checked {printable(tensor.name)}", len(wanted) + number, 2 * len(wanted))


def _differs(part: Path, read: str, expected: str) -> SourceError:
    action = "run the same command again, which copies that once more; if it comes back, write to another disk"
    return SourceError(f"{part}, read back, {read}", expected, action)


def discard(part: Path, diary: Path) -> None:
    """Removes what was begun, where it can be."""
    shutil.rmtree(part, ignore_errors=True)
    diary.unlink(missing_ok=True)
