"""How is a folder of safetensors written again in the format of compressed-tensors, without holding it?

Weights of Linear modules may take a scheme of `compress.schemes`; the other tensors stay, or take another plain type.
The new folder holds the weights in one file, or in shards with an index, the configuration with a
`quantization_config`, and the small files of the old one. It grows beside its place, with a journal of the finished
tensors and the SHA-256 of each of their parts: a run that was killed goes on behind them, and only a whole folder is
renamed into its place. In a file the parts with the longest elements come first, so that each begins at a multiple of
its elements, as the reference implementation writes them.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.compress import blocks, journal, schemes
from weighbridge.compress.codecs import Values
from weighbridge.compress.folder_source import FolderSource
from weighbridge.compress.journal import Written
from weighbridge.compress.quantization_config import quantization_config
from weighbridge.compress.schemes import Part, Scheme
from weighbridge.errors import ConfigError, FormatError, SourceError
from weighbridge.formats.safetensors import DTYPES
from weighbridge.model.tensors import TensorSpec

SHARD_BYTES = 5_000_000_000
"""Of the tensors in one file; what is larger is cut."""
PER_WEIGHT_BYTES = 24
"""Of a block in work: what is read, fp32, its parts, what they are then, and the difference."""
WEIGHT_ENDINGS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".ckpt", ".gguf",
                  ".onnx", ".h5", ".msgpack", ".onnx_data", ".ot", ".mlmodel")  # fmt: skip
"""Of files that hold weights in whatever form: they are not copied beside the new ones."""
_WORDS = {encoding.name: word for word, encoding in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part of a tensor lies: its name in the file, the file, and the first of its bytes there."""

    name: str
    part: Part
    file: str
    first: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """The files of a folder: their headers and sizes, and the places of each tensor's parts."""

    headers: Mapping[str, bytes]
    sizes: Mapping[str, int]
    places: Mapping[str, tuple[_Place, ...]]


def _scheme_of(tensor: TensorSpec, chosen: Mapping[str, Scheme]) -> Scheme:
    return chosen.get(tensor.name) or schemes.plain(tensor.encoding)


def _layout(source: FolderSource, chosen: Mapping[str, Scheme]) -> _Layout:
    """Where everything lies.

    Raises:
        ConfigError: when a tensor cannot take its scheme, or none of this name is there.
    """
    unknown = sorted(chosen.keys() - {tensor.name for tensor in source.tensors})
    if unknown:
        raise ConfigError(f"no tensor {unknown[0][:200]!r} is in {source.path}", "one that is", "correct the name")
    shards: list[list[tuple[str, str, Part]]] = [[]]
    held = 0
    for tensor in source.tensors:
        scheme = _scheme_of(tensor, chosen)
        _check(source, tensor, scheme)
        parts = scheme.parts(tensor.shape)
        size = sum(part.size_bytes for part in parts)
        if held and held + size > SHARD_BYTES:
            shards.append([])
            held = 0
        held += size
        shards[-1] += [(tensor.name, _part_name(tensor, scheme, part), part) for part in parts]
    names = ["model.safetensors"] if len(shards) == 1 else [
        f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]  # fmt: skip
    headers, sizes = {}, {}
    places: dict[str, list[_Place]] = {tensor.name: [] for tensor in source.tensors}
    for file, shard in zip(names, shards, strict=True):
        entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        offset, starts = 0, []
        ordered = sorted(shard, key=lambda item: -item[2].encoding.bytes_per_block)
        for _, name, part in ordered:
            if name in entries:
                raise FormatError(f"{source.path} holds {name!r} beside the weight it would belong to",
                                  "weights without scales of their own", "name the original")  # fmt: skip
            entries[name] = _entry(part, offset)
            starts.append(offset)
            offset += part.size_bytes
        text = _text(entries)
        text += b" " * (-len(text) % 8)
        headers[file] = len(text).to_bytes(8, "little") + text
        sizes[file] = len(headers[file]) + offset
        for (owner, name, part), start in zip(ordered, starts, strict=True):
            places[owner].append(_Place(name, part, file, len(headers[file]) + start))
    return _Layout(headers, sizes, {name: tuple(found) for name, found in places.items()})


def _part_name(tensor: TensorSpec, scheme: Scheme, part: Part) -> str:
    return tensor.name if scheme.bits is None else tensor.name.removesuffix("weight") + part.name


def _entry(part: Part, offset: int) -> dict[str, Any]:
    end = offset + part.size_bytes
    return {"dtype": _WORDS[part.encoding.name], "shape": part.shape, "data_offsets": [offset, end]}


def _text(entries: Mapping[str, Any]) -> bytes:
    return json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()


