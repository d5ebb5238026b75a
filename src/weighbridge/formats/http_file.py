"""How is a file read that lies behind an address? In ranges (RFC 9110, section 14), so that only its header travels.

The first answer tells the file's size and its validator (`ETag`, or else `Last-Modified`); each later one is held
against both, so that a file that changes while it is read is an error and never a mixture. A server that ignores ranges
sends the file from its start: it is read as far as it is needed, up to a bound.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from urllib.parse import quote, unquote, urlsplit

from weighbridge.errors import SourceError, WeighbridgeError
from weighbridge.formats.addresses import origin, shown
from weighbridge.formats.byte_source import check_name, check_range
from weighbridge.formats.http_client import Client, CutError, Response

READ_AHEAD_BYTES = 64 * 1024
"""What a request asks for at least, where so much follows: small reads beside each other share one."""
MAX_WHOLE_BYTES = 64 * 2**20
"""Of a file whose server ignores ranges, the bytes that are read from its start at most."""
FORGOTTEN = frozenset({401, 403, 404, 410})
"""What a redirect's target says when it does not hold any more: signed addresses expire."""

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_SHARD = re.compile(r"(?P<stem>.+-)(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})(?P<ending>\.[a-z]+)")
_MOST_SHARDS = 2000

Refusal = Callable[[Response, str], SourceError]


class HttpFile:
    """A file behind an address, as a `ByteSource`.

    Args:
        client: who asks.
        url: where the file is.
        name: what it is called in messages.
        size: its bytes, where a listing has told them; otherwise the first answer does.
        refusal: the error for an answer that is no file.
    """

    def __init__(
        self, client: Client, url: str, name: str, size: int | None = None, refusal: Refusal | None = None
    ) -> None:
        self._client, self._url, self._name, self._size = client, url, name, size
        self._refusal = refusal or plain_refusal
        self._place = url
        self._validator = ""
        self._ignores_ranges = False
        self._begin, self._held = 0, b""

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self._name

    @property
    def size(self) -> int:
        """The file's length in bytes; asks for its beginning when it is not known yet."""
        if self._size is None:
            self._fetch(0, READ_AHEAD_BYTES)
        assert self._size is not None
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        """Exactly `length` bytes from `offset`, in one request; in none where an earlier one brought them.

        Raises:
            FormatError: when the range is not inside the file.
            SourceError: when the server does not give it.
        """
        check_range(self._name, self.size, offset, length)
        if not self._begin <= offset or offset + length > self._begin + len(self._held):
            self._fetch(offset, min(max(length, READ_AHEAD_BYTES), self.size - offset))
        start = offset - self._begin
        return self._held[start : start + length]

    def _fetch(self, offset: int, length: int) -> None:
        """Holds the bytes of a range, and learns size and validator."""
        if length == 0:
            return
        parts: list[bytes] = []
        at, stop = offset, offset + length
        for attempt in (1, 2):
            try:
                response = self._ask(at, stop)
            except CutError as error:
                if attempt == 2 or error.response.status not in (200, 206):
                    raise
                # What came is kept where it is the beginning of the range; a second request asks for the rest.
                self._check_validator(error.response)
                if error.response.status == 206:
                    self._check_part(error.response, at, stop)
                    parts.append(error.response.body)
                    at += len(error.response.body)
                if at == stop:
                    break
                continue
            if response.status == 206:
                last = self._check_part(response, at, stop)
                parts.append(response.body)
                if len(response.body) != last - at:
                    read = f"{self._name} came with {len(response.body):,} bytes where {last - at:,} were announced"
                    raise SourceError(read, "the length that the server gives", "try again, or download the file")
                break
            self._take_whole(response, stop)
            return
        self._begin, self._held = offset, b"".join(parts)

    def _ask(self, begin: int, stop: int) -> Response:
        """One range; when a redirect's target is no longer good, from the first address again."""
        most = _most(begin, stop)
        if self._ignores_ranges and self._size is not None and self._size <= MAX_WHOLE_BYTES:
            most = self._size  # once, rather than from the start again for each part
        response = self._client.get(self._place, span=(begin, stop - 1), most=most)
        if self._place != self._url and response.status in FORGOTTEN:
            self._place = self._url
            response = self._client.get(self._url, span=(begin, stop - 1), most=most)
        if response.status == 416 and self._size is None and _range(response) == "bytes */0":
            return Response(response.url, 200, {"content-length": "0"}, b"", True)
        if response.status not in (200, 206):
            raise self._refusal(response, self._name)
        self._place = response.url
        self._check_validator(response)
        return response

    def _check_part(self, response: Response, begin: int, stop: int) -> int:
        """Holds a partial answer against what was asked, and returns where it ends."""
        match = _CONTENT_RANGE.fullmatch(_range(response))
        first, last, size = (int(number) for number in match.groups()) if match else (-1, -1, -1)
        if match is None or first != begin or last + 1 != min(stop, size):
            read = f"{self._name}: the server sends the range {_range(response)[:60]!r} for bytes {begin} to {stop - 1}"
            raise SourceError(read, "the range that was asked for", "download the file by other means and name it here")
        self._learn_size(size)
        return last + 1

    def _take_whole(self, response: Response, stop: int) -> None:
        """What a server sends that ignores ranges: the file from its start."""
        if not response.is_whole and "content-length" not in response.headers:  # only its end will tell its size
            response = self._client.get(self._place, most=MAX_WHOLE_BYTES)
            self._check_validator(response)
        length = response.headers.get("content-length", "")
        size = int(length) if length.isdigit() and "transfer-encoding" not in response.headers else None
        if size is None and response.is_whole:
            size = len(response.body)
        if size is None or len(response.body) < min(stop, size):
            raise SourceError(
                f"the server of {self._name} ignores ranges, and bytes up to {stop:,} are needed",
                f"a server that sends ranges, or at most {MAX_WHOLE_BYTES:,} bytes from the start of the file",
                "download the file and name it here",
            )
        self._learn_size(size)
        self._ignores_ranges = True
        self._begin, self._held = 0, response.body

    def _learn_size(self, size: int) -> None:
        if self._size is None:
            self._size = size
        elif self._size != size:
            raise self._changed(f"has {size:,} bytes, and had {self._size:,} before")

    def _check_validator(self, response: Response) -> None:
        found = response.headers.get("etag") or response.headers.get("last-modified") or ""
        if not self._validator:
            self._validator = found
        elif found and self._validator != found:
            raise self._changed(f"is another one: {found[:60]!r} where it was {self._validator[:60]!r}")

    def _changed(self, how: str) -> SourceError:
        read = f"{self._name} has changed while it was read: it {how}"
        return SourceError(read, "an unchanged file", "read it again")


