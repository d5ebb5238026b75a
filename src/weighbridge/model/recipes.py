"""Which encoding does each tensor get, when a model is stored as `q4_k_m`, `gptq-int4-g128` or `bf16`?

A recipe is a rule from a tensor's role, layer and row length to an encoding; an encoding is only a block layout. Three
kinds are known:

- plain types store every element alike (`bf16` is 2 bytes an element, no more);
- llama.cpp's file types mix encodings by role and layer, keep small tensors in fp32 and fall back where a row is not
  a whole number of blocks (`src/llama-quant.cpp`, release of 2026-11; with an importance matrix for the types that
  cannot be made without one, without it for the others);
- packed checkpoints quantize the linear maps inside the layers, with scales beside them, and keep the rest in 16 bits;
  in a mixture MXFP4 packs the routed experts alone
  (GPTQ and AWQ as vLLM and transformers read them, compressed-tensors `w8a8`, bitsandbytes NF4, MXFP4, NVFP4). What
  some packers store once a tensor beside that (NF4's `quant_map` and `quant_state`, about 150 bytes, and NVFP4's
  `input_scale`, 4) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from weighbridge.errors import UnknownNameError
from weighbridge.model import encodings, layouts
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Use, Weight
from weighbridge.model.encodings import ENCODINGS, Encoding
from weighbridge.model.layouts import TensorGroup
from weighbridge.model.tensors import Component, Kind


@dataclass(frozen=True, slots=True)
class Assignment:
    """The encoding of like tensors: those of a group in `layers`, or all of it where that is None.

    `size_bytes` is that of all of them, scales included. `wanted` is the encoding that a fallback replaced.
    """

    group: TensorGroup
    layers: tuple[int, ...] | None
    encoding: Encoding
    size_bytes: int
    wanted: Encoding | None = None


@dataclass(frozen=True, slots=True)
class Fallback:
    """Tensors whose rows are no whole number of the blocks meant for them: how many of each name got what instead."""

    row: int
    meant: str
    stored: str
    tensors: Mapping[str, int]

    def to_json(self) -> dict[str, Any]:
        """As the JSON reference documents it."""
        tensors = [{"name": name, "count": count} for name, count in self.tensors.items()]
        return {"row": self.row, "meant": self.meant, "stored_as": self.stored, "tensors": tensors}


@dataclass(frozen=True, slots=True)
class Packing:
    """A model stored by a recipe: the encoding and size of every tensor.

    `is_assumed` says that the layout of the family's files is not verified: see `Recipe.assume`.
    """

    recipe: Recipe
    assignments: tuple[Assignment, ...]
    is_assumed: bool = False

    @property
    def size_bytes(self) -> int:
        """Bytes of all tensors; the header of a file comes on top."""
        return sum(assignment.size_bytes for assignment in self.assignments)

    @property
    def is_possible(self) -> bool:
        """Whether the quantizer takes this model.

        llama.cpp's refuses rows whose type has no neighbour of smaller blocks; GPTQ and AWQ refuse sizes that do not
        divide; others leave such a tensor as it is.
        """
        replaced = [assignment.wanted for assignment in self.assignments if assignment.wanted is not None]
        if self.recipe.kind == "packed":
            return self.recipe.multiples == (1, 1) or not replaced
        return all(wanted.name in _FALLBACK or wanted.elements_per_block <= 32 for wanted in replaced)

    @property
    def fallbacks(self) -> tuple[Fallback, ...]:
        """What could not be encoded as meant, by length of row and encoding."""
        found: dict[tuple[int, str, str], dict[str, int]] = {}
        for a in self.assignments:
            if a.wanted is not None:
                names = found.setdefault((a.group.weight.in_features, a.wanted.name, a.encoding.name), {})
                copies = a.group.count if a.layers is None else len(a.layers) * a.group.weight.experts
                names[a.group.weight.name] = names.get(a.group.weight.name, 0) + copies
        return tuple(Fallback(*key, names) for key, names in found.items())


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named way to store a whole model."""

    name: str
    kind: str
    """`plain`, `gguf` or `packed`."""
    default: Encoding
    group_size: int = 0
    """Weights that share one 16-bit scale beside the tensor in a packed checkpoint; 0 for one scale a row."""
    scales: bool = False
    """Whether there are scales beside the tensor at all; block encodings have theirs inside."""
    zeros: bool = False
    """Whether each scale has a zero point in the default encoding."""
    index: bool = False
    """Whether each input has a 32-bit number of its group (GPTQ's `g_idx`)."""
    flat: bool = False
    """Whether blocks are cut from the flattened tensor, so that rows need not divide (bitsandbytes)."""
    multiples: tuple[int, int] = (1, 1)
    """What inputs and outputs of a linear map must divide by, or the packer refuses the model."""
    routed: bool = False
    """Whether a mixture has its routed experts packed and nothing else (MXFP4, as gpt-oss is published)."""

    def runs(self, architecture: Architecture) -> bool:
        """Whether files of this kind exist for the model's family, in a layout that is verified tensor by tensor."""
        return self.kind != "gguf" or architecture.gguf_architecture is not None

    def can_assume(self, architecture: Architecture) -> bool:
        """Whether `assume` has an answer where the layout is not verified: for one model that reads tokens."""
        reads = any(g.weight.role == "token_embedding" and architecture.per_token(g.component)
                    for g in architecture.groups)  # fmt: skip
        return self.kind == "gguf" and not self.runs(architecture) and not architecture.parts and reads

    def pack(self, architecture: Architecture) -> Packing:
        """The model stored by this recipe; tied copies and buffers are not stored.

        Example:
            >>> from weighbridge.model import families
            >>> from weighbridge.model.hyperparameters import Hyperparameters
            >>> shape = {"hidden_size": 8192, "num_layers": 80, "num_heads": 64, "num_kv_heads": 8, "vocab_size": 32000,
            ...          "intermediate_size": 28672}
            >>> llama_2_70b = families.build(Hyperparameters("llama-2-70b", "llama", shape))
            >>> find("bf16").pack(llama_2_70b).size_bytes, find("q4_k_m").pack(llama_2_70b).size_bytes
            (137953296384, 41422143488)
        """
        groups = _stored_groups(architecture)
        if self.kind == "gguf":
            return Packing(self, tuple(_assign_gguf(self, architecture, groups)))
        packed = (Component.EXPERTS,) if self.routed and architecture.num_experts > 1 else _LINEAR
        return Packing(self, tuple(self._assign_flat(group, packed) for group in groups))

    def assume(self, architecture: Architecture) -> Packing:
        """The model as one of llama.cpp's mixes would store it, by what its weights do, the family's layout unverified.

        Matrices follow the rules that the mix has for their roles in other families, and its main encoding where it has
        none; vectors and routers stay in fp32; towers lie in fp16, as in the separate files that hold projectors.

        Example:
            >>> from weighbridge.inspection import inspect
            >>> mamba = inspect("mamba-2.8b").architecture
            >>> find("q8_0").runs(mamba), find("q8_0").assume(mamba).is_assumed
            (False, True)
        """
        return Packing(self, tuple(_assume_gguf(self, architecture, _stored_groups(architecture))), is_assumed=True)

    def _assign_flat(self, group: TensorGroup, packed: tuple[Component, ...]) -> Assignment:
        weight = group.weight
        if self.kind == "plain" or not (_is_linear(weight) and group.component in packed):
            encoding = self.default if self.kind == "plain" else ENCODINGS["bf16"]
            return Assignment(group, None, encoding, group.count * encoding.size_bytes((weight.elements,)))
        inputs, outputs = weight.in_features, weight.elements // weight.in_features
        encoding = self.default
        divides = inputs % self.multiples[0] == 0 and outputs // weight.stacked % self.multiples[1] == 0
        if not divides or not (self.flat or encoding.fits(inputs)):
            plain = ENCODINGS["bf16"]
            return Assignment(group, None, plain, group.count * plain.size_bytes(weight.shape), wanted=encoding)
        padded = -(-weight.elements // encoding.elements_per_block) * encoding.elements_per_block
        scales = outputs * -(-inputs // self.group_size) if self.group_size else outputs
        size = encoding.size_bytes((padded,)) + (2 * scales if self.scales else 0)
        size += scales // 2 if self.zeros else 0
        size += 4 * inputs * weight.stacked if self.index else 0
        return Assignment(group, None, encoding, group.count * size)


def _stored_groups(architecture: Architecture) -> list[TensorGroup]:
    """What a file holds: no tied copies, no buffers, no layers that predict further tokens."""
    return [
        group
        for group in architecture.groups
        if group.weight.tied_to is None and group.weight.kind is Kind.PARAMETER and not group.mtp
    ]


_LINEAR = (Component.ATTENTION, Component.MLP, Component.EXPERTS, Component.SHARED_EXPERTS)


def _is_linear(weight: Weight) -> bool:
    """Whether a weight is a linear map, or those of all experts in one tensor."""
    return weight.use is Use.MATMUL and (len(weight.shape) == 2 or (weight.stacked > 1 and len(weight.shape) == 3))


# llama.cpp's categories by role. Roles that are not here are quantized to the default type when they are matrices.
_CATEGORY = {
    "token_embedding": "embedding", "head": "output",
    "attention_q": "q", "attention_k": "k", "attention_v": "v", "attention_qkv": "qkv", "attention_output": "o",
    "mlp_up": "up", "experts_up": "up", "mlp_gate": "gate", "experts_gate": "gate", "mlp_down": "down",
    "experts_down": "down",
}  # fmt: skip
_NEVER_QUANTIZED = ("position_embedding", "type_embedding", "router")

_FALLBACK = {
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s", "iq4_xs"), "iq4_nl"),
    **dict.fromkeys(("q2_0", "q2_k", "q3_k", "tq1_0", "tq2_0"), "q4_0"),
    "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0",
}  # fmt: skip

_FILE_TYPES = {
    "f32": "fp32", "f16": "fp16",
    "q1_0": "q1_0", "q2_0": "q2_0", "q4_0": "q4_0", "q4_1": "q4_1", "q5_0": "q5_0", "q5_1": "q5_1", "q8_0": "q8_0",
    "q2_k": "q2_k", "q2_k_s": "q2_k", "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k",
    "q4_k_s": "q4_k", "q4_k_m": "q4_k", "q5_k_s": "q5_k", "q5_k_m": "q5_k", "q6_k": "q6_k",
    "iq1_s": "iq1_s", "iq1_m": "iq1_m", "iq2_xxs": "iq2_xxs", "iq2_xs": "iq2_xs", "iq2_s": "iq2_xs", "iq2_m": "iq2_s",
    "iq3_xxs": "iq3_xxs", "iq3_xs": "iq3_s", "iq3_s": "iq3_s", "iq3_m": "iq3_s", "iq4_nl": "iq4_nl", "iq4_xs": "iq4_xs",
    "tq1_0": "tq1_0", "tq2_0": "tq2_0", "mxfp4_moe": "mxfp4",
}  # fmt: skip
"""The default encoding of each of llama.cpp's file types."""


# Only these categories have exceptions that depend on the layer.
_BY_LAYER = ("v", "qkv", "down", "gate", "up")


def _assign_gguf(recipe: Recipe, architecture: Architecture, groups: list[TensorGroup]) -> Iterator[Assignment]:
    tied = not any(group.weight.role == "head" for group in groups)
    values = [g for g in groups if _CATEGORY.get(g.weight.role) in ("v", "qkv") and g.weight.name.endswith("weight")]
    order = {layer: place for place, layer in enumerate(sorted(n for g in values for n in g.layers or ()))}
    for group in groups:
        if layouts.GGUF_NAMES.get(group.weight.role) is None:
            continue  # llama.cpp's files do not hold it
        category = _CATEGORY.get(group.weight.role, "other")
        if category == "embedding" and tied:
            category = "output"
        row, shape = group.weight.in_features, layouts.gguf_shape(group)
        size = 1 if group.layers is None else len(group.layers)
        if len(shape) < 2 or category not in _BY_LAYER or group.layers is None:
            chosen: dict[str, list[int] | None] = {_encoding_name(recipe, architecture, group, category): None}
        else:
            chosen = {}
            for layer in group.layers:
                place = (order[layer], len(order)) if category in ("v", "qkv") else (layer, architecture.num_layers)
                name = _layer_encoding(recipe.name, architecture, category, *place) or recipe.default.name
                layers = chosen.setdefault(name, [])
                assert layers is not None
                layers.append(layer)
        for name, in_layers in chosen.items():
            wanted = ENCODINGS[name]
            encoding = _fall_back(wanted, row)
            count = size if in_layers is None else len(in_layers)
            yield Assignment(group, None if in_layers is None else tuple(in_layers), encoding,
                             count * encoding.size_bytes(shape), None if encoding is wanted else wanted)  # fmt: skip


# Roles of families whose layout is not verified, by the category of their names in llama.cpp: names are matched by
# their parts, so that `ffn_down_shexp` is a `down`; merged gates and ups have the rule of either.
_ASSUMED_CATEGORY = _CATEGORY | {
    "attention_kv_b": "v", "linear_qkv": "qkv", "linear_output": "o",
    "shared_up": "up", "shared_gate": "gate", "shared_down": "down", "mlp_gate_up": "up", "experts_gate_up": "up",
    "channel_mix_key": "up", "channel_mix_value": "down",
}  # fmt: skip
_ASSUMED_FP32 = (
    *_NEVER_QUANTIZED, "shared_router", "altup", "convolution", "ssm_convolution", "time_mix_low_rank",
    "attention_bias", "attention_position", "recurrent",
)  # fmt: skip
"""Small matrices that llama.cpp keeps as they are: it skips convolutions, low ranks and tables of positions by name."""


_PUBLISHED_IN_MXFP4 = ("gpt_oss",)
"""Families whose experts come in MXFP4 and stay so in files of every mix: gpt-oss-120b is 63.4 GB as `q8_0` too."""


def _assume_gguf(recipe: Recipe, architecture: Architecture, groups: list[TensorGroup]) -> Iterator[Assignment]:
    # The rules ask for grouped queries and for Falcon: a model without attention has one head.
    model = replace(architecture, num_heads=max(1, architecture.num_heads),
                    num_kv_heads=max(1, architecture.num_kv_heads),
                    gguf_architecture="falcon" if architecture.family == "falcon" else None)  # fmt: skip
    inside = [group for group in groups if architecture.per_token(group.component)]
    tied = not any(group.weight.role == "head" for group in inside)
    values = [g for g in inside if _ASSUMED_CATEGORY.get(g.weight.role) in ("v", "qkv") and len(g.weight.shape) > 1]
    order = {layer: place for place, layer in enumerate(sorted({layer for g in values for layer in _layers(g)}))}
    for group in groups:
        weight = group.weight
        if not architecture.per_token(group.component):
            name = "fp16" if len(weight.shape) > 1 else "fp32"
            yield _assumed(group, None, ENCODINGS[name])
            continue
        category = _ASSUMED_CATEGORY.get(weight.role, "other")
        if category == "embedding" and tied:
            category = "output"
        if len(weight.shape) < 2 or weight.use is Use.ELEMENTWISE or weight.role in _ASSUMED_FP32:
            yield _assumed(group, None, ENCODINGS["fp32"])
        elif weight.experts * weight.stacked > 1 and (
            architecture.family in _PUBLISHED_IN_MXFP4 or recipe.name == "mxfp4_moe"
        ):
            yield _assumed(group, None, ENCODINGS["mxfp4"])
        elif category not in _BY_LAYER or group.layers is None:
            yield _assumed(group, None, ENCODINGS[_encoding_name(recipe, model, group, category)])
        else:
            chosen: dict[str, list[int]] = {}
            for layer, number in zip(group.layers, _layers(group), strict=True):
                place = (order[number], len(order)) if category in ("v", "qkv") else (number, model.num_layers)
                name = _layer_encoding(recipe.name, model, category, *place) or recipe.default.name
                chosen.setdefault(name, []).append(layer)
            for name, in_layers in chosen.items():
                yield _assumed(group, tuple(in_layers), ENCODINGS[name])


def _layers(group: TensorGroup) -> list[int]:
    """The layers of a group as the model counts them."""
    return [layer + group.offset for layer in group.layers or ()]


def _assumed(group: TensorGroup, layers: tuple[int, ...] | None, wanted: Encoding) -> Assignment:
    row = group.weight.in_features
    encoding = _fall_back(wanted, row)
    copies = group.count if layers is None else len(layers) * group.weight.experts
    size = copies * encoding.size_bytes((group.weight.elements // row, row))
    return Assignment(group, layers, encoding, size, None if encoding is wanted else wanted)


def _fall_back(wanted: Encoding, row: int) -> Encoding:
    """The encoding that takes rows of this length: the one wanted, its neighbour of smaller blocks, or fp16."""
    if wanted.fits(row):
        return wanted
    neighbour = ENCODINGS[_FALLBACK.get(wanted.name, "fp16")]
    return neighbour if neighbour.fits(row) else ENCODINGS["fp16"]


def _encoding_name(recipe: Recipe, architecture: Architecture, group: TensorGroup, category: str) -> str:
    """The encoding of a group whose tensors are alike in every layer."""
    weight = group.weight
    if len(layouts.gguf_shape(group)) < 2 or weight.role.endswith("_norm") or weight.role in _NEVER_QUANTIZED:
        return "fp32"
    default, file_type = recipe.default, recipe.name
    if category == "output":
        return _output_encoding(file_type, architecture, default, weight.in_features)
    if file_type == "mxfp4_moe":
        return "mxfp4" if weight.experts > 1 else "q8_0"
    if category == "embedding":
        return _EMBEDDING.get(file_type, default.name)
    return _layer_encoding(file_type, architecture, category, 0, architecture.num_layers) or default.name


_EMBEDDING = {
    **dict.fromkeys(("iq2_xxs", "iq2_xs", "iq1_s", "iq1_m"), "q2_k"),
    **dict.fromkeys(("iq2_s", "iq2_m", "iq3_xxs"), "iq3_s"),
    **dict.fromkeys(("tq1_0", "tq2_0", "q2_0"), "q4_k"),
}


def _output_encoding(file_type: str, architecture: Architecture, default: Encoding, row: int) -> str:
    if file_type == "mxfp4_moe" or architecture.gguf_architecture == "falcon" or not default.fits(row):
        return "q8_0"
    if file_type in ("iq2_xxs", "iq2_xs", "iq3_xxs", "iq1_s", "iq2_s", "iq2_m", "iq1_m"):
        return "q5_k"
    return "q8_0" if default.name == "q8_0" else "q6_k"


def _more_bits(place: int, number: int) -> bool:
    """The first and last eighth of the layers, and every third between them."""
    return place < number // 8 or place >= 7 * number // 8 or (place - number // 8) % 3 == 2


def _layer_encoding(file_type: str, model: Architecture, category: str, place: int, number: int) -> str | None:
    """The exception that a file type makes for a tensor of this category at this place; None for its default."""
    if file_type == "mxfp4_moe":
        return "mxfp4" if model.num_experts > 1 and category in ("up", "gate", "down") else "q8_0"
    grouped, eight = model.num_heads // model.num_kv_heads >= 4, model.num_experts == 8
    falcon = model.gguf_architecture == "falcon"
    if file_type in ("iq2_xxs", "iq2_xs", "iq1_s", "iq2_s", "iq2_m", "iq1_m"):
        return _low_bit_encoding(file_type, model, category, place, number)
    if category in ("v", "qkv"):
        chosen = _value_encoding(file_type, grouped, place, _more_bits(place, number))
        if _is_70b(model) and (chosen or _FILE_TYPES[file_type]) in ("q3_k", "q4_k"):
            chosen = "q5_k"
        return "q8_0" if eight else chosen
    if category in ("k", "q"):
        if category == "k" and eight:
            return "q8_0"
        return {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(file_type)
    if category == "down":
        return _down_encoding(file_type, falcon, eight, place, number)
    if category == "o":
        if falcon:
            return "q4_k" if file_type == "q3_k_l" else None
        if eight:
            raised = ("q2_k", "iq3_xs", "iq3_xxs", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m", "iq3_s", "iq3_m",
                      "iq4_xs")  # fmt: skip
            return "q5_k" if file_type in raised else None
        return {"q2_k": "q3_k", "iq3_xxs": "iq3_s", "q3_k_m": "q4_k", "q3_k_l": "q5_k", "iq3_m": "q4_k"}.get(file_type)
    if category in ("gate", "up") and file_type == "iq3_xs" and number // 8 <= place < 7 * number // 8:
        return "iq3_xxs"
    return None


def _value_encoding(file_type: str, grouped: bool, place: int, more: bool) -> str | None:
    fixed = {"q3_k_l": "q5_k", "iq3_m": "q4_k", "q2_k": "q4_k" if grouped else "q3_k",
             "q3_k_m": "q5_k" if place < 2 else "q4_k"}  # fmt: skip
    if file_type in fixed:
        return fixed[file_type]
    if grouped and file_type in ("q2_k_s", "iq3_xxs", "iq3_xs", "iq3_s"):
        return "q4_k"
    if grouped and file_type in ("iq4_nl", "iq4_xs"):
        return "q5_k"
    if file_type in ("q4_k_m", "q5_k_m") and more:
        return "q6_k"
    return "q5_k" if file_type == "q4_k_s" and place < 4 else None


def _down_encoding(file_type: str, falcon: bool, eight: bool, place: int, number: int) -> str | None:
    first_eighth, more = place < number // 8, _more_bits(place, number)
    first_sixteenth = place < number // 16
    if file_type == "q4_k_m" and falcon:
        return "q6_k" if first_sixteenth else "q5_k" if more else None
    if file_type == "q3_k_m":
        return "q5_k" if first_sixteenth else "q4_k" if not falcon or more else None
    if file_type in ("q4_k_m", "q5_k_m"):
        return "q6_k" if more else None
    if file_type == "iq3_m":
        return "q4_k" if first_eighth or (eight and more) else None
    fixed = {"q2_k": "q3_k", "q3_k_l": "q4_k" if falcon else "q5_k"}
    raised = {"q2_k_s": "q4_k", "iq4_nl": "q5_k", "iq4_xs": "q5_k"} | ({} if falcon else {"q4_k_s": "q5_k"})
    return fixed.get(file_type) or (raised.get(file_type) if first_eighth else None)


def _low_bit_encoding(file_type: str, model: Architecture, category: str, place: int, number: int) -> str | None:
    raised = "iq3_s" if file_type in ("iq2_s", "iq2_m") else "q2_k"
    if category in ("v", "qkv"):
        return "q4_k" if model.num_heads // model.num_kv_heads >= 4 or model.num_experts >= 4 else raised
    if category == "k" and model.num_experts == 8:
        return "q4_k"
    if category == "down":
        return raised if place < number // 8 else None
    if category == "o":
        if model.num_experts == 8:
            return "q5_k"
        return {"iq1_s": "iq2_xxs", "iq1_m": "iq2_xxs", "iq2_s": "iq3_s", "iq2_m": "iq3_s"}.get(file_type)
    return None


def _is_70b(model: Architecture) -> bool:
    """What llama.cpp takes for a 70B model when it loads it: 80 layers, and grouped queries if it is a Llama."""
    if model.num_layers != 80 or model.gguf_architecture not in ("llama", "qwen2"):
        return False
    return model.gguf_architecture == "qwen2" or (model.num_heads != model.num_kv_heads and model.num_experts != 8)


def _recipes() -> Iterator[Recipe]:
    for name in ("fp32", "bf16", "fp16", "fp8", "int8", "int4"):
        yield Recipe(name, "plain", ENCODINGS[name])
    for name, default in _FILE_TYPES.items():
        if name not in ("f32", "f16"):
            yield Recipe(name, "gguf", ENCODINGS[default])
    int4 = ENCODINGS["int4"]
    yield Recipe("gptq-int4-g128", "packed", int4, 128, scales=True, zeros=True, index=True, multiples=(32, 32))
    yield Recipe("awq-int4-g128", "packed", int4, 128, scales=True, zeros=True, multiples=(128, 8))
    yield Recipe("w8a8", "packed", ENCODINGS["int8"], scales=True)
    yield Recipe("nf4", "packed", ENCODINGS["nf4"], flat=True)
    yield Recipe("mxfp4", "packed", ENCODINGS["mxfp4"], routed=True)
    yield Recipe("nvfp4", "packed", ENCODINGS["nvfp4"])


RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in _recipes()}
"""Every recipe by its name."""

_SPELLINGS = {encodings.plain_spelling(name): recipe for name, recipe in RECIPES.items()}


def find(name: str) -> Recipe:
    """The recipe of this name, in any common spelling.

    Raises:
        UnknownNameError: for a name in no table; it lists the nearest ones.

    Example:
        >>> find("Q4_K - Medium").name, find("float16").name, find("GPTQ-int4-g128").kind
        ('q4_k_m', 'fp16', 'packed')
    """
    spelling = encodings.plain_spelling(name)
    if spelling in _SPELLINGS:
        return _SPELLINGS[spelling]
    for recipe in RECIPES.values():
        if recipe.kind == "plain" and spelling in recipe.default.aliases:
            return recipe
    raise UnknownNameError("encoding or mix", name, RECIPES, "run `weigh encodings` for the whole list")
