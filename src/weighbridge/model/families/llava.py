"""LLaVA and its like: an image encoder, a projector of one or two maps, and a language model, all described elsewhere.

Source: transformers `models/<model_type>/{configuration,modeling}_<model_type>.py` (5.x) for each row of the table.
They differ in the projector and in where the configuration says that the head is tied. Tensor names are those of
published files (`language_model.model.layers`), which transformers 5 renames when it loads them; files of the newer
models have its own (`model.language_model.layers`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm, Vector
from weighbridge.model.composite import TEXT_CLASSES, check_class, joined, moved, text_model, tied_anywhere, tower
from weighbridge.model.families import clip, pixtral, siglip
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, encoder, patches

_PROJECTOR = "multi_modal_projector"

_Names = tuple[tuple[str, str], ...]
_OLD: _Names = (("model.", "language_model.model."), ("lm_head", "language_model.lm_head"))
_NEW: _Names = (("vision_tower", "model.vision_tower"), (_PROJECTOR, "model." + _PROJECTOR),
                ("model.", "model.language_model."))  # fmt: skip


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
    names: _Names = _OLD
    """What the paths of the parts begin with in files of this model type."""
    films: bool = False
    """Whether a second tower reads films."""
    refused: Mapping[str, object] = field(default_factory=dict)
    """Settings that add weights which are not described, and with which values."""


def _rotary(vision: Hyperparameters) -> tuple[tuple[Placement, ...], int]:
    """SigLIP's encoder with rotary positions instead of a table, and without a pooling head."""
    layers = encoder(vision, 768, 3072, 12, 12)
    width = layers.hidden_size
    return (
        Placement("vision_tower.embeddings.patch_embedding", patches(vision, 2**20, 16).convolution(width)),
        *layers.placements("vision_tower.encoder.layers.{layer}"),
        Placement("vision_tower.post_layernorm", Norm(width=width, role="final_norm")),
    ), width


_TOWERS: Mapping[str, Callable[[Hyperparameters], tuple[tuple[Placement, ...], int]]] = MappingProxyType({
    "clip_vision_model": lambda vision: _sized(clip.vision_encoder(vision, "vision_tower.vision_model")),
    "siglip_vision_model": lambda vision: _sized(siglip.vision_encoder(vision, "vision_tower.vision_model")),
    "pixtral": lambda vision: _sized(pixtral.vision_encoder(vision, "vision_tower")),
    "video_llama_3_vision": _rotary,
})  # fmt: skip


def _layers_read(hyperparameters: Hyperparameters, default: tuple[int, ...] | None) -> int:
    """How many of the image encoder's layers the projector reads, side by side."""
    layers = hyperparameters.settings.get("vision_feature_layer", default)
    return hyperparameters.derived("vision_feature_layer", len(layers)) if isinstance(layers, list | tuple) else 1


def _mlp(hyperparameters: Hyperparameters, width: int, hidden: int, bias: bool = True) -> tuple[Placement, ...]:
    inputs = width * _layers_read(hyperparameters, None)
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


def _normed(hyperparameters: Hyperparameters, width: int, hidden: int) -> tuple[Placement, ...]:
    inputs = width * _layers_read(hyperparameters, (-2, -5, -8, -11, 6))
    return (
        Placement(_PROJECTOR + ".projector_layernorm", Norm(width=inputs)),
        Placement(_PROJECTOR + ".linear_1", Linear(in_features=inputs, out_features=hidden)),
        Placement(_PROJECTOR + ".linear_2", Linear(in_features=hidden, out_features=hidden)),
    )


def _plain(hyperparameters: Hyperparameters, width: int, hidden: int) -> tuple[Placement, ...]:
    return (
        Placement(_PROJECTOR + ".linear_1", Linear(in_features=width, out_features=hidden)),
        Placement(_PROJECTOR + ".linear_2", Linear(in_features=hidden, out_features=hidden)),
    )


