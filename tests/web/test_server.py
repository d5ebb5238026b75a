"""The same input gives the same numbers at every door: library, command, page, HTTP."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from pathlib import Path

import pytest
import uvicorn
from click.testing import CliRunner
from starlette.testclient import TestClient

from weighbridge import inspect
from weighbridge.cli import main
from weighbridge.web import server

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "counts.json").read_text())["models"]


@pytest.fixture
def client() -> TestClient:
    return TestClient(server.application(), base_url=f"http://{server.HOST}")


@pytest.mark.parametrize("row", GOLDEN[::4], ids=lambda row: str(row["name"]))
def test_every_door_gives_the_same_document(client: TestClient, tmp_path: Path, row: dict[str, object]) -> None:
    text = json.dumps(row["config"])
    (tmp_path / "config.json").write_text(text)
    command = CliRunner().invoke(main, ["inspect", str(tmp_path / "config.json"), "--json", "--context", "77"])
    documents = [
        inspect(tmp_path / "config.json", context_tokens=77).to_json(),
        json.loads(command.stdout),
        client.post("/api/inspect?context=77", content=text).json(),
    ]
    for document in documents:
        del document["source"]
    assert documents[0] == documents[1] == documents[2]
    page = client.post("/", data={"config": text, "context": "77"})
    assert page.status_code == 200 and f"{row['total']:,}" in page.text and "<svg" in page.text


def test_layers_are_the_same_at_both_doors(client: TestClient) -> None:
    command = CliRunner().invoke(main, ["layer", "lstm:128:256", "--json"])
    assert client.get("/api/layer", params={"spec": "lstm:128:256"}).json() == json.loads(command.stdout)


def test_claims_and_words_are_the_same_at_both_doors(client: TestClient, tmp_path: Path) -> None:
    article = tmp_path / "article.md"
    article.write_text("# Memory\n\nLlama 2 70B needs 80 GB of KV cache for 4,096 tokens.\n")
    checked = CliRunner().invoke(main, ["check", str(article), "--json"])
    assert client.post("/api/check", params={"as": "article.md"}, content=article.read_bytes()).json() == json.loads(
        checked.stdout
    )
    for words, params in ((["KV", "cache"], {"term": "KV cache"}), (["--myths"], {"myths": ""}), ([], {})):
        told = CliRunner().invoke(main, ["explain", *words, "--json"])
        assert client.get("/api/explain", params=params).json() == json.loads(told.stdout)
    for path, params in (("/api/explain", {"term": "nonsense"}), ("/api/check", {"as": "claims.xlsx"})):
        refused = client.request("POST" if "check" in path else "GET", path, params=params, content=b"")
        assert refused.status_code == 400
        assert "error" in refused.json()


def test_the_page_starts_with_an_example_that_works(client: TestClient) -> None:
    assert "What does this model weigh?" in client.get("/").text
    assert "1,235,814,400" in client.post("/", data={"config": server._EXAMPLE, "context": "0"}).text


@pytest.mark.parametrize(
    ("path", "body"),
    [("/api/inspect", b""), ("/api/inspect", b"[]"), ("/api/inspect", b"{}"),
     ("/api/inspect", b'{"model_type": "nope"}'), ("/api/inspect?context=1GB", b"{}"),
     ("/api/inspect", b"\xff\xfe"), ("/api/inspect", b'{"a":' * 10_000)],
)  # fmt: skip
def test_bad_input_is_one_sentence_and_status_400(client: TestClient, path: str, body: bytes) -> None:
    answer = client.post(path, content=body)
    assert answer.status_code == 400 and set(answer.json()) == {"error"} and "expected" in answer.json()["error"]


def test_markup_in_a_config_is_shown_as_text(client: TestClient) -> None:
    answer = client.post("/", data={"config": '{"model_type": "<script>alert(1)</script>"}', "context": "0"})
    assert answer.status_code == 400 and "<script>" not in answer.text


def test_bodies_larger_than_any_config_are_refused(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weighbridge.formats.config.LARGEST_CONFIG_BYTES", 1000)
    answer = client.post("/api/inspect", content=b'{"a": "' + b"x" * 2000 + b'"}')
    assert answer.status_code == 400 and "1000 bytes" in answer.json()["error"]


def test_other_hosts_are_refused(client: TestClient) -> None:
    """A page elsewhere cannot reach the server through a name of its own that resolves to this machine."""
    assert client.get("/", headers={"host": "evil.example"}).status_code == 400


def test_a_real_server_answers_on_the_loopback_address() -> None:
    running = uvicorn.Server(uvicorn.Config(server.application(), host=server.HOST, port=0, log_level="error"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 20
    while not running.started and time.monotonic() < deadline:
        time.sleep(0.02)
    try:
        host, port = running.servers[0].sockets[0].getsockname()
        assert host == "127.0.0.1"
        with urllib.request.urlopen(f"http://{host}:{port}/api/layer?spec=linear:100x50", timeout=10) as answer:
            assert json.load(answer)["parameters"] == 5050
    finally:
        running.should_exit = True
        thread.join(timeout=20)
