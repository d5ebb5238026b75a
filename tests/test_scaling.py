"""Tables of runs as people write them, and the answers of `weigh scaling`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner, Result

from weighbridge import run_log
from weighbridge.cli import main
from weighbridge.errors import FormatError, SourceError
from weighbridge.predict.scaling_laws.laws import additive_law, laws
from weighbridge.show import chart, iso_loss

LAW = additive_law("chinchilla-corrected")


def runs_csv(path: Path, count: int = 24, noise: float = 0.001) -> Path:
    draws = np.random.default_rng(0)
    lines = ["Params,training_tokens,final loss,comment"]
    for place in range(count):
        parameters = 5e7 * 100 ** (place / count)
        tokens = parameters * (5, 20, 80)[place % 3]
        loss = LAW.loss(parameters, tokens) * float(np.exp(noise * draws.standard_normal()))
        lines.append(f"{parameters:.6g},{tokens:.6g},{loss:.6f},x")
    path.write_text("\n".join(lines) + "\n\n", encoding="utf-8")
    return path


def weigh(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["scaling", *arguments], prog_name="weigh")


def document(*arguments: str, code: int = 0) -> Any:
    result = weigh(*arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def test_any_two_quantities_give_the_third(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Model Size;x\n".replace(";", ",") + "1,1\n", encoding="utf-8")
    with pytest.raises(FormatError, match="columns loss"):
        run_log.read(path)
    path.write_text("N,C,loss\n1e9,1.2e20,2.5\n2B,2.4e20,2.4\n", encoding="utf-8")
    found = run_log.read(path)
    assert found.lines == (2, 3)
    assert found.runs.quantity("parameters").tolist() == [1e9, 2e9]
    assert found.runs.quantity("tokens").tolist() == [2e10, 2e10]
    path.write_text("\ufefftokens,val_loss\n1e9,2.5\n", encoding="utf-8")
    assert run_log.read(path).runs.parameters is None


@pytest.mark.parametrize("cell", ["nan", "-2", "0", "inf", "", "two", "1e400", "3GB"])
def test_values_that_no_run_has_are_named_by_line_and_column(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"params,tokens,loss\n1e9,1e9,2\n1e9,{cell},2\n", encoding="utf-8")
    with pytest.raises(FormatError, match=r"line 3, column tokens"):
        run_log.read(path)


def test_files_that_are_no_table_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError):
        run_log.read(tmp_path / "none.csv")
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xff\xfe\x00loss")
    with pytest.raises(FormatError, match="no CSV"):
        run_log.read(path)
    path.write_text("", encoding="utf-8")
    with pytest.raises(FormatError, match="has nothing"):
        run_log.read(path)
    path.write_text("loss,params,n,tokens\n", encoding="utf-8")
    with pytest.raises(FormatError, match="both params and n"):
        run_log.read(path)
    path.write_text("loss,params,tokens\n", encoding="utf-8")
    assert weigh("fit", str(path)).exit_code == 2


def test_a_fit_predicts_a_larger_run(tmp_path: Path) -> None:
    path = runs_csv(tmp_path / "runs.csv")
    found = document("fit", str(path), "--predict", "50B,1T", "--bootstrap", "100", "--seed", "7")
    assert found["variables"] == ["parameters", "tokens"] and found["seed"] == 7 and found["resamples"] == 100
    (run,) = found["predictions"]
    loss = run["loss"]
    assert loss["low"] <= LAW.loss(50e9, 1e12) <= loss["high"]
    assert loss["value"] == pytest.approx(LAW.loss(50e9, 1e12), rel=0.02)
    shown = weigh("fit", str(path), "--predict", "50B,1T", "--bootstrap", "100", "--seed", "7")
    assert f"{loss['value']:.4f}" in shown.output and "alpha" in shown.output


def test_a_fit_that_settles_nothing_answers_no(tmp_path: Path) -> None:
    path = runs_csv(tmp_path / "runs.csv", 8, 0.03)
    result = weigh("fit", str(path), "--bootstrap", "100")
    assert result.exit_code == 1 and "undecided" in result.output
    for wrong in (
        ["--predict", "70B"],
        ["--predict", "70B,x"],
        ["--predict", "7,000,000,000,140e9"],
        ["--bootstrap", "1000000"],
        ["--delta", "nan"],
    ):
        assert weigh("fit", str(path), *wrong).exit_code == 2, wrong


def test_the_largest_run_that_may_be_named_has_a_loss(tmp_path: Path) -> None:
    found = document("fit", str(runs_csv(tmp_path / "runs.csv")), "--predict", "1e20,1e20", "--bootstrap", "20")
    (run,) = found["predictions"]
    assert run["loss"]["value"] == pytest.approx(found["constants"]["E"]["value"], rel=1e-3)


def test_runs_of_one_loss_settle_nothing_and_have_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    rows = [f"{n},{d},2.0" for n in ("100M", "300M", "1B") for d in ("1B", "5B", "20B")]
    path.write_text("\n".join(["params,tokens,loss", *rows]), encoding="utf-8")
    assert weigh("fit", str(path), "--bootstrap", "20").exit_code == 1
    drawn = weigh("fit", str(path), "--bootstrap", "20", "--svg", str(tmp_path / "a.svg"))
    assert drawn.exit_code == 2 and "does not fall" in drawn.output


def test_optimum_by_every_law() -> None:
    found = document("optimum", "--flops", "5.76e23", "--served", "2T", "--unique", "200B")
    rows = {row["law"]: row for row in found["laws"]}
    assert rows.keys() == laws().keys()
    assert rows["chinchilla-1"]["parameters"]["value"] == pytest.approx(67e9)
    served, repeated = found["served"], found["repeated"]
    assert (
        0 < served["saved"] < 1 and served["parameters"]["value"] < rows["chinchilla-corrected"]["parameters"]["value"]
    )
    assert repeated["epochs"] > 4
    assert found["between"]["parameters"]["least"] < 5e10
    only = document("optimum", "--tokens", "300B", "--law", "twenty")
    assert only["laws"][0]["parameters"]["value"] == pytest.approx(15e9)
    for wrong in ([], ["--flops", "1e21", "--tokens", "1B"], ["--flops", "0"], ["--flops", "1e21", "--law", "x"]):
        assert weigh("optimum", *wrong).exit_code == 2, wrong


def test_loss_by_every_law() -> None:
    found = document("loss", "--parameters", "70B", "--tokens", "2T", "--unique", "1T")
    assert found["verdict"]["verdict"] == "overtrained"
    losses = {row["law"]: row["loss"] for row in found["laws"]}
    assert losses["chinchilla-corrected"]["value"] == pytest.approx(LAW.loss(70e9, 2e12))
    assert losses["llama-3"]["value"] is None
    assert found["repeated"]["epochs"] == 2.0
    assert "overtrained" in weigh("loss", "--parameters", "70B", "--tokens", "2T").output
    assert weigh("loss", "--parameters", "0", "--tokens", "2T").exit_code == 2


def test_gains_by_every_law() -> None:
    """C05: ten times the parameters take 16.1% off by Kaplan's law."""
    found = document("gain", "--parameters", "70B", "--times", "10", "--law", "kaplan")
    (only,) = found["gains"]
    assert only["gain"]["value"] == pytest.approx(1 - 10**-0.076)
    every = document("gain", "--parameters", "70B")["gains"]
    assert {row["times"] for row in every} == {2, 3, 10}
    assert {row["law"] for row in every} >= {"kaplan", "chinchilla-corrected"}
    assert all(row["gain"]["value"] is not None for row in every)
    shown = weigh("gain", "--parameters", "70B", "--times", "10", "--law", "kaplan", "--law", "llama-3").output
    assert "16.1% (" in shown and "assumed" in shown and "unknown: the law splits budgets" in shown
    for wrong in (
        [],
        ["--parameters", "0"],
        ["--parameters", "7B", "--times", "1"],
        ["--parameters", "7B", "--law", "x"],
    ):
        assert weigh("gain", *wrong).exit_code == 2, wrong


