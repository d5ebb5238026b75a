"""CLIP's relatives: other text encoders (Chinese-CLIP, AltCLIP), other heads (CLIPSeg, OWL-ViT, OWLv2), films (X-CLIP).

Source: transformers `models/{chinese_clip,altclip,clipseg,owlvit,owlv2,x_clip}/{configuration,modeling}_*.py` (5.x).
Chinese-CLIP's text encoder is BERT without a pooler, AltCLIP's is RoBERTa with a map behind it. OWL-ViT reads boxes and
classes off the image encoder's patches, and CLIPSeg decodes three of its layers to a mask. In X-CLIP the pictures of a
film send each other a message in every layer. Tensor names are those of published files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.array import Array
from weighbridge.model.blocks.block import Use
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.composite import moved, tower, with_defaults
from weighbridge.model.families.bert import tables
from weighbridge.model.families.clip import part, text_encoder, vision_encoder
from weighbridge.model.family import Family, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.image import Encoder, Names, encoder, patches, token
from weighbridge.model.mixture import whole_numbers
from weighbridge.model.tensors import Component

BERT = Names(
    attention="", projections=("attention.self.query", "attention.self.key", "attention.self.value",
                               "attention.output.dense"),
    norms=("attention.output.LayerNorm", "output.LayerNorm"), mlp="", up="intermediate.dense", down="output.dense",
)  # fmt: skip
"""Where the parts of BERT's layer stand in it."""

