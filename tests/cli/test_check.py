"""Does `weigh check` answer as documented, with exit codes, reports and errors?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from weighbridge.cli.group import main

COLUMNS = "id,article,section,quote_short,quantity_kind,claimed_value,inputs"


def _weigh(*words: str) -> Result:
    return CliRunner().invoke(main, ["check", *words])


def test_exit_codes() -> None:
    assert _weigh("Llama 2 70B has 68,976,648,192 parameters").exit_code == 0
    assert _weigh("Llama 2 70B has exactly 70,015,266,816 parameters").exit_code == 1
    assert _weigh("GPT-4 has 1.76 trillion parameters").exit_code == 0
    assert _weigh("BERT has 340M parameters", "BERT has 30M parameters").exit_code == 1


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["no number at all"], "no number in"),
        ([""], "no number in"),
        (["missing.csv"], "missing.csv cannot be read"),
        (["missing article.md"], "no number in"),
    ],
)
def test_input_that_cannot_be_used(words: list[str], error: str) -> None:
    result = _weigh(*words)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert error in result.output


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("claims.csv", b"id,quote\n1,x\n", "has no column article"),
        ("claims.csv", COLUMNS.encode(), "has no row"),
        ("claims.csv", b"\x00\x01\x02", "claims.csv"),
        ("claims.csv", b"", "claims.csv"),
        ("article.md", b"", "article.md"),
        ("article.txt", bytes(range(256)) * 40, "article.txt"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, name: str, data: bytes, error: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    result = _weigh(str(path))
    assert result.exit_code == 2, result.output
    assert error in result.output


def test_a_table_in_another_encoding_and_with_a_huge_field(tmp_path: Path) -> None:
    path = tmp_path / "claims.csv"
    row = "1,a,S1,GPT-3 h\u00e4lt 175B,model_param_count,175B,"
    path.write_bytes(f"{COLUMNS}\n{row}\n2,a,S1,{'x' * 300_000},other,7,\n".encode("cp1252"))
    result = _weigh(str(path), "--json")
    assert result.exit_code == 0, result.output
    assert [one["verdict"] for one in json.loads(result.stdout)["claims"]] == ["confirmed", "not verifiable"]


def test_reports_are_written_and_nothing_is_read_over(tmp_path: Path) -> None:
    article = tmp_path / "article.md"
    article.write_text("# Costs\n\nLlama 2 70B needs 80 GB of KV cache for 4,096 tokens. GPT-3 has 175B parameters.\n")
    page, report = tmp_path / "report.html", tmp_path / "report.md"
    result = _weigh(str(article), "--html", str(page), "--markdown", str(report))
    assert result.exit_code == 1
    assert "1.342 GB" in page.read_text()
    assert "<script" not in page.read_text()
    assert "## wrong" in report.read_text()
    again = _weigh(str(article), "--markdown", str(article))
    assert again.exit_code == 2
    assert "is read by the same command" in again.output


def test_json_is_one_document_with_the_keys_of_the_contract() -> None:
    document = json.loads(_weigh("Llama 2 70B needs 140 GB in FP16", "--json").stdout)
    assert set(document) == {"claims", "contradictions", "verdicts"}
    assert {"id", "verdict", "claimed", "computed", "derivation", "sources"} <= set(document["claims"][0])


def test_markup_in_a_claim_stays_text(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    _weigh("<script>alert(1)</script> GPT-3 has 175B parameters", "--html", str(page))
    assert "<script>" not in page.read_text()


def test_control_characters_are_written_out() -> None:
    assert "\x1b[2J" not in _weigh("GPT-3 \x1b[2J has 175B parameters").output
