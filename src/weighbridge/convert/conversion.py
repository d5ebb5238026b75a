"""How do the same tensors get into other files? One file or shards, PyTorch to safetensors, GGUF cut or joined.

Only the layout changes: no element, no name and no type does. A conversion between GGUF and safetensors renames and
transposes tensors, which is none: `weigh shrink` makes GGUF files from safetensors.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from weighbridge.compress import journal
from weighbridge.compress.safetensors_folder import WEIGHT_ENDINGS, small_files
from weighbridge.convert import copying, gguf_layout, safetensors_layout, tied
from weighbridge.convert.copying import Tell
from weighbridge.convert.layout import FilePlan, Layout, stem_of
from weighbridge.convert.tied import Tied
from weighbridge.errors import ConfigError, FormatError, SourceError, UnitError, WeighbridgeError
from weighbridge.formats import gguf, reader, safetensors
from weighbridge.formats.addresses import shown
from weighbridge.formats.byte_source import Folder, LocalFile, LocalFolder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.inspection import inspect
from weighbridge.measuring.process import peak_resident_bytes
from weighbridge.model.tensors import Kind
from weighbridge.units import format_bytes

ENDINGS = {"safetensors": ".safetensors", "torch": ".safetensors", "gguf": ".gguf"}
"""What a format is written as."""


@dataclass(frozen=True, slots=True)
class Converted:
    """What was written, and what every tensor's bytes are.

    `tensor_bytes` are those of all tensors; `checksums` the SHA-256 of each, as the source gave it and as it was read
    back; `resumed` how many an earlier run had copied.
    """

    source: str
    output: str
    format: str
    files: tuple[FilePlan, ...]
    tensor_bytes: int
    dropped: Mapping[str, str]
    checksums: Mapping[str, str]
    digest: str
    resumed: int
    seconds: float
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh convert --json`."""
        return {
            "source": self.source, "output": self.output, "format": self.format,
            "files": [{"name": file.name, "size_bytes": file.size_bytes, "tensors": len(file.slots)}
                      for file in self.files],
            "tensors": len(self.checksums), "bytes": self.tensor_bytes,
            "dropped": [{"name": name, "same_as": other} for name, other in self.dropped.items()],
            "verified": True, "digest": self.digest, "checksums": dict(self.checksums), "resumed": self.resumed,
            "seconds": self.seconds, "peak_rss_bytes": peak_resident_bytes(), "notes": list(self.notes),
        }  # fmt: skip


