"""How many parameters has a model, by every convention in use?

`total` is the number of distinct trainable parameters: a tied matrix once, no buffers, no quantization scales, no
next-token-prediction layers. `active_per_token` leaves out the routed experts that a token does not use.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from weighbridge.model.architecture import Architecture, Workload
from weighbridge.model.blocks import StateKind, Use
from weighbridge.model.encodings import Encoding
from weighbridge.model.layouts import TensorGroup
from weighbridge.model.tensors import Component, Kind

COMPONENTS = tuple(component.value for component in Component)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterCount:
    """A model's parameters, one field for each convention. The components add up to `total`.

    `embedding` is the token table alone; `non_embedding` is the total without all tables (tokens, positions, types),
    head included; `tied_per_use` counts a tied head as if it were stored; `mtp` are next-token-prediction layers;
    `by_part` has the parts of a pipeline, and is empty for a single model.
    """

    total: int
    active_per_token: int
    embedding: int
    by_component: Mapping[str, int]
    by_layer: tuple[int, ...]
    tied_embeddings: bool
    tied_per_use: int
    biases: int
    buffers: int
    matmul: int
    mtp: int = 0
    by_part: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert sum(self.by_component.values()) == self.total, self
        assert sum(self.by_part.values()) in (0, self.total), self

    @property
    def non_embedding(self) -> int:
        """The total without the embedding tables; the head stays in."""
        return self.total - self.by_component["embedding"]

    @property
    def conventions(self) -> dict[str, int]:
        """Every convention that published counts use, by name."""
        embedding, head = self.by_component["embedding"], self.by_component["head"]
        return {
            "total": self.total,
            "tied_per_use": self.tied_per_use,
            "non_embedding": self.non_embedding,
            "without_token_embedding": self.total - self.embedding,
            "without_embedding_and_head": self.total - embedding - head,
            "without_biases": self.total - self.biases,
            "without_norms": self.total - self.by_component["norm"],
            "active_per_token": self.active_per_token,
            "active_without_embedding": self.active_per_token - embedding,
            "with_buffers": self.total + self.buffers,
            "matmul_per_token": self.matmul,
        }


def count(architecture: Architecture) -> ParameterCount:
    """The counts of a described model.

    Example:
        >>> from weighbridge.model import families
        >>> from weighbridge.model.hyperparameters import Hyperparameters
        >>> shape = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "vocab_size": 50257}
        >>> counts = count(families.build(Hyperparameters("gpt2", "gpt2", shape)))
        >>> counts.total, counts.non_embedding
        (124439808, 85056000)
    """
    components: Counter[str] = Counter(dict.fromkeys(COMPONENTS, 0))
    parts: Counter[str] = Counter(dict.fromkeys(architecture.parts, 0))
    layers = [0] * architecture.num_layers
    active = tied = embedding = biases = buffers = matmul = mtp = 0
    for group in architecture.groups:
        weight, elements = group.weight, group.elements
        if group.mtp:
            mtp += elements if weight.kind is Kind.PARAMETER and weight.tied_to is None else 0
            continue
        used = _active(group)
        if weight.use is Use.MATMUL and architecture.per_token(group.component):
            matmul += used
        if weight.kind is not Kind.PARAMETER:
            buffers += elements
            continue
        if weight.tied_to is not None:
            tied += elements
            continue
        components[group.component.value] += elements
        if parts:
            parts[group.path.partition(".")[0]] += elements
        active += used
        if weight.role == "token_embedding":
            embedding += elements
        if weight.name.endswith("bias"):
            biases += elements
        for layer in group.decoder_layers:
            layers[layer + group.offset] += weight.elements * weight.experts
    total = components.total()
    return ParameterCount(
        total=total, active_per_token=active, embedding=embedding, by_component=dict(components),
        by_layer=tuple(layers), tied_embeddings=architecture.tie_embeddings, tied_per_use=total + tied,
        biases=biases, buffers=buffers,
        matmul=matmul, mtp=mtp, by_part=dict(parts),
    )  # fmt: skip


def _active(group: TensorGroup) -> int:
    """Elements that one token uses."""
    weight = group.weight
    return group.count // weight.experts * weight.active_elements


def forward_flops_per_token(architecture: Architecture, context_tokens: int = 0) -> int:
    """FLOPs of one token's forward pass: twice the multiplied parameters, and attention at this context.

    The tower of a model that generates is left out: it works once for each picture or clip, and not for a token. In a
    convolutional net they are those of one image, as the architecture's notes say: a weight counts once for every
    position that it is applied at.

    Example:
        >>> from weighbridge.model import families
        >>> from weighbridge.model.hyperparameters import Hyperparameters
        >>> shape = {"hidden_size": 768, "num_layers": 12, "num_heads": 12, "vocab_size": 50257}
        >>> gpt2 = families.build(Hyperparameters("gpt2", "gpt2", shape))
        >>> forward_flops_per_token(gpt2), forward_flops_per_token(gpt2, 1024) - forward_flops_per_token(gpt2)
        (247064064, 37748736)
    """
    flops = 0
    for placement in (p for p in architecture.placements if not p.mtp):
        for weight in placement.block.weights():
            if weight.use is Use.MATMUL and architecture.per_token(placement.component or weight.component):
                flops += 2 * weight.active_elements * weight.positions * placement.repeat
        if architecture.per_token(placement.component):
            flops += placement.block.fixed_flops() * placement.repeat
        if placement.component is Component.VISION_AUDIO:
            continue  # a tower attends to its own patches or frames, not to the context
        states = placement.block.states()
        window = states[0].window if states else None
        attended = context_tokens if window is None else min(context_tokens, window)
        flops += placement.block.attention_flops_per_position() * attended * placement.repeat
    return flops


@dataclass(frozen=True, slots=True, kw_only=True)
class StateCount:
    """What a model keeps between tokens, in elements, so that every encoding of the cache can be priced.

    `kv_per_token` counts all decoder self-attention layers, `kv_per_token_global` those without a window; `rows` are
    the lengths of the rows that a token adds to the caches; `recurrent_per_sequence` and `cross_per_sequence` do not
    grow with the context.
    """

    kv_per_token: int
    kv_per_token_global: int
    recurrent_per_sequence: int
    cross_per_sequence: int
    windows: tuple[int, ...]
    rows: tuple[int, ...]

    def kv_bytes_per_token(self, encoding: Encoding) -> int | None:
        """Bytes that one more token adds while it is inside every window; None when its rows are no whole blocks."""
        return self._bytes(self.kv_per_token, encoding)

    def kv_bytes_per_token_global(self, encoding: Encoding) -> int | None:
        """Bytes that one more token adds once every window is full; None when its rows are no whole blocks."""
        return self._bytes(self.kv_per_token_global, encoding)

    def _bytes(self, elements: int, encoding: Encoding) -> int | None:
        if not all(encoding.fits(row) for row in (*self.rows, elements)):
            return None
        return encoding.size_bytes((elements,)) if elements else 0


def count_state(architecture: Architecture) -> StateCount:
    """The state of a described model."""
    token = glob = recurrent = cross = 0
    windows: set[int] = set()
    rows: set[int] = set()
    for placement in (p for p in architecture.placements if not p.mtp):
        for state in placement.block.states():
            if state.kind in (StateKind.KV, StateKind.LATENT):
                token += state.elements_per_token * placement.repeat
                rows.add(state.row_elements or state.elements_per_token)
                if state.window is None:
                    glob += state.elements_per_token * placement.repeat
                else:
                    windows.add(state.window)
            elif state.kind is StateKind.RECURRENT:
                recurrent += state.elements_per_sequence * placement.repeat
            else:
                cross += state.elements_per_sequence * placement.repeat
    return StateCount(kv_per_token=token, kv_per_token_global=glob, recurrent_per_sequence=recurrent,
                      cross_per_sequence=cross, windows=tuple(sorted(windows)),
                      rows=tuple(sorted(rows)))  # fmt: skip


def state_bytes(architecture: Architecture, workload: Workload, encoding: Encoding) -> int:
    """Bytes of state after this pass, all sequences together.

    Example:
        >>> from weighbridge.model import encodings, families
        >>> from weighbridge.model.hyperparameters import Hyperparameters
        >>> shape = {"hidden_size": 8192, "num_layers": 80, "num_heads": 64, "num_kv_heads": 8, "vocab_size": 32000,
        ...          "intermediate_size": 28672}
        >>> llama_2_70b = families.build(Hyperparameters("llama-2-70b", "llama", shape))
        >>> state_bytes(llama_2_70b, Workload(new_tokens=4096), encodings.find("bf16"))
        1342177280
    """
    return sum(row.size_bytes for row in architecture.state(workload, encoding))
