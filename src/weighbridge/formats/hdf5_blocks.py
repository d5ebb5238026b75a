"""Which blocks of an HDF5 file lie where? Its superblock, and the heaps and trees that its objects are kept in.

Addresses count from the superblock, which lies at byte 0, 512, 1,024 ...; what is before it is the user's. Numbers are
little-endian; addresses and lengths have the widths that the superblock says, and an address of ones alone is none.
Names and small objects lie in heaps (local, global, fractal), which trees of version 1 or 2 lead to. Trees come from
strangers: no block of a tree is walked twice, so that none can lead back to itself.

Source: HDF5 File Format Specification, version 3.0, sections II and III; the widths of counts in trees of version 2
and of offsets in fractal heaps as in HDFGroup/hdf5 `H5B2hdr.c`, `H5HFhdr.c` and `H5HFdtable.c`, release 2.0.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

from weighbridge.errors import FormatError
from weighbridge.formats.byte_source import ByteSource

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_BLOCK_BYTES = 16 * 2**20
MAX_READ_RATIO = 3
"""How often the blocks of a file may be read, all together; a sound file needs each about once."""
PAGE_BYTES = 64 * 1024
MAX_PAGES = 128
MAX_NAME_BYTES = 4096
MAX_USER_BLOCK_BYTES = 2**30

_GET_AGAIN = "it is cut short or damaged: get it again and compare its size with the publisher's"


class Cursor:
    """Bytes that are taken from the front, never past their end."""

    def __init__(self, name: str, data: bytes) -> None:
        self._name, self._data, self.at = name, data, 0

    @property
    def left(self) -> int:
        """How many bytes are not taken yet."""
        return len(self._data) - self.at

    def take(self, length: int) -> bytes:
        """The next bytes.

        Raises:
            FormatError: when there are not so many.
        """
        if not 0 <= length <= self.left:
            fail(self._name, f"a block ends {length - self.left:,} bytes early", "whole blocks")
        self.at += length
        return self._data[self.at - length : self.at]

    def number(self, length: int) -> int:
        """The next bytes as an unsigned number."""
        return int.from_bytes(self.take(length), "little")

    def signed_as(self, signature: bytes, version: int | None = None) -> Cursor:
        """Itself, when the next bytes are this signature and, where one is given, this version."""
        found = self.take(4)
        if found != signature or (version is not None and self.number(1) != version):
            fail(self._name, f"a block begins with {found!r}", f"a block {signature.decode()} of a known version")
        return self


class HeapID(NamedTuple):
    """A tree and a heap that it leads into: the addresses in a link-info or attribute-info message."""

    heap: int
    tree: int


class Blocks:
    """The blocks of one file. One object walks one file, with some pages of bytes kept.

    Raises:
        FormatError: when the file has no superblock of a known version, or is shorter than that says.
    """

    def __init__(self, source: ByteSource) -> None:
        self.source, self.name = source, source.name
        self.digest = hashlib.sha256()
        self._pages: dict[int, bytes] = {}
        self._walked: set[int] = set()
        self._left = MAX_READ_RATIO * source.size + PAGE_BYTES
        self._collections: dict[int, dict[int, bytes]] = {}
        self.base = self._find_superblock()
        self.offset_bytes = self.length_bytes = 8
        self.root = self._superblock()

    def _find_superblock(self) -> int:
        at = 0
        while at + 8 <= self.source.size and at <= MAX_USER_BLOCK_BYTES:
            if self.source.read(at, 8) == SIGNATURE:
                return at
            at = max(512, 2 * at)
        return self.fail("it has no HDF5 signature", "an HDF5 file")

    def _superblock(self) -> int:
        """The address of the root group's object header."""
        head = self.cursor(0, min(128, self.source.size - self.base))
        head.take(8)
        version = head.number(1)
        if version <= 1:
            head.take(4)
        elif version > 3:
            self.fail(f"it has a superblock of version {version}", "version 0 to 3")
        self.offset_bytes, self.length_bytes = head.number(1), head.number(1)
        if self.offset_bytes not in (2, 4, 8) or self.length_bytes not in (2, 4, 8):
            self.fail(f"it has addresses of {self.offset_bytes} bytes", "2, 4 or 8")
        if version <= 1:
            head.take(1 + 2 + 2 + 4 + (4 if version else 0) + 2 * self.offset_bytes)
            end = head.number(self.offset_bytes)
            head.take(2 * self.offset_bytes)
        else:
            head.take(1 + 2 * self.offset_bytes)
            end = head.number(self.offset_bytes)
        if end != self.none and end > self.source.size:
            self.fail(f"it has {self.source.size:,} bytes", f"{end:,} as its superblock says")
        return head.number(self.offset_bytes)

    @property
    def none(self) -> int:
        """The address that stands for no address."""
        return (1 << 8 * self.offset_bytes) - 1

    def fail(self, read: str, expected: str) -> NoReturn:
        """Refuses the file."""
        fail(self.name, read, expected)

    def once(self, address: int) -> int:
        """The address of a block of a tree, which must not have been walked before."""
        if address in self._walked:
            self.fail(f"a tree leads twice to byte {address:,}", "trees without circles")
        self._walked.add(address)
        return address

    def place(self, address: int, length: int) -> int:
        """Where in the file a stretch begins.

        Raises:
            FormatError: when it is not in the file.
        """
        if address == self.none or address + self.base + length > self.source.size:
            self.fail(f"a block of {length:,} bytes at byte {address:,} is not in it", "blocks inside of the file")
        return address + self.base

    def read(self, address: int, length: int) -> bytes:
        """The bytes of a block."""
        begin = self.place(address, length)
        self._left -= length
        if length > MAX_BLOCK_BYTES or self._left < 0:
            self.fail(f"its blocks lead to more bytes than it has, or one has {length:,}", "each block named once")
        data = self._paged(begin, length)
        self.digest.update(data)
        return data

    def _paged(self, begin: int, length: int) -> bytes:
        if length > PAGE_BYTES:
            return self.source.read(begin, length)
        parts = []
        for start in range(begin - begin % PAGE_BYTES, begin + length, PAGE_BYTES):
            if start not in self._pages:
                if len(self._pages) >= MAX_PAGES:
                    self._pages.pop(next(iter(self._pages)))
                self._pages[start] = self.source.read(start, min(PAGE_BYTES, self.source.size - start))
            parts.append(self._pages[start][max(0, begin - start) : begin + length - start])
        return b"".join(parts)

    def cursor(self, address: int, length: int) -> Cursor:
        """The bytes of a block, to be taken one by one."""
        return Cursor(self.name, self.read(address, length))

    def text_at(self, address: int, length: int) -> str:
        """A name with its closing zero, at most so many bytes away."""
        length = max(0, min(length, MAX_NAME_BYTES, self.source.size - self.base - address))
        raw, zero, _ = self._paged(self.place(address, length), length).partition(b"\0")
        self.digest.update(raw)
        if not zero:
            self.fail("it has a name without an end", f"names of at most {MAX_NAME_BYTES:,} bytes")
        return raw.decode("utf-8", "replace")

    def local_heap(self, address: int) -> tuple[int, int]:
        """Address and length of a local heap's bytes."""
        head = self.cursor(address, 8 + 2 * self.length_bytes + self.offset_bytes).signed_as(b"HEAP", 0)
        head.take(3)
        length = head.number(self.length_bytes)
        head.take(self.length_bytes)
        return head.number(self.offset_bytes), length

    def global_object(self, address: int, index: int) -> bytes:
        """An object of a global heap's collection."""
        if address not in self._collections:
            size = self.cursor(address, 8 + self.length_bytes).signed_as(b"GCOL", 1)
            size.take(3)
            data = self.cursor(address, size.number(self.length_bytes))
            data.take(8 + self.length_bytes)
            objects: dict[int, bytes] = {}
            while data.left >= 8 + self.length_bytes:
                number = data.number(2)
                data.take(6)
                length = data.number(self.length_bytes)
                if number == 0:
                    break
                objects[number] = data.take(length)
                data.take(min(data.left, -length % 8))
            self._collections = {address: objects}
        if index not in self._collections[address]:
            self.fail(f"a global heap lacks its object {index}", "each object that is named")
        return self._collections[address][index]

    def tree_entries(self, address: int, kind: int, key_bytes: int) -> tuple[int, list[tuple[bytes, int]]]:
        """The level of a node of a tree of version 1, and its keys with the addresses below them."""
        offset = self.offset_bytes
        head = self.cursor(self.once(address), 8 + 2 * offset).signed_as(b"TREE", kind)
        level, count = head.number(1), head.number(2)
        node = self.cursor(address + 8 + 2 * offset, count * (key_bytes + offset))
        return level, [(node.take(key_bytes), node.number(offset)) for _ in range(count)]

    def heap_objects(self, found: HeapID, id_at: int) -> Iterator[bytes]:
        """The objects of a fractal heap that a tree of version 2 names, `id_at` bytes into each record."""
        heap = FractalHeap(self, found.heap)
        for record in self.records(found.tree):
            if len(record) < id_at + heap.id_bytes:
                self.fail(f"a record has {len(record)} bytes", f"{id_at + heap.id_bytes} at least")
            yield heap.object(record[id_at : id_at + heap.id_bytes])

    def records(self, address: int) -> Iterator[bytes]:
        """The records of a tree of version 2."""
        head = self.cursor(self.once(address), 22 + self.offset_bytes + self.length_bytes).signed_as(b"BTHD", 0)
        head.take(1)
        node_bytes, record_bytes, depth = head.number(4), head.number(2), head.number(2)
        head.take(2)
        root, count = head.number(self.offset_bytes), head.number(2)
        if not 0 < record_bytes <= node_bytes - 10 or node_bytes > MAX_BLOCK_BYTES or depth > 16:
            self.fail(f"a tree has nodes of {node_bytes:,} bytes in {depth} levels", "a tree that holds records")
        # The widths of counts: that of records in a node, and that of records below a node of each level.
        most = (node_bytes - 10) // record_bytes
        count_bytes, below, below_bytes = _width(most), [most], [0]
        for _ in range(depth):
            pointer = self.offset_bytes + count_bytes + below_bytes[-1]
            most = max(0, node_bytes - 10 - pointer) // (record_bytes + pointer)
            below.append((most + 1) * below[-1] + most)
            below_bytes.append(_width(below[-1]))
        if root == self.none:
            return
        nodes = [(root, count, depth)]
        while nodes:
            at, count, level = nodes.pop()
            node = self.cursor(self.once(at), node_bytes).signed_as(b"BTIN" if level else b"BTLF", 0)
            node.take(1)
            yield from [node.take(record_bytes) for _ in range(count)]
            for _ in range(count + 1 if level else 0):
                child, child_count = node.number(self.offset_bytes), node.number(count_bytes)
                node.take(below_bytes[level - 1])
                nodes.append((child, child_count, level - 1))


