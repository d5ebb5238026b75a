"""Which tensors does a pickle of PyTorch describe, and under which names? Nothing in it is ever run.

The pickle is walked opcode by opcode over symbols: no name in it is imported, no callable called. A storage is a
persistent id ("storage", torch.FloatStorage, key, location, number of elements); calls of the few
`torch._utils._rebuild_*` functions on storages become tensors. Any other call is an opaque node that keeps its
arguments and state, so that the tensors of a whole pickled module are found too.

Names are paths: `model.layers.0.weight`. Lists count from 0; a pickled module's names are those of its `state_dict()`;
a sparse or nested tensor gives its parts. A quantized tensor is read as its integers. A container that is reached
twice is walked once, so that shared and circular structures cost what they take in the file.

Sources: pytorch/pytorch, 2.13: `torch/serialization.py` (persistent ids), `torch/_utils.py` (rebuild functions),
`torch/_tensor.py` (their arguments), `torch/_weights_only_unpickler.py` (harmless names); CPython `pickletools`.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.model import encodings
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import Kind

MAX_OPCODES = 6_000_000
"""A tensor takes 30 to 45 of them, and a million of them about a second."""
MAX_DEPTH = 100
MAX_NAME_CHARACTERS = 1000
MAX_NAMES_CHARACTERS = 32 * 1024 * 1024
"""Of all names together, those of containers included."""
MAX_DIMS = 64
MAX_KEPT = 100
"""Foreign names, aliases and plain values that are kept to be shown."""
WRAPPERS = frozenset({"state_dict", "model", "model_state_dict", "module", "params"})

_DO_NOT_USE = "do not use this file: torch.save never writes such a one"
_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
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
_REBUILDS = {
    "torch._utils._rebuild_tensor": (4, 4),
    "torch._utils._rebuild_tensor_v2": (6, 7),
    "torch._utils._rebuild_tensor_v3": (7, 8),
    "torch._utils._rebuild_qtensor": (7, 7),
}
"""Each takes a storage, an offset, a size and a stride first. The fewest and the most arguments."""
_WRAPPED = frozenset(
    f"torch._utils._rebuild_{name}" for name in ("parameter", "parameter_with_state", "device_tensor_from_cpu_tensor")
)
"""Each takes a tensor first and gives it back."""
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_SPARSE, _META = "torch._utils._rebuild_sparse_tensor", "torch._utils._rebuild_meta_tensor_no_storage"
_BUILTINS = ("builtins", "__builtin__")
_DICTS = frozenset(
    {"collections.OrderedDict", "collections.defaultdict", "collections.Counter"} | {f"{m}.dict" for m in _BUILTINS}
)
_PLAIN = ("bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "list", "set", "str", "tuple")
_HARMLESS = (
    frozenset(_STORAGES) | frozenset(_DTYPES) | frozenset(_REBUILDS) | _WRAPPED | _DICTS
    | {f"{module}.{name}" for module in _BUILTINS for name in _PLAIN}
    | {_FROM_TYPE, _SPARSE, _META, "torch._utils._rebuild_nested_tensor", "torch.Size", "torch.device", "torch.dtype",
       "torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.parameter.Buffer", "torch.serialization._get_layout",
       "torch._utils._rebuild_wrapper_subclass", "torch._utils._rebuild_device_tensor_from_numpy",
       "torch.per_tensor_affine", "torch.per_channel_affine", "torch.per_channel_affine_float_qparams",
       "argparse.Namespace", "_codecs.encode", "pathlib.PosixPath", "pathlib.WindowsPath", "numpy.dtype",
       "numpy.ndarray", "numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar",
       "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}
)  # fmt: skip
_LITERALS = frozenset(
    {
        "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "NONE", "NEWTRUE",
        "NEWFALSE", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
        "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    }
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}


@dataclass(frozen=True, slots=True, eq=False)
class Storage:
    """A stretch of bytes in another entry of the archive, as the pickle describes it."""

    encoding: Encoding
    key: str
    elements: int


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A view of a storage. `offset` and `stride` count elements of `encoding`."""

    storage: Storage
    encoding: Encoding
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def extent(self) -> int:
        """Elements of the storage from the tensor's first to its last one; 0 for an empty tensor."""
        return 1 + sum((n - 1) * s for n, s in zip(self.shape, self.stride, strict=True)) if all(self.shape) else 0


