"""T5, FLAN-T5, UL2, mT5, umT5, LongT5, Switch: an encoder-decoder with relative positions and RMSNorm, no biases.

Source: transformers `models/{t5,mt5,umt5,longt5,switch_transformers}/{configuration,modeling}_*.py`. The first layer of
each stack has the table of relative positions, in umT5 every layer has one. T5 1.1 and its followers have a gated
feed-forward block and a head of its own (`tie_word_embeddings` false in their files, Raffel et al. 2020; transformers 5
ties it all the same, which the checkpoints contradict). Switch replaces every so many blocks by routed experts. The
encoder of LongT5 attends to neighbours, and may have a second table of positions and a norm for summaries of further
blocks (`transient-global`).
"""

from __future__ import annotations

from collections.abc import Sequence

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture, Placement
from weighbridge.model.blocks import Attention, CrossAttention, Embedding, Experts, FeedForward, Linear, Norm
from weighbridge.model.family import Family, head_class, unknown_class
from weighbridge.model.hyperparameters import MOST_EXPERTS, MOST_LAYERS, Hyperparameters
from weighbridge.model.tensors import Component

_PREFIXES = ("T5", "MT5", "UMT5", "LongT5", "SwitchTransformers")
# What LongT5 calls the attention of its encoder.
_LONG = {"local": "LocalSelfAttention", "transient-global": "TransientGlobalSelfAttention"}
_CLASSES = ("ForConditionalGeneration", "Model", "EncoderModel", "ForSequenceClassification", "ForTokenClassification",
            "ForQuestionAnswering")  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """Encoder and decoder, or the encoder alone, with what the class puts on them."""
    suffix = head_class(hyperparameters, _PREFIXES, "ForConditionalGeneration")
    suffix = "ForConditionalGeneration" if suffix == "WithLMHeadModel" else suffix  # its name until 2020
    if suffix not in _CLASSES:
        raise unknown_class(hyperparameters, tuple(_PREFIXES[0] + name for name in _CLASSES))
    base = "transformer." if suffix in ("ForSequenceClassification", "ForTokenClassification") else ""
    encodes_only = suffix in ("EncoderModel", "ForTokenClassification")
    if encodes_only:
        hyperparameters.refuse(
            "is_decoder", "which gives the encoder cross-attention that this family does not describe"
        )
    hidden, vocab = hyperparameters.count("hidden_size"), hyperparameters.count("vocab_size")
    encoders = hyperparameters.count("num_layers", most=MOST_LAYERS)
    # A missing number means as many as the encoder has, and 12 for Switch Transformers; a null the former for all.
    switch = hyperparameters.model_type == "switch_transformers"
    default = 12 if switch and "num_decoder_layers" not in hyperparameters.settings else encoders
    decoders = 0 if encodes_only else hyperparameters.count("num_decoder_layers", default, most=MOST_LAYERS)
    stacks = [("encoder", range(encoders), 0)] + ([] if encodes_only else [("decoder", range(decoders), encoders)])
    shared = f"{base}shared.weight"
    head, tied = _head(hyperparameters, suffix, hidden, shared)
    notes = () if encodes_only else (
        f"cross-attention is kept for {_positions(hyperparameters)} positions of the encoder; it grows with the input",
    )  # fmt: skip
    num_heads = hyperparameters.count("num_heads")
    return Architecture(
        family="t5",
        model_type=hyperparameters.model_type,
        placements=(
            Placement(f"{base}shared", Embedding(rows=vocab, width=hidden)),
            *(p for name, layers, offset in stacks
              for p in _stack(hyperparameters, f"{base}{name}", layers, offset, shared)),
            *head,
        ),
        num_layers=encoders + decoders,
        num_heads=num_heads,
        num_kv_heads=num_heads,
        num_experts=_experts(hyperparameters).num_experts if _is_switch(hyperparameters) else 0,
        base_prefix="transformer.",
        tie_embeddings=tied,
        notes=notes,
    )  # fmt: skip


def _positions(hyperparameters: Hyperparameters) -> int:
    return hyperparameters.count("max_positions", 512)


def _is_switch(hyperparameters: Hyperparameters) -> bool:
    return hyperparameters.model_type == "switch_transformers"


def _stack(hyperparameters: Hyperparameters, path: str, layers: range, offset: int, shared: str) -> list[Placement]:
    """The layers of the encoder or the decoder, which differ in their caches and in cross-attention."""
    decodes = path.endswith("decoder")
    hidden, num_heads = hyperparameters.count("hidden_size"), hyperparameters.count("num_heads")
    head_dim, names = hyperparameters.count("d_kv", 64), ("q", "k", "v", "o")
    attention = Attention(hidden_size=hidden, num_heads=num_heads, num_kv_heads=num_heads, head_dim=head_dim,
                          names=names, causal=decodes)  # fmt: skip
    cross = CrossAttention(hidden_size=hidden, num_heads=num_heads, head_dim=head_dim, names=names,
                           positions=_positions(hyperparameters))  # fmt: skip
    bias = Embedding(rows=hyperparameters.count("relative_attention_num_buckets", 32), width=num_heads,
                     role="attention_bias")  # fmt: skip
    biased = layers if hyperparameters.model_type == "umt5" else layers[:1]
    block, last = path + ".block.{layer}.layer.", 2 if decodes else 1
    table = Embedding(rows=hyperparameters.count("vocab_size"), width=hidden, tied_to=shared)
    name = "SelfAttention" if decodes else _encoder_attention(hyperparameters)
    further = name == _LONG["transient-global"]
    placements = [
        Placement(f"{path}.embed_tokens", table),
        Placement(f"{block}0.{name}", attention, layers, offset=offset),
        *(
            Placement(
                f"{block}0.{name}.{part}relative_attention_bias", bias, biased, Component.ATTENTION, offset=offset
            )
            for part in ("", *(["global_"] if further else []))
        ),
        *([Placement(f"{block}0.{name}.global_input_layer_norm", _norm(hidden, "norm"), layers)] if further else []),
        Placement(f"{block}0.layer_norm", _norm(hidden, "attention_norm"), layers, offset=offset),
    ]
    if decodes:
        placements += [
            Placement(f"{block}1.EncDecAttention", cross, layers, offset=offset),
            Placement(f"{block}1.layer_norm", _norm(hidden, "cross_attention_norm"), layers, offset=offset),
        ]
    return [
        *placements,
        *_feed_forward(hyperparameters, f"{block}{last}", layers, offset),
        Placement(f"{block}{last}.layer_norm", _norm(hidden, "mlp_norm"), layers, offset=offset),
        Placement(f"{path}.final_layer_norm", _norm(hidden, "final_norm")),
    ]


