"""Where a Redis is: what stands in a URL before its settings."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from retryspool.errors import InvalidUrlError
from retryspool.urls import parse_url, redact, scheme_of

__all__ = ["SCHEMES", "Address", "parse_address", "without_hosts"]

SCHEMES = ("redis", "rediss", "redis+sentinel", "rediss+sentinel", "redis+unix")
"""One server, the same by TLS, one found by Sentinel, the same by TLS, one on this machine by its socket."""

_PORT = 6379
_SENTINEL_PORT = 26379
_HOSTS = re.compile(r"(?s)\A([^:]*://(?:[^/?#]*@)?)([^/?#]*)(.*)\Z")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\],\s]+)(?::([0-9]{1,5}))?")


@dataclass(frozen=True, slots=True)
class Address:
    """One Redis: `hosts` are its own, or those of its Sentinels; none for a socket, which `path` is then."""

    hosts: tuple[tuple[str, int], ...]
    path: str = ""
    database: int = 0
    user: str = ""
    password: str = field(default="", repr=False)
    tls: bool = False
    by_sentinel: bool = False


def parse_address(url: str) -> Address:
    """Take a URL without settings apart.

    :raises InvalidUrlError: it doesn't parse, or has settings
    """
    scheme = scheme_of(url)
    if scheme not in SCHEMES:
        msg = f"{redact(url)!r} is of another scheme; there are: {', '.join(SCHEMES)}"
        raise InvalidUrlError(msg)
    match = _HOSTS.match(url)
    if match is None:
        msg = f"{redact(url)!r} has no host; it is {scheme}://user:password@host:port/database"
        raise InvalidUrlError(msg)
    hosts = match[2]
    parsed = parse_url(without_hosts(url), {})
    if scheme == "redis+unix":
        if hosts or not parsed.path.startswith("/") or "\0" in parsed.path:
            msg = f"{redact(url)!r} names no socket; it is redis+unix:///path/of/the.sock, and database 0"
            raise InvalidUrlError(msg)
        return Address((), parsed.path, user=parsed.user, password=parsed.password)
    by_sentinel = scheme.endswith("+sentinel")
    return Address(
        _hosts(url, hosts, _SENTINEL_PORT if by_sentinel else _PORT, several=by_sentinel),
        database=_database(url, parsed.path),
        user=parsed.user,
        password=parsed.password,
        tls=scheme.startswith("rediss"),
        by_sentinel=by_sentinel,
    )


def without_hosts(url: str) -> str:
    """Return the URL with one host in the place of several, which are nothing that a URL may have."""
    return _HOSTS.sub(lambda match: f"{match[1]}{'host' if match[2] else ''}{match[3]}", url)


# What is wrong isn't shown but as a part of the URL: where a password isn't escaped, it may be anywhere.


def _hosts(url: str, text: str, default_port: int, *, several: bool) -> tuple[tuple[str, int], ...]:
    found: list[tuple[str, int]] = []
    for each in text.split(",") if several else [text]:
        match = _HOST.fullmatch(each)
        port = int(match[2] or default_port) if match else 0
        if match is None or not 0 < port < 65536:  # noqa: PLR2004 -- what TCP has
            wanted = "host:port,host:port" if several else "host:port"
            msg = f"{redact(url)!r} has no host as it should; it is {wanted}, the ports 1 to 65535"
            raise InvalidUrlError(msg)
        found.append((match[1].strip("[]"), port))
    return tuple(found)


def _database(url: str, path: str) -> int:
    number = path.removeprefix("/")
    if number and not re.fullmatch(r"[0-9]{1,5}", number):
        msg = f"{redact(url)!r} has a path that isn't the number of a database, such as /0"
        raise InvalidUrlError(msg)
    return int(number or 0)
