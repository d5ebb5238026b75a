"""RoBERTa, XLM-RoBERTa, CamemBERT, data2vec-text, Longformer: BERT's body with other heads.

Source: transformers `models/{roberta,xlm_roberta,camembert,data2vec,xlm_roberta_xl,longformer}/modeling_*.py`.
Positions start after the padding index, so tables have 514 rows for 512 tokens. XLM-RoBERTa XL puts its norms before
each part; Longformer projects queries, keys and values again for its global tokens. Configurations of 2019 have no
model type; one token type tells them from BERT's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    if hyperparameters.model_type == "xlm-roberta-xl":
        hyperparameters = with_defaults(hyperparameters, {"max_positions": 514, "num_token_types": 1})
    prefixes = {"xlm-roberta-xl": ("XLMRobertaXL",), "longformer": ("Longformer",)}
    suffix = bert.known_class(hyperparameters, prefixes.get(hyperparameters.model_type, _PREFIXES), _CLASSES)
    bodies = {"data2vec-text": "data2vec_text.", "longformer": "longformer."}
    body = bodies.get(hyperparameters.model_type, "roberta.")
    base, hidden = "" if suffix == "Model" else body, hyperparameters.count("hidden_size")
    tied = "masked" in _CLASSES[suffix] and hyperparameters.flag("tie_embeddings", True)
    parts: dict[str, Callable[[], list[Placement]]] = {
        "pooler": lambda: bert.pooler(hyperparameters, base),
        "masked": lambda: bert.masked_head(
            hyperparameters, ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head"),
            f"{base}embeddings.word_embeddings.weight" if tied else None),
        "sequence": lambda: bert.classification_head(hyperparameters),
        "token": lambda: [bert.output("classifier", hidden, hyperparameters.count("num_labels", 2))],
        "choice": lambda: [bert.output("classifier", hidden, 1, per_sequence=True)],
        "answer": lambda: [bert.output("qa_outputs", hidden, hyperparameters.count("num_labels", 2))],
    }  # fmt: skip
    found = bert.encoder(
        hyperparameters, "roberta", base, [p for name in _CLASSES[suffix] for p in parts[name]()], tied
    )
    found = replace(found, base_prefix=body)
    if hyperparameters.model_type == "longformer":
        return replace(found, placements=(*found.placements, *_global(base, hidden, found.num_layers)))
    return _norms_first(found, base, hidden) if hyperparameters.model_type == "xlm-roberta-xl" else found


def _global(base: str, hidden: int, num_layers: int) -> list[Placement]:
    """Longformer's second projections, for tokens that attend to all others."""
    path = base + "encoder.layer.{layer}.attention.self."
    return [
        Placement(f"{path}{name}_global", Linear(in_features=hidden, out_features=hidden, role=f"attention_{name}",
                                                 component=Component.ATTENTION), range(num_layers))
        for name in ("query", "key", "value")
    ]  # fmt: skip


def _norms_first(found: Architecture, base: str, hidden: int) -> Architecture:
    """The wiring of XLM-RoBERTa XL: a norm before each part and one at the end, none on the embeddings."""
    moved = {
        base + "encoder.layer.{layer}.attention.output.LayerNorm":
            (base + "encoder.layer.{layer}.attention.self_attn_layer_norm", "attention_norm"),
        base + "encoder.layer.{layer}.output.LayerNorm": (base + "encoder.layer.{layer}.LayerNorm", "mlp_norm"),
        base + "embeddings.LayerNorm": (base + "encoder.LayerNorm", "final_norm"),
    }  # fmt: skip
    placements = []
    for placement in found.placements:
        path, role = moved.get(placement.path, (placement.path, ""))
        block = Norm(width=hidden, role=role) if role else placement.block
        placements.append(replace(placement, path=path, block=block))
    return replace(found, placements=tuple(placements))


def recognise(config: Mapping[str, Any]) -> str | None:
    """The configurations of 2019 with BERT's keys alone and one token type."""
    return "roberta" if bert.shape_of_2019(config) and config["type_vocab_size"] == 1 else None


FAMILY = Family(
    name="roberta",
    title="RoBERTa, XLM-RoBERTa (and XL), CamemBERT, data2vec-text, Longformer, BGE-M3, multilingual E5",
    model_types=("roberta", "xlm-roberta", "camembert", "data2vec-text", "xlm-roberta-xl", "longformer"),
    gguf={},
    source="transformers models/roberta, xlm_roberta, camembert, data2vec, xlm_roberta_xl, longformer",
    build=build,
    recognise=recognise,
)