def _encoder_attention(hyperparameters: Hyperparameters) -> str:
    """What attention is called in the encoder."""
    if hyperparameters.model_type != "longt5":
        return "SelfAttention"
    kind = hyperparameters.settings.get("encoder_attention_type", "local")
    if not isinstance(kind, str) or kind not in _LONG:
        raise ConfigError(f"{hyperparameters.source} has encoder_attention_type = {repr(kind)[:60]}",
                          " or ".join(_LONG), "correct the key")  # fmt: skip
    return _LONG[kind]


def _norm(hidden: int, role: str) -> Norm:
    return Norm(width=hidden, bias=False, role=role)


def _feed_forward(hyperparameters: Hyperparameters, path: str, layers: range, offset: int) -> list[Placement]:
    hidden, inner = hyperparameters.count("hidden_size"), hyperparameters.count("d_ff")
    if not _is_switch(hyperparameters):
        gated = _is_gated(hyperparameters)
        block = FeedForward(hidden_size=hidden, intermediate_size=inner, gate="wi_0" if gated else None,
                            up="wi_1" if gated else "wi", down="wo")  # fmt: skip
        return [Placement(f"{path}.DenseReluDense", block, layers, offset=offset)]
    dense = FeedForward(hidden_size=hidden, intermediate_size=inner, gate=None, up="wi", down="wo")
    sparse = _sparse_layers(hyperparameters, "decoder" if offset else "encoder", layers)
    rest = [layer for layer in layers if layer not in sparse]
    pairs: list[tuple[FeedForward | Experts, Sequence[int]]] = [(dense, rest), (_experts(hyperparameters), sparse)]
    return [Placement(f"{path}.mlp", block, part, offset=offset) for block, part in pairs if part]


def _is_gated(hyperparameters: Hyperparameters) -> bool:
    spelled = hyperparameters.settings.get("feed_forward_proj")
    if isinstance(spelled, str):
        return spelled.startswith("gated-")
    return hyperparameters.flag("is_gated_act", hyperparameters.model_type not in ("t5", "longt5"))


def _experts(hyperparameters: Hyperparameters) -> Experts:
    return Experts(
        hidden_size=hyperparameters.count("hidden_size"), intermediate_size=hyperparameters.count("d_ff"),
        num_experts=hyperparameters.count("num_experts", 8, most=MOST_EXPERTS), experts_per_token=1,
        router="router.classifier", names=("experts.expert_{expert}.wi", "experts.expert_{expert}.wo"),
        router_bias=hyperparameters.flag("router_bias", False),
    )  # fmt: skip


def _sparse_layers(hyperparameters: Hyperparameters, stack: str, layers: range) -> list[int]:
    """Which layers have experts: every so many, from the second on; three of them where the key is missing.

    Raises:
        ConfigError: when the step that the file names is another than its number of such layers gives.
    """
    number = hyperparameters.count(f"num_sparse_{stack}_layers", 3)
    step = len(layers) // number
    told = hyperparameters.count(f"{stack}_sparse_step", max(1, step))
    if step != told:
        read = f"{hyperparameters.source} has {number} sparse layers of {len(layers)} and {stack}_sparse_step = {told}"
        raise ConfigError(read, "a step that gives this number", "correct the keys")
    return [layer for layer in layers if layer % step == 1 or step == 1]


def _head(hyperparameters: Hyperparameters, suffix: str, hidden: int, shared: str) -> tuple[list[Placement], bool]:
    """What the class puts on the stacks, and whether it is tied to the shared table."""
    labels = hyperparameters.count("num_labels", 2)
    score = {
        "ForSequenceClassification": [("classification_head.dense", hidden), ("classification_head.out_proj", labels)],
        "ForTokenClassification": [("classifier", labels)],
        "ForQuestionAnswering": [("qa_outputs", labels)],
    }.get(suffix, [])
    if suffix != "ForConditionalGeneration":
        return [Placement(path, Linear(in_features=hidden, out_features=width, role="score", component=Component.HEAD))
                for path, width in score], False  # fmt: skip
    tied = hyperparameters.flag("tie_embeddings", hyperparameters.model_type in ("t5", "longt5", "switch_transformers"))
    head = Linear(in_features=hidden, out_features=hyperparameters.count("vocab_size"), bias=False, role="head",
                  component=Component.HEAD, tied_to=shared if tied else None)  # fmt: skip
    return [Placement("lm_head", head)], tied


FAMILY = Family(
    name="t5",
    title="T5, FLAN-T5, UL2, mT5, umT5, LongT5, Switch Transformers",
    model_types=("t5", "mt5", "umt5", "longt5", "switch_transformers"),
    gguf={},
    source="transformers models/t5, models/mt5, models/umt5, models/longt5, models/switch_transformers",
    build=build,
)
