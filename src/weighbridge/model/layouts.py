"""By which name and shape does a file store a weight?

Hugging Face checkpoints use the module paths of transformers, which the families give. GGUF files use llama.cpp's
names, which depend on the role alone (llama.cpp `src/llama-arch.cpp` and `gguf-py/gguf/tensor_mapping.py`, 2026-11).
llama.cpp merges the experts of a layer into one tensor, stores linear weights as (out, in) throughout, and leaves out a
tied head, which it takes from the token table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from weighbridge.model import encodings
from weighbridge.model.blocks import Weight
from weighbridge.model.encodings import Encoding
from weighbridge.model.tensors import Component, Kind, TensorSpec

GGUF_NAMES = {
    "token_embedding": "token_embd",
    "position_embedding": "position_embd",
    "type_embedding": "token_types",
    "embedding_norm": "token_embd_norm",
    "attention_norm": "attn_norm",
    "attention_q": "attn_q",
    "attention_k": "attn_k",
    "attention_v": "attn_v",
    "attention_qkv": "attn_qkv",
    "attention_output": "attn_output",
    "attention_output_norm": "attn_output_norm",
    "mlp_post_norm": "post_ffw_norm",
    "attention_post_norm": "post_attention_norm",
    "attention_k_norm": "attn_k_norm",
    "attention_q_norm": "attn_q_norm",
    "mlp_norm": "ffn_norm",
    "mlp_gate": "ffn_gate",
    "mlp_up": "ffn_up",
    "mlp_down": "ffn_down",
    "mlp_output_norm": "layer_output_norm",
    "router": "ffn_gate_inp",
    "experts_gate": "ffn_gate_exps",
    "experts_up": "ffn_up_exps",
    "experts_down": "ffn_down_exps",
    "final_norm": "output_norm",
    "head": "output",
}
"""llama.cpp's name for each role; a role that is not here is not stored in GGUF files."""
_OPEN = "\0"
"""Stands for the number of an expert that is yet to come. No name holds it."""


@dataclass(frozen=True, slots=True)
class TensorGroup:
    """Like tensors in one row: a weight, the path it stands under, the layers it stands in.

    `offset` is how many layers of the model come before the one that names call 0.
    """

    path: str
    weight: Weight
    layers: Sequence[int] | None
    component: Component
    mtp: bool = False
    offset: int = 0

    @property
    def count(self) -> int:
        """How many tensors the row stands for."""
        return (1 if self.layers is None else len(self.layers)) * self.weight.experts

    @property
    def decoder_layers(self) -> Sequence[int]:
        """The layers of the model proper that it stands in: a tower beside it numbers its own."""
        return () if self.component is Component.VISION_AUDIO else self.layers or ()

    @property
    def elements(self) -> int:
        """Elements of all of them."""
        return self.count * self.weight.elements

    @property
    def name(self) -> str:
        """The name with `{layer}` and `{expert}` left open."""
        return f"{self.path}.{self.weight.name}" if self.path else self.weight.name

    def names(self) -> list[str]:
        """The name of each tensor, layer by layer and in a layer expert by expert."""
        # A mixture has 90,000 of them: the layer is filled in once for all experts, whose numbers then join the rest.
        experts = list(map(str, range(self.weight.experts)))
        found: list[str] = []
        for layer in self.layers if self.layers is not None else (None,):
            rest = self.name.format(layer=layer, expert=_OPEN).split(_OPEN)
            found += [expert.join(rest) for expert in experts]
        return found


def gguf_shape(group: TensorGroup) -> tuple[int, ...]:
    """The shape of the tensor that llama.cpp stores for a group, in reference order."""
    weight = group.weight
    shape = weight.shape[::-1] if weight.transposed else weight.shape
    return (weight.experts, *shape) if weight.experts > 1 else shape


def gguf_name(group: TensorGroup, layer: int | None) -> str | None:
    """llama.cpp's name for a group in a layer, or None when its files do not hold it."""
    name = GGUF_NAMES.get(group.weight.role)
    if group.component is Component.VISION_AUDIO:  # files for llama.cpp keep towers apart
        return None
    if name is None or group.mtp or group.weight.kind is not Kind.PARAMETER:
        return None
    suffix = "bias" if group.weight.name.endswith("bias") else "weight"
    return f"{name}.{suffix}" if layer is None else f"blk.{layer}.{name}.{suffix}"


def huggingface_tensors(groups: Sequence[TensorGroup], encoding: Encoding) -> Iterator[TensorSpec]:
    """Each tensor of each group, layer by layer in the order of the groups, tied copies included."""
    for group in groups:
        weight, names = group.weight, iter(group.names())
        stored = encoding if weight.kind is Kind.PARAMETER else encodings.find("int64")
        is_of_decoder = bool(group.decoder_layers)
        for layer in group.layers if group.layers is not None else (None,):
            place = layer + group.offset if layer is not None and is_of_decoder else None
            for name in islice(names, weight.experts):
                yield TensorSpec(name, weight.shape, stored, weight.role, group.component, place, weight.active,
                                 weight.experts * weight.stacked, weight.kind, weight.tied_to, group.mtp)  # fmt: skip


def gguf_tensors(groups: Sequence[TensorGroup], encoding: Encoding) -> Iterator[TensorSpec]:
    """Each tensor that a GGUF file of the model may hold, experts merged; a tied head is one that it may leave out."""
    owners = {group.name: gguf_name(group, None) for group in groups if group.layers is None}
    for group in groups:
        weight = group.weight
        tied_to = owners.get(weight.tied_to or "")
        for layer in group.layers if group.layers is not None else (None,):
            name = gguf_name(group, layer)
            if name is not None:
                yield TensorSpec(name, gguf_shape(group), encoding, weight.role, group.component, layer,
                                 weight.active, weight.experts * weight.stacked, tied_to=tied_to)  # fmt: skip