_CLASSES = {
    "chinese_clip": ("ChineseCLIPModel",),
    "altclip": ("AltCLIPModel",),
    "clipseg": ("CLIPSegForImageSegmentation", "CLIPSegModel"),
    "owlvit": ("OwlViTForObjectDetection", "OwlViTModel"),
    "owlv2": ("Owlv2ForObjectDetection", "Owlv2Model"),
    "xclip": ("XCLIPModel",),
}
_BERT: Mapping[str, Mapping[str, Any]] = {
    "chinese_clip": {"vocab_size": 30522, "hidden_size": 768, "intermediate_size": 3072, "num_layers": 12,
                     "num_heads": 12, "max_positions": 512, "num_token_types": 2},
    "altclip": {"vocab_size": 250002, "hidden_size": 1024, "intermediate_size": 4096, "num_layers": 24,
                "num_heads": 16, "max_positions": 514, "num_token_types": 1},
}  # fmt: skip
_OWL = {"owlvit": {"image_size": 768, "patch_size": 32}, "owlv2": {"image_size": 768, "patch_size": 16}}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Both encoders with their projections, and the head that the class puts on them."""
    kind = hyperparameters.model_type
    known = _CLASSES[kind]
    name = hyperparameters.classes[0] if hyperparameters.classes else known[0]
    if name not in known or len(hyperparameters.classes) > 1:
        raise unknown_class(hyperparameters, known)
    headed = name == known[0] and len(known) > 1
    base = {"clipseg": "clip.", "owlvit": "owlvit.", "owlv2": "owlv2."}[kind] if headed else ""
    text, vision = part(hyperparameters, "text_config"), part(hyperparameters, "vision_config")
    images, seen = vision_encoder(with_defaults(vision, _OWL.get(kind, {})), base + "vision_model")
    if kind in _OWL or kind == "xclip":
        images = moved(images, [(base + "vision_model.pre_layrnorm", base + "vision_model.pre_layernorm")])
    if kind in _OWL:
        text = with_defaults(text, {"max_positions": 16})
    if kind in _BERT:
        words, read = bert_encoder(with_defaults(text, _BERT[kind]), base + "text_model", kind == "altclip")
    else:
        words, read = text_encoder(text, base + "text_model")
    alternative = kind == "altclip"
    shared = hyperparameters.count("projection_dim", 768 if alternative else 512)
    text_width = text.count("project_dim", 768) if alternative else read.hidden_size
    heads = _HEADS[kind](hyperparameters, seen, read.hidden_size) if headed or kind == "xclip" else ()
    return Architecture(
        family="clip_relatives",
        model_type=kind,
        placements=(
            Placement(base.rstrip("."), Array(name="logit_scale", shape=())),
            *words,
            *tower((*images, _projection(base + "visual_projection", seen.hidden_size, shared))),
            _projection(base + "text_projection", text_width, shared),
            *heads,
        ),
        num_layers=read.num_layers,
        num_heads=read.num_heads,
        num_kv_heads=read.num_heads,
    )


def bert_encoder(text: Hyperparameters, path: str, mapped: bool = False) -> tuple[tuple[Placement, ...], Encoder]:
    """BERT at a path without a pooler; when `mapped`, a norm and a map to `project_dim` follow."""
    layers = encoder(text, 768, 3072, 12, 12, BERT)
    width, body = layers.hidden_size, path + ".roberta" if mapped else path
    after = (
        Placement(path + ".transformation", Linear(in_features=width, out_features=text.count("project_dim", 768))),
        Placement(path + ".pre_LN", Norm(width=width)),
    )
    return (
        *tables(text, body + ".embeddings.", width),
        *layers.placements(body + ".encoder.layer.{layer}"),
        *(after if mapped else ()),
    ), layers  # fmt: skip


def _projection(path: str, inputs: int, outputs: int) -> Placement:
    return Placement(path, Linear(in_features=inputs, out_features=outputs, bias=False, role="projection"))


def _mask(hyperparameters: Hyperparameters, seen: Encoder, text_width: int) -> tuple[Placement, ...]:
    """CLIPSeg's decoder: a layer for each of the image encoder's layers that it reads, then upsampling."""
    read = whole_numbers(hyperparameters, "extract_layers")
    depth = 3 if read is None else hyperparameters.derived("extract_layers", len(read))
    narrow, meeting = hyperparameters.count("reduce_dim", 64), hyperparameters.count("projection_dim", 512)
    heads = hyperparameters.count("decoder_num_attention_heads", 4)
    hyperparameters.divided("the decoder's head_dim", narrow, heads)
    layers = Encoder(hidden_size=narrow, num_layers=depth, num_heads=heads,
                     intermediate_size=hyperparameters.count("decoder_intermediate_size", 2048))  # fmt: skip
    rows, columns = patches(hyperparameters.part("vision_config"), 224, 32).size
    hyperparameters.same("patch_size", rows, columns)
    last = "decoder.transposed_convolution"
    if hyperparameters.flag("use_complex_transposed_convolution", False):
        kernel = hyperparameters.derived("the kernel that grows the mask", rows // 4)
        half = hyperparameters.derived("half of reduce_dim", narrow // 2)
        grown = (
            Placement(last + ".0", Convolution(kernel=(3, 3), in_channels=narrow, out_channels=narrow, bias=True)),
            *_grown(last + ".2", narrow, half, kernel),
            *_grown(last + ".4", half, 1, kernel),
        )
    else:
        grown = _grown(last, narrow, 1, rows)
    return tower((
        *(Placement(f"decoder.film_{name}", Linear(in_features=meeting, out_features=narrow))
          for name in ("mul", "add")),
        Placement("decoder.reduces.{layer}", Linear(in_features=seen.hidden_size, out_features=narrow), range(depth)),
        *layers.placements("decoder.layers.{layer}"),
        *grown,
    ))  # fmt: skip


def _grown(path: str, inputs: int, outputs: int, kernel: int) -> tuple[Placement, ...]:
    """A transposed convolution, whose inputs come first in the shape of its weight."""
    shape = (inputs, outputs, kernel, kernel)
    return (
        Placement(path, Array(name="weight", shape=shape, role="convolution", use=Use.MATMUL)),
        Placement(path, Vector(name="bias", width=outputs, role="convolution")),
    )


def _boxes(hyperparameters: Hyperparameters, seen: Encoder, text_width: int) -> tuple[Placement, ...]:
    """OWL's heads: a box, a class and in OWLv2 whether there is an object, for each patch."""
    width = seen.hidden_size

    def to(path: str, outputs: int) -> Placement:
        return Placement(path, Linear(in_features=width, out_features=outputs, role="score", component=Component.HEAD))

    boxed = {"box_head": 4} | ({"objectness_head": 1} if hyperparameters.model_type == "owlv2" else {})
    return (
        Placement("layer_norm", Norm(width=width, role="final_norm")),
        to("class_head.dense0", text_width),
        to("class_head.logit_shift", 1),
        to("class_head.logit_scale", 1),
        *(to(f"{name}.dense{number}", outputs if number == 2 else width)
          for name, outputs in boxed.items() for number in range(3)),
    )  # fmt: skip


