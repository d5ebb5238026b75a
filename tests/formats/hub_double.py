"""A double of a model hub and of its content network on the loopback address, which can also misbehave.

It answers what `huggingface_hub` asks for, as that library's code expects the answers:
`/api/models/{repo}/revision/{rev}`, `/api/models/{repo}/tree/{rev}` with pages, `/{repo}/resolve/{rev}/{file}` with
ranges, and the headers `X-Error-Code`, `X-Repo-Commit`, `ETag` and `Link`. Every misbehaviour is a function of the
request, put in by a test.
"""

from __future__ import annotations

import hashlib
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_API = re.compile(r"/api/models/(?P<repository>[^/]+/[^/]+)/(?P<what>revision|tree)/(?P<revision>[^/]+)")
_FILE = re.compile(r"/(?P<repository>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")


@dataclass
class Asked:
    """One request as it came."""

    path: str
    headers: dict[str, str]


@dataclass
class Answer:
    """One answer. `cut` ends the connection after so many bytes of the body; `raw` is sent instead of all else."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None
    raw: bytes | None = None
    pause_s: float = 0.0


Twist = Callable[[Asked, Answer, int], Answer | None]
"""What makes of a good answer another one: the request, the answer, how many requests came before it."""


@dataclass
class Double:
    """A running double."""

    endpoint: str
    repositories: dict[str, dict[str, bytes]]
    asked: list[Asked] = field(default_factory=list)
    twist: Twist | None = None
    network: Double | None = None
    """Where files are sent to by a redirect, as a hub sends them to its content network."""
    token: str | None = None
    """The token without which nothing is shown."""
    gated: set[str] = field(default_factory=set)
    page: int = 1000

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for."""
        return [asked.path for asked in self.asked]