def size_with_header(source: FolderSource, tensor: TensorSpec, scheme: Scheme) -> int:
    """Bytes of a tensor with what the header says of it, but for the digits of offsets that are shorter there."""
    parts = scheme.parts(tensor.shape)
    entries = {_part_name(tensor, scheme, part): _entry(part, source.size_bytes) for part in parts}
    return scheme.size_bytes(tensor.shape) + len(_text(entries)) - 1  # a comma in the place of the braces


def _check(source: FolderSource, tensor: TensorSpec, scheme: Scheme) -> None:
    if scheme.bits is not None and (tensor.name not in source.linear_names or not scheme.fits(tensor.shape)):
        raise ConfigError(f"{scheme.name} for {tensor.name}, {list(tensor.shape)}",
                          "a weight of a Linear module, whose rows are whole groups",
                          "choose one of what `schemes_for` gives")  # fmt: skip
    if scheme.bits is None and scheme.encoding != tensor.encoding and not {
        scheme.encoding.name, tensor.encoding.name} <= set(schemes.READABLE):  # fmt: skip
        raise ConfigError(f"{scheme.name} for {tensor.name}, which holds {tensor.encoding.name}",
                          f"both among {', '.join(schemes.READABLE)}", "leave it as it is")  # fmt: skip


def size_of(source: FolderSource, chosen: Mapping[str, Scheme]) -> int:
    """Bytes of the weight files with these schemes, headers included; tensors that are not named stay as they are.

    Raises:
        ConfigError: when a tensor cannot take its scheme.
    """
    return sum(_layout(source, chosen).sizes.values())


def write(
    source: FolderSource,
    target: str | Path,
    chosen: Mapping[str, Scheme],
    *,
    importance: Mapping[str, Values] | None = None,
    memory_bytes: int = blocks.MEMORY_BYTES,
    jobs: int = 1,
    tell: Callable[[str, int, int], None] | None = None,
) -> Written:
    """Writes a model again with these schemes; tensors that are not named stay as they are.

    Args:
        source: what is read.
        target: the folder; it must not exist, or be empty.
        chosen: by the stored names.
        importance: for each column of a tensor, where it is known.
        memory_bytes: what the blocks in work may take together.
        jobs: blocks that are encoded at once.
        tell: is told the tensor, how many are done, and of how many.

    Raises:
        ConfigError: when a weight is no number, or cannot take its scheme.
        SourceError: when the target holds something, or cannot be written.
    """
    place = Path(target)
    layout = _layout(source, chosen)
    key = journal.key_of(source.digest, source.paths, {name: one.name for name, one in chosen.items()}, importance)
    part, diary = (place.with_name(f"{place.name}.{end}") for end in ("part", "part.json"))
    done = _finished(part, diary, key, layout)
    errors = {name: found for name, (found, _) in done.items()}
    size = sum(layout.sizes.values())
    try:
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise SourceError(f"{target} holds something", "a folder that is not there yet, or is empty",
                              "choose another, or empty it")  # fmt: skip
        if not done:
            _begin(part, diary, key, layout)
        with ExitStack() as stack:
            files = {name: stack.enter_context((part / name).open("r+b")) for name in layout.sizes}
            log = stack.enter_context(diary.open("a", encoding="utf-8"))
            pool = stack.enter_context(ThreadPoolExecutor(jobs))
            for tensor in source.tensors:
                if tensor.name in done:
                    continue
                places, scheme = layout.places[tensor.name], _scheme_of(tensor, chosen)
                matrix = (importance or {}).get(tensor.name)
                checksums = [hashlib.sha256() for _ in places]
                lost = squares = 0.0
                at = [one.first for one in places]
                for pieces, error, square in _pieces(source, tensor, scheme, matrix, pool, jobs, memory_bytes):
                    for number, piece in enumerate(pieces):
                        file = files[places[number].file]
                        file.seek(at[number])
                        file.write(piece)
                        at[number] += len(piece)
                        checksums[number].update(piece)
                    lost += error
                    squares += square
                for one, end in zip(places, at, strict=True):
                    assert end == one.first + one.part.size_bytes, one
                    files[one.file].flush()
                    os.fsync(files[one.file].fileno())
                errors[tensor.name] = lost / squares if squares else 0.0
                journal.add(log, {"name": tensor.name, "sha256": [one.hexdigest() for one in checksums],
                                  "error": errors[tensor.name]})  # fmt: skip
                if tell is not None:
                    tell(tensor.name, len(errors), len(source.tensors))
        _write_rest(source, part, layout, chosen)
        if place.exists():
            place.rmdir()
        part.replace(place)
        diary.unlink(missing_ok=True)
    except ConfigError:  # the same command would meet the same weight
        shutil.rmtree(part)
        diary.unlink(missing_ok=True)
        raise
    except OSError as error:
        read = f"{target} cannot be written ({error.strerror})"
        raise SourceError(read, f"a folder that can be written to, with {size:,} bytes of room",
                          "make room; the same command then goes on") from error  # fmt: skip
    return Written(str(place), size, {tensor.name: errors[tensor.name] for tensor in source.tensors}, len(done))


