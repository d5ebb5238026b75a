"""ModernVBERT: ModernBERT beside SigLIP's image encoder, squares of whose patches become one word each.

Source: transformers `models/modernvbert/{configuration,modeling}_modernvbert.py` (5.x). The head's settings are
those of the text's configuration.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.errors import ConfigError
from weighbridge.model import families
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.composite import joined, moved, tower, with_defaults
from weighbridge.model.families.bert import output
from weighbridge.model.families.siglip import vision_encoder
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification")
_TEXT = {"vocab_size": 50368, "hidden_size": 768, "intermediate_size": 1152, "num_layers": 22, "num_heads": 12}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder of text with that of images, and what the class puts on it."""
    suffix = head_class(hyperparameters, ("ModernVBert",), "ForMaskedLM")
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple("ModernVBert" + name for name in _CLASSES))
    text, vision = hyperparameters.part("text_config"), hyperparameters.part("vision_config")
    for part, expected in ((text, "modernbert"), (vision, "siglip_vision_model")):
        if part.model_type not in ("part", expected):
            raise ConfigError(f"{part.source} is of the model type {part.model_type[:60]}", expected,
                              "ask for support of this combination")  # fmt: skip
    text = with_defaults(text, _TEXT)
    body = families.build(replace(text, model_type="modernbert", classes=("ModernBertModel",)))
    images, layers = vision_encoder(vision, "vision_model")
    hidden, wide = text.count("hidden_size"), hyperparameters.count("pixel_shuffle_factor", 4) ** 2
    joint = Linear(in_features=layers.hidden_size * wide, out_features=hidden, bias=False)
    beside = tower((*images, Placement("connector.modality_projection", joint)))
    base = "" if suffix == "Model" else "model."
    tied = suffix == "ForMaskedLM" and hyperparameters.flag("tie_embeddings", False)
    whole = joined(hyperparameters, "modernvbert", body, moved(beside, [("", base)]), [("", base + "text_model.")])
    shared = f"{base}text_model.embeddings.tok_embeddings.weight" if tied else None
    top = _top(hyperparameters, text, suffix, shared)
    return replace(whole, placements=(*whole.placements, *top), tie_embeddings=tied)


def _top(
    hyperparameters: Hyperparameters, text: Hyperparameters, suffix: str, shared: str | None
) -> tuple[Placement, ...]:
    if suffix == "Model":
        return ()
    hidden, masked = text.count("hidden_size"), suffix == "ForMaskedLM"
    path = "projection_head." if masked else "head."
    last = Placement("lm_head", Linear(
        in_features=hidden, out_features=text.count("vocab_size"), bias=text.flag("decoder_bias", True), role="head",
        component=Component.HEAD, tied_to=shared)) if masked else output(
            "classifier", hidden, hyperparameters.count("num_labels", 2),
            per_sequence=suffix == "ForSequenceClassification")  # fmt: skip
    return (
        Placement(path + "dense", Linear(in_features=hidden, out_features=hidden, role="head_transform",
                                         bias=text.flag("classifier_bias", False), component=Component.HEAD)),
        Placement(path + "norm", Norm(width=hidden, bias=text.flag("norm_bias", False), component=Component.HEAD)),
        last,
    )  # fmt: skip


FAMILY = Family(
    name="modernvbert",
    title="ModernVBERT",
    model_types=("modernvbert",),
    gguf={},
    source="transformers models/modernvbert",
    build=build,
)