def _most(begin: int, stop: int) -> int:
    """Bytes of a body that are read at most: the range, or what leads up to it when the server ignores ranges."""
    return max(stop - begin, min(stop, MAX_WHOLE_BYTES))


def _range(response: Response) -> str:
    return response.headers.get("content-range", "")


def plain_refusal(response: Response, name: str) -> SourceError:
    """What a refusal of a server means, and what can be done."""
    status = response.status
    if status in (401, 403):
        read, action = "may not be read", "log in with the publisher, or download the file and name it here"
    elif status in (404, 410):
        read, action = "is not there", "check the address"
    elif status == 429:
        after = response.headers.get("retry-after", "")[:20]
        read = "is not given now, as too many requests were made"
        action = f"wait {after} seconds, and try again" if after.isdigit() else "wait, and try again"
    elif status >= 500:
        read, action = "is not given, as the server has a fault", "try again later"
    else:
        read, action = "is not given", "check the address, or download the file and name it here"
    return SourceError(f"{name} {read} (status {status} from {shown(response.url)})", "the file", action)


class HttpFolder:
    """The surroundings of one file behind an address, as a `Folder`.

    No listing can be had of a plain server: its names are the file, the shards that the file's own name or its index
    speaks of, and a `config.json` beside it, which is asked for once.
    """

    workers = 8

    def __init__(self, client: Client, base: str, file: str, query: str = "") -> None:
        self._client, self._base, self._file, self._query = client, base, file, query
        self._files: dict[str, HttpFile] = {}
        self._names: list[str] | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The address of the folder."""
        return shown(self._base)

    def names(self) -> Iterable[str]:
        """The file and what belongs to it, sorted."""
        if self._names is None:
            self._names = sorted({self._file, *self._shards(), *self._config()} - {""})
        return self._names

    def open(self, name: str) -> HttpFile:
        """The file of this name beside the one that was named; nothing is asked yet."""
        check_name(self.name, name)
        with self._lock:
            if name not in self._files:
                query = f"?{self._query}" if self._query and name == self._file else ""
                self._files[name] = HttpFile(self._client, f"{self._base}/{quote(name)}{query}", name)
            return self._files[name]

    def place_of(self, name: str) -> str:
        """The address."""
        return shown(f"{self._base}/{quote(name)}")

    def below(self, name: str) -> HttpFolder:
        """The folder of this name in it."""
        check_name(self.name, name)
        return HttpFolder(self._client, f"{self._base}/{quote(name)}", "")

    def _shards(self) -> Iterable[str]:
        if self._query:  # a signed address is good for one file
            return ()
        if self._file.endswith(".index.json"):
            from weighbridge.formats import safetensors

            return safetensors.read_index(self.open(self._file)).files
        match = _SHARD.fullmatch(self._file)
        if match is None or int(match["count"]) > _MOST_SHARDS:
            return ()
        count = match["count"]
        return [f"{match['stem']}{number:05d}-of-{count}{match['ending']}" for number in range(1, int(count) + 1)]

    def _config(self) -> Iterable[str]:
        if self._query or not self._file:
            return ()
        try:
            return ["config.json"] if self.open("config.json").size else ()
        except WeighbridgeError:
            return ()


def folder_of(client: Client, url: str) -> tuple[HttpFolder, str]:
    """The folder and the name of a file behind an address.

    Raises:
        SourceError: when the address names no file.

    Example:
        >>> folder, name = folder_of(Client(), "https://host/models/a.gguf?download=true")
        >>> folder.name, name
        ('https://host/models', 'a.gguf')
    """
    origin(url)  # refuses what is no address
    parts = urlsplit(url)
    base, _, last = parts.path.rpartition("/")
    name = unquote(last)
    if not name:
        raise SourceError(f"{shown(url)} names no file", "the address of a file", "add the file's name")
    query = "" if parts.query in ("download=true", "download=1") else parts.query
    folder = HttpFolder(client, f"{parts.scheme}://{parts.netloc}{base}", name, query)
    check_name(folder.name, name)
    return folder, name
