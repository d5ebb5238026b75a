"""What does a model ask of a machine, before one is chosen? Weights by how often they are read, cache, work.

A pass reads every dense weight once, whatever the batch, and the experts that its tokens are routed to. B tokens that
are routed independently touch E * (1 - (1 - k/E)^B) of E experts. The cache is read by each sequence on its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from weighbridge.errors import ConfigError
from weighbridge.estimate import Basis, Estimate
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import State, StateKind, Use, Weight
from weighbridge.model.encodings import Encoding
from weighbridge.model.recipes import RECIPES, Packing, Recipe
from weighbridge.model.tensors import Component, TensorSpec


@dataclass(frozen=True, slots=True)
class Cache:
    """Like layers of a cache: elements a token adds in all of them, and the window that bounds it (None without one).

    `heads` is how many devices can hold a part of it each: the key-value heads, or 1 for a latent that all need.
    """

    elements_per_token: int
    window: int | None
    heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one model asks for; elements and FLOPs are those of all layers together.

    `dense_elements` are multiplied by every token, `expert_elements` are those of all routed experts, of which a token
    uses `experts_per_token` of `num_experts`. `flops_per_position` is what a new token spends for each position that it
    attends to, by window.
    """

    total: int
    dense_elements: int
    expert_elements: int
    num_experts: int
    experts_per_token: int
    num_layers: int
    routed_layers: int
    hidden_size: int
    vocab_size: int
    num_heads: int
    caches: tuple[Cache, ...]
    recurrent_elements: int
    cross_elements: int
    flops_per_position: tuple[tuple[int | None, int], ...]

    @property
    def flops_per_token(self) -> int:
        """FLOPs of one token's multiplications, without attention to earlier tokens."""
        share = self.expert_elements * self.experts_per_token // self.num_experts if self.num_experts else 0
        return 2 * (self.dense_elements + share)

    def attention_flops(self, positions: float) -> float:
        """FLOPs of one new token that attends to so many positions."""
        return sum(flops * (positions if window is None else min(positions, window))
                   for window, flops in self.flops_per_position)  # fmt: skip


def demand(architecture: Architecture) -> Demand:
    """What a described model asks for.

    Raises:
        ConfigError: for a pipeline, whose parts run one after another: name one of them.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> found = demand(inspect("llama-2-70b").architecture)
        >>> found.caches[0].elements_per_token * 4096 * 2, found.caches[0].heads
        (1342177280, 8)
    """
    if architecture.parts:
        raise ConfigError("a pipeline of several models", "one model", "name the config.json of one of its parts")
    dense = experts = table = 0
    num_experts = per_token = routed = 0
    widths: list[int] = []
    caches: dict[tuple[int | None, int], int] = {}
    positions: dict[int | None, int] = {}
    recurrent = cross = 0
    for placement in (p for p in architecture.placements if not p.mtp):
        for weight in placement.block.weights():
            if not architecture.per_token(placement.component or weight.component):
                continue
            elements = weight.elements * weight.experts * placement.repeat
            if _is_routed(weight):
                experts += elements
                num_experts, per_token = (
                    max(num_experts, weight.experts * weight.stacked),
                    max(per_token, weight.active),
                )
                routed = max(routed, placement.repeat)
            elif weight.use is Use.MATMUL:
                dense += elements
            if weight.role == "token_embedding":
                table, widths = max(table, weight.shape[0]), [*widths, weight.shape[-1]]
        for state in placement.block.states():
            if state.kind in (StateKind.KV, StateKind.LATENT):
                key = state.window, _heads(state, architecture)
                caches[key] = caches.get(key, 0) + state.elements_per_token * placement.repeat
            elif state.kind is StateKind.RECURRENT:
                recurrent += state.elements_per_sequence * placement.repeat
            else:
                cross += state.elements_per_sequence * placement.repeat
        _add_attention(placement, positions)
    return Demand(
        total=sum(g.elements for g in architecture.groups if g.weight.tied_to is None and not g.mtp),
        dense_elements=dense, expert_elements=experts, num_experts=num_experts, experts_per_token=per_token,
        num_layers=max(1, architecture.num_layers), routed_layers=routed, hidden_size=max(widths, default=1),
        vocab_size=max(1, table), num_heads=max(1, architecture.num_heads),
        caches=tuple(Cache(elements, window, heads) for (window, heads), elements in caches.items()),
        recurrent_elements=recurrent, cross_elements=cross, flops_per_position=tuple(positions.items()),
    )  # fmt: skip


