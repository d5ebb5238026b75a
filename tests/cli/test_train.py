"""`weigh train`: exit codes, what is refused, and that the web answers as the command does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from starlette.testclient import TestClient

from weighbridge.cli import main
from weighbridge.web import server


def weigh(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["train", *arguments])


BASE = ("llama-2-7b", "--tokens", "10M", "--seq", "512")


def test_exit_codes_say_whether_it_can_be() -> None:
    assert weigh(*BASE, "--on", "a100-80", "--method", "lora").exit_code == 0
    assert weigh(*BASE, "--on", "rtx-4090").exit_code == 1, "does not fit"
    assert weigh(*BASE, "--on", "a100-80", "--method", "lora", "--claimed-hours", "1000").exit_code == 0
    assert weigh(*BASE, "--tokens", "1T", "--on", "h100-sxm", "--devices", "64", "--claimed-hours", "1").exit_code == 1


@pytest.mark.parametrize(
    "options",
    [("--devices", "3", "--tp", "3"), ("--method", "lora", "--rank", "1e18"), ("--price", "nan"), ("--devices", "0"),
     ("--tokens", "0"), ("--optimizer", "newton"), ("--unique", "0"), ("--claimed-hours", "0"), ("--zero", "4"),
     ("--micro-batch", "0"), ("--method", "prompt"), ("--compare", "--claimed-hours", "10"),
     ("--compare", "--svg", "x.svg"), ("--trials", "1"), ("--item", "data"), ("--checkpoint-days", "3"),
     ("--checkpoints", "3", "--storage-class", "attic"), ("--watts", "0")],
    ids=" ".join,
)  # fmt: skip
def test_what_cannot_be_asked_is_one_message(options: tuple[str, ...]) -> None:
    result = weigh(*BASE, "--on", "h100-sxm", *options)
    assert result.exit_code == 2
    assert "rror: " in result.stderr and "Traceback" not in result.stderr
    assert result.stdout == ""
    assert "--methods" not in result.stderr, "there is no such option"


def test_a_comparison_in_which_nothing_fits_is_a_no() -> None:
    table = weigh(*BASE, "--on", "a100-80", "--compare")
    assert table.exit_code == 0
    assert [line.split()[0] for line in table.stdout.splitlines() if "8,388,608" in line or "8.389M" in line] == [
        "lora", "qlora"]  # fmt: skip
    assert weigh("llama-3.1-405b", "--tokens", "10M", "--on", "rtx-4090", "--compare").exit_code == 1


def test_the_page_has_the_project_where_there_is_one(tmp_path: Path) -> None:
    page = tmp_path / "plan.html"
    run = ("7B", "--tokens", "1B", "--on", "h100-sxm", "--devices", "8", "--html", str(page))
    assert weigh(*run, "--item", "data<b>=5000", "--trials", "0.2").exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert "The whole project, USD" in text
    assert "data&lt;b&gt;" in text and "data<b>" not in text
    assert "trials and failed runs" in text
    assert weigh(*run).exit_code == 0
    assert "The whole project" not in page.read_text(encoding="utf-8")


def test_the_web_answers_as_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = TestClient(server.application(), base_url=f"http://{server.HOST}")
    options = {"tokens": "1B", "on": "h100-sxm", "devices": "8", "seq": "2048", "method": "lora", "grid": "france"}
    command = weigh("llama-2-7b", *(part for name, one in options.items() for part in (f"--{name}", one)), "--json")
    assert command.stderr == ""
    assert client.get("/api/train", params={"model": "llama-2-7b", **options}).json() == json.loads(command.stdout)
    paid = {"watts": "350-400", "trials": "0.15-0.3", "checkpoints": "3", "checkpoint_days": "90", "price": "2-3",
            "storage_class": "gcs-standard", "claimed_hours": "100",
            "item": ["data=5000", "upkeep=10/month"]}  # fmt: skip
    typed = [part for name, one in paid.items() for each in ([one] if isinstance(one, str) else one)
             for part in (f"--{name.replace('_', '-')}", each)]  # fmt: skip
    command = weigh("7B", "--tokens", "1B", "--on", "h100-sxm", "--devices", "8", *typed, "--json")
    answer = client.get(
        "/api/train", params={"parameters": "7B", "tokens": "1B", "on": "h100-sxm", "devices": "8", **paid}
    )
    told = json.loads(command.stdout)
    assert answer.json() == {**told, "source": "7000000000"}
    assert len(told["project"]["items"]) == 5
    few = {"tokens": "10M", "on": "a100-80", "seq": "512"}
    typed = [part for name, one in few.items() for part in (f"--{name}", one)]
    compared = weigh("llama-2-7b", *typed, "--compare", "--json")
    ways = client.get("/api/train", params={"model": "llama-2-7b", **few, "compare": "1"})
    assert ways.json() == json.loads(compared.stdout)
    refused = {"model": "llama-2-7b", **few, "compare": "1", "claimed_hours": "5"}
    assert client.get("/api/train", params=refused).status_code == 400
    monkeypatch.chdir(tmp_path)
    Path("7000000000").write_text('{"model_type": "secret"}')
    found = client.get("/api/train", params={"parameters": "7000000000", **options})
    assert found.status_code == 200
    assert found.json()["parameters"] == 7_000_000_000
    for parameters in ("./config.json", "/etc/passwd", "", "-1", "nan", "7000000000x"):
        assert client.get("/api/train", params={"parameters": parameters, **options}).status_code == 400
    assert client.get("/api/train", params={"model": "/etc/passwd", **options}).status_code in (400, 404)
    assert client.get("/api/train", params={"parameters": "7B", "devices_file": "x", **options}).status_code == 400
