"""How is a folder of safetensors written again in the format of compressed-tensors, without holding it?

Weights of Linear modules may take a scheme of `compress.schemes`; the other tensors stay, or take another plain type.
The new folder holds the weights in one file, or in shards with an index, the configuration with a
`quantization_config`, and the small files of the old one. It grows beside its place, with a journal of the finished
tensors and the SHA-256 of each of their parts: a run that was killed goes on behind them, and only a whole folder is
renamed into its place. In a file the parts with the longest elements come first, so that each begins at a multiple of
its elements, as the reference implementation writes them.

Sources: transformers 5.23, `quantizers/quantizer_compressed_tensors.py`; compressed-tensors 0.20,
`quantization/quant_config.py`, `utils/match.py`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from weighbridge.compress import blocks, codecs, journal, schemes
from weighbridge.compress.codecs import Values
from weighbridge.compress.schemes import Part, Scheme
from weighbridge.errors import ConfigError, FormatError, SourceError
from weighbridge.formats.byte_source import ByteSource, LocalFolder
from weighbridge.formats.safetensors import DTYPES
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use
from weighbridge.model.layouts import TensorGroup
from weighbridge.model.tensors import Component, Kind, TensorSpec

SHARD_BYTES = 5_000_000_000
"""Of the tensors in one file; what is larger is cut."""
PER_WEIGHT_BYTES = 24
"""Of a block in work: what is read, fp32, its parts, what they are then, and the difference."""
WEIGHT_ENDINGS = (".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json", ".pt", ".pth", ".gguf", ".onnx",
                  ".h5", ".msgpack", ".onnx_data", ".ot", ".mlmodel")  # fmt: skip
"""Of files that hold weights in whatever form: they are not copied beside the new ones."""
KEPT_PLAIN = frozenset({Component.EMBEDDING, Component.HEAD, Component.ROUTER, Component.EXPERTS})
"""Parts whose weights stay plain: engines multiply with tables, heads, routers and routed experts in code of their
own, which reads no packed weights (transformers 5 stacks the experts of a layer into one tensor)."""
READ = frozenset({
    "albert", "apertus", "arcee", "aria_text", "bamba", "bart", "bert", "big_bird", "bigbird_pegasus", "biogpt",
    "bitnet", "blenderbot", "blenderbot-small", "blip", "blip-2", "bloom", "camembert", "clip", "codegen", "cohere",
    "cohere2", "convnext", "convnextv2", "ctrl", "cwm", "data2vec-text", "data2vec-vision", "dbrx", "deberta",
    "deberta-v2", "dia", "diffllama", "distilbert", "electra", "ernie", "ernie4_5", "esm", "eurobert", "exaone4",
    "exaone4_5", "falcon_h1", "flaubert", "florence2", "gemma", "gemma2", "gemma3_text", "gemma3n_text", "git",
    "glm", "glm4", "glm46v", "glm4v", "glm4v_moe_text", "glm4v_text", "gpt_neo", "gpt_neox", "gpt_neox_japanese",
    "gpt_oss", "gptj", "granite", "granite_swa", "granitemoe", "granitemoehybrid", "granitemoeshared", "helium",
    "hubert", "hunyuan_v1_dense", "hyperclovax", "idefics2", "idefics3", "instructblip", "internlm3", "iquestcoder",
    "jais2", "jetmoe", "layoutlm", "led", "lfm2", "lighton_ocr", "llama", "llama4", "llama4_text", "longformer",
    "m2m_100", "marian", "mbart", "megatron-bert", "metaclip_2", "metaclip_2_vision_model", "minicpm3",
    "minicpmv4_6", "ministral", "ministral3", "mistral", "mistral4", "mobilebert", "mobilevit", "moonshine",
    "mpnet", "mpt", "nemotron", "nemotron_h", "nllb-moe", "olmo", "olmo2", "olmo3", "opt", "ovis2",
    "paddleocr_vl_text", "parakeet_ctc", "parakeet_encoder", "parakeet_rnnt", "parakeet_tdt", "pegasus",
    "pegasus_x", "persimmon", "phi", "phi3", "plbart", "qwen2", "qwen2_5_omni_text", "qwen2_5_vl_text",
    "qwen2_vl_text", "qwen3", "qwen3_5", "qwen3_5_text", "qwen3_asr", "qwen3_vl", "qwen3_vl_moe",
    "qwen3_vl_moe_text", "qwen3_vl_text", "rembert", "roberta", "roberta-prelayernorm", "roformer", "sam",
    "seed_oss", "sew", "smollm3", "speech_to_text", "stablelm", "starcoder2", "swinv2", "t5gemma", "vaultgemma",
    "video_llama_3", "videomae", "vilt", "whisper", "xglm", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet",
    "yolos", "youtu",
})  # fmt: skip
"""Model types whose packed weights transformers 5.23 with compressed-tensors 0.20 reads back as they were written.

