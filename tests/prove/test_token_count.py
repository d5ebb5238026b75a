"""Are the tokens of a text those of the tokenizer itself?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.errors import ConfigError, SourceError
from weighbridge.prove.token_count import count_tokens

DECODER = Path(__file__).resolve().parents[2] / "examples" / "small_decoder" / "small"


def test_tokens_of_a_folder() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    text = "We the people of the United States — <|endoftext|>"
    found = count_tokens(DECODER, text)
    assert "".join(found.pieces).replace(" ", "") == text.replace(" ", "") and found.words == 9
    plain = tokenizers.Tokenizer.from_file(str(DECODER / "tokenizer.json"))
    assert count_tokens(DECODER, "We the people").ids == tuple(plain.encode("We the people").ids)
    assert len(found.ids) > len(plain.encode(text).ids)  # the sign of the vocabulary is read as text
    assert count_tokens(DECODER, "").per_word is None


def test_the_command_counts_and_prints() -> None:
    done = CliRunner().invoke(main, ["tokens", str(DECODER), "-", "--json"], input="the people of the States")
    found = json.loads(done.stdout)
    assert found["words"] == 5 and found["tokens"] == len(found["ids"]) == len(found["pieces"])
    assert found["tokens_per_word"] == found["tokens"] / 5 and found["bytes"] == 24
    shown = CliRunner().invoke(main, ["tokens", str(DECODER), "the people\n"]).stdout
    assert "2 words" in shown and "\\n" in shown


def test_sources_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        count_tokens(tmp_path / "none", "a")
    with pytest.raises(ConfigError, match="no tokenizer that can be read"):
        count_tokens(tmp_path, "a")
