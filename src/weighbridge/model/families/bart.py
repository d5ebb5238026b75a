"""BART, mBART, Pegasus, Blenderbot, Marian, M2M-100 and NLLB, PLBart: encoder-decoders with biases and one token table.

Source: transformers `models/{bart,mbart,pegasus,blenderbot,blenderbot_small,marian,m2m_100,plbart}/modeling_*.py`. They
differ in positions (learned with two rows in front, learned, sines that are stored or are not) and in norms (on the
embeddings, at the end of each stack). Marian may keep the tables of its two languages apart.
"""

from __future__ import annotations

from dataclasses import dataclass

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.encoder_decoder import Stack, position_table, stack
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one model type has: rows in front of its position table (None: no table), and which norms."""

    prefix: str
    rows: int | None
    embedding_norm: bool
    last_norm: bool
    positions: int = 1024
    num_labels: int = 2
    classifies: bool = False
    generator: str = "ForConditionalGeneration"


_KINDS = {
    "bart": _Kind("Bart", 2, True, False, num_labels=3, classifies=True),
    "mbart": _Kind("MBart", 2, True, True, classifies=True),
    "plbart": _Kind("PLBart", 2, True, False),
    "pegasus": _Kind("Pegasus", 0, False, True),
    "blenderbot": _Kind("Blenderbot", 0, False, True, positions=128),
    "blenderbot-small": _Kind("BlenderbotSmall", 0, True, False, positions=512),
    "marian": _Kind("Marian", 0, False, False, generator="MTModel"),
    "m2m_100": _Kind("M2M100", None, False, True),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder with what the class puts on them."""
    kind = _KINDS[hyperparameters.model_type]
    suffix = head_class(hyperparameters, (kind.prefix,), kind.generator)
    classes = (kind.generator, "Model", *(("ForSequenceClassification", "ForQuestionAnswering") * kind.classifies))
    if suffix not in classes:
        raise unknown_class(hyperparameters, tuple(kind.prefix + name for name in classes))
    base = "" if suffix == "Model" else "model."
    hidden = hyperparameters.count("hidden_size")
    positions = hyperparameters.count("max_positions", kind.positions)
    encoder = stack(hyperparameters, base, "encoder")
    decoder = stack(hyperparameters, base, "decoder", positions=positions, offset=encoder.num_layers)
    tables, table, vocab = _tables(hyperparameters, base, hidden)
    head, tied = _head(hyperparameters, kind, suffix, (hidden, vocab, table))
    return Architecture(
        family="bart",
        model_type=hyperparameters.model_type,
        placements=(
            *tables,
            *_side(encoder, kind, positions, "encoder_norm"),
            *_side(decoder, kind, positions, "final_norm"),
            *head,
        ),
        num_layers=encoder.num_layers + decoder.num_layers,
        num_heads=decoder.num_heads,
        num_kv_heads=decoder.num_heads,
        base_prefix="model.",
        tie_embeddings=tied,
        notes=(f"cross-attention is kept for {positions} positions of the encoder, the most it takes",),
    )


def _tables(hyperparameters: Hyperparameters, base: str, hidden: int) -> tuple[list[Placement], str, int]:
    """The token tables, the one that the head shares, and its rows."""
    vocab = hyperparameters.count("vocab_size")
    sides = (f"{base}encoder.embed_tokens", f"{base}decoder.embed_tokens")
    if not hyperparameters.flag("share_encoder_decoder_embeddings", True):
        other = hyperparameters.count("decoder_vocab_size", vocab)
        rows = zip(sides, (vocab, other), strict=True)
        return [Placement(p, Embedding(rows=n, width=hidden)) for p, n in rows], f"{sides[1]}.weight", other
    if not hyperparameters.flag("tie_embeddings", True):
        raise ConfigError(f"{hyperparameters.source} shares one token table and unties it",
                          "shared tables tied, as in published files", "correct tie_word_embeddings")  # fmt: skip
    shared = f"{base}shared.weight"
    table = Embedding(rows=vocab, width=hidden)
    copies = [Placement(p, Embedding(rows=vocab, width=hidden, tied_to=shared)) for p in sides]
    return [Placement(f"{base}shared", table), *copies], shared, vocab


def _side(part: Stack, kind: _Kind, positions: int, role: str) -> list[Placement]:
    width = part.hidden_size
    placements = [] if kind.rows is None else [position_table(part.path, positions + kind.rows, width)]
    placements += part.placements()
    if kind.embedding_norm:
        placements.append(Placement(f"{part.path}.layernorm_embedding", Norm(width=width, role="embedding_norm")))
    if kind.last_norm:
        placements.append(Placement(f"{part.path}.layer_norm", Norm(width=width, role=role)))
    return placements


def _head(
    hyperparameters: Hyperparameters, kind: _Kind, suffix: str, table: tuple[int, int, str]
) -> tuple[list[Placement], bool]:
    hidden, vocab, shared = table
    if suffix == kind.generator:
        tied = hyperparameters.flag("tie_embeddings", True)
        head = Linear(in_features=hidden, out_features=vocab, bias=False, role="head", component=Component.HEAD,
                      tied_to=shared if tied else None)  # fmt: skip
        return [Placement("lm_head", head)], tied
    labels = hyperparameters.count("num_labels", kind.num_labels)
    widths = {
        "ForSequenceClassification": [("classification_head.dense", hidden), ("classification_head.out_proj", labels)],
        "ForQuestionAnswering": [("qa_outputs", 2)],  # the class sets the number of labels
    }.get(suffix, [])
    return [Placement(path, Linear(in_features=hidden, out_features=width, role="score", component=Component.HEAD))
            for path, width in widths], False  # fmt: skip


FAMILY = Family(
    name="bart",
    title="BART, mBART, Pegasus, Blenderbot, Marian (OPUS-MT), M2M-100, NLLB, PLBart",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/bart, mbart, plbart, pegasus, blenderbot, blenderbot_small, marian, m2m_100",
    build=build,
)