It does not for those whose modules it calls otherwise than their files do, whose routed experts it stacks when it loads
them, or that set weights by name before they are there; their weights stay plain."""
_WORDS = {encoding.name: word for word, encoding in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class Written:
    """A folder that was written: its weight files' bytes, the scheme of each tensor, and its relative squared error."""

    path: str
    size_bytes: int
    schemes: Mapping[str, Scheme]
    errors: Mapping[str, float]
    resumed: int


class FolderSource:
    """A folder with one model in safetensors, whose tensors are read by rows."""

    def __init__(self, path: str | Path) -> None:
        """Reads the headers and the configuration.

        Raises:
            ConfigError: when it is no such folder, or its weights are packed already.
            SourceError: when nothing there can be read.
        """
        self.path = Path(path)
        self._inspection = inspect(path)
        self.checkpoint = self._inspection.checkpoint
        if not self.path.is_dir() or self.checkpoint.format != "safetensors" or self.checkpoint.config is None:
            raise ConfigError(f"{path} is {self.checkpoint.format}", "a folder with config.json and *.safetensors",
                              "name such a folder")  # fmt: skip
        if self.checkpoint.config.get("quantization_config"):
            raise ConfigError(f"the weights of {path} are packed already", "weights as they were trained",
                              "name the folder of the original")  # fmt: skip
        self._files: dict[str, ByteSource] = {}

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        """The tensors in the order of the files."""
        return self.checkpoint.tensors

    @property
    def paths(self) -> list[Path]:
        """The files that hold them."""
        return [self.path / file.name for file in self.checkpoint.files]

    @property
    def size_bytes(self) -> int:
        """Bytes of these files."""
        return self.checkpoint.size_bytes

    @property
    def digest(self) -> str:
        """Of the headers and the configuration."""
        config = json.dumps(self.checkpoint.config, sort_keys=True, default=str)
        return hashlib.sha256(f"{self.checkpoint.digest} {config}".encode()).hexdigest()

    @cached_property
    def architecture(self) -> Architecture | None:
        """The description of the model; None where no family describes it, and then no weight is known for a Linear."""
        return self._inspection.architecture

    @cached_property
    def linear_names(self) -> frozenset[str]:
        """The stored weights of Linear modules that can take a scheme with scales."""
        if self.architecture is None or self.architecture.model_type not in READ:
            return frozenset()
        shapes = linear_weights(self.architecture)
        prefix = self.architecture.base_prefix
        return frozenset(
            tensor.name for tensor in self.tensors
            if tensor.encoding.name in schemes.READABLE
            and any(shapes.get(name) == tensor.shape
                    for name in (tensor.name, prefix + tensor.name, tensor.name.removeprefix(prefix)))
        )  # fmt: skip

    @property
    def notes(self) -> tuple[str, ...]:
        """Why no weight can take a scheme with scales, where none can."""
        if self.architecture is None:
            return ("no family describes this model: which weights are those of Linear modules is not known",)
        if self.linear_names:
            return ()
        kind = self.architecture.model_type
        if kind not in READ and linear_weights(self.architecture):
            return (f"transformers is not known to read packed weights of {kind}: they stay plain",)
        return ("no weight is that of a Linear module, as which it could be packed",)

    def bytes_of(self, tensor: TensorSpec, first: int, count: int) -> bytes:
        """So many bytes of a tensor, from the first on."""
        assert tensor.byte_range is not None
        if tensor.file not in self._files:
            self._files[tensor.file] = LocalFolder(self.path).open(tensor.file)
        return self._files[tensor.file].read(tensor.byte_range[0] + first, count)

    def rows(self, tensor: TensorSpec, first: int, count: int) -> Values:
        """Rows of a tensor of a plain type, (rows, columns) in fp32; its leading axes are one.

        Raises:
            ConfigError: when its elements are of another type.
        """
        if tensor.encoding.name not in schemes.READABLE:
            raise ConfigError(f"{tensor.name} holds {tensor.encoding.name}", f"one of {', '.join(schemes.READABLE)}",
                              "leave it as it is")  # fmt: skip
        columns = tensor.shape[-1] if tensor.shape else 1
        each = columns * tensor.encoding.bytes_per_block
        return codecs.decode(self.bytes_of(tensor, first * each, count * each), tensor.encoding, columns)


