"""A model of any size that lies nowhere: its weights are made when they are read."""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weighbridge.compress.codecs import Values, decode
from weighbridge.model.encodings import Encoding, find
from weighbridge.model.tensors import TensorSpec

POOL = (1 << 20) - 3
"""Weights that are drawn; a prime, so that they lie otherwise in each row."""


@functools.cache
def _pool() -> NDArray[np.uint16]:
    drawn = np.random.Generator(np.random.Philox(7)).standard_normal(POOL, dtype=np.float32) * np.float32(0.02)
    return (drawn.view(np.uint32) >> 16).astype(np.uint16)


class SyntheticModel:
    """Stands in for a checkpoint in bf16: weight n of tensor t is drawn number n + 1000003 t, modulo a prime."""

    path = Path("synthetic")
    paths: tuple[Path, ...] = ()
    digest = "synthetic"
    alignment = 32

    def __init__(self, size_bytes: int, columns: int = 4096, tensors: int = 16, vectors: int = 1) -> None:
        rows = max(1, size_bytes // (2 * columns * tensors))
        bf16 = find("bf16")
        self.tensors = [TensorSpec(f"blk.{number}.up.weight", (rows, columns), bf16) for number in range(tensors)]
        self.tensors += [TensorSpec(f"blk.{number}.norm.weight", (columns,), bf16) for number in range(vectors)]
        self.size_bytes = sum(tensor.size_bytes for tensor in self.tensors)
        self._first = {tensor.name: 1_000_003 * number for number, tensor in enumerate(self.tensors)}

    def pairs(self, encodings: Mapping[str, Encoding]) -> tuple[int, bytes]:
        """One: the architecture."""
        return 1, struct.pack("<Q20sIQ5s", 20, b"general.architecture", 8, 5, b"llama")

    def bytes_of(self, tensor: TensorSpec, first_row: int, rows: int) -> bytes:
        """Rows in bf16."""
        columns = tensor.shape[-1]
        begin, count = self._first[tensor.name] + first_row * columns, rows * columns
        found = np.empty(count, np.uint16)
        done = 0
        while done < count:
            piece = _pool()[(begin + done) % POOL :][: count - done]
            found[done : done + len(piece)] = piece
            done += len(piece)
        return found.tobytes()

    def rows(self, tensor: TensorSpec, first_row: int, rows: int) -> Values:
        """Rows in fp32."""
        return decode(self.bytes_of(tensor, first_row, rows), tensor.encoding, tensor.shape[-1])

    def encodings(self, name: str) -> dict[str, Encoding]:
        """The named encoding for matrices, fp32 for vectors."""
        return {tensor.name: find(name if len(tensor.shape) > 1 else "fp32") for tensor in self.tensors}

    @property
    def elements(self) -> int:
        """All weights."""
        return sum(math.prod(tensor.shape) for tensor in self.tensors)