@contextmanager
def serve(
    repositories: Mapping[str, Mapping[str, bytes]], network: Double | None = None, host: str = "127.0.0.1"
) -> Iterator[Double]:
    """Serves repositories of files while the block runs, on a free port."""
    double = Double("", {name: dict(files) for name, files in repositories.items()}, network=network)

    class Handler(_Handler):
        hub = double

    server = _Server((host, 0), Handler)
    double.endpoint = f"http://{host}:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield double
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """Says nothing of clients that go away."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    hub: Double

    def do_HEAD(self) -> None:
        self._respond(with_body=False)

    def do_GET(self) -> None:
        self._respond(with_body=True)

    def _respond(self, with_body: bool) -> None:
        asked = Asked(self.path, {name.lower(): value for name, value in self.headers.items()})
        before = len(self.hub.asked)
        self.hub.asked.append(asked)
        answer = self._answer(asked)
        if self.hub.twist is not None:
            answer = self.hub.twist(asked, answer, before) or answer
        time.sleep(answer.pause_s)
        if answer.raw is not None:
            self.wfile.write(answer.raw)
            self.close_connection = True
            return
        self.send_response(answer.status)
        length = {} if "Transfer-Encoding" in answer.headers else {"Content-Length": str(len(answer.body))}
        for name, value in (length | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(answer.body if answer.cut is None else answer.body[: answer.cut])
        if answer.cut is not None:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""

    def _answer(self, asked: Asked) -> Answer:
        path = urlsplit(asked.path).path
        match = _API.fullmatch(path) or _FILE.fullmatch(path)
        if match is None:
            return self._plain(path, asked)
        name, revision = match["repository"], unquote(match["revision"])
        has_token = self.hub.token is None or asked.headers.get("authorization") == f"Bearer {self.hub.token}"
        files = self.hub.repositories.get(name)
        if files is None or not has_token:
            return _error(401 if not has_token else 404, "RepoNotFound", "Repository not found")
        if revision not in ("main", "refs/pr/1", COMMIT):
            return _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        if path.startswith("/api/"):
            return self._listing(asked, match["what"], files)
        if name in self.hub.gated:
            return _error(403, "GatedRepo", f"Access to model {name} is restricted")
        file = unquote(match["file"])
        if file not in files:
            return _error(404, "EntryNotFound", "Entry not found")
        if self.hub.network is not None and file.endswith(".safetensors"):
            self.hub.network.repositories["cdn"] = files
            place = f"{self.hub.network.endpoint}/cdn/{file}?X-Signature=secret"
            return Answer(302, {"Location": place, "X-Repo-Commit": COMMIT, "X-Linked-Size": str(len(files[file]))})
        return part(files[file], asked.headers.get("range"), {"X-Repo-Commit": COMMIT})

    def _listing(self, asked: Asked, what: str, files: Mapping[str, bytes]) -> Answer:
        if what == "revision":
            siblings = [{"rfilename": file, "size": len(data)} for file, data in files.items()]
            return document({"id": "x", "sha": COMMIT, "siblings": siblings})
        rows = [{"type": "file", "path": file, "size": len(data), "oid": "0"} for file, data in files.items()]
        begin = int(parse_qs(urlsplit(asked.path).query).get("cursor", ["0"])[0])
        answer = document(rows[begin : begin + self.hub.page])
        if begin + self.hub.page < len(rows):
            following = f"{self.hub.endpoint}{urlsplit(asked.path).path}?recursive=true&cursor={begin + self.hub.page}"
            answer.headers["Link"] = f'<{following}>; rel="next"'
        return answer

    def _plain(self, path: str, asked: Asked) -> Answer:
        """A file of a plain server: `/repository/file`."""
        _, _, rest = path.partition("/")
        repository, _, file = rest.rpartition("/")
        data = self.hub.repositories.get(repository, {}).get(unquote(file))
        if data is None:
            return Answer(404, {"Content-Type": "text/html"}, b"<h1>not found</h1>")
        return part(data, asked.headers.get("range"), {})


def part(data: bytes, asked: str | None, headers: Mapping[str, str]) -> Answer:
    """A file, or the range of it that was asked for."""
    headers = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "Accept-Ranges": "bytes", **headers}
    match = _RANGE.fullmatch(asked or "")
    if match is None:
        return Answer(200, headers, data)
    begin, end = int(match[1]), min(int(match[2]), len(data) - 1)
    if begin >= len(data):
        return Answer(416, {"Content-Range": f"bytes */{len(data)}"})
    return Answer(206, headers | {"Content-Range": f"bytes {begin}-{end}/{len(data)}"}, data[begin : end + 1])


def document(value: object) -> Answer:
    """An answer in JSON."""
    return Answer(200, {"Content-Type": "application/json"}, json.dumps(value).encode())


def _error(status: int, code: str, message: str) -> Answer:
    headers = {"X-Error-Code": code, "X-Error-Message": message, "Content-Type": "application/json"}
    return Answer(status, headers, json.dumps({"error": message}).encode())


def safetensors_file(tensors: Mapping[str, tuple[str, tuple[int, ...], int]], blanks: int = 0) -> bytes:
    """A file laid out by hand: name to dtype, shape and bytes; the weights are zeros."""
    header: dict[str, object] = {}
    offset = 0
    for name, (dtype, shape, size) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(header, separators=(",", ":")).encode() + b" " * blanks
    return len(text).to_bytes(8, "little") + text + bytes(offset)


def sharded(count: int) -> dict[str, bytes]:
    """A repository of so many shards with two tensors each, and its index."""
    files: dict[str, bytes] = {}
    where: dict[str, str] = {}
    for number in range(1, count + 1):
        name = f"model-{number:05d}-of-{count:05d}.safetensors"
        rows = {f"layers.{number}.{part}": ("BF16", (4, 8), 64) for part in ("a", "b")}
        files[name] = safetensors_file(rows)
        where |= dict.fromkeys(rows, name)
    index = {"metadata": {"total_size": 128 * count}, "weight_map": where}
    return files | {"model.safetensors.index.json": json.dumps(index).encode()}