def _gated(hyperparameters: Hyperparameters, width: int, hidden: int, inner: int) -> tuple[Placement, ...]:
    wide = width * hyperparameters.count("downsample_factor", 2) ** 2
    inner = hyperparameters.count("alignment_intermediate_size", inner)
    half = hyperparameters.derived("half of alignment_intermediate_size", inner // 2)
    return (
        Placement(_PROJECTOR + ".linear_1", Linear(in_features=wide, out_features=inner)),
        Placement(_PROJECTOR + ".linear_2", Linear(in_features=half, out_features=hidden)),
    )


def _aya(hyperparameters: Hyperparameters, width: int, hidden: int) -> tuple[Placement, ...]:
    wide = width * hyperparameters.count("downsample_factor", 2) ** 2
    norm = Placement(_PROJECTOR + ".layernorm", Norm(width=wide))
    return (norm, *_gated(hyperparameters, width, hidden, hidden))


def _command(hyperparameters: Hyperparameters, width: int, hidden: int) -> tuple[Placement, ...]:
    return _gated(hyperparameters, width, hidden, 36864)


def _one_map(hyperparameters: Hyperparameters, width: int, hidden: int) -> tuple[Placement, ...]:
    projected = hyperparameters.count("projection_dim", 2048)
    if projected != hidden:
        read = f"{hyperparameters.source} projects images to {projected} numbers for a text of {hidden}"
        raise ConfigError(read, "one width for both", "correct projection_dim")
    return (Placement(_PROJECTOR + ".linear", Linear(in_features=width, out_features=hidden)),)


_ALIGNER = (("vision_tower", "model.vision_model"), (_PROJECTOR + ".linear_", "model.aligner.linear"), *_NEW[2:])
_OCR = (("vision_tower", "model.vision_encoder"), (_PROJECTOR, "model.vision_projection"), *_NEW[2:])
_READOUT = (("vision_tower", "model.vision_model"), (_PROJECTOR + ".linear_1", "model.projector.readout.0"),
            (_PROJECTOR + ".linear_2", "model.projector.readout.2"), *_NEW[2:])  # fmt: skip

_KINDS = {
    "llava": _Kind("Llava", "clip_vision_model", "llama", _mlp, either=True),
    "llava_next": _Kind("LlavaNext", "clip_vision_model", "llama", _newline),
    "llava_next_video": _Kind("LlavaNextVideo", "clip_vision_model", "llama", _newline, either=True,
                              refused={"spatial_pool_mode": "conv"}),
    "llava_onevision": _Kind("LlavaOnevision", "siglip_vision_model", "qwen2", _newline, either=True),
    "vipllava": _Kind("VipLlava", "clip_vision_model", "llama", _normed),
    "video_llava": _Kind("VideoLlava", "clip_vision_model", "llama", _mlp, films=True),
    "video_llama_3": _Kind("VideoLlama3", "video_llama_3_vision", "qwen2", _plain, either=True, names=_READOUT),
    "paligemma": _Kind("PaliGemma", "siglip_vision_model", "gemma", _one_map, tied=True),
    "mistral3": _Kind("Mistral3", "pixtral", "mistral", _merger, tied=None),
    "lighton_ocr": _Kind("LightOnOcr", "pixtral", "qwen3", _merger, tied=None, names=_OCR,
                         refused={"multimodal_projector_bias": True}),
    "deepseek_vl": _Kind("DeepseekVL", "siglip_vision_model", "llama", _plain, tied=None, names=_ALIGNER),
    "aya_vision": _Kind("AyaVision", "siglip_vision_model", "cohere2", _aya, tied=True),
    "cohere2_vision": _Kind("Cohere2Vision", "siglip_vision_model", "cohere2", _command, tied=True, names=_NEW),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its image encoder and projector."""
    kind = _KINDS[hyperparameters.model_type]
    check_class(hyperparameters, kind.class_name)
    for key, value in kind.refused.items():
        if hyperparameters.settings.get(key) == value:
            hyperparameters.refuse(key, "which adds weights that are not described")
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    text_class = TEXT_CLASSES[_named(text, kind.text, TEXT_CLASSES)]
    images, width = _TOWERS[_named(vision, kind.tower, _TOWERS)](vision)
    if kind.films:
        images = (*moved(images, [("vision_tower", "image_tower")]), *moved(images, [("vision_tower", "video_tower")]))
    language = text_model(text, text_class, tied=_tied(hyperparameters, text, kind))
    hidden = text.count("hidden_size", text_class.defaults["hidden_size"])
    beside = moved(tower((*images, *kind.projector(hyperparameters, width, hidden))), kind.names)
    return joined(hyperparameters, "llava", language, beside, kind.names)


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
    title="LLaVA 1.5, NeXT, OneVision, ViP and Video, PaliGemma, Mistral Small 3, Aya and Command A Vision and others",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/<model_type>",
    build=build,
)
