"""Megatron-BERT, ERNIE, LayoutLM, RemBERT, RoFormer, BigBird, ESM: BERT's layers with other tables, norms or heads.

Source: transformers `models/{megatron_bert,ernie,layoutlm,rembert,roformer,big_bird,esm}/modeling_*.py`. Megatron-BERT
and ESM norm before each part. RemBERT and RoFormer have narrower embeddings; RemBERT's head is never tied. RoFormer
stores its sines. BigBird's sparse attention has the weights of the full one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.decoder import with_defaults
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

Parts = Callable[[Hyperparameters, str], list[Placement]]
"""What stands under the path of the body."""

_LAYER = "encoder.layer.{layer}."


@dataclass(frozen=True, slots=True)
class _Kind:
    """What one model type has: its class names and body, what its classes put on it, tables, norms and heads."""

    prefix: str
    body: str
    classes: Mapping[str, tuple[str, ...]]
    tables: Parts | None = None
    norms: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    own: Mapping[str, Parts] = field(default_factory=dict)
    defaults: Mapping[str, int] = field(default_factory=dict)


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    kind = _KINDS[hyperparameters.model_type]
    names = kind.classes[suffix := bert.known_class(hyperparameters, (kind.prefix,), kind.classes)]
    hyperparameters = with_defaults(hyperparameters, kind.defaults)
    base = "" if suffix == "Model" else kind.body
    tied = "masked" in names and hyperparameters.flag("tie_embeddings", True)
    width = _narrow(hyperparameters) if hyperparameters.model_type == "roformer" else None
    top = [placement for name in names
           for placement in (kind.own[name](hyperparameters, base) if name in kind.own
                             else bert.heads(hyperparameters, (name,), base, tied, width=width))]  # fmt: skip
    tables = kind.tables(hyperparameters, base) if kind.tables else []
    plain = {**hyperparameters.settings, "position_embedding_type": None}
    if hyperparameters.model_type == "layoutlm":
        plain["is_decoder"] = False  # which its class ignores
    found = bert.encoder(replace(hyperparameters, settings=plain), "bert_relatives", base, top, tied, embeddings=tables)
    return replace(bert.moved_norms(found, base, kind.norms), base_prefix=kind.body)


def _narrow(hyperparameters: Hyperparameters) -> int:
    """The width of RoFormer's embeddings: that of the model where the key is missing or null."""
    return hyperparameters.count("embedding_size", hyperparameters.count("hidden_size"))


def _table(path: str, rows: int, width: int, role: str) -> Placement:
    return Placement(path, Embedding(rows=rows, width=width, role=role))


