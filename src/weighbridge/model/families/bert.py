"""BERT: an encoder with learned positions and token types, LayerNorm after each part, biases throughout.

Source: transformers `models/bert/{configuration,modeling}_bert.py`. Its classes differ in what stands on the body: the
bare model has a pooler; the masked-language model has a transform and a bias on the tied token table, and no pooler.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.family import Family, GgufMeaning, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

CLASSES = {
    "Model": ("pooler",),
    "ForMaskedLM": ("masked",),
    "ForCausalLM": ("masked",),
    "ForPreTraining": ("pooler", "masked", "next"),
    "ForNextSentencePrediction": ("pooler", "next"),
    "ForSequenceClassification": ("pooler", "classifier"),
    "ForTokenClassification": ("token",),
    "ForMultipleChoice": ("pooler", "choice"),
    "ForQuestionAnswering": ("answer",),
}
"""What each class puts on the body."""
_MASKED = ("cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.decoder",
           "cls.predictions")  # fmt: skip
_KEYS_OF_2019 = frozenset({
    "architectures", "attention_probs_dropout_prob", "directionality", "finetuning_task", "hidden_act",
    "hidden_dropout_prob", "hidden_size", "initializer_range", "intermediate_size", "layer_norm_eps",
    "max_position_embeddings", "num_attention_heads", "num_hidden_layers", "num_labels", "output_attentions",
    "output_hidden_states", "output_past", "pad_token_id", "pooler_fc_size", "pooler_num_attention_heads",
    "pooler_num_fc_layers", "pooler_size_per_head", "pooler_type", "pruned_heads", "torchscript", "type_vocab_size",
    "use_bfloat16", "vocab_size",
})  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    classes = {"LMHeadModel": CLASSES["ForCausalLM"], **CLASSES}
    names = classes[suffix := known_class(hyperparameters, ("Bert",), classes)]
    base = "" if suffix == "Model" else "bert."
    tied = "masked" in names and hyperparameters.flag("tie_embeddings", True)
    return encoder(hyperparameters, "bert", base, heads(hyperparameters, names, base, tied), tied,
                   gguf_architecture="bert")  # fmt: skip


def heads(
    hyperparameters: Hyperparameters,
    names: Sequence[str],
    base: str,
    tied: bool,
    *,
    masked: tuple[str, str, str, str] = _MASKED,
    width: int | None = None,
) -> list[Placement]:
    """What stands on the body at the path `base`, by name; see `masked_head` for the last two."""
    hidden, labels = hyperparameters.count("hidden_size"), hyperparameters.count("num_labels", 2)
    table = f"{base}embeddings.word_embeddings.weight" if tied else None
    parts: dict[str, Callable[[], list[Placement]]] = {
        "pooler": lambda: pooler(hyperparameters, base),
        "masked": lambda: masked_head(hyperparameters, masked, table, width),
        "next": lambda: [output("cls.seq_relationship", hidden, 2, per_sequence=True)],
        "classifier": lambda: [output("classifier", hidden, labels, per_sequence=True)],
        "sequence": lambda: classification_head(hyperparameters),
        "token": lambda: [output("classifier", hidden, labels)],
        "choice": lambda: [output("classifier", hidden, 1, per_sequence=True)],
        "answer": lambda: [output("qa_outputs", hidden, labels)],
    }
    return [placement for name in names for placement in parts[name]()]


def known_class(
    hyperparameters: Hyperparameters, prefixes: tuple[str, ...], classes: Mapping[str, object], default: str = ""
) -> str:
    """The class of an encoder among those that are described.

    Raises:
        ConfigError: for another class.
    """
    suffix = head_class(hyperparameters, prefixes, default or "ForMaskedLM")
    if suffix not in classes:
        raise unknown_class(hyperparameters, tuple(prefixes[0] + name for name in classes))
    return suffix


def encoder(
    hyperparameters: Hyperparameters,
    family: str,
    base: str,
    top: Sequence[Placement],
    tied: bool,
    *,
    embeddings: Sequence[Placement] = (),
    gguf_architecture: str | None = None,
    unnamed: str = "a masked language model",
) -> Architecture:
    """The body that this family shares with others, under the path `base`, and what stands on it.

    `embeddings` stand in for BERT's own where given.

    Raises:
        ConfigError: for settings that add weights which are not described.
    """
    check_encoder(hyperparameters)
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    num_layers = hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers, layer = range(num_layers), base + "encoder.layer.{layer}."
    norm = Norm(width=hidden)
    attention = Attention(
        hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads,
        head_dim=hyperparameters.divided("head_dim", hidden, num_heads),
        names=("self.query", "self.key", "self.value", "output.dense"), qkv_bias=True, output_bias=True,
        causal=hyperparameters.flag("is_decoder", False),
    )  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="intermediate.dense", down="output.dense", bias=True)  # fmt: skip
    return Architecture(
        family=family,
        model_type=hyperparameters.model_type,
        placements=(
            *(embeddings or tables(hyperparameters, base + "embeddings.", hidden)),
            Placement(layer + "attention", attention, layers),
            Placement(layer + "attention.output.LayerNorm", replace(norm, role="attention_output_norm"), layers),
            Placement(layer.rstrip("."), feed_forward, layers),
            Placement(layer + "output.LayerNorm", replace(norm, role="mlp_output_norm"), layers),
            *top,
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix=base or f"{family}.",
        tie_embeddings=tied,
        gguf_architecture=gguf_architecture,
        notes=() if hyperparameters.classes else (f"no class is named; taken as {unnamed}",),
    )  # fmt: skip


def moved_norms(found: Architecture, base: str, moves: Mapping[str, tuple[str, str]]) -> Architecture:
    """The body with norms at other paths, each given with its role: the wiring that norms before its parts."""
    rows = {base + old: (base + new, role) for old, (new, role) in moves.items()}
    return replace(found, placements=tuple(
        replace(placement, path=rows[placement.path][0], block=replace(block, role=rows[placement.path][1]))
        if isinstance(block := placement.block, Norm) and placement.path in rows else placement
        for placement in found.placements
    ))  # fmt: skip


def check_encoder(hyperparameters: Hyperparameters) -> None:
    """Refuses what adds weights to an encoder of this kind.

    Raises:
        ConfigError: for cross-attention and for relative positions.
    """
    hyperparameters.refuse("add_cross_attention", "which this family does not describe")
    if hyperparameters.settings.get("position_embedding_type") not in (None, "absolute"):
        hyperparameters.refuse("position_embedding_type", "which adds tables that this family does not describe")


def unnamed(hyperparameters: Hyperparameters) -> tuple[str, ...]:
    """What to tell of a configuration that names no class."""
    return () if hyperparameters.classes else ("no class is named; taken as a masked language model",)


def tables(hyperparameters: Hyperparameters, path: str, width: int) -> tuple[Placement, ...]:
    """Tokens, positions and token types, and the norm on their sum."""
    rows = (
        ("word_embeddings", "vocab_size", None, "token_embedding"),
        ("position_embeddings", "max_positions", 512, "position_embedding"),
        ("token_type_embeddings", "num_token_types", 2, "type_embedding"),
    )
    return (
        *(Placement(path + name, Embedding(rows=hyperparameters.count(key, default), width=width, role=role))
          for name, key, default, role in rows),
        Placement(path + "LayerNorm", Norm(width=width, role="embedding_norm")),
    )  # fmt: skip


def pooler(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    """The dense layer on the first token; `pooler` = false for files that leave it out."""
    if not hyperparameters.flag("pooler", True):
        return []
    hidden = hyperparameters.count("hidden_size")
    dense = Linear(in_features=hidden, out_features=hidden, role="pooler", per_sequence=True)
    return [Placement(base + "pooler.dense", dense)]


def output(path: str, inputs: int, outputs: int, role: str = "score", per_sequence: bool = False) -> Placement:
    """A dense layer of the head, on every token or, `per_sequence`, on one of a sequence."""
    return Placement(path, Linear(in_features=inputs, out_features=outputs, role=role, component=Component.HEAD,
                                  per_sequence=per_sequence))  # fmt: skip


def summary(hyperparameters: Hyperparameters, hidden: int, *, to_labels: bool = False) -> list[Placement]:
    """The dense layer on the vector that sums up a sequence, unless `summary_use_proj` leaves it out.

    It gives the labels themselves with `summary_proj_to_labels`, whose default is `to_labels`.
    """
    if not hyperparameters.flag("summary_use_proj", True):
        return []
    labels = hyperparameters.flag("summary_proj_to_labels", to_labels)
    width = hyperparameters.count("num_labels", 2) if labels else hidden
    return [output("sequence_summary.summary", hidden, width, "head_transform", per_sequence=True)]


def classification_head(hyperparameters: Hyperparameters) -> list[Placement]:
    """The two dense layers that RoBERTa and its like classify a sequence with."""
    hidden = hyperparameters.count("hidden_size")
    return [
        output("classifier.dense", hidden, hidden, "head_transform", per_sequence=True),
        output("classifier.out_proj", hidden, hyperparameters.count("num_labels", 2), per_sequence=True),
    ]


def masked_head(
    hyperparameters: Hyperparameters, paths: tuple[str, str, str, str], tied_to: str | None, width: int | None = None
) -> list[Placement]:
    """Transform, norm and decoder of the masked-language head, and the bias, at these paths.

    The decoder has a bias of its own, which is the other one when the token table is shared. `width` is that of the
    token table where it differs.
    """
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    dense, norm, decoder, bias = paths
    width = width or hidden
    bias_name = f"{bias}.bias"
    return [
        output(dense, hidden, width, "head_transform"),
        Placement(norm, Norm(width=width, component=Component.HEAD)),
        Placement(decoder, Linear(in_features=width, out_features=vocab, bias=False, role="head",
                                  component=Component.HEAD, tied_to=tied_to)),
        Placement(bias, Vector(name="bias", width=vocab, role="head", component=Component.HEAD)),
        Placement(decoder, Vector(name="bias", width=vocab, role="head_bias", component=Component.HEAD,
                                  tied_to=bias_name if tied_to else None)),
    ]  # fmt: skip


def lm_head(
    hyperparameters: Hyperparameters, base: str, tied: bool, *, norm: str = "layer_norm", bias: bool = True
) -> list[Placement]:
    """Transform, `norm` and decoder at `lm_head`, the decoder with a `bias` or without, perhaps tied to the tokens."""
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    decoder = Linear(in_features=hidden, out_features=vocab, bias=bias, role="head", component=Component.HEAD,
                     tied_to=f"{base}embeddings.word_embeddings.weight" if tied else None)  # fmt: skip
    return [
        output("lm_head.dense", hidden, hidden, "head_transform"),
        Placement(f"lm_head.{norm}", Norm(width=hidden, component=Component.HEAD)),
        Placement("lm_head.decoder", decoder),
    ]


def recognise(config: Mapping[str, Any]) -> str | None:
    """Configurations of 2019 have no model type: those with BERT's keys alone and two token types are BERT's."""
    return "bert" if shape_of_2019(config) and config["type_vocab_size"] == 2 else None


def shape_of_2019(config: Mapping[str, Any]) -> bool:
    """Whether a configuration has the keys that BERT and RoBERTa had in 2019, and no others."""
    shape = {"hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
             "type_vocab_size", "vocab_size"}  # fmt: skip
    return shape <= set(config) <= _KEYS_OF_2019


FAMILY = Family(
    name="bert",
    title="BERT, MiniLM, BGE, E5 and other encoders with BERT's wiring",
    model_types=("bert",),
    gguf={"bert": GgufMeaning("bert", "BertModel", settings={"pooler": False})},  # converters drop pooler and heads
    source="transformers models/bert",
    build=build,
    recognise=recognise,
)
