"""Which addresses may be asked, how are they told, and whose is a token?

Addresses are of `http` and `https`, after RFC 3986. A redirect must not lead from the public internet to this machine
or its network: `is_public` decides by what a name resolves to, `is_private` by the name alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urljoin, urlsplit

from weighbridge.errors import SourceError

PORTS = {"http": 80, "https": 443}


def origin(url: str) -> str:
    """Scheme, host and port of an address: what a token belongs to.

    Example:
        >>> origin("https://Huggingface.co/org/name"), origin("http://127.0.0.1:8080/x")
        ('https://huggingface.co:443', 'http://127.0.0.1:8080')
    """
    parts = parts_of(url, "an address")
    return f"{parts.scheme}://{parts.hostname}:{parts.port or PORTS[parts.scheme]}"


def shown(url: str) -> str:
    """An address as messages show it: without user, query and fragment, which may hold keys.

    Example:
        >>> shown("https://user:word@host/a/b.safetensors?X-Signature=secret")
        'https://host/a/b.safetensors'
    """
    if "://" not in url:
        return url[:200]
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    return f"{scheme[:10]}://{place.rpartition('@')[2]}{slash}{re.split('[?#]', path)[0]}"[:200]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet: not of this machine, its network or its link.

    Example:
        >>> [is_public(a) for a in ("8.8.8.8", "127.0.0.2", "10.1.2.3", "169.254.169.254", "::1", "::ffff:10.0.0.1")]
        [True, False, False, False, False, False]
    """
    import ipaddress

    try:
        found: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found.sixtofour or found
    return found.is_global and not found.is_multicast


def environment_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """The proxies that the usual variables name, small letters before capitals; `no` holds the hosts without one.

    Example:
        >>> environment_proxies({"HTTPS_PROXY": "http://proxy:3128", "no_proxy": "localhost,.corp"})
        {'https': 'http://proxy:3128', 'no': 'localhost,.corp'}
    """
    found = {}
    for scheme in ("http", "https", "no"):
        names = (f"{scheme}_proxy", f"{scheme.upper()}_PROXY", *(("all_proxy", "ALL_PROXY") if scheme != "no" else ()))
        value = next((environment[name] for name in names if environment.get(name)), "")
        if value:
            found[scheme] = value
    return found


def parts_of(url: str, what: str, with_user: bool = False) -> SplitResult:
    """A checked address.

    Raises:
        SourceError: for another scheme, no host, a user, or characters that no address has.
    """
    expected, action = "an address of http or https such as https://host/file.safetensors", "check the address"
    try:
        parts = urlsplit(url)
        port = parts.port
        ascii_host(parts.hostname or "")
    except ValueError as error:
        raise SourceError(f"{what} is {shown(url)!r} ({error})", expected, action) from error
    if parts.scheme not in PORTS:
        raise SourceError(f"{what} is {shown(url)!r}, of the scheme {parts.scheme[:20]!r}", expected, action)
    if not parts.hostname or port == 0 or len(url) > 8192 or re.search(r"[\x00-\x20\x7f]", url):
        raise SourceError(f"{what} is {shown(url)!r}", expected, action)
    if "@" in parts.netloc and not with_user:
        raise SourceError(f"{what} holds a user or a password", "an address without", "leave it out")
    return parts


def ascii_host(host: str) -> str:
    """A host as it is spelled in a request.

    Raises:
        UnicodeError: when an international name breaks the rules of such names.
    """
    return host if host.isascii() else host.encode("idna").decode()


def joined(url: str, target: str) -> str:
    """The address that a redirect means; what cannot be joined stays as it is, and is refused."""
    try:
        return urljoin(url, target)
    except ValueError:
        return target


def is_loopback(host: str) -> bool:
    """Whether a host's name says that it is this machine."""
    named = host in ("localhost", "::1") or host.endswith(".localhost")
    return named or re.fullmatch(r"127(\.[0-9]+){3}", host) is not None


def is_private(host: str) -> bool:
    """Whether a host's name alone says that it is this machine or a private address."""
    return is_loopback(host) or ((":" in host or re.fullmatch(r"[0-9.]+", host) is not None) and not is_public(host))


def is_exempt(host: str, port: int, hosts: str) -> bool:
    """Whether `NO_PROXY` names a host: by its name, the end of its name, or `*`."""
    for entry in hosts.lower().split(","):
        name = entry.strip()
        domain = name.lstrip(".")
        if name in ("*", f"{host}:{port}") or (domain and f".{host}".endswith(f".{domain}")):
            return True
    return False
