"""Is a model behind an address asked as the interface has it, and does a server that fails leave a clear sentence?"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from weighbridge.cli import main
from weighbridge.errors import ConfigError
from weighbridge.prove.engines import Opening, endpoint, open_model

Answer = Callable[[str, dict[str, Any]], tuple[int, Any]]


class Server:
    """An address whose answers are those of a function; keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Answer = lambda path, body: (200, {})
        self.asked: list[tuple[str, dict[str, Any], str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, body, self.headers.get("Authorization")))
                self.reply(*outer.answer(self.path, body))

            def do_GET(self) -> None:
                self.reply(*outer.answer(self.path, {}))

            def reply(self, status: int, document: Any) -> None:
                data = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                if status in (301, 302, 307):
                    self.send_header("Location", "http://127.0.0.1:9/v1/completions")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.server.server_port}/v1#toy"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint, "WAIT_S", 0.001)
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


def test_it_writes_by_completions_and_by_chat(server: Server) -> None:
    server.answer = lambda path, body: (200, {"choices": [
        {"text": " 4\nQ"} if path == "/v1/completions" else {"message": {"content": "4\nQ"}}]})  # fmt: skip
    plain = open_model(server.address, Opening(key="secret"))
    assert plain.write("2+2=", 8, ["\n"]) == " 4"
    path, body, key = server.asked[-1]
    assert path == "/v1/completions" and key == "Bearer secret"
    assert body == {"model": "toy", "max_tokens": 8, "temperature": 0, "stop": ["\n"], "prompt": "2+2="}
    chat = open_model(server.address, Opening(chat=True))
    assert chat.write("2+2=", 8, []) == "4\nQ" and "reads" not in chat.abilities
    path, body, key = server.asked[-1]
    assert path == "/v1/chat/completions" and body["messages"] == [{"role": "user", "content": "2+2="}] and key is None


def echoed(path: str, body: dict[str, Any]) -> tuple[int, Any]:
    """As vLLM: a sign begins the text, and the offsets count its letters; word i costs i nats; one word is written."""
    words = [word if place == 0 else f" {word}" for place, word in enumerate(body["prompt"].split(" "))]
    tokens, places = ["<|begin_of_text|>", *words, " more"], [0]
    for token in tokens[:-1]:
        places.append(places[-1] + len(token))
    values = [None, None, *(-float(place) for place in range(1, len(words))), -0.5]
    best = [None if value is None else {token: value} for token, value in zip(tokens, values, strict=True)]
    logprobs = {"tokens": tokens, "token_logprobs": values, "text_offset": places, "top_logprobs": best}
    return 200, {"choices": [{"text": body["prompt"] + " more", "logprobs": logprobs}]}


def test_likelihoods_come_from_the_tokens_of_the_echoed_prompt(server: Server) -> None:
    server.answer = echoed
    model = open_model(server.address)
    found = model.likelihood("The capital of France is", " Paris now")
    assert (found.total, found.tokens) == (-11.0, 2) and found.is_greedy
    assert model.likelihood("The capital of France is ", "Paris").total == -5.0
    assert server.asked[-1][1]["echo"] is True


@pytest.mark.parametrize(
    "choices",
    [
        [{"text": "x"}], {}, [None], "x", [{"logprobs": []}], [{"logprobs": {"tokens": None, "token_logprobs": [1]}}],
        [{"logprobs": {"tokens": ["a", " b"], "token_logprobs": [None, None]}}],
        [{"logprobs": {"tokens": ["<s>", "b"], "token_logprobs": [None, -1.0]}}],
    ],
)  # fmt: skip
def test_a_server_that_tells_no_likelihoods_is_refused(server: Server, choices: Any) -> None:
    server.answer = lambda path, body: (200, {"choices": choices})
    with pytest.raises(ConfigError, match=r"does not tell|without a log"):
        open_model(server.address).likelihood("a", " b")


def test_keys_and_passwords_are_not_repeated(server: Server) -> None:
    for address in ("http://:SECRET@127.0.0.1/v1", "http://name:SECRET@127.0.0.1/v1"):
        with pytest.raises(ConfigError) as caught:
            open_model(address)
        assert "SECRET" not in str(caught.value)
    server.answer = lambda path, body: (200, {"choices": [{"text": "x"}]})
    assert open_model(server.address, Opening(key="SECRET\r\n")).write("a", 1, []) == "x"
    assert server.asked[-1][2] == "Bearer SECRET"
    with pytest.raises(ConfigError) as caught:
        open_model(server.address, Opening(key="SEC\nRET"))
    assert "RET" not in str(caught.value)


