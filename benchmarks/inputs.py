"""What is weighed in the benchmarks: configurations, and weight files with real headers and empty data.

The data of a weight file is a hole: the file has its full length and takes only the blocks of its header on disk. The
layouts are written out here and not taken from weighbridge, so that a fault of ours does not write its own input.

Sources: the format of safetensors (huggingface/safetensors, `README.md`), `docs/gguf.md` of ggml-org/ggml, and the
published shapes of Llama 3 8B, Llama 3.1 405B, GPT-3 175B and DeepSeek-V3 (its config.json and index).
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Shape = tuple[int, ...]
Entry = tuple[str, str, Shape]
"""A tensor of a safetensors file: name, dtype, shape."""

BYTES = {"BF16": 2, "F32": 4, "F8_E4M3": 1}
"""Bytes of an element, for the types that are written here."""

ALIGNMENT = 32
"""Of the data of a GGUF file, in bytes."""


def llama_config(hidden: int, layers: int, heads: int, kv_heads: int, feed_forward: int, vocab: int) -> dict[str, Any]:
    """The `config.json` of a Llama 3 of this shape."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "bos_token_id": 128000,
        "eos_token_id": 128001,
        "hidden_act": "silu",
        "hidden_size": hidden,
        "initializer_range": 0.02,
        "intermediate_size": feed_forward,
        "max_position_embeddings": 131072,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "rms_norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": vocab,
    }


LLAMA_405B = llama_config(hidden=16384, layers=126, heads=128, kv_heads=8, feed_forward=53248, vocab=128256)
GPT_3 = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 12288, "n_layer": 96, "n_head": 96,
         "n_positions": 2048, "vocab_size": 50257}  # fmt: skip
LLAMA_8B = llama_config(hidden=4096, layers=32, heads=32, kv_heads=8, feed_forward=14336, vocab=128256)
LLAMA_1B_LARGE_VOCABULARY = llama_config(hidden=2048, layers=16, heads=32, kv_heads=8, feed_forward=8192, vocab=262_144)

