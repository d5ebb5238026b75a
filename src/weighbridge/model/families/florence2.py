"""Florence-2 as transformers spells it: BART behind DaViT, whose blocks attend to windows and then to channels.

Source: transformers `models/florence2/{configuration,modeling}_florence2.py` (5.x), and the names of files for it
(`florence-community`). Before each attention and each feed-forward block stands a depthwise convolution. The places of
rows and columns are learned, those of pictures in a film are sines.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import TextClass, check_class, joined, text_model, tower
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import counts, ratio

_SIZES: Mapping[str, int] = MappingProxyType({
    "vocab_size": 50265, "hidden_size": 1024, "encoder_layers": 12, "encoder_ffn_dim": 4096,
    "encoder_attention_heads": 16, "decoder_layers": 12, "decoder_ffn_dim": 4096, "decoder_attention_heads": 16,
})  # fmt: skip
_TEXT = TextClass("bart", "BartForConditionalGeneration", _SIZES)
_HEADS = (4, 8, 16, 32)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder-decoder with its image encoder and projector."""
    check_class(hyperparameters, "Florence2")
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    for part, expected in ((text, "bart"), (vision, "florence_vision")):
        if part.model_type not in ("part", expected):
            raise ConfigError(f"{part.source} is of the model type {part.model_type[:60]}", expected,
                              "ask for support of this combination")  # fmt: skip
    # the part ties the tables of its two stacks, the whole its head to them
    tied = hyperparameters.flag("tie_embeddings", True) and text.flag("tie_embeddings", True)
    language = text_model(text, _TEXT, tied=tied)
    widths = counts(vision, "embed_dim", (128, 256, 512, 1024))
    outputs, last = vision.count("projection_dim", 1024), widths[-1]
    text.same("projection_dim and the text's width", outputs, text.count("hidden_size", 1024))
    places, path = vision.count("max_positions", 50), "model.multi_modal_projector."
    half = vision.derived("half of the last embed_dim", last // 2)
    beside = tower((
        *_davit(vision, widths, "model.vision_tower"),
        Placement(path + "image_projection", Linear(in_features=last, out_features=outputs, bias=False)),
        Placement(path + "image_proj_norm", Norm(width=outputs)),
        *(Placement(f"{path}image_position_embed.{name}_embeddings",
                    Embedding(rows=places, width=width, role="position_embedding"))
          for name, width in (("row", half), ("column", last - half))),
    ))  # fmt: skip
    return joined(hyperparameters, "florence2", language, beside, [("model.", "model.language_model.")])


def _davit(vision: Hyperparameters, widths: tuple[int, ...], path: str) -> list[Placement]:
    depths, heads = counts(vision, "depths", (1, 1, 9, 1), MOST_LAYERS), counts(vision, "num_heads", _HEADS)
    groups, kernels = counts(vision, "num_groups", _HEADS), counts(vision, "patch_size", (7, 3, 3, 3))
    normed = vision.settings.get("patch_prenorm", (False, True, True, True))
    if not isinstance(normed, list | tuple) or any(type(flag) is not bool for flag in normed):
        raise ConfigError(f"{vision.source} has patch_prenorm = {repr(normed)[:60]}", "a list of true and false",
                          "correct the key")  # fmt: skip
    for name, values in (("depths", depths), ("num_heads", heads), ("num_groups", groups), ("patch_size", kernels),
                         ("patch_prenorm", normed)):  # fmt: skip
        vision.same(f"the lengths of embed_dim and {name}", len(widths), len(values))
    bias, wider = vision.flag("qkv_bias", True), ratio(vision, "mlp_ratio", 4.0)
    placements, inputs = [], vision.count("in_channels", 3)
    for stage, width in enumerate(widths):
        cut = Convolution(kernel=(kernels[stage],) * 2, in_channels=inputs, out_channels=width, bias=True)
        norm = Norm(width=inputs if normed[stage] else width)
        placements += [Placement(f"{path}.convs.{stage}.conv", cut), Placement(f"{path}.convs.{stage}.norm", norm)]
        inputs, every = width, range(depths[stage])
        near = Convolution(kernel=(3, 3), in_channels=width, out_channels=width, groups=width, bias=True)
        mlp = FeedForward(hidden_size=width, intermediate_size=vision.derived("mlp_ratio", int(width * wider)),
                          gate=None, up="fc1", down="fc2", bias=True)  # fmt: skip
        for kind, split in (("window", heads[stage]), ("channel", groups[stage])):
            attention = Attention(
                hidden_size=width, num_heads=split, num_kv_heads=split,
                head_dim=vision.divided("head_dim", width, split), names=("qkv", "proj"), qkv_bias=bias,
                output_bias=True, causal=False,
            )  # fmt: skip
            block = f"{path}.blocks.{stage}.{{layer}}.{'spatial' if kind == 'window' else 'channel'}_block."
            parts: dict[str, Block] = {
                "conv1": near, "norm1": Norm(width=width), f"{kind}_attn": attention, "conv2": near,
                "norm2": Norm(width=width), "ffn": mlp,
            }  # fmt: skip
            placements += [Placement(block + name, part, every) for name, part in parts.items()]
    return placements


FAMILY = Family(
    name="florence2",
    title="Florence-2",
    model_types=("florence2",),
    gguf={},
    source="transformers models/florence2",
    build=build,
)
