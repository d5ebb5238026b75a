"""TrOCR, Donut, Nougat and image captioning: an image encoder, and a text decoder that attends to it.

Source: transformers `models/{vision_encoder_decoder,trocr,donut,mbart,gpt2}/modeling_*.py` (5.x). The encoder is ViT,
DeiT or Donut's Swin (windows with a learned bias for each offset, four patches merged into one behind each stage); the
decoder is TrOCR's, mBART's alone, or GPT-2 with cross-attention. A map stands between widths that differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from weighbridge.errors import ConfigError
from weighbridge.model import families
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import CrossAttention, Embedding, Linear, Norm, Weight
from weighbridge.model.blocks.linear import projection
from weighbridge.model.composite import moved, tower, with_defaults
from weighbridge.model.encoder_decoder import Stack, position_table
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Encoder, Names, counts, pair, patches, ratio, token
from weighbridge.model.tensors import Component

_ENCODERS = ("vit", "deit", "donut-swin")
_SWIN = Names(
    attention="attention", projections=("self.query", "self.key", "self.value", "output.dense"),
    norms=("layernorm_before", "layernorm_after"), mlp="", up="intermediate.dense", down="output.dense",
)  # fmt: skip
_TEXT: Mapping[str, int] = MappingProxyType({
    "vocab_size": 50265, "hidden_size": 1024, "decoder_layers": 12, "decoder_attention_heads": 16,
    "decoder_ffn_dim": 4096,
})  # fmt: skip
_GPT2: Mapping[str, int] = MappingProxyType({
    "vocab_size": 50257, "hidden_size": 768, "num_layers": 12, "num_heads": 12,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class FusedCrossAttention(CrossAttention):
    """Cross-attention in GPT-2's layout: keys and values in one matrix, stored (in, out).

    Example:
        >>> FusedCrossAttention(hidden_size=768, num_heads=12, head_dim=64, positions=197).parameters
        2362368
    """

    def weights(self) -> tuple[Weight, ...]:
        """Keys and values together, queries, output."""
        width = self.hidden_size
        maps = (("c_attn", 2 * width, "attention_kv"), ("q_attn", width, "attention_q"),
                ("c_proj", width, "attention_output"))  # fmt: skip
        return tuple(weight for name, outputs, role in maps for weight in projection(
            name, width, outputs, role=role, component=Component.ATTENTION, bias=True, transposed=True))  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder, the decoder with its head, and the map between their widths."""
    if hyperparameters.classes not in ((), ("VisionEncoderDecoderModel",)):
        raise unknown_class(hyperparameters, ("VisionEncoderDecoderModel",))
    images, source, positions = _encoder(hyperparameters.part("encoder"))
    given = hyperparameters.part("decoder")
    if given.model_type not in _DECODERS:
        raise ConfigError(f"{given.source} is of the model type {given.model_type[:60]}",
                          f"one of {', '.join(_DECODERS)}", "ask for support of this combination")  # fmt: skip
    decoder = _DECODERS[given.model_type](given, source, positions)
    width = given.count("hidden_size", 768 if given.model_type == "gpt2" else 1024)
    joint: tuple[Placement, ...] = ()
    if width != source and given.settings.get("cross_attention_hidden_size") is None:
        joint = (Placement("enc_to_dec_proj", Linear(in_features=source, out_features=width, role="projector")),)
    beside = tower((*moved(images, [("", "encoder.")]), *joint))
    return replace(
        decoder, family="vision_encoder_decoder", model_type=hyperparameters.model_type, base_prefix="",
        placements=(*beside, *moved(decoder.placements, [("", "decoder.")])), gguf_architecture=None,
    )  # fmt: skip


def _encoder(given: Hyperparameters) -> tuple[tuple[Placement, ...], int, int]:
    """The image encoder, its width, and the number of positions it gives."""
    if given.model_type not in _ENCODERS:
        raise ConfigError(f"{given.source} is of the model type {given.model_type[:60]}",
                          f"one of {', '.join(_ENCODERS)}", "ask for support of this combination")  # fmt: skip
    if given.model_type == "donut-swin":
        return _swin(given)
    name = "DeiTModel" if given.model_type == "deit" else "ViTModel"
    body = families.build(replace(given, classes=(name,)))
    positions = patches(given).count + (2 if given.model_type == "deit" else 1)
    return body.placements, given.count("hidden_size", 768), positions