DEEPSEEK_V3 = {
    "architectures": ["DeepseekV3ForCausalLM"], "first_k_dense_replace": 3, "hidden_size": 7168,
    "intermediate_size": 18432, "kv_lora_rank": 512, "max_position_embeddings": 163840, "model_type": "deepseek_v3",
    "moe_intermediate_size": 2048, "n_group": 8, "n_routed_experts": 256, "n_shared_experts": 1,
    "num_attention_heads": 128, "num_experts_per_tok": 8, "num_hidden_layers": 61, "num_key_value_heads": 128,
    "num_nextn_predict_layers": 1, "q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64,
    "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8",
                            "weight_block_size": [128, 128]},
    "tie_word_embeddings": False, "topk_group": 4, "torch_dtype": "bfloat16", "v_head_dim": 128, "vocab_size": 129280,
}  # fmt: skip


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """A folder with this `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def llama_entries(config: dict[str, Any]) -> list[Entry]:
    """Every tensor of a Llama without a tied head, in the order of its layers."""
    hidden, feed_forward, vocab = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv_width = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    of_layer: dict[str, Shape] = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv_width, hidden),
        "self_attn.v_proj": (kv_width, hidden), "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (feed_forward, hidden), "mlp.up_proj": (feed_forward, hidden),
        "mlp.down_proj": (hidden, feed_forward), "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,),
    }  # fmt: skip
    layers = range(config["num_hidden_layers"])
    return [
        ("model.embed_tokens.weight", "BF16", (vocab, hidden)),
        *((f"model.layers.{i}.{name}.weight", "BF16", shape) for i in layers for name, shape in of_layer.items()),
        ("model.norm.weight", "BF16", (hidden,)),
        ("lm_head.weight", "BF16", (vocab, hidden)),
    ]


def expert_entries(count: int) -> list[Entry]:
    """So many tensors named like those of a large mixture of experts in fp8: each weight with its block scales."""
    names = (
        f"model.layers.{layer}.mlp.experts.{expert}.{projection}_proj.weight"
        for layer in range(10_000)
        for expert in range(256)
        for projection in ("gate", "up", "down")
    )
    entries: list[Entry] = []
    for name in names:
        entries += [(name, "F8_E4M3", (1024, 512)), (f"{name}_scale_inv", "F32", (8, 4))]
        if len(entries) >= count:
            break
    return entries[:count]


def deepseek_entries() -> list[Entry]:
    """The 91,991 tensors of DeepSeek-V3 as published: matrices of the layers in fp8 with scales of blocks of 128."""
    hidden, vocab = 7168, 129_280
    attention: dict[str, Shape] = {
        "q_a_proj": (1536, hidden), "q_b_proj": (128 * 192, 1536), "kv_a_proj_with_mqa": (512 + 64, hidden),
        "kv_b_proj": (128 * 256, 512), "o_proj": (hidden, 128 * 128),
    }  # fmt: skip

    def feed_forward(name: str, width: int) -> dict[str, Shape]:
        return {f"{name}.gate_proj": (width, hidden), f"{name}.up_proj": (width, hidden),
                f"{name}.down_proj": (hidden, width)}  # fmt: skip

    entries: list[Entry] = [("model.embed_tokens.weight", "BF16", (vocab, hidden))]
    for layer in range(62):  # the last predicts the token after the next
        packed = {f"self_attn.{name}": shape for name, shape in attention.items()}
        plain: dict[str, Shape] = {
            "self_attn.q_a_layernorm.weight": (1536,), "self_attn.kv_a_layernorm.weight": (512,),
            "input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,),
        }  # fmt: skip
        if layer < 3:
            packed |= feed_forward("mlp", 18432)
        else:
            plain |= {"mlp.gate.weight": (256, hidden), "mlp.gate.e_score_correction_bias": (256,)}
            packed |= feed_forward("mlp.shared_experts", 2048)
            for expert in range(256):
                packed |= feed_forward(f"mlp.experts.{expert}", 2048)
        if layer == 61:
            plain |= {"enorm.weight": (hidden,), "hnorm.weight": (hidden,), "shared_head.norm.weight": (hidden,),
                      "eh_proj.weight": (hidden, 2 * hidden), "embed_tokens.weight": (vocab, hidden),
                      "shared_head.head.weight": (vocab, hidden)}  # fmt: skip
        path = f"model.layers.{layer}."
        for name, shape in packed.items():
            scales = (-(-shape[0] // 128), -(-shape[1] // 128))
            entries += [(f"{path}{name}.weight", "F8_E4M3", shape), (f"{path}{name}.weight_scale_inv", "F32", scales)]
        entries += [(path + n, "F32" if n.endswith("_bias") else "BF16", shape) for n, shape in plain.items()]
    return [*entries, ("model.norm.weight", "BF16", (hidden,)), ("lm_head.weight", "BF16", (vocab, hidden))]


def safetensors_header(entries: Iterable[Entry], metadata: dict[str, str] | None = None) -> tuple[bytes, int]:
    """The header as the reference library writes it, padded to 8 bytes, and the bytes of data that follow it."""
    offset = 0
    header: dict[str, Any] = {"__metadata__": metadata if metadata is not None else {"format": "pt"}}
    for name, dtype, shape in entries:
        end = offset + math.prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (offset, end)}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8), offset


def write_with_hole(path: Path, head: bytes, size_bytes: int) -> None:
    """A file that begins with `head` and is as long as it says; the rest is a hole that takes no blocks."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size_bytes)


def write_safetensors(path: Path, header: bytes, data_bytes: int) -> None:
    """One safetensors file: the length, the header, a hole."""
    head = struct.pack("<Q", len(header)) + header
    write_with_hole(path, head, len(head) + data_bytes)


def write_described(folder: Path, shards: int) -> None:
    """DeepSeek-V3 with its configuration."""
    write_config(folder, DEEPSEEK_V3)
    write_cut(folder, deepseek_entries(), shards)


def write_sharded(folder: Path, config: dict[str, Any], shards: int) -> None:
    """A Llama cut into files of about equal size beside an index, as `save_pretrained` leaves it."""
    write_config(folder, config)
    write_cut(folder, llama_entries(config), shards)


