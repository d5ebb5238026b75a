"""What is one tensor of a model: its name, its shape, what it is for and how much of it a token uses?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from weighbridge.model.encodings import Encoding


class Component(Enum):
    """The eleven parts that add up to a model's total."""

    EMBEDDING = "embedding"
    ATTENTION = "attention"
    MLP = "mlp"
    EXPERTS = "experts"
    SHARED_EXPERTS = "shared_experts"
    ROUTER = "router"
    NORM = "norm"
    SSM = "ssm"
    VISION_AUDIO = "vision_audio"
    HEAD = "head"
    OTHER = "other"


class Kind(Enum):
    """What a tensor is: learned, or stored beside what is learned."""

    PARAMETER = "parameter"
    BUFFER = "buffer"
    """A fixed table or running statistic: position ids, causal masks, an STFT basis, batch-norm statistics."""
    QUANTIZATION = "quantization"
    """What packed weights need beside them; `role` says what: scale, zero_point, group_index, codebook, metadata."""


@dataclass(frozen=True, slots=True)
class Weight:
    """The matrix that a packed tensor stands for: its name and shape in the model unpacked."""

    name: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """The product of the shape."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor, as a description names it or as a file stores it.

    `shape` is in the order of the reference implementation (the last axis is the row), for GGUF files too.
    `active` of `held` is the share that one token uses: (2, 8) for a routed expert of Mixtral, (1, 1) for the rest.
    `mtp` marks next-token-prediction layers, which files may leave out. `tied_to` names the tensor whose storage this
    one shares. `byte_range` is [begin, end) in the file `file`. `stands_for` is the weight that a packed tensor holds:
    its own shape and encoding are then the packer's (int32 words of eight 4-bit weights, say).
    """

    name: str
    shape: tuple[int, ...]
    encoding: Encoding
    role: str = ""
    component: Component = Component.OTHER
    layer: int | None = None
    active: int = 1
    held: int = 1
    kind: Kind = Kind.PARAMETER
    tied_to: str | None = None
    mtp: bool = False
    file: str = ""
    byte_range: tuple[int, int] | None = None
    stands_for: Weight | None = None

    @property
    def elements(self) -> int:
        """The product of the shape; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def weights(self) -> int:
        """How many weights it holds: its elements, or those of the matrix that it stands for."""
        return self.elements if self.stands_for is None else self.stands_for.elements

    @property
    def size_bytes(self) -> int:
        """Bytes of the tensor: what the file stores, or what its encoding makes of its shape."""
        if self.byte_range is not None:
            return self.byte_range[1] - self.byte_range[0]
        return self.encoding.size_bytes(self.shape)
