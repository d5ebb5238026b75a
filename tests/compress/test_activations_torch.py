"""Is what transformers gives its linear modules seen as it is, and is it what llama.cpp gives the same weights?"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from tests.compress import small_llama

from weighbridge.cli import main
from weighbridge.compress import importance
from weighbridge.compress.activations import windows

pytestmark = pytest.mark.torch

TEXTS = ("We the people of the United States", "in order to form a more perfect union " * 3)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]
TOKENIZER = Path(__file__).resolve().parents[2] / "examples" / "small_decoder" / "small"


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


def made(source: Path, texts: tuple[str, ...], *more: Any) -> tuple[importance.Importance, dict[str, Any]]:
    data = source.parent / "texts.jsonl"
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    target = source.parent / "imatrix.gguf"
    words = ["imatrix", source, "--on", data, "-o", target, "--json", *more]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 0, done.stderr
    return importance.read(target), json.loads(done.stdout)


def llama(folder: Path, **changes: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The small Llama as a folder of transformers, with a tokenizer that knows more words than it."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(TOKENIZER)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=small_llama.WIDE, intermediate_size=small_llama.INNER,
        num_hidden_layers=small_llama.LAYERS, num_attention_heads=small_llama.HEADS, num_key_value_heads=1,
        rms_norm_eps=small_llama.EPSILON, rope_theta=small_llama.BASE, max_position_embeddings=256,
        **changes)  # fmt: skip
    torch.manual_seed(2)
    model = transformers.LlamaForCausalLM(config).eval()
    held = small_llama.weights()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if held[name].shape == tuple(weight.shape):
                weight.copy_(torch.tensor(held[name]))
            else:
                weight.mul_(50)
    model.save_pretrained(folder)
    for path in TOKENIZER.glob("token*"):
        shutil.copy(path, folder)
    return {name: weight.numpy() for name, weight in model.state_dict().items()}


@pytest.mark.parametrize("is_tied", [False, True])
def test_a_decoder_goes_by_both_names(torch: Any, tmp_path: Path, is_tied: bool) -> None:
    import transformers

    held = llama(tmp_path / "a", tie_word_embeddings=is_tied)
    found, document = made(tmp_path / "a", TEXTS, "--window", 16)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    before = [token for token in tokenizer("a")["input_ids"][:1] if token == tokenizer.bos_token_id]
    tokens = [token for text in TEXTS for token in tokenizer(text + "\n\n", add_special_tokens=False)["input_ids"]]
    parts = list(windows(tokens, before, [], 16))
    means, counts = small_llama.mean_squares(held, parts)
    names = small_llama.names()
    if is_tied:
        means["model.embed_tokens.weight"] = means.pop("lm_head.weight")
        counts["model.embed_tokens.weight"] = counts.pop("lm_head.weight")
    assert found.means.keys() == {*means, *(names[name] for name in means)}
    for name, expected in means.items():
        for one in (name, names[name]):
            assert found.means[one] == pytest.approx(expected[0], rel=1e-3), one
            assert found.counts[one].tolist() == counts[name].tolist() == [document["tokens"]]
    assert document["windows"] == len(parts) and document["engine"].startswith("transformers")


def test_an_encoder_reads_each_text_with_its_signs(torch: Any, tmp_path: Path) -> None:
    import transformers

    for kind in ("BertModel", "BertForMaskedLM"):
        folder = tmp_path / kind / "a"
        torch.manual_seed(1)
        config = transformers.BertConfig(
            vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            max_position_embeddings=12)  # fmt: skip
        model = getattr(transformers, kind)(config).eval()
        model.save_pretrained(folder)
        (folder / "vocab.txt").write_text("\n".join(WORDS))
        transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
        found, document = made(folder, ("a b c", "d"))
        given: list[Any] = []
        prefix = "" if kind == "BertModel" else "bert."
        with torch.no_grad():
            for tokens in ([2, 5, 6, 7, 3], [2, 8, 3]):
                shown = model(torch.tensor([tokens]), output_hidden_states=True).hidden_states
                given.append(np.square(shown[1][0].double().numpy()))
        expected = np.concatenate(given).mean(axis=0)
        for one in (f"{prefix}encoder.layer.1.attention.self.query.weight", "blk.1.attn_q.weight"):
            assert found.means[one] == pytest.approx(expected, rel=1e-4) and found.counts[one].tolist() == [8]
        assert document["tokens"] == 8 and document["windows"] == 2


def test_experts_in_one_block_are_told_of(torch: Any, tmp_path: Path) -> None:
    import transformers

    transformers.MixtralForCausalLM(transformers.MixtralConfig(
        vocab_size=len(transformers.AutoTokenizer.from_pretrained(TOKENIZER)), hidden_size=32, intermediate_size=48,
        num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, num_local_experts=4, num_experts_per_tok=2,
        max_position_embeddings=64)).save_pretrained(tmp_path / "a")  # fmt: skip
    for path in TOKENIZER.glob("token*"):
        shutil.copy(path, tmp_path / "a")
    found, document = made(tmp_path / "a", TEXTS)
    assert any("nothing is known of blk.0.ffn_gate_exps.weight" in note for note in document["notes"])
    assert "blk.0.attn_q.weight" in found.means and "blk.0.ffn_gate_exps.weight" not in found.means


def test_what_is_no_folder_of_safetensors_is_refused(torch: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "texts.txt").write_text("a b c")
    words = ["imatrix", tmp_path, "--on", tmp_path / "texts.txt", "-o", tmp_path / "b.gguf"]
    done = CliRunner().invoke(main, [str(word) for word in words])
    assert done.exit_code == 2 and "Traceback" not in done.stderr and not (tmp_path / "b.gguf").exists()