class FractalHeap:
    """A heap of blocks that double in size: its objects by their identifiers."""

    def __init__(self, blocks: Blocks, address: int) -> None:
        self._blocks = blocks
        offset, length = blocks.offset_bytes, blocks.length_bytes
        head = blocks.cursor(address, 26 + 3 * offset + 12 * length - 4).signed_as(b"FRHP", 0)
        self.id_bytes, filter_bytes = head.number(2), head.number(2)
        head.take(1)
        most_managed = head.number(4)
        head.take(length)
        self._large_tree = head.number(offset)
        head.take(length + offset + 8 * length)
        self._width, self._first, self._largest = head.number(2), head.number(length), head.number(length)
        bits = head.number(2)
        head.take(2)
        self._root, self._rows = head.number(offset), head.number(2)
        if filter_bytes:
            blocks.fail("it has a heap that is compressed", "names and attributes that are not compressed")
        self._large: dict[int, tuple[int, int]] | None = None
        sizes = (self._first, self._largest, self._width)
        if not all(size > 0 and size & (size - 1) == 0 for size in sizes) or bits > 64 or self._rows > 64:
            blocks.fail(f"a heap has blocks of {sizes} bytes", "sizes that are powers of two")
        self._offset_bytes = -(-bits // 8)
        self._length_bytes = _width(min(self._largest, most_managed))
        self._direct_rows = self._largest.bit_length() - self._first.bit_length() + 2

    def object(self, heap_id: bytes) -> bytes:
        """The bytes of an object."""
        cursor = Cursor(self._blocks.name, heap_id)
        kind = cursor.number(1)
        if kind >> 4 == 0:
            offset, length = cursor.number(self._offset_bytes), cursor.number(self._length_bytes)
            return self._blocks.read(self._managed(offset, length), length)
        if kind >> 4 == 1 and cursor.left <= 8:
            return self._on_its_own(cursor.number(cursor.left))
        return self._blocks.fail(f"a heap object of kind {kind}", "one in the heap's blocks or on its own")

    def _on_its_own(self, wanted: int) -> bytes:
        """An object too large for the heap's blocks, which has a place of its own."""
        offset, length = self._blocks.offset_bytes, self._blocks.length_bytes
        if self._large is None:
            self._large = {}
            for record in self._blocks.records(self._large_tree):
                row = Cursor(self._blocks.name, record)
                address, size = row.number(offset), row.number(length)
                self._large[row.number(length)] = (address, size)
        if wanted not in self._large:
            self._blocks.fail(f"a heap lacks its large object {wanted}", "each object that is named")
        return self._blocks.read(*self._large[wanted])

    def _managed(self, offset: int, length: int) -> int:
        """The address of a stretch of the heap's own space, which must lie in one block."""
        address, rows, start = self._root, self._rows, 0
        while rows:
            row = 0
            size = self._first
            while row < rows and start + size * self._width <= offset:
                start += size * self._width
                row += 1
                size = self._first << max(0, row - 1)
            if row >= rows:
                self._blocks.fail(f"a heap has no byte {offset:,}", "objects inside of the heap")
            column = (offset - start) // size
            start += column * size
            entry = row * self._width + column
            head = 5 + self._blocks.offset_bytes + self._offset_bytes
            self._blocks.cursor(address, 4).signed_as(b"FHIB")
            at = address + head + entry * self._blocks.offset_bytes
            address = self._blocks.cursor(at, self._blocks.offset_bytes).number(self._blocks.offset_bytes)
            if row < self._direct_rows:
                break
            rows = size.bit_length() - (self._first * self._width).bit_length() + 1
        else:
            size = self._first
            if self._rows:
                self._blocks.fail("a heap's block has no rows", "blocks with rows")
        self._blocks.cursor(address, 4).signed_as(b"FHDB")
        if offset - start + length > size:
            self._blocks.fail(f"a heap object of {length:,} bytes leaves its block", "objects inside of a block")
        return address + offset - start


def fail(name: str, read: str, expected: str, action: str = _GET_AGAIN) -> NoReturn:
    """Refuses a file.

    Raises:
        FormatError: always.
    """
    raise FormatError(f"{name}: {read}", expected, action)


def _width(most: int) -> int:
    """The bytes that a number up to `most` takes."""
    return max(1, (most.bit_length() + 7) // 8)