def linear_weights(architecture: Architecture) -> dict[str, tuple[int, ...]]:
    """The described weights of Linear modules that engines multiply with as such, with their shapes.

    Example:
        >>> found = inspect({"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 9,
        ...                  "num_attention_heads": 2, "intermediate_size": 128}).architecture
        >>> [name.split(".")[-2] for name in linear_weights(found)]
        ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj']
    """
    return {name: group.weight.shape for group in architecture.groups if _is_linear(group) for name in _names(group)}


def _is_linear(group: TensorGroup) -> bool:
    weight = group.weight
    return (weight.use is Use.MATMUL and weight.kind is Kind.PARAMETER and len(weight.shape) == 2
            and weight.role != "convolution" and weight.tied_to is None
            and not weight.transposed and weight.experts == weight.stacked == 1 and not group.mtp
            and group.component not in KEPT_PLAIN and group.name.endswith(".weight"))  # fmt: skip


def _names(group: TensorGroup) -> Iterator[str]:
    for layer in group.layers if group.layers is not None else (None,):
        for expert in range(group.weight.experts):
            yield group.name.format(layer=layer, expert=expert)


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
    every = {tensor.name: _scheme_of(tensor, chosen) for tensor in source.tensors}
    return Written(str(place), size, every, {name: errors[name] for name in every}, len(done))


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
    if part.exists():
        if journal.entries(diary) is None:
            raise SourceError(f"{part} is there and is no unfinished work", "a name beside which nothing lies",
                              "choose another, or remove it")  # fmt: skip
        shutil.rmtree(part)
    journal.begin(diary, key)
    part.mkdir()
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
        return pieces, _squares(apart), _squares(values)

    yield from blocks.in_order(made, range(0, rows, each), pool, jobs)


def _squares(values: Values) -> float:
    return float(np.einsum("ij,ij->", values, values, dtype=np.float64))


