"""ViLT: one encoder over words and image patches side by side, with what its class puts on it.

Source: transformers `models/vilt/{configuration,modeling}_vilt.py` (5.x), whose configuration always ties the head.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm, Vector
from weighbridge.model.composite import moved, with_defaults
from weighbridge.model.families.bert import output, tables
from weighbridge.model.families.vit import NAMES
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.image import encoder, patches, token
from weighbridge.model.tensors import Component

_CLASSES = ("Model", "ForQuestionAnswering", "ForMaskedLM", "ForImageAndTextRetrieval", "ForTokenClassification",
            "ForImagesAndTextClassification")  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with its head."""
    suffix = head_class(hyperparameters, ("Vilt",), "Model")
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple("Vilt" + name for name in _CLASSES))
    given = with_defaults(hyperparameters, {"vocab_size": 30522, "max_positions": 40})
    layers = replace(encoder(given, 768, 3072, 12, 12, NAMES), qkv_bias=given.flag("qkv_bias", True))
    cut, width, table = patches(given, 384, 32), layers.hidden_size, "embeddings."
    kinds = Embedding(rows=given.count("modality_type_vocab_size", 2), width=width, role="type_embedding")
    pooler = Linear(in_features=width, out_features=width, role="pooler", per_sequence=True)
    body = (
        *tables(given, table + "text_embeddings.", width),
        Placement("embeddings", token("cls_token", 1, 1, width)),
        Placement("embeddings", token("position_embeddings", 1, cut.count + 1, width)),
        Placement(table + "patch_embeddings.projection", cut.convolution(width)),
        Placement(table + "token_type_embeddings", kinds),
        *layers.placements("encoder.layer.{layer}"),
        Placement("layernorm", Norm(width=width, role="final_norm")),
        *(() if suffix == "ForTokenClassification" else (Placement("pooler.dense", pooler),)),
    )
    base = "" if suffix == "Model" else "vilt."
    tied = suffix == "ForMaskedLM"
    return Architecture(
        family="vilt", model_type="vilt", placements=(*moved(body, [("", base)]), *_top(given, suffix, width)),
        num_layers=layers.num_layers, num_heads=layers.num_heads, num_kv_heads=layers.num_heads, base_prefix="vilt.",
        tie_embeddings=tied,
    )  # fmt: skip


def _top(given: Hyperparameters, suffix: str, width: int) -> list[Placement]:
    labels = given.count("num_labels", 2)
    if suffix == "Model":
        return []
    if suffix == "ForMaskedLM":
        matrix = Linear(in_features=width, out_features=given.count("vocab_size"), bias=False, role="head",
                        component=Component.HEAD,
                        tied_to="vilt.embeddings.text_embeddings.word_embeddings.weight")  # fmt: skip
        bias = Vector(name="bias", width=matrix.out_features, role="head_bias", component=Component.HEAD)
        return [
            output("mlm_score.transform.dense", width, width, "head_transform"),
            Placement("mlm_score.transform.LayerNorm", Norm(width=width, component=Component.HEAD)),
            Placement("mlm_score.decoder", matrix),
            Placement("mlm_score.decoder", bias),
        ]
    if suffix == "ForImageAndTextRetrieval":
        return [output("rank_output", width, 1, per_sequence=True)]
    if suffix == "ForTokenClassification":
        return [output("classifier", width, labels)]
    pictures = 1 if suffix == "ForQuestionAnswering" else given.count("num_images")
    inner = 2 * width if suffix == "ForQuestionAnswering" else pictures * width
    return [
        output("classifier.0", pictures * width, inner, "head_transform", per_sequence=True),
        Placement("classifier.1", Norm(width=inner, component=Component.HEAD)),
        output("classifier.3", inner, labels, per_sequence=True),
    ]


FAMILY = Family(
    name="vilt",
    title="ViLT",
    model_types=("vilt",),
    gguf={},
    source="transformers models/vilt",
    build=build,
)