def test_cost_grows_by_less_than_the_laws_say() -> None:
    """C09: 1.05 to 1.30 from the listed costs, where 20 tokens a parameter give 2."""
    found = document("exponent", "540B=15M-20M", "175B=4.6M")
    (step,) = found["exponents"]
    assert (step["from"], step["to"]) == (175 * 10**9, 540 * 10**9)
    assert step["exponent"]["low"] == pytest.approx(1.05, abs=0.005)
    assert step["exponent"]["high"] == pytest.approx(1.30, abs=0.005)
    each = {row["law"]: row["exponent"] for row in found["laws"]}
    assert each.keys() == laws().keys()
    assert each["twenty"] == pytest.approx(2) and each["kaplan"] == pytest.approx(1 / 0.73)
    three = document("exponent", "1B=1M", "4B=4M", "2B=1M-3M")["exponents"]
    assert [(row["from"] / 1e9, row["to"] / 1e9) for row in three] == [(1, 2), (2, 4), (1, 4)]
    assert three[2]["exponent"]["value"] == pytest.approx(1)
    assert "1.19 (1.05 to 1.30)" in weigh("exponent", "175B=4.6M", "540B=15M-20M").output
    for wrong in ([], ["1B=1M"], ["1B=1M", "1B=2M"], ["1B", "2B=2M"], ["1B=0", "2B=2M"], ["1B=3M-2M", "2B=2M"],
                  ["x=1M", "2B=2M"], ["1B=1GB", "2B=2M"]):  # fmt: skip
        assert weigh("exponent", *wrong).exit_code == 2, wrong


