"""Servers that lie: refused with a sentence, within bounds of time and memory, and not followed everywhere."""

from __future__ import annotations

import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.formats.hub_double import COMMIT, Answer, Asked, Double, document, safetensors_file, serve, sharded

from weighbridge.cli import main
from weighbridge.errors import FormatError, SourceError, WeighbridgeError
from weighbridge.formats import addresses, hub, reader, safetensors
from weighbridge.formats.byte_source import MemoryFile
from weighbridge.formats.checkpoint import Checkpoint
from weighbridge.formats.http_client import Client, Limits, Response
from weighbridge.formats.http_file import HttpFile

WEIGHTS = safetensors_file({"a.weight": ("BF16", (4, 8), 64), "b.weight": ("F32", (4,), 16), "c": ("I8", (0,), 0)})
GOOD = b'HTTP/1.1 206 Partial Content\r\nContent-Length: 8\r\nContent-Range: bytes 0-7/8\r\nETag: "x"\r\n\r\nabcdefgh'
QUICK = Limits(idle_s=0.3, request_s=1.0, attempts=2, first_wait_s=0.0)


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Double]:
    with serve({"org/name": {"model.safetensors": WEIGHTS, "config.json": b"{}"}, "org/large": sharded(3)}) as running:
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
        yield running


class Raw:
    """A server that sends the same bytes to whoever connects, and closes."""

    def __init__(self, answer: bytes = b"", drip_s: float = 0.0) -> None:
        self.answer, self.drip_s, self.connections = answer, drip_s, 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                accepted, _ = self.listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(accepted,), daemon=True).start()

    def _answer(self, accepted: socket.socket) -> None:
        try:
            with accepted:
                accepted.settimeout(5)
                accepted.recv(65536)
                if not self.drip_s:
                    accepted.sendall(self.answer)
                for byte in self.answer if self.drip_s else b"":
                    accepted.sendall(bytes([byte]))
                    time.sleep(self.drip_s)
        except OSError:
            return


@pytest.fixture(scope="module")
def raw() -> Iterator[Raw]:
    server = Raw()
    yield server
    server.listening.close()


def read_raw(server: Raw, limits: Limits = QUICK, length: int = 8) -> bytes:
    asking = Client(limits=limits, sleep=lambda _: None)
    try:
        return HttpFile(asking, f"http://127.0.0.1:{server.port}/a", "a").read(0, length)
    finally:
        asking.close()


def refuse(call: Callable[[], object], part: str = "") -> str:
    """One sentence, in a second of processor time and 100 MB."""
    begin = time.process_time()
    tracemalloc.start()
    try:
        with pytest.raises(WeighbridgeError) as error:
            call()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    told = str(error.value)
    assert part in told and len(told) < 1500 and told.isprintable(), told
    assert time.process_time() - begin < 3 and peak < 100_000_000
    return told


def head(*lines: str, status: str = "206 x", body: bytes = b"") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


RANGE = "Content-Range: bytes 0-7/8"


