"""Decoders with Llama's tensors under a model type of their own: they differ in biases, defaults, norms and windows.

Source: transformers `models/<model_type>/{configuration,modeling}_<model_type>.py` (5.x) for each row of the table, and
for MiniCPM the modelling code that its repositories hold. Arcee, Nemotron and Jais 2 have no gate in the feed-forward
block; Nemotron (layernorm1p) and Jais 2 have LayerNorms with a bias; Granite with windows learns an attention sink a
head; HyperCLOVA X norms what comes out of both parts of a layer too; DiffLlama learns how its two attentions differ,
and computes both for each half of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Block, Norm, Vector
from weighbridge.model.decoder import (
    PRE_NORMS,
    Windows,
    attention,
    decoder,
    feed_forward,
    number_of_layers,
    windows_by_type,
    with_defaults,
)
from weighbridge.model.family import Family, GgufMeaning
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.model.tensors import Component

_Bias = tuple[str, bool] | None  # the key that switches a bias on, and its default; None for never


@dataclass(frozen=True, slots=True, kw_only=True)
class _Relative:
    """How a model type differs from Llama."""

    prefixes: tuple[str, ...]
    tied: bool = False
    always_tied: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    qkv_bias: _Bias = ("attention_bias", False)
    output_bias: _Bias = ("attention_bias", False)
    mlp_bias: _Bias = ("mlp_bias", False)
    gated: bool = True
    norm_bias: bool = False
    sinks: bool = False
    head_vectors: tuple[str, ...] = ()
    """Vectors of a head's width in the attention."""
    passes: int = 1
    """How often the attention computes its scores."""
    square_output: bool = False
    """Whether the class makes the output map hidden x hidden, whatever the heads add up to."""
    post_norms: tuple[str, Mapping[str, str]] | None = None
    windows: Callable[[Hyperparameters], Windows] | None = None
    refused: tuple[str, ...] = ()
    gguf: str | None = None


def _in_every_layer(hyperparameters: Hyperparameters) -> Windows:
    return [(hyperparameters.optional_count("sliding_window"), range(number_of_layers(hyperparameters)))]


def _sliding_by_default(hyperparameters: Hyperparameters) -> Windows:
    return windows_by_type(hyperparameters, ["sliding_attention"] * number_of_layers(hyperparameters))


def _first_of_four_full(hyperparameters: Hyperparameters) -> Windows:
    num_layers = number_of_layers(hyperparameters)
    four = ["full_attention", *["sliding_attention"] * 3]
    return windows_by_type(hyperparameters, (four * num_layers)[:num_layers])


def _without_positions(hyperparameters: Hyperparameters) -> Windows:
    """SmolLM3: with `use_sliding_window` the layers without rotary positions have the window."""
    num_layers = number_of_layers(hyperparameters)
    if not hyperparameters.flag("use_sliding_window", False):
        return [(None, range(num_layers))]
    if hyperparameters.settings.get("layer_types") is None:
        hyperparameters.refuse("use_sliding_window", "without layer_types that say where")
    return windows_by_type(hyperparameters, ())


_NO_BIAS: dict[str, Any] = {"qkv_bias": None, "output_bias": None, "mlp_bias": None}
_USE_BIAS: dict[str, Any] = dict.fromkeys(("qkv_bias", "output_bias", "mlp_bias"), ("use_bias", False))
_POST_NORMS = ("use_post_norm", {"attention_post_norm": "post_norm1", "mlp_post_norm": "post_norm2"})

