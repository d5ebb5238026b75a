"""Which parameters of a model does a run hold, and which of them does it train?

Low-rank adapters of rank r have r*(in + out) parameters beside a linear map of `in` inputs and `out` outputs: A is
[r, in], B [out, r] (Hu et al. 2021). A convolution has A with the kernel and B without, a table of V rows and width d
has r*(V + d), E experts in one tensor have E times as many. DoRA adds a magnitude for each output (Liu et al. 2024). A
prompt has as many numbers for each of its tokens as a row of the token table, a prefix those of the key-value cache.

Modules are matched as PEFT 0.21 does (`tuners/tuners_utils.py`, `tuners/lora/layer.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

from weighbridge.errors import ConfigError, UnknownNameError
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import StateKind, Use
from weighbridge.model.layouts import TensorGroup
from weighbridge.model.tensors import Component, Kind
from weighbridge.predict.training.methods import ALL_LINEAR, Method

_PARTS = ("attention_q", "attention_k", "attention_v")
SIBLINGS = {
    **dict.fromkeys(("attention_q", "attention_k", "attention_v", "attention_qkv"), "attention inputs"),
    **dict.fromkeys(("mlp_gate", "mlp_up"), "feed-forward inputs"),
    **dict.fromkeys(("router", "experts_gate", "experts_up", "experts_gate_up"), "experts' inputs"),
}
"""Roles whose matrices read the same input."""
_HEADS = ("head", "score")
"""Roles that `all-linear` leaves out."""


@dataclass(frozen=True, slots=True)
class Row:
    """Like tensors of a run, all layers and experts together.

    `repeat` is the number of layers; `experts` of each layer; `shape` that of one tensor. `is_adapter` marks what the
    method adds to the model, at the path of the weight that it changes. `layers` are the numbers of the layers.
    """

    path: str
    role: str
    component: Component
    use: Use
    shape: tuple[int, ...]
    repeat: int
    experts: int
    elements: int
    is_trained: bool
    is_adapter: bool = False
    layers: tuple[int, ...] | None = None

    @property
    def tensors(self) -> int:
        """How many tensors the row stands for."""
        return self.elements // max(1, prod(self.shape))


@dataclass(frozen=True, slots=True)
class Trained:
    """The parameters of a run. `notes` says what the reader should know about them."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def trainable(self) -> int:
        """Parameters that have a gradient."""
        return sum(row.elements for row in self.rows if row.is_trained)

    @property
    def frozen(self) -> int:
        """Parameters of the model that stay as they are."""
        return sum(row.elements for row in self.rows if not row.is_trained)

    @property
    def total(self) -> int:
        """All parameters that a run holds, adapters included."""
        return self.trainable + self.frozen

    @property
    def trainable_share(self) -> float:
        """Trained parameters over those of the model itself."""
        return self.trainable / sum(row.elements for row in self.rows if not row.is_adapter)


def trained(architecture: Architecture, method: Method) -> Trained:
    """What a method trains of a model.

    Raises:
        UnknownNameError: when the method is not known, or a target names nothing in the model.
        ConfigError: when the method asks for what the model does not have.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> llama = inspect("llama-2-70b").architecture
        >>> trained(llama, Method(name="lora", rank=8)).trainable
        16384000
        >>> trained(llama, Method(name="lora", rank=8, targets=("all-linear",))).trainable
        103546880
    """
    method.check()
    rows = list(_model_rows(architecture, method))
    notes: list[str] = []
    if method.has_adapters:
        rows += _saved(architecture, method)
        rows += _adapters(architecture, method)
        if ALL_LINEAR in method.targets and any(group.weight.stacked > 1 for group in architecture.groups):
            notes.append(
                f"{ALL_LINEAR} leaves out the routed experts, which lie in one tensor: name them to adapt them"
            )
    elif method.name == "prompt":
        rows.append(_prompt(architecture, method))
    elif method.name == "prefix":
        rows += _prefix(architecture, method)
    found = Trained(tuple(rows), tuple(notes))
    if found.trainable == 0:
        raise ConfigError(f"{method.name} trains nothing of {architecture.family}", "a parameter to train",
                          "choose another method")  # fmt: skip
    return found


def _is_held(group: TensorGroup) -> bool:
    """Whether the group is parameters of its own."""
    return not group.mtp and group.weight.kind is Kind.PARAMETER and group.weight.tied_to is None


