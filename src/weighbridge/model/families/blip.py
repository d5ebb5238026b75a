"""BLIP, BLIP-2 and InstructBLIP: an image encoder, and a BERT that attends to it, alone or before a language model.

Source: transformers `models/{blip,blip_2,instructblip}/{configuration,modeling}_*.py` (5.x). BLIP's text model is
BERT with cross-attention in every layer. In BLIP-2 a query transformer reads the image with learned queries (with
cross-attention in every second layer), and one map takes its output to OPT, T5 or Llama; InstructBLIP's also reads the
instruction. Tensor names are those of published files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import CrossAttention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.blocks.array import Array
from weighbridge.model.composite import TEXT_CLASSES, check_class, joined, text_model, tower, with_defaults
from weighbridge.model.families.bert import masked_head, output
from weighbridge.model.families.clip_relatives import BERT
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import Encoder, Names, encoder, patches, token
from weighbridge.model.tensors import Component

_CLASSES = ("BlipForConditionalGeneration", "BlipForQuestionAnswering", "BlipForImageTextRetrieval", "BlipModel")
_SECOND = {"blip-2": "Blip2", "instructblip": "InstructBlip"}
_TEXTS = ("opt", "t5", "llama")
_NAMES = Names(projections=("qkv", "projection"))
_CROSS = ("self.query", "self.key", "self.value", "output.dense")
_TEXT = {"vocab_size": 30524, "hidden_size": 768, "intermediate_size": 3072, "num_layers": 12, "num_heads": 8,
         "max_positions": 512}  # fmt: skip
_LARGE = {"hidden_size": 1408, "intermediate_size": 6144, "num_layers": 39, "num_heads": 16, "patch_size": 14}
_SMALL = {"image_size": 384}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """BLIP with the head of its class, or a language model with its image encoder and query transformer."""
    return _first(hyperparameters) if hyperparameters.model_type == "blip" else _second(hyperparameters)


def _first(hyperparameters: Hyperparameters) -> Architecture:
    name = hyperparameters.classes[0] if hyperparameters.classes else _CLASSES[0]
    if name not in _CLASSES or len(hyperparameters.classes) > 1:
        raise unknown_class(hyperparameters, _CLASSES)
    images, seen, positions = _vision(with_defaults(hyperparameters.part("vision_config"), _SMALL))
    given = with_defaults(hyperparameters.part("text_config"), _TEXT)
    text = _Text(given, seen.hidden_size, positions)
    width = text.layers.hidden_size
    generates = name in _CLASSES[:2]
    either = hyperparameters.flag("tie_embeddings", True) or given.flag("tie_embeddings", True)
    tied = generates and either
    placements = list(tower(images))
    if name in _CLASSES[1:3]:
        placements += text.placements("text_encoder")
    if generates:
        decoder, head = "text_decoder.bert", "text_decoder.cls.predictions"
        placements += text.placements(decoder, causal=True)
        paths = (f"{head}.transform.dense", f"{head}.transform.LayerNorm", f"{head}.decoder", head)
        placements += masked_head(given, paths, f"{decoder}.embeddings.word_embeddings.weight" if tied else None)
    elif name == _CLASSES[2]:
        shared = hyperparameters.count("image_text_hidden_size", 256)
        vision = Linear(in_features=seen.hidden_size, out_features=shared, role="projection")
        placements += [
            *tower([Placement("vision_proj", vision)]),
            Placement("text_proj", Linear(in_features=width, out_features=shared, role="projection")),
            output("itm_head", width, 2, per_sequence=True),
        ]
    else:
        shared = hyperparameters.count("projection_dim", 512)
        vision = Linear(in_features=seen.hidden_size, out_features=shared, bias=False, role="projection")
        pooler = Linear(in_features=width, out_features=width, role="pooler", per_sequence=True)
        placements += [
            Placement("", Array(name="logit_scale", shape=())),
            *text.placements("text_model"),
            Placement("text_model.pooler.dense", pooler),
            *tower([Placement("visual_projection", vision)]),
            Placement("text_projection", Linear(in_features=width, out_features=shared, bias=False, role="projection")),
        ]
    return Architecture(
        family="blip", model_type="blip", placements=tuple(placements), num_layers=text.layers.num_layers,
        num_heads=text.layers.num_heads, num_kv_heads=text.layers.num_heads, tie_embeddings=tied,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Text:
    """BLIP's BERT over an image of so many positions, each `source` numbers wide."""

    given: Hyperparameters
    source: int
    positions: int

    @property
    def layers(self) -> Encoder:
        """Its layers without cross-attention."""
        return encoder(self.given, 768, 3072, 12, 8, BERT)

    def placements(self, path: str, *, causal: bool = False) -> tuple[Placement, ...]:
        """All of it but what stands on top; only a causal one keeps keys and values."""
        layers, every = replace(self.layers, causal=causal), range(self.layers.num_layers)
        width, layer = layers.hidden_size, path + ".encoder.layer.{layer}"
        cross: tuple[Placement, ...] = ()
        if self.given.flag("is_decoder", True):
            source = self.given.count("encoder_hidden_size", 768)
            self.given.same("encoder_hidden_size and the image encoder's hidden_size", source, self.source)
            cross = _cached(layer, layers, source, self.positions) if causal else _cross(layer, width, source, every)
        return (*_tables(self.given, path + ".embeddings", width, "LayerNorm"), *layers.placements(layer), *cross)