@pytest.mark.parametrize(("answer", "part"), [
    (b"", "closed the connection without an answer"),
    (b"\0" * 1000, "closed the connection without an answer"),
    (b"SSH-2.0-OpenSSH_9\r\n\r\n", "expected HTTP/1.1 and a status"),
    (b"HTTP/2 200\r\n\r\n", "expected HTTP/1.1 and a status"),
    (b"HTTP/1.1 0200 x\r\n\r\n", "expected HTTP/1.1 and a status"),
    (head(*(f"X-{n}: 1" for n in range(500))), "headers"),
    (head("X: " + "a" * 200_000), "a head of more than 65,536 bytes"),
    (b"HTTP/1.1 200 " + b"a" * 300_000, "a head of more than 65,536 bytes"),
    (head("no colon"), "expected a name, a colon and a value"),
    (head("X: 1", " folded: 2"), "expected a name, a colon and a value"),
    (head("X : 1"), "expected a name, a colon and a value"),
    (head("X: " + " " * 60_000 + "\0"), "expected a name, a colon and a value"),
    (head("X: x" + " " * 60_000 + "\r"), "expected a name, a colon and a value"),
    (head(RANGE, "Content-Length: 8", "Content-Length: 9", body=b"abcdefgh"), "one number of bytes"),
    (head(RANGE, "Content-Length: -8", body=b"abcdefgh"), "one number of bytes"),
    (head(RANGE, "Content-Length: 8e3", body=b"abcdefgh"), "one number of bytes"),
    (head(RANGE, "Content-Length: " + "9" * 30, body=b"abcdefgh"), "one number of bytes"),
    (head(RANGE, "Content-Length: 8", "Content-Encoding: gzip", body=b"abcdefgh"), "plain bytes"),
    (head(RANGE, "Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n"), "a length or chunks"),
    (head(RANGE, "Content-Length: 8", body=b"abc"), "broke off after"),
    (head(RANGE, "Content-Length: 7", body=b"abcdefg"), "came with 7 bytes where 8 were announced"),
    (head(RANGE, "Content-Length: 0"), "came with 0 bytes where 8 were announced"),
    (head("Content-Range: bytes 1-8/9", "Content-Length: 8", body=b"abcdefgh"), "sends the range 'bytes 1-8/9'"),
    (head("Content-Range: bytes 0-7/*", "Content-Length: 8", body=b"abcdefgh"), "sends the range"),
    (head("Content-Range: bytes 0-7/4", "Content-Length: 8", body=b"abcdefgh"), "sends the range"),
    (head("Content-Range: bytes 7-0/8", "Content-Length: 8", body=b"abcdefgh"), "sends the range"),
    (head("Content-Range: bytes 0-7/" + "9" * 40, "Content-Length: 8", body=b"abcdefgh"), "sends the range"),
    (head("Content-Type: multipart/byteranges; boundary=x", "Content-Length: 8", body=b"abcdefgh"), "sends the range"),
    (head("Content-Range: bytes 0-7/999999999999", "Content-Length: 8", body=b"abcdefgh"), "sends the range"),
    (head("Content-Length: 900000000000", status="200 x", body=b"abcdefgh"), "broke off after"),
    (head("Transfer-Encoding: chunked", status="200 x", body=b"zz\r\nabcdefgh"), "a number in base 16"),
    (head("Transfer-Encoding: chunked", status="200 x", body=b"-8\r\nabcdefgh"), "a number in base 16"),
    (head("Transfer-Encoding: chunked", status="200 x", body=b"8" * 4000), "a chunk's size"),
    (head("Transfer-Encoding: chunked", status="200 x", body=b"8\r\nabcdefghXXXX\r\n"), "between chunks"),
    (head("Transfer-Encoding: chunked", status="200 x", body=b"ffffffffffffff\r\nabcdefgh"), "broke off after"),
    (head("Transfer-Encoding: chunked", status="200 x", body=b"0\r\n" + b"X: 1\r\n" * 5000), "headers after"),
    (head(status="100 Continue") * 50, "interim answers"),
    (head(status="101 Switching Protocols"), "interim answers"),
    (head(status="204 No Content"), "is not given"),
    (head("Location: http://x", status="304 Not Modified"), "is not given"),
    (head("Content-Range: bytes */8", status="416 x"), "is not given"),
], ids=lambda value: value[:24] if isinstance(value, str) else "")  # fmt: skip
def test_answers_that_break_the_protocol(raw: Raw, answer: bytes, part: str) -> None:
    raw.answer = answer
    refuse(lambda: read_raw(raw), part)


def test_the_good_answer_is_good(raw: Raw) -> None:
    raw.answer = GOOD
    assert read_raw(raw) == b"abcdefgh"
    raw.answer = head(status="100 Continue") + GOOD
    assert read_raw(raw) == b"abcdefgh"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_mutated_answers_bring_the_bytes_or_a_sentence(raw: Raw, data: st.DataObject) -> None:
    answer = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(answer) - 1))
        piece = data.draw(
            st.sampled_from([b"", b"\r\n", b"0", b"9", b"-", b"\0", b"\xff", b":", b"chunked", b"A" * 50])
        )
        answer[at : at + data.draw(st.integers(0, 4))] = piece
    raw.answer = bytes(answer)
    try:
        found = read_raw(raw, Limits(idle_s=0.2, request_s=0.5, attempts=1))
    except WeighbridgeError as error:
        assert str(error).isprintable()
    else:
        assert len(found) == 8


