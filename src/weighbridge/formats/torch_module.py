"""What does a live `torch.nn.Module`, or a mapping of names to tensors, weigh?

Of a module, the entries of its `state_dict()`: parameters and persistent buffers, under their names there. Of a
mapping, its tensors; NumPy arrays count as tensors. No data is read and nothing is moved between devices, so that a
module on the `meta` device, which has shapes only, weighs as much as a loaded one.

Entries are tied when they begin at the same address with the same shape. Where there is no address (the meta device,
empty tensors), they are tied when they are the same object.

torch is not imported: what has `shape` and `dtype` is a tensor. Source: pytorch/pytorch, release 2.13,
`torch/nn/modules/module.py` (`state_dict`, `named_parameters`, `named_buffers`).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from weighbridge.errors import FormatError, SourceError, UnknownNameError
from weighbridge.formats.checkpoint import Checkpoint, StoredFile
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import Kind, TensorSpec

_QUANTIZED = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}


def read_module(module_or_state_dict: Any, name: str = "module") -> Checkpoint:
    """The checkpoint that saving this module or mapping would make.

    Its one file holds no header: `tensor_bytes` is what the tensors take, tied ones once. `metadata` has `frozen`, the
    parameters of a module that take no gradient, and `not_tensors`, the entries that were left out.

    Raises:
        SourceError: for an object that is neither a module nor a mapping.
        FormatError: when there is no tensor in it, or a lazy one that has no shape yet.
        UnknownNameError: for an element type without a known encoding.

    Example:
        >>> import numpy
        >>> checkpoint = read_module({"weight": numpy.zeros((3, 5), "float16"), "bias": numpy.zeros(3, "float32")})
        >>> [(t.name, t.shape, t.encoding.name) for t in checkpoint.tensors], checkpoint.tensor_bytes
        ([('weight', (3, 5), 'fp16'), ('bias', (3,), 'fp32')], 42)
    """
    buffers: set[str] = set()
    frozen: list[str] = []
    if isinstance(module_or_state_dict, Mapping):
        entries: Mapping[Any, Any] = module_or_state_dict
    elif all(hasattr(module_or_state_dict, x) for x in ("state_dict", "named_parameters", "named_buffers")):
        buffers = _names(module_or_state_dict.named_buffers(remove_duplicate=False))
        parameters = module_or_state_dict.named_parameters(remove_duplicate=False)
        frozen = sorted(key for key, value in parameters if not value.requires_grad)
        # `keep_vars` gives the parameters themselves, so that tied ones stay one object.
        entries = module_or_state_dict.state_dict(keep_vars=True)
    else:
        read = f"{name} is a {type(module_or_state_dict).__name__}"
        raise SourceError(read, "a torch.nn.Module or a mapping of names to tensors", "give its state_dict()")
    owners: dict[tuple[Any, ...], str] = {}
    specs: list[TensorSpec] = []
    skipped: list[str] = []
    held = [(str(key), value) for key, value in entries.items()]  # which keeps identities apart
    for key, value in held:
        shape = _shape(name, key, value)
        if shape is None:
            skipped.append(key)
            continue
        owner = owners.setdefault((*_place(value, shape), shape), key)
        kind = Kind.BUFFER if key in buffers else Kind.PARAMETER
        tied_to = None if owner == key else owner
        specs.append(TensorSpec(key, shape, _encoding(name, value), kind=kind, tied_to=tied_to, file=name))
    if not specs:
        raise FormatError(f"{name} holds no tensor", "names with tensors", "give a module or its state_dict()")
    size = sum(spec.size_bytes for spec in specs if spec.tied_to is None)
    table = "".join(f"{spec.name!r} {spec.shape} {spec.encoding.name} {spec.tied_to!r}\n" for spec in specs)
    return Checkpoint(
        name, "torch", (StoredFile(name, size, 0, size, 0),), tuple(specs),
        metadata={"frozen": tuple(frozen), "not_tensors": tuple(skipped)},
        digest=hashlib.sha256(table.encode("utf-8", "surrogatepass")).hexdigest(),
    )  # fmt: skip


def _names(pairs: Iterable[tuple[str, Any]]) -> set[str]:
    return {name for name, _ in pairs}


def _shape(source: str, name: str, value: Any) -> tuple[int, ...] | None:
    """The shape of a tensor; None for what is none."""
    try:
        return tuple(int(x) for x in value.shape) if hasattr(value, "dtype") and hasattr(value, "shape") else None
    except RuntimeError as error:  # what a torch.nn.UninitializedParameter raises
        action = "run one batch through the module first"
        raise FormatError(f"{name} of {source} has no shape yet", "initialized parameters", action) from error


def _encoding(source: str, tensor: Any) -> Encoding:
    name = str(tensor.dtype).removeprefix("torch.")
    encoding = encodings.find(_QUANTIZED.get(name, name))
    if encoding.elements_per_block != 1:  # torch counts bytes there, each of several elements
        whole = (e.name for e in encodings.ENCODINGS.values() if e.elements_per_block == 1)
        raise UnknownNameError("element type", name, whole, f"give {source} with plain tensors")
    return encoding


def _place(tensor: Any, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """Where a tensor's first element lies: its address, or the object itself when it has none."""
    address = 0
    if math.prod(shape):
        if hasattr(tensor, "__array_interface__") and not hasattr(tensor, "data_ptr"):
            address = tensor.__array_interface__["data"][0]
        elif hasattr(tensor, "data_ptr") and not getattr(tensor, "is_meta", False):
            address = _data_address(tensor)
    return (str(getattr(tensor, "device", "")), address) if address else ("object", id(tensor))


def _data_address(tensor: Any) -> int:
    try:
        return int(tensor.data_ptr())
    except (RuntimeError, NotImplementedError):  # sparse and wrapped tensors have no single address
        return 0
