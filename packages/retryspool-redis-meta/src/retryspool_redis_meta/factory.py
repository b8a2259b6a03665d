"""The settings of the metadata backend that keeps records in Redis."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Self, get_args

from retryspool.errors import InvalidOptionError, InvalidUrlError
from retryspool.meta import MetaFactory
from retryspool.namespaces import validate_namespace
from retryspool.urls import parse_url, redact
from retryspool_redis_meta.address import SCHEMES, parse_address, without_hosts

if TYPE_CHECKING:
    from redis import Redis, RedisCluster

    from retryspool_redis_meta.backend import RedisMetaBackend

__all__ = ["Durability", "RedisMetaFactory"]

Durability = Literal["ack", "fsync"]

_PREFIX = re.compile(r"[A-Za-z0-9._:@+/-]{1,200}")
_LONGEST_S = 3600.0


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = "it must be a number of seconds"
        raise ValueError(msg) from None


def _whole(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        msg = "it must be a whole number"
        raise ValueError(msg)
    return int(text)


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        msg = "it must be true or false"
        raise ValueError(msg)
    return text == "true"


_SETTINGS: dict[str, Callable[[str], object]] = {
    "prefix": str,
    "durability": str,
    "timeout": _seconds,
    "connect_timeout": _seconds,
    "max_connections": _whole,
    "service": str,
    "sentinel_user": str,
    "sentinel_password": str,
    "tls_ca": str,
    "tls_certificate": str,
    "tls_key": str,
    "tls_verify": _flag,
}


@dataclass(frozen=True, kw_only=True)
class RedisMetaFactory(MetaFactory):
    """Records in Redis."""

    name: ClassVar[str] = "redis"
    schemes: ClassVar[tuple[str, ...]] = tuple(scheme for scheme in SCHEMES if scheme != "redis")

    url: str = field(default="redis://localhost:6379/0", kw_only=False, repr=False)
    """Where the server is; see the README for its forms. It holds no settings: they are keyword arguments here."""
    prefix: str = "retryspool"
    """What the store's keys begin with, in braces. Stores with different prefixes share nothing."""
    durability: Durability = "ack"
    """`ack`: a write is as durable as the server makes it, by its appendfsync. `fsync`: a write waits until it's on the
    server's disk, whatever its appendfsync; it needs Redis 7.2."""
    timeout: float = 10.0
    """How long to wait for a reply, in seconds."""
    connect_timeout: float = 5.0
    """How long to wait for a connection, in seconds."""
    max_connections: int = 50
    """How many calls may be under way at once; the others wait. Those that wait for changes come on top."""
    service: str = ""
    """The name by which Sentinel knows the server."""
    sentinel_user: str = ""
    sentinel_password: str = field(default="", repr=False)
    """What the Sentinels want, which isn't what the server wants."""
    tls_ca: str = ""
    """A file with the certificates to trust; the system's if empty."""
    tls_certificate: str = ""
    """A file with a certificate of our own, for servers that want one."""
    tls_key: str = ""
    """A file with the key to that, if it isn't in the same one."""
    tls_verify: bool = True
    """Whether the server's certificate is verified. Without, anybody in between may read and change everything."""
    client: Redis | RedisCluster | None = field(default=None, repr=False)
    """A ready client: its server and its credentials are used in place of those here, with connections of our own. The
    client is left as it is, and open."""

    def __post_init__(self) -> None:
        if _PREFIX.fullmatch(self.prefix) is None:
            msg = f"prefix is {self.prefix[:60]!r}; it must be 1 to 200 characters of A-Z a-z 0-9 . _ : @ + / -"
            raise InvalidOptionError(msg)
        if self.durability not in get_args(Durability):
            msg = f"durability is {self.durability!r}; it must be one of {', '.join(get_args(Durability))}"
            raise InvalidOptionError(msg)
        for name in ("timeout", "connect_timeout"):
            if not 0 < getattr(self, name) <= _LONGEST_S:
                msg = f"{name} is {getattr(self, name)}; it must be more than 0 and at most {_LONGEST_S:.0f} seconds"
                raise InvalidOptionError(msg)
        if self.max_connections < 1:
            msg = f"max_connections is {self.max_connections}; it must be at least 1"
            raise InvalidOptionError(msg)
        address = parse_address(self.url)
        if address.by_sentinel != bool(self.service):
            which = "is needed" if address.by_sentinel else "means nothing"
            msg = f"service is {self.service!r}; with {redact(self.url)!r} it {which}: it goes with redis+sentinel://"
            raise InvalidOptionError(msg)

    def __repr__(self) -> str:
        where = "a client" if self.client is not None else redact(self.url)
        return f"RedisMetaFactory({where!r}, prefix={self.prefix!r}, durability={self.durability!r})"

    def create(self) -> RedisMetaBackend:
        from retryspool_redis_meta.opening import open_backend  # noqa: PLC0415 -- redis is slow to import; many only list us

        return open_backend(self)

    def destroy(self) -> None:
        """Remove all the store's keys, those that can't be read too. Other prefixes' are left alone."""
        from retryspool_redis_meta.opening import remove_keys  # noqa: PLC0415 -- redis is slow to import

        remove_keys(self)

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the settings from `redis://user:password@host:port/database?prefix=…`, or another of its forms."""
        settings = dict(parse_url(without_hosts(url), _SETTINGS).settings)
        try:
            return cls(url.partition("?")[0], **settings)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        except InvalidOptionError as error:
            msg = f"{redact(url)!r}: {error}"
            raise InvalidUrlError(msg) from None

    def in_namespace(self, namespace: str) -> Self:
        """Return a factory of the store whose prefix has `:namespace` after this one's."""
        return replace(self, prefix=f"{self.prefix}:{validate_namespace(namespace)}")