def test_an_answer_that_drips_ends_in_time() -> None:
    server = Raw(head(RANGE, "X: " + "a" * 10_000), drip_s=0.05)
    begin = time.monotonic()
    told = refuse(lambda: read_raw(server, Limits(idle_s=5.0, request_s=0.6)), "did not answer in time")
    assert time.monotonic() - begin < 3 and "127.0.0.1" in told
    server.listening.close()


def test_all_requests_together_end_in_time(raw: Raw) -> None:
    raw.answer = GOOD
    asking = Client(limits=Limits(total_s=0.0))
    with pytest.raises(SourceError, match="did not answer in time"):
        HttpFile(asking, f"http://127.0.0.1:{raw.port}/a", "a").read(0, 8)


def test_a_body_without_an_end_is_read_to_a_bound(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weighbridge.formats.http_file.MAX_WHOLE_BYTES", 2**20)
    endless = head("Transfer-Encoding: chunked", status="200 x") + b"10000\r\n" + bytes(65536) + b"\r\n"
    double.twist = lambda asked, answer, before: Answer(raw=endless + (b"10000\r\n" + bytes(65536) + b"\r\n") * 200)
    refuse(lambda: reader.read(f"{double.endpoint}/files/a.safetensors"), "ignores ranges")


def test_a_body_in_chunks_of_one_byte_takes_time_by_its_length_alone(raw: Raw) -> None:
    raw.answer = head("Transfer-Encoding: chunked", status="200 x") + b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    begin = time.process_time()
    asking = Client()
    assert asking.get(f"http://127.0.0.1:{raw.port}/a", most=200_000).body == b"x" * 100_000
    assert time.process_time() - begin < 1
    asking.close()


# --- redirects ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "part"), [
    ("file:///etc/passwd", "of the scheme 'file'"), ("ftp://host/a", "of the scheme 'ftp'"),
    ("gopher://127.0.0.1:6379/_x", "of the scheme 'gopher'"), ("javascript:alert(1)", "of the scheme"),
    ("http://[::1", "expected an address"),
    ("http://user:geheim@127.0.0.1/a", "holds a user or a password"), ("http://a b/", "expected an address"),
    ("http://127.0.0.1:99999999/", "expected an address"), ("\x7f", "expected an address"),
    ("http://\xfc..x/a", "expected an address"), ("http://" + "\xfc" * 80, "expected an address"),
])  # fmt: skip
def test_redirects_to_what_is_no_address(double: Double, target: str, part: str) -> None:
    double.twist = lambda asked, answer, before: Answer(302, {"Location": target})
    told = refuse(lambda: reader.read("org/name"), part)
    assert "geheim" not in told
    assert len(double.asked) == 1


def test_redirects_without_an_end(double: Double) -> None:
    double.twist = lambda asked, answer, before: Answer(307, {"Location": f"/loop/{before}"})
    refuse(lambda: reader.read("org/name"), "redirect number 6")
    assert len(double.asked) == 6


