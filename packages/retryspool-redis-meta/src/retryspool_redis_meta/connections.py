"""Connections to Redis whose every wait ends with the caller's deadline, and pools of them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection, SentinelManagedSSLConnection

from retryspool.deadline import remaining
from retryspool.errors import InvalidOptionError
from retryspool_redis_meta.address import Address

__all__ = ["Options", "new_pool", "pool_like"]

_ANY_NUMBER = 2**31
"""Who uses a pool bounds it: the driver's own bound is an error where waiting is meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to connect."""

    address: Address
    timeout: float
    connect_timeout: float
    service: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""
    tls_ca: str = ""
    tls_certificate: str = ""
    tls_key: str = ""
    tls_verify: bool = True


class _BoundedSocket:
    """A socket that waits for no single thing longer than its time-out, nor than the deadline allows."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._timeout = sock.gettimeout()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout

    def _bounded(self) -> socket.socket:
        timeout, left = self._timeout, remaining()
        if left is not None and (timeout is None or timeout > left):
            if left == 0:
                raise TimeoutError
            timeout = left
        self._sock.settimeout(timeout)
        return self._sock

    def recv(self, size: int, flags: int = 0) -> bytes:
        return self._bounded().recv(size, flags)

    def recv_into(self, buffer: bytearray, size: int = 0, flags: int = 0) -> int:
        return self._bounded().recv_into(buffer, size, flags)

    def sendall(self, data: bytes, flags: int = 0) -> None:
        self._bounded().sendall(data, flags)

    def shutdown(self, how: int) -> None:
        # Past TLS, which would have something to say first: another thread may be waiting for what it reads.
        socket.socket.shutdown(self._sock, how)


if TYPE_CHECKING:
    _Mixed = Connection
else:
    _Mixed = object


class _Bounded(_Mixed):
    """Mixed in before a connection of the driver's."""

    def _connect(self) -> Any:
        usual = self.socket_timeout, self.socket_connect_timeout
        left = remaining()
        if left is not None:
            if left == 0:
                raise TimeoutError
            self.socket_timeout, self.socket_connect_timeout = (left if t is None else min(t, left) for t in usual)
        try:
            sock = super()._connect()  # type: ignore[no-untyped-call]
        finally:
            self.socket_timeout, self.socket_connect_timeout = usual
        sock.settimeout(self.socket_timeout)
        return _BoundedSocket(sock)


class _Tcp(_Bounded, Connection):
    """By TCP."""


class _Tls(_Bounded, SSLConnection):
    """By TLS."""


class _Unix(_Bounded, UnixDomainSocketConnection):
    """By a socket on this machine."""


class _Managed(_Bounded, SentinelManagedConnection):
    """To the master that the Sentinels name."""


class _ManagedTls(_Bounded, SentinelManagedSSLConnection):
    """To the master that the Sentinels name, by TLS."""


def _common(timeout: float, connect_timeout: float) -> dict[str, Any]:
    """Return what all pools of ours have in common; among it that the driver tries nothing again."""
    return {
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
        "protocol": 2,
        "max_connections": _ANY_NUMBER,
    }


def new_pool(options: Options) -> Any:
    """Return a pool of connections as `options` say; none is made yet."""
    address = options.address
    common = _common(options.timeout, options.connect_timeout)
    if address.tls:
        common |= {
            "ssl_cert_reqs": "required" if options.tls_verify else "none",
            "ssl_check_hostname": options.tls_verify,
            "ssl_ca_certs": options.tls_ca or None,
            "ssl_certfile": options.tls_certificate or None,
            "ssl_keyfile": options.tls_key or None,
        }
    own: dict[str, Any] = {
        **common,
        "db": address.database,
        "username": address.user or None,
        "password": address.password or None,
    }
    if address.path:
        own["connection_class"] = _Unix
        return ConnectionPool(path=address.path, **own)
    if address.by_sentinel:
        manager = _sentinels(options, common)
        own["connection_class"] = _ManagedTls if address.tls else _Managed
        return SentinelConnectionPool(options.service, manager, **own)  # type: ignore[no-untyped-call]
    ((host, port),) = address.hosts
    return ConnectionPool(connection_class=_Tls if address.tls else _Tcp, host=host, port=port, **own)


def _sentinels(options: Options, common: dict[str, Any]) -> Sentinel:
    """Return the driver's Sentinels, on connections of ours, which it can't be told to take."""
    connection_class = _Tls if options.address.tls else _Tcp
    common |= {"username": options.sentinel_user or None, "password": options.sentinel_password or None}
    manager = Sentinel([])  # type: ignore[no-untyped-call]
    manager.sentinels = [
        Redis(connection_pool=ConnectionPool(connection_class=connection_class, host=host, port=port, **common))
        for host, port in options.address.hosts
    ]
    return manager


_ITS_OWN = ("host", "port", "path", "db", "username", "password", "credential_provider", "client_name", "socket_type")
"""What a client's connections have that says where and who; what begins with `ssl_` or `socket_keepalive` as well."""


def pool_like(pool: Any, timeout: float, connect_timeout: float) -> Any:
    """Return a pool of connections to where a client's pool has its own, by the same credentials.

    They are ours: the client's wait as long as it was told to, whatever the deadline, and try again by themselves.
    """
    settings = _common(timeout, connect_timeout) | {
        name: value
        for name, value in pool.connection_kwargs.items()
        if name in _ITS_OWN or name.startswith(("ssl_", "socket_keepalive"))
    }
    if isinstance(pool, SentinelConnectionPool):
        is_tls = issubclass(pool.connection_class, SSLConnection)
        settings["connection_class"] = _ManagedTls if is_tls else _Managed
        return SentinelConnectionPool(pool.service_name, pool.sentinel_manager, **settings)  # type: ignore[no-untyped-call]
    kinds = ((UnixDomainSocketConnection, _Unix), (SSLConnection, _Tls), (Connection, _Tcp))
    for theirs, ours in kinds:
        if issubclass(pool.connection_class, theirs):
            return ConnectionPool(connection_class=ours, **settings)
    msg = f"client has connections of {pool.connection_class.__name__}; it must have those of redis-py"
    raise InvalidOptionError(msg)
