"""Files behind addresses: read in ranges, with every answer held against what was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.formats.hub_double import Answer, Asked, Double, part, safetensors_file, serve, sharded

from weighbridge.errors import FormatError, SourceError
from weighbridge.formats import reader
from weighbridge.formats.addresses import environment_proxies, is_public, origin, shown
from weighbridge.formats.http_client import Client, CutError, Limits
from weighbridge.formats.http_file import READ_AHEAD_BYTES, HttpFile, folder_of
from weighbridge.formats.parallel import mapped

DATA = bytes(range(256)) * 1024
QUICK = Limits(idle_s=0.4, request_s=2.0, first_wait_s=0.01)


@pytest.fixture
def double() -> Iterator[Double]:
    with serve({"files": {"a.bin": DATA, "empty.bin": b"", "small.json": b"{}"}}) as running:
        yield running


CLIENTS: list[Client] = []


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def client(
    waits: list[float] | None = None, limits: Limits = QUICK, proxies: Mapping[str, str] | None = None
) -> Client:
    asking = Client(limits=limits, proxies=proxies or {}, sleep=(waits if waits is not None else []).append)
    CLIENTS.append(asking)
    return asking


def file(double: Double, name: str = "a.bin", asking: Client | None = None, size: int | None = None) -> HttpFile:
    return HttpFile(asking or client(), f"{double.endpoint}/files/{name}", name, size)


def test_one_request_tells_size_and_beginning(double: Double) -> None:
    asking = client()
    read = file(double, asking=asking)
    assert read.size == len(DATA)
    assert read.read(0, 8) == DATA[:8] and read.read(1000, 20) == DATA[1000:1020]
    assert asking.traffic.requests == 1 and asking.traffic.bytes_read == READ_AHEAD_BYTES
    assert double.asked[0].headers["range"] == f"bytes=0-{READ_AHEAD_BYTES - 1}"


def test_further_ranges_are_asked_for(double: Double) -> None:
    read = file(double)
    assert read.read(200_000, 10) == DATA[200_000:200_010]
    assert read.read(len(DATA) - 3, 3) == DATA[-3:]
    assert read.read(0, len(DATA)) == DATA
    with pytest.raises(FormatError):
        read.read(len(DATA) - 3, 4)


def test_a_known_size_saves_the_first_question(double: Double) -> None:
    asking = client()
    read = file(double, asking=asking, size=len(DATA))
    assert asking.traffic.requests == 0
    assert read.read(100_000, 100_000) == DATA[100_000:200_000]
    assert asking.traffic.requests == 1


def test_an_empty_file_and_a_small_one(double: Double) -> None:
    assert file(double, "empty.bin").size == 0
    assert file(double, "empty.bin").read(0, 0) == b""
    assert file(double, "small.json").read(0, 2) == b"{}"


def test_connections_are_kept_open(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    real = socket.socket.connect

    def connect(sock: socket.socket, place: tuple[str, int]) -> None:
        opened.append(place)
        real(sock, place)

    monkeypatch.setattr(socket.socket, "connect", connect)
    read = file(double)
    for offset in range(0, 200_000, 66_000):
        read.read(offset, 10)
    assert len(double.asked) == 4 and len(opened) == 1


def test_a_kept_connection_that_was_closed_is_opened_again(double: Double) -> None:
    def close_after(asked: Asked, answer: Answer, before: int) -> Answer | None:
        if before == 0:
            answer.raw = _raw(answer)  # says nothing of closing, and closes
        return None

    double.twist = close_after
    read = file(double)
    assert read.size == len(DATA)
    assert read.read(200_000, 4) == DATA[200_000:200_004]


def _raw(answer: Answer) -> bytes:
    head = f"HTTP/1.1 {answer.status} x\r\nContent-Length: {len(answer.body)}\r\n"
    return (head + "".join(f"{n}: {v}\r\n" for n, v in answer.headers.items()) + "\r\n").encode() + answer.body


def test_gzip_is_never_asked_for(double: Double) -> None:
    assert file(double).size
    assert double.asked[0].headers["accept-encoding"] == "identity"
    assert "authorization" not in double.asked[0].headers


def test_a_server_that_ignores_ranges_is_read_from_the_start(double: Double) -> None:
    double.twist = lambda asked, answer, before: part(DATA, None, {})
    read = file(double)
    assert (read.size, read.read(100_000, 50)) == (len(DATA), DATA[100_000:100_050])


def test_a_server_that_ignores_ranges_is_asked_for_the_whole_once(double: Double) -> None:
    double.twist = lambda asked, answer, before: part(DATA, None, {})
    read = file(double)
    for offset in (0, len(DATA) - 20, 70_000, 140_000, 0):
        assert read.read(offset, 20) == DATA[offset : offset + 20]
    assert len(double.asked) == 2


def test_a_server_that_ignores_ranges_is_not_read_to_a_far_place(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("weighbridge.formats.http_file.MAX_WHOLE_BYTES", 100_000)
    double.twist = lambda asked, answer, before: part(DATA, None, {})
    read = file(double, size=len(DATA))
    assert read.read(10, 20) == DATA[10:30]
    with pytest.raises(SourceError, match="ignores ranges, and bytes up to 262,144 are needed"):
        read.read(200_000, 10)


def test_chunks_without_a_length_are_read(double: Double) -> None:
    def chunked(asked: Asked, answer: Answer, before: int) -> Answer:
        pieces = [DATA[at : at + 100_000] for at in range(0, len(DATA), 100_000)]
        body = b"".join(b"%x;note=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\nTrailer: 1\r\n\r\n"
        return Answer(200, {"Transfer-Encoding": "chunked"}, body)

    double.twist = chunked
    assert file(double).read(0, len(DATA)) == DATA


def test_a_cut_connection_goes_on_where_it_broke(double: Double) -> None:
    def cut_once(asked: Asked, answer: Answer, before: int) -> None:
        answer.cut = 1000 if before == 0 else None

    double.twist = cut_once
    read = file(double, size=len(DATA))
    assert read.read(500, 200_000) == DATA[500:200_500]
    assert [asked.headers["range"] for asked in double.asked] == ["bytes=500-200499", "bytes=1500-200499"]


def test_a_connection_that_is_cut_twice_is_an_error(double: Double) -> None:
    def cut(asked: Asked, answer: Answer, before: int) -> None:
        answer.cut = 10

    double.twist = cut
    with pytest.raises(CutError, match="broke off after 10 bytes"):
        file(double).read(0, 100)


def test_a_file_that_changes_is_an_error(double: Double) -> None:
    read = file(double)
    assert read.read(0, 4) == DATA[:4]
    double.repositories["files"]["a.bin"] = DATA[::-1]
    with pytest.raises(SourceError, match="has changed while it was read"):
        read.read(200_000, 4)


def test_a_file_that_grows_is_an_error_even_without_validators(double: Double) -> None:
    def without(asked: Asked, answer: Answer, before: int) -> None:
        del answer.headers["ETag"]

    double.twist = without
    read = file(double)
    assert read.read(0, 4) == DATA[:4]
    double.repositories["files"]["a.bin"] = DATA + b"x"
    with pytest.raises(SourceError, match="it has 262,145 bytes, and had 262,144 before"):
        read.read(200_000, 4)


def test_another_size_than_the_listing_gave_is_an_error(double: Double) -> None:
    with pytest.raises(SourceError, match="has changed"):
        file(double, size=len(DATA) + 1).read(0, 4)


@pytest.mark.parametrize(("status", "part_"), [(401, "may not be read"), (403, "may not be read"),
                                               (404, "is not there"), (418, "is not given"), (429, "too many requests"),
                                               (500, "the server has a fault")])  # fmt: skip
def test_refusals_say_what_they_mean(double: Double, status: int, part_: str) -> None:
    double.twist = lambda asked, answer, before: Answer(status, {"Retry-After": "7"})
    with pytest.raises(SourceError, match=part_) as error:
        file(double).read(0, 1)
    assert f"status {status}" in str(error.value)


def test_a_busy_server_is_asked_again(double: Double) -> None:
    def busy(asked: Asked, answer: Answer, before: int) -> Answer | None:
        limited = Answer(429, {"RateLimit": '"api";r=0;t=5'})
        return [Answer(503), Answer(429, {"Retry-After": "3"}), limited, None][before]

    double.twist = busy
    waits: list[float] = []
    asking = client(waits, Limits(first_wait_s=0.5))
    assert file(double, asking=asking).read(0, 4) == DATA[:4]
    assert waits == [0.5, 3.0, 5.0]


def test_a_long_wait_is_not_waited(double: Double) -> None:
    double.twist = lambda asked, answer, before: Answer(429, {"Retry-After": "3600"})
    waits: list[float] = []
    with pytest.raises(SourceError, match="wait 3600 seconds, and try again"):
        file(double, asking=client(waits)).read(0, 4)
    assert waits == [] and len(double.asked) == 1


def test_a_slow_server_is_not_waited_for(double: Double) -> None:
    def slow(asked: Asked, answer: Answer, before: int) -> None:
        answer.pause_s = 1.0

    double.twist = slow
    with pytest.raises(SourceError, match="did not answer in time"):
        file(double).read(0, 4)


def test_redirects_are_followed_and_remembered(double: Double) -> None:
    def redirect(asked: Asked, answer: Answer, before: int) -> Answer | None:
        return Answer(302, {"Location": "/files/a.bin"}) if asked.path == "/files/b.bin" else None

    double.twist = redirect
    read = file(double, "b.bin")
    assert read.read(0, 4) == DATA[:4] and read.read(200_000, 4) == DATA[200_000:200_004]
    assert double.paths == ["/files/b.bin", "/files/a.bin", "/files/a.bin"]


def test_a_redirect_that_has_expired_is_asked_for_again(double: Double) -> None:
    def redirect(asked: Asked, answer: Answer, before: int) -> Answer | None:
        if asked.path == "/files/b.bin":
            return Answer(307, {"Location": f"{double.endpoint}/files/a.bin?key={before}"})
        return Answer(403) if asked.path.endswith("key=0") and before > 1 else None

    double.twist = redirect
    read = file(double, "b.bin")
    assert read.read(0, 4) == DATA[:4] and read.read(200_000, 4) == DATA[200_000:200_004]


def test_a_safetensors_file_behind_an_address(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    weights = safetensors_file({"w": ("F32", (2, 3), 24)})
    double.repositories["models"] = {"m.safetensors": weights, "config.json": b'{"model_type": "no-such-type"}'}
    found = reader.read(f"{double.endpoint}/models/m.safetensors")
    assert [(t.name, t.shape) for t in found.tensors] == [("w", (2, 3))]
    assert found.config == {"model_type": "no-such-type"} and found.remote is not None
    assert found.remote.requests == len(double.asked) == 2 and not found.remote.cached


def test_an_index_behind_an_address_brings_its_shards(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    double.repositories["models"] = sharded(5)
    index = reader.read(f"{double.endpoint}/models/model.safetensors.index.json")
    shard = reader.read(f"{double.endpoint}/models/model-00002-of-00005.safetensors")
    assert len(index.tensors) == len(shard.tensors) == 10 and len(shard.files) == 5


def test_an_address_with_a_key_is_read_alone_and_its_key_is_not_shown(
    double: Double, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    double.repositories["models"] = sharded(1)
    name = "model-00001-of-00001.safetensors"
    found = reader.read(f"{double.endpoint}/models/{name}?X-Key=secret")
    assert len(found.tensors) == 2 and found.source == f"{double.endpoint}/models/{name}"
    assert double.paths == [f"/models/{name}?X-Key=secret"]
    double.twist = lambda asked, answer, before: Answer(403)
    with pytest.raises(SourceError) as error:
        reader.read(f"{double.endpoint}/models/{name}?X-Key=secret")
    assert "secret" not in str(error.value)


def test_an_address_is_not_asked_offline(double: Double) -> None:
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE is set"):
        reader.read(f"{double.endpoint}/files/a.safetensors")
    assert double.asked == []


@pytest.mark.parametrize("address", [
    "http://", "http:///a.gguf", "https://user:geheim@host/a.gguf", "http://host:99999/a.gguf", "http://ho st/a.gguf",
    "http://[::1/a.gguf", "http://127.0.0.1:0/a.gguf", "http://127.0.0.1:1/", "http://127.0.0.1:1/%2e%2e",
    "http://127.0.0.1:1/a%2Fb.gguf", "https://host/\r\nX: y.gguf",
])  # fmt: skip
def test_addresses_that_are_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises((SourceError, FormatError)) as error:
        reader.read(address)
    assert "geheim" not in str(error.value)


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with pytest.raises(SourceError, match="cannot be reached"):
        reader.read(f"http://127.0.0.1:{port}/a.safetensors")


def test_requests_go_through_a_proxy_except_to_this_machine(double: Double) -> None:
    """A proxy gets the whole address; the double is one here. `.invalid` hosts never resolve."""
    named = double.endpoint.replace("//", "//me:pass%20word@")
    proxies = environment_proxies({"http_proxy": named, "NO_PROXY": ".corp"})

    def as_proxy(asked: Asked, answer: Answer, before: int) -> Answer | None:
        return part(DATA, asked.headers.get("range"), {}) if asked.path.startswith("http://") else None

    double.twist = as_proxy
    asking = client(proxies=proxies)
    assert HttpFile(asking, "http://models.invalid/a.bin", "a.bin").read(0, 4) == DATA[:4]
    assert double.asked[0].path == "http://models.invalid/a.bin"
    assert double.asked[0].headers["proxy-authorization"] == "Basic bWU6cGFzcyB3b3Jk"
    assert file(double, asking=asking).read(0, 4) == DATA[:4]
    assert double.asked[1].path == "/files/a.bin" and "proxy-authorization" not in double.asked[1].headers
    with pytest.raises(SourceError, match="cannot be reached"):
        HttpFile(asking, "http://models.invalid.corp/a.bin", "a.bin").read(0, 4)


def test_https_asks_a_proxy_for_a_way_through(double: Double) -> None:
    """The tunnel is opened; what it leads to says nothing."""
    with Scripted(b"HTTP/1.1 200 ok\r\n\r\n") as (port, seen):
        asking = client(proxies={"https": f"127.0.0.1:{port}"})
        with pytest.raises(SourceError, match="cannot be reached"):
            HttpFile(asking, "https://models.invalid/a.bin", "a.bin").read(0, 4)
    assert seen[0].startswith(b"CONNECT models.invalid:443 HTTP/1.1\r\nHost: models.invalid:443\r\n")
    with Scripted(b"HTTP/1.1 407 no\r\n\r\n") as (port, _):
        asking = client(proxies={"https": f"127.0.0.1:{port}"})
        with pytest.raises(SourceError, match=r"the proxy refuses models\.invalid with status 407"):
            HttpFile(asking, "https://models.invalid/a.bin", "a.bin").read(0, 4)


def test_a_proxy_cannot_answer_for_an_encrypted_host() -> None:
    """What it sends behind its own answer, before anything is encrypted, is no answer of the host."""
    spoofed = b"HTTP/1.1 206 x\r\nContent-Length: 4\r\nContent-Range: bytes 0-3/4\r\n\r\nevil"
    with Scripted(b"HTTP/1.1 200 ok\r\n\r\n" + spoofed) as (port, _):
        asking = client(proxies={"https": f"127.0.0.1:{port}"})
        with pytest.raises(SourceError, match=r"the proxy speaks in the place of models\.invalid"):
            HttpFile(asking, "https://models.invalid/a.bin", "a.bin").read(0, 4)


def test_a_machine_without_a_family_of_addresses_takes_another(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    real_lookup, real_socket = socket.getaddrinfo, socket.socket

    def lookup(*arguments: Any, **options: Any) -> Any:
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 9, 0, 0)), *real_lookup(*arguments, **options)]

    def opened(family: int = -1, *rest: Any, **options: Any) -> Any:
        if family == socket.AF_INET6:
            raise OSError(97, "Address family not supported by protocol")
        return real_socket(family, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(socket, "socket", opened)
    assert HttpFile(client(), f"{double.endpoint}/files/a.bin", "a.bin").read(0, 4)


class Scripted:
    """A server of one connection that says what it was given."""

    def __init__(self, answer: bytes) -> None:
        self.answer, self.seen = answer, list[bytes]()

    def __enter__(self) -> tuple[int, list[bytes]]:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self.listening.getsockname()[1], self.seen

    def __exit__(self, *_: object) -> None:
        self.thread.join(5)
        self.listening.close()

    def _serve(self) -> None:
        self.listening.settimeout(5)
        accepted, _ = self.listening.accept()
        with accepted:
            self.seen.append(accepted.recv(65536))
            accepted.sendall(self.answer)


def test_addresses_of_the_public_internet() -> None:
    private = ("127.0.0.1", "127.0.0.2", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254",
               "100.64.0.1", "224.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1",
               "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "not an address", "")  # fmt: skip
    assert not any(map(is_public, private))
    assert all(map(is_public, ("8.8.8.8", "1.1.1.1", "2606:4700::1111", "::ffff:8.8.8.8")))


def test_origins_and_what_messages_show() -> None:
    assert origin("https://host/x") == origin("https://host:443/y") != origin("http://host/x")
    assert shown("https://a:b@host/x?key=1#z") == "https://host/x"


def test_the_folder_of_a_file() -> None:
    folder, name = folder_of(Client(), "https://host/models/my%20model.gguf")
    assert (folder.name, name) == ("https://host/models", "my model.gguf")
    with pytest.raises(FormatError, match="plain file name"):
        folder.open("../a")
    with pytest.raises(FormatError, match="plain file name"):
        folder.below("..")


def test_many_are_read_in_order_and_the_first_error_ends_it() -> None:
    class Far:
        name, workers = "far", 4

    done: list[int] = []

    def read(item: int) -> int:
        if item == 20:
            raise SourceError("twenty", "x", "y")
        done.append(item)
        return item * 2

    folder: object = Far()
    mapping: Callable[..., Iterator[int]] = mapped
    assert list(mapping(folder, read, range(20))) == list(range(0, 40, 2))
    done.clear()
    with pytest.raises(SourceError, match="twenty"):
        list(mapping(folder, read, range(1000)))
    assert max(done) < 40  # it does not run far ahead


def test_the_library_s_own_file_is_read(double: Double, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As the reference library writes it, over HTTP and from disk, the same."""
    import numpy as np
    import safetensors.numpy

    monkeypatch.delenv("HF_HUB_OFFLINE")
    rows = {"b.weight": np.zeros((3, 5), "float16"), "a.bias": np.zeros((7,), "float32"), "c": np.zeros((), "int8")}
    safetensors.numpy.save_file(rows, tmp_path / "m.safetensors", metadata={"format": "np"})
    double.repositories["models"] = {"m.safetensors": (tmp_path / "m.safetensors").read_bytes()}
    near, far = reader.read(tmp_path / "m.safetensors"), reader.read(f"{double.endpoint}/models/m.safetensors")
    assert near.tensors == far.tensors and near.digest == far.digest and near.metadata == far.metadata
