"""What can a model be made into, and what may each of its tensors become there?

A GGUF file, from GGUF or from a folder of safetensors; or a folder of safetensors in the format of compressed-tensors.
Either is planned, sized and written through the same few methods.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from weighbridge.compress import codecs, gguf_file, plan, safetensors_folder, schemes
from weighbridge.compress.conversion import ConvertedFolder
from weighbridge.compress.folder_source import FolderSource
from weighbridge.compress.gguf_file import GgufModel, GgufSource
from weighbridge.compress.plan import Chosen, Option
from weighbridge.compress.schemes import Scheme
from weighbridge.compress.sensitivity import Sensitivity, role_of
from weighbridge.errors import ConfigError, SourceError, UnitError, UnknownNameError
from weighbridge.formats.addresses import shown
from weighbridge.inspection import inspect
from weighbridge.model import encodings, recipes
from weighbridge.model.architecture import Architecture
from weighbridge.model.encodings import Encoding
from weighbridge.model.layouts import gguf_name
from weighbridge.model.tensors import TensorSpec
from weighbridge.prove.plan import Tell

FORMATS = ("gguf", "safetensors")
CHOICES = ("iq2_xxs", "iq2_xs", "iq2_s", "q2_k", "iq3_xxs", "iq3_s", "q3_k", "iq4_xs", "q4_0", "iq4_nl", "q4_k", "q4_1",
           "q5_0", "q5_k", "q5_1", "q6_k", "q8_0", "bf16")  # fmt: skip
"""Encodings that a matrix in GGUF may take; of those that need an importance only where there is one."""
COMMON = ("q4_k_m", "q5_k_m", "q8_0", "q6_k", "iq4_xs", "fp16")
"""Methods that are named first where a name is not known."""
CASTS = ("fp16", "fp32")
"""Encodings that are a method only: fp16 does not reach every weight, and fp32 is never smaller."""
KEPT = ("position_embedding", "type_embedding", "router")
"""Roles that stay as they are, as in llama.cpp's own quantizer: its engine looks rows of the first two up in fp32."""
FUSED = ((re.compile(r"\.[qkv]_proj\.weight$"), ".qkv_proj.weight"),
         (re.compile(r"\.(?:gate|up)_proj\.weight$"), ".gate_up_proj.weight"))  # fmt: skip
"""Linear modules that vLLM joins, so that they need one scheme."""

TRIAL = "weigh-shrink-trial"
"""In the name of a result that has not passed yet: what lies there is an earlier run's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """How a result is written: memory for the blocks in work, blocks at once, and who is told."""

    memory_bytes: int
    jobs: int
    tell: Tell | None


class Target(Protocol):
    """A form that a model can be written in."""

    @property
    def format(self) -> str:
        """One of `FORMATS`."""

    @property
    def tensors(self) -> Sequence[TensorSpec]:
        """Those of the result, with their roles."""

    @property
    def paths(self) -> Sequence[Path]:
        """The files that are read."""

    @property
    def size_bytes(self) -> int:
        """The sum of the bytes of the weight files that are read."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know about the source."""

    @property
    def groups(self) -> list[list[str]]:
        """Tensors that have to take the same encoding."""

    def options(self, costs: Sensitivity, tell: Tell | None = None) -> dict[str, tuple[Option, ...]]:
        """What each tensor may take; the first is as it is."""

    def method(self, name: str) -> dict[str, Any]:
        """The encoding of each tensor by a method.

        Raises:
            WeighbridgeError: when there is no such method, or it is none for this model.
        """

    def size_of(self, chosen: Chosen) -> int:
        """Bytes of the result, exactly."""

    def unfit(self) -> dict[str, tuple[str, ...]]:
        """Encodings whose blocks do not fit the rows of a tensor, by tensor."""

    def lacking(self, chosen: Chosen, costs: Sensitivity) -> str | None:
        """The first tensor whose encoding needs to know more of its columns than the costs do."""

    def write(self, place: Path, chosen: Chosen, costs: Sensitivity, how: Working) -> Mapping[str, float]:
        """Writes the result; the relative squared error of each tensor."""

    def trial_of(self, place: Path) -> Path:
        """Where a result lies until it has passed: a name that nobody else gives."""

    def remove(self, trial: Path) -> None:
        """Removes a result that has not."""


