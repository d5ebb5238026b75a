"""BERT: an encoder with learned positions and token types, LayerNorm after each part, biases throughout.

Source: transformers `models/bert/{configuration,modeling}_bert.py`. Its classes differ in what stands on the body: the
bare model has a pooler; the masked-language model has a transform and a bias on the tied token table, and no pooler.
"""

from __future__ import annotations

from dataclasses import replace

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.family import Family, GgufMeaning, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

# What each class puts on the body: a pooler, the masked-language head, and an output layer's path and width. An
# untied masked head has two biases of the vocabulary in transformers 5; tied, they are one.
_CLASSES: dict[str, tuple[bool, bool, tuple[str, int | str] | None]] = {
    "Model": (True, False, None),
    "ForMaskedLM": (False, True, None),
    "ForPreTraining": (True, True, ("cls.seq_relationship", 2)),
    "ForNextSentencePrediction": (True, False, ("cls.seq_relationship", 2)),
    "ForSequenceClassification": (True, False, ("classifier", "num_labels")),
    "ForTokenClassification": (False, False, ("classifier", "num_labels")),
    "ForMultipleChoice": (True, False, ("classifier", 1)),
    "ForQuestionAnswering": (False, False, ("qa_outputs", "num_labels")),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    hyperparameters.refuse("is_decoder", "which this encoder family does not describe")
    hyperparameters.refuse("add_cross_attention", "which this encoder family does not describe")
    if hyperparameters.settings.get("position_embedding_type") not in (None, "absolute"):
        hyperparameters.refuse("position_embedding_type", "which adds tables that this family does not describe")
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    suffix = head_class(hyperparameters, ("Bert",), "ForMaskedLM")
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple(f"Bert{name}" for name in _CLASSES))
    base = "" if suffix == "Model" else "bert."
    layers, layer = range(num_layers), base + "encoder.layer.{layer}."
    norm = Norm(width=hidden)
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("self.query", "self.key", "self.value", "output.dense"), qkv_bias=True, output_bias=True, causal=False,
    )  # fmt: skip
    inner = hyperparameters.count("intermediate_size")
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="intermediate.dense",
                               down="output.dense", bias=True)  # fmt: skip
    tied = _CLASSES[suffix][1] and hyperparameters.flag("tie_embeddings", True)
    return Architecture(
        family="bert",
        model_type=hyperparameters.model_type,
        placements=(
            *_embeddings(hyperparameters, base + "embeddings.", hidden),
            Placement(layer + "attention", attention, layers),
            Placement(layer + "attention.output.LayerNorm", replace(norm, role="attention_output_norm"), layers),
            Placement(layer.rstrip("."), feed_forward, layers),
            Placement(layer + "output.LayerNorm", replace(norm, role="mlp_output_norm"), layers),
            *_top(hyperparameters, suffix, base, hidden, tied),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="bert.",
        tie_embeddings=tied,
        gguf_architecture="bert",
        notes=() if hyperparameters.classes else ("no class is named; taken as a masked language model",),
    )  # fmt: skip


def _embeddings(hyperparameters: Hyperparameters, path: str, hidden: int) -> tuple[Placement, ...]:
    tables = (
        ("word_embeddings", "vocab_size", None, "token_embedding"),
        ("position_embeddings", "max_positions", 512, "position_embedding"),
        ("token_type_embeddings", "num_token_types", 2, "type_embedding"),
    )
    return (
        *(Placement(path + name, Embedding(rows=hyperparameters.count(key, default), width=hidden, role=role))
          for name, key, default, role in tables),
        Placement(path + "LayerNorm", Norm(width=hidden, role="embedding_norm")),
    )  # fmt: skip


def _top(hyperparameters: Hyperparameters, suffix: str, base: str, hidden: int, tied: bool) -> list[Placement]:
    pooler, masked, output = _CLASSES[suffix]
    head = Linear(in_features=hidden, out_features=hidden, component=Component.HEAD)
    top = []
    if pooler and hyperparameters.flag("pooler", True):
        first = replace(head, role="pooler", component=Component.OTHER, per_sequence=True)
        top.append(Placement(base + "pooler.dense", first))
    if masked:
        vocab = hyperparameters.count("vocab_size")
        top += [
            Placement("cls.predictions.transform.dense", replace(head, role="head_transform")),
            Placement("cls.predictions.transform.LayerNorm", Norm(width=hidden, component=Component.HEAD)),
            Placement("cls.predictions.decoder", Linear(
                in_features=hidden, out_features=vocab, bias=not tied, role="head", component=Component.HEAD,
                tied_to=f"{base}embeddings.word_embeddings.weight" if tied else None)),
            Placement("cls.predictions", Vector(name="bias", width=vocab, role="head", component=Component.HEAD)),
        ]  # fmt: skip
    if output:
        path, width = output
        width = hyperparameters.count("num_labels", 2) if isinstance(width, str) else width
        top.append(Placement(path, replace(head, out_features=width, role="score", per_sequence=pooler)))
    return top


FAMILY = Family(
    name="bert",
    title="BERT, MiniLM, BGE, E5 and other encoders with BERT's wiring",
    model_types=("bert",),
    gguf={"bert": GgufMeaning("bert", "BertModel", settings={"pooler": False})},  # converters drop pooler and heads
    source="transformers models/bert",
    build=build,
)