def convert(
    source: str | Path, target: str | Path, *, shard_bytes: int | None = None, drop_tied: bool = False,
    tell: Tell | None = None,
) -> Converted:  # fmt: skip
    """Writes a model's tensors into other files, and reads these back.

    A target that ends in `.safetensors` or `.gguf` is one file. Any other is a folder, which takes the small files of a
    source folder along. Either must not be there yet.

    Args:
        source: a safetensors, PyTorch or GGUF file, an index, or a folder with one model in them.
        target: the file or folder to write.
        shard_bytes: what the tensors of one file may have together; None writes one file.
        drop_tied: leave out copies that the model's description ties, when their bytes are the same.
        tell: is told what was done last, how much is done, and of how much.

    Raises:
        ConfigError: when the source is of another format, or the target would need a conversion.
        UnitError: when the sizes or options do not go together.
        SourceError: when the target is there, lies in the source or cannot be written; when the source changes.
        FormatError: when the source is damaged.
    """
    start = time.perf_counter()
    place, origin = _places(source, target)
    checkpoint = _weights(reader.read(source), origin)
    _check(checkpoint, origin, place, shard_bytes, drop_tied)
    home = origin if origin.is_dir() else origin.parent
    folder, paths = LocalFolder(home), [home / file.name for file in checkpoint.files]
    left_out, notes = _tied(checkpoint, source, folder, drop_tied)
    layout, more = _layout(checkpoint, origin, home, shard_bytes, left_out)
    notes += [*more, *(checkpoint.notes if checkpoint.format == "torch" else ())]
    choices = {file.name: hashlib.sha256(file.header).hexdigest() for file in layout.files}
    key = _key(checkpoint, paths, choices)
    part, diary = (place.with_name(f"{place.name}.{end}") for end in ("part", "part.json"))
    try:
        done = copying.begin(part, diary, layout, key)
        _check_room(part, layout, done)
        try:
            checksums = copying.copy(checkpoint, folder, part, diary, layout, done, tell or _untold)
        finally:
            if _key(checkpoint, paths, choices) != key:
                copying.discard(part, diary)
                raise SourceError(f"{source} changed while it was read", "a source that nothing writes to",
                                  "run it again when it is at rest")  # fmt: skip
        for name, text in layout.index.items():
            (part / name).write_text(text, encoding="utf-8")
        copying.verify(part, layout, checksums, tell or _untold)
        if not _is_file(place):
            notes += _copy_beside(origin, part, checkpoint)
        _settle(part, diary, place, layout)
    except (ConfigError, FormatError):  # the same command would meet the same source
        copying.discard(part, diary)
        raise
    except OSError as error:
        if journal.entries(diary, key) == []:
            copying.discard(part, diary)
        raise SourceError(
            f"{target} cannot be written ({error.strerror or error})",
            f"a place that can be written to, with {format_bytes(layout.size_bytes)} of room",
            "make room; the same command then goes on",
        ) from error
    files = layout.files
    if _is_file(place):
        files = (replace(files[0], name=place.name),)
    return Converted(
        str(source), str(target), ENDINGS[checkpoint.format][1:], files,
        sum(slot.end - slot.begin for file in files for slot in file.slots), left_out.same_as, checksums,
        _digest(files, checksums), len(done), time.perf_counter() - start, tuple(dict.fromkeys(notes)),
    )  # fmt: skip


def _places(source: str | Path, target: str | Path) -> tuple[Path, Path]:
    """Where to write and what to read, both of them here."""
    place, origin = Path(target).absolute(), Path(source)
    try:
        if not origin.exists():
            raise SourceError(f"{shown(str(source))} is no path on this machine", "weights that lie here",
                              "check the spelling, or download it and name its folder")  # fmt: skip
        place = place.resolve() if place.is_dir() else place  # a link to a folder stays; what it points to is filled
        _check_place(origin, place)
    except (OSError, ValueError) as error:
        raise SourceError(f"{source} or {target} cannot be looked at ({getattr(error, 'strerror', None) or error})",
                          "places that can be read and written", "choose others") from error  # fmt: skip
    return place, origin


def _weights(checkpoint: Checkpoint, origin: Path) -> Checkpoint:
    """The files of the folder itself, as what they are: an adapter's, or those beside which other modules lie below."""
    own = next((part for name, part in checkpoint.parts.items() if not (origin / name).is_dir()), checkpoint)
    if own.format != "peft":
        return own
    return replace(own, format="safetensors" if own.files[0].name.endswith(".safetensors") else "torch")


def _untold(what: str, done: int, of: int) -> None:
    """Nobody asked."""


def _is_file(place: Path) -> bool:
    return place.name.lower().endswith(tuple(ENDINGS.values()))


def _key(checkpoint: Checkpoint, paths: Sequence[Path], choices: Mapping[str, str]) -> str:
    try:
        return journal.key_of(checkpoint.digest, paths, choices, None)
    except OSError as error:
        raise SourceError(f"{error.filename} cannot be read ({error.strerror})", "a source that stays there",
                          "get it back, and run this again") from error  # fmt: skip