def _is_routed(weight: Weight) -> bool:
    return weight.experts > 1 or weight.stacked > 1


def _heads(state: State, architecture: Architecture) -> int:
    return 1 if state.kind is StateKind.LATENT else max(1, architecture.num_kv_heads)


def _add_attention(placement: Placement, positions: dict[int | None, int]) -> None:
    flops = placement.block.attention_flops_per_position() * placement.repeat
    states = placement.block.states()
    if flops and states and placement.component is not Component.VISION_AUDIO:
        positions[states[0].window] = positions.get(states[0].window, 0) + flops


@dataclass(frozen=True, slots=True)
class Read:
    """Weights of one encoding that a pass multiplies: routed ones as far as touched, the head once a prompt."""

    encoding: str
    elements: int
    routed: bool = False
    is_head: bool = False


@dataclass(frozen=True, slots=True)
class StoredWeights:
    """Bytes of a model's weights in a recipe, by how a pass reads them: tables are looked up, one row a token, and a
    tower beside a language model is held and not read.

    `quantized_elements` are those of matrices in fewer than 16 bits, which a kernel has to unpack. `read` are the
    matrices by encoding.

    `basis` is exact where the layout of the files is known tensor by tensor. Otherwise it is assumed, and the true size
    lies between `low_share` and `high_share` of what is given here.
    """

    recipe: str
    dense_bytes: int
    expert_bytes: int
    table_bytes: int
    other_bytes: int
    quantized_elements: int
    read: tuple[Read, ...] = ()
    basis: Basis = Basis.EXACT
    low_share: float = 1.0
    high_share: float = 1.0

    @property
    def total_bytes(self) -> int:
        """Bytes of all tensors."""
        return self.dense_bytes + self.expert_bytes + self.table_bytes + self.other_bytes

    def estimate(self, size_bytes: int) -> Estimate:
        """So many bytes of these weights, with their interval and basis."""
        if self.basis is Basis.EXACT:
            return Estimate.exact(size_bytes, "B")
        low, high = math.floor(size_bytes * self.low_share), math.ceil(size_bytes * self.high_share)
        return Estimate(size_bytes, low, high, "B", self.basis, ASSUMED_NOTE)


def stored_weights(architecture: Architecture, recipe: Recipe, packing: Packing | None = None) -> StoredWeights:
    """The weights of a model in a recipe.

    A tied head is read in full by every token although no tensor of its own is stored: it counts as dense, and the
    table as a look-up beside it holds no further bytes. Where the layout of a family's GGUF files is not verified, its
    size in one of llama.cpp's mixes is assumed.

    Raises:
        ConfigError: when the recipe cannot store the model.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> from weighbridge.model import recipes
        >>> found = stored_weights(inspect("llama-2-70b").architecture, recipes.find("fp16"))
        >>> found.total_bytes, found.table_bytes
        (137953296384, 524288000)
    """
    found = packing or _packing(architecture, recipe)
    if found is None or not found.is_possible:
        read = f"{architecture.family} in {recipe.name}"
        if architecture.parts:
            raise ConfigError(read, "one model", "name the config.json of one of its parts")
        works = " or ".join([name for name in _LIKELY if _can_store(architecture, RECIPES[name])][:2])
        raise ConfigError(read, "an encoding that can store this model", f"choose another, such as {works}")
    sizes = {"dense": 0, "expert": 0, "table": 0, "other": 0}
    quantized = 0
    held_by: dict[tuple[str, bool, bool], int] = {}
    for assignment in found.assignments:
        weight = assignment.group.weight
        kind = ("other" if not architecture.per_token(assignment.group.component)
                else "expert" if _is_routed(weight) else "dense" if weight.use is Use.MATMUL
                else "table" if weight.use is Use.LOOKUP else "other")  # fmt: skip
        if kind == "table" and architecture.tie_embeddings and weight.role == "token_embedding":
            kind = "dense"
        sizes[kind] += assignment.size_bytes
        if kind in ("dense", "expert"):
            copies = assignment.group.count if assignment.layers is None else len(assignment.layers) * weight.experts
            quantized += copies * weight.elements if _is_packed(assignment.encoding) else 0
            key = assignment.encoding.name, kind == "expert", weight.role in _HEADS
            held_by[key] = held_by.get(key, 0) + copies * weight.elements
    stored = StoredWeights(found.recipe.name, sizes["dense"], sizes["expert"], sizes["table"], sizes["other"],
                           quantized, _read(held_by))  # fmt: skip
    if found.is_assumed:
        return replace(stored, basis=Basis.ASSUMED, low_share=ASSUMED_SHARES[0], high_share=ASSUMED_SHARES[1])
    return stored


