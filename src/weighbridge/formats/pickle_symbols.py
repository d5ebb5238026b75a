"""What does a pickle describe, and under which paths? Nothing in it is ever run.

The pickle is walked opcode by opcode over symbols: no name in it is imported, no callable called. A global is its
name; a dict or list is a node; any call is an opaque node that keeps its arguments and its state, unless a subclass of
`Walk` knows what the call would give. A byte string is its place in the stream and is not read.

Paths are `model.layers.0.weight`; lists count from 0. A container that is reached twice is walked once, so that shared
and circular structures cost what they take in the file.

Source: CPython, `pickletools` and `pickle`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.pickle_stream import Stream
from weighbridge.model.tensors import Kind

MAX_OPCODES = 6_000_000
"""A tensor takes 30 to 45 of them, and a million of them about a second."""
PACKED_OPCODES = 250_000
OPCODES_PER_PACKED_BYTE = 5
"""What a packed pickle may have at once, and for each byte that is stored: a deflated table of tensors has 2 or 3."""
MAX_DEPTH = 100
MAX_NAME_CHARACTERS = 1000
MAX_NAMES_CHARACTERS = 32 * 1024 * 1024
"""Of all paths together, those of containers included."""
MAX_KEPT = 100
"""Foreign names, aliases and plain values that are kept to be shown."""

GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"
DO_NOT_USE = "do not use this file: no library writes such a one"

_LITERALS = frozenset(
    {
        "BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "NONE", "NEWTRUE",
        "NEWFALSE", "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
        "BINUNICODE8",
    }
)  # fmt: skip
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_OPCODES: dict[bytes, tuple[str, Any]] = {
    opcode.code.encode("latin-1"): (opcode.name, opcode.arg.reader if opcode.arg else None)
    for opcode in pickletools.opcodes
}
"""The name of each opcode, and what reads its argument from a stream."""
_BYTES = {"SHORT_BINBYTES": 1, "BINBYTES": 4, "BINBYTES8": 8, "BYTEARRAY8": 8}
"""The opcodes of byte strings, and the size of their lengths."""

BUILTINS = ("builtins", "__builtin__")
DICTS = frozenset(
    {"collections.OrderedDict", "collections.defaultdict", "collections.Counter"} | {f"{m}.dict" for m in BUILTINS}
)
_PLAIN = ("bool", "bytearray", "bytes", "complex", "float", "frozenset", "int", "list", "set", "str", "tuple")
PLAIN_NAMES = DICTS | {f"{module}.{name}" for module in BUILTINS for name in _PLAIN} | {"_codecs.encode"}


@dataclass(frozen=True, slots=True)
class Name:
    """A global: the text `module.name`, never looked up."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Stretch:
    """A byte string, by its place in the stream."""

    begin: int
    length: int


class Node:
    """A dict, a list (without keys), or with a name the result of a call that was not made."""

    __slots__ = ("keys", "name", "state", "values")

    def __init__(self, keys: list[Any] | None, values: list[Any], name: str = "", state: Any = None) -> None:
        self.keys, self.values, self.name, self.state = keys, values, name, state

    def put(self, key: Any, value: Any) -> None:
        """Adds an item; a list becomes a dict of its positions."""
        if self.keys is None:
            self.keys = list(range(len(self.values)))
        self.keys.append(key)
        self.values.append(value)

    def get(self, key: str) -> Any:
        """The value of a dict's key; None where there is none."""
        return next(
            (v for k, v in zip(self.keys or (), self.values, strict=False) if type(k) is str and k == key), None
        )