def _row(group: TensorGroup, is_trained: bool, layers: Sequence[int] | None = None) -> Row:
    """The row of a group, or of those of its layers that are named."""
    layers = group.layers if layers is None else layers
    repeat = 1 if layers is None else len(layers)
    weight = group.weight
    return Row(group.name, weight.role, group.component, weight.use, weight.shape, repeat, weight.experts,
               repeat * weight.experts * weight.elements, is_trained,
               layers=None if layers is None else tuple(layers))  # fmt: skip


def _model_rows(architecture: Architecture, method: Method) -> Iterator[Row]:
    if method.name == "freeze":
        yield from _frozen_below(architecture, method.trained_layers)
        return
    for group in filter(_is_held, architecture.groups):
        is_bias = group.weight.name.endswith("bias")
        yield _row(group, method.name == "full" or (method.name == "bitfit" and is_bias))


def _frozen_below(architecture: Architecture, trained_layers: int) -> Iterator[Row]:
    """The model's rows when only the last layers are trained, and what follows them: the last norm and the head.

    A head that is the token table is one parameter with it: the table is trained too.
    """
    total, groups = architecture.num_layers, architecture.groups
    layered = [number for number, group in enumerate(groups) if group.decoder_layers and not group.mtp]
    if trained_layers > total or not layered:
        read = f"{trained_layers} layers to train of {architecture.family} with {total if layered else 'no'} layers"
        raise ConfigError(read, "no more layers than the model has", "train fewer, or all with the method full")
    tables = {group.weight.tied_to for group in groups[layered[-1] + 1 :]}
    split = total - trained_layers
    for number, group in enumerate(groups):
        if not _is_held(group):
            continue
        if not group.decoder_layers:
            follows = number > layered[-1] and group.component is not Component.VISION_AUDIO
            yield _row(group, follows or group.name in tables)
            continue
        for is_trained in (False, True):
            layers = [layer for layer in group.decoder_layers if (layer + group.offset >= split) is is_trained]
            if layers:
                yield _row(group, is_trained, layers)


def _saved(architecture: Architecture, method: Method) -> Iterator[Row]:
    """Copies of modules that are trained as a whole beside the frozen ones."""
    for module in method.modules_to_save:
        found = [group for group in architecture.groups if not group.mtp and f".{module}." in f".{group.name}."]
        if not found:
            known = {group.name.rpartition(".")[0].rpartition(".")[2] for group in architecture.groups}
            raise UnknownNameError("module", module, known - {""}, f"name one of {', '.join(sorted(known - {''}))}")
        yield from (replace(_row(group, True), is_adapter=True) for group in found
                    if group.weight.kind is Kind.PARAMETER)  # fmt: skip


def _adapters(architecture: Architecture, method: Method) -> Iterator[Row]:
    named: set[str] = set()
    candidates = [group for group in architecture.groups if _can_adapt(group)]
    one_by_one = {group.path for group in candidates if group.weight.experts > 1}
    for group in candidates:
        if any(f".{module}." in f".{group.name}." for module in method.modules_to_save):
            continue
        is_linear = _is_linear(group) and (group.weight.role != "router" or group.path in one_by_one)
        parts = dict(zip(_PARTS, group.weight.parts, strict=False))
        whole = {target for target in method.targets if _names_all(target, group, is_linear)}
        some = {target: _named(target, group) for target in method.targets if target not in whole}
        named |= whole | {target for target, names in some.items() if names} | parts.keys()
        names = set().union(*some.values())
        if whole:
            yield from _matrices(group, method)
        elif names:
            yield from _matrices(group, method, names=names)
        else:
            for part in (part for part in parts if part in method.targets):
                yield from _matrices(group, method, part=(part, parts[part]))
    for target in method.targets:
        if target not in named:
            known = _targets(candidates)
            raise UnknownNameError("target", target, known, f"name some of {', '.join(sorted(known))}")


def _can_adapt(group: TensorGroup) -> bool:
    """Whether low-rank matrices can stand beside it. A tied head is a module of its own, whatever it shares; beside a
    convolution of each channel alone PEFT takes only ranks that its channels divide.
    """
    weight = group.weight
    if len(weight.shape) > 2 and weight.role.endswith("convolution") and weight.shape[1] == 1:
        return False
    if group.mtp or weight.kind is not Kind.PARAMETER or weight.use is Use.ELEMENTWISE or len(weight.shape) < 2:
        return False
    return weight.tied_to is None or weight.role == "head"