def _ernie_tables(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    hidden = hyperparameters.count("hidden_size")
    placements = list(bert.tables(hyperparameters, base + "embeddings.", hidden))
    if hyperparameters.flag("use_task_id", False):
        rows = hyperparameters.count("task_type_vocab_size", 3)
        placements.append(_table(f"{base}embeddings.task_type_embeddings", rows, hidden, "type_embedding"))
    return placements


def _layout_tables(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    """BERT's tables, and one each for the place and size of a word's box on the page."""
    hidden, rows = hyperparameters.count("hidden_size"), hyperparameters.count("max_2d_position_embeddings", 1024)
    return [
        *bert.tables(hyperparameters, base + "embeddings.", hidden),
        *(_table(f"{base}embeddings.{axis}_position_embeddings", rows, hidden, "position_embedding")
          for axis in "xyhw"),
    ]  # fmt: skip


def _rembert_tables(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    width = hyperparameters.count("input_embedding_size", 256)
    widen = Linear(in_features=width, out_features=hyperparameters.count("hidden_size"), role="embedding_projection")
    return [
        *bert.tables(hyperparameters, base + "embeddings.", width),
        Placement(base + "encoder.embedding_hidden_mapping_in", widen),
    ]


def _rembert_head(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    hidden, width = hyperparameters.count("hidden_size"), hyperparameters.count("output_embedding_size", 1664)
    return [
        bert.output("cls.predictions.dense", hidden, width, "head_transform"),
        Placement("cls.predictions.LayerNorm", Norm(width=width, component=Component.HEAD)),
        bert.output("cls.predictions.decoder", width, hyperparameters.count("vocab_size"), "head"),
    ]


def _roformer_tables(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    hidden, width = hyperparameters.count("hidden_size"), _narrow(hyperparameters)
    head_dim = hyperparameters.divided("head_dim", hidden, hyperparameters.count("num_heads"))
    tables = bert.tables(hyperparameters, base + "embeddings.", width)
    sines = _table(f"{base}encoder.embed_positions", hyperparameters.count("max_positions"), head_dim,
                   "position_embedding")  # fmt: skip
    widen = Linear(in_features=width, out_features=hidden, role="embedding_projection")
    return [
        *(placement for placement in tables if not placement.path.endswith("position_embeddings")),
        *([Placement(base + "embeddings_project", widen)] if width != hidden else []),
        sines,
    ]


def _bird_tables(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    if not hyperparameters.flag("use_bias", True):
        raise ConfigError(f"{hyperparameters.source} has use_bias = false",
                          "biases on queries, keys and values", "ask for support of this variant")  # fmt: skip
    return list(bert.tables(hyperparameters, base + "embeddings.", hyperparameters.count("hidden_size")))


def _bird_pooler(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    hidden = hyperparameters.count("hidden_size")
    dense = Linear(in_features=hidden, out_features=hidden, role="pooler", per_sequence=True)
    return [Placement(base + "pooler", dense)]


def _bird_answer(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    """A feed-forward block with its norm, then the two outputs."""
    hidden = hyperparameters.count("hidden_size")
    block = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"), gate=None,
                        up="intermediate.dense", down="output.dense", bias=True, kind="head",
                        component=Component.HEAD)  # fmt: skip
    return [
        Placement("qa_classifier", block),
        Placement("qa_classifier.output.LayerNorm", Norm(width=hidden, component=Component.HEAD)),
        bert.output("qa_classifier.qa_outputs", hidden, 2),
    ]


def _two_answers(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    """Begin and end, whatever number of labels the configuration has."""
    return [bert.output("qa_outputs", hyperparameters.count("hidden_size"), 2)]


def _esm_tables(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    """Tokens, positions where they are not rotary, the norm at the end, and what guesses contacts from attention."""
    hyperparameters.refuse("is_folding_model", "which this family does not describe")
    hidden, path = hyperparameters.count("hidden_size"), base + "embeddings."
    maps = hyperparameters.count("num_layers") * hyperparameters.count("num_heads")
    placements = [_table(path + "word_embeddings", hyperparameters.count("vocab_size"), hidden, "token_embedding")]
    kind = hyperparameters.settings.get("position_embedding_type", "absolute")
    if kind == "absolute":
        rows = hyperparameters.count("max_positions")
        placements.append(_table(path + "position_embeddings", rows, hidden, "position_embedding"))
    elif kind != "rotary":
        hyperparameters.refuse("position_embedding_type", "of which absolute and rotary are described")
    if hyperparameters.flag("emb_layer_norm_before", False):
        placements.append(Placement(path + "layer_norm", Norm(width=hidden, role="embedding_norm")))
    return [
        *placements,
        Placement(base + "encoder.emb_layer_norm_after", Norm(width=hidden, role="final_norm")),
        Placement(base + "contact_head.regression", Linear(in_features=maps, out_features=1, role="score")),
    ]


def _esm_head(hyperparameters: Hyperparameters, base: str) -> list[Placement]:
    tied = hyperparameters.flag("tie_embeddings", True)
    bias = Vector(name="bias", width=hyperparameters.count("vocab_size"), role="head", component=Component.HEAD)
    return [*bert.lm_head(hyperparameters, base, tied, bias=False), Placement("lm_head", bias)]


def _without_pooler(classes: Mapping[str, tuple[str, ...]], names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(part for part in classes[name] if part != "pooler") for name in names}


_HEADS = ("ForMaskedLM", "ForCausalLM", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")
_POOLED = {name: ("pooler", *(part for part in bert.CLASSES[name] if part != "pooler"))
           for name in ("Model", "ForMaskedLM", "ForSequenceClassification", "ForTokenClassification",
                        "ForQuestionAnswering")}  # fmt: skip
_KINDS = {
    "megatron-bert": _Kind("MegatronBert", "bert.", bert.CLASSES, norms={
        f"{_LAYER}attention.output.LayerNorm": (f"{_LAYER}attention.ln", "attention_norm"),
        f"{_LAYER}output.LayerNorm": (f"{_LAYER}ln", "mlp_norm"),
        "embeddings.LayerNorm": ("encoder.ln", "final_norm"),
    }),
    "ernie": _Kind("Ernie", "ernie.", bert.CLASSES, _ernie_tables),
    "layoutlm": _Kind("LayoutLM", "layoutlm.", _POOLED, _layout_tables),
    "rembert": _Kind(
        "RemBert", "rembert.",
        {name: ("own head",) if parts == ("masked",) else parts for name, parts in bert.CLASSES.items()
         if "next" not in parts},
        _rembert_tables, own={"own head": _rembert_head},
    ),
    "roformer": _Kind(
        "RoFormer", "roformer.",
        {"Model": (), **_without_pooler(bert.CLASSES, _HEADS), "ForSequenceClassification": ("sequence",)},
        _roformer_tables, own={"answer": _two_answers}, defaults={"max_positions": 1536},
    ),
    "big_bird": _Kind(
        "BigBird", "bert.",
        {"Model": ("bare pooler",), "ForPreTraining": ("bare pooler", "masked", "next"),
         "ForMaskedLM": ("bare pooler", "masked"), "ForCausalLM": ("bare pooler", "masked"),
         "ForSequenceClassification": ("bare pooler", "sequence"), "ForTokenClassification": ("bare pooler", "token"),
         "ForMultipleChoice": ("bare pooler", "choice"), "ForQuestionAnswering": ("block",)},
        _bird_tables, own={"bare pooler": _bird_pooler, "block": _bird_answer}, defaults={"max_positions": 4096},
    ),
    "esm": _Kind(
        "Esm", "esm.",
        {"Model": ("pooler",), "ForMaskedLM": ("own head",), "ForSequenceClassification": ("sequence",),
         "ForTokenClassification": ("token",)},
        _esm_tables, own={"own head": _esm_head}, defaults={"max_positions": 1026}, norms={
            f"{_LAYER}attention.output.LayerNorm": (f"{_LAYER}attention.LayerNorm", "attention_norm"),
            f"{_LAYER}output.LayerNorm": (f"{_LAYER}LayerNorm", "mlp_norm"),
        },
    ),
}  # fmt: skip

FAMILY = Family(
    name="bert_relatives",
    title="Megatron-BERT, ERNIE, LayoutLM, RemBERT, RoFormer, BigBird, ESM-1b and ESM-2",
    model_types=("megatron-bert", "ernie", "layoutlm", "rembert", "roformer", "big_bird", "esm"),
    gguf={},
    source="transformers models/megatron_bert, ernie, layoutlm, rembert, roformer, big_bird, esm",
    build=build,
)