def _films(hyperparameters: Hyperparameters, seen: Encoder, text_width: int) -> tuple[Placement, ...]:
    """X-CLIP's messages between pictures, the encoder over them, and what makes prompts of them."""
    vision, width, layer = (
        hyperparameters.part("vision_config"),
        seen.hidden_size,
        "vision_model.encoder.layers.{layer}.",
    )
    width, every, joint = seen.hidden_size, range(seen.num_layers), hyperparameters.count("projection_dim", 512)
    message = Attention(hidden_size=width, num_heads=seen.num_heads, num_kv_heads=seen.num_heads,
                        head_dim=width // seen.num_heads, names=seen.names.projections, qkv_bias=True,
                        output_bias=True, causal=False)  # fmt: skip
    along = Encoder(
        hidden_size=vision.count("mit_hidden_size", 512), num_heads=vision.count("mit_num_attention_heads", 8),
        num_layers=vision.count("mit_num_hidden_layers", 1, most=MOST_LAYERS),
        intermediate_size=vision.count("mit_intermediate_size", 2048),
    )  # fmt: skip
    vision.divided("mit_head_dim", along.hidden_size, along.num_heads)
    places = token("position_embedding", 1, vision.count("num_frames", 8), along.hidden_size)
    mapped = Array(name="prompts_visual_projection", shape=(width, joint), role="projection", use=Use.MATMUL)
    prompts = range(hyperparameters.count("prompt_layers", 2, most=MOST_LAYERS))
    hyperparameters.divided("the prompts' head_dim", joint, hyperparameters.count("prompt_num_attention_heads", 8))
    square = Linear(in_features=joint, out_features=joint, bias=False, component=Component.ATTENTION)
    prompt = "prompts_generator.decoder.{layer}."
    return tower((
        Placement(layer + "message_fc", Linear(in_features=width, out_features=width), every),
        Placement(layer + "message_ln", Norm(width=width), every),
        Placement(layer + "message_attn", message, every),
        Placement("mit", places),
        *along.placements("mit.encoder.layers.{layer}"),
        Placement("prompts_visual_layernorm", Norm(width=width)),
        Placement("", mapped),
        Placement("prompts_generator", Vector(name="alpha", width=joint)),
        Placement("prompts_generator.layernorm", Norm(width=joint)),
        *(Placement(f"{prompt}cross_attn.{name}_proj", square, prompts) for name in "qkv"),
        Placement(prompt + "cross_attn.proj", replace(square, bias=True), prompts),
        Placement(prompt + "norm1", Norm(width=joint), prompts),
        Placement(prompt + "norm3", Norm(width=joint), prompts),
        Placement(prompt + "mlp", FeedForward(hidden_size=joint, intermediate_size=4 * joint, gate=None, up="0",
                                              down="3", bias=True), prompts),
    ))  # fmt: skip


_HEADS = {"clipseg": _mask, "owlvit": _boxes, "owlv2": _boxes, "xclip": _films}

FAMILY = Family(
    name="clip_relatives",
    title="Chinese-CLIP, AltCLIP, CLIPSeg, OWL-ViT, OWLv2 and X-CLIP",
    model_types=tuple(_CLASSES),
    gguf={},
    source="transformers models/chinese_clip, altclip, clipseg, owlvit, owlv2, x_clip",
    build=build,
)