def test_a_token_budget_is_held_against_the_supply() -> None:
    """C12: what is not synthetic is a share of the stock, 1e14 to 1e15 tokens around 3e14."""
    found = document("supply", "--tokens", "400T", "--synthetic", "0.3-0.5")
    (need,) = found["needs"]
    assert need["human_tokens"]["low"] == pytest.approx(2e14) and need["human_tokens"]["high"] == pytest.approx(2.8e14)
    assert need["share"]["low"] == pytest.approx(0.2) and need["share"]["high"] == pytest.approx(2.8)
    assert need["verdict"] == "undecided"
    plain = document("supply", "--tokens", "15T")
    assert [row["basis"] for row in plain["needs"]] == ["specified", "claimed", "claimed", "measured"]
    assert plain["needs"][0]["verdict"] == "within" and plain["needs"][0]["share"]["value"] == pytest.approx(0.05)
    assert [one["name"] for one in plain["disputes"]] == ["data-exhaustion", "synthetic-share"]
    assert document("supply", "--tokens", "5000T", code=1)["needs"][0]["verdict"] == "beyond"
    assert weigh("supply", "--tokens", "5000T", "--synthetic", "1").exit_code == 0, "nothing is taken from the stock"
    assert "2026 to 2032" in weigh("supply", "--tokens", "15T").output
    for wrong in (["--tokens", "1T", "--synthetic", "2"], ["--tokens", "1T", "--synthetic", "0.5-0.3"], []):
        assert weigh("supply", *wrong).exit_code == 2, wrong


def test_claims_are_listed_side_by_side() -> None:
    """C11: three thresholds with their sources, and no single number."""
    (found,) = document("claims", "emergence")
    claimed = [(one["low"], one["high"]) for one in found["answers"] if one["basis"] == "claimed"]
    assert claimed == [(60e9, 100e9), (1e12, None), (13e9, 70e9)]
    assert found["common"] is None
    assert all(one["source"] and one["date"] for one in found["answers"])
    assert len(document("claims")) > 3
    assert "a published article, unverified" in weigh("claims").output
    assert weigh("claims", "meaning").exit_code == 2


