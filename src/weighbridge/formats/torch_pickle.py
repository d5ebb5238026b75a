"""Which tensors does a pickle of PyTorch describe, and under which names? Nothing in it is ever run.

The pickle is walked over symbols (`pickle_symbols`). A storage is a persistent id ("storage", torch.FloatStorage, key,
location, number of elements), before torch 1.6 with a sixth item, the part of the storage that is meant; calls of the
few `torch._utils._rebuild_*` functions on storages become tensors. Any other call is an opaque node, so that the
tensors of a whole pickled module are found too.

A pickled module's names are those of its `state_dict()`; a sparse or nested tensor gives its parts. A quantized tensor
is its integers, which stand for its weights, with the scales and zero points that are tensors beside it.

Sources: pytorch/pytorch, 2.13: `torch/serialization.py` (persistent ids), `torch/_utils.py` (rebuild functions),
`torch/_tensor.py` (their arguments), `torch/_weights_only_unpickler.py` (harmless names),
`torch/csrc/jit/serialization/pickler.cpp` (TorchScript's own functions).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.pickle_stream import MemoryStream, Stream
from weighbridge.formats.pickle_symbols import DO_NOT_USE, PLAIN_NAMES, Name, Node, Paths, Walk, kept_values
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import Kind

MAX_DIMS = 64
WRAPPERS = frozenset({"state_dict", "model", "model_state_dict", "module", "params"})
TRAINING = frozenset(
    {"optimizer", "optimizers", "optimizer_state", "optimizer_states", "optimizer_state_dict", "optim",
     "last_optimizer_state", "lr_scheduler", "lr_schedulers", "scheduler", "extra_state"}
)  # fmt: skip
"""Keys at the top under which a training run keeps its state; beside a model they hold no parameters."""
OPTIMIZER = ["state", "param_groups"]
"""The keys of what `Optimizer.state_dict()` gives, which is saved by itself too (`optimizer.pt`)."""

_UNTRUSTED = "do not load this file with torch.load(weights_only=False)"
_SAVE_AGAIN = "load it where it was made and save plain tensors with torch.save"

_STORAGES = {
    f"{module}.{kind}Storage": encodings.find(encoding)
    for module in ("torch", "torch.cuda", "torch.storage")
    for kind, encoding in {
        "Double": "fp64", "Float": "fp32", "Half": "fp16", "BFloat16": "bf16", "ComplexFloat": "complex64",
        "ComplexDouble": "complex128", "Long": "int64", "Int": "int32", "Short": "int16", "Char": "int8",
        "Byte": "uint8", "Bool": "bool", "Untyped": "uint8", "QInt8": "int8", "QUInt8": "uint8", "QInt32": "int32",
    }.items()
}  # fmt: skip
_DTYPES = {
    f"torch.{name}": encodings.find(name)
    for name in (
        "float64", "float32", "float16", "bfloat16", "complex64", "complex128", "float8_e4m3fn", "float8_e4m3fnuz",
        "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu", "int64", "int32", "int16", "int8", "uint64", "uint32",
        "uint16", "uint8", "bool",
    )
}  # fmt: skip
_QUANTIZED = "torch._utils._rebuild_qtensor"
_REBUILDS = {
    "torch._utils._rebuild_tensor": (4, 4),
    "torch._utils._rebuild_tensor_v2": (6, 7),
    "torch._utils._rebuild_tensor_v3": (7, 8),
    _QUANTIZED: (7, 7),
}
"""Each takes a storage, an offset, a size and a stride first. The fewest and the most arguments."""
_WRAPPED = frozenset(
    f"torch._utils._rebuild_{name}" for name in ("parameter", "parameter_with_state", "device_tensor_from_cpu_tensor")
)
"""Each takes a tensor first and gives it back."""
_SCRIPT_VALUES = frozenset(
    f"torch.jit._pickle.{name}"
    for name in ("restore_type_tag", "build_intlist", "build_tensorlist", "build_doublelist", "build_boollist")
)
"""Each takes a list or dict first and gives it back."""
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_SPARSE, _META = "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_meta_tensor_no_storage"
_HARMLESS = (
    PLAIN_NAMES | frozenset(_STORAGES) | frozenset(_DTYPES) | frozenset(_REBUILDS) | _WRAPPED | _SCRIPT_VALUES
    | {_FROM_TYPE, _SPARSE, _META, "torch._utils._rebuild_nested_tensor", "torch.Size", "torch.device", "torch.dtype",
       "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.serialization._get_layout",
       "torch._utils._rebuild_wrapper_subclass", "torch._utils._rebuild_device_tensor_from_numpy",
       "torch.per_tensor_affine", "torch.per_channel_affine", "torch.per_channel_affine_float_qparams",
       "argparse.Namespace", "pathlib.PosixPath", "pathlib.WindowsPath", "numpy.dtype",
       "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
       "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
)  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A stretch of bytes, as the pickle describes it. `key` is where it lies: the entry of an archive, or its number.

    A part of another storage has the key of the whole, whose elements it counts from `first`.
    """

    encoding: Encoding
    key: str
    elements: int
    first: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage. `offset` (from the whole storage's beginning) and `stride` count elements of `encoding`.

    `beside` are the tensors that its integers need to be weights, with their roles; `is_quantized` says that they do.
    """

    storage: Storage
    encoding: Encoding
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    is_quantized: bool = False
    beside: tuple[tuple[str, Tensor], ...] = ()

    @property
    def elements(self) -> int:
        """The product of the shape."""
        return math.prod(self.shape)

    @property
    def extent(self) -> int:
        """Elements of the storage from the tensor's first to its last one; 0 for an empty tensor."""
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True)) if all(self.shape) else 0

    @property
    def is_contiguous(self) -> bool:
        """Whether its elements lie one after the other, the last axis running fastest."""
        step = 1
        for n, stride in zip(reversed(self.shape), reversed(self.stride), strict=True):
            if n != 1 and stride != step:
                return self.elements == 0
            step *= n
        return True


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a table of tensors; `role` is that of a tensor beside a quantized one."""

    name: str
    tensor: Tensor
    kind: Kind
    role: str = ""


@dataclass(frozen=True, slots=True)
class TensorTable:
    """The tensors under their names. `wrapper` is the key that was stripped from the names, `aliases` the paths (with
    the wrapper) that lead to a container already walked, `values` the plain values at the top.
    """

    tensors: tuple[Entry, ...]
    storages: tuple[Storage, ...]
    wrapper: str
    foreign_names: tuple[str, ...]
    aliases: dict[str, str]
    values: dict[str, Any]
    notes: tuple[str, ...] = ()
    sparse: int = 0
    """Sparse tensors, which are listed by their parts: indices and values."""


def read(where: str, data: bytes, stored_bytes: int | None = None) -> TensorTable:
    """The tensor table of the pickle `data` of an archive whose storages lie in `data/`.

    Args:
        where: what messages call it.
        data: the pickle.
        stored_bytes: what it takes in the archive, where it is packed there.

    Raises:
        FormatError: for damage, for what torch does not write, and when no tensor can be told without running code.

    Example:
        >>> read("a.pt", b"}.").tensors
        ()
    """
    walk = TorchWalk(where, MemoryStream(data), "data/", stored_bytes)
    return table(walk, walk.run())


def table(walk: TorchWalk, root: Any) -> TensorTable:
    """The tensor table of what a walk found.

    Raises:
        FormatError: when no tensor can be told without running code, or two have one name.
    """
    paths = TorchPaths(walk.where, root, Tensor)
    foreign = tuple(sorted(walk.foreign))
    if not paths.found and (foreign or not isinstance(root, Node | tuple)):
        what = f"names {', '.join(foreign[:3])}" if foreign else "holds one plain value"
        _fail(walk.where, f"{what} and has no tensor", "tensors in dicts and lists", _UNTRUSTED)
    names = [path for path, _, _ in paths.found]
    heads = set(paths.heads)
    wrapper = heads.pop() if len(heads) == 1 else ""
    if not (isinstance(root, Node) and root.keys is not None and wrapper in WRAPPERS and wrapper not in names):
        wrapper = ""
    aliases = {a: b for a, b in paths.aliases.items() if b and any(n == b or n.startswith(b + ".") for n in names)}
    strip = len(wrapper) + 1 if wrapper else 0
    beside = set(paths.heads) & TRAINING if set(paths.heads) - TRAINING else set()
    if isinstance(root, Node) and root.keys is not None and list(root.keys) == OPTIMIZER:
        beside = set(paths.heads)
    found = [
        (path[strip:], tensor, Kind.BUFFER if head in beside else kind)
        for (path, tensor, kind), head in zip(paths.found, paths.heads, strict=True)
    ]
    storages = tuple(walk.storages.values())
    notes = []
    if beside:
        notes.append(f"what lies under {', '.join(sorted(beside))} is the state of a training run, no parameters")
    if walk.sparse:
        notes.append(f"sparse tensors are listed by their indices and values: {walk.sparse:,} of them")
    return TensorTable(rows(walk.where, found), storages, wrapper, foreign, aliases, kept_values(root), tuple(notes),
                       walk.sparse)  # fmt: skip


def rows(where: str, found: list[tuple[str, Tensor, Kind]]) -> tuple[Entry, ...]:
    """The rows of a table, with the scales and zero points of quantized tensors after these.

    Raises:
        FormatError: when two have one name.
    """
    made: list[Entry] = []
    taken: set[str] = set()
    for name, tensor, kind in found:
        made.append(Entry(name, tensor, kind))
        made += [Entry(f"{name}.{role}", other, Kind.QUANTIZATION, role) for role, other in tensor.beside]
    for row in made:
        if row.name in taken:
            _fail(where, f"has two tensors named {row.name[:100]!r}", "names of their own", DO_NOT_USE)
        taken.add(row.name)
    return tuple(made)


def _fail(where: str, what: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{where} {what}", expected, action)


class TorchWalk(Walk):
    """The walk that knows storages and tensors. `folder` is put before the keys of storages.

    Only a file from before torch 1.6 (`is_legacy`) names parts of storages and the classes of modules by id.
    """

    harmless = _HARMLESS

    def __init__(
        self, where: str, stream: Stream, folder: str = "", stored_bytes: int | None = None, is_legacy: bool = False
    ) -> None:
        super().__init__(where, stream, stored_bytes)
        self.folder, self.is_legacy = folder, is_legacy
        self.sparse = 0
        self.storages: dict[str, Storage] = {}

    def persistent(self, key: Any) -> Any:
        """A storage, or the class of a module, whose source text is left aside."""
        part: Any = None
        match key:
            case ("module", Name() as name, _, _) if self.is_legacy:
                return name
            case ("storage", Name(name=kind), str(number), str(), int(elements), part) if self.is_legacy:
                pass
            case ("storage", Name(name=kind), str(number), str(), int(elements)) if not self.is_legacy:
                pass
            case _:
                self.fail("has a persistent id that is no storage")
        if not 0 <= elements < 2**63:
            self.fail("has a persistent id that is no storage")
        encoding = _STORAGES.get(kind)
        if encoding is None:
            self.fail(f"has the storage type {kind[:100]!r}", "a type of whole bytes such as FloatStorage", _SAVE_AGAIN)
        known = self.storages.setdefault(number, Storage(encoding, self.folder + number, elements))
        if (known.encoding, known.elements) != (encoding, elements):
            self.fail(f"gives storage {number[:100]!r} two types or lengths")
        match part:
            case None:
                return known
            case (str(), int(first), int(count)) if 0 <= first <= first + count <= elements and count >= 0:
                return replace(known, elements=count, first=first)
            case _:
                self.fail(f"names a part of storage {number[:100]!r} that it does not have")

    def is_own(self, name: str) -> bool:
        """Whether a name is that of a class whose code a TorchScript archive holds."""
        return name.startswith("__torch__.")

    def call(self, callee: Any, arguments: Any) -> Any:
        """What a call would give: a tensor, a container or an opaque node. Nothing is called."""
        name = callee.name if isinstance(callee, Name) else "a computed callable"
        if name not in _HARMLESS:
            return super().call(callee, arguments)
        if not isinstance(arguments, tuple):
            self.fail(f"calls {name} without arguments")
        state: Any = None
        if name == _FROM_TYPE:
            match arguments:
                case (Name(name=inner), _, tuple(given), state) if inner != _FROM_TYPE:
                    name, arguments = inner, given
                case _:
                    self.fail(f"calls {_FROM_TYPE} with other arguments than torch")
        if name in _REBUILDS:
            return self.tensor(name, arguments)
        first = arguments[0] if arguments else None
        if name in _WRAPPED:
            if not isinstance(first, Tensor | Node):
                self.fail("has a parameter that is no tensor")
            return first
        if name in _SCRIPT_VALUES:
            if not isinstance(first, Node):
                self.fail(f"calls {name} with other arguments than torch")
            return first
        if name == _META:
            self.fail("has a meta tensor, which stores nothing", "tensors with data", _SAVE_AGAIN)
        if name == "torch.Size" and isinstance(first, tuple):
            return first
        if name == _SPARSE and len(arguments) == 2 and isinstance(arguments[1], tuple):
            self.sparse += 1
            return arguments[1]
        made = super().call(Name(name), arguments)
        if state is not None:
            made.state = state
        return made

    def tensor(self, name: str, arguments: tuple[Any, ...]) -> Tensor:
        """The tensor that a rebuild function would make of a storage."""
        fewest, most = _REBUILDS[name]
        if not fewest <= len(arguments) <= most or not isinstance(arguments[0], Storage):
            self.fail(f"calls {name} with other arguments than torch")
        storage, offset, shape, stride = arguments[:4]
        encoding = storage.encoding
        if name.endswith("_v3"):
            dtype = arguments[6].name if isinstance(arguments[6], Name) else "none"
            if dtype not in _DTYPES:
                self.fail(f"has the element type {dtype[:100]!r}", "a type of whole bytes", _SAVE_AGAIN)
            encoding = _DTYPES[dtype]
        if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
            self.fail("has a tensor whose size and stride differ in length")
        if len(shape) > MAX_DIMS or not all(type(x) is int and 0 <= x < 2**63 for x in (offset, *shape, *stride)):
            self.fail("has a tensor whose size, stride or offset is no count")
        first, rest = divmod(storage.first * storage.encoding.bytes_per_block, encoding.bytes_per_block)
        is_quantized = name == _QUANTIZED
        beside = self.beside(arguments[4]) if is_quantized else ()
        tensor = Tensor(storage, encoding, first + offset, shape, stride, is_quantized, beside)
        held = storage.elements * storage.encoding.bytes_per_block // encoding.bytes_per_block
        if math.prod(shape) >= 2**63 or rest or (tensor.extent and offset + tensor.extent > held):
            self.fail(f"has a tensor that reaches past the {held:,} elements of its storage {storage.key[:100]!r}")
        return tensor

    def beside(self, quantizer: Any) -> tuple[tuple[str, Tensor], ...]:
        """The scales and zero points of a tensor that is quantized by channel."""
        match quantizer:
            case (Name(), scales, zero_points, int()):
                given = (("scale", scales), ("zero_point", zero_points))
                return tuple((role, x) for role, x in given if isinstance(x, Tensor))
            case (Name(), float() | int(), int()):
                return ()
            case _:
                self.fail("has a quantized tensor with other arguments than torch")


class TorchPaths(Paths):
    """The paths of `state_dict()`, which leaves out the three dicts of a torch.nn.Module."""

    def named(self, node: Node, key: str, child: Any, kind: Kind) -> tuple[str, Kind]:
        """Nothing for these dicts; what is below `_buffers` is a buffer."""
        inside = key in ("_parameters", "_buffers", "_modules")
        return "" if inside else key, Kind.BUFFER if key == "_buffers" else kind
