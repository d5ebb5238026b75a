"""A double of the Hugging Face Hub on the loopback address, for peers that cannot read a folder.

It answers what weigh, hf-mem 0.5.6 and `accelerate estimate-memory` ask: the description of a repository or of a
revision, the list of its files, and a file or a range of it. Repositories are folders named `owner/name` below its
root. It counts requests, and it answers from threads of the benchmark's own process, so that none of its time is
counted as a peer's.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_REPOSITORY = r"/(?P<repository>[\w.-]+/[\w.-]+)"
_TREE = re.compile(rf"/api/models{_REPOSITORY}/tree/[^/]+")
_REVISION = re.compile(rf"/api/models{_REPOSITORY}/revision/[^/]+")
_MODEL = re.compile(rf"/api/models{_REPOSITORY}")
_FILE = re.compile(rf"{_REPOSITORY}/resolve/[^/]+/(?P<file>[\w.-]+)")
COMMIT = "0123456789abcdef" * 2 + "01234567"
"""The one commit of every repository."""
_RANGE = re.compile(r"bytes=([0-9]+)-([0-9]+)")


@dataclass
class Hub:
    """A running double: where it listens, and what it was asked since `requests` was last cleared."""

    endpoint: str
    requests: list[str] = field(default_factory=list)


@contextmanager
def serve(root: Path) -> Iterator[Hub]:
    """Serves the repositories below a folder while the block runs, on a free port of 127.0.0.1."""
    requests: list[str] = []

    class Handler(_Handler):
        folder, asked = root, requests

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield Hub(f"http://127.0.0.1:{server.server_port}", requests)
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    asked: list[str]

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: the requests are counted, not printed."""

    def _answer(self, with_body: bool) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        status, headers, body = self._find(path)
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def _find(self, path: str) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        if (match := _TREE.fullmatch(path)) and (place := self.folder / match["repository"]).is_dir():
            files = sorted(entry for entry in place.iterdir() if entry.is_file())
            return _json([{"type": "file", "path": f.name, "size": f.stat().st_size, "oid": "0"} for f in files])
        if (match := _REVISION.fullmatch(path)) and (place := self.folder / match["repository"]).is_dir():
            siblings = [{"rfilename": f.name, "size": f.stat().st_size} for f in sorted(place.iterdir())]
            return _json({"id": match["repository"], "sha": COMMIT, "siblings": siblings, **_about(place)})
        if (match := _MODEL.fullmatch(path)) and (place := self.folder / match["repository"]).is_dir():
            return _json({"id": match["repository"], **_about(place)})
        if (match := _FILE.fullmatch(path)) and (file := self.folder / match["repository"] / match["file"]).is_file():
            return self._part(file)
        return 404, {}, b""

    def _part(self, file: Path) -> tuple[int, dict[str, str], bytes]:
        """The file, or the range that was asked for, as far as the file reaches."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        size = file.stat().st_size
        begin, end = (int(match[1]), min(int(match[2]), size - 1)) if match else (0, size - 1)
        with file.open("rb") as opened:
            opened.seek(begin)
            body = opened.read(end - begin + 1)
        kind = {"Content-Type": "application/octet-stream"}
        return (206, kind | {"Content-Range": f"bytes {begin}-{end}/{size}"}, body) if match else (200, kind, body)


def _about(folder: Path) -> dict[str, Any]:
    """What the hub says of a repository with a configuration."""
    if not (folder / "config.json").is_file():
        return {}
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    known = {key: config[key] for key in ("architectures", "model_type")}
    return {"library_name": "transformers", "config": known}


def _json(document: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()
