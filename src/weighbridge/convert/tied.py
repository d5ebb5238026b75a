"""Which tensors of a model are the same matrix under a second name, so that one of them is enough?

Names that share storage in a PyTorch file are aliases; safetensors cannot share, so one of them is written, as
`save_model` of safetensors does: the first by its name, apart from what the model ties to another. A copy that has
storage of its own is one where the description of the model ties it; two equal matrices alone say nothing. Either way
nothing is left out whose bytes are not the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from weighbridge.convert.copying import checksum
from weighbridge.formats.byte_source import Folder
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.model.architecture import Architecture
from weighbridge.model.tensors import TensorSpec


@dataclass(frozen=True, slots=True)
class Tied:
    """What can be left out: each name with the one that stays; `notes` say what stays though it is said to be tied."""

    same_as: Mapping[str, str]
    notes: tuple[str, ...] = ()


def described(architecture: Architecture, names: frozenset[str]) -> dict[str, str]:
    """Stored names that a model ties to another stored one, with that one; files of the bare model leave a prefix out.

    Example:
        >>> from weighbridge.inspection import inspect
        >>> shape = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "vocab_size": 9,
        ...          "num_attention_heads": 2, "intermediate_size": 128, "tie_word_embeddings": True}
        >>> llama = inspect(shape).architecture
        >>> described(llama, frozenset({"lm_head.weight", "model.embed_tokens.weight"}))
        {'lm_head.weight': 'model.embed_tokens.weight'}
    """
    prefix = architecture.base_prefix
    found = {}
    for tensor in architecture.tensors():
        if tensor.tied_to is not None:
            spellings = ((one, one.removeprefix(prefix)) for one in (tensor.name, tensor.tied_to))
            name, owner = (next((one for one in some if one in names), None) for some in spellings)
            if name is not None and owner is not None:
                found[name] = owner
    return found


def find(checkpoint: Checkpoint, folder: Folder, said: Mapping[str, str], *, drop_copies: bool) -> Tied:
    """What can be left out of a checkpoint; what comes into question is read once.

    Args:
        checkpoint: what a reader returned.
        folder: of its files.
        said: `described` ties of the model.
        drop_copies: also leave out tied tensors that have storage of their own.

    Raises:
        WeighbridgeError: when a tensor cannot be read.
    """
    stored = {tensor.name: tensor for tensor in checkpoint.tensors}
    known: dict[str, str] = {}

    def contents_of(tensor: TensorSpec) -> tuple[object, ...]:
        if tensor.name not in known:
            known[tensor.name] = checksum(checkpoint, tensor, folder)
        return tensor.encoding, tensor.shape, known[tensor.name]

    same: dict[tuple[object, ...], list[str]] = {}
    for tensor in checkpoint.tensors:
        if tensor.tied_to is not None and tensor.elements:
            for name in (tensor.tied_to, tensor.name):
                names = same.setdefault((tensor.tied_to, *contents_of(stored[name])), [])
                if name not in names:
                    names.append(name)
    dropped: dict[str, str] = {}
    for names in same.values():
        owner = min(names, key=lambda name: (said.get(name) in names, name))
        dropped |= {name: owner for name in sorted(names) if name != owner}
    notes = []
    for name, owner in said.items() if drop_copies else ():
        if name in dropped or dropped.get(owner) == name:
            continue
        if contents_of(stored[name]) == contents_of(stored[owner]):
            dropped[name] = dropped.get(owner, owner)
        else:
            notes.append(f"{name} is tied to {owner} by the model's description and differs from it: it stays")
    return Tied(dropped, tuple(notes))
