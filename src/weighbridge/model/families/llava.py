"""LLaVA and its like: an image encoder, a projector of one or two maps, and a language model, all described elsewhere.

Source: transformers `models/{llava,llava_next,llava_onevision,paligemma,mistral3}/{configuration,modeling}_*.py` (5.x).
They differ in the projector and in where the configuration says that the head is tied. Tensor names are those of
published files (`language_model.model.layers`), which transformers 5 renames when it loads them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm, Vector
from weighbridge.model.composite import TEXT_CLASSES, check_class, joined, text_model, tied_anywhere, tower
from weighbridge.model.families import clip, pixtral, siglip
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder

_TOWERS: Mapping[str, Callable[[Hyperparameters], tuple[tuple[Placement, ...], int]]] = MappingProxyType({
    "clip_vision_model": lambda vision: _sized(clip.vision_encoder(vision, "vision_tower.vision_model")),
    "siglip_vision_model": lambda vision: _sized(siglip.vision_encoder(vision, "vision_tower.vision_model")),
    "pixtral": lambda vision: _sized(pixtral.vision_encoder(vision, "vision_tower")),
})  # fmt: skip
_PROJECTOR = "multi_modal_projector"


def _sized(found: tuple[tuple[Placement, ...], Encoder]) -> tuple[tuple[Placement, ...], int]:
    placements, layers = found
    return placements, layers.hidden_size


@dataclass(frozen=True, slots=True)
class _Kind:
    """What sets a model type apart: its class, its parts where unnamed, and what stands between them."""

    class_name: str
    tower: str
    text: str
    projector: Callable[[Hyperparameters, int, int], tuple[Placement, ...]]
    tied: bool | None = False
    either: bool = False
    """Whether the text's configuration may tie the head, besides the outer one."""


def _mlp(hyperparameters: Hyperparameters, width: int, hidden: int, bias: bool = True) -> tuple[Placement, ...]:
    layers = hyperparameters.settings.get("vision_feature_layer")
    inputs = width * (len(layers) if isinstance(layers, list | tuple) and layers else 1)
    biased = hyperparameters.flag("multimodal_projector_bias", bias)
    return (
        Placement(_PROJECTOR + ".linear_1", Linear(in_features=inputs, out_features=hidden, bias=biased)),
        Placement(_PROJECTOR + ".linear_2", Linear(in_features=hidden, out_features=hidden, bias=biased)),
    )


def _newline(hyperparameters: Hyperparameters, width: int, hidden: int) -> tuple[Placement, ...]:
    return (Placement("", Vector(name="image_newline", width=hidden)), *_mlp(hyperparameters, width, hidden))


def _merger(hyperparameters: Hyperparameters, width: int, hidden: int) -> tuple[Placement, ...]:
    patches = hyperparameters.count("spatial_merge_size", 2) ** 2
    merge = Linear(in_features=width * patches, out_features=width, bias=False)
    return (
        Placement(_PROJECTOR + ".norm", Norm(width=width, bias=False)),
        Placement(_PROJECTOR + ".patch_merger.merging_layer", merge),
        *_mlp(hyperparameters, width, hidden, bias=False),
    )


def _one_map(hyperparameters: Hyperparameters, width: int, hidden: int) -> tuple[Placement, ...]:
    projected = hyperparameters.count("projection_dim", 2048)
    if projected != hidden:
        read = f"{hyperparameters.source} projects images to {projected} numbers for a text of {hidden}"
        raise ConfigError(read, "one width for both", "correct projection_dim")
    return (Placement(_PROJECTOR + ".linear", Linear(in_features=width, out_features=hidden)),)


_KINDS = {
    "llava": _Kind("Llava", "clip_vision_model", "llama", _mlp, either=True),
    "llava_next": _Kind("LlavaNext", "clip_vision_model", "llama", _newline),
    "llava_onevision": _Kind("LlavaOnevision", "siglip_vision_model", "qwen2", _newline, either=True),
    "paligemma": _Kind("PaliGemma", "siglip_vision_model", "gemma", _one_map, tied=True),
    "mistral3": _Kind("Mistral3", "pixtral", "mistral", _merger, tied=None),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its image encoder and projector."""
    kind = _KINDS[hyperparameters.model_type]
    check_class(hyperparameters, kind.class_name)
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    text_class = TEXT_CLASSES[_named(text, kind.text, TEXT_CLASSES)]
    encoder, width = _TOWERS[_named(vision, kind.tower, _TOWERS)](vision)
    language = text_model(text, text_class, tied=_tied(hyperparameters, text, kind))
    hidden = text.count("hidden_size", text_class.defaults["hidden_size"])
    beside = tower((*encoder, *kind.projector(hyperparameters, width, hidden)))
    return joined(hyperparameters, "llava", language, beside, [("", "language_model.")])


def _named(part: Hyperparameters, default: str, known: Mapping[str, object]) -> str:
    name = default if part.model_type == "part" else part.model_type
    if name not in known:
        raise ConfigError(f"{part.source} is of the model type {name[:60]}",
                          f"one that is described inside others: {', '.join(known)}",
                          "ask for support of this combination")  # fmt: skip
    return name


def _tied(hyperparameters: Hyperparameters, text: Hyperparameters, kind: _Kind) -> bool:
    if kind.either:
        return tied_anywhere(hyperparameters, text)
    if kind.tied is None and hyperparameters.settings.get("tie_embeddings") is None:
        raise ConfigError(
            f"{hyperparameters.source} has no tie_word_embeddings, which its class takes for true and published "
            "weights for false", "the key with true or false", "add the key",
        )  # fmt: skip
    return hyperparameters.flag("tie_embeddings", bool(kind.tied))


FAMILY = Family(
    name="llava",
    title="LLaVA 1.5, NeXT and OneVision, PaliGemma, Mistral Small 3 with its tower",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/llava, llava_next, llava_onevision, paligemma, mistral3",
    build=build,
)
