"""How are bytes asked of a server that nobody vouches for? A small client for `GET`, with a bound on everything.

HTTP/1.1 after RFC 9110 and 9112, over sockets that stay open between requests. A response is a head (at most 64 KiB)
and a body whose length the head gives, as a number or in chunks. Redirects are followed to `http` and `https` only,
never from `https` to `http`, and never from a public host to an address of this machine or its network; nor does a name
that was public become one later. A token goes to its own origin and nowhere else. Servers that are busy are asked again
a few times; every wait and every request ends.

The standard library's client is not used: it takes 25 ms to load and 0.2 ms for the head of a response.
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote

from weighbridge.errors import SourceError
from weighbridge.formats import addresses
from weighbridge.formats.addresses import (
    PORTS,
    ascii_host,
    is_exempt,
    is_loopback,
    is_private,
    joined,
    origin,
    parts_of,
    shown,
)

if TYPE_CHECKING:
    import ssl

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 200
MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 16 * 1024
"""Of the body of a refusal; the rest is not read."""
BUSY = frozenset({408, 429, 500, 502, 503, 504})
"""Answers after which the same question is asked again; the hub's own library retries on the same ones."""
REDIRECTS = frozenset({301, 302, 303, 307, 308})

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-9][0-9][0-9])(?: [^\r\n]*)?")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([^\r\n\0]*)")
_NUMBER = re.compile(r"[0-9]{1,18}")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_RATE_LIMIT = re.compile(r"r\s*=\s*0\s*;\s*t\s*=\s*([0-9]{1,9})")
_AGAIN = "try again, or download the file by other means and name it here"
_PIECE = 256 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is waited. `idle_s`: for the next bytes; `request_s`: for one request with all its repetitions;
    `total_s`: for all requests of one client together.
    """

    idle_s: float = 10.0
    request_s: float = 120.0
    total_s: float = 900.0
    attempts: int = 4
    first_wait_s: float = 1.0
    longest_wait_s: float = 30.0


@dataclass(slots=True)
class Traffic:
    """What was asked: requests sent, those of redirects and repetitions too, and bytes of the bodies received."""

    requests: int = 0
    bytes_read: int = 0


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. Names of headers are in lower case; `is_whole` says whether the body was read to its end."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool


class CutError(SourceError):
    """The connection ended within a body, of which `response` holds the part that came."""

    def __init__(self, response: Response, why: str) -> None:
        self.response = response
        read = f"{shown(response.url)} broke off after {len(response.body):,} bytes ({why})"
        super().__init__(read, "the whole answer", _AGAIN)


class _StaleError(Exception):
    """A connection that was kept open has been closed by the other side before it answered."""


@dataclass(slots=True)
class Client:
    """Asks servers, from several threads at once, and counts what it asked.

    `tokens` are bearer tokens by the origin (`https://host:port`) that alone gets to see them. `proxies` are the
    proxies for `http` and `https`, and under `no` the hosts that are reached without one.
    """

    tokens: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    proxies: Mapping[str, str] = field(default_factory=dict, repr=False)
    sleep: Callable[[float], None] = time.sleep
    traffic: Traffic = field(default_factory=Traffic)
    _begun: float = field(default_factory=time.monotonic, repr=False)
    _idle: dict[tuple[str, str, int], list[_Connection]] = field(default_factory=dict, repr=False)
    _public: set[str] = field(default_factory=set, repr=False)
    """Hosts that have had a public address: what they resolve to later must be one, too."""
    _is_closed: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _tls: ssl.SSLContext | None = field(default=None, repr=False)

    def get(self, url: str, *, span: tuple[int, int] | None = None, most: int) -> Response:
        """The answer to one question, redirects followed and busy servers asked again.

        Args:
            url: an address of `http` or `https`.
            span: the first and the last byte that are wanted.
            most: bytes of the body that are read at most; the rest is left, and the connection closed.

        Raises:
            CutError: when the body breaks off.
            SourceError: when there is no server, no answer in time, or one that breaks the protocol or the rules of
                redirects. Refusals (status 400 and above) are returned, not raised.
        """
        now = time.monotonic()
        deadline = min(now + self.limits.request_s, self._begun + self.limits.total_s)
        wait = self.limits.first_wait_s
        for attempt in range(1, self.limits.attempts + 1):
            response = self._follow(url, span, most, deadline)
            if response.status not in BUSY or attempt == self.limits.attempts:
                break
            pause = _asked_pause(response.headers)
            pause = wait if pause is None else pause
            if pause > min(self.limits.longest_wait_s, deadline - time.monotonic()):
                break
            self.sleep(pause)
            wait *= 2
        return response

    def close(self) -> None:
        """Closes the connections that were kept open, and keeps no further ones."""
        with self._lock:
            self._is_closed = True
            for kept in self._idle.values():
                for connection in kept:
                    connection.close()
            self._idle.clear()

    def _follow(self, url: str, span: tuple[int, int] | None, most: int, deadline: float) -> Response:
        parts = parts_of(url, "the address that was named")
        asked = origin(url)
        may_know = True  # the token: until a redirect has left its origin
        public_only = False  # from the first public host on
        for _ in range(MAX_REDIRECTS + 1):
            token = self.tokens.get(origin(url)) if may_know else None
            response, peer = self._ask(url, parts, span, most, token, deadline, public_only)
            target = response.headers.get("location")
            if response.status not in REDIRECTS or target is None:
                return response
            public_only = public_only or (addresses.is_public(peer) if peer else not is_private(parts.hostname or ""))
            before = parts
            url = joined(url, target)
            parts = parts_of(url, f"a redirect from {before.hostname}")
            if (before.scheme, parts.scheme) == ("https", "http"):
                raise SourceError(
                    f"{before.hostname} redirects from https to {shown(url)}",
                    "a redirect that stays encrypted",
                    _AGAIN,
                )
            may_know = may_know and origin(url) == asked
        raise SourceError(
            f"{shown(url)} is the target of redirect number {MAX_REDIRECTS + 1}",
            f"at most {MAX_REDIRECTS}",
            _AGAIN,
        )

    def _ask(
        self, url: str, parts: SplitResult, span: tuple[int, int] | None, most: int, token: str | None,
        deadline: float, public_only: bool,
    ) -> tuple[Response, str]:  # fmt: skip
        """One request without redirects, and the address that answered; empty behind a proxy."""
        host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
        proxy = self._proxy(parts.scheme, host, port)
        if public_only and is_private(host):
            raise _private(host)
        with self._lock:
            public_only = public_only or host in self._public
        key = (parts.scheme, host, port)
        head = _request(parts, span, token, None if proxy is None or parts.scheme == "https" else proxy)
        while True:
            connection = self._kept(key)
            if connection is None:
                connection = self._connect(key, proxy, deadline, public_only)
            elif public_only and not addresses.is_public(connection.peer):
                connection.close()
                raise _private(host)
            connection.deadline = deadline
            with self._lock:
                self.traffic.requests += 1
            keep = False
            try:
                response, keep = connection.exchange(url, head, span, most)
            except _StaleError:
                continue
            finally:
                if not keep:
                    connection.close()
                with self._lock:
                    self.traffic.bytes_read += connection.taken()
            if keep:
                self._keep(key, connection)
            if addresses.is_public(connection.peer):
                with self._lock:
                    self._public.add(host)
            return response, connection.peer

    def _keep(self, key: tuple[str, str, int], connection: _Connection) -> None:
        with self._lock:
            if not self._is_closed:
                self._idle.setdefault(key, []).append(connection)
                return
        connection.close()

    def _kept(self, key: tuple[str, str, int]) -> _Connection | None:
        with self._lock:
            kept = self._idle.get(key)
            return kept.pop() if kept else None

    def _proxy(self, scheme: str, host: str, port: int) -> SplitResult | None:
        """The proxy for a host; none for this machine, which no proxy can reach for us."""
        named = self.proxies.get(scheme)
        if not named or is_loopback(host) or is_exempt(host, port, self.proxies.get("no", "")):
            return None
        return parts_of(named if "://" in named else f"http://{named}", "the proxy that the environment names", True)

    def _connect(
        self, key: tuple[str, str, int], proxy: SplitResult | None, deadline: float, public_only: bool
    ) -> _Connection:
        scheme, host, port = key
        if proxy is None:
            sock, peer = _open_socket(host, port, self.limits.idle_s, deadline, public_only)
        else:
            near = proxy.hostname or ""
            if proxy.scheme != "http":
                raise SourceError(f"the proxy {near} speaks {proxy.scheme}", "a proxy of http", "name another")
            sock, _ = _open_socket(near, proxy.port or 80, self.limits.idle_s, deadline, False)
            peer = ""
        connection = _Connection(sock, peer, self.limits.idle_s, deadline)
        try:
            if proxy is not None and scheme == "https":
                connection.tunnel(host, port, _proxy_key(proxy))
            if scheme == "https":
                connection.sock = self._encrypted(sock, host)
        except BaseException:
            connection.close()
            raise
        return connection

    def _encrypted(self, sock: socket.socket, host: str) -> socket.socket:
        import ssl

        with self._lock:
            if self._tls is None:
                self._tls = ssl.create_default_context()
        try:
            return self._tls.wrap_socket(sock, server_hostname=host)
        except ssl.SSLCertVerificationError as error:
            raise SourceError(
                f"{host} shows a certificate that is not valid for it ({error.verify_message})",
                "one that is signed by an authority this machine trusts",
                "check the address; SSL_CERT_FILE names further authorities",
            ) from error
        except OSError as error:
            raise _unreachable(host, error) from error


class _Connection:
    """One open socket: requests go out, answers come in, one after another."""

    def __init__(self, sock: socket.socket, peer: str, idle_s: float, deadline: float) -> None:
        self.sock, self.peer, self.idle_s, self.deadline = sock, peer, idle_s, deadline
        self._held, self._at = b"", 0  # bytes that have come, and how far they are used up
        self._is_used = False
        self._taken = 0

    def close(self) -> None:
        self.sock.close()

    def _unused(self, most: int | None = None) -> bytes:
        """The next bytes of those that have come, which are then used up."""
        begin = self._at
        self._at = len(self._held) if most is None else min(begin + most, len(self._held))
        return self._held[begin : self._at]

    def _has_more(self) -> bool:
        return self._at < len(self._held)

    def taken(self) -> int:
        """Bytes of bodies since this was last asked."""
        taken, self._taken = self._taken, 0
        return taken

    def tunnel(self, host: str, port: int, key: str) -> None:
        """Asks a proxy for a way through."""
        name = f"[{host}]" if ":" in host else host
        text = f"CONNECT {name}:{port} HTTP/1.1\r\nHost: {name}:{port}\r\n{key}\r\n"
        self._send(text.encode("ascii"), host)
        status, _ = self._head(host)
        if status != 200:
            raise SourceError(f"the proxy refuses {host} with status {status}", "a way through", "check the proxy")
        if self._has_more():  # it would be taken for what the host says, which has not been encrypted yet
            raise SourceError(f"the proxy speaks in the place of {host}", "a way through", "check the proxy")
        self._is_used = False

    def exchange(self, url: str, request: bytes, span: tuple[int, int] | None, most: int) -> tuple[Response, bool]:
        """Sends a request and reads its answer; also whether the connection can serve another."""
        self._send(request, url)
        status, headers = self._head(url)
        self._is_used = True
        if status in REDIRECTS or status >= 400:
            most = min(most, MAX_ERROR_BYTES)
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise _broken(url, f"is sent in the encoding {headers['content-encoding'][:40]!r}", "plain bytes, as asked")
        body, is_whole, why = self._body(url, status, headers, most)
        response = Response(url, status, headers, body, is_whole and not why)
        if why:
            raise CutError(response, why)
        has_end = "content-length" in headers or "transfer-encoding" in headers or status == 204
        keep = is_whole and has_end and "close" not in headers.get("connection", "").lower()
        return response, keep and not self._has_more()

    def _send(self, data: bytes, url: str) -> None:
        try:
            self.sock.settimeout(self._left(url))
            self.sock.sendall(data)
        except TimeoutError as error:
            raise _slow(url) from error
        except OSError as error:
            if self._is_used:
                raise _StaleError from error
            raise _unreachable(url, error) from error

    def _left(self, url: str) -> float:
        """Seconds that may be waited now."""
        left = min(self.idle_s, self.deadline - time.monotonic())
        if left <= 0:
            raise _slow(url)
        return left

    def _receive(self, url: str, size: int) -> bytes:
        """The next bytes, as they come; nothing at the end of the connection.

        Raises:
            OSError: when the connection is cut.
        """
        self.sock.settimeout(self._left(url))
        try:
            return self.sock.recv(size)
        except TimeoutError as error:
            raise _slow(url) from error

    def _head(self, url: str) -> tuple[int, dict[str, str]]:
        """Status and headers; interim answers are passed over."""
        for _ in range(10):
            status, headers = _parse_head(self._until_blank(url), url)
            if status >= 200:
                return status, headers
            if status == 101:
                break
        raise _broken(url, "answers with interim answers only", "an answer")

    def _until_blank(self, url: str) -> bytes:
        """The bytes of a head, without the empty line that ends it."""
        data = bytearray(self._unused())
        while (end := data.find(b"\r\n\r\n")) < 0:
            if len(data) > MAX_HEAD_BYTES:
                raise _broken(url, f"answers with a head of more than {MAX_HEAD_BYTES:,} bytes", "a shorter one")
            try:
                piece = self._receive(url, _PIECE)
            except OSError as error:
                if self._is_used and not data:
                    raise _StaleError from error
                raise _unreachable(url, error) from error
            if not piece:
                if self._is_used and not data:
                    raise _StaleError
                raise SourceError(f"{shown(url)} closed the connection without an answer", "an answer", _AGAIN)
            data += piece
        if end > MAX_HEAD_BYTES:
            raise _broken(url, f"answers with a head of more than {MAX_HEAD_BYTES:,} bytes", "a shorter one")
        self._held, self._at = bytes(data[end + 4 :]), 0
        return bytes(data[:end])

    def _body(self, url: str, status: int, headers: Mapping[str, str], most: int) -> tuple[bytes, bool, str]:
        """The body as far as it is wanted, whether that is all of it, and why it broke off, if it did."""
        if status in (204, 304):
            return b"", True, ""
        coding = headers.get("transfer-encoding")
        if coding is not None:
            if coding.lower() != "chunked":
                raise _broken(url, f"is sent in the transfer coding {coding[:40]!r}", "a length or chunks")
            return self._chunks(url, most)
        length = headers.get("content-length")
        if length is None:
            body, why = self._take(url, most + 1)
            return body[:most], len(body) <= most, "" if why == "the connection was closed" else why
        if not _NUMBER.fullmatch(length):
            raise _broken(url, f"gives its length as {length[:40]!r}", "one number of bytes")
        wanted = min(int(length), most)
        body, why = self._take(url, wanted)
        return body, wanted == int(length), why

    def _take(self, url: str, most: int) -> tuple[bytes, str]:
        """So many bytes of the body, and why there are fewer. Nothing is allocated before it has come."""
        body = bytearray(self._unused(most))
        why = ""
        while len(body) < most:
            try:
                piece = self._receive(url, min(_PIECE, most - len(body)))
            except OSError as error:
                why = error.strerror or "the connection was reset"
                break
            if not piece:
                why = "the connection was closed"
                break
            body += piece
        self._taken += len(body)
        return bytes(body), why

    def _chunks(self, url: str, most: int) -> tuple[bytes, bool, str]:
        body = bytearray()
        while True:
            line, why = self._line(url, 1024)
            if why:
                return bytes(body), False, why
            match = _CHUNK.fullmatch(line)
            if match is None:
                raise _broken(url, f"sends the chunk size {line[:40]!r}", "a number in base 16")
            size = int(match[1], 16)
            if size == 0:
                break
            wanted = min(size, most - len(body))
            piece, why = self._take(url, wanted)
            body += piece
            if why or wanted < size:
                return bytes(body), False, why
            line, why = self._line(url, 2)
            if why:
                return bytes(body), False, why
            if line not in (b"\r\n", b"\n"):
                raise _broken(url, "sends a chunk that is longer than it says", "chunks of the lengths that are given")
        for _ in range(MAX_HEADERS):
            line, why = self._line(url, MAX_HEAD_BYTES)
            if why or line in (b"\r\n", b"\n"):
                return bytes(body), True, ""
        raise _broken(url, f"sends more than {MAX_HEADERS} headers after its chunks", "fewer")

    def _line(self, url: str, most: int) -> tuple[bytes, str]:
        """The bytes up to the end of a line, and why it did not end."""
        data = bytearray()
        while not data.endswith(b"\n"):
            if len(data) >= most:
                raise _broken(url, f"sends the line {bytes(data[:40])!r} between chunks", "a chunk's size")
            if not self._has_more():
                try:
                    self._held, self._at = self._receive(url, _PIECE), 0
                except OSError as error:
                    return bytes(data), error.strerror or "the connection was reset"
                if not self._held:
                    return bytes(data), "the connection was closed"
            end = self._held.find(b"\n", self._at, self._at + most - len(data)) + 1
            data += self._unused(end - self._at if end else most - len(data))
        return bytes(data), ""


def _request(parts: SplitResult, span: tuple[int, int] | None, token: str | None, proxy: SplitResult | None) -> bytes:
    """The bytes of a request; to a proxy of `http` with the whole address."""
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?") if parts.query else ""
    )
    host = ascii_host(parts.hostname or "")
    host = f"[{host}]" if ":" in host else host
    place = host if parts.port in (None, PORTS[parts.scheme]) else f"{host}:{parts.port}"
    lines = [
        f"GET {path if proxy is None else f'http://{place}{path}'} HTTP/1.1", f"Host: {place}",
        "User-Agent: weighbridge", "Accept: */*", "Accept-Encoding: identity",
    ]  # fmt: skip
    if span is not None:
        lines.append(f"Range: bytes={span[0]}-{span[1]}")
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    key = "" if proxy is None else _proxy_key(proxy)
    return ("\r\n".join(lines) + "\r\n" + key + "\r\n").encode("ascii")


def _proxy_key(proxy: SplitResult) -> str:
    if proxy.username is None:
        return ""
    import base64

    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return f"Proxy-Authorization: Basic {base64.b64encode(pair).decode()}\r\n"


def _parse_head(data: bytes, url: str) -> tuple[int, dict[str, str]]:
    r"""Status and headers of a response.

    Example:
        >>> _parse_head(b"HTTP/1.1 206 Partial Content\r\nContent-Length: 8", "http://host/a")
        (206, {'content-length': '8'})
    """
    lines = data.split(b"\r\n")
    match = _STATUS.fullmatch(lines[0])
    if match is None:
        raise _broken(url, f"answers with {lines[0][:60]!r}", "HTTP/1.1 and a status")
    if len(lines) > MAX_HEADERS:
        raise _broken(url, f"answers with {len(lines) - 1} headers", f"at most {MAX_HEADERS}")
    headers: dict[str, str] = {}
    for line in lines[1:]:
        pair = _HEADER.fullmatch(line)
        if pair is None:
            raise _broken(url, f"answers with the header {line[:60]!r}", "a name, a colon and a value")
        name, value = pair[1].decode("ascii").lower(), pair[2].strip(b" \t").decode("latin-1")
        if name in headers and (name != "content-length" or headers[name] != value):
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return int(match[1]), headers


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """The seconds that a busy server asks for, in either of the two headers that say so."""
    limit = _RATE_LIMIT.search(headers.get("ratelimit", ""))
    if limit:
        return float(limit[1])
    after = headers.get("retry-after", "").strip()
    return float(after) if _NUMBER.fullmatch(after) else None


def _open_socket(host: str, port: int, idle_s: float, deadline: float, public_only: bool) -> tuple[socket.socket, str]:
    """A connection to the first address of a host that takes one, and that address."""
    try:
        # As bytes where that is enough: for text the resolver loads the tables of international names.
        found = socket.getaddrinfo(host.encode() if host.isascii() else host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _unreachable(host, error) from error
    if public_only and not all(addresses.is_public(str(place[0])) for *_, place in found):
        raise _private(host)
    last: OSError | None = None
    for family, kind, protocol, _, place in found[:8]:
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:  # a machine without IPv6
            last = error
            continue
        try:
            sock.settimeout(max(0.01, min(idle_s, deadline - time.monotonic())))
            sock.connect(place)
            return sock, str(place[0])
        except OSError as error:
            sock.close()
            last = error
    raise _unreachable(host, last or OSError("no address")) from last


def _broken(url: str, read: str, expected: str) -> SourceError:
    return SourceError(f"{shown(url)} {read}", expected, _AGAIN)


def _slow(url: str) -> SourceError:
    return SourceError(f"{shown(url)} did not answer in time", "an answer within the time that is waited", _AGAIN)


def _unreachable(place: str, error: Exception) -> SourceError:
    why = getattr(error, "strerror", None) or str(error) or type(error).__name__
    action = "check the address and the network; what was downloaded before can be named by its path"
    return SourceError(f"{shown(place)} cannot be reached ({why})", "a server that answers", action)


def _private(host: str) -> SourceError:
    return SourceError(
        f"a public server leads to {host[:100]}, an address of this machine or its network",
        "one that stays in the public internet", "do not use this address",
    )  # fmt: skip