def test_a_public_server_does_not_lead_to_this_machine(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 plays the public internet; 127.0.0.2 and its like stay what they are, and are never connected to."""
    real = addresses.is_public
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1" or real(address))
    with serve({"cdn": {"model.safetensors": WEIGHTS}}, host="127.0.0.2") as inside:
        port = inside.endpoint.rpartition(":")[2]
        for place in (inside.endpoint, f"http://localhost:{port}", "http://169.254.169.254/latest", "http://10.0.0.1",
                      "http://[::1]", "http://[::ffff:127.0.0.2]", "http://0.0.0.0", "http://x.localhost"):  # fmt: skip
            double.twist = lambda asked, answer, before, place=place: Answer(302, {"Location": f"{place}/cdn/x"})
            refuse(lambda: reader.read("org/name"), "an address of this machine or its network")
        assert inside.asked == []


def test_a_public_name_that_resolves_to_this_machine_is_not_followed(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What counts is the address that a name resolves to, not the name."""
    real_public, real_lookup = addresses.is_public, socket.getaddrinfo
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1" or real_public(address))

    def lookup(host: str | bytes, port: int, **options: int) -> list[object]:
        named = host.decode() if isinstance(host, bytes) else host
        return list(real_lookup("127.0.0.2" if named == "cdn.example" else host, port, **options))

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    double.twist = lambda asked, answer, before: Answer(302, {"Location": "http://cdn.example:9/x"})
    refuse(lambda: reader.read("org/name"), "leads to cdn.example, an address of this machine or its network")


def test_a_public_name_does_not_become_this_machine_later(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirect is remembered, and its name resolved again for the next range: to this machine then."""
    real_lookup, looked_up = socket.getaddrinfo, list[str]()
    monkeypatch.setattr(addresses, "is_public", lambda address: address == "127.0.0.1")
    with serve({"cdn": {"a.bin": bytes(200_000)}}, host="127.0.0.2") as inside:

        def lookup(host: str | bytes, port: int, **options: int) -> list[object]:
            named = host.decode() if isinstance(host, bytes) else host
            if named != "cdn.example":
                return list(real_lookup(host, port, **options))
            looked_up.append(named)
            place = double if len(looked_up) == 1 else inside
            address, _, actual = place.endpoint.removeprefix("http://").partition(":")
            return list(real_lookup(address, int(actual), **options))

        def twist(asked: Asked, answer: Answer, before: int) -> Answer | None:
            answer.headers["Connection"] = "close"
            return None if before else Answer(302, {"Location": "http://cdn.example/cdn/a.bin"})

        monkeypatch.setattr(socket, "getaddrinfo", lookup)
        double.repositories["cdn"] = {"a.bin": bytes(200_000)}
        double.twist = twist
        with closing(Client()) as client:
            file = HttpFile(client, f"{double.endpoint}/org/name/resolve/main/a.bin", "a.bin")
            assert file.read(0, 8) == bytes(8)
            refuse(lambda: file.read(150_000, 8), "leads to cdn.example")
        assert len(looked_up) == 2 and inside.asked == []


def test_a_server_of_this_machine_may_lead_to_another_one(double: Double) -> None:
    with serve({}, host="127.0.0.2") as network:
        double.network = network
        assert len(reader.read("org/large").tensors) == 6
        assert network.asked


def test_https_does_not_lead_to_http(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [Response("", 302, {"location": "http://host/a"}, b"", True), Response("", 200, {}, b"stolen", True)]
    monkeypatch.setattr(Client, "_ask", lambda *_: (answers.pop(0), "8.8.8.8"))
    refuse(lambda: Client().get("https://host/a", most=10), "redirects from https to http://host/a")
    assert len(answers) == 1


# --- listings and files that lie ------------------------------------------------------------------------------------


def listing(**changes: object) -> Answer:
    siblings = [{"rfilename": "model.safetensors", "size": len(WEIGHTS)}]
    return document({"sha": COMMIT, "siblings": siblings, **changes})


@pytest.mark.parametrize("name", ["../../model.safetensors", "/etc/passwd", "a\\..\\b.safetensors", "..", "", "a//b",
                                  "a/../b",
                                  "C:x.safetensors", "a\n.safetensors", 7, None, "x" * 2000])  # fmt: skip
def test_names_that_lead_out_are_left_out(double: Double, tmp_path: Path, name: object) -> None:
    double.twist = lambda asked, answer, before: listing(siblings=[{"rfilename": name}])
    refuse(lambda: reader.read("org/name"), "holds no model that can be read")
    assert len(double.asked) == 1


@pytest.mark.parametrize("answer", [
    Answer(200, {}, b""), Answer(200, {}, b"[" * 100_000), Answer(200, {}, b'{"sha": 1, "sha": 2}'),
    Answer(200, {}, b"[1,2]"), document({}), document({"sha": COMMIT, "siblings": {"a": 1}}), document(None),
    document({"sha": "../../../../etc", "siblings": []}), Answer(200, {"Content-Type": "text/html"}, b"<html>"),
    Answer(200, {}, b'{"siblings": [' + b'{},' * 3_000_000 + b"{}]}"),
])  # fmt: skip
def test_listings_that_are_none(double: Double, answer: Answer) -> None:
    double.twist = lambda asked, good, before: answer
    refuse(lambda: reader.read("org/name"))


def test_a_commit_that_is_a_path_touches_no_path(double: Double, tmp_path: Path) -> None:
    """What the hub calls a commit becomes part of a path in the cache, so it must look like one."""
    outside = tmp_path / "hf" / "hub" / "outside"
    outside.mkdir(parents=True)
    (outside / "model.safetensors").write_bytes(b"secret")
    double.twist = lambda asked, answer, before: listing(sha="../../outside") if "/api/" in asked.path else None
    found = reader.read("org/name")
    assert len(found.tensors) == 3 and found.remote is not None and not found.remote.cached


def test_pages_without_an_end_and_pages_elsewhere(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_PAGES", 5)

    def endless(asked: Asked, answer: Answer, before: int) -> Answer:
        rows = document([{"type": "file", "path": f"{before}.txt", "size": 1}])
        rows.headers["Link"] = f'</api/models/org/name/tree/main?cursor={before}>; rel="next"'
        return Answer(404) if "/revision/" in asked.path else rows

    double.twist = endless
    refuse(lambda: reader.read("org/name"), "more than 5 pages")

    def elsewhere(asked: Asked, answer: Answer, before: int) -> Answer:
        rows = document([])
        rows.headers["Link"] = '<http://127.0.0.2:9/next>; rel="next"'
        return Answer(404) if "/revision/" in asked.path else rows

    double.twist = elsewhere
    refuse(lambda: reader.read("org/name"), "continues its list at http://127.0.0.2:9/next")


def test_pages_with_files_without_an_end(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "MAX_FILES", 100)

    def twist(asked: Asked, answer: Answer, before: int) -> Answer:
        if "/revision/" in asked.path:
            return Answer(404)
        page = document([{"type": "file", "path": f"{before}/{number}", "size": 1} for number in range(30)])
        page.headers["Link"] = f'<{double.endpoint}/api/models/org/name/tree/main?cursor={before}>; rel="next"'
        return page

    double.twist = twist
    refuse(lambda: reader.read("org/name"), "has more than 100 files")
    assert len(double.asked) == 5


def test_another_commit_than_the_one_that_was_named(double: Double) -> None:
    other = "f" * 40
    double.twist = lambda asked, answer, before: document({"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]})
    refuse(lambda: reader.read(f"org/name@{other}"), f"commit {COMMIT} of org/name where {other} was asked for")


def test_a_size_that_the_listing_makes_up(double: Double) -> None:
    for size in (0, 1, len(WEIGHTS) + 1, 10**18):
        rows = [{"rfilename": "model.safetensors", "size": size}]
        double.twist = lambda asked, answer, before, rows=rows: (
            listing(siblings=rows) if "/api/" in asked.path else None
        )
        refuse(lambda: reader.read("org/name"))


def test_a_shard_that_changes_between_its_two_requests(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {f"layer.{n}.weight": ("BF16", (4, 8), 64) for n in range(4000)}
    double.repositories["org/name"] = {"model.safetensors": safetensors_file(rows)}

    def change(asked: Asked, answer: Answer, before: int) -> None:
        if before == 2:
            answer.headers["ETag"] = '"another"'

    double.twist = change
    refuse(lambda: reader.read("org/name"), "has changed while it was read")


def test_errors_of_shards_read_at_once_are_one_error(double: Double) -> None:
    double.repositories["org/large"]["model-00002-of-00003.safetensors"] = b"x" * 100
    refuse(lambda: reader.read("org/large"), "model-00002-of-00003.safetensors")
    double.repositories["org/large"]["model-00002-of-00003.safetensors"] = b""
    refuse(lambda: reader.read("org/large"), "model-00002-of-00003.safetensors")


def test_messages_hold_no_control_characters_of_a_server(double: Double) -> None:
    double.twist = lambda asked, answer, before: Answer(403, {"X-Error-Message": "\x1b[2J<script>" + "a" * 5000})
    refuse(lambda: reader.read("org/name"), "may not be read")


# --- the command ----------------------------------------------------------------------------------------------------


def weigh(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(main, list(arguments))
    return done.exit_code, done.stdout, done.stderr


def test_the_command_prints_requests_and_bytes(double: Double) -> None:
    code, output, errors = weigh("inspect", "org/large")
    assert code == 0 and "read from afar: 4 requests, " in output and f"commit {COMMIT}" in output
    assert errors == "asking 127.0.0.1 for org/large\n"
    code, output, _ = weigh("inspect", "org/large", "--json")
    remote = json.loads(output)["remote"]
    assert code == 0 and (remote["requests"], remote["cached"], remote["revision"]) == (4, False, COMMIT)


def test_other_commands_read_names_of_the_hub_too(double: Double) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100}  # fmt: skip
    double.repositories["org/name"] = {"config.json": json.dumps(config).encode()}
    code, output, _ = weigh("fit", "org/name", "--on", "h100-sxm", "--json")
    assert code == 0 and json.loads(output)["memory"]["fits"] is True


def test_a_cut_connection_is_one_sentence_and_exit_code_2(double: Double, tmp_path: Path) -> None:
    def cut(asked: Asked, answer: Answer, before: int) -> None:
        answer.cut = 10 if "resolve" in asked.path else None

    double.twist = cut
    picture = tmp_path / "a.svg"
    code, output, errors = weigh("inspect", "org/large", "--svg", str(picture), "--json")
    assert (code, output) == (2, "") and errors.count("error: ") == 1 and "broke off" in errors
    assert not picture.exists() and not (tmp_path / "hf").exists()


def test_weights_are_not_fetched_for_values(double: Double) -> None:
    code, output, errors = weigh("inspect", "org/large", "--values")
    assert (code, output) == (2, "") and "weights on this machine for --values" in errors


def test_a_mistyped_path_is_said_to_be_asked_for(double: Double) -> None:
    code, output, errors = weigh("inspect", "models/llama")
    assert (code, output) == (2, "")
    assert errors.startswith(
        "asking 127.0.0.1 for models/llama\nerror: models/llama is no path, no name of the catalogue"
    )


# --- a header cut at its punctuation says what the parser says ------------------------------------------------------


def parsed(data: bytes, monkeypatch: pytest.MonkeyPatch | None = None) -> Checkpoint | FormatError:
    try:
        return safetensors.read(MemoryFile("a.safetensors", data))
    except FormatError as error:
        return error


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_the_quick_way_through_a_header_is_the_same_way(data: st.DataObject) -> None:
    """Mutated headers: either the quick way gives up, or both ways see the same."""
    rows = {"a.weight": ("BF16", (4, 8), 64), "b.1.w": ("F32", (), 4), "c": ("I8", (0, 3), 0), "d": ("F4", (2, 4), 4)}
    file = bytearray(safetensors_file(rows, blanks=data.draw(st.integers(0, 9))))
    length = int.from_bytes(file[:8], "little")
    if data.draw(st.booleans()):
        meta = (
            b'"__metadata__":{"format":"pt","x":"}"},'
            if data.draw(st.booleans())
            else b'"__metadata__":{"format":"pt"},'
        )
        file[9:9] = meta
        length += len(meta)
    header = bytearray(file[8 : 8 + length])
    pieces = [b"", b"0", b"1", b",", b'"', b"}", b"{", b"]", b"[", b" ", b"-", b"\\", b"\t", b"\x7f", b"\xc3\xa9",
              b"\xff", b":", b"e", b".", b"true", b'"a.weight"', b"]},", b'"dtype":"F32",',
              b"__metadata__"]  # fmt: skip
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(header)))
        header[at : at + data.draw(st.integers(0, 3))] = data.draw(st.sampled_from(pieces))
    whole = len(header).to_bytes(8, "little") + bytes(header) + bytes(72)
    head_ = whole[: 8 + len(header)]
    source = MemoryFile("a.safetensors", whole)
    quick = safetensors._compact(head_, source, "a.safetensors", {})
    try:
        strict = safetensors._parsed(head_, source, "a.safetensors")
    except FormatError:
        assert quick is None, head_
        return
    if quick is not None:
        assert quick[0] == strict[0]
        assert list(quick[1].tensors()) == list(strict[1].tensors())


def test_the_quick_way_is_taken_for_what_the_reference_library_writes(tmp_path: Path) -> None:
    import numpy as np
    import safetensors.numpy as reference

    rows = {
        f"layers.{n}.weight": np.zeros((n % 3, 8), dtype) for n, dtype in enumerate(["float16", "float32", "int64"] * 9)
    }
    reference.save_file(rows, tmp_path / "a.safetensors", metadata={"format": "pt"})
    data = (tmp_path / "a.safetensors").read_bytes()
    head_ = data[: 8 + int.from_bytes(data[:8], "little")]
    found = safetensors._compact(head_, MemoryFile("a.safetensors", data), "a.safetensors", {})
    assert found is not None and sorted(found[1].names) == sorted(rows) and found[0] == {"format": "pt"}
