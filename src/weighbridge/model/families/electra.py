"""ELECTRA: BERT's layers on narrower embeddings; the generator guesses tokens, the discriminator tells which are real.

Source: transformers `models/electra/{configuration,modeling}_electra.py`. The usual class is the discriminator.
"""

from __future__ import annotations

from collections.abc import Callable

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Linear, Norm
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": (),
    "ForPreTraining": ("discriminator",),
    "ForMaskedLM": ("generator",),
    "ForSequenceClassification": ("sequence",),
    "ForTokenClassification": ("token",),
    "ForQuestionAnswering": ("answer",),
    "ForMultipleChoice": ("choice",),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    suffix = bert.known_class(hyperparameters, ("Electra",), _CLASSES, "ForPreTraining")
    base, hidden = "" if suffix == "Model" else "electra.", hyperparameters.count("hidden_size")
    width, vocab = hyperparameters.count("embedding_size", 128), hyperparameters.count("vocab_size")
    labels = hyperparameters.count("num_labels", 2)
    tied = suffix == "ForMaskedLM" and hyperparameters.flag("tie_embeddings", True)
    embeddings = bert.tables(hyperparameters, base + "embeddings.", width)
    if width != hidden:
        project = Linear(in_features=width, out_features=hidden, role="embedding_projection")
        embeddings = (*embeddings, Placement(base + "embeddings_project", project))

    def generator() -> list[Placement]:
        head = Linear(in_features=width, out_features=vocab, role="head", component=Component.HEAD,
                      tied_to=f"{base}embeddings.word_embeddings.weight" if tied else None)  # fmt: skip
        return [
            Placement("generator_predictions.LayerNorm", Norm(width=width, component=Component.HEAD)),
            bert.output("generator_predictions.dense", hidden, width, "head_transform"),
            Placement("generator_lm_head", head),
        ]

    parts: dict[str, Callable[[], list[Placement]]] = {
        "discriminator": lambda: [
            bert.output("discriminator_predictions.dense", hidden, hidden, "head_transform"),
            bert.output("discriminator_predictions.dense_prediction", hidden, 1),
        ],
        "generator": generator,
        "sequence": lambda: bert.classification_head(hyperparameters),
        "token": lambda: [bert.output("classifier", hidden, labels)],
        "answer": lambda: [bert.output("qa_outputs", hidden, labels)],
        "choice": lambda: [
            *bert.summary(hyperparameters, hidden),
            *bert.heads(hyperparameters, ("choice",), base, tied),
        ],
    }
    return bert.encoder(
        hyperparameters, "electra", base, [p for name in _CLASSES[suffix] for p in parts[name]()], tied,
        embeddings=embeddings, unnamed="a discriminator",
    )  # fmt: skip


FAMILY = Family(
    name="electra",
    title="ELECTRA, generators and discriminators",
    model_types=("electra",),
    gguf={},
    source="transformers models/electra",
    build=build,
)