def _write_rest(source: FolderSource, part: Path, layout: _Layout, chosen: Mapping[str, Scheme]) -> None:
    """The small files of the source, the configuration and, for shards, their index."""
    for folder in (source.path, *_modules(source.path)):
        (part / folder.relative_to(source.path)).mkdir(exist_ok=True)
        for path in sorted(folder.iterdir()):
            is_weight = folder == source.path and path.name.endswith(WEIGHT_ENDINGS)
            if path.is_file() and not is_weight and not path.name.startswith("."):
                shutil.copyfile(path, part / path.relative_to(source.path))
    config = dict(source.checkpoint.config or {})
    if any(scheme.bits is not None for scheme in chosen.values()):
        config["quantization_config"] = quantization_config(source, chosen)
    (part / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    if len(layout.sizes) > 1:
        places = [place for found in layout.places.values() for place in found]
        total = sum(place.part.size_bytes for place in places)
        index = {"metadata": {"total_size": total}, "weight_map": {place.name: place.file for place in places}}
        (part / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _modules(folder: Path) -> list[Path]:
    """The sub-folders that hold what stands on the model in sentence-transformers, by its `modules.json`."""
    try:
        listed = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        names = {str(module["path"]) for module in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name in names)


def quantization_config(source: FolderSource, chosen: Mapping[str, Scheme]) -> dict[str, Any]:
    """What `config.json` says of the schemes: one group each, with the modules that have it, and the rest ignored.

    Modules are named by patterns, one for those that differ in the layer only, as the model's class decides what stands
    before their names in the file.
    """
    by_scheme: dict[Scheme, list[str]] = {}
    for name in sorted(source.linear_names, key=[tensor.name for tensor in source.tensors].index):
        scheme = chosen.get(name)
        if scheme is not None and scheme.bits is not None:
            by_scheme.setdefault(scheme, []).append(name)
    packed = {name for names in by_scheme.values() for name in names}
    prefix = source.architecture.base_prefix if source.architecture is not None else ""
    matrices = {tensor.name: tensor.shape for tensor in source.tensors}
    if source.architecture is not None:
        matrices |= {name: group.weight.shape for group in source.architecture.groups if group.weight.tied_to
                     for name in _names(group)}  # fmt: skip
    rest = [name for name, shape in matrices.items()
            if name not in packed and len(shape) == 2 and name.endswith(".weight")]  # fmt: skip
    front = _front([name.removesuffix(".weight") for name in (*packed, *rest)], prefix)
    groups = {
        f"group_{number}": {
            "targets": _patterns(names, prefix, front), "weights": _weights(scheme), "input_activations": None,
            "output_activations": None, "format": _format(scheme),
        } for number, (scheme, names) in enumerate(by_scheme.items())
    }  # fmt: skip
    formats = sorted({_format(scheme) for scheme in by_scheme})
    return {
        "config_groups": groups, "format": formats[0] if len(formats) == 1 else "mixed-precision",
        "ignore": _patterns(rest, prefix, front), "kv_cache_scheme": None, "quant_method": "compressed-tensors",
        "quantization_status": "compressed",
    }  # fmt: skip


def _format(scheme: Scheme) -> str:
    return "pack-quantized" if scheme.is_packed else "float-quantized"


def _weights(scheme: Scheme) -> dict[str, Any]:
    return {"num_bits": scheme.bits, "type": "int" if scheme.is_packed else "float", "symmetric": scheme.symmetric,
            "strategy": "group" if scheme.group else "channel", "group_size": scheme.group,
            "dynamic": False}  # fmt: skip


def _front(modules: Sequence[str], prefix: str) -> str:
    """What may stand before a module's name: anything, unless one name is then the end of another."""
    bare = {name.removeprefix(prefix) for name in modules}
    ends = {name[at + 1 :] for name in bare for at in range(len(name)) if name[at] == "."}
    return rf"(?:{re.escape(prefix)})?" if bare & ends else r"(?:.*\.)?"


def _patterns(weights: Sequence[str], prefix: str, front: str) -> list[str]:
    """Patterns that match the modules of these weights: one for those that differ in the layer only."""
    numbers: dict[tuple[str, str], list[str]] = {}
    for weight in weights:
        name = weight.removesuffix(".weight").removeprefix(prefix)
        found = re.search(r"(?<=\.)\d+(?=\.)", name)
        head, layer, tail = (name, "", "") if found is None else (name[: found.start()], found[0], name[found.end() :])
        numbers.setdefault((head, tail), []).append(layer)
    return ["re:" + front + re.escape(head) + (f"(?:{'|'.join(layers)})" if layers != [""] else "") + re.escape(tail)
            + "$" for (head, tail), layers in numbers.items()]  # fmt: skip
