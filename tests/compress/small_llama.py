"""A small Llama and what comes into each of its weights, worked out with numpy: for tests of what engines report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WIDE, HEADS, HEAD, INNER, LAYERS, EXPERTS, USED = 32, 2, 16, 48, 2, 4, 2
VOCABULARY = 3 + 256 + 1
SPACE = VOCABULARY - 1
EPSILON, BASE = 1e-5, 10_000.0
Array = NDArray[np.float64]
Weights = dict[str, NDArray[np.float32]]


def weights(with_experts: bool = False) -> Weights:
    """Random weights by the names of the files of transformers; experts are (experts, rows, columns)."""
    generator = np.random.default_rng(5)

    def some(*shape: int) -> NDArray[np.float32]:
        return np.asarray(generator.standard_normal(shape) / np.sqrt(shape[-1]), dtype=np.float32)

    found = {"model.embed_tokens.weight": some(VOCABULARY, WIDE) * 3, "lm_head.weight": some(VOCABULARY, WIDE)}
    for norm in ("model.norm", *(f"model.layers.{layer}.{norm}_layernorm" for layer in range(LAYERS)
                                 for norm in ("input", "post_attention"))):  # fmt: skip
        found[f"{norm}.weight"] = generator.uniform(0.5, 1.5, WIDE).astype(np.float32)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}"
        found |= {f"{at}.self_attn.{name}_proj.weight": some(rows, columns) for name, rows, columns in (
            ("q", HEADS * HEAD, WIDE), ("k", HEAD, WIDE), ("v", HEAD, WIDE), ("o", WIDE, HEADS * HEAD))}  # fmt: skip
        shapes = (("gate", INNER, WIDE), ("up", INNER, WIDE), ("down", WIDE, INNER))
        more = (EXPERTS,) if with_experts else ()
        found |= {f"{at}.mlp.{name}_proj.weight": some(*more, rows, columns) for name, rows, columns in shapes}
        if with_experts:
            found[f"{at}.mlp.gate.weight"] = some(EXPERTS, WIDE)
    return found


def mean_squares(held: Weights, windows: list[list[int]]) -> tuple[dict[str, Array], dict[str, NDArray[np.int64]]]:
    """The mean square of what comes into each column, and how many rows came, over all windows."""
    sums: dict[str, Array] = {}
    counts: dict[str, NDArray[np.int64]] = {}
    matrices = {name: value.shape[0] if value.ndim == 3 else 1 for name, value in held.items()}

    def came(name: str, values: Array, expert: int = 0) -> Array:
        columns = values.shape[-1]
        sums.setdefault(name, np.zeros((matrices[name], columns)))[expert] += np.square(values).sum(axis=0)
        counts.setdefault(name, np.zeros(matrices[name], dtype=np.int64))[expert] += len(values)
        matrix = held[name] if held[name].ndim == 2 else held[name][expert]
        return values @ matrix.astype(np.float64).T

    for tokens in windows:
        hidden = held["model.embed_tokens.weight"].astype(np.float64)[tokens]
        for layer in range(LAYERS):
            hidden = _layer(held, f"model.layers.{layer}", hidden, came)
        came("lm_head.weight", _norm(hidden, held["model.norm.weight"]))
    means = {name: np.where(counts[name][:, None] > 0, sums[name] / np.maximum(counts[name][:, None], 1), 1.0)
             for name in sums}  # fmt: skip
    return means, counts


def _layer(held: Weights, at: str, hidden: Array, came: Any) -> Array:
    given = _norm(hidden, held[f"{at}.input_layernorm.weight"])
    q, k, v = (came(f"{at}.self_attn.{name}_proj.weight", given).reshape(len(given), -1, HEAD) for name in "qkv")
    scores = np.einsum("ihd,jd->hij", _turned(q), _turned(k)[:, 0]) / np.sqrt(HEAD)
    scores = np.where(np.tril(np.ones(scores.shape[1:], dtype=bool)), scores, -np.inf)
    mixed = np.einsum("hij,jd->ihd", _softmax(scores), v[:, 0]).reshape(len(given), -1)
    hidden = hidden + came(f"{at}.self_attn.o_proj.weight", mixed)
    given = _norm(hidden, held[f"{at}.post_attention_layernorm.weight"])
    if f"{at}.mlp.gate.weight" not in held:
        return hidden + _inner(at, given, came, 0)
    shares = _softmax(came(f"{at}.mlp.gate.weight", given))
    chosen = np.argsort(-shares, axis=1)[:, :USED]
    for expert in range(EXPERTS):
        mine = (chosen == expert).any(axis=1)
        share = shares[mine, expert] / np.take_along_axis(shares[mine], chosen[mine], axis=1).sum(axis=1)
        hidden[mine] += share[:, None] * _inner(at, given[mine], came, expert)
    return hidden


def _inner(at: str, given: Array, came: Any, expert: int) -> Array:
    gate, up = (came(f"{at}.mlp.{name}_proj.weight", given, expert) for name in ("gate", "up"))
    down: Array = came(f"{at}.mlp.down_proj.weight", gate / (1 + np.exp(-gate)) * up, expert)
    return down


def _norm(values: Array, weight: NDArray[np.float32]) -> Array:
    return np.asarray(values / np.sqrt(np.square(values).mean(axis=-1, keepdims=True) + EPSILON) * weight)


def _softmax(values: Array) -> Array:
    found = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


def _turned(values: Array) -> Array:
    """Rotary positions, the halves of a head together as in transformers: (tokens, heads, columns)."""
    angles = np.arange(len(values))[:, None] / BASE ** (np.arange(0, HEAD, 2) / HEAD)
    cosine, sine = np.cos(angles)[:, None], np.sin(angles)[:, None]
    first, second = values[..., : HEAD // 2], values[..., HEAD // 2 :]
    return np.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


def names(with_experts: bool = False) -> dict[str, str]:
    """llama.cpp's name of each weight by that in the files of transformers."""
    end = "_exps" if with_experts else ""
    inside = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
              "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "mlp.gate_proj": f"ffn_gate{end}", "mlp.up_proj": f"ffn_up{end}",
              "mlp.down_proj": f"ffn_down{end}", "mlp.gate": "ffn_gate_inp"}  # fmt: skip
    found = {f"model.layers.{layer}.{mine}.weight": f"blk.{layer}.{theirs}.weight"
             for layer in range(LAYERS) for mine, theirs in inside.items()}  # fmt: skip
    return {**found, "model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight"}  # fmt: skip


def write_gguf(path: Path, held: Weights) -> Path:
    """The model as a GGUF file with a vocabulary of bytes and the space, through the reference implementation."""
    import gguf

    with_experts = any(value.ndim == 3 for value in held.values())
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(WIDE)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(1)
    writer.add_rope_dimension_count(HEAD)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_vocab_size(VOCABULARY)
    if with_experts:
        writer.add_expert_count(EXPERTS)
        writer.add_expert_used_count(USED)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "\u2581"])
    writer.add_token_scores([0.0] * VOCABULARY)
    writer.add_token_types([2, 3, 3, *[6] * 256, 1])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    theirs = names(with_experts)
    for name, values in held.items():
        if name.endswith(("q_proj.weight", "k_proj.weight")):  # llama.cpp turns neighbours, not halves
            turned = values.reshape(-1, 2, HEAD // 2, WIDE).swapaxes(1, 2).reshape(values.shape)
            writer.add_tensor(theirs[name], np.ascontiguousarray(turned))
        else:
            writer.add_tensor(theirs[name], values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