def test_a_law_that_is_named_twice_is_one() -> None:
    found = document("optimum", "--flops", "1e21", "--law", "kaplan", "--law", "Kaplan", "--law", "twenty")
    assert [row["law"] for row in found["laws"]] == ["kaplan", "twenty"]


def test_numbers_for_people_keep_their_digits() -> None:
    small = weigh("optimum", "--parameters", "1M", "--law", "twenty").output
    assert "6.7e-06% (2e-06% to 2e-05%) of the effective stock" in small
    assert "1.2e+14 (1.11e+14 to 1.52e+14)" in small, "operations that follow have an interval"
    assert "1,875 tokens a parameter" in weigh("loss", "--parameters", "8B", "--tokens", "15T").output
    limited = weigh("optimum", "--flops", "9.3e21", "--unique", "25B", "--law", "twenty").output
    assert "with 25B unique tokens and 9.3e+21 FLOPs" in limited
    far = weigh("loss", "--parameters", "1B", "--tokens", "1T", "--unique", "1K")
    assert far.exit_code == 2 and "1 to 1e6 epochs" in far.output


def test_laws_are_listed() -> None:
    result = weigh("laws")
    assert result.exit_code == 0 and all(name in result.output for name in laws())
    assert {law["name"] for law in json.loads(weigh("laws", "--json").output)} == laws().keys()


def test_pictures_have_lines_of_equal_loss_where_the_law_says(tmp_path: Path) -> None:
    path, svg = runs_csv(tmp_path / "runs.csv"), tmp_path / "a.svg"
    for command in (["loss", "--parameters", "70B", "--tokens", "2T"], ["optimum", "--flops", "1e24", "--served", "9T"],
                    ["fit", str(path), "--bootstrap", "20", "--predict", "1B,1T"]):  # fmt: skip
        assert weigh(*command, "--svg", str(svg)).exit_code == 0
        root = ElementTree.parse(svg).getroot()
        titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
        assert sum(title.startswith("loss ") for title in titles) >= 4, command
        assert any("least loss" in title for title in titles)
        assert not any(tag.tag.endswith("script") for tag in root.iter())
    assert sum(title.startswith("line ") for title in titles) == 24


def test_a_run_lies_between_the_lines_of_its_loss() -> None:
    """The drawn lines of equal loss, read back from their pixels, have that loss by the law."""
    marks = [iso_loss.Mark(70e9, 2e12, "run")]
    drawn = iso_loss.svg(LAW, marks, "a", "b")
    across = iso_loss._axis([70e9], iso_loss.LEFT, chart.WIDTH - iso_loss.RIGHT)
    up = iso_loss._axis([2e12], iso_loss.BOTTOM, chart.TOP + 40)
    root = ElementTree.fromstring(drawn)
    checked = 0
    for group in root.iter("{http://www.w3.org/2000/svg}g"):
        title, line = group.find("{*}title"), group.find("{*}polyline")
        if title is None or line is None or not (title.text or "").startswith("loss "):
            continue
        level = float((title.text or "").split()[1])
        for pair in (line.get("points") or "").split()[3:-3:7]:
            x, y = map(float, pair.split(","))
            parameters = across.low * (across.high / across.low) ** ((x - across.start) / (across.end - across.start))
            tokens = up.low * (up.high / up.low) ** ((y - up.start) / (up.end - up.start))
            assert LAW.loss(parameters, tokens) == pytest.approx(level, abs=0.002)
            checked += 1
    assert checked > 30


def test_a_law_of_one_quantity_has_no_such_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{n:g},{1.9 + 400 / n**0.34:g}" for n in np.geomspace(1e7, 1e10, 9)]
    path.write_text("parameters,loss\n" + "\n".join(rows), encoding="utf-8")
    result = weigh("fit", str(path), "--bootstrap", "20", "--svg", str(tmp_path / "a.svg"))
    assert result.exit_code == 2 and "leave the picture out" in result.stderr