def _cached(layer: str, layers: Encoder, source: int, positions: int) -> tuple[Placement, ...]:
    """Cross-attention of a decoder."""
    width, every = layers.hidden_size, range(layers.num_layers)
    block = CrossAttention(hidden_size=width, num_heads=layers.num_heads, head_dim=width // layers.num_heads,
                           positions=positions, names=_CROSS, qkv_bias=True, output_bias=True,
                           source_size=source)  # fmt: skip
    return (
        Placement(layer + ".crossattention", block, every),
        Placement(layer + ".crossattention.output.LayerNorm", Norm(width=width, role="cross_attention_norm"), every),
    )


def _cross(layer: str, width: int, source: int, layers: Sequence[int], inner: str = "self") -> tuple[Placement, ...]:
    """Cross-attention of an encoder, which reads its image once and keeps nothing."""
    maps = {f"{inner}.query": width, f"{inner}.key": source, f"{inner}.value": source, "output.dense": width}
    return (
        *(Placement(f"{layer}.crossattention.{name}",
                    Linear(in_features=inputs, out_features=width, role="cross_attention",
                           component=Component.ATTENTION), layers) for name, inputs in maps.items()),
        Placement(layer + ".crossattention.output.LayerNorm", Norm(width=width, role="cross_attention_norm"), layers),
    )  # fmt: skip


def _tables(text: Hyperparameters, path: str, width: int, norm: str) -> tuple[Placement, ...]:
    positions = Embedding(rows=text.count("max_positions"), width=width, role="position_embedding")
    return (
        Placement(path + ".word_embeddings", Embedding(rows=text.count("vocab_size"), width=width)),
        Placement(path + ".position_embeddings", positions),
        Placement(f"{path}.{norm}", Norm(width=width, role="embedding_norm")),
    )


def _vision(vision: Hyperparameters, qkv_bias: bool = True) -> tuple[tuple[Placement, ...], Encoder, int]:
    """The image encoder, its layers, and the number of positions it gives."""
    layers = replace(encoder(vision, 768, 3072, 12, 12, _NAMES), qkv_bias=qkv_bias)
    cut, width, path = replace(patches(vision, 224, 16), channels=3), layers.hidden_size, "vision_model"
    return (
        Placement(path + ".embeddings", token("class_embedding", 1, 1, width)),
        Placement(path + ".embeddings", token("position_embedding", 1, cut.count + 1, width)),
        Placement(path + ".embeddings.patch_embedding", cut.convolution(width)),
        *layers.placements(path + ".encoder.layers.{layer}"),
        Placement(path + ".post_layernorm", Norm(width=width, role="final_norm")),
    ), layers, cut.count + 1  # fmt: skip


def _second(hyperparameters: Hyperparameters) -> Architecture:
    kind = hyperparameters.model_type
    check_class(hyperparameters, _SECOND[kind])
    text, queries = hyperparameters.part("text_config"), hyperparameters.part("qformer_config")
    vision = with_defaults(hyperparameters.part("vision_config"), _LARGE)
    name = "opt" if text.model_type == "part" else text.model_type
    if name not in _TEXTS:
        raise ConfigError(f"{text.source} is of the model type {name[:60]}", f"one of {', '.join(_TEXTS)}",
                          "ask for support of this combination")  # fmt: skip
    text_class = TEXT_CLASSES[name]
    language = text_model(text, text_class, tied=text.flag("tie_embeddings", name != "llama"))
    hidden = text.count("hidden_size", text_class.defaults["hidden_size"])
    images, seen, _ = _vision(vision, vision.flag("qkv_bias", True))
    transformer, width = querying(queries, seen.hidden_size, kind == "instructblip")
    learned = Array(name="query_tokens", shape=(1, hyperparameters.count("num_query_tokens", 32), width))
    beside = tower((
        *images,
        Placement("", learned),
        *transformer,
        Placement("language_projection", Linear(in_features=width, out_features=hidden)),
    ))  # fmt: skip
    return joined(hyperparameters, "blip", language, beside, [("", "language_model.")])


def querying(queries: Hyperparameters, source: int, instructed: bool = False) -> tuple[tuple[Placement, ...], int]:
    """The query transformer, and its width. What reads text in it is there where there is text to read."""
    queries = with_defaults(queries, {"vocab_size": 30522, "max_positions": 512})
    reads = instructed or queries.flag("use_qformer_text_input", False)
    if reads and not instructed:
        queries.refuse("use_qformer_text_input", "which the generating class does not use")
    names = BERT if instructed else replace(BERT, up="intermediate_query.dense", down="output_query.dense",
                                            norms=(BERT.norms[0], "output_query.LayerNorm"))  # fmt: skip
    names = replace(names, projections=tuple(name.replace(".self.", ".attention.") for name in names.projections))
    layers = encoder(queries, 768, 3072, 12, 12, names)
    width, layer, every = layers.hidden_size, "qformer.encoder.layer.{layer}", range(layers.num_layers)
    crossed = every[:: queries.count("cross_attention_frequency", 2)]
    second = FeedForward(hidden_size=width, intermediate_size=layers.intermediate_size, gate=None,
                         up="intermediate_query.dense", down="output_query.dense", bias=True)  # fmt: skip
    extra = (
        *_tables(queries, "qformer.embeddings", width, "layernorm"),
        Placement(layer, second, every),
        Placement(layer + ".output_query.LayerNorm", Norm(width=width, role="mlp_norm"), every),
    )
    plain = (Placement("qformer.layernorm", Norm(width=width, role="embedding_norm")),)
    crossing = _cross(layer, width, source, crossed, "attention")
    return (*layers.placements(layer), *crossing, *(extra if instructed else plain)), width


FAMILY = Family(
    name="blip",
    title="BLIP, BLIP-2 and InstructBLIP",
    model_types=("blip", *_SECOND),
    gguf={},
    source="transformers models/blip, models/blip_2, models/instructblip",
    build=build,
)
