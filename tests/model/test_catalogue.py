"""Are the catalogue's facts sound? Shapes count to golden totals, every fact has its source, claims are never facts."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.errors import SourceError, UnknownNameError
from weighbridge.model import catalogue
from weighbridge.model.catalogue import NamedModel

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "catalogue.json").read_text("utf-8"))
SHAPED = [model for model in catalogue.models() if model.config]
UNSHAPED = [model for model in catalogue.models() if not model.config]


def name_of(model: NamedModel) -> str:
    return model.name


def test_there_are_enough_models_and_each_has_a_golden_total_or_is_named_as_without() -> None:
    assert len(SHAPED) >= 150
    assert {model.name for model in SHAPED} == GOLDEN["totals"].keys() | GOLDEN["without"].keys()


@pytest.mark.parametrize("model", SHAPED, ids=name_of)
def test_a_shape_counts_to_the_total_from_elsewhere(model: NamedModel) -> None:
    found = inspect(model)
    assert found.architecture is not None
    if model.name in GOLDEN["totals"]:
        assert found.parameters.total == GOLDEN["totals"][model.name]
    if model.stated is not None:  # rounded by marketing; the widest is MiniCPM's, which leaves its table out
        assert abs(found.parameters.total / model.stated - 1) < 0.14


@pytest.mark.parametrize("model", catalogue.models(), ids=name_of)
def test_every_fact_has_a_source_and_a_date(model: NamedModel) -> None:
    facts = {"released", "licence", "stated", "training_tokens", "config"}
    assert model.sources.keys() <= facts
    for address in (model.source, *model.sources.values(), *(claim.source for claim in model.claims)):
        assert urlsplit(address).scheme == "https" and "." in urlsplit(address).netloc
    assert datetime.date(2026, 1, 1) <= model.checked
    assert model.released is None or datetime.date(1950, 1, 1) < model.released <= model.checked
    assert model.access in ("open weights", "closed")
    assert model.hub is None or model.hub.count("/") == 1
    assert catalogue.find_model(model.title) is model or model.title not in model.names
    for name in model.names:
        assert catalogue.find_model(name.upper()) is model


def test_undisclosed_models_are_claims_and_never_facts() -> None:
    undisclosed = [model for model in UNSHAPED if model.stated is None]
    assert {"gpt-4", "gemini-ultra", "claude-3-opus"} <= {model.name for model in undisclosed}
    assert all(model.access == "closed" for model in undisclosed)
    assert all(not model.claims for model in catalogue.models() if model.config or model.stated)
    assert all(0 < claim.low <= claim.high for model in undisclosed for claim in model.claims)


@pytest.mark.parametrize("name", ["gpt-4", "palm", "midjourney"])
def test_a_model_without_a_shape_is_refused_with_what_is_known(name: str) -> None:
    result = CliRunner().invoke(main, ["inspect", name])
    assert result.exit_code == 2
    assert "shape" in result.stderr and "not published" in result.stderr
    with pytest.raises(SourceError):
        inspect(catalogue.find_model(name))


def test_a_name_is_found_in_every_spelling_and_a_wrong_one_names_its_neighbours() -> None:
    assert inspect("Llama_2 70B").parameters.total == 68_976_648_192
    assert inspect("meta-llama/Llama-3.1-405B").parameters.total == 405_853_388_800
    with pytest.raises(UnknownNameError, match="llama-2-70b"):
        catalogue.find_model("lama-2-70b")
    result = CliRunner().invoke(main, ["inspect", "lama-2-70b"])
    assert result.exit_code == 2 and "llama-2-70b" in result.stderr


def test_a_file_goes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gpt-2").mkdir()
    (tmp_path / "gpt-2" / "config.json").write_text(json.dumps({**catalogue.find_model("gpt-2").config, "n_layer": 1}))
    assert inspect("gpt-2").parameters.total == 124_439_808 - 11 * 7_087_872


def test_a_missing_file_is_not_looked_for_among_names() -> None:
    result = CliRunner().invoke(main, ["inspect", "nowhere/config.json"])
    assert result.exit_code == 2 and "catalogue" not in result.stderr


def test_what_if_questions_work_on_names() -> None:
    more = inspect("llama-2-7b", settings={"num_hidden_layers": 33}).parameters.total
    assert more - inspect("llama-2-7b").parameters.total == 202_383_360
    heads = inspect("gpt-2", settings={"n_head": 6}).parameters.total
    assert heads == inspect("gpt-2").parameters.total


def test_the_list_of_models_is_that_of_the_catalogue() -> None:
    listed = json.loads(CliRunner().invoke(main, ["models", "--json"]).stdout)
    assert [model["name"] for model in listed] == [model.name for model in catalogue.models()]
    found = json.loads(CliRunner().invoke(main, ["models", "Anthropic", "--json"]).stdout)
    assert found and {model["developer"] for model in found} == {"Anthropic"}
    assert "claude-3-opus" in CliRunner().invoke(main, ["models", "claude"]).stdout


def test_every_name_may_be_a_name() -> None:
    """The quick look finds every name that the catalogue has, in any spelling."""
    for model in catalogue.models():
        for name in model.names:
            assert catalogue.may_name(name) and catalogue.may_name(name.upper().replace("-", "_")), name
    assert not catalogue.may_name("somebody/a-model-of-theirs")
