"""DistilBERT: BERT's layers at half the depth, without token types and pooler, under names of its own.

Source: transformers `models/distilbert/{configuration,modeling}_distilbert.py`. Sines for positions
(`sinusoidal_pos_embds`) are stored like learned ones.
"""

from __future__ import annotations

from collections.abc import Callable

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": (),
    "ForMaskedLM": ("masked",),
    "ForSequenceClassification": ("before", "classifier"),
    "ForTokenClassification": ("classifier",),
    "ForQuestionAnswering": ("answer",),
    "ForMultipleChoice": ("before", "choice"),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    suffix = bert.known_class(hyperparameters, ("DistilBert",), _CLASSES)
    base, hidden = "" if suffix == "Model" else "distilbert.", hyperparameters.count("dim")
    num_heads, num_layers = hyperparameters.count("num_heads"), hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers, layer = range(num_layers), base + "transformer.layer.{layer}."
    vocab, table = hyperparameters.count("vocab_size"), base + "embeddings.word_embeddings"
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
                          head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
                          names=("q_lin", "k_lin", "v_lin", "out_lin"), qkv_bias=True, output_bias=True,
                          causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("hidden_dim"), gate=None,
                               up="lin1", down="lin2", bias=True)  # fmt: skip
    tied = suffix == "ForMaskedLM" and hyperparameters.flag("tie_embeddings", True)
    labels = hyperparameters.count("num_labels", 2)
    parts: dict[str, Callable[[], list[Placement]]] = {
        "masked": lambda: [
            bert.output("vocab_transform", hidden, hidden, "head_transform"),
            Placement("vocab_layer_norm", Norm(width=hidden, component=Component.HEAD)),
            Placement("vocab_projector", Linear(in_features=hidden, out_features=vocab, role="head",
                                                component=Component.HEAD, tied_to=f"{table}.weight" if tied else None)),
        ],
        "before": lambda: [bert.output("pre_classifier", hidden, hidden, "head_transform")],
        "classifier": lambda: [bert.output("classifier", hidden, labels)],
        "choice": lambda: [bert.output("classifier", hidden, 1)],
        "answer": lambda: [bert.output("qa_outputs", hidden, labels)],
    }  # fmt: skip
    return Architecture(
        family="distilbert",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(table, Embedding(rows=vocab, width=hidden)),
            Placement(base + "embeddings.position_embeddings", Embedding(
                rows=hyperparameters.count("max_positions", 512), width=hidden, role="position_embedding")),
            Placement(base + "embeddings.LayerNorm", Norm(width=hidden, role="embedding_norm")),
            Placement(layer + "attention", attention, layers),
            Placement(layer + "sa_layer_norm", Norm(width=hidden, role="attention_output_norm"), layers),
            Placement(layer + "ffn", feed_forward, layers),
            Placement(layer + "output_layer_norm", Norm(width=hidden, role="mlp_output_norm"), layers),
            *(placement for name in _CLASSES[suffix] for placement in parts[name]()),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="distilbert.",
        tie_embeddings=tied,
        notes=bert.unnamed(hyperparameters),
    )  # fmt: skip


FAMILY = Family(
    name="distilbert",
    title="DistilBERT",
    model_types=("distilbert",),
    gguf={},
    source="transformers models/distilbert",
    build=build,
)