_RELATIVES = {
    "arcee": _Relative(prefixes=("Arcee",), gated=False, gguf="arcee"),
    "cwm": _Relative(
        prefixes=("Cwm",), defaults={"num_kv_heads": 8, "head_dim": 128, "sliding_window": 8192}, qkv_bias=None,
        output_bias=None, windows=_first_of_four_full,
    ),
    "diffllama": _Relative(prefixes=("DiffLlama",), mlp_bias=None, passes=2,
                           head_vectors=("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")),
    "ernie4_5": _Relative(
        prefixes=("Ernie4_5_", "Ernie4_5"), tied=True, defaults={"num_kv_heads": 2, "head_dim": 128}, **_USE_BIAS
    ),
    "granite": _Relative(prefixes=("Granite",), gguf="granite"),
    "granite_swa": _Relative(
        prefixes=("GraniteSWA",), tied=True, defaults={"num_kv_heads": 4, "sliding_window": 128}, sinks=True,
        windows=_first_of_four_full,
    ),
    "helium": _Relative(
        prefixes=("Helium",), defaults={"num_kv_heads": 20, "head_dim": 128}, output_bias=None, square_output=True,
    ),
    "hyperclovax": _Relative(prefixes=("HyperCLOVAX",), post_norms=_POST_NORMS),
    "internlm3": _Relative(
        prefixes=("InternLM3", "Llama"), defaults={"num_kv_heads": 2, "head_dim": 128}, refused=("qkv_bias", "bias"),
    ),
    "iquestcoder": _Relative(
        prefixes=("IQuestCoder", "Llama"), defaults={"num_kv_heads": 8, "head_dim": 128}, refused=("clip_qkv",),
    ),
    "jais2": _Relative(
        prefixes=("Jais2",), gated=False, norm_bias=True, qkv_bias=("attention_bias", True),
        output_bias=("attention_bias", True), mlp_bias=("mlp_bias", True),
    ),
    "minicpm": _Relative(prefixes=("MiniCPM",), tied=True, always_tied=True, mlp_bias=None, gguf="minicpm"),
    "ministral": _Relative(
        prefixes=("Ministral",), defaults={"num_kv_heads": 8, "sliding_window": 4096}, windows=_sliding_by_default,
        **_NO_BIAS,
    ),
    "ministral3": _Relative(
        prefixes=("Ministral3",), defaults={"num_kv_heads": 8, "head_dim": 128}, windows=_in_every_layer, **_NO_BIAS
    ),
    "nemotron": _Relative(prefixes=("Nemotron",), gated=False, norm_bias=True, gguf="nemotron"),
    "seed_oss": _Relative(
        prefixes=("SeedOss",), defaults={"num_kv_heads": 8, "head_dim": 128}, qkv_bias=("attention_bias", True),
        output_bias=("attention_out_bias", False), gguf="seed_oss",
    ),
    "smollm3": _Relative(
        prefixes=("SmolLM3",), tied=True, defaults={"num_kv_heads": 4}, windows=_without_positions, gguf="smollm3"
    ),
}  # fmt: skip


def build(hyperparameters: Hyperparameters) -> Architecture:
    """The decoder that the row of its model type describes."""
    relative = _RELATIVES[hyperparameters.model_type]
    for key in ("num_experts", *relative.refused):
        hyperparameters.refuse(key, "which this dense family does not describe")
    if relative.always_tied and not hyperparameters.flag("tie_embeddings", True):
        raise ConfigError(
            f"{hyperparameters.source} sets tie_word_embeddings = False",
            "a tied head, as this key is found beside tied and untied files of the family alike",
            "weigh the weight files themselves",
        )
    hyperparameters = with_defaults(hyperparameters, relative.defaults)

    def has(bias: _Bias) -> bool:
        return bias is not None and hyperparameters.flag(*bias)

    heads = attention(hyperparameters, qkv_bias=has(relative.qkv_bias), output_bias=has(relative.output_bias))
    heads = replace(heads, passes=relative.passes)
    if relative.square_output:
        hyperparameters.same("the heads together and hidden_size", heads.num_heads * heads.head_dim, heads.hidden_size)
    mlp = feed_forward(hyperparameters, gate="gate_proj" if relative.gated else None, bias=has(relative.mlp_bias))
    norms = dict(PRE_NORMS)
    if relative.post_norms is not None and hyperparameters.flag(relative.post_norms[0], True):
        norms |= relative.post_norms[1]
    in_layers: list[tuple[str, Block]] = []
    if relative.sinks:
        sinks = Vector(name="sinks", width=heads.num_heads, role="attention_sinks", component=Component.ATTENTION)
        in_layers.append(("self_attn", sinks))
    in_layers += [
        ("self_attn", Vector(name=name, width=heads.head_dim, role="attention_vector", component=Component.ATTENTION))
        for name in relative.head_vectors
    ]
    return decoder(
        hyperparameters, "llama_relatives", relative.prefixes, heads, mlp, norms=norms, in_layers=in_layers,
        norm=Norm(width=heads.hidden_size, bias=relative.norm_bias), tied=relative.tied,
        windows=relative.windows(hyperparameters) if relative.windows else None, gguf_architecture=relative.gguf,
    )  # fmt: skip


FAMILY = Family(
    name="llama_relatives",
    title="Granite, Nemotron (dense), SmolLM3, Ministral, Seed-OSS, ERNIE 4.5, MiniCPM, Arcee, Helium and others",
    model_types=tuple(_RELATIVES),
    gguf={
        "granite": GgufMeaning("granite", "GraniteForCausalLM"),
        "smollm3": GgufMeaning("smollm3", "SmolLM3ForCausalLM"),
    },
    source="transformers models/<model_type>; for minicpm its own modelling code",
    build=build,
)
