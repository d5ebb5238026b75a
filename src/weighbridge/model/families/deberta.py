"""DeBERTa 1, 2 and 3: BERT's layers with attention to relative positions, which share a table of their own.

Source: transformers `models/deberta/modeling_deberta.py` and `models/deberta_v2/modeling_deberta_v2.py`. Version 1 has
one fused projection with biases on queries and values; versions 2 and 3 have three. Positions are projected in each
layer (`pos_att_type`), unless the keys of the content serve for them (`share_att_key`, as in version 3). The large
models of version 2 pass a convolution beside the first layer.
"""

from __future__ import annotations

from collections.abc import Callable

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, Block, Embedding, FeedForward, Linear, Norm, Vector
from weighbridge.model.blocks.convolution import Convolution
from weighbridge.model.families import bert
from weighbridge.model.family import Family
from weighbridge.model.hyperparameters import MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_CLASSES = {
    "Model": (),
    "ForMaskedLM": ("masked",),
    "ForSequenceClassification": ("pooler", "classifier"),
    "ForTokenClassification": ("classifier",),
    "ForQuestionAnswering": ("answer",),
    "ForMultipleChoice": ("pooler", "choice"),
}


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The encoder with what its class puts on it."""
    first = hyperparameters.model_type == "deberta"
    classes = {name: parts for name, parts in _CLASSES.items() if not (first and name == "ForMultipleChoice")}
    suffix = bert.known_class(hyperparameters, ("Deberta",) if first else ("DebertaV2",), classes)
    hyperparameters.refuse("talking_head", "which adds weights that are not described")
    hyperparameters.refuse("attention_head_size", "which is taken from the hidden size")
    base, hidden = "" if suffix == "Model" else "deberta.", hyperparameters.count("hidden_size")
    num_heads, num_layers = hyperparameters.count("num_heads"), hyperparameters.count("num_layers", most=MOST_LAYERS)
    layers, layer = range(num_layers), base + "encoder.layer.{layer}."
    head_dim = hyperparameters.divided("head_dim", hidden, num_heads)
    names = ("in_proj",) if first else ("query_proj", "key_proj", "value_proj")
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim,
                          names=(*(f"self.{name}" for name in names), "output.dense"), qkv_bias=not first,
                          output_bias=True, causal=False)  # fmt: skip
    feed_forward = FeedForward(hidden_size=hidden, intermediate_size=hyperparameters.count("intermediate_size"),
                               gate=None, up="intermediate.dense", down="output.dense", bias=True)  # fmt: skip
    tied = suffix == "ForMaskedLM" and hyperparameters.flag("legacy", True)
    tied = tied and hyperparameters.flag("tie_embeddings", True)
    return Architecture(
        family="deberta",
        model_type=hyperparameters.model_type,
        placements=(
            *_embeddings(hyperparameters, base + "embeddings.", hidden),
            Placement(layer + "attention", attention, layers),
            *(Placement(layer + "attention.self" + path, block, layers, Component.ATTENTION)
              for path, block in _positions(hyperparameters, first, hidden)),
            Placement(layer + "attention.output.LayerNorm", Norm(width=hidden, role="attention_output_norm"), layers),
            Placement(layer.rstrip("."), feed_forward, layers),
            Placement(layer + "output.LayerNorm", Norm(width=hidden, role="mlp_output_norm"), layers),
            *_encoder(hyperparameters, base + "encoder.", first, hidden),
            *_top(hyperparameters, classes[suffix], base, tied),
        ),
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        base_prefix="deberta.",
        tie_embeddings=tied,
        notes=bert.unnamed(hyperparameters),
    )  # fmt: skip


def _embedding_size(hyperparameters: Hyperparameters) -> int:
    return hyperparameters.count("embedding_size", hyperparameters.count("hidden_size"))


def _embeddings(hyperparameters: Hyperparameters, path: str, hidden: int) -> list[Placement]:
    width = _embedding_size(hyperparameters)
    rows = [("word_embeddings", hyperparameters.count("vocab_size"), "token_embedding")]
    if hyperparameters.flag("position_biased_input", True):
        rows.append(("position_embeddings", hyperparameters.count("max_positions", 512), "position_embedding"))
    if hyperparameters.settings.get("num_token_types"):
        rows.append(("token_type_embeddings", hyperparameters.count("num_token_types"), "type_embedding"))
    placements = [Placement(path + name, Embedding(rows=n, width=width, role=role)) for name, n, role in rows]
    if width != hidden:
        project = Linear(in_features=width, out_features=hidden, bias=False, role="embedding_projection")
        placements.append(Placement(path + "embed_proj", project))
    return [*placements, Placement(path + "LayerNorm", Norm(width=hidden, role="embedding_norm"))]


def _relative(hyperparameters: Hyperparameters) -> bool:
    return hyperparameters.flag("relative_attention", False)


def _positions(hyperparameters: Hyperparameters, first: bool, hidden: int) -> list[tuple[str, Block]]:
    """The parts of self-attention beside its projections: lone biases, projections of positions."""
    parts: list[tuple[str, Block]] = []
    if first:
        parts += [("", Vector(name=name, width=hidden, role="attention_qkv")) for name in ("q_bias", "v_bias")]
    spelled = hyperparameters.settings.get("pos_att_type") or []
    kinds = spelled.lower().split("|") if isinstance(spelled, str) else spelled
    if not isinstance(kinds, list | tuple):
        raise ConfigError(f"{hyperparameters.source} has pos_att_type = {repr(spelled)[:60]}", "a list of c2p and p2c",
                          "correct the key")  # fmt: skip
    kinds = {str(kind).strip() for kind in kinds}
    if not _relative(hyperparameters) or (not first and hyperparameters.flag("share_att_key", False)):
        return parts
    if "c2p" in kinds:
        name = ".pos_proj" if first else ".pos_key_proj"
        parts.append((name, Linear(in_features=hidden, out_features=hidden, bias=not first, role="attention_position")))
    if "p2c" in kinds:
        name = ".pos_q_proj" if first else ".pos_query_proj"
        parts.append((name, Linear(in_features=hidden, out_features=hidden, role="attention_position")))
    return parts


def _encoder(hyperparameters: Hyperparameters, path: str, first: bool, hidden: int) -> list[Placement]:
    """What all layers share: the table of relative positions and its norm, and the convolution."""
    placements = []
    if _relative(hyperparameters):
        rows = _setting(hyperparameters, "max_relative_positions") or hyperparameters.count("max_positions", 512)
        if not first:
            rows = _setting(hyperparameters, "position_buckets") or rows
        table = Embedding(rows=2 * rows, width=hidden, role="attention_position")
        placements.append(Placement(path + "rel_embeddings", table, component=Component.ATTENTION))
    if first:
        return placements
    if "layer_norm" in str(hyperparameters.settings.get("norm_rel_ebd") or "none").lower().split("|"):
        placements.append(Placement(path + "LayerNorm", Norm(width=hidden)))
    kernel = _setting(hyperparameters, "conv_kernel_size")
    if kernel:
        groups = hyperparameters.count("conv_groups", 1)
        hyperparameters.divided("channels by groups", hidden, groups)
        convolution = Convolution(kernel=(kernel,), in_channels=hidden, out_channels=hidden, groups=groups, bias=True)
        placements += [
            Placement(path + "conv.conv", convolution),
            Placement(path + "conv.LayerNorm", Norm(width=hidden)),
        ]
    return placements


def _setting(hyperparameters: Hyperparameters, name: str) -> int:
    """A number that is switched off by anything below 1."""
    value = hyperparameters.settings.get(name)
    return 0 if isinstance(value, int) and value < 1 else hyperparameters.optional_count(name) or 0


def _top(hyperparameters: Hyperparameters, parts: tuple[str, ...], base: str, tied: bool) -> list[Placement]:
    hidden = hyperparameters.count("hidden_size")

    def masked() -> list[Placement]:
        if hyperparameters.flag("legacy", True):
            path = "cls.predictions"
            paths = (f"{path}.transform.dense", f"{path}.transform.LayerNorm", f"{path}.decoder", path)
            table = f"{base}embeddings.word_embeddings.weight"
            return bert.masked_head(hyperparameters, paths, table if tied else None, _embedding_size(hyperparameters))
        path, vocab = "lm_predictions.lm_head", hyperparameters.count("vocab_size")
        return [
            bert.output(f"{path}.dense", hidden, hidden, "head_transform"),
            Placement(f"{path}.LayerNorm", Norm(width=hidden, component=Component.HEAD)),
            Placement(path, Vector(name="bias", width=vocab, role="head", component=Component.HEAD)),
        ]

    def pooler() -> list[Placement]:
        width = hyperparameters.count("pooler_hidden_size", hidden)
        return [Placement("pooler.dense", Linear(in_features=width, out_features=width, role="pooler"))]

    made: dict[str, Callable[[], list[Placement]]] = {
        "masked": masked,
        "pooler": pooler,
        "classifier": lambda: [bert.output("classifier", hidden, hyperparameters.count("num_labels", 2))],
        "choice": lambda: [bert.output("classifier", hidden, 1)],
        "answer": lambda: [bert.output("qa_outputs", hidden, hyperparameters.count("num_labels", 2))],
    }
    return [placement for name in parts for placement in made[name]()]


FAMILY = Family(
    name="deberta",
    title="DeBERTa, DeBERTa 2 and 3, mDeBERTa",
    model_types=("deberta", "deberta-v2"),
    gguf={},
    source="transformers models/deberta, models/deberta_v2",
    build=build,
)