@dataclass(frozen=True, slots=True)
class TensorTable:
    """The tensors under their names. `wrapper` is the key that was stripped from the names, `aliases` the paths (with
    the wrapper) that lead to a container already walked, `values` the plain values at the top.
    """

    tensors: tuple[tuple[str, Tensor, Kind], ...]
    storages: tuple[Storage, ...]
    wrapper: str
    foreign_names: tuple[str, ...]
    aliases: dict[str, str]
    values: dict[str, Any]


def read(file: str, data: bytes) -> TensorTable:
    """The tensor table of the pickle `data`; `file` is for messages.

    Raises:
        FormatError: for damage, for what torch does not write, and when no tensor can be told without running code.

    Example:
        >>> read("a.pt", b"}.").tensors
        ()
    """
    walk = _Walk(file)
    root = walk.run(data)
    names = _Names(file, root)
    foreign = tuple(sorted(walk.foreign))
    if not names.found and (foreign or not isinstance(root, _Node | tuple)):
        what = f"names {', '.join(foreign[:3])}" if foreign else "holds one plain value"
        _fail(file, f"{what} and has no tensor", "tensors in dicts and lists", _UNTRUSTED)
    paths = [path for path, _, _ in names.found]
    heads = set(names.heads)
    wrapper = heads.pop() if len(heads) == 1 else ""
    if not (isinstance(root, _Node) and root.keys is not None and wrapper in WRAPPERS and wrapper not in paths):
        wrapper = ""
    aliases = {a: b for a, b in names.aliases.items() if b and any(p == b or p.startswith(b + ".") for p in paths)}
    strip = len(wrapper) + 1 if wrapper else 0
    tensors = tuple((path[strip:], tensor, kind) for path, tensor, kind in names.found)
    taken: set[str] = set()
    for name, _, _ in tensors:
        if name in taken:
            _fail(file, f"has two tensors named {name[:100]!r}", "names of their own", _DO_NOT_USE)
        taken.add(name)
    return TensorTable(tensors, tuple(walk.storages.values()), wrapper, foreign, aliases, _kept_values(root))


def _fail(file: str, what: str, expected: str, action: str) -> NoReturn:
    raise FormatError(f"{file}: data.pkl {what}", expected, action)


@dataclass(frozen=True, slots=True)
class _Name:
    """A global: the text `module.name`, never looked up."""

    name: str


class _Node:
    """A dict, a list (without keys), or with a name the result of a call that was not made."""

    __slots__ = ("keys", "name", "state", "values")

    def __init__(self, keys: list[Any] | None, values: list[Any], name: str = "", state: Any = None) -> None:
        self.keys, self.values, self.name, self.state = keys, values, name, state

    def put(self, key: Any, value: Any) -> None:
        if self.keys is None:
            self.keys = list(range(len(self.values)))
        self.keys.append(key)
        self.values.append(value)