def _is_linear(group: TensorGroup) -> bool:
    """Whether `all-linear` means it: a matrix that is the weight of its module, and no head. A router is one where the
    experts are: it lies beside them as a plain parameter where they lie in one tensor.
    """
    weight = group.weight
    is_module = group.name.rpartition(".")[2] == "weight" and weight.stacked == 1 and weight.tied_to is None
    return is_module and weight.use is Use.MATMUL and len(weight.shape) == 2 and weight.role not in _HEADS


def _names_all(target: str, group: TensorGroup, is_linear: bool) -> bool:
    """Whether a target names every module of a group."""
    if target == ALL_LINEAR:
        return is_linear
    return target == group.weight.role or f".{_module(group.name)}".endswith(f".{target}")


def _named(target: str, group: TensorGroup) -> set[str]:
    """The modules of a group that a target names by the number of a layer or expert."""
    if not any(character.isdigit() for character in target):
        return set()
    return {name for name in group.names() if f".{_module(name)}".endswith(f".{target}")}


def _module(name: str) -> str:
    """The path of the module that a tensor is the weight of."""
    return name.removesuffix(".weight")


def _targets(candidates: Sequence[TensorGroup]) -> set[str]:
    """What targets can name: roles, and the last parts of the modules' names."""
    roles = {group.weight.role for group in candidates}
    parts = {part for group in candidates if group.weight.parts for part in _PARTS}
    names = {_module(group.name).rpartition(".")[2] for group in candidates}
    linear = {ALL_LINEAR} if any(map(_is_linear, candidates)) else set()
    return {name for name in (*roles, *parts, *names, *linear) if name and "{" not in name}


def _matrices(
    group: TensorGroup, method: Method, *, names: set[str] | None = None, part: tuple[str, int] | None = None
) -> Iterator[Row]:
    """A, B and with DoRA the magnitude beside the modules of a group: all or the named, the whole matrix or a part."""
    weight, rank = group.weight, method.rank
    inputs: tuple[int, ...] = (weight.in_features,)
    outputs = weight.elements // weight.stacked // weight.in_features
    if weight.use is Use.LOOKUP:
        inputs, outputs = weight.shape[:1], weight.shape[-1]
    elif weight.role == "convolution" and len(weight.shape) > 2:
        inputs, outputs = weight.shape[1:], weight.shape[0]
    role = weight.role
    if part is not None:
        role, outputs = part
    layers = _layers(group, names)
    repeat = (1 if layers is None else len(layers)) if names is None else len(names)
    experts = weight.experts if names is None else 1
    held = rank * weight.stacked
    shapes = [("lora_A", (held, *inputs)), ("lora_B", (outputs, held))]
    if method.name == "dora":
        shapes.append(("lora_magnitude_vector", (outputs,)))
    for name, shape in shapes:
        use = Use.ELEMENTWISE if name == "lora_magnitude_vector" else weight.use
        yield Row(f"{_module(group.name)}.{name}", role, group.component, use, shape, repeat, experts,
                  repeat * experts * prod(shape), True, True, layers)  # fmt: skip


def _layers(group: TensorGroup, names: set[str] | None) -> tuple[int, ...] | None:
    """The numbers of the layers in which modules of a group are named, or all."""
    if group.layers is None or names is None:
        return None if group.layers is None else tuple(group.layers)
    each = group.names()
    experts = group.weight.experts
    return tuple(layer for number, layer in enumerate(group.layers)
                 if names.intersection(each[number * experts : (number + 1) * experts]))  # fmt: skip


def _prompt(architecture: Architecture, method: Method) -> Row:
    """As many rows more beside the token table, in effect."""
    for group in architecture.groups:
        if group.weight.role == "token_embedding" and architecture.per_token(group.component):
            shape = (method.prompt_tokens, group.weight.shape[-1])
            return Row("prompt", "prompt", Component.EMBEDDING, Use.LOOKUP, shape, 1, 1, prod(shape), True, True)
    read = f"a prompt for {architecture.family}, which reads no tokens"
    raise ConfigError(read, "a model with a token table", "choose another method")


def _prefix(architecture: Architecture, method: Method) -> Iterator[Row]:
    """Keys and values of the prefix for each layer with a key-value cache."""
    for placement in architecture.placements:
        kept = [state.elements_per_token for state in placement.block.states() if state.kind is StateKind.KV]
        if placement.mtp or not kept:
            continue
        shape = (method.prompt_tokens, sum(kept))
        layers = None if placement.layers is None else tuple(placement.layers)
        yield Row(f"{placement.path}.prefix", "prefix", Component.ATTENTION, Use.LOOKUP, shape, placement.repeat, 1,
                  placement.repeat * prod(shape), True, True, layers)  # fmt: skip
