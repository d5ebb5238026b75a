"""Is a folder of safetensors the GGUF file that llama.cpp would make of it, weight for weight and token for token?"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from tests.compress import small_folders
from tests.compress.small_folders import (
    LETTERS,
    LLAMA_3,
    PIECES,
    QWEN_2,
    TEXTS,
    UNSEEN,
    byte_level,
    llama,
    sentence_piece,
    word_piece,
)

from weighbridge import inspect
from weighbridge.compress import gguf_file
from weighbridge.compress.conversion import ConvertedFolder
from weighbridge.compress.gguf_tokenizer import SPECIAL, tokenizer_of
from weighbridge.errors import ConfigError, WeighbridgeError
from weighbridge.formats.byte_source import LocalFile
from weighbridge.model.encodings import find
from weighbridge.prove.engines import open_model

pytest.importorskip("xllamacpp")
pytest.importorskip("tokenizers")


def written(folder: Path, target: Path, encoding: str | None = None) -> gguf.GGUFReader:
    """The folder as a GGUF file, each tensor as it is stored or in one encoding."""
    source = ConvertedFolder(folder)
    gguf_file.write(source, target, {one.name: find(encoding) if encoding else one.encoding for one in source.tensors})
    return gguf.GGUFReader(target)


def value(reader: gguf.GGUFReader, key: str) -> Any:
    return reader.fields[key].contents()


def change(folder: Path, name: str, **settings: Any) -> None:
    place = folder / name
    place.write_text(json.dumps({**json.loads(place.read_text(encoding="utf-8")), **settings}), encoding="utf-8")


@pytest.mark.parametrize(("dtype", "shards"), [("<f4", 1), ("<f2", 3)])
def test_weights_have_llama_cpp_s_names_and_places(tmp_path: Path, dtype: str, shards: int) -> None:
    folder, target = tmp_path / "model", tmp_path / "a.gguf"
    made = byte_level(folder)
    rows = made.get_vocab_size() + 5
    weights = llama(folder, rows, shards, dtype, attention_bias=True)
    reader = written(folder, target)
    found = {one.name: one for one in reader.tensors}
    layer = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
             "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
             "ffn_down": "mlp.down_proj", "attn_norm": "input_layernorm",
             "ffn_norm": "post_attention_layernorm"}  # fmt: skip
    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
             "output.weight": "lm_head.weight"}  # fmt: skip
    names |= {f"blk.{number}.{one}.weight": f"model.layers.{number}.{other}.weight"
              for number in range(2) for one, other in layer.items()}  # fmt: skip
    names |= {f"blk.{number}.attn_{one}.bias": f"model.layers.{number}.self_attn.{one[0]}_proj.bias"
              for number in range(2) for one in ("q", "k", "v", "output")}  # fmt: skip
    assert found.keys() == names.keys()
    for one, other in names.items():
        expected = weights[other]
        if "attn_q" in one or "attn_k" in one:  # row 2j + k of a head of 8 is row 4k + j there
            place = [8 * head + 4 * half + pair for head in range(len(expected) // 8) for pair in range(4)
                     for half in range(2)]  # fmt: skip
            expected = expected[place]
        data = np.asarray(found[one].data)
        assert data.shape == expected.shape and (data == expected).all()
        assert data.dtype == (expected.dtype if expected.ndim > 1 else np.float32)
    shape = {"block_count": 2, "context_length": 512, "embedding_length": 64, "feed_forward_length": 96,
             "attention.head_count": 4, "attention.head_count_kv": 2, "attention.key_length": 8, "vocab_size": rows,
             "attention.value_length": 8, "rope.dimension_count": 8, "rope.freq_base": 5000.0}  # fmt: skip
    assert {key: value(reader, f"llama.{key}") for key in shape} == shape
    assert value(reader, "llama.attention.layer_norm_rms_epsilon") == pytest.approx(1e-5)
    assert list(reader.fields)[3:6] == [
        f"general.{key}" for key in ("architecture", "file_type", "quantization_version")
    ]
    assert value(reader, "general.file_type") == (0 if dtype == "<f4" else 1)
    assert value(reader, "tokenizer.ggml.tokens")[-5:] == [f"[PAD{number}]" for number in range(rows - 5, rows)]
    assert value(reader, "tokenizer.ggml.token_type")[-6:] == [4, 5, 5, 5, 5, 5]
    assert (
        inspect(target).parameters.total
        == inspect(folder).parameters.total
        == sum(one.size for one in weights.values())
    )
    assert inspect(target).reconciliation.status == inspect(folder).reconciliation.status


def test_rows_are_the_same_in_any_portion_and_only_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    llama(tmp_path, byte_level(tmp_path).get_vocab_size(), 2)
    source, seen = ConvertedFolder(tmp_path), []
    read = LocalFile.read

    def counted(self: LocalFile, offset: int, length: int) -> bytes:
        seen.append(length)
        return read(self, offset, length)

    monkeypatch.setattr(LocalFile, "read", counted)
    for tensor in source.tensors:
        rows = tensor.shape[0] if len(tensor.shape) > 1 else 1
        whole = source.rows(tensor, 0, rows)
        for first in range(0, rows, 5):
            part = source.rows(tensor, first, min(5, rows - first))
            assert (part == whole[first : first + 5]).all() and part.dtype == np.float32
        assert source.bytes_of(tensor, rows // 2, 1) == whole[rows // 2].tobytes()
    by_name = {tensor.name: tensor for tensor in source.tensors}
    seen.clear()
    source.rows(by_name["token_embd.weight"], 7, 3)
    source.rows(by_name["blk.0.attn_q.weight"], 7, 2)  # of the first and second head of four
    assert seen == [3 * 64 * 4, 16 * 64 * 4]


def test_bf16_is_copied_and_encoded(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    rows = byte_level(folder).get_vocab_size()
    weights = llama(folder, rows, dtype="<f4", tie_word_embeddings=True)
    weights = {name: (one.view("<u4") >> 16).astype("<u2") for name, one in weights.items()}
    from safetensors.numpy import save_file

    save_file(weights, folder / "model.safetensors")
    _relabelled(folder / "model.safetensors")  # numpy has no bf16: its halves of fp32 are called so here
    reader = written(folder, tmp_path / "a.gguf")
    found = {one.name: one for one in reader.tensors}
    assert "output.weight" not in found and value(reader, "general.file_type") == 32
    raw = np.asarray(found["blk.1.ffn_up.weight"].data).view("<u2")
    assert (raw.reshape(96, 64) == weights["model.layers.1.mlp.up_proj.weight"]).all()
    norm = np.asarray(found["output_norm.weight"].data)
    assert (norm.view("<u4") >> 16 == weights["model.norm.weight"]).all()
    packed = written(folder, tmp_path / "b.gguf", "q8_0")
    assert all(one.tensor_type == gguf.GGMLQuantizationType.Q8_0 for one in packed.tensors)


def _relabelled(path: Path) -> None:
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    for one in header.values():
        one["dtype"] = "BF16"
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])


TOKENIZERS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "gpt-2": (byte_level, "gpt2", "gpt-2"),
    "smollm": (lambda path: byte_level(path, digits=True), "gpt2", "smollm"),
    "llama-3": (lambda path: byte_level(path, LLAMA_3, ignore_merges=True), "gpt2", "llama-bpe"),
    "qwen-2": (lambda path: byte_level(path, QWEN_2), "gpt2", "qwen2"),
    "llama-2": (sentence_piece, "llama", "default"),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_llama_cpp_splits_texts_as_the_tokenizer_does(tmp_path: Path, kind: str) -> None:
    make, model, cut = TOKENIZERS[kind]
    folder, target = tmp_path / "model", tmp_path / "a.gguf"
    made = make(folder)
    llama(folder, made.get_vocab_size() + 3, letters=PIECES if model == "llama" else LETTERS)
    reader = written(folder, target)
    assert (value(reader, "tokenizer.ggml.model"), value(reader, "tokenizer.ggml.pre")) == (model, cut)
    opened = open_model(target)
    for text in (*TEXTS, *UNSEEN):
        expected = made.encode(text, add_special_tokens=False).ids
        assert opened.tokens(text) == expected and len(expected) > 3
    if model == "gpt2":
        text = "a<think>b <|end|>"  # what was added plainly is one token in a text
        assert made.token_to_id("<think>") in opened.tokens(text)
        assert opened.prefix == () and opened.begin == made.token_to_id("<|end|>")
    else:
        assert opened.prefix == (1,) and value(reader, "tokenizer.ggml.unknown_token_id") == 0
        types = value(reader, "tokenizer.ggml.token_type")
        assert types[:4] == [2, 3, 3, 6] and types[258] == 6 and types[259] == 1
    opened.close()


def test_spaces_before_a_text_are_told_of(tmp_path: Path) -> None:
    made = sentence_piece(tmp_path / "model", legacy=False)
    llama(tmp_path / "model", made.get_vocab_size(), letters=PIECES)
    written(tmp_path / "model", tmp_path / "a.gguf")
    assert "begins with a space" in " ".join(ConvertedFolder(tmp_path / "model").notes)
    opened = open_model(tmp_path / "a.gguf")
    for text in TEXTS:
        expected = made.encode(text, add_special_tokens=False).ids
        assert (opened.tokens(text) == expected) is not text.startswith(" ")
    opened.close()


def test_a_conversation_s_form_and_the_tokens_around_a_text(tmp_path: Path) -> None:
    made = byte_level(tmp_path)
    llama(tmp_path, made.get_vocab_size(), eos_token_id=[5, 6])
    change(tmp_path, "tokenizer_config.json", add_bos_token=True, eos_token=None, chat_template="{{ messages }}")
    found = ConvertedFolder(tmp_path)._rest
    assert found["tokenizer.ggml.add_bos_token"] == ("bool", True)
    assert found["tokenizer.ggml.add_eos_token"] == ("bool", False)
    assert found["tokenizer.ggml.bos_token_id"] == ("uint32", 0) and found["tokenizer.ggml.eos_token_id"][1] == 5
    assert found["tokenizer.chat_template"] == ("string", "{{ messages }}")
    change(tmp_path, "tokenizer_config.json", chat_template=[{"name": "tool_use", "template": "t"},
                                                             {"name": "default", "template": "d"}])  # fmt: skip
    assert ConvertedFolder(tmp_path)._rest["tokenizer.chat_template"] == ("string", "d")
    change(tmp_path, "tokenizer_config.json", chat_template=None)
    (tmp_path / "chat_template.jinja").write_text("j")
    assert ConvertedFolder(tmp_path)._rest["tokenizer.chat_template"] == ("string", "j")


def test_the_digest_follows_what_is_written(tmp_path: Path) -> None:
    made = byte_level(tmp_path)
    llama(tmp_path, made.get_vocab_size())
    first = ConvertedFolder(tmp_path)
    assert ConvertedFolder(tmp_path).digest == first.digest
    assert {path.name for path in first.paths} == {"model.safetensors", "config.json", "tokenizer.json",
                                                   "tokenizer_config.json"}  # fmt: skip
    assert first.size_bytes == sum(path.stat().st_size for path in first.paths if path.suffix == ".safetensors")
    change(tmp_path, "config.json", rope_theta=7.0)
    assert ConvertedFolder(tmp_path).digest != first.digest


def test_llama_3_s_long_positions_become_factors(tmp_path: Path) -> None:
    rows = byte_level(tmp_path).get_vocab_size()
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}  # fmt: skip
    llama(tmp_path, rows, rope_scaling=rope, rope_theta=10_000.0)
    source = ConvertedFolder(tmp_path)
    tensor = next(one for one in source.tensors if one.name == "rope_freqs.weight")
    # waves of 6.3, 63, 628 and 6283 positions, where 16 and 64 bound those that stay and those that are divided
    wave = 2 * np.pi * 10
    between = 1 / ((1 - (64 / wave - 1) / 3) / 8 + (64 / wave - 1) / 3)
    assert source.rows(tensor, 0, 1)[0].tolist() == pytest.approx([1.0, between, 8.0, 8.0])
    for kind in ("yarn", "dynamic"):
        llama(tmp_path, rows, rope_scaling={**rope, "rope_type": kind})
        with pytest.raises(ConfigError, match=kind):
            ConvertedFolder(tmp_path)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hidden_act": "relu"}, "hidden_act"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"model_type": "phi3"}, "one of llama, mistral, qwen2, qwen3, gemma3_text, gpt2, bert"),
        ({"quantization_config": {"quant_method": "awq"}}, "quantization_config"),
        ({"num_hidden_layers": 1}, "config does not describe"),
        ({"num_hidden_layers": 3}, "has no model.layers.2"),
        ({"architectures": ["LlamaModel"]}, "no language head"),
        ({"architectures": ["LlamaForSequenceClassification"]}, "head"),
        ({"vocab_size": 100}, "shape"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps"),
        ({"rope_scaling": {"type": "linear", "factor": -1}}, "factor"),
        ({"rope_scaling": {"type": "llama3", "low_freq_factor": 4.0}}, "the first above the other"),
        ({"rope_scaling": "linear"}, "rope_parameters"),
        ({"rope_theta": 1e300}, "range of fp32"),
        ({"max_position_embeddings": 2**33}, "max_position_embeddings"),
    ],
)
def test_models_that_llama_cpp_would_not_run_as_they_are_are_refused(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    llama(tmp_path, byte_level(tmp_path).get_vocab_size())
    change(tmp_path, "config.json", **settings)
    with pytest.raises(WeighbridgeError, match=words):
        ConvertedFolder(tmp_path)


def test_tokenizers_that_llama_cpp_has_not_are_refused(tmp_path: Path) -> None:
    made = byte_level(tmp_path)
    llama(tmp_path, made.get_vocab_size())
    plain = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))

    def refused(words: str, **settings: Any) -> None:
        (tmp_path / "tokenizer.json").write_text(json.dumps({**plain, **settings}), encoding="utf-8")
        with pytest.raises(WeighbridgeError, match=words):
            ConvertedFolder(tmp_path)

    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    split = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
    refused("cuts by", pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]})
    refused("ByteLevel at the end", pre_tokenizer=None)
    refused("add_prefix_space", pre_tokenizer={**level, "add_prefix_space": True, "use_regex": True})
    refused("ignore_merges = True", model={**plain["model"], "ignore_merges": True})
    refused("the pre_tokenizer Punctuation", pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Punctuation"}, level]})  # fmt: skip
    refused("normalizer Lowercase", normalizer={"type": "Lowercase"})
    refused("the model Unigram", model={"type": "Unigram", "vocab": []})
    refused("no list of tokens", model={"type": "BPE"}, added_tokens=[])
    refused("end_of_word_suffix", model={**plain["model"], "end_of_word_suffix": "</w>"})
    refused("as number 9999", added_tokens=[{"id": 9999, "content": "x<x", "special": True}])
    refused("two tokens of number 7", added_tokens=[{"id": 7, "content": "x<x", "special": True}])
    refused("neighbours' spaces", added_tokens=[{"id": made.token_to_id("<think>"), "content": "<think>",
                                                 "special": False, "lstrip": True}])  # fmt: skip
    refused("around a text", post_processor={"type": "RobertaProcessing", "sep": ["<think>", 1], "cls": ["<|end|>", 0]})
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    refused("cannot be read")
    (tmp_path / "chat_template.jinja").unlink()
    refused("the merge", model={**plain["model"], "merges": [["a"]]})
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="has no tokenizer"):
        ConvertedFolder(tmp_path)


@pytest.mark.parametrize("make", [byte_level, sentence_piece, word_piece])
def test_files_that_nobody_vouches_for_give_sentences(tmp_path: Path, make: Callable[[Path], Any]) -> None:
    llama(tmp_path, make(tmp_path).get_vocab_size())
    place = tmp_path / "tokenizer.json"
    plain = json.loads(place.read_text(encoding="utf-8"))
    odd: tuple[Any, ...] = (
        *(None, 5, "x", [], {}, [5], [[]], {"type": 5}, {"type": "Sequence"}, {"type": "TemplateProcessing"}),
        *({"type": "BertProcessing"}, {"type": "Split", "pattern": 5}, {"x": "y"}, {"x": -1}),
    )
    for one in odd:
        changed = [{**plain, key: one} for key in plain]
        changed += [{**plain, "model": {**plain["model"], key: one}} for key in plain["model"]]
        changed += [{**plain, "added_tokens": [*plain["added_tokens"], {"content": "x", "id": one}]}]
        for document in changed:
            place.write_text(json.dumps(document), encoding="utf-8")
            with contextlib.suppress(WeighbridgeError):
                tokenizer_of(tmp_path, {}, 900)
    place.write_text(json.dumps(plain), encoding="utf-8")
    for one in odd:
        for key in (*(f"{kind}_token" for kind in SPECIAL), "add_bos_token", "chat_template"):
            (tmp_path / "tokenizer_config.json").write_text(json.dumps({key: one}))
            with contextlib.suppress(WeighbridgeError):
                tokenizer_of(tmp_path, {f"{kind}_token_id": one for kind in SPECIAL}, 900)


def test_merges_that_do_not_follow_from_ranks_are_refused(tmp_path: Path) -> None:
    made = sentence_piece(tmp_path)
    llama(tmp_path, made.get_vocab_size())
    plain = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    merges = plain["model"]["merges"]
    again = {"model": {**plain["model"], "merges": merges[:-1]}}
    change(tmp_path, "tokenizer.json", **again)
    with pytest.raises(ConfigError, match="no merge of"):
        ConvertedFolder(tmp_path)
    token = next("".join(pair) for number, pair in enumerate(merges[1:]) if "".join(merges[number]) == "".join(pair))
    own = [pair for pair in merges if "".join(pair) == token]
    moved = [*(pair for pair in merges if pair != own[0]), own[0]]
    change(tmp_path, "tokenizer.json", model={**plain["model"], "merges": moved})
    with pytest.raises(ConfigError, match="apart from each other"):
        ConvertedFolder(tmp_path)
    change(tmp_path, "tokenizer.json", model={**plain["model"], "merges": merges}, normalizer=None)
    with pytest.raises(ConfigError, match="spaces as they are"):
        ConvertedFolder(tmp_path)


def test_a_file_or_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    llama(tmp_path, byte_level(tmp_path).get_vocab_size())
    with pytest.raises(ConfigError, match="a folder with"):
        ConvertedFolder(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ConfigError, match="is config"):
        ConvertedFolder(tmp_path)


def test_word_pieces_get_a_phantom_space(tmp_path: Path) -> None:
    for lower in (True, False):
        made = word_piece(tmp_path, lower=lower)
        found, _ = tokenizer_of(tmp_path, {}, made.get_vocab_size())
        names = found["tokenizer.ggml.tokens"][1]
        for token, number in made.get_vocab().items():
            special = number < 5
            expected = token if special else token[2:] if token.startswith("##") else small_folders.SPACE + token
            assert names[number] == expected
            assert found["tokenizer.ggml.token_type"][1][number] == (3 if special else 1)
        ids = {"bos": 2, "eos": 3, "cls": 2, "seperator": 3, "padding": 0, "unknown": 1, "mask": 4}
        assert {key: found[f"tokenizer.ggml.{key}_token_id"][1] for key in ids} == ids
        assert found["tokenizer.ggml.normalizer.lowercase"] == ("bool", lower)
        assert found["tokenizer.ggml.add_bos_token"][1] and found["tokenizer.ggml.add_eos_token"][1]
