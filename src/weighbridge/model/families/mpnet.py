"""MPNet: BERT's layers with RoBERTa's heads, no token types, and one table of relative positions for all layers.

Source: transformers `models/mpnet/{configuration,modeling}_mpnet.py`.
"""

from __future__ import annotations

from collections.abc import Callable

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Norm
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": ("pooler",),
    "ForMaskedLM": ("masked",),
    "ForSequenceClassification": ("sequence",),
    "ForTokenClassification": ("token",),
    "ForMultipleChoice": ("pooler", "choice"),
    "ForQuestionAnswering": ("answer",),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    suffix = bert.known_class(hyperparameters, ("MPNet",), _CLASSES)
    base, hidden = "" if suffix == "Model" else "mpnet.", hyperparameters.count("hidden_size")
    num_heads, num_layers = hyperparameters.count("num_heads"), hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers, layer = range(num_layers), base + "encoder.layer.{layer}."
    tied, labels = "masked" in _CLASSES[suffix], hyperparameters.count("num_labels", 2)
    tied = tied and hyperparameters.flag("tie_embeddings", True)
    table = base + "embeddings.word_embeddings"
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                          head_dim=hyperparameters.divided("head_dim", hidden, num_heads), names=("q", "k", "v", "o"),
                          qkv_bias=True, output_bias=True, causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="intermediate.dense", down="output.dense", bias=True)  # fmt: skip
    buckets = Embedding(rows=hyperparameters.count("relative_attention_num_buckets", 32), width=num_heads,
                        role="attention_bias")  # fmt: skip
    parts: dict[str, Callable[[], list[Placement]]] = {
        "pooler": lambda: bert.pooler(hyperparameters, base),
        "masked": lambda: bert.masked_head(
            hyperparameters, ("lm_head.dense", "lm_head.layer_norm", "lm_head.decoder", "lm_head"),
            f"{table}.weight" if tied else None),
        "sequence": lambda: bert.classification_head(hyperparameters),
        "token": lambda: [bert.output("classifier", hidden, labels)],
        "choice": lambda: [bert.output("classifier", hidden, 1)],
        "answer": lambda: [bert.output("qa_outputs", hidden, labels)],
    }  # fmt: skip
    return Architecture(
        family="mpnet",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(table, Embedding(rows=hyperparameters.count("vocab_size"), width=hidden)),
            Placement(base + "embeddings.position_embeddings", Embedding(
                rows=hyperparameters.count("max_positions", 512), width=hidden, role="position_embedding")),
            Placement(base + "embeddings.LayerNorm", Norm(width=hidden, role="embedding_norm")),
            Placement(layer + "attention.attn", attention, layers),
            Placement(layer + "attention.LayerNorm", Norm(width=hidden, role="attention_output_norm"), layers),
            Placement(layer.rstrip("."), feed_forward, layers),
            Placement(layer + "output.LayerNorm", Norm(width=hidden, role="mlp_output_norm"), layers),
            Placement(base + "encoder.relative_attention_bias", buckets, component=Component.ATTENTION),
            *(placement for name in _CLASSES[suffix] for placement in parts[name]()),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="mpnet.",
        tie_embeddings=tied,
        notes=bert.unnamed(hyperparameters),
    )  # fmt: skip


FAMILY = Family(
    name="mpnet",
    title="MPNet and the sentence encoders made from it",
    model_types=("mpnet",),
    gguf={},
    source="transformers models/mpnet",
    build=build,
)