def target_of(source: str | Path, form: str) -> Target:
    """The target of a source.

    Raises:
        WeighbridgeError: when the source cannot be read, or cannot become that.
    """
    if form not in FORMATS:
        raise UnknownNameError("format", form, FORMATS, "name one of these")
    if not os.path.lexists(source):
        raise SourceError(f"{shown(str(source))} is no path on this machine", "weights that lie here",
                          "check the spelling, or download it and name its folder")  # fmt: skip
    if form == "safetensors":
        if not Path(source).is_dir():
            raise ConfigError(f"{source} is no folder", "a folder of safetensors, to write such a folder",
                              "leave --format out to write GGUF")  # fmt: skip
        return FolderTarget(source)
    return GgufTarget(source)


class GgufTarget:
    """A GGUF file."""

    format = "gguf"

    def __init__(self, source: str | Path) -> None:
        self.source: GgufSource | ConvertedFolder = (
            ConvertedFolder(source) if Path(source).is_dir() else GgufSource(source)
        )
        self.paths, self.size_bytes = self.source.paths, self.source.size_bytes
        self.tensors = self.source.tensors
        self.groups: list[list[str]] = []

    @property
    def notes(self) -> tuple[str, ...]:
        """As `Target.notes`."""
        if isinstance(self.source, ConvertedFolder):
            return self.source.notes
        packed = sorted({one.encoding.name for one in self.tensors if one.encoding.elements_per_block > 1})
        if not packed:
            return ()
        return (f"the source is already quantized ({', '.join(packed)}): errors are measured against it, and what it "
                "has lost before is not seen",)  # fmt: skip

    @cached_property
    def architecture(self) -> Architecture:
        """The description of the model."""
        found = inspect(self.source.path).architecture
        if found is None or found.gguf_architecture is None:
            raise ConfigError(f"{self.source.path} is of no family that a mix is known for", "one of these families",
                              "name one encoding as the method, or a budget with --to")  # fmt: skip
        return found

    def options(self, costs: Sensitivity, tell: Tell | None = None) -> dict[str, tuple[Option, ...]]:
        """As `Target.options`."""
        return gguf_options(self.source, costs, tell)

    def method(self, name: str) -> dict[str, Any]:
        """As `Target.method`: a mix of llama.cpp, or an encoding for every matrix that it fits.

        Where its blocks do not fit the rows, the next larger encoding is taken; a tensor that is smaller stays.
        """
        known = (*CHOICES, *CASTS)
        try:
            recipe = recipes.find(name)
        except UnknownNameError:
            recipe = None
        if recipe is not None and recipe.kind == "gguf" and recipe.name not in known:
            return self._mixed(recipe)
        try:
            wanted = encodings.find(name)
        except UnknownNameError:
            wanted = None
        if wanted is None or wanted.name not in known:
            mixes = [one.name for one in recipes.RECIPES.values() if one.kind == "gguf"]
            if name.lower() in schemes.SCHEMES:
                raise UnitError(
                    f"the method {name} for GGUF", "a method of GGUF", "ask for --format safetensors with it"
                )
            raise UnknownNameError("method", name, dict.fromkeys((*COMMON, *known, *mixes)), "name one of these")
        larger = sorted((encodings.find(one) for one in CHOICES), key=lambda one: one.bits_per_weight)
        larger = [wanted, *(one for one in larger if one.bits_per_weight > wanted.bits_per_weight)]
        found: dict[str, Any] = {}
        for tensor in self.tensors:
            fits = next((one for one in larger if one.fits(tensor.shape[-1] if tensor.shape else 1)), tensor.encoding)
            grows = fits.size_bytes(tensor.shape) > tensor.size_bytes and wanted.name not in CASTS
            found[tensor.name] = fits if _may_change(tensor) and not grows else tensor.encoding
        return found

    def _mixed(self, recipe: recipes.Recipe) -> dict[str, Any]:
        """What llama.cpp's quantizer gives each tensor; what it leaves stays."""
        packing = recipe.pack(self.architecture)
        if not packing.is_possible:
            raise UnitError(f"{recipe.name}, which llama.cpp's quantizer refuses for these rows", "another method",
                            "see `weigh inspect` for what becomes of each mix")  # fmt: skip
        mixed: dict[str, Encoding] = {}
        for one in packing.assignments:
            for layer in one.layers if one.layers is not None else one.group.layers or (None,):
                tensor = gguf_name(one.group, layer)
                if tensor is not None:
                    mixed[tensor] = one.encoding
        return {tensor.name: mixed.get(tensor.name, tensor.encoding) if _may_change(tensor) else tensor.encoding
                for tensor in self.tensors}  # fmt: skip

    def size_of(self, chosen: Chosen) -> int:
        """As `Target.size_of`."""
        return gguf_file.size_of(self.source, chosen)

    def unfit(self) -> dict[str, tuple[str, ...]]:
        """As `Target.unfit`."""
        found = {tensor.name: tuple(name for name in CHOICES if not encodings.find(name).fits(tensor.shape[-1]))
                 for tensor in self.tensors if _may_change(tensor)}  # fmt: skip
        return {name: some for name, some in found.items() if some}

    def write(self, place: Path, chosen: Chosen, costs: Sensitivity, how: Working) -> Mapping[str, float]:
        """As `Target.write`."""
        if lacking := self.lacking(chosen, costs):
            read = f"{chosen[lacking].name} for {lacking}, of whose columns nothing is known"
            raise UnitError(read, "an importance matrix", "make one with `weigh imatrix`, and name it with --imatrix")
        return gguf_file.write(self.source, place, chosen, importance=costs.columns,
                               memory_bytes=how.memory_bytes, jobs=how.jobs, tell=how.tell).errors  # fmt: skip

    def lacking(self, chosen: Chosen, costs: Sensitivity) -> str | None:
        """As `Target.lacking`."""
        return next((name for name, encoding in chosen.items()
                     if name not in costs.columns and _needs_importance(encoding)), None)  # fmt: skip

    def trial_of(self, place: Path) -> Path:
        """As `Target.trial_of`: engines know a GGUF file by its ending."""
        return place.with_name(f"{place.name}.{TRIAL}.gguf")

    def remove(self, trial: Path) -> None:
        """As `Target.remove`."""
        trial.unlink(missing_ok=True)


