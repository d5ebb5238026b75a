"""What comes into each weight while a model reads texts? Importance matrices, collected.

A GGUF file reads under llama.cpp, and its weights go by their own names. A folder of safetensors reads under
transformers: what comes into its linear modules goes by the name of the weight in the files and, where a family gives
one, by llama.cpp's name as well. As llama.cpp has it, the texts of a decoder stand in a row, a blank line between them,
that is cut into windows, each of which begins with the token that begins a text where the tokenizer adds it. A masked
model or an encoder reads each text by itself, with the tokens that its tokenizer puts around it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from weighbridge.compress import importance
from weighbridge.compress.importance import CHUNK_SIZE, LONGEST_NAME, Importance, of_sums
from weighbridge.errors import ConfigError, SourceError, UnitError
from weighbridge.formats.reader import read
from weighbridge.inspection import inspect
from weighbridge.model.architecture import Architecture
from weighbridge.model.layouts import gguf_name
from weighbridge.prove.engines import digest_of, is_address, open_model
from weighbridge.prove.engines.llama_cpp import GgufModel
from weighbridge.prove.engines.model import Model
from weighbridge.prove.engines.transformers import TransformersModel
from weighbridge.prove.examples import Example, Kind, read_examples
from weighbridge.prove.plan import Tell

Sums = dict[str, NDArray[np.float64]]
Counts = dict[str, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class Collected:
    """An importance matrix that was made: from which model and data, by which engine, and where it was written."""

    source: str
    path: str
    size_bytes: int
    data: str
    examples: int
    engine: str
    tokens: int
    importance: Importance
    seconds: float
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The document of `weigh imatrix --json`."""
        found = self.importance
        return {
            "source": self.source, "output": self.path, "output_bytes": self.size_bytes, "data": self.data,
            "examples": self.examples, "engine": self.engine, "windows": found.chunks, "window": found.chunk_size,
            "tokens": self.tokens,
            "tensors": [{"name": name, "columns": int(found.means[name].shape[-1]), "matrices": len(counts),
                         "rows": int(counts.sum()), "unused": int((counts == 0).sum())}
                        for name, counts in sorted(found.counts.items())],
            "seconds": self.seconds, "notes": list(self.notes),
        }  # fmt: skip


class _Watched(Protocol):
    """A model that reads windows, and what came into its weights then."""

    def collect(self, tokens: Sequence[int]) -> None:
        """Reads a window."""

    def collected(self) -> tuple[Sums, Counts, list[str]]:
        """Sums of squares (matrices, columns) and rows (matrices,) by name, and notes."""


class _LlamaCpp(GgufModel):
    """A GGUF file under llama.cpp."""

    program = "weighbridge.compress.activations_process"

    def collect(self, tokens: Sequence[int]) -> None:
        self._ask(self._process, {"collect": list(tokens)})

    def collected(self) -> tuple[Sums, Counts, list[str]]:
        counts: dict[str, list[int]] = self._ask(self._process, {"sums": ""})[0]["counts"]
        sums = {name: self._ask(self._process, {"sums": name})[1].astype(np.float64) for name in counts}
        return sums, {name: np.array(each) for name, each in counts.items()}, []


