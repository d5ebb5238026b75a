"""How many FLOPs does a step of training take, forward, backward and again?

The forward pass of a token multiplies with each active matrix: 2 FLOPs a parameter, 2N in all, and 4*h*e more for each
position that it attends to (h heads of e numbers). The backward pass has two products of that size for each matrix: the
gradient of its input, and that of its weights: 6N a token in all (Kaplan et al. 2020, section 2.1). Frozen weights need
no gradient of theirs: 4N under LoRA. Below the first trained parameter no gradient is needed at all, and what a model
reads has none. Scores and the weighted sum have two factors that are computed, so they cost twice as much backward.

*Model FLOPs* are these; *hardware FLOPs* add what is computed a second time: whole layers under full checkpointing,
stored scores or half of a layer's multiplications under selective checkpointing, and the scores that a flash kernel
does not keep, half of attention's forward pass (Dao et al. 2022; Korthikanti et al. 2022, section 6).

A token attends to itself and those before it, `causal` or not as the model does. PaLM's 6N + 12*L*H*Q*T a token
(Chowdhery et al. 2022, appendix B) and Megatron's 96*B*s*l*h^2*(1 + s/6h + V/16lh) a step (Narayanan et al. 2021,
equation 3) count every token as if it attended to all T: so does `causal=False`, to compare with what is published.

Not counted: norms, activations, the optimizer's update, the norm of DoRA's matrices (once a micro-batch), unpacking of
quantized weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from weighbridge.model.architecture import Architecture, Placement, Workload
from weighbridge.model.blocks import StateKind, Use, Weight
from weighbridge.predict.counts import count
from weighbridge.predict.training.run import Run, by_operation
from weighbridge.predict.training.trained import SIBLINGS, Row, Trained, trained


@dataclass(slots=True)
class Part:
    """FLOPs of one row of the model, all its layers together, in one step."""

    path: str
    forward: int = 0
    input_gradient: int = 0
    weight_gradient: int = 0
    again: int = 0

    @property
    def model_flops(self) -> int:
        """Forward and backward."""
        return self.forward + self.input_gradient + self.weight_gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """FLOPs of one step over `tokens` tokens. `parameters` are those that a token uses, the N of 6ND."""

    parts: tuple[Part, ...]
    tokens: int
    parameters: int
    notes: tuple[str, ...] = ()

    @property
    def forward(self) -> int:
        """FLOPs of the forward pass."""
        return sum(part.forward for part in self.parts)

    @property
    def backward(self) -> int:
        """FLOPs of the gradients, of inputs and of weights."""
        return sum(part.input_gradient + part.weight_gradient for part in self.parts)

    @property
    def again(self) -> int:
        """FLOPs of what is computed a second time."""
        return sum(part.again for part in self.parts)

    @property
    def model_flops(self) -> int:
        """FLOPs that the mathematics asks for, whatever is kept or computed again: those of MFU."""
        return self.forward + self.backward

    @property
    def hardware_flops(self) -> int:
        """FLOPs that the devices do: those of HFU."""
        return self.model_flops + self.again

    @property
    def attention(self) -> int:
        """Model FLOPs of scores and weighted sums, which 6ND leaves out."""
        return sum(part.model_flops for part in self.parts if part.path.endswith(".scores"))

    def over(self, tokens: int) -> int:
        """Model FLOPs of so many tokens in steps like this one, rounded down."""
        return self.model_flops * tokens // self.tokens


def compute(architecture: Architecture, run: Run, *, causal: bool = True) -> Compute:
    """FLOPs of one step of a run, all devices together.

    A net that reads an image in one pass (ResNet) has `sequence_tokens` of 1, a vision transformer one for each patch
    and for its class token. An encoder-decoder reads as many tokens as it writes.

    Raises:
        WeighbridgeError: what `trained` raises.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> gpt3 = inspect("gpt-3-175b").architecture
        >>> step = compute(gpt3, Run(sequence_tokens=2048, global_batch=1536))
        >>> f"{6 * step.parameters * 300_000_000_000:.3e} {step.over(300_000_000_000):.3e}"
        '3.143e+23 3.186e+23'
    """
    held = trained(architecture, run.method)
    prompt = run.method.prompt_tokens if run.method.learns_prompt else 0
    read = prompt if run.method.name == "prompt" else 0
    workload = Workload(batch_size=run.global_batch, new_tokens=run.sequence_tokens + read,
                        context_tokens=prompt - read)  # fmt: skip
    walk = _Walk(architecture, run, held, workload, causal)
    for layer, placements in _in_order(architecture):
        walk.visit(layer, placements)
    return Compute(parts=tuple(walk.parts.values()), tokens=run.step_tokens, notes=tuple(_notes(architecture, run)),
                   parameters=count(architecture).active_per_token)  # fmt: skip


def _notes(architecture: Architecture, run: Run) -> Iterator[str]:
    if architecture.has_tower:
        yield "the tower for pictures or sound is left out: its work goes by their number, which is not known here"
    if any(placement.mtp for placement in architecture.placements):
        yield "layers that predict further tokens are left out"
    blocks = [placement.block for placement in architecture.placements]
    if any(state.kind is StateKind.CROSS for block in blocks for state in block.states()):
        yield "as many tokens are read by the encoder as written by the decoder"
    if any(weight.positions > 1 for block in blocks for weight in block.weights()):
        yield "weights that are applied at many positions cost more than 6 FLOPs a parameter"
    if run.checkpointing == "full" and not any(placement.layers for placement in architecture.placements):
        yield "the model names no repeated layers: nothing is counted as computed again"


def _in_order(architecture: Architecture) -> Iterator[tuple[int | None, list[Placement]]]:
    """The blocks in the order in which data passes: one by one, or those of a layer together where layers repeat."""
    layered: list[Placement] = []
    for placement in (*architecture.placements, None):
        if placement is not None and placement.layers is not None:
            layered.append(placement)
            continue
        for offset, layer in sorted({(each.offset, layer) for each in layered for layer in each.layers or ()}):
            yield layer, [each for each in layered if each.offset == offset and layer in (each.layers or ())]
        layered = []
        if placement is not None:
            yield None, [placement]


@dataclass(slots=True)
class _Flops:
    """What one copy of a placement computes in a forward pass: by weight, and what belongs to no weight."""

    weights: list[tuple[Weight, str, int]]
    scores: int


@dataclass(slots=True)
class _Walk:
    """A walk along the data: what lies after a trained parameter has a gradient to pass on.

    `reached` says whether the input of the next matrix has one, `pending` whether its output will. Pictures and sound
    have none: what is added to them, such as positions, comes after the first matrix, wherever it is listed (`begun`).
    """

    architecture: Architecture
    run: Run
    held: Trained
    workload: Workload
    causal: bool
    parts: dict[str, Part] = field(default_factory=dict)
    reached: bool = False
    pending: bool = False
    begun: bool = False
    group: object = None
    of_layer: list[tuple[Part, int]] = field(default_factory=list)
    trained_in: dict[str, set[int | None]] = field(default_factory=dict)
    adapters: dict[str, list[Row]] = field(default_factory=dict)
    flops: dict[int, _Flops] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for row in self.held.rows:
            if row.is_adapter and (".lora_" in row.path or row.role == "prefix"):
                self.adapters.setdefault(row.path.rpartition(".")[0], []).append(row)
            elif row.is_trained:
                self.trained_in.setdefault(row.path, set()).update(row.layers or (None,))
        self.reached = self.run.method.name == "prompt"
        self.begun = any(row.role == "token_embedding" for row in self.held.rows)

    def visit(self, layer: int | None, placements: list[Placement]) -> None:
        """Counts a block, or all of a layer; what a layer computes again depends on whether a gradient passes it."""
        self.of_layer = []
        for placement in placements:  # wherever the norm before attention is listed
            for weight in placement.block.weights():
                path = f"{placement.path}.{weight.name}"
                self.reached = self.reached or (weight.role == "attention_norm" and self._is_trained(path, layer))
        for placement in placements:
            flops = self.flops.get(id(placement)) or self._forward(placement)
            self.flops[id(placement)] = flops
            scored = False
            for weight, path, forward in flops.weights:
                if weight.role == "attention_output" and not scored:
                    self._score(placement, layer, flops.scores)
                    scored = True
                self._multiply(placement, layer, weight, path, forward)
            if not scored:
                self._score(placement, layer, flops.scores)
        if self.reached or self.pending:
            for part, forward in self.of_layer:
                part.again += forward

    def _forward(self, placement: Placement) -> _Flops:
        operations = list(self.architecture.operations_of(placement, self.workload))
        by_path = {each.path: each.flops // placement.repeat for each in operations if not _is_scores(each.path)}
        weights = []
        for weight in placement.block.weights():
            path = f"{placement.path}.{weight.name}".lstrip(".")
            if path in by_path:
                weights.append((weight, path, by_path[path]))
        scores = sum(each.flops for each in operations if _is_scores(each.path)) // placement.repeat
        states = placement.block.states()
        if scores and states and (not self.causal or states[0].kind is StateKind.CROSS):
            held = self.workload.context_tokens + self.workload.new_tokens
            seen = held if states[0].window is None else min(held, states[0].window)
            masked = self.workload.attended_positions(states[0].window)
            scores += placement.block.attention_flops_per_position() * (self.workload.tokens * seen - masked)
        return _Flops(weights, scores)

    def _step_to(self, group: object) -> None:
        if group != self.group:
            self.reached, self.pending, self.group = self.reached or self.pending, False, group

    def _is_trained(self, path: str, layer: int | None) -> bool:
        places = self.trained_in.get(path, set())
        return layer in places or None in places

    def _part(self, path: str) -> Part:
        return self.parts.setdefault(path, Part(path))

    def _multiply(self, placement: Placement, layer: int | None, weight: Weight, path: str, forward: int) -> None:
        self._step_to((placement.path, layer, SIBLINGS.get(weight.role, weight.role)))
        self.begun = self.begun or weight.use is Use.MATMUL
        owner = weight.tied_to or path
        is_trained = self._is_trained(owner, layer)
        if weight.tied_to is not None and owner not in self.trained_in:
            is_trained = self.run.method.name == "full"
        if forward:
            self._count(self._part(path), layer, forward, weight_gradient=is_trained, input_gradient=self.reached)
        for row in self.adapters.get(path.removesuffix(".weight"), ()):
            if layer is None or layer in (row.layers or ()):
                self._adapt(row, layer, weight, forward)
                self.pending = True
        self.pending = self.pending or (is_trained and self.begun)

    def _adapt(self, row: Row, layer: int | None, weight: Weight, forward: int) -> None:
        """One layer's low-rank matrices: A reads what the matrix beside it reads, B what A writes."""
        is_b = row.path.endswith(".lora_B")
        if not is_b and not row.path.endswith(".lora_A"):
            return
        elements = row.elements // len(row.layers or (None,))
        if weight.use is Use.LOOKUP:
            flops = 2 * self.workload.tokens * elements if is_b else 0
        else:
            flops = forward * elements // (weight.elements * weight.experts)
        if flops:
            self._count(self._part(row.path), layer, flops, weight_gradient=True, input_gradient=is_b or self.reached)

    def _score(self, placement: Placement, layer: int | None, forward: int) -> None:
        self._step_to((placement.path, layer, "scores"))
        self.pending = self.pending or placement.path in self.adapters
        if not forward:
            return
        part = self._part(f"{placement.path}.scores")
        has_gradient = self.reached or self.pending
        if has_gradient:
            part.input_gradient += 2 * forward
        part.forward += forward
        is_attention = bool(placement.block.attention_flops_per_position())
        if layer is not None and self.run.checkpointing == "full":
            self.of_layer.append((part, forward))
        elif self.run.checkpointing == "selective" and self.run.attention == "eager" and has_gradient and is_attention:
            part.again += forward
        if self.run.attention == "flash" and has_gradient and is_attention:
            part.again += forward // 2

    def _count(
        self, part: Part, layer: int | None, forward: int, *, weight_gradient: bool, input_gradient: bool
    ) -> None:
        part.forward += forward
        part.weight_gradient += forward if weight_gradient else 0
        part.input_gradient += forward if input_gradient else 0
        if layer is not None and self.run.checkpointing == "full":
            self.of_layer.append((part, forward))
        elif layer is not None and by_operation(self.run):
            self.of_layer.append((part, forward // 2))


def _is_scores(path: str) -> bool:
    """Whether an operation belongs to no weight."""
    return path.endswith(".scores")