def _check(
    checkpoint: Checkpoint, origin: Path, place: Path, shard_bytes: int | None, drop_tied: bool
) -> None:  # fmt: skip
    """Refuses what is no matter of layout and what does not go together."""
    if checkpoint.format not in ENDINGS:
        action = {"config": "name the weights", "pipeline": "name the folder of one of its parts"}
        raise ConfigError(f"{origin} is {checkpoint.format}", "safetensors, a PyTorch checkpoint or GGUF",
                          action.get(checkpoint.format, "name a file of these"))  # fmt: skip
    if not checkpoint.tensors:
        raise ConfigError(f"{origin} has no tensors", "a model with weights", "name one")
    ending = ENDINGS[checkpoint.format]
    if place.name.lower().endswith(WEIGHT_ENDINGS) and not place.name.lower().endswith(ending):
        raise ConfigError(
            f"{place.name} would be another format than {checkpoint.format} becomes", f"a folder, or a file *{ending}",
            "a change of names and axes is no layout: `weigh shrink` makes GGUF from safetensors, none the reverse",
        )  # fmt: skip
    if checkpoint.format == "torch" and (
        checkpoint.metadata.get("sparse")
        or any(tensor.stands_for is not None or tensor.kind is Kind.QUANTIZATION for tensor in checkpoint.tensors)
    ):
        raise ConfigError(f"{origin} has quantized or sparse tensors", "plain ones, as safetensors knows no others",
                          "save them dense with torch")  # fmt: skip
    if checkpoint.byte_order == "big" and checkpoint.format != "gguf":
        raise ConfigError(f"{origin} has big-endian tensors", "little-endian ones, as safetensors are",
                          "save them again on a little-endian machine")  # fmt: skip
    if shard_bytes is not None and (shard_bytes < 1 or _is_file(place)):
        raise UnitError(f"--shard-size {shard_bytes} for {place.name}", "some bytes, and a folder for the files",
                        "name a folder, or leave --shard-size out")  # fmt: skip
    if drop_tied and checkpoint.format == "gguf":
        raise UnitError("--drop-tied for GGUF", "safetensors or PyTorch files", "leave it out")


def _check_place(origin: Path, place: Path) -> None:
    """Refuses what would be written over, and where nothing can be put."""
    if origin.is_dir() and place.resolve().is_relative_to(origin.resolve()):
        raise SourceError(f"{place} lies in the source", "a place outside of it", "choose another")
    part = place.with_name(f"{place.name}.part")
    if origin.resolve().is_relative_to(part.resolve()):
        raise SourceError(f"{origin} lies in {part}, which this writes", "a source elsewhere", "choose another target")
    if os.path.lexists(place) and (_is_file(place) or not place.is_dir() or any(place.iterdir())):
        raise SourceError(f"{place} is there already", "a name that is not taken, or an empty folder",
                          "choose another, or remove it")  # fmt: skip
    if place.exists() and (os.path.ismount(place) or place.samefile(os.curdir)):
        raise SourceError(f"{place} is a mount or the current folder, which nothing can be renamed to",
                          "another folder", "name a new one in it")  # fmt: skip
    if not place.parent.is_dir():
        raise SourceError(f"{place.parent} is no folder", "one that exists", "make it, or choose another")


def _tied(
    checkpoint: Checkpoint, source: str | Path, folder: Folder, drop_tied: bool
) -> tuple[Tied, list[str]]:  # fmt: skip
    """What can be left out, and what to tell of it."""
    if checkpoint.format == "gguf" or not (drop_tied or any(tensor.tied_to for tensor in checkpoint.tensors)):
        return Tied({}), []
    try:
        architecture = inspect(source).architecture
    except WeighbridgeError:
        if drop_tied:
            raise
        architecture = None
    if architecture is None:
        found = tied.find(checkpoint, folder, {}, drop_copies=False)
        note = "no family describes this model: which of its tensors are tied is not known"
        return found, [note] if drop_tied else []
    said = tied.described(architecture, frozenset(tensor.name for tensor in checkpoint.tensors))
    found = tied.find(checkpoint, folder, said, drop_copies=drop_tied)
    return found, list(found.notes)