def write_cut(folder: Path, entries: Sequence[Entry], shards: int) -> None:
    """Tensors cut into files of about equal size beside an index."""
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(math.prod(shape) * BYTES[dtype] for _, dtype, shape in entries)
    parts: list[list[Entry]] = [[] for _ in range(shards)]
    begun = 0
    for entry in entries:
        parts[begun * shards // total].append(entry)
        begun += math.prod(entry[2]) * BYTES[entry[1]]
    weight_map: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        name = f"model-{number:05d}-of-{shards:05d}.safetensors"
        write_safetensors(folder / name, *safetensors_header(part))
        weight_map |= {entry[0]: name for entry in part}
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def write_one_file(folder: Path, entries: Sequence[Entry]) -> None:
    """A folder with `model.safetensors` alone."""
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", *safetensors_header(entries))


def write_header_of(folder: Path, header_bytes: int) -> None:
    """A folder whose one safetensors file has a header of exactly so many bytes, filled up by a remark."""
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[Entry] = [(f"layers.{i}.weight", "BF16", (64, 64)) for i in range(100)]
    bare, data_bytes = safetensors_header(entries, {"remark": ""})
    remark = "x" * (header_bytes - len(bare.rstrip()))
    header = safetensors_header(entries, {"remark": remark})[0].rstrip()
    assert len(header) == header_bytes, (len(header), header_bytes)
    write_safetensors(folder / "model.safetensors", header, data_bytes)


def _gguf_string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _gguf_uint32(key: str, value: int) -> bytes:
    return _gguf_string(key) + struct.pack("<II", 4, value)


def _gguf_array(key: str, value_type: int, count: int, items: bytes) -> bytes:
    return _gguf_string(key) + struct.pack("<IIQ", 9, value_type, count) + items


def write_gguf(path: Path, config: dict[str, Any]) -> None:
    """A Llama in fp16 as llama.cpp's converter writes it, with a token of its own for each row of the vocabulary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    vocab = config["vocab_size"]
    head_dim = config["hidden_size"] // config["num_attention_heads"]
    tokens = b"".join(_gguf_string(f"\u2581t{number:x}") for number in range(vocab))
    pairs = [
        _gguf_string("general.architecture") + struct.pack("<I", 8) + _gguf_string("llama"),
        _gguf_uint32("general.file_type", 1),
        _gguf_uint32("llama.block_count", config["num_hidden_layers"]),
        _gguf_uint32("llama.context_length", config["max_position_embeddings"]),
        _gguf_uint32("llama.embedding_length", config["hidden_size"]),
        _gguf_uint32("llama.feed_forward_length", config["intermediate_size"]),
        _gguf_uint32("llama.attention.head_count", config["num_attention_heads"]),
        _gguf_uint32("llama.attention.head_count_kv", config["num_key_value_heads"]),
        _gguf_uint32("llama.attention.key_length", head_dim),
        _gguf_uint32("llama.attention.value_length", head_dim),
        _gguf_uint32("llama.rope.dimension_count", head_dim),
        _gguf_uint32("llama.vocab_size", vocab),
        _gguf_string("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", 6, 1e-5),
        _gguf_string("tokenizer.ggml.model") + struct.pack("<I", 8) + _gguf_string("llama"),
        _gguf_array("tokenizer.ggml.tokens", 8, vocab, tokens),
        _gguf_array("tokenizer.ggml.scores", 6, vocab, bytes(4 * vocab)),
        _gguf_array("tokenizer.ggml.token_type", 5, vocab, struct.pack("<i", 1) * vocab),
    ]
    table, offset = b"", 0
    entries = llama_entries(config)
    for name, _, shape in entries:
        is_norm = len(shape) == 1  # norms stay in fp32
        layout = f"<I{len(shape)}QIQ"
        table += _gguf_string(_gguf_name(name))
        table += struct.pack(layout, len(shape), *reversed(shape), 0 if is_norm else 1, offset)
        size = math.prod(shape) * (4 if is_norm else 2)
        offset += -(-size // ALIGNMENT) * ALIGNMENT
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(pairs)) + b"".join(pairs) + table
    head += bytes(-len(head) % ALIGNMENT)
    write_with_hole(path, head, len(head) + offset)


def _gguf_name(name: str) -> str:
    """The name that llama.cpp gives a tensor of a Llama."""
    for ours, theirs in {
        "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "model.layers": "blk",
        "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
    }.items():  # fmt: skip
        name = name.replace(ours, theirs)
    return name
