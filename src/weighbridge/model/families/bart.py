"""BART, mBART, Pegasus, Blenderbot, Marian, M2M-100 and NLLB, PLBart, LED: encoder-decoders with one token table.

Source: transformers `models/{bart,mbart,pegasus,blenderbot,blenderbot_small,marian,m2m_100,plbart}/modeling_*.py`, and
for long inputs `models/{led,pegasus_x,bigbird_pegasus}`. They differ in positions (learned with two rows in front,
learned, sines that are stored or are not) and in norms (on the embeddings, at the end of each stack). Marian may keep
the tables of its two languages apart. LED projects again for global tokens, PEGASUS-X learns some, and neither its
attention nor that of BigBird-Pegasus has biases.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, Linear, Norm
from weighbridge.model.encoder_decoder import Stack, position_table, stack
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one model type has: rows in front of its position table (None: no table), and which norms.

    `bias` is that of attention where no key says, `names` those of the projections in the encoder.
    """

    prefix: str
    rows: int | None
    embedding_norm: bool
    last_norm: bool
    positions: int = 1024
    num_labels: int = 2
    classifies: bool = False
    generator: str = "ForConditionalGeneration"
    body: str = "model."
    bias: bool = True
    names: tuple[str, ...] | None = None


_KINDS = {
    "bart": _Kind("Bart", 2, True, False, num_labels=3, classifies=True),
    "mbart": _Kind("MBart", 2, True, True, classifies=True),
    "plbart": _Kind("PLBart", 2, True, False),
    "pegasus": _Kind("Pegasus", 0, False, True),
    "blenderbot": _Kind("Blenderbot", 0, False, True, positions=128),
    "blenderbot-small": _Kind("BlenderbotSmall", 0, True, False, positions=512),
    "marian": _Kind("Marian", 0, False, False, generator="MTModel"),
    "m2m_100": _Kind("M2M100", None, False, True),
    "led": _Kind("LED", 0, True, False, num_labels=3, classifies=True, body="led.", names=(
        *(f"longformer_self_attn.{name}" for name in ("query", "key", "value")), "output")),
    "pegasus_x": _Kind("PegasusX", None, False, True, positions=16384, bias=False),
    "bigbird_pegasus": _Kind("BigBirdPegasus", 0, True, False, positions=4096, classifies=True, bias=False,
                             names=("self.query", "self.key", "self.value", "output")),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder with what the class puts on them."""
    kind = _KINDS[hyperparameters.model_type]
    suffix = head_class(hyperparameters, (kind.prefix,), kind.generator)
    classes = (kind.generator, "Model", *(("ForSequenceClassification", "ForQuestionAnswering") * kind.classifies))
    if suffix not in classes:
        raise unknown_class(hyperparameters, tuple(kind.prefix + name for name in classes))
    base = "" if suffix == "Model" else kind.body
    hidden = hyperparameters.count("hidden_size")
    positions = written = hyperparameters.count("max_positions", kind.positions)
    if hyperparameters.model_type == "led":
        positions = hyperparameters.count("max_encoder_position_embeddings", 16384)
        written = hyperparameters.count("max_decoder_position_embeddings", 1024)
    encoder = stack(hyperparameters, base, "encoder")
    decoder = stack(hyperparameters, base, "decoder", positions=positions, offset=encoder.num_layers)
    bias = hyperparameters.flag("use_bias", kind.bias) if hyperparameters.model_type == "bigbird_pegasus" else kind.bias
    encoder, decoder = replace(encoder, bias=bias, names=kind.names or encoder.names), replace(decoder, bias=bias)
    tables, table, vocab = _tables(hyperparameters, base, hidden)
    head, tied = _head(hyperparameters, kind, suffix, (hidden, vocab, table))
    return Architecture(
        family="bart",
        model_type=hyperparameters.model_type,
        placements=(
            *tables,
            *_side(encoder, kind, positions, "encoder_norm"),
            *_for_global_tokens(hyperparameters, encoder),
            *_side(decoder, kind, written, "final_norm"),
            *head,
        ),
        num_layers=encoder.num_layers + decoder.num_layers,
        num_heads=decoder.num_heads,
        num_kv_heads=decoder.num_heads,
        base_prefix=kind.body,
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


def _for_global_tokens(hyperparameters: Hyperparameters, encoder: Stack) -> list[Placement]:
    """What LED and PEGASUS-X have for the tokens that attend to all others."""
    width = encoder.hidden_size
    if hyperparameters.model_type == "led":
        return [
            encoder.at(f"self_attn.longformer_self_attn.{name}_global",
                       Linear(in_features=width, out_features=width, role=f"attention_{name}",
                              component=Component.ATTENTION))
            for name in ("query", "key", "value")
        ]  # fmt: skip
    if hyperparameters.model_type == "pegasus_x":
        learned = Embedding(rows=hyperparameters.count("num_global_tokens", 32), width=width, role="global_embedding")
        norm = Norm(width=width, role="attention_norm")
        return [Placement(f"{encoder.path}.embed_global", learned), encoder.at("global_self_attn_layer_norm", norm)]
    return []


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
    title="BART, mBART, Pegasus (and X), Blenderbot, Marian (OPUS-MT), M2M-100, NLLB, PLBart, LED, BigBird-Pegasus",
    model_types=tuple(_KINDS),
    gguf={},
    source="transformers models/bart, mbart, plbart, pegasus, blenderbot, blenderbot_small, marian, m2m_100, led, "
    "pegasus_x, bigbird_pegasus",
    build=build,
)