def _layout(
    checkpoint: Checkpoint, origin: Path, home: Path, shard_bytes: int | None, left_out: Tied
) -> tuple[Layout, list[str]]:  # fmt: skip
    """The files to write, and what to tell of them."""
    stem = stem_of(checkpoint.files[0].name)
    if checkpoint.format == "gguf":
        headers = [gguf.header_of(LocalFile(home / file.name)) for file in checkpoint.files]
        if len({header.byte_order for header in headers}) > 1:
            raise ConfigError(f"{origin} has files of both byte orders", "files of one", "get them again")
        apart = {key for header in headers[1:] for key in header.metadata} - headers[0].metadata.keys()
        notes = [f"{key[:100]} is in a later file alone and is left out" for key in sorted(apart)]
        return gguf_layout.layout(checkpoint.tensors, headers[0], stem, shard_bytes), notes
    tensors = [tensor for tensor in checkpoint.tensors if tensor.name not in left_out.same_as]
    if checkpoint.format == "torch":
        stem = {"pytorch_model": "model"}.get(stem, stem)
        plain = sorted(map(str, checkpoint.metadata.get("values") or ()))
        more = ", ..." if len(plain) > 3 else ""
        notes = [f"values that are no tensors are left out: {', '.join(plain[:3])[:200]}{more}"] if plain else []
        return safetensors_layout.layout(tensors, stem, shard_bytes, {"format": "pt"}, left_out.same_as), notes
    index = _index(origin)
    if index is not None:
        stem = index.name.removesuffix(safetensors_layout.INDEX)
    told = {} if index is None else dict(safetensors.read_index(LocalFile(index)).metadata)
    told.pop("total_size", None)
    words = {key.removeprefix(safetensors.METADATA): value for key, value in checkpoint.metadata.items()
             if isinstance(value, str)}  # fmt: skip
    tensors.sort(key=lambda tensor: tensor.name)
    notes = list(checkpoint.metadata.get("notes", ()))
    return safetensors_layout.layout(tensors, stem, shard_bytes, words, {**told, **left_out.same_as}), notes


def _index(origin: Path) -> Path | None:
    """The index that was read with a source, where there is one."""
    if origin.is_dir():
        return next(iter(sorted(origin.glob(f"*{safetensors_layout.INDEX}"))), None)
    return origin if origin.name.endswith(safetensors_layout.INDEX) else None


def _check_room(part: Path, layout: Layout, done: Mapping[str, str]) -> None:
    copied = sum(slot.end - slot.begin for file in layout.files for slot in file.slots if slot.tensor.name in done)
    if shutil.disk_usage(part).free < layout.size_bytes - copied:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _copy_beside(origin: Path, part: Path, checkpoint: Checkpoint) -> list[str]:
    """Takes the small files of a source folder along; returns what to tell of those that stay behind."""
    if not origin.is_dir():
        beside = origin.parent / "config.json"
        return [f"{beside} stays behind: name the folder to take it along"] if beside.is_file() else []
    taken = list(small_files(origin))
    for path in taken:
        to = part / path.relative_to(origin)
        to.parent.mkdir(exist_ok=True)
        try:
            shutil.copyfile(path, to)
        except PermissionError as error:
            raise SourceError(f"{path} cannot be copied ({error.strerror})", "a readable file",
                              "change its permissions") from error  # fmt: skip
    read = {*(file.name for file in checkpoint.files), *(path.name for path in taken)}
    behind = sorted(path.name for path in origin.iterdir()
                    if path.is_file() and path.name not in read and not path.name.endswith(".index.json"))  # fmt: skip
    modules = {path.parent for path in taken}
    folders = sorted(path.name for path in origin.iterdir()
                     if path.is_dir() and path not in modules and not path.name.startswith("."))  # fmt: skip
    return [
        *(f"{name} stays behind: it is none of this model's files" for name in behind),
        *(f"{name} stays behind: it is a folder of no module of this model" for name in folders),
    ]


def _settle(part: Path, diary: Path, place: Path, layout: Layout) -> None:
    """Renames what is whole into its place."""
    if _is_file(place):
        if place.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        (part / layout.files[0].name).replace(place)
        part.rmdir()
    else:
        if place.exists():
            place.rmdir()  # an empty one
        part.replace(place)
    diary.unlink(missing_ok=True)


def _digest(files: Sequence[FilePlan], checksums: Mapping[str, str]) -> str:
    """The SHA-256 of all tensors' names, types, shapes and contents: it does not change with the layout."""
    tensors = sorted((slot.tensor for file in files for slot in file.slots), key=lambda tensor: tensor.name)
    rows = ([one.name, one.encoding.name, one.shape, checksums[one.name]] for one in tensors)
    return hashlib.sha256("".join(json.dumps(row) + "\n" for row in rows).encode()).hexdigest()
