"""How do a language model and the towers beside it make one model? The placements of both, joined under their paths.

A multimodal configuration nests one configuration for each part (`text_config`, `vision_config`). Files trim what
equals the default of the part's class, so those defaults are filled in here: the class defaults of transformers 5.23.0,
from the `configuration_*.py` of each model type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from weighbridge.model import families
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Block, Embedding, Linear
from weighbridge.model.blocks.tied import Tied
from weighbridge.model.blocks.vector import Vector
from weighbridge.model.family import head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True)
class TextClass:
    """The language model inside: the class that has its wiring, and what its own configuration class leaves unsaid."""

    model_type: str
    class_name: str
    defaults: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def _sizes(hidden: int, inner: int, layers: int, heads: int, vocab: int, **more: Any) -> Mapping[str, Any]:
    return MappingProxyType({"hidden_size": hidden, "intermediate_size": inner, "num_layers": layers,
                             "num_heads": heads, "vocab_size": vocab, **more})  # fmt: skip


TEXT_CLASSES: Mapping[str, TextClass] = MappingProxyType({
    "llama": TextClass("llama", "LlamaForCausalLM", _sizes(4096, 11008, 32, 32, 32000)),
    "mistral": TextClass("mistral", "MistralForCausalLM",
                         _sizes(4096, 14336, 32, 32, 32000, num_kv_heads=8, sliding_window=4096)),
    "qwen2": TextClass("qwen2", "Qwen2ForCausalLM",
                       _sizes(4096, 22016, 32, 32, 151936, num_kv_heads=32, sliding_window=4096, max_window_layers=28)),
    "qwen3": TextClass("qwen3", "Qwen3ForCausalLM",
                       _sizes(4096, 22016, 32, 32, 151936, num_kv_heads=32, head_dim=128)),
    "gemma": TextClass("gemma", "GemmaForCausalLM",
                       _sizes(3072, 24576, 28, 16, 256000, num_kv_heads=16, head_dim=256)),
    "gemma2": TextClass("gemma2", "Gemma2ForCausalLM",
                        _sizes(2304, 9216, 26, 8, 256000, num_kv_heads=4, head_dim=256, sliding_window=4096)),
    "cohere2": TextClass("cohere2", "Cohere2ForCausalLM", _sizes(8192, 22528, 40, 64, 256000)),
    "opt": TextClass("opt", "OPTForCausalLM", MappingProxyType({
        "hidden_size": 768, "num_layers": 12, "num_heads": 12, "vocab_size": 50272, "ffn_dim": 3072})),
    "t5": TextClass("t5", "T5ForConditionalGeneration", MappingProxyType({
        "hidden_size": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8, "vocab_size": 32128})),
    "ministral3": TextClass("ministral3", "Ministral3ForCausalLM",
                            _sizes(4096, 14336, 34, 32, 131072, num_kv_heads=8, head_dim=128)),
    "mistral4": TextClass("mistral4", "Mistral4ForCausalLM",
                          _sizes(4096, 12288, 36, 32, 131072, q_lora_rank=1024, n_shared_experts=1)),
})  # fmt: skip
"""The language models that stand inside others, by the model type of `text_config`."""


def check_class(hyperparameters: Hyperparameters, *prefixes: str) -> None:
    """Refuses any class but the one that generates text: `LlavaForConditionalGeneration` and its like.

    Raises:
        ConfigError: for another class.
    """
    if head_class(hyperparameters, prefixes, "ForConditionalGeneration") != "ForConditionalGeneration":
        raise unknown_class(hyperparameters, tuple(f"{prefix}ForConditionalGeneration" for prefix in prefixes))


def text_model(text: Hyperparameters, text_class: TextClass, *, tied: bool) -> Architecture:
    """The language model of a part's settings, its class's defaults filled in.

    `tied` says whether its head is the token table, which the whole decides and not the part.

    Raises:
        UnknownNameError: when no family describes the language model.
        ConfigError: when the family refuses the settings.
    """
    settings = {**text_class.defaults, **text.settings, "tie_embeddings": tied}
    return families.build(Hyperparameters(text.source, text_class.model_type, settings, (text_class.class_name,),
                                          spellings=text.spellings))  # fmt: skip


def with_defaults(part: Hyperparameters, defaults: Mapping[str, Any]) -> Hyperparameters:
    """The settings of a part with those of its class where a key is missing; a null key stays null.

    Example:
        >>> with_defaults(Hyperparameters("a.json", "part", {"depth": 2}), {"depth": 32, "width": 8}).settings
        {'depth': 2, 'width': 8}
    """
    return replace(part, settings={**defaults, **part.settings})


def optional_part(hyperparameters: Hyperparameters, name: str) -> Hyperparameters:
    """The settings of a part, or none where the part is missing: its class then has all its defaults."""
    if hyperparameters.settings.get(name) is None:
        return Hyperparameters(hyperparameters.source, "part", {})
    return hyperparameters.part(name)


def tied_anywhere(hyperparameters: Hyperparameters, text: Hyperparameters, default: bool = False) -> bool:
    """Whether the head is tied where either configuration may say so, the part's class by `default`."""
    return hyperparameters.flag("tie_embeddings", False) or text.flag("tie_embeddings", default)


def tower(placements: Iterable[Placement]) -> tuple[Placement, ...]:
    """The placements of a tower or projector: all of it is the component of towers."""
    return tuple(replace(placement, component=Component.VISION_AUDIO) for placement in placements)


def moved(placements: Iterable[Placement], prefixes: Sequence[tuple[str, str]]) -> tuple[Placement, ...]:
    """The placements under other paths: the first of `prefixes` that a path starts with is replaced.

    Example:
        >>> from weighbridge.model.blocks import Norm
        >>> moved([Placement("model.norm", Norm(width=8))], [("model.", "model.language_model.")])[0].path
        'model.language_model.norm'
    """

    def move(path: str) -> str:
        old, new = next(((o, n) for o, n in prefixes if path.startswith(o)), ("", ""))
        return new + path[len(old) :]

    def moved_block(block: Block) -> Block:
        if isinstance(block, Linear | Embedding | Vector) and block.tied_to:
            return replace(block, tied_to=move(block.tied_to))
        return replace(block, owner=move(block.owner)) if isinstance(block, Tied) else block

    return tuple(replace(p, path=move(p.path), block=moved_block(p.block)) for p in placements)


def joined(
    hyperparameters: Hyperparameters,
    family: str,
    text: Architecture,
    beside: Iterable[Placement],
    prefixes: Sequence[tuple[str, str]] = (),
) -> Architecture:
    """The language model with what stands beside it; layers, heads and caches are those of the language model."""
    return replace(
        text,
        family=family,
        model_type=hyperparameters.model_type,
        placements=(*beside, *moved(text.placements, prefixes)),
        base_prefix="",
        gguf_architecture=None,
        notes=tuple(note for note in text.notes if not note.startswith("no class is named")),
    )