class _Transformers:
    """A folder of safetensors under transformers."""

    def __init__(self, model: TransformersModel) -> None:
        self.model = model
        self.architecture = inspect(model.path).architecture
        self.sums: Sums = {}
        self.counts: Counts = {}
        from transformers.pytorch_utils import Conv1D

        names = stored_names(model.model, {tensor.name for tensor in read(model.path).tensors})
        self.turned = {names[id(module.weight)] for module in model.model.modules() if isinstance(module, Conv1D)}
        for module in model.model.modules():
            if isinstance(module, model.torch.nn.Linear | Conv1D):
                self._watch(module, names[id(module.weight)])

    def _watch(self, module: Any, name: str) -> None:
        def came(module: Any, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
            values = (*given, *named.values())[0]
            values = values.reshape(-1, values.shape[-1]).double()
            self.sums[name] = self.sums.get(name, 0.0) + values.square().sum(dim=0, keepdim=True).numpy()
            self.counts[name] = self.counts.get(name, np.zeros(1, dtype=np.int64)) + len(values)

        module.register_forward_pre_hook(came, with_kwargs=True)

    def collect(self, tokens: Sequence[int]) -> None:
        with self.model.torch.inference_mode():
            self.model.model(input_ids=self.model.torch.tensor([tokens]))

    def collected(self) -> tuple[Sums, Counts, list[str]]:
        for name, each in self.sums.items():
            if not (each <= np.finfo(np.float32).max).all():
                raise ConfigError(f"what comes into {name} is no finite number, or too large", "numbers that fp32 has",
                                  "check the weights with `weigh inspect --values`")  # fmt: skip
        sums, counts, notes = dict(self.sums), dict(self.counts), []
        for name, mine in gguf_names(self.architecture).items():
            if all(one in self.sums for one in mine):
                sums[name], counts[name] = (np.concatenate([held[one] for one in mine])
                                            for held in (self.sums, self.counts))  # fmt: skip
        if long := [name for name in sums if len(name.encode()) > LONGEST_NAME]:
            notes.append(f"{len(long):,} weights are left out: a GGUF file has no room for names such as {long[0]}")
        if hidden := _hidden(self.architecture, self.sums):
            notes.append(f"experts of this model are no linear modules in transformers: nothing is known of {hidden}")
        kept = sums.keys() - set(long) - self.turned  # whose columns are those of llama.cpp's matrix only
        return {name: sums[name] for name in kept}, {name: counts[name] for name in kept}, notes


def stored_names(network: Any, stored: Set[str]) -> dict[int, str]:
    """The name in the files of each weight of a network, by its `id`: of tied ones only one is stored."""
    prefix = network.base_model_prefix
    places: dict[int, list[str]] = {}
    for name, weight in network.named_parameters(remove_duplicate=False):
        places.setdefault(id(weight), []).append(name)
    found = {}
    for key, names in places.items():
        spelled = [one for name in names for one in (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))]
        found[key] = next((one for one in spelled if one in stored), names[0])
    return found


def gguf_names(architecture: Architecture | None) -> dict[str, list[str]]:
    """llama.cpp's name of each matrix of a model, and the names in its safetensors: several for experts."""
    found = {}
    for group in architecture.groups if architecture is not None else ():
        if len(group.weight.shape) < 2:
            continue
        for layer in group.layers if group.layers is not None else (None,):
            name = gguf_name(group, layer)
            if name is not None and not group.weight.tied_to:
                found[name] = [group.name.format(layer=layer, expert=expert) for expert in range(group.weight.experts)]
    return found


def _hidden(architecture: Architecture | None, seen: Mapping[str, Any]) -> str:
    """The first of the experts that nothing was seen of."""
    names = gguf_names(architecture)
    return next((name for name, mine in names.items() if "_exps." in name and not all(one in seen for one in mine)), "")


def texts_of(kind: Kind, row: Example) -> list[str]:
    """The texts of an example: a prompt stands before what completes it.

    Example:
        >>> texts_of("choices", Example({"prompt": "1+1=", "choices": ["3", "2"], "answer": 1}, "line 1"))
        ['1+1= 2']
    """
    fields = row.fields
    match kind:
        case "completions":
            return [str(fields["prompt"]) + str(fields["completion"])]
        case "choices":
            return [f"{fields['prompt']} {fields['choices'][fields['answer']]}"]
        case "pairs":
            return [str(fields["sentence1"]), str(fields["sentence2"])]
        case "retrieval":
            return [str(fields["query"])]
        case "code":
            return [str(fields["prompt"])]
    return [row.text]


def windows(tokens: Sequence[int], before: Sequence[int], after: Sequence[int], length: int) -> Iterator[list[int]]:
    """Windows of at most so many tokens, with what stands before and after each.

    Example:
        >>> list(windows([5, 6, 7, 8, 9], [0], [], 3))
        [[0, 5, 6], [0, 7, 8], [0, 9]]
    """
    each = length - len(before) - len(after)
    for start in range(0, len(tokens), each):
        yield [*before, *tokens[start : start + each], *after]


