"""What does a model consist of? Blocks at paths, repeated over layers; three lists come out of them.

`tensors()` lists what is stored, `operations()` what is computed, `state()` what is kept between tokens. Repetition is
symbolic: a block is described once with the layers it stands in, so a trillion parameters cost no more to weigh than a
million. The sums over these lists live in `predict.counts`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from weighbridge.model import encodings, layouts
from weighbridge.model.blocks import Block, StateKind, Use, Weight
from weighbridge.model.encodings import Encoding
from weighbridge.model.layouts import TensorGroup
from weighbridge.model.tensors import Component, TensorSpec


@dataclass(frozen=True, slots=True)
class Placement:
    """A block at a path. `{layer}` in the path stands for each of `layers`; without layers the block stands once.

    `component` overrides those of the block's weights, as for all of a vision tower. Next-token-prediction layers have
    `mtp` set: files may hold them, and no total, state or operation counts them. `offset` is how many layers of the
    model come before the one that names call 0: the decoder of an encoder-decoder follows on its encoder.
    """

    path: str
    block: Block
    layers: Sequence[int] | None = None
    component: Component | None = None
    mtp: bool = False
    offset: int = 0

    @property
    def repeat(self) -> int:
        """How often the block occurs."""
        return 1 if self.layers is None else len(self.layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One forward pass: `new_tokens` of each of `batch_size` sequences, after `context_tokens` already in the cache."""

    batch_size: int = 1
    new_tokens: int = 1
    context_tokens: int = 0

    @property
    def tokens(self) -> int:
        """New tokens of all sequences."""
        return self.batch_size * self.new_tokens

    def attended_positions(self, window: int | None) -> int:
        """Positions that all new tokens together attend to, each token itself included (causal attention).

        Example:
            >>> Workload(new_tokens=3).attended_positions(None), Workload(new_tokens=3).attended_positions(2)
            (6, 5)
        """
        first, last = self.context_tokens + 1, self.context_tokens + self.new_tokens
        if window is None or last <= window:
            return self.batch_size * (first + last) * self.new_tokens // 2
        growing = max(0, window - first)
        return self.batch_size * ((first + first + growing - 1) * growing // 2 + (self.new_tokens - growing) * window)


@dataclass(frozen=True, slots=True)
class Operation:
    """What one row of the model computes in one pass, all its layers together."""

    path: str
    repeat: int
    flops: int
    bytes_read: int
    bytes_written: int
    encoding: str


@dataclass(frozen=True, slots=True)
class StateRow:
    """What one row of the model keeps, all its layers together, for all sequences of the workload."""

    path: str
    repeat: int
    kind: StateKind
    elements_per_token: int
    elements_per_sequence: int
    window: int | None
    size_bytes: int


@dataclass(frozen=True)
class Architecture:
    """A described model: its family, and its blocks in order.

    `base_prefix` is the part of tensor names that files of the bare model leave out (`model.`, `transformer.`).
    `notes` says what the reader should know about the description. `parts` are the first words of all paths where the
    model is a pipeline of models.
    """

    family: str
    model_type: str
    placements: tuple[Placement, ...]
    num_layers: int
    num_heads: int
    num_kv_heads: int
    num_experts: int = 0
    base_prefix: str = ""
    tie_embeddings: bool = False
    gguf_architecture: str | None = None
    notes: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    @cached_property
    def groups(self) -> tuple[TensorGroup, ...]:
        """The tensor list with repetition left symbolic, tied copies included."""
        return tuple(
            TensorGroup(
                placement.path,
                weight,
                placement.layers,
                placement.component or weight.component,
                placement.mtp,
                placement.offset,
            )
            for placement in self.placements
            for weight in placement.block.weights()
        )

    @cached_property
    def has_tower(self) -> bool:
        """Whether a model that generates sees or hears by a tower: that works once a picture or clip, for no token."""
        towers = any(group.component is Component.VISION_AUDIO for group in self.groups)
        return towers and any(placement.block.states() for placement in self.placements)

    def per_token(self, component: Component | None) -> bool:
        """Whether weights of this component work for every token."""
        return not (component is Component.VISION_AUDIO and self.has_tower)

    def by_part(self) -> dict[str, Architecture]:
        """The parts of a pipeline, each alone; empty for a single model."""
        return {
            name: replace(
                self, placements=tuple(p for p in self.placements if p.path.partition(".")[0] == name), parts=()
            )
            for name in self.parts
        }

    def tensors(self, layout: str = "huggingface", encoding: Encoding | None = None) -> Iterator[TensorSpec]:
        """Every tensor by the name it has in checkpoints of this layout (`huggingface` or `gguf`), in order.

        Tied copies are listed in the Hugging Face layout with `tied_to` set. The GGUF layout leaves out what its files
        do not hold, merges the experts of a layer into one tensor and turns transposed weights.

        Raises:
            ValueError: for another layout, or for the GGUF layout of a family that llama.cpp does not run.
        """
        encoding = encoding or encodings.find("bf16")
        if layout == "gguf":
            if self.gguf_architecture is None:
                raise ValueError(f"llama.cpp has no architecture for the family {self.family}")
            return layouts.gguf_tensors(self.groups, encoding)
        if layout != "huggingface":
            raise ValueError(f"no layout {layout!r}: huggingface or gguf")
        return layouts.huggingface_tensors(self.groups, encoding)

    def operations(
        self, workload: Workload, weights: Encoding | None = None, activations: Encoding | None = None
    ) -> Iterator[Operation]:
        """The multiplications of one pass, in order: FLOPs, bytes of weights and activations moved.

        A multiplication with a matrix of n elements costs 2n FLOPs a token. Embedding look-ups and element-wise work
        move bytes and count no FLOPs. A batch touches E*(1 - (1 - k/E)^tokens) of E experts on average when routing is
        even, rounded to whole experts: `bytes_read` of experts rests on that assumption. The tower of a model that
        generates is left out, as it works once for each picture or clip.
        """
        for placement in self.placements:
            yield from self.operations_of(placement, workload, weights, activations)

    def operations_of(
        self,
        placement: Placement,
        workload: Workload,
        weights: Encoding | None = None,
        activations: Encoding | None = None,
    ) -> Iterator[Operation]:
        """The part of `operations` that one placement has: one for each weight, and what belongs to no weight."""
        weights = weights or encodings.find("bf16")
        activations = activations or encodings.find("bf16")
        per_number = activations.bytes_per_block
        if placement.mtp:
            return
        for weight in placement.block.weights():
            if not self.per_token(placement.component or weight.component):
                continue
            yield _weight_operation(placement, weight, workload, weights, per_number)
        fixed = placement.block.fixed_flops() * workload.tokens * placement.repeat
        if fixed and self.per_token(placement.component):  # what it moves is counted with the maps beside
            yield Operation(f"{placement.path}.scores", placement.repeat, fixed, 0, 0, activations.name)
        per_position = placement.block.attention_flops_per_position()
        if per_position and placement.component is not Component.VISION_AUDIO:  # towers do not see the context
            yield _attention_operation(placement, per_position, workload, per_number, activations.name)

    def state(self, workload: Workload, encoding: Encoding | None = None) -> Iterator[StateRow]:
        """What the model keeps once the pass is done: caches bounded by their windows, recurrent states.

        Raises:
            ValueError: when the state is no whole number of the encoding's blocks.
        """
        encoding = encoding or encodings.find("bf16")
        held = workload.context_tokens + workload.new_tokens
        for placement in self.placements:
            for state in () if placement.mtp else placement.block.states():
                tokens = held if state.window is None else min(held, state.window)
                elements = state.elements_per_token * tokens + state.elements_per_sequence
                size = encoding.size_bytes((elements,)) if elements else 0
                yield StateRow(placement.path, placement.repeat, state.kind, state.elements_per_token,
                               state.elements_per_sequence, state.window,
                               size * placement.repeat * workload.batch_size)  # fmt: skip


def _weight_operation(
    placement: Placement, weight: Weight, workload: Workload, encoding: Encoding, per_number: int
) -> Operation:
    path = f"{placement.path}.{weight.name}".lstrip(".")
    tokens, repeat = workload.batch_size if weight.per_sequence else workload.tokens, placement.repeat
    if weight.use is Use.LOOKUP:
        moved = tokens * weight.shape[-1] * per_number * repeat
        return Operation(path, repeat, 0, moved, moved, encoding.name)
    if weight.use is Use.ELEMENTWISE:
        moved = tokens * weight.elements * per_number * repeat
        return Operation(path, repeat, 0, moved, moved, encoding.name)
    held = weight.experts * weight.stacked
    used, one, touched = tokens * weight.active, weight.elements // weight.stacked, held
    if held > 1:
        even = held * (1 - (1 - weight.active / held) ** tokens)
        touched = min(held, max(weight.active, round(even)))
    stored = encoding if encoding.fits(weight.shape[-1]) else encodings.find("fp16")
    one_bytes = stored.size_bytes(weight.shape) // weight.stacked
    inputs, outputs = weight.in_features, one // weight.in_features
    if weight.role == "convolution":  # places of the kernel share their inputs; a depthwise one reads all channels
        outputs = weight.shape[0]
        inputs = outputs if weight.shape[1] == 1 else weight.shape[1]
    return Operation(
        path, repeat,
        flops=2 * used * one * weight.positions * repeat,
        bytes_read=(touched * one_bytes + used * inputs * weight.positions * per_number) * repeat,
        bytes_written=used * outputs * weight.positions * per_number * repeat,
        encoding=stored.name,
    )  # fmt: skip


def _attention_operation(
    placement: Placement, per_position: int, workload: Workload, per_number: int, encoding: str
) -> Operation:
    states = placement.block.states()
    window = states[0].window if states else None
    if states:
        attended = workload.attended_positions(window)
        held = workload.context_tokens + workload.new_tokens
        kept = states[0].elements_per_token * (held if window is None else min(held, window))
        kept += states[0].elements_per_sequence if states[0].kind is StateKind.CROSS else 0
    else:  # an encoder attends to every position of its sequence, in both directions
        attended, kept = workload.tokens * workload.new_tokens, 0
    repeat = placement.repeat
    return Operation(
        f"{placement.path}.scores", repeat,
        flops=per_position * attended * repeat,
        bytes_read=workload.batch_size * kept * per_number * repeat,
        bytes_written=(states[0].elements_per_token if states else 0) * workload.tokens * per_number * repeat,
        encoding=encoding,
    )  # fmt: skip
