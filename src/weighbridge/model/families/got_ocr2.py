"""GOT-OCR 2 and DeepSeek-VL 7B: a language model that reads large images through the encoder of Segment Anything.

Source: transformers `models/{got_ocr2,deepseek_vl_hybrid}/{configuration,modeling}_*.py` (5.x). Most layers of the
encoder attend inside windows, each with a learned vector for every offset along rows and columns. GOT-OCR 2 takes its
output through two convolutions; DeepSeek-VL adds SigLIP's encoder and neck and joins the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TEXT_CLASSES, TextClass, check_class, joined, moved, text_model, tower
from weighbridge.model.families.siglip import vision_encoder
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Names, encoder, patches, ratio, token
from weighbridge.model.mixture import whole_numbers

_NAMES = Names(attention="attn", projections=("qkv", "proj"), up="lin1", down="lin2")
_NEWER = (("model.", "model.language_model."),)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The language model with its encoders and projector."""
    if hyperparameters.model_type == "got_ocr2":
        return _got(hyperparameters)
    check_class(hyperparameters, "DeepseekVLHybrid")
    if hyperparameters.settings.get("tie_embeddings") is None:
        raise ConfigError(
            f"{hyperparameters.source} has no tie_word_embeddings, which its class takes for true and published "
            "weights for false", "the key with true or false", "add the key",
        )  # fmt: skip
    language, hidden = _language(hyperparameters, TEXT_CLASSES["llama"])
    large, small = hyperparameters.part("high_res_vision_config"), hyperparameters.part("vision_config")
    _check_type(large, "sam_vision_model")
    _check_type(small, "siglip_vision_model")
    inner = int(large.count("hidden_size", 768) * ratio(large, "mlp_ratio", 4.0))
    encoded, width = sam_encoder(large, "high_res_vision_model.vision_encoder", inner)
    seen, layers = vision_encoder(small, "vision_model.vision_model")
    half = large.derived("half of the text's hidden_size", hidden // 2)
    parts: Mapping[str, Linear] = {
        "vision_proj": Linear(in_features=layers.hidden_size, out_features=half),
        "high_res_vision_proj": Linear(in_features=4 * width, out_features=half),
        "proj": Linear(in_features=hidden, out_features=hidden),
    }
    beside = (
        *encoded,
        *_neck("high_res_vision_neck", large.count("hidden_size", 768), width),
        Placement("high_res_vision_proj.conv1", _shrinking(width, 2 * width)),
        Placement("high_res_vision_proj.conv2", _shrinking(2 * width, 4 * width)),
        *seen,
        *(Placement(f"aligner.{name}", block) for name, block in parts.items()),
    )
    alpha = Placement("model", Vector(name="high_res_vision_alpha", width=1))
    return joined(hyperparameters, "got_ocr2", language, tower((alpha, *moved(beside, [("", "model.")]))), _NEWER)


def _got(hyperparameters: Hyperparameters) -> Architecture:
    check_class(hyperparameters, "GotOcr2")
    language, hidden = _language(hyperparameters, TEXT_CLASSES["qwen2"])
    vision = hyperparameters.part("vision_config")
    _check_type(vision, "got_ocr2_vision")
    encoded, width = sam_encoder(vision, "vision_tower", 3072)
    path = "multi_modal_projector."
    beside = tower((
        *encoded,
        Placement(path + "conv_upsampler1", _shrinking(width, 2 * width)),
        Placement(path + "conv_upsampler2", _shrinking(2 * width, hidden)),
        Placement(path + "multimodal_projector", Linear(in_features=hidden, out_features=hidden)),
    ))  # fmt: skip
    return joined(hyperparameters, "got_ocr2", language, beside, [("", "language_model.")])


def _language(hyperparameters: Hyperparameters, text_class: TextClass) -> tuple[Architecture, int]:
    text = hyperparameters.part("text_config")
    _check_type(text, text_class.model_type)
    hidden = text.count("hidden_size", text_class.defaults["hidden_size"])
    return text_model(text, text_class, tied=hyperparameters.flag("tie_embeddings", True)), hidden


def _check_type(part: Hyperparameters, expected: str) -> None:
    if part.model_type not in ("part", expected):
        raise ConfigError(f"{part.source} is of the model type {part.model_type[:60]}", expected,
                          "ask for support of this combination")  # fmt: skip


def sam_encoder(vision: Hyperparameters, path: str, inner: int) -> tuple[tuple[Placement, ...], int]:
    """The image encoder of Segment Anything at a path, and the channels that its neck gives.

    `inner` is the width of its feed-forward blocks where `mlp_dim` does not give it.
    """
    plain = {key: value for key, value in vision.settings.items() if key != "intermediate_size"}
    layers = encoder(replace(vision, settings=plain), 768, 3072, 12, 12, _NAMES)
    layers = replace(layers, intermediate_size=vision.count("mlp_dim", inner), qkv_bias=vision.flag("qkv_bias", True))
    cut, width, outputs = patches(vision, 1024, 16), layers.hidden_size, vision.count("output_channels", 256)
    side, window = round(cut.count**0.5), vision.count("window_size", 14)
    vision.same("the patches along rows and columns", side * side, cut.count)
    listed = whole_numbers(vision, "global_attn_indexes")
    everywhere = {2, 5, 8, 11} if listed is None else set(listed)
    wide = tuple(layer for layer in range(layers.num_layers) if layer in everywhere)
    narrow = tuple(layer for layer in range(layers.num_layers) if layer not in everywhere)
    head, layer = width // layers.num_heads, path + ".layers.{layer}"
    offsets = vision.flag("use_rel_pos", True)
    positioned = vision.flag("use_abs_pos", True)
    return (
        *((Placement(path, token("pos_embed", 1, side, side, width)),) if positioned else ()),
        Placement(path + ".patch_embed.projection", cut.convolution(width)),
        *layers.placements(layer),
        *(Placement(layer + ".attn", token(f"rel_pos_{axis}", 2 * span - 1, head), which)
          for span, which in ((window, narrow), (side, wide)) if which and offsets for axis in "hw"),
        *_neck(path + ".neck", width, outputs),
    ), outputs  # fmt: skip


def _neck(path: str, inputs: int, outputs: int) -> tuple[Placement, ...]:
    near = Convolution(kernel=(3, 3), in_channels=outputs, out_channels=outputs)
    return (
        Placement(path + ".conv1", Convolution(kernel=(1, 1), in_channels=inputs, out_channels=outputs)),
        Placement(path + ".layer_norm1", Norm(width=outputs)),
        Placement(path + ".conv2", near),
        Placement(path + ".layer_norm2", Norm(width=outputs)),
    )


def _shrinking(inputs: int, outputs: int) -> Convolution:
    return Convolution(kernel=(3, 3), in_channels=inputs, out_channels=outputs)


FAMILY = Family(
    name="got_ocr2",
    title="GOT-OCR 2 and DeepSeek-VL 7B",
    model_types=("got_ocr2", "deepseek_vl_hybrid"),
    gguf={},
    source="transformers models/got_ocr2, models/deepseek_vl_hybrid",
    build=build,
)