def _swin(given: Hyperparameters) -> tuple[tuple[Placement, ...], int, int]:
    cut, first = patches(given, 224, 4), given.count("embed_dim", 96)
    depths = counts(given, "depths", (2, 2, 6, 2), MOST_LAYERS)
    heads = counts(given, "num_heads", (3, 6, 12, 24))
    given.same("the lengths of depths and num_heads", len(depths), len(heads))
    rows, columns = pair(given, "window_size", 7)
    offsets, inner = (2 * rows - 1) * (2 * columns - 1), ratio(given, "mlp_ratio", 4.0)
    positioned = given.flag("use_absolute_embeddings", False)
    placements = [
        Placement("embeddings.patch_embeddings.projection", cut.convolution(first)),
        Placement("embeddings.norm", Norm(width=first)),
        *([Placement("embeddings", token("position_embeddings", 1, cut.count + 1, first))] if positioned else []),
    ]
    for stage, (depth, number) in enumerate(zip(depths, heads, strict=True)):
        width, path = first * 2**stage, f"encoder.layers.{stage}"
        given.divided("head_dim", width, number)
        layers = Encoder(hidden_size=width, num_layers=depth, num_heads=number, names=_SWIN,
                         intermediate_size=given.derived("mlp_ratio", int(inner * width)),
                         qkv_bias=given.flag("qkv_bias", True))  # fmt: skip
        layer = path + ".blocks.{layer}"
        biases = token("relative_position_bias_table", offsets, number)
        placements += [*layers.placements(layer), Placement(layer + ".attention.self", biases, range(depth))]
        if stage < len(depths) - 1:
            reduction = Linear(in_features=4 * width, out_features=2 * width, bias=False)
            placements += [
                Placement(path + ".downsample.reduction", reduction),
                Placement(path + ".downsample.norm", Norm(width=4 * width)),
            ]
    height, across = pair(given, "image_size", 224)
    merged = 2 ** (len(depths) - 1)
    seen = -(-(height // cut.size[0]) // merged) * -(-(across // cut.size[1]) // merged)
    return tuple(placements), first * merged, seen


def _fairseq(given: Hyperparameters, source: int, positions: int) -> Architecture:
    """TrOCR's decoder, or mBART's, which ends in a norm."""
    trocr = given.model_type == "trocr"
    for key, own in (("num_layers", "decoder_layers"), ("num_heads", "decoder_attention_heads")):
        if trocr and given.settings.get(key) is not None:  # two names of one setting
            given.same(f"{own} and its other name", given.count(own, given.count(key)), given.count(key))
            given = replace(given, settings={**given.settings, own: given.count(key)})
    given = with_defaults(given, _TEXT)
    width, heads, path = given.count("hidden_size"), given.count("decoder_attention_heads"), "model.decoder"
    crossed = given.optional_count("cross_attention_hidden_size")
    if crossed is not None:
        given.same("cross_attention_hidden_size and the encoder's width", crossed, source)
    stack = Stack(
        path=path, hidden_size=width, num_layers=given.count("decoder_layers", most=MOST_LAYERS), num_heads=heads,
        head_dim=given.divided("head_dim", width, heads), intermediate_size=given.count("decoder_ffn_dim"),
        positions=positions,
    )  # fmt: skip
    vocab, tied = given.count("vocab_size"), given.flag("tie_embeddings", True)
    table = f"{path}.embed_tokens"
    rows = given.count("max_positions", 512 if trocr else 1024) + 2
    head = Linear(in_features=width, out_features=vocab, bias=False, role="head", component=Component.HEAD,
                  tied_to=f"{table}.weight" if tied else None)  # fmt: skip
    learned = not trocr or given.flag("use_learned_position_embeddings", True)
    normed = not trocr or given.flag("layernorm_embedding", True)
    wide = crossed if trocr else None
    return Architecture(
        family="", model_type="", num_layers=stack.num_layers, num_heads=heads, num_kv_heads=heads, tie_embeddings=tied,
        placements=(
            Placement(table, Embedding(rows=vocab, width=width)),
            *([position_table(path, rows, width)] if learned else []),
            *([Placement(path + ".layernorm_embedding", Norm(width=width, role="embedding_norm"))] if normed else []),
            *(replace(placement, block=replace(placement.block, source_size=wide))
              if isinstance(placement.block, CrossAttention) else placement for placement in stack.placements()),
            *([] if trocr else [Placement(path + ".layer_norm", Norm(width=width, role="final_norm"))]),
            Placement("output_projection" if trocr else "lm_head", head),
        ),
    )  # fmt: skip


def _gpt2(given: Hyperparameters, source: int, positions: int) -> Architecture:
    given.refuse("cross_attention_hidden_size", "which GPT-2 does not read")
    if not given.flag("add_cross_attention", False):
        raise ConfigError(f"{given.source} does not set add_cross_attention", "a decoder that attends to the image",
                          "correct the key")  # fmt: skip
    given = with_defaults(given, _GPT2)
    settings = {**given.settings, "add_cross_attention": False}
    body = families.build(replace(given, settings=settings, classes=("GPT2LMHeadModel",)))
    width = given.count("hidden_size")
    cross = FusedCrossAttention(hidden_size=width, num_heads=body.num_heads, head_dim=width // body.num_heads,
                                positions=positions)  # fmt: skip
    layer, every = "transformer.h.{layer}.", range(body.num_layers)
    crossing = (
        Placement(layer + "crossattention", cross, every),
        Placement(layer + "ln_cross_attn", Norm(width=width, role="cross_attention_norm"), every),
    )
    return replace(body, placements=(*body.placements, *crossing))


_DECODERS = {"trocr": _fairseq, "mbart": _fairseq, "gpt2": _gpt2}

FAMILY = Family(
    name="vision_encoder_decoder",
    title="TrOCR, Donut, Nougat and captioning with ViT and GPT-2",
    model_types=("vision-encoder-decoder",),
    gguf={},
    source="transformers models/vision_encoder_decoder, models/trocr, models/donut, models/mbart, models/gpt2",
    build=build,
)
