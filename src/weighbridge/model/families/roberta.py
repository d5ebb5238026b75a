"""RoBERTa, XLM-RoBERTa, CamemBERT, data2vec-text, Longformer: BERT's body with other heads.

Source: transformers `models/{roberta,xlm_roberta,camembert,data2vec,xlm_roberta_xl,longformer}/modeling_*.py`.
Positions start after the padding index, so tables have 514 rows for 512 tokens. XLM-RoBERTa XL puts its norms before
each part, as RoBERTa-PreLayerNorm does; Longformer projects queries, keys and values again for its global tokens.
Configurations of 2019 have no model type; one token type tells them from BERT's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.decoder import with_defaults
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_PREFIXES = ("Roberta", "XLMRoberta", "Camembert", "Data2VecText")
_CLASSES = {
    "Model": ("pooler",),
    "ForMaskedLM": ("masked",),
    "ForCausalLM": ("masked",),
    "ForSequenceClassification": ("sequence",),
    "ForTokenClassification": ("token",),
    "ForMultipleChoice": ("pooler", "choice"),
    "ForQuestionAnswering": ("answer",),
}
_MASKED = ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head")
_OWN_PREFIXES = {"xlm-roberta-xl": ("XLMRobertaXL",), "longformer": ("Longformer",),
                 "roberta-prelayernorm": ("RobertaPreLayerNorm",)}  # fmt: skip
_BODIES = {"data2vec-text": "data2vec_text.", "longformer": "longformer.",
           "roberta-prelayernorm": "roberta_prelayernorm."}  # fmt: skip
# Where the norms stand that come before the parts of a layer, and which role they have there.
_LAYER = "encoder.layer.{layer}."
_XL = {
    f"{_LAYER}attention.output.LayerNorm": (f"{_LAYER}attention.self_attn_layer_norm", "attention_norm"),
    f"{_LAYER}output.LayerNorm": (f"{_LAYER}LayerNorm", "mlp_norm"),
    "embeddings.LayerNorm": ("encoder.LayerNorm", "final_norm"),
}
_BEFORE = {
    f"{_LAYER}attention.output.LayerNorm": (f"{_LAYER}attention.LayerNorm", "attention_norm"),
    f"{_LAYER}output.LayerNorm": (f"{_LAYER}intermediate.LayerNorm", "mlp_norm"),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    if hyperparameters.model_type == "xlm-roberta-xl":
        hyperparameters = with_defaults(hyperparameters, {"max_positions": 514, "num_token_types": 1})
    prefixes = _OWN_PREFIXES.get(hyperparameters.model_type, _PREFIXES)
    names = _CLASSES[suffix := bert.known_class(hyperparameters, prefixes, _CLASSES)]
    body = _BODIES.get(hyperparameters.model_type, "roberta.")
    base, hidden = "" if suffix == "Model" else body, hyperparameters.count("hidden_size")
    tied = "masked" in names and hyperparameters.flag("tie_embeddings", True)
    top = bert.heads(hyperparameters, names, base, tied, masked=_MASKED)
    found = replace(bert.encoder(hyperparameters, "roberta", base, top, tied), base_prefix=body)
    if hyperparameters.model_type == "longformer":
        return replace(found, placements=(*found.placements, *_global(base, hidden, found.num_layers)))
    if hyperparameters.model_type == "roberta-prelayernorm":
        last = Placement(base + "LayerNorm", Norm(width=hidden, role="final_norm"))
        return replace(found, placements=(*bert.moved_norms(found, base, _BEFORE).placements, last))
    return bert.moved_norms(found, base, _XL) if hyperparameters.model_type == "xlm-roberta-xl" else found


def _global(base: str, hidden: int, num_layers: int) -> list[Placement]:
    """Longformer's second projections, for tokens that attend to all others."""
    path = base + "encoder.layer.{layer}.attention.self."
    return [
        Placement(f"{path}{name}_global", Linear(in_features=hidden, out_features=hidden, role=f"attention_{name}",
                                                 component=Component.ATTENTION), range(num_layers))
        for name in ("query", "key", "value")
    ]  # fmt: skip


def recognise(config: Mapping[str, Any]) -> str | None:
    """The configurations of 2019 with BERT's keys alone and one token type."""
    return "roberta" if bert.shape_of_2019(config) and config["type_vocab_size"] == 1 else None


FAMILY = Family(
    name="roberta",
    title="RoBERTa, XLM-RoBERTa (and XL), CamemBERT, data2vec-text, Longformer, BGE-M3, multilingual E5",
    model_types=(
        "roberta",
        "xlm-roberta",
        "camembert",
        "data2vec-text",
        "xlm-roberta-xl",
        "longformer",
        "roberta-prelayernorm",
    ),
    gguf={},
    source="transformers models/roberta, xlm_roberta, camembert, data2vec, xlm_roberta_xl, longformer, "
    "roberta_prelayernorm",
    build=build,
    recognise=recognise,
)