def gguf_options(source: GgufModel, costs: Sensitivity, tell: Tell | None = None) -> dict[str, tuple[Option, ...]]:
    """What each tensor of a GGUF file may take; the first is as it is."""
    step, found = source.alignment, {}
    for tensor in source.tensors:
        own = [Option(tensor.encoding, -(-tensor.size_bytes // step) * step, 0.0, 0.0)]
        if _may_change(tensor):
            rows, columns = plan.sample(source, tensor), plan.columns_of(costs, tensor)
            is_large = codecs.LARGEST < float(np.abs(rows).max(initial=0.0)) < np.inf
            for encoding in map(encodings.find, CHOICES):
                if not encoding.fits(tensor.shape[-1]) or (columns is None and _needs_importance(encoding)):
                    continue
                if is_large and encoding.elements_per_block > 1:
                    continue
                size = -(-encoding.size_bytes(tensor.shape) // step) * step
                if size < own[0].size_bytes:
                    with _named(tensor):
                        data = codecs.encode(rows, encoding, columns)
                    decoded = codecs.decode(data, encoding, tensor.shape[-1])
                    made = plan.option(tensor, encoding, size, rows, decoded, costs)
                    own += [made] if np.isfinite(made.loss) else []  # a scale in fp16 does not reach every weight
        found[tensor.name] = tuple(own)
        if tell is not None:
            tell(f"trying encodings of {tensor.name}", len(found), len(source.tensors))
    return found


@contextmanager
def _named(tensor: TensorSpec) -> Iterator[None]:
    """Names the tensor in what goes wrong with its weights."""
    try:
        yield
    except ConfigError as fault:
        raise ConfigError(f"{tensor.name}: {fault.read}", fault.expected, fault.action) from fault


def _may_change(tensor: TensorSpec) -> bool:
    return len(tensor.shape) > 1 and tensor.elements > 0 and tensor.encoding.is_float and role_of(tensor) not in KEPT


def _needs_importance(encoding: Encoding) -> bool:
    return encoding.elements_per_block > 1 and codecs.needs_importance(encoding)


class FolderTarget:
    """A folder of safetensors in the format of compressed-tensors."""

    format = "safetensors"

    def __init__(self, source: str | Path) -> None:
        self.source = FolderSource(source)
        self.paths, self.size_bytes = self.source.paths, self.source.size_bytes
        self.notes = self.source.notes
        architecture = self.source.architecture
        roles = {} if architecture is None else {one.name: one.role for one in architecture.tensors()}
        prefix = "" if architecture is None else architecture.base_prefix
        self.tensors = tuple(
            replace(one, role=roles.get(one.name) or roles.get(prefix + one.name)
                    or roles.get(one.name.removeprefix(prefix), ""))
            for one in self.source.tensors
        )  # fmt: skip

    @cached_property
    def groups(self) -> list[list[str]]:
        """As `Target.groups`: what vLLM joins."""
        found: dict[str, list[str]] = {}
        for tensor in self.tensors:
            for pattern, joined in FUSED:
                if tensor.name in self.source.linear_names and pattern.search(tensor.name):
                    whole = f"{pattern.sub(joined, tensor.name)} {tensor.encoding.name}"
                    found.setdefault(whole, []).append(tensor.name)
        return [some for some in found.values() if len(some) > 1]

    def _schemes(self, tensor: TensorSpec) -> list[Scheme]:
        return schemes.schemes_for(tensor.shape, tensor.name in self.source.linear_names, tensor.encoding)

    def options(self, costs: Sensitivity, tell: Tell | None = None) -> dict[str, tuple[Option, ...]]:
        """As `Target.options`."""
        found = {}
        linear = {name: each for name, each in costs.columns.items() if name in self.source.linear_names}
        costs = replace(costs, columns=linear)  # other maps may lie transposed
        for tensor in self.tensors:
            own, *others = self._schemes(tensor)
            mine = [Option(own, safetensors_folder.size_with_header(self.source, tensor, own), 0.0, 0.0)]
            rows = plan.sample(self.source, tensor) if others else None
            for scheme in others:
                if rows is None or scheme.name in CASTS:
                    continue
                with _named(tensor):
                    parts = schemes.encode(rows, scheme, plan.columns_of(costs, tensor))
                decoded = schemes.decode(parts, scheme, tensor.shape[-1])
                size = safetensors_folder.size_with_header(self.source, tensor, scheme)
                mine.append(plan.option(tensor, scheme, size, rows, decoded, costs))
            found[tensor.name] = tuple(mine)
            if tell is not None:
                tell(f"trying encodings of {tensor.name}", len(found), len(self.tensors))
        return found

    def method(self, name: str) -> dict[str, Any]:
        """As `Target.method`: a scheme for each Linear module that it fits; a cast is for all weights.

        Where rows are no whole number of groups, the next smaller groups that they are are taken.
        """
        wanted = schemes.find(name.lower())
        smaller = [one for one in schemes.QUANTIZED if (one.bits, one.symmetric) == (wanted.bits, wanted.symmetric)
                   and one.group is not None and wanted.group is not None and one.group <= wanted.group]  # fmt: skip
        found: dict[str, Any] = {}
        for tensor in self.tensors:
            own = schemes.plain(tensor.encoding)
            takes = tensor.encoding.name in schemes.READABLE
            if wanted.bits is not None:
                takes = takes and tensor.name in self.source.linear_names
            fits = next((one for one in smaller or [wanted] if one.fits(tensor.shape)), own)
            found[tensor.name] = fits if takes else own
        if wanted.bits is not None and all(one not in (wanted, *smaller) for one in found.values()):
            raise UnitError(f"{name}, which no weight of {self.source.path} can take", "a method that some can",
                            "; ".join(self.notes) or "name another")  # fmt: skip
        return found

    def size_of(self, chosen: Chosen) -> int:
        """As `Target.size_of`."""
        return safetensors_folder.size_of(self.source, chosen)

    def unfit(self) -> dict[str, tuple[str, ...]]:
        """As `Target.unfit`."""
        linear = [tensor for tensor in self.tensors if tensor.name in self.source.linear_names]
        symmetric = [one for one in schemes.QUANTIZED if one.symmetric]
        found = {one.name: tuple(each.name for each in symmetric if not each.fits(one.shape)) for one in linear}
        return {name: some for name, some in found.items() if some}

    def write(self, place: Path, chosen: Chosen, costs: Sensitivity, how: Working) -> Mapping[str, float]:
        """As `Target.write`."""
        return safetensors_folder.write(
            self.source, place, chosen, importance=costs.columns,
            memory_bytes=how.memory_bytes, jobs=how.jobs, tell=how.tell).errors  # fmt: skip

    def lacking(self, chosen: Chosen, costs: Sensitivity) -> str | None:
        """As `Target.lacking`: schemes do without."""
        return None

    def trial_of(self, place: Path) -> Path:
        """As `Target.trial_of`."""
        return place.with_name(f"{place.name}.{TRIAL}")

    def remove(self, trial: Path) -> None:
        """As `Target.remove`."""
        shutil.rmtree(trial, ignore_errors=True)


def bits_per_weight(target: Target, size_bytes: int) -> float:
    """Bits of a result for each weight."""
    return 8 * size_bytes / sum(tensor.elements for tensor in target.tensors)