class Walk:
    """The opcodes of a pickle over symbols: a stack, its marks and a memo.

    `where` names the pickle in messages; `stored_bytes` are what it takes in the file, where it may be packed.
    `harmless` are the names that are not told as foreign.
    """

    harmless: frozenset[str] = PLAIN_NAMES

    def __init__(self, where: str, stream: Stream, stored_bytes: int | None = None) -> None:
        self.where, self.stream = where, stream
        self.used = 0
        self.most_opcodes = MAX_OPCODES
        if stored_bytes is not None:
            self.most_opcodes = min(MAX_OPCODES, PACKED_OPCODES + OPCODES_PER_PACKED_BYTE * stored_bytes)
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.foreign: set[str] = set()

    def fail(
        self, what: str, expected: str = "a pickle as its library writes it", action: str = DO_NOT_USE
    ) -> NoReturn:
        """Raises the FormatError that says what the pickle does."""
        raise FormatError(f"{self.where} {what}", expected, action)

    def run(self) -> Any:
        """The pickled object, as symbols. The stream is then behind it.

        Raises:
            FormatError: for damage, for opcodes that no library writes, and for too many of them.
        """
        read, push = self.stream.read, self.stack.append
        try:
            for used in range(self.most_opcodes):
                name, reader = _OPCODES.get(read(1), ("", None))
                if not name:
                    self.fail("ends before its STOP or has an unknown opcode", "a whole pickle", GET_AGAIN)
                if name in _BYTES:
                    self.bytes(_BYTES[name])
                    continue
                argument = None if reader is None else reader(self.stream)
                if name in _LITERALS:
                    push(_CONSTANTS.get(name, argument))
                elif name == "STOP":
                    self.used = used
                    return self.pop()
                else:
                    self.step(name, argument)
        # What the readers of `pickletools` raise for bad lengths, bad text and a missing end.
        except ValueError as error:
            self.fail(f"is damaged ({ascii(str(error)[:100])[1:-1]})", "a whole pickle", GET_AGAIN)
        self.fail(f"has more than {self.most_opcodes:,} opcodes")

    def bytes(self, size_of_length: int) -> None:
        """Steps over a byte string."""
        length = int.from_bytes(self.stream.read(size_of_length), "little")
        self.stack.append(Stretch(self.stream.tell(), length))
        self.stream.skip(length)

    def pop(self) -> Any:
        """The value on top of the stack, taken off."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            self.fail("has fewer values than its opcodes take", "a whole pickle", GET_AGAIN)
        return self.stack.pop()

    def top(self) -> Any:
        """The value on top of the stack."""
        self.stack.append(value := self.pop())
        return value

    def pop_mark(self) -> list[Any]:
        """The values above the last mark, taken off."""
        if not self.marks:
            self.fail("has an opcode that lacks its mark", "a whole pickle", GET_AGAIN)
        mark = self.marks.pop()
        values = self.stack[mark:]
        del self.stack[mark:]
        return values

    def step(self, name: str, argument: Any) -> None:
        """One opcode that is no literal."""
        push = self.stack.append
        match name:
            case "BINGET" | "LONG_BINGET" | "GET":
                if argument not in self.memo:
                    self.fail(f"recalls the value {str(argument)[:20]}, which it never kept", action=GET_AGAIN)
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
                push(self.persistent(self.pop()))
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
                state = self.pop()
                push(self.build(self.pop(), state))
            case "EMPTY_DICT":
                push(Node([], []))
            case "EMPTY_LIST" | "EMPTY_SET":
                push(Node(None, []))
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
            case "PROTO" | "FRAME":
                if name == "PROTO" and argument > 5:
                    self.fail(f"has protocol {argument}", "protocol 2 to 5", "update Weighbridge")
            case _:  # protocols 0 and 1, and references to what the pickle does not hold
                self.fail(f"has the opcode {name}", "a pickle of protocol 2 to 5", "save it with a later protocol")

    def container(self, kind: str) -> Node:
        """The node on top of the stack, to which items are added."""
        value = self.top()
        if not isinstance(value, Node) or (not value.name and (value.keys is None) != (kind == "list")):
            self.fail(f"adds items of a {kind} to what is none")
        return value

    def add(self, items: list[Any]) -> None:
        """Adds items to a list."""
        node = self.container("list")
        node.values += items
        if node.keys is not None:
            node.keys += range(len(node.keys), len(node.values))

    def put(self, items: list[Any]) -> None:
        """Adds keys and their values, in turn, to a dict."""
        node = self.container("dict")
        if len(items) % 2:
            self.fail("has a key without a value")
        for i in range(0, len(items), 2):
            node.put(items[i], items[i + 1])

    def named(self, name: str) -> Name:
        """A global, told as foreign where it is."""
        if name not in self.harmless and not self.is_own(name) and len(self.foreign) < MAX_KEPT:
            self.foreign.add(ascii(name[:200])[1:-1])
        return Name(name)

    def is_own(self, name: str) -> bool:
        """Whether a name belongs to what the file itself describes."""
        return False

    def persistent(self, key: Any) -> Any:
        """What a persistent id stands for."""
        self.fail("refers to what lies outside of it", "a pickle that holds its arrays", "save it with its own library")

    def build(self, target: Any, state: Any) -> Any:
        """What an object is with this state. That of a dict, a tensor or a name holds no weights."""
        if isinstance(target, Node) and target.name:
            target.state = state
        return target

    def call(self, callee: Any, arguments: Any) -> Any:
        """What a call would give: an opaque node, or a container for a dict. Nothing is called."""
        name = callee.name if isinstance(callee, Name) else "a computed callable"
        if name in DICTS and isinstance(arguments, tuple):
            return self.dictionary(arguments)
        return Node(None, list(arguments) if isinstance(arguments, tuple) else [], name)

    def dictionary(self, arguments: tuple[Any, ...]) -> Node:
        """The dict that a call with another dict, or with pairs, would give."""
        node = Node([], [])
        given = next((x for x in arguments if isinstance(x, Node)), None)
        if given is not None and given.keys is not None:
            node.keys, node.values = list(given.keys), list(given.values)
        elif given is not None:
            for item in given.values:
                pair = item.values if isinstance(item, Node) else item
                if not isinstance(pair, list | tuple) or len(pair) != 2:
                    self.fail("makes a dict of other items than pairs")
                node.put(*pair)
        return node


class Paths:
    """The walk from a pickled object to the leaves of one type, which gives them their names.

    `found` are path, leaf and kind of each; `heads` for each the key at the top that leads to it; `aliases` the paths
    that lead to a container already walked.
    """

    def __init__(self, where: str, root: Any, leaf: type) -> None:
        self.where, self.leaf = where, leaf
        self.found: list[tuple[str, Any, Kind]] = []
        self.heads: list[str] = []
        self.aliases: dict[str, str] = {}
        seen: dict[int, str] = {}
        characters = 0
        head = ""
        kinds = (leaf, Node, tuple)
        walks: list[tuple[str, Iterator[tuple[str, Any, Kind]]]] = [("", iter([("", root, Kind.PARAMETER)]))]
        while walks:
            prefix, children = walks[-1]
            item = next(children, None)
            if item is None:
                walks.pop()
                continue
            part, value, kind = item
            if not isinstance(value, kinds) or value == ():
                continue
            path = f"{prefix}.{part}" if prefix and part else prefix or part
            if len(walks) == 2:
                head = part
            characters += len(path)
            if len(path) > MAX_NAME_CHARACTERS or not path.isprintable() or len(walks) > MAX_DEPTH:
                what = f"has the name {path[:60]!r} ({len(path)} characters, {len(walks)} levels)"
                self._fail(what, "printable names as deep as a model's")
            if characters > MAX_NAMES_CHARACTERS:
                self._fail("has too many long names", f"at most {MAX_NAMES_CHARACTERS:,} characters")
            if self.is_leaf(value):
                self.found.append((path or "tensor", value, kind))
                self.heads.append(head)
            elif isinstance(value, Node | tuple) and id(value) not in seen:
                seen[id(value)] = path
                walks.append((path, self._children(value, path, kind)))
            elif len(self.aliases) < MAX_KEPT and seen[id(value)] != path:
                self.aliases[path] = seen[id(value)]

    def is_leaf(self, value: Any) -> bool:
        """Whether a value is what the walk looks for."""
        return isinstance(value, self.leaf)

    def named(self, node: Node, key: str, child: Any, kind: Kind) -> tuple[str, Kind]:
        """The part of the path that an item of an object's state adds, and the kind of what it leads to."""
        return key, kind

    def _fail(self, what: str, expected: str) -> NoReturn:
        raise FormatError(f"{self.where} {what}", expected, DO_NOT_USE)

    def _children(self, value: Node | tuple[Any, ...], path: str, kind: Kind) -> Iterator[tuple[str, Any, Kind]]:
        keys = None if isinstance(value, tuple) else value.keys
        taken: set[str] = set()
        for i, child in enumerate(value if isinstance(value, tuple) else value.values):
            text = str(i)
            if keys is not None:
                text = key_text(keys[i], i)
                if text in taken:
                    what = f"has the key {text[:100]!r} twice in {path[:100] or 'its dict'!r}"
                    self._fail(what, "keys of their own")
                taken.add(text)
            yield text, child, kind
        if isinstance(value, tuple) or not value.name or value.state is None:
            return
        # The state of an object with slots is the pair of its dict and theirs.
        states = value.state if isinstance(value.state, tuple) else (value.state,)
        for place, state in enumerate(states):
            if isinstance(state, Node) and state.keys is not None:
                for i, (key, child) in enumerate(zip(state.keys, state.values, strict=True)):
                    text, inner = self.named(value, key_text(key, i), child, kind)
                    yield text, child, inner
            else:
                yield (f"state.{place}" if value.values else str(place)), state, kind


def is_plain(value: Any) -> bool:
    """Whether a value is a plain number or truth value."""
    return type(value) in (bool, float) or (type(value) is int and abs(value) < 2**63)


def key_text(key: Any, index: int) -> str:
    """A dict's key as a part of a name; `#3` for the fourth key when it is no plain value."""
    if type(key) is str:
        return key
    return str(key) if is_plain(key) or key is None else f"#{index}"


def kept_values(root: Any) -> dict[str, Any]:
    """The first plain values at the top: epochs, losses, versions."""
    if not isinstance(root, Node) or root.keys is None:
        return {}
    plain = (
        (key, value)
        for key, value in zip(root.keys, root.values, strict=True)
        if type(key) is str and key.isprintable() and len(key) <= MAX_NAME_CHARACTERS
        if is_plain(value) or (type(value) is str and len(value) <= 200)
    )
    return dict(islice(plain, MAX_KEPT))
