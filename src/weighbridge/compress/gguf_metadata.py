"""What does a GGUF file say of a model's shape, and how is that stored?

Keys and what they mean are those of llama.cpp: its converter (`conversion/{base,llama,qwen,gemma,gpt2,bert}.py`) and
what its models read (`src/llama-model.cpp`), November 2026. A setting that llama.cpp would not follow is refused, or,
where only long texts or texts of a rare kind feel it, told in a note.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from weighbridge.compress.codecs import Values
from weighbridge.errors import ConfigError
from weighbridge.model.architecture import Architecture
from weighbridge.model.blocks import Attention, FeedForward
from weighbridge.model.hyperparameters import Hyperparameters
from weighbridge.prove.engines import folder

Kind = Literal["uint32", "int32", "float32", "bool", "string"]
Pairs = dict[str, tuple[Kind, Any]]
"""Metadata by key: the type of the value, or of the items where the value is a list."""
TYPES: dict[Kind, tuple[int, str]] = {
    "uint32": (4, "I"), "int32": (5, "i"), "float32": (6, "f"), "bool": (7, "?"), "string": (8, ""),
}  # fmt: skip
_ARRAY = 9
MOST, LARGEST = 2**32 - 1, 1e38
"""What a number of the metadata may be: uint32, or fp32 with room to spare."""
POOLINGS = {"mean": 1, "first": 2, "last": 3}
"""`llama_pooling_type` of llama.h."""


@dataclass(frozen=True, slots=True)
class _Default:
    """What the reference class takes where a configuration is silent, and the activation that llama.cpp has built in.

    `theta` is the base of the rotary positions; None without them.
    """

    activation: tuple[str, ...]
    positions: int
    epsilon_key: str
    epsilon: float
    theta: float | None


DEFAULTS = {
    "llama": _Default(("silu",), 2048, "rms_norm_eps", 1e-6, 10_000.0),
    "mistral": _Default(("silu",), 131_072, "rms_norm_eps", 1e-6, 10_000.0),
    "qwen2": _Default(("silu",), 32_768, "rms_norm_eps", 1e-6, 10_000.0),
    "qwen3": _Default(("silu",), 32_768, "rms_norm_eps", 1e-6, 10_000.0),
    "gemma3_text": _Default(("gelu_pytorch_tanh",), 131_072, "rms_norm_eps", 1e-6, 1_000_000.0),
    "gpt2": _Default(("gelu_new", "gelu_pytorch_tanh"), 1024, "layer_norm_epsilon", 1e-5, None),
    "bert": _Default(("gelu",), 512, "layer_norm_eps", 1e-12, None),
}
"""The model types that are converted."""
_PLAIN = {
    "partial_rotary_factor": (None, 1, 1.0), "use_sliding_window": (None, False), "add_cross_attention": (None, False),
    "scale_attn_weights": (None, True), "scale_attn_by_inverse_layer_idx": (None, False), "is_decoder": (None, False),
    "use_bidirectional_attention": (None, False), "attn_logit_softcapping": (None,), "quantization_config": (None,),
}  # fmt: skip
"""Settings that llama.cpp does not follow, and the values that leave them off."""


def stored(pairs: Pairs) -> bytes:
    """The bytes of metadata.

    Example:
        >>> stored({"a": ("uint32", 7)}).hex(" ", -8)
        '0100000000000000 6104000000070000 00'
    """
    out = bytearray()
    for key, (kind, value) in pairs.items():
        number, code = TYPES[kind]
        out += _string(key)
        if not isinstance(value, list):
            out += struct.pack("<I", number) + (_string(value) if kind == "string" else struct.pack(f"<{code}", value))
            continue
        out += struct.pack("<IIQ", _ARRAY, number, len(value))
        out += b"".join(map(_string, value)) if kind == "string" else struct.pack(f"<{len(value)}{code}", *value)
    return bytes(out)


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def shape_of(
    path: Path, config: Mapping[str, Any], settings: Hyperparameters, architecture: Architecture
) -> tuple[Pairs, tuple[str, ...]]:
    """The metadata of a model's shape, and notes on what llama.cpp does otherwise.

    Args:
        path: the folder.
        config: its `config.json`.
        settings: what the configuration says, in our spelling, of one of the model types of `DEFAULTS`.
        architecture: what it describes.

    Raises:
        ConfigError: for a setting that llama.cpp does not follow, or that is no number of its kind.
    """
    default = DEFAULTS[settings.model_type]
    _refuse(path, config, settings.model_type, default)
    attention = next(one.block for one in architecture.placements if isinstance(one.block, Attention))
    inner = next(one.block for one in architecture.placements if isinstance(one.block, FeedForward)).intermediate_size
    name, is_rms = str(architecture.gguf_architecture), default.epsilon_key == "rms_norm_eps"
    positions = settings.count("max_positions", default.positions, MOST)
    numbers = {
        "block_count": architecture.num_layers, "context_length": positions, "embedding_length": attention.hidden_size,
        "feed_forward_length": inner, "attention.head_count": attention.num_heads,
    }  # fmt: skip
    if default.theta is not None:
        numbers |= {
            "attention.head_count_kv": attention.num_kv_heads, "attention.key_length": attention.head_dim,
            "attention.value_length": attention.head_dim, "rope.dimension_count": attention.head_dim,
            "vocab_size": settings.count("vocab_size"),
        }  # fmt: skip
    found: Pairs = {f"{name}.{key}": ("uint32", value) for key, value in numbers.items()}
    key = f"{name}.attention.layer_norm_{'rms_' if is_rms else ''}epsilon"
    found[key] = "float32", _number(path, config, default.epsilon_key, default.epsilon)
    notes: tuple[str, ...] = ()
    if default.theta is not None:
        found |= _rotary(path, config, name, default.theta)
    if settings.model_type == "mistral" and settings.settings.get("sliding_window"):
        window = settings.count("sliding_window")
        if window < positions:
            notes += (f"llama.cpp attends to the whole context, where {path} has a window of {window:,} tokens",)
    if settings.model_type == "gemma3_text":
        found |= _gemma(path, config, settings, architecture, attention)
    if settings.model_type == "bert":
        pooling, note = folder.pooling_of(path)
        if pooling not in POOLINGS:
            raise ConfigError(f"{path} pools by {pooling}", f"one of {', '.join(POOLINGS)}", "name another model")
        notes += (note,) if note else ()
        longest = folder.longest_of(path, positions)
        if longest is not None and longest < positions:
            notes += (f"llama.cpp reads {positions:,} tokens of a text, where {path} cuts it after {longest:,}",)
        found[f"{name}.attention.causal"] = "bool", False
        found[f"{name}.pooling_type"] = "uint32", POOLINGS[pooling]
        found["tokenizer.ggml.token_type_count"] = "uint32", settings.count("num_token_types", 2)
    return found, notes


def _refuse(path: Path, config: Mapping[str, Any], model_type: str, default: _Default) -> None:
    keys = ("hidden_activation", "hidden_act", "activation_function")
    given: dict[str, tuple[Any, tuple[Any, ...]]] = {key: (config.get(key), off) for key, off in _PLAIN.items()}
    if model_type in ("qwen3", "gemma3_text"):
        given["attention_bias"] = config.get("attention_bias"), (None, False)
    given |= {key: (config.get(key), (None, *default.activation)) for key in keys if key in config}
    for key, (value, allowed) in given.items():
        if value not in allowed:
            expected = " or ".join(str(one) for one in allowed if one is not None) or "no such setting"
            raise ConfigError(f"{path} has {key} = {str(value)[:60]}", f"{expected}, which llama.cpp has for it",
                              "name another model")  # fmt: skip


def _number(path: Path, config: Mapping[str, Any], key: str, default: float) -> float:
    value = config.get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < LARGEST:
        raise ConfigError(f"{path} has {key} = {str(value)[:60]}", "a number above 0, in the range of fp32",
                          "correct the config.json")  # fmt: skip
    return float(value)


def rope_of(path: Path, config: Mapping[str, Any], theta: float) -> tuple[float, Mapping[str, Any]]:
    """The base of the rotary positions and how they are scaled, of all layers or of those without a window.

    Raises:
        ConfigError: for scaling that is not converted.
    """
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if isinstance(rope, Mapping):
        rope = rope.get("full_attention", rope)
    if not isinstance(rope, Mapping):
        raise ConfigError(f"{path} has rope_parameters = {str(rope)[:60]}", "an object", "correct the config.json")
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    if kind not in ("default", "linear", "llama3"):
        raise ConfigError(f"{path} scales its rotary positions by {kind[:40]}", "none, linear or llama3",
                          "convert it with llama.cpp's own converter first, and name the GGUF file")  # fmt: skip
    base = _number(path, config, "rope_theta", theta)
    return _number(path, rope, "rope_theta", base), {**rope, "rope_type": kind}


def _rotary(path: Path, config: Mapping[str, Any], name: str, theta: float) -> Pairs:
    base, rope = rope_of(path, config, theta)
    found: Pairs = {f"{name}.rope.freq_base": ("float32", base)}
    if rope["rope_type"] == "llama3" and name != "llama":
        raise ConfigError(f"{path} scales its rotary positions by llama3", f"another scaling for {name}",
                          "name another model")  # fmt: skip
    if rope["rope_type"] == "linear":
        found[f"{name}.rope.scaling.type"] = "string", "linear"
        found[f"{name}.rope.scaling.factor"] = "float32", _number(path, rope, "factor", 1.0)
    return found


def rope_factors(path: Path, config: Mapping[str, Any], settings: Hyperparameters, head_dim: int) -> Values | None:
    """What each rotary frequency is divided by, (head_dim / 2,) in fp32, where Llama 3.1's scaling is asked for.

    Frequencies whose wave is longer than the context of training over `low_freq_factor` are divided by `factor`, those
    shorter than it over `high_freq_factor` stay, and between the two it changes smoothly (transformers
    `modeling_rope_utils.py`).
    """
    default = DEFAULTS[settings.model_type]
    if default.theta is None:
        return None
    base, rope = rope_of(path, config, default.theta)
    if rope["rope_type"] != "llama3":
        return None
    factor, low, high, trained = (
        _number(path, rope, key, default)
        for key, default in (("factor", 8.0), ("low_freq_factor", 1.0), ("high_freq_factor", 4.0),
                             ("original_max_position_embeddings", 8192.0))
    )  # fmt: skip
    if high <= low:
        read = f"{path} has high_freq_factor = {high} and low_freq_factor = {low}"
        raise ConfigError(read, "the first above the other", "correct the config.json")
    waves = 2 * np.pi * base ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((trained / waves - low) / (high - low), 0.0, 1.0)
    return np.asarray(1 / ((1 - smooth) / factor + smooth), dtype=np.float32)


def _gemma(
    path: Path, config: Mapping[str, Any], settings: Hyperparameters, architecture: Architecture, attention: Attention
) -> Pairs:
    """Windows and what else Gemma 3 has; llama.cpp lets each sixth layer see the whole context."""
    expected = ["full_attention" if layer % 6 == 5 else "sliding_attention" for layer in range(architecture.num_layers)]
    if (config.get("layer_types") or expected) != expected or config.get("sliding_window_pattern") not in (None, 6):
        raise ConfigError(f"{path} has windows in other layers", "five layers of six, as llama.cpp has them for it",
                          "name another model")  # fmt: skip
    widest = architecture.num_layers == 62  # Gemma 3 27B, which llama.cpp knows by its layers
    scalar = attention.hidden_size // attention.num_heads if widest else attention.head_dim
    if _number(path, config, "query_pre_attn_scalar", 256.0) != scalar:
        raise ConfigError(f"{path} has query_pre_attn_scalar = {config.get('query_pre_attn_scalar', 256)}",
                          f"{scalar}, as llama.cpp has it", "name another model")  # fmt: skip
    rope = config.get("rope_parameters") or {}
    local = rope.get("sliding_attention") if isinstance(rope, Mapping) else None
    base = _number(path, config, "rope_local_base_freq", 10_000.0)
    found: Pairs = {
        "gemma3.attention.sliding_window": ("uint32", settings.count("sliding_window", 4096, MOST)),
        "gemma3.rope.freq_base_swa": (
            "float32",
            _number(path, local if isinstance(local, Mapping) else {}, "rope_theta", base),
        ),
    }
    if config.get("final_logit_softcapping") is not None:
        found["gemma3.final_logit_softcapping"] = "float32", _number(path, config, "final_logit_softcapping", 30.0)
    return found
