"""Do engines compute with what was written what its decoded weights say, and is searching better than rounding?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from weighbridge.compress import gradients, schemes
from weighbridge.compress.folder_source import FolderSource
from weighbridge.compress.sensitivity import by_role
from weighbridge.compress.shrink import Wish, shrink
from weighbridge.compress.targets import FolderTarget, GgufTarget, Working
from weighbridge.prove.engines import open_model

pytestmark = pytest.mark.torch
DECODER = Path(__file__).resolve().parents[2] / "examples" / "small_decoder" / "small"
ROWS = [json.loads(line)["text"] for line in (DECODER.parent / "held_out.jsonl").read_text().splitlines()]
HOW = Working(memory_bytes=1 << 28, jobs=1, tell=None)
Logits = NDArray[Any]


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("transformers")
    pytest.importorskip("xllamacpp")
    return pytest.importorskip("torch")


def decoder(**given: Any) -> Any:
    import torch
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(given.pop("path", DECODER), dtype=torch.float32,
                                                             **given).eval()  # fmt: skip


def told(torch: Any, network: Any, tokens: list[int]) -> Logits:
    with torch.inference_mode():
        found: Logits = network(input_ids=torch.tensor([tokens])).logits[0].float().log_softmax(dim=-1).numpy()
    return found


def tokens_of(texts: list[str]) -> list[list[int]]:
    model = open_model(DECODER)
    found = [model.tokens(text)[:200] for text in texts]
    model.close()
    return found


def put(torch: Any, network: Any, decode: Callable[[str], Any | None]) -> Any:
    """The network with decoded weights in it."""
    with torch.no_grad():
        for name, weight in network.named_parameters():
            rows = decode(name)
            if rows is not None:
                weight.copy_(torch.from_numpy(np.ascontiguousarray(rows)))
    return network


def divergence(one: Logits, other: Logits) -> float:
    return float((np.exp(one) * (one - other)).sum(axis=-1).mean())


@pytest.mark.parametrize("method", ["q4_k_m", "q8_0"])
def test_a_gguf_file_computes_what_its_decoded_weights_say(torch: Any, tmp_path: Path, method: str) -> None:
    target = tmp_path / "b.gguf"
    shrink(DECODER, target, Wish(method=method))
    made = GgufTarget(target)
    ours = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
            "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
            "mlp.down_proj": "ffn_down"}  # fmt: skip
    names = {f"model.layers.{layer}.{theirs}.weight": f"blk.{layer}.{mine}.weight"
             for layer in range(5) for theirs, mine in ours.items()}  # fmt: skip
    names["model.embed_tokens.weight"] = "token_embd.weight"
    stored = {one.name: one for one in made.tensors}

    def decode(name: str) -> Any | None:
        if name not in names:
            return None
        rows = made.source.rows(stored[names[name]], 0, stored[names[name]].shape[0])
        heads = {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])
        if heads:  # neighbours are halves there
            rows = rows.reshape(heads, len(rows) // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)
        return rows

    (tokens,) = tokens_of([ROWS[3]])
    expected = told(torch, put(torch, decoder(), decode), tokens)
    loaded = told(torch, decoder(path=tmp_path, gguf_file="b.gguf"), tokens)
    assert np.abs(loaded - expected).max() < 1e-3
    apart = divergence(told(torch, decoder(), tokens), expected)
    native = open_model(target)
    found = native.log_probabilities([*tokens, 0])
    native.close()
    rows = min(len(found), len(expected))
    noise = divergence(expected[:rows], found[:rows])
    assert noise < 2e-3  # llama.cpp rounds what it multiplies with to 8 bits, and its cache to fp16
    assert method == "q8_0" or noise < apart / 4


@pytest.mark.parametrize("asked", [{"method": "int8"}, {"method": "int4-g64"}, {"bits": 11.0}])
def test_a_folder_computes_what_its_decoded_weights_say(torch: Any, tmp_path: Path, asked: dict[str, Any]) -> None:
    pytest.importorskip("compressed_tensors")
    found = shrink(DECODER, tmp_path / "b", Wish(format="safetensors", **asked))
    source, chosen = FolderSource(DECODER), found.plan.encodings
    tensors = {one.name: one for one in source.tensors}

    def decode(name: str) -> Any | None:
        scheme = chosen.get(name)
        if scheme is None or scheme.bits is None:
            return None
        rows = source.rows(tensors[name], 0, tensors[name].shape[0])
        return schemes.decode(schemes.encode(rows, scheme), scheme, rows.shape[1])

    assert sum(one.bits is not None for one in chosen.values()) > 20
    (tokens,) = tokens_of([ROWS[4]])
    expected = told(torch, put(torch, decoder(), decode), tokens)
    loaded = told(torch, decoder(path=tmp_path / "b"), tokens)
    assert np.abs(loaded - expected).max() < 1e-3
    assert divergence(told(torch, decoder(), tokens), expected) > 1e-7


@pytest.mark.parametrize("group", [64, 128])
def test_four_bits_that_are_searched_by_data_lose_less_than_rounding(torch: Any, tmp_path: Path, group: int) -> None:
    made, name = FolderTarget(DECODER), f"int4-g{group}"
    model: Any = open_model(DECODER)
    costs = gradients.of_model(model, [row[1000:2500] for row in ROWS[:8]], seed=1)
    model.close()
    chosen = made.method(name)
    linear = {one.name: one for one in made.tensors if chosen[one.name].bits is not None}
    made.write(tmp_path / "b", chosen, costs, HOW)
    assert made.size_of(chosen) == (tmp_path / "b" / "model.safetensors").stat().st_size
    weights = sum(one.elements for one in linear.values())
    bits = 8 * sum(chosen[key].size_bytes(one.shape) for key, one in linear.items()) / weights
    assert bits == pytest.approx(4 + 16 / group, rel=0.002) == chosen[next(iter(linear))].bits_per_weight

    def rounded(key: str) -> Any | None:
        if key not in linear:
            return None
        rows = made.source.rows(linear[key], 0, linear[key].shape[0])
        grouped = rows.reshape(len(rows), -1, group)
        scale = np.abs(grouped).max(axis=-1, keepdims=True) / 7.5
        return (np.clip(np.rint(grouped / scale), -8, 7) * scale).reshape(rows.shape)

    def searched(key: str) -> Any | None:
        if key not in linear:
            return None
        rows = made.source.rows(linear[key], 0, linear[key].shape[0])
        parts = schemes.encode(rows, chosen[key], costs.columns[key])
        return schemes.decode(parts, chosen[key], rows.shape[1])

    parts = tokens_of([row[2000:3000] for row in ROWS[8:] if len(row) > 3000])
    base = [told(torch, decoder(), part) for part in parts]
    lost = {}
    for kind, decode in (("rounded", rounded), ("searched", searched)):
        network = put(torch, decoder(), decode)
        each = [divergence(one, told(torch, network, part)) for one, part in zip(base, parts, strict=True)]
        lost[kind] = float(np.mean(each))
    assert 0 < lost["searched"] < 0.9 * lost["rounded"], lost
    plain = by_role(made.tensors)
    assert not plain.columns and costs.columns.keys() >= linear.keys()