class _Walk:
    """The pickle's opcodes over symbols: a stack, its marks and a memo."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}
        self.foreign: set[str] = set()

    def fail(self, what: str, expected: str = "a pickle of torch.save", action: str = _DO_NOT_USE) -> NoReturn:
        _fail(self.file, what, expected, action)

    def run(self, data: bytes) -> Any:
        """The saved object, as symbols."""
        try:
            for i, (opcode, argument, _) in enumerate(pickletools.genops(data)):
                if i == MAX_OPCODES:
                    self.fail(f"has more than {MAX_OPCODES:,} opcodes")
                if opcode.name in _LITERALS:
                    self.stack.append(_CONSTANTS.get(opcode.name, argument))
                else:
                    self.step(opcode.name, argument)
        # What genops raises for bad lengths, bad text, unknown opcodes and a missing STOP.
        except ValueError as error:
            self.fail(f"is damaged ({ascii(str(error)[:100])[1:-1]})", "a whole pickle", _GET_AGAIN)
        return self.pop()

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            self.fail("has fewer values than its opcodes take", "a whole pickle", _GET_AGAIN)
        return self.stack.pop()

    def top(self) -> Any:
        self.stack.append(value := self.pop())
        return value

    def pop_mark(self) -> list[Any]:
        if not self.marks:
            self.fail("has an opcode that lacks its mark", "a whole pickle", _GET_AGAIN)
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def step(self, name: str, argument: Any) -> None:
        push = self.stack.append
        match name:
            case "BINGET" | "LONG_BINGET" | "GET":
                if argument not in self.memo:
                    self.fail(f"recalls the value {str(argument)[:20]}, which it never kept", action=_GET_AGAIN)
                push(self.memo[argument])
            case "BINPUT" | "LONG_BINPUT" | "PUT":
                self.memo[argument] = self.top()
            case "MEMOIZE":
                self.memo[len(self.memo)] = self.top()
            case "MARK":
                self.marks.append(len(self.stack))
            case "TUPLE" | "FROZENSET":
                push(tuple(self.pop_mark()))
            case "TUPLE1":
                push((self.pop(),))
            case "TUPLE2" | "TUPLE3":
                push(tuple([self.pop() for _ in range(int(name[-1]))][::-1]))
            case "EMPTY_TUPLE":
                push(())
            case "BINPERSID":
                push(self.storage(self.pop()))
            case "REDUCE" | "NEWOBJ" | "NEWOBJ_EX":
                if name == "NEWOBJ_EX":
                    self.pop()
                arguments = self.pop()
                push(self.call(self.pop(), arguments))
            case "GLOBAL":
                push(self.named(argument.replace(" ", ".", 1)))
            case "STACK_GLOBAL":
                last, module = self.pop(), self.pop()
                if type(last) is not str or type(module) is not str:
                    self.fail("has a name that is no text")
                push(self.named(f"{module}.{last}"))
            case "BUILD":
                state, target = self.pop(), self.top()
                # The state of a dict is OrderedDict's `_metadata`; that of a tensor or a name holds no weights.
                if isinstance(target, _Node) and target.name:
                    target.state = state
            case "EMPTY_DICT":
                push(_Node([], []))
            case "EMPTY_LIST" | "EMPTY_SET":
                push(_Node(None, []))
            case "SETITEMS" | "SETITEM":
                self.put(self.pop_mark() if name == "SETITEMS" else [self.pop(), self.pop()][::-1])
            case "APPENDS" | "ADDITEMS" | "APPEND":
                self.add([self.pop()] if name == "APPEND" else self.pop_mark())
            case "DUP":
                push(self.top())
            case "POP":
                # As in CPython, POP takes a mark when nothing lies above it.
                if self.marks and self.marks[-1] == len(self.stack):
                    self.marks.pop()
                else:
                    self.pop()
            case "POP_MARK":
                self.pop_mark()
            case "PROTO" | "FRAME" | "STOP":
                if name == "PROTO" and argument > 5:
                    self.fail(f"has protocol {argument}", "protocol 2 to 5", "update Weighbridge")
            case _:  # protocols 0 and 1, which cannot hold storages, and references to what the pickle does not hold
                self.fail(f"has the opcode {name}")

    def container(self, kind: str) -> _Node:
        value = self.top()
        if not isinstance(value, _Node) or (not value.name and (value.keys is None) != (kind == "list")):
            self.fail(f"adds items of a {kind} to what is none")
        return value

    def add(self, items: list[Any]) -> None:
        node = self.container("list")
        node.values += items
        if node.keys is not None:
            node.keys += range(len(node.keys), len(node.values))

    def put(self, items: list[Any]) -> None:
        node = self.container("dict")
        if len(items) % 2:
            self.fail("has a key without a value")
        for i in range(0, len(items), 2):
            node.put(items[i], items[i + 1])

    def named(self, name: str) -> _Name:
        if name not in _HARMLESS and len(self.foreign) < MAX_KEPT:
            self.foreign.add(ascii(name[:200])[1:-1])
        return _Name(name)

    def storage(self, key: Any) -> Storage:
        match key:
            case ("storage", _Name(name=kind), str(key), str(), int(elements)) if 0 <= elements < 2**63:
                pass
            case _:
                self.fail("has a persistent id that is no storage")
        encoding = _STORAGES.get(kind)
        if encoding is None:
            self.fail(f"has the storage type {kind[:100]!r}", "a type of whole bytes such as FloatStorage", _SAVE_AGAIN)
        known = self.storages.setdefault(key, Storage(encoding, key, elements))
        if (known.encoding, known.elements) != (encoding, elements):
            self.fail(f"gives storage {key[:100]!r} two types or lengths")
        return known

    def call(self, callee: Any, arguments: Any) -> Any:
        """What a call would give: a tensor, a container or an opaque node. Nothing is called."""
        name = callee.name if isinstance(callee, _Name) else "a computed callable"
        if name not in _HARMLESS:
            return _Node(None, list(arguments) if isinstance(arguments, tuple) else [], name)
        if not isinstance(arguments, tuple):
            self.fail(f"calls {name} without arguments")
        state = None
        if name == _FROM_TYPE:
            match arguments:
                case (_Name(name=inner), _, tuple(given), state) if inner != _FROM_TYPE:
                    name, arguments = inner, given
                case _:
                    self.fail(f"calls {_FROM_TYPE} with other arguments than torch")
        if name in _REBUILDS:
            return self.tensor(name, arguments)
        if name in _DICTS:
            return self.dictionary(arguments)
        first = arguments[0] if arguments else None
        if name in _WRAPPED:
            if not isinstance(first, Tensor | _Node):
                self.fail("has a parameter that is no tensor")
            return first
        if name == _META:
            self.fail("has a meta tensor, which stores nothing", "tensors with data", _SAVE_AGAIN)
        if name == "torch.Size" and isinstance(first, tuple):
            return first
        if name == _SPARSE and len(arguments) == 2 and isinstance(arguments[1], tuple):
            return arguments[1]
        return _Node(None, list(arguments), name, state)

    def dictionary(self, arguments: tuple[Any, ...]) -> _Node:
        node = _Node([], [])
        given = next((x for x in arguments if isinstance(x, _Node)), None)
        if given is not None and given.keys is not None:
            node.keys, node.values = list(given.keys), list(given.values)
        elif given is not None:
            for item in given.values:
                pair = item.values if isinstance(item, _Node) else item
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    self.fail("makes a dict of other items than pairs")
                node.put(*pair)
        return node

    def tensor(self, name: str, arguments: tuple[Any, ...]) -> Tensor:
        fewest, most = _REBUILDS[name]
        if not fewest <= len(arguments) <= most or not isinstance(arguments[0], Storage):
            self.fail(f"calls {name} with other arguments than torch")
        storage, offset, shape, stride = arguments[:4]
        encoding = storage.encoding
        if name.endswith("_v3"):
            dtype = arguments[6].name if isinstance(arguments[6], _Name) else "none"
            if dtype not in _DTYPES:
                self.fail(f"has the element type {dtype[:100]!r}", "a type of whole bytes", _SAVE_AGAIN)
            encoding = _DTYPES[dtype]
        if not isinstance(shape, tuple) or not isinstance(stride, tuple) or len(shape) != len(stride):
            self.fail("has a tensor whose size and stride differ in length")
        if len(shape) > MAX_DIMS or not all(type(x) is int and 0 <= x < 2**63 for x in (offset, *shape, *stride)):
            self.fail("has a tensor whose size, stride or offset is no count")
        tensor = Tensor(storage, encoding, offset, shape, stride)
        held = storage.elements * storage.encoding.bytes_per_block // encoding.bytes_per_block
        if math.prod(shape) >= 2**63 or (tensor.extent and offset + tensor.extent > held):
            self.fail(f"has a tensor that reaches past the {held:,} elements of its storage {storage.key[:100]!r}")
        return tensor


class _Names:
    """The walk from the saved object to its tensors, which gives them their names."""

    def __init__(self, file: str, root: Any) -> None:
        self.file = file
        self.found: list[tuple[str, Tensor, Kind]] = []
        self.heads: list[str] = []
        """For each tensor, the key at the top that leads to it."""
        self.aliases: dict[str, str] = {}
        seen: dict[int, str] = {}
        characters = 0
        head = ""
        walks: list[tuple[str, Iterator[tuple[str, Any, Kind]]]] = [("", iter([("", root, Kind.PARAMETER)]))]
        while walks:
            prefix, children = walks[-1]
            item = next(children, None)
            if item is None:
                walks.pop()
                continue
            part, value, kind = item
            if not isinstance(value, Tensor | _Node | tuple) or value == ():
                continue
            path = f"{prefix}.{part}" if prefix and part else prefix or part
            if len(walks) == 2:
                head = part
            characters += len(path)
            if len(path) > MAX_NAME_CHARACTERS or not path.isprintable() or len(walks) > MAX_DEPTH:
                what = f"has the name {path[:60]!r} ({len(path)} characters, {len(walks)} levels)"
                _fail(file, what, "printable names as deep as a model's", _DO_NOT_USE)
            if characters > MAX_NAMES_CHARACTERS:
                _fail(file, "has too many long names", f"at most {MAX_NAMES_CHARACTERS:,} characters", _DO_NOT_USE)
            if isinstance(value, Tensor):
                self.found.append((path or "tensor", value, kind))
                self.heads.append(head)
            elif id(value) not in seen:
                seen[id(value)] = path
                walks.append((path, self.children(value, path, kind)))
            elif len(self.aliases) < MAX_KEPT and seen[id(value)] != path:
                self.aliases[path] = seen[id(value)]

    def children(self, value: _Node | tuple[Any, ...], path: str, kind: Kind) -> Iterator[tuple[str, Any, Kind]]:
        keys = None if isinstance(value, tuple) else value.keys
        taken: set[str] = set()
        for i, child in enumerate(value if isinstance(value, tuple) else value.values):
            text = str(i)
            if keys is not None:
                text = _key_text(keys[i], i)
                if text in taken:
                    what = f"has the key {text[:100]!r} twice in {path[:100] or 'its dict'!r}"
                    _fail(self.file, what, "keys of their own", _DO_NOT_USE)
                taken.add(text)
            yield text, child, kind
        if isinstance(value, tuple) or value.state is None:
            return
        # The state of an object with slots is the pair of its dict and theirs.
        for state in value.state if isinstance(value.state, tuple) else (value.state,):
            if isinstance(state, _Node) and state.keys is not None:
                for i, (key, child) in enumerate(zip(state.keys, state.values, strict=True)):
                    text = _key_text(key, i)
                    # The three dicts of a torch.nn.Module, which `state_dict()` leaves out of its names.
                    inside = text in ("_parameters", "_buffers", "_modules")
                    yield "" if inside else text, child, Kind.BUFFER if text == "_buffers" else kind


def _is_plain(value: Any) -> bool:
    return type(value) in (bool, float) or (type(value) is int and abs(value) < 2**63)


def _key_text(key: Any, index: int) -> str:
    """A dict's key as a part of a name; `#3` for the fourth key when it is no plain value."""
    if type(key) is str:
        return key
    return str(key) if _is_plain(key) or key is None else f"#{index}"


def _kept_values(root: Any) -> dict[str, Any]:
    """The first plain values at the top: epochs, losses, versions."""
    if not isinstance(root, _Node) or root.keys is None:
        return {}
    plain = (
        (key, value)
        for key, value in zip(root.keys, root.values, strict=True)
        if type(key) is str and key.isprintable() and len(key) <= MAX_NAME_CHARACTERS
        if _is_plain(value) or (type(value) is str and len(value) <= 200)
    )
    return dict(islice(plain, MAX_KEPT))
