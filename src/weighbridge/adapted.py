"""What does an adapter add to its base, and what do the two weigh merged?

Low-rank matrices are added into the base's own, so that merging leaves the count as it is. Modules that were trained as
a whole take the place of the base's, and add what they have beyond them: a resized table of tokens, or a head that the
base ties to its table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from weighbridge.errors import SourceError
from weighbridge.formats import peft
from weighbridge.formats.agreement import is_conv1d
from weighbridge.formats.peft import Adapter, Module
from weighbridge.formats.reconcile import Difference, Reconciliation, Status
from weighbridge.inspection import Inspection
from weighbridge.model import encodings
from weighbridge.model.tensors import TensorSpec

MERGED_ENCODINGS = ("fp32", "bf16")


@dataclass(frozen=True, slots=True)
class Adapted:
    """An adapter and, where it was given, its base; `reconciliation` holds them against each other."""

    adapter: Adapter
    base: Inspection | None
    reconciliation: Reconciliation
    merged_parameters: int | None

    @property
    def trainable_share(self) -> float | None:
        """The adapter's parameters as a share of those of base and adapter together; None without a base."""
        if self.base is None:
            return None
        return self.adapter.parameters / max(1, self.adapter.parameters + self.base.parameters.total)

    @property
    def merged_bytes(self) -> dict[str, int]:
        """Bytes of the merged model's tensors in the encodings that people merge into."""
        if self.merged_parameters is None:
            return {}
        return {name: encodings.find(name).size_bytes((self.merged_parameters,)) for name in MERGED_ENCODINGS}

    def to_json(self) -> dict[str, Any]:
        """The part `adapter` of the JSON document."""
        adapter = self.adapter
        return {
            "method": adapter.method,
            "base": adapter.base,
            "trainable_parameters": adapter.parameters,
            "ranks": list(adapter.ranks),
            "alpha": adapter.alpha,
            "target_modules": list(adapter.targets),
            "modules": len(adapter.modules),
            "by_target": {
                name: {"modules": number, "parameters": parameters}
                for name, (number, parameters) in adapter.by_target().items()
            },
            "trained_as_a_whole": [{"name": name, "elements": t.elements} for name, t in adapter.whole.items()],
            "base_parameters": None if self.base is None else self.base.parameters.total,
            "trainable_share": self.trainable_share,
            "merged": None
            if self.merged_parameters is None
            else {"parameters": self.merged_parameters, "bytes": self.merged_bytes},
            "reconciliation": self.reconciliation.to_json(),
        }


def adapted(inspection: Inspection, base: Inspection | None = None) -> Adapted:
    """An inspected adapter beside its inspected base.

    Raises:
        SourceError: when the first is no adapter, or the base is one or holds no tensors.
        FormatError: when its low-rank matrices are none.
    """
    if inspection.format != "peft":
        raise SourceError(
            f"{inspection.source} is no adapter but {inspection.format}", "a folder with adapter_config.json",
            "leave --base out",
        )  # fmt: skip
    adapter = peft.adapter_of(inspection.checkpoint)
    if base is None:
        note = "the base was not given" + (f"; the adapter names {adapter.base[:200]}" if adapter.base else "")
        return Adapted(adapter, None, Reconciliation(Status.NOT_APPLICABLE, note=note), None)
    if base.format == "peft":
        raise SourceError(f"{base.source} is an adapter itself", "the model that it was made for", "name that one")
    tensors = _by_module(base)
    settings: Mapping[str, Any] = inspection.checkpoint.metadata["adapter"]
    spelling = _Spelling(base)
    differences = list(_differences(adapter, settings, tensors, spelling))
    matched = len(adapter.modules) - sum(d.kind in ("unexpected", "shape") for d in differences)
    merged = base.parameters.total
    for name, tensor in adapter.whole.items():
        own = tensors.get(spelling.of(name, tensors))
        merged += tensor.elements - (0 if own is None or own.tied_to is not None else own.elements)
    status = Status.DIFFERS if differences else Status.AGREES if adapter.modules else Status.NOT_APPLICABLE
    note = "" if adapter.modules else "the adapter changes no module of its base"
    return Adapted(adapter, base, Reconciliation(status, tuple(differences), matched, note=note), merged)


def _by_module(base: Inspection) -> dict[str, TensorSpec]:
    """The base's tensors by name: as the reference implementation names them where a family describes it."""
    tensors = base.checkpoint.tensors if base.architecture is None else tuple(base.architecture.tensors("huggingface"))
    return {tensor.name: tensor for tensor in tensors}


class _Spelling:
    """Names with or without the base's prefix: an adapter may have been made for a body with its head or without."""

    def __init__(self, base: Inspection) -> None:
        self._prefix = "" if base.architecture is None else base.architecture.base_prefix

    def of(self, name: str, tensors: Mapping[str, TensorSpec]) -> str:
        candidates = (name, self._prefix + name, name.removeprefix(self._prefix))
        return next((candidate for candidate in candidates if candidate in tensors), name)


def _differences(
    adapter: Adapter, settings: Mapping[str, Any], tensors: Mapping[str, TensorSpec], spelling: _Spelling
) -> Iterator[Difference]:
    found = set()
    for module in adapter.modules:
        name = spelling.of(f"{module.path}.weight", tensors)
        found.add(name.removesuffix(".weight"))
        own = tensors.get(name)
        if own is None:
            yield Difference("unexpected", module.path, module.parameters, False, "the base has no such module")
        elif not _fits(module, own):
            note = f"changes a matrix of {module.outputs} x {module.inputs}, which is {list(own.shape)} in the base"
            yield Difference("shape", module.path, module.parameters, False, note)
    matrices = {name.removesuffix(".weight") for name, tensor in tensors.items() if len(tensor.shape) >= 2}
    expected = peft.expected_modules(adapter, settings, (name for name in matrices))
    for path in sorted((expected or set()) - found):
        yield Difference("missing", path, 0, False, "named by target_modules, and not in the adapter")


def _fits(module: Module, weight: TensorSpec) -> bool:
    """Whether the product of low-rank matrices has the shape of the weight, which is turned in a `Conv1D`."""
    if module.rank is None or not weight.shape:
        return True
    rows, columns = weight.shape[0], weight.elements // max(1, weight.shape[0])
    if is_conv1d(weight.name):
        rows, columns = columns, rows
    return (rows, columns) == (module.outputs, module.inputs)