def test_nothing_goes_through_a_proxy(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    server.answer = lambda path, body: (200, {"choices": [{"text": "x"}]})
    assert open_model(server.address).write("a", 1, []) == "x"


def test_vectors_are_in_the_order_that_was_asked(server: Server) -> None:
    server.answer = lambda path, body: (
        200,
        {"data": [{"index": 1, "embedding": [0, 1]}, {"index": 0, "embedding": [1, 0]}]},
    )
    assert open_model(server.address).embed(["a", "b"]).tolist() == [[1, 0], [0, 1]]
    with pytest.raises(ConfigError, match="vector for each text"):
        open_model(server.address).embed(["a", "b", "c"])


def test_a_name_is_asked_for_where_the_address_has_none(server: Server) -> None:
    server.answer = lambda path, body: (
        200,
        {"data": [{"id": "only"}]} if path == "/v1/models" else {"choices": [{"text": "x"}]},
    )
    assert open_model(server.address.partition("#")[0]).write("a", 1, []) == "x"
    assert server.asked[-1][1]["model"] == "only"
    server.answer = lambda path, body: (200, {"data": [{"id": "one"}, {"id": "two"}]})
    with pytest.raises(ConfigError, match="#one"):
        open_model(server.address.partition("#")[0]).write("a", 1, [])


@pytest.mark.parametrize(
    ("status", "document", "tries", "said"),
    [
        (503, {}, 4, "status 503"), (401, {"error": "no key"}, 1, "no key"), (302, {}, 1, "status 302"),
        (200, b"<html>", 1, "no JSON"), (200, {"choices": []}, 1, "without a text"), (200, [1], 1, "no JSON object"),
    ],
)  # fmt: skip
def test_a_server_that_fails_is_one_sentence(server: Server, status: int, document: Any, tries: int, said: str) -> None:
    server.answer = lambda path, body: (status, document)
    with pytest.raises(ConfigError, match=said):
        open_model(server.address, Opening(key="secret")).write("a", 1, [])
    assert len(server.asked) == tries


def test_a_busy_server_is_asked_again(server: Server) -> None:
    answers = iter([(429, {}), (500, {}), (200, {"choices": [{"text": "x"}]})])
    server.answer = lambda path, body: next(answers)
    assert open_model(server.address).write("a", 1, []) == "x"


@pytest.mark.parametrize("address", ["http://", "http://a:b@c/v1", "http://c/v1?key=x", "http://[::1"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(ConfigError, match="none of an interface"):
        open_model(address)


def test_no_server_at_all(server: Server) -> None:
    server.server.shutdown()
    server.server.server_close()
    with pytest.raises(ConfigError, match="does not answer"):
        open_model(server.address).write("a", 1, [])


def test_a_proof_that_fails_half_way_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"{n}=", "completion": str(n)}) + "\n" for n in range(30)))
    seen: list[str] = []

    def answer(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if body["model"] == "toy" and body["prompt"] == "20=" and not seen:
            return 400, {"error": "overloaded"}
        return 200, {"choices": [{"text": body["prompt"][:-1]}]}

    server.answer = answer
    words = ["prove", server.address.replace("#toy", "#base"), server.address, "--on", str(data), "--cache",
             str(tmp_path / "kept"), "--margin", "0.2", "--json"]  # fmt: skip
    first = CliRunner().invoke(main, words)
    assert first.exit_code == 2 and "line 21" in first.stderr and "overloaded" in first.stderr and not first.stdout
    asked = len(server.asked)
    seen.append("mended")
    second = CliRunner().invoke(main, words)
    found = json.loads(second.stdout)
    assert second.exit_code == 0 and found["verdict"] == "equivalent" and len(server.asked) - asked == 10
    assert any("its answers are those of one moment" in note for note in found["notes"])
    CliRunner().invoke(main, words)  # nothing broke off: the address may answer otherwise by now
    assert len(server.asked) - asked == 10 + 60


def test_texts_and_addresses_do_not_go_together(server: Server, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a"}\n')
    words = ["prove", server.address, server.address, "--on", str(tmp_path / "a.jsonl"), "--no-cache"]
    server.answer = lambda path, body: (200, {"data": "x"})
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2 and "vectors" in done.stderr
    done = CliRunner().invoke(main, [*words, "--engine", "transformers"])
    assert done.exit_code == 2 and "is an address" in done.stderr