def make(
    source: str | Path, data: str | Path, target: str | Path, limit: int | None = None, window: int | None = None,
    tell: Tell | None = None,
) -> Collected:  # fmt: skip
    """Makes an importance matrix and writes it, beside its place and then renamed into it.

    Args:
        source: a GGUF file or a folder of safetensors.
        data: texts, or examples of any kind, as `weigh prove --on` takes them.
        target: the file to write.
        limit: only the first so many examples.
        window: tokens that are read at once, `CHUNK_SIZE` without; never more than the model has positions.
        tell: is told the model, how many windows were read, and of how many.

    Raises:
        WeighbridgeError: when something cannot be read, run or written.
    """
    start = time.perf_counter()
    place = Path(target)
    if place.is_dir() or not place.resolve().parent.is_dir():
        raise SourceError(f"{target} cannot be written", "a file in a folder that exists", "choose another path")
    if place.resolve() in (Path(source).resolve(), Path(data).resolve()):
        raise UnitError(f"{target} is what is read", "another file to write", "choose another")
    seen = collect(source, data, limit, window, tell=tell)
    importance.write(place, seen.importance)
    return Collected(str(source), str(target), place.stat().st_size, str(data), seen.examples, seen.engine, seen.tokens,
                     seen.importance, time.perf_counter() - start, seen.notes)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """What came into the weights: of how many examples and tokens, under which engine."""

    importance: Importance
    examples: int
    tokens: int
    engine: str
    notes: tuple[str, ...]


def collect(
    source: str | Path, data: str | Path, limit: int | None = None, window: int | None = None, most: int | None = None,
    tell: Tell | None = None,
) -> Seen:  # fmt: skip
    """What comes into the weights of a model while it reads; of all windows at most so many, evenly spread.

    Raises:
        WeighbridgeError: when something cannot be read or run.
    """
    examples = read_examples(data, limit)
    texts = [text for row in examples.rows for text in texts_of(examples.kind, row)]
    model, watched = _opened(source)
    try:
        asked = window or CHUNK_SIZE
        length = asked if model.positions is None else min(asked, model.positions)
        parts = parts_of(model, texts, length)
        parts = parts[:: max(1, len(parts) // most)][:most] if most is not None else parts
        for number, part in enumerate(parts):
            watched.collect(part)
            if tell is not None:
                tell(str(source), number + 1, len(parts))
        sums, counts, notes = watched.collected()
    finally:
        model.close()
    if not sums:
        raise ConfigError(f"no weight of {source} was seen at work", "linear layers", "name another model")
    found = of_sums(sums, counts, [Path(data).name], len(parts), length)
    return Seen(found, len(examples.rows), sum(map(len, parts)), model.engine,
                (*model.notes, *examples.notes, *notes))  # fmt: skip


def texts_in(data: str | Path, limit: int | None = None) -> list[str]:
    """The texts of a file of examples of any kind.

    Raises:
        WeighbridgeError: when it cannot be read.
    """
    examples = read_examples(data, limit)
    return [text for row in examples.rows for text in texts_of(examples.kind, row)]


def _opened(source: str | Path) -> tuple[Model, _Watched]:
    if is_address(str(source)):
        raise ConfigError(f"{source} is an address", "a GGUF file or a folder of safetensors", "name one")
    if Path(source).is_file() and read(source).format == "gguf":
        native = _LlamaCpp(source, digest_of(Path(source)))
        return native, native
    model = open_model(source)
    if not isinstance(model, TransformersModel):
        raise ConfigError(f"{source} runs under {model.engine}", "a GGUF file or a folder of safetensors", "name one")
    return model, _Transformers(model)


def parts_of(model: Model, texts: Sequence[str], length: int) -> list[list[int]]:
    """The windows that a model reads."""
    after: tuple[int, ...] = ()
    if "writes" in model.abilities:
        rows = [[token for text in texts for token in model.tokens(text + "\n\n")]]
    else:
        rows, after = [model.tokens(text) for text in texts], model.suffix
    least = len(model.prefix) + len(after) + 1
    if length < least:
        raise UnitError(f"a window of {length} tokens", f"{least} or more for this model", "choose a larger one")
    found = [part for row in rows for part in windows(row, model.prefix, after, length)]
    if not found:
        raise ConfigError(f"{model.path} makes no tokens of the data", "texts of its language", "name other data")
    return found