def _finished(part: Path, diary: Path, key: str, layout: _Layout) -> dict[str, tuple[float, list[str]]]:
    """The tensors that an earlier run of the same work has finished, each part held against its checksum."""
    found: dict[str, tuple[float, list[str]]] = {}
    entries = journal.entries(diary, key)
    try:
        with ExitStack() as stack:
            files = {name: stack.enter_context((part / name).open("rb")) for name in layout.sizes}
            if any(files[name].read(len(head)) != head for name, head in layout.headers.items()):
                return {}
            for entry in entries or []:
                places = layout.places[entry["name"]]
                is_whole = [journal.checksum(files[one.file], one.first, one.first + one.part.size_bytes)
                            for one in places] == entry["sha256"]  # fmt: skip
                if is_whole:
                    found[entry["name"]] = float(entry["error"]), entry["sha256"]
    except (OSError, KeyError, ValueError, TypeError):
        return {}
    return found


def _begin(part: Path, diary: Path, key: str, layout: _Layout) -> None:
    """Empty files with their headers; what an earlier run of other work left there is removed."""
    journal.begin_folder(part, diary, key)
    for name, head in layout.headers.items():
        with (part / name).open("wb") as file:
            file.write(head)
            file.truncate(layout.sizes[name])


def _pieces(
    source: FolderSource, tensor: TensorSpec, scheme: Scheme, importance: Values | None, pool: ThreadPoolExecutor,
    jobs: int, memory_bytes: int,
) -> Iterator[tuple[list[bytes], float, float]]:  # fmt: skip
    """The bytes of a tensor's parts block by block, in the order of its places, with the squared error and squares."""
    block = blocks.block_bytes(memory_bytes, jobs)
    if scheme.bits is None and scheme.encoding == tensor.encoding:
        for first in range(0, tensor.size_bytes, block):
            yield [source.bytes_of(tensor, first, min(block, tensor.size_bytes - first))], 0.0, 1.0
        return
    columns = tensor.shape[-1] if tensor.shape else 1
    rows = tensor.elements // max(1, columns)
    each = max(8, block // (max(1, columns) * PER_WEIGHT_BYTES) // 8 * 8)  # words of zero points hold 8 rows
    parts = sorted(scheme.parts(tensor.shape), key=lambda part: -part.encoding.bytes_per_block)

    def made(first: int) -> tuple[list[bytes], float, float]:
        values = source.rows(tensor, first, min(each, rows - first))
        try:
            found = schemes.encode(values, scheme, importance)
        except ConfigError as fault:
            raise ConfigError(f"{tensor.name}: {fault.read}", fault.expected, fault.action) from fault
        apart = schemes.decode(found, scheme, columns)
        apart -= values
        if first == 0 and scheme.is_packed:
            found["weight_shape"] = np.array(tensor.shape, "<i8")
        pieces = [found[part.name].tobytes() if part.name in found else b"" for part in parts]
        return pieces, blocks.squares(apart), blocks.squares(values)

    yield from blocks.in_order(made, range(0, rows, each), pool, jobs)


def _write_rest(source: FolderSource, part: Path, layout: _Layout, chosen: Mapping[str, Scheme]) -> None:
    """The small files of the source, the configuration and, for shards, their index."""
    for path in small_files(source.path):
        place = part / path.relative_to(source.path)
        place.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, place)
    config = dict(source.checkpoint.config or {})
    if any(scheme.bits is not None for scheme in chosen.values()):
        config["quantization_config"] = quantization_config(source, chosen)
    (part / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if len(layout.sizes) > 1:
        places = [place for found in layout.places.values() for place in found]
        total = sum(place.part.size_bytes for place in places)
        index = {"metadata": {"total_size": total}, "weight_map": {place.name: place.file for place in places}}
        (part / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def small_files(folder: Path) -> Iterator[Path]:
    """The files that belong to a model and hold no weights: those of its folder, and all of its modules' folders."""
    for below in (folder, *_modules(folder)):
        for path in sorted(below.iterdir()):
            is_weight = below == folder and path.name.endswith(WEIGHT_ENDINGS)
            if path.is_file() and not is_weight and not path.name.startswith("."):
                yield path


def _modules(folder: Path) -> list[Path]:
    """The sub-folders that hold what stands on the model in sentence-transformers, by its `modules.json`."""
    try:
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        names = {str(module["path"]) for module in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name in names)
