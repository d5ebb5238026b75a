"""Which datasets does an HDF5 file hold, and where are their bytes? Groups, attributes and datasets, read from
their object headers; no library of HDF5 takes part, and no plug-in is loaded.

An object is a header of messages: links or a symbol table make it a group, a type with a shape and a layout make it a
dataset. Links that lead out of the file (external links), to another path (soft links) and to the program that opens
it (user-defined ones) are never followed; of what several hard links lead to, each is read once. Datasets whose bytes
lie in other files (external storage, virtual datasets) are left out with the reason.

Source: HDF5 File Format Specification, version 3.0, sections III.A to III.C and IV.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from weighbridge.formats import hdf5_storage, hdf5_types
from weighbridge.formats.byte_source import ByteSource
from weighbridge.formats.hdf5_blocks import Blocks, Cursor, HeapID
from weighbridge.formats.hdf5_storage import Space, Storage
from weighbridge.formats.hdf5_types import Datatype

MAX_LINKS = 200_000
MAX_MESSAGES = 300_000
"""Of all object headers together: a dataset has about ten."""
MAX_DEPTH = 64
MAX_PATH_CHARACTERS = 1000
MAX_TEXT_BYTES = 32 * 2**20
"""Of all attributes together."""

_DATASPACE, _LINK_INFO, _DATATYPE, _LINK, _EXTERNAL, _LAYOUT, _FILTERS = 0x1, 0x2, 0x3, 0x6, 0x7, 0x8, 0xB
_ATTRIBUTE, _CONTINUATION, _SYMBOL_TABLE, _ATTRIBUTE_INFO = 0xC, 0x10, 0x11, 0x15
_GROUP = frozenset({_LINK_INFO, _LINK, 0xA, _SYMBOL_TABLE})


class Message(NamedTuple):
    """One message of an object header; its bytes begin at the address `at`."""

    kind: int
    is_shared: bool
    at: int
    data: bytes


class Link(NamedTuple):
    """A name in a group. `address` is None for a link that is not followed; `why` then says what it is."""

    name: str
    address: int | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Dataset:
    """One array. Where it cannot be counted or found, `left_out` says why and `encoding` is None."""

    path: str
    shape: tuple[int, ...]
    datatype: Datatype
    storage: Storage | None
    left_out: str = ""
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def elements(self) -> int:
        """The product of the shape."""
        return math.prod(self.shape)


@dataclass(slots=True)
class Contents:
    """What a file holds.

    `attributes` are the texts of groups, by the group's path; `aliases` the second paths of datasets; `left_out` says
    of links and datasets that are not among `datasets` why.
    """

    datasets: dict[str, Dataset] = field(default_factory=dict)
    attributes: dict[str, dict[str, tuple[str, ...]]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


class Hdf5:
    """One file.

    Args:
        source: the file.
        wanted: which attributes are read, by name; the others are skipped.

    Raises:
        FormatError: when it is no HDF5 file, or damaged.
    """

    def __init__(self, source: ByteSource, wanted: Callable[[str], bool]) -> None:
        self._blocks = Blocks(source)
        self._wanted = wanted
        self._links = self._text_bytes = self._messages_read = 0

    @property
    def digest(self) -> str:
        """The SHA-256 of the blocks that were read."""
        return self._blocks.digest.hexdigest()

    def contents(self) -> Contents:
        """All objects that hard links lead to, each once."""
        found = Contents()
        seen: dict[int, str] = {}
        waiting = [("", self._blocks.root, 0)]
        while waiting:
            path, address, depth = waiting.pop()
            if address in seen:
                first = seen[address]
                if first in found.datasets:
                    found.aliases[path] = first
                else:
                    found.left_out[path] = f"leads to the group {'/' + first!r} again"
                continue
            if depth > MAX_DEPTH:
                self._blocks.fail(f"more than {MAX_DEPTH} groups in groups", "fewer")
            seen[address] = path
            messages = self._messages(address)
            kinds = {message.kind for message in messages}
            if kinds & _GROUP:
                found.attributes[path] = self._attributes(messages)
                for link in reversed(self._group(messages)):
                    inside = f"{path}/{link.name}" if path else link.name
                    if len(inside) > MAX_PATH_CHARACTERS:
                        self._blocks.fail(f"a path of {len(inside):,} characters", f"at most {MAX_PATH_CHARACTERS:,}")
                    if link.address is None:
                        found.left_out[inside] = link.why
                    else:
                        waiting.append((inside, link.address, depth + 1))
            elif {_DATASPACE, _DATATYPE, _LAYOUT} <= kinds:
                dataset = self._dataset(path, messages)
                if dataset.left_out:
                    found.left_out[path] = dataset.left_out
                else:
                    # The places of chunks are many, and only `dataset` needs them.
                    storage = replace(dataset.storage, chunks=()) if dataset.storage else None
                    found.datasets[path] = replace(dataset, storage=storage)
        return found

    def dataset(self, path: str) -> Dataset:
        """The dataset at a path, without reading the groups beside it.

        Raises:
            FormatError: when there is none that can be read.
        """
        address = self._blocks.root
        for part in path.split("/"):
            links = {link.name: link for link in self._group(self._messages(address))}
            found = links[part].address if part in links else None
            if found is None:
                self._blocks.fail(f"it has no dataset {path[:200]!r}", "the file as it was when it was first read")
            address = found
        dataset = self._dataset(path, self._messages(address))
        if dataset.left_out:
            self._blocks.fail(f"the dataset {path[:200]!r} is one that {dataset.left_out}", "one that can be read")
        return dataset

    def pieces(self, found: Dataset) -> Iterator[bytes]:
        """The bytes of what `dataset` returned, its last axis running fastest.

        Raises:
            FormatError: when what is packed does not unpack to its size.
        """
        if found.storage is not None and found.elements:
            yield from hdf5_storage.pieces(self._blocks, found.storage, found.shape, found.datatype.size)

    def _messages(self, address: int) -> list[Message]:
        """The messages of an object header, those of its continuation blocks included."""
        blocks = self._blocks
        head = blocks.cursor(address, 6)
        begin = head.take(4)
        messages: list[Message] = []
        if begin == b"OHDR":
            if head.number(1) != 2:
                blocks.fail("an object header of another version", "version 1 or 2")
            flags = head.number(1)
            width, before = 1 << (flags & 3), 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            size = blocks.cursor(address + before, width).number(width)
            stretches = [(address + before + width, size)]
            for at, length in stretches:
                self._take_messages(at, length, 6 if flags & 4 else 4, messages, stretches)
        elif begin[0] == 1:
            size = blocks.cursor(address + 8, 4).number(4)
            stretches = [(address + 16, size)]
            for at, length in stretches:
                self._take_messages(at, length, 8, messages, stretches)
        else:
            blocks.fail(f"an object header that begins with {begin!r}", "version 1 or 2")
        return messages

    def _take_messages(
        self, at: int, length: int, head_bytes: int, messages: list[Message], stretches: list[tuple[int, int]]
    ) -> None:
        """The messages of one block; continuations are put behind the other blocks."""
        blocks = self._blocks
        cursor = blocks.cursor(at, length)
        if head_bytes < 8 and len(stretches) > 1:
            cursor.signed_as(b"OCHK")
        # A gap too small for a message may be left at the end.
        while cursor.left >= head_bytes:
            self._messages_read += 1
            if self._messages_read > MAX_MESSAGES:
                blocks.fail(f"more than {MAX_MESSAGES:,} messages in its object headers", "fewer")
            kind = cursor.number(2 if head_bytes == 8 else 1)
            size, flags = cursor.number(2), cursor.number(1)
            cursor.take(head_bytes - (5 if head_bytes == 8 else 4))
            place = at + cursor.at
            data = cursor.take(size)
            if kind == _CONTINUATION:
                more = Cursor(blocks.name, data)
                where, size = more.number(blocks.offset_bytes), more.number(blocks.length_bytes)
                # The checksum at the end of a block of version 2 is not part of its messages.
                stretches.append((where, size if head_bytes == 8 else max(0, size - 4)))
            elif kind:
                messages.append(Message(kind, bool(flags & 2), place, data))

    def _message(self, messages: Iterable[Message], kind: int) -> Message | None:
        """The message of a kind, from the place where it is shared; None when there is none."""
        found = next((message for message in messages if message.kind == kind), None)
        if found is None or not found.is_shared:
            return found
        return self._shared(Cursor(self._blocks.name, found.data), kind)

    def _shared(self, cursor: Cursor, kind: int) -> Message:
        """The message that a reference leads to: one of a committed datatype."""
        version, place = cursor.number(1), cursor.number(1)
        if version == 1:
            cursor.take(6)
        if version > 3 or (version == 3 and place != 2):
            self._blocks.fail("a message in a heap of shared messages", "messages in their own object")
        messages = self._messages(cursor.number(self._blocks.offset_bytes))
        found = next((message for message in messages if message.kind == kind), None)
        if found is None or found.is_shared:
            self._blocks.fail("a shared message that is not where it should be", "the message itself")
        return found

    def _group(self, messages: list[Message]) -> list[Link]:
        """The links of a group, sorted by name."""
        blocks = self._blocks
        links: list[Link] = []
        for message in messages:
            cursor = Cursor(blocks.name, message.data)
            if message.kind == _SYMBOL_TABLE:
                links += self._symbols(cursor.number(blocks.offset_bytes), cursor.number(blocks.offset_bytes))
            elif message.kind == _LINK:
                links.append(self._link(message.data))
            elif message.kind == _LINK_INFO:
                cursor.take(1)
                cursor.take(8 if cursor.number(1) & 1 else 0)
                dense = HeapID(cursor.number(blocks.offset_bytes), cursor.number(blocks.offset_bytes))
                if dense.heap != blocks.none:
                    links += [self._link(data) for data in blocks.heap_objects(dense, 4)]
        self._links += len(links)
        names = {link.name for link in links}
        if len(names) != len(links) or self._links > MAX_LINKS:
            blocks.fail("a group with two links of one name, or too many links", f"names of their own, {MAX_LINKS:,}")
        if any(not name or "/" in name or name == "." for name in names):
            blocks.fail("a link whose name is a path", "plain names")
        return sorted(links)

    def _symbols(self, tree: int, heap: int) -> list[Link]:
        """The links of a group of the old style: a tree of version 1, whose leaves are tables of symbols."""
        blocks = self._blocks
        names, names_bytes = blocks.local_heap(heap)
        offset = blocks.offset_bytes
        links: list[Link] = []
        nodes = [tree]
        while nodes:
            at = nodes.pop()
            if blocks.read(at, 4) == b"TREE":
                nodes += [child for _, child in blocks.tree_entries(at, 0, blocks.length_bytes)[1]]
                continue
            head = blocks.cursor(blocks.once(at), 8).signed_as(b"SNOD", 1)
            head.take(1)
            count = head.number(2)
            entries = blocks.cursor(at + 8, count * (2 * offset + 24))
            for _ in range(count):
                name_at, address, cached = entries.number(offset), entries.number(offset), entries.number(4)
                entries.take(20)
                name = blocks.text_at(names + name_at, names_bytes - name_at)
                links.append(Link(name, None, "is a soft link") if cached == 2 else Link(name, address))
        return links

    def _link(self, data: bytes) -> Link:
        """The link of a link message."""
        blocks = self._blocks
        cursor = Cursor(blocks.name, data)
        version, flags = cursor.number(1), cursor.number(1)
        if version != 1:
            blocks.fail(f"a link message of version {version}", "version 1")
        kind = cursor.number(1) if flags & 8 else 0
        cursor.take((8 if flags & 4 else 0) + (1 if flags & 0x10 else 0))
        name = cursor.take(cursor.number(1 << (flags & 3))).decode("utf-8", "replace")
        if kind == 0:
            return Link(name, cursor.number(blocks.offset_bytes))
        return Link(name, None, {1: "is a soft link", 64: "is a link to another file"}.get(kind, "is a foreign link"))

    def _attributes(self, messages: list[Message]) -> dict[str, tuple[str, ...]]:
        """The wanted attributes that are texts."""
        blocks = self._blocks
        bodies = [message.data for message in messages if message.kind == _ATTRIBUTE and not message.is_shared]
        info = next((message.data for message in messages if message.kind == _ATTRIBUTE_INFO), None)
        if info is not None:
            cursor = Cursor(blocks.name, info)
            cursor.take(1)
            cursor.take(2 if cursor.number(1) & 1 else 0)
            dense = HeapID(cursor.number(blocks.offset_bytes), cursor.number(blocks.offset_bytes))
            if dense.heap != blocks.none:
                bodies += blocks.heap_objects(dense, 0)
        found: dict[str, tuple[str, ...]] = {}
        for body in bodies:
            name, values = self._attribute(body)
            if values is not None:
                found[name] = values
        return found

    def _attribute(self, body: bytes) -> tuple[str, tuple[str, ...] | None]:
        """Name and texts of an attribute; None when it is not wanted or no text."""
        blocks = self._blocks
        cursor = Cursor(blocks.name, body)
        version, flags = cursor.number(1), cursor.number(1)
        if not 1 <= version <= 3:
            blocks.fail(f"an attribute of version {version}", "version 1 to 3")
        sizes = [cursor.number(2) for _ in range(3)]
        cursor.take(1 if version == 3 else 0)
        padding = 8 if version == 1 else 1
        parts = [cursor.take(size + -size % padding)[:size] for size in sizes]
        name = parts[0].partition(b"\0")[0].decode("utf-8", "replace")
        if not self._wanted(name):
            return name, None
        type_cursor = Cursor(blocks.name, parts[1])
        if version > 1 and flags & 1:
            type_cursor = Cursor(blocks.name, self._shared(type_cursor, _DATATYPE).data)
        datatype, space = hdf5_types.read(type_cursor), self._shape(parts[2])
        if not datatype.is_text or space is None or (version > 1 and flags & 2):
            return name, None
        count = math.prod(space.shape)
        if count * datatype.size > cursor.left or datatype.size == 0:
            blocks.fail(f"an attribute of {count:,} texts in {cursor.left:,} bytes", "as many bytes as they take")
        texts: list[str] = []
        for _ in range(count):
            raw = cursor.take(datatype.size)
            if datatype.kind == hdf5_types.VARIABLE:
                at = Cursor(blocks.name, raw)
                length, address, index = at.number(4), at.number(blocks.offset_bytes), at.number(4)
                raw = blocks.global_object(address, index)[:length] if length else b""
            self._text_bytes += len(raw)
            if self._text_bytes > MAX_TEXT_BYTES:
                blocks.fail(f"more than {MAX_TEXT_BYTES:,} bytes of attributes", "fewer")
            texts.append(raw.rstrip(b"\0").decode("utf-8", "replace"))
        return name, tuple(texts)

    def _shape(self, data: bytes) -> Space | None:
        """What a dataspace message gives; None for a null one."""
        cursor = Cursor(self._blocks.name, data)
        version, rank = cursor.number(1), cursor.number(1)
        flags, kind = cursor.number(1), cursor.number(1)
        if version == 1:
            cursor.take(4)
        if version not in (1, 2) or rank > 32:
            self._blocks.fail(f"a shape of version {version} with {rank} axes", "version 1 or 2, at most 32 axes")
        if version == 2 and kind == 2:
            return None
        width = self._blocks.length_bytes
        shape = tuple(cursor.number(width) for _ in range(rank))
        largest = tuple(cursor.number(width) for _ in range(rank)) if flags & 1 else shape
        if math.prod(shape) >= 2**63 or any(length >= 2**63 for length in shape):
            self._blocks.fail(f"a shape of 2^{math.prod(shape).bit_length() - 1} elements", "fewer than 2^63")
        return Space(shape, largest)

    def _dataset(self, path: str, messages: list[Message]) -> Dataset:
        shape, kind, layout = (self._message(messages, k) for k in (_DATASPACE, _DATATYPE, _LAYOUT))
        if shape is None or kind is None or layout is None:
            self._blocks.fail(f"{path[:200]!r} is no dataset", "a dataset")
        datatype = hdf5_types.read(Cursor(self._blocks.name, kind.data))
        attributes = self._attributes(messages)
        space = self._shape(shape.data)
        if space is None:
            return Dataset(path, (), datatype, None, "holds nothing")
        if any(message.kind == _EXTERNAL for message in messages):
            return Dataset(path, space.shape, datatype, None, "keeps its bytes in other files")
        filters = self._message(messages, _FILTERS)
        storage = hdf5_storage.read_storage(
            self._blocks, layout.data, layout.at, None if filters is None else filters.data, space, datatype.size
        )
        if isinstance(storage, str):
            return Dataset(path, space.shape, datatype, None, storage)
        return Dataset(path, space.shape, datatype, storage, attributes=attributes)