ASSUMED_SHARES = (0.95, 1.14)
"""The size in a mix over what is assumed for it, low and high.

Found on the 114 models of the catalogue whose layout is known, by their exact size over the one found without it.
With the rules of the roles, 5% and 95% are 1.000 and 1.005 or nearer in every mix. With no role known, each matrix of a
layer at the mean bits of Llama 3.1 8B, they are 0.995 and 1.059 for `q4_k_m`, and widest 0.954 for `iq1_s` and 1.133
for `q3_k_l` (`mxfp4_moe` aside, which knows experts alone). The wider ones stand here: other families may have matrices
that the rules do not foresee.
"""
_LIKELY = ("bf16", "q8_0", "fp8")
ASSUMED_NOTE = "assumed: the rules that the mix has for other families; this family's GGUF layout is not verified"


def _packing(architecture: Architecture, recipe: Recipe) -> Packing | None:
    if recipe.runs(architecture):
        return recipe.pack(architecture)
    return recipe.assume(architecture) if recipe.can_assume(architecture) else None


def _can_store(architecture: Architecture, recipe: Recipe) -> bool:
    found = _packing(architecture, recipe)
    return found is not None and found.is_possible


_HEADS = ("token_embedding", "head")
"""Roles of the matrix that makes logits; a table is one where it is tied."""


def _read(elements: Mapping[tuple[str, bool, bool], int]) -> tuple[Read, ...]:
    return tuple(Read(key[0], count, key[1], key[2]) for key, count in elements.items())


def weights_of_file(name: str, tensors: Iterable[TensorSpec]) -> StoredWeights:
    """The weights of a GGUF file as they are stored, by the names that llama.cpp gives to its tensors."""
    held = [tensor for tensor in tensors if tensor.tied_to is None]
    has_head = any(tensor.name == "output.weight" for tensor in held)
    sizes = {"dense": 0, "expert": 0, "table": 0, "other": 0}
    quantized = 0
    held_by: dict[tuple[str, bool, bool], int] = {}
    for tensor in held:
        is_table = tensor.name.startswith("token_embd.") or "per_layer_token_embd" in tensor.name
        is_head = tensor.name == "output.weight" or (tensor.name == "token_embd.weight" and not has_head)
        kind = ("table" if is_table and not is_head else "expert" if "_exps." in tensor.name
                else "other" if len(tensor.shape) < 2 or min(tensor.shape) < 2
                else "dense")  # fmt: skip
        sizes[kind] += tensor.size_bytes
        if kind in ("dense", "expert"):
            quantized += tensor.elements if _is_packed(tensor.encoding) else 0
            key = tensor.encoding.name, kind == "expert", is_head
            held_by[key] = held_by.get(key, 0) + tensor.elements
    return StoredWeights(name, sizes["dense"], sizes["expert"], sizes["table"], sizes["other"], quantized,
                         _read(held_by))  # fmt: skip


def _is_packed(encoding: Encoding) -> bool:
    return encoding.bits_per_weight < 16
