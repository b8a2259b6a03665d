"""Where a backend takes its connections from: a pool of its own, or that of a client that was passed in."""

from __future__ import annotations

from typing import Any, Protocol

from redis import Redis, RedisCluster

from retryspool_redis_meta.connections import Options, new_pool

__all__ = ["Argument", "ClientPools", "OwnPools", "Pool", "Pools", "Wire"]

Argument = bytes | str | int


class Wire(Protocol):
    """What is used of a connection of the driver's, which leaves it without types."""

    socket_timeout: float | None
    _sock: Any

    def send_packed_command(self, command: list[bytes], /) -> None: ...

    def read_response(self, *, disable_decoding: bool) -> Any: ...

    def disconnect(self) -> None: ...


class Pool(Protocol):
    """What is used of a pool of the driver's."""

    def get_connection(self) -> Wire: ...

    def release(self, connection: Wire, /) -> None: ...

    def disconnect(self, *, inuse_connections: bool) -> None: ...


class Pools(Protocol):
    """What a link needs of either."""

    owned: bool
    """Whether the connections are ours to close, and bounded by the deadline by themselves."""

    def pool(self) -> Pool:
        """Return the pool to take the next connection from."""
        ...

    def moved(self) -> None:
        """Look again where the keys are: the server says, not here."""
        ...

    def after_fork(self) -> None:
        """Start anew in the child of a fork."""
        ...

    def close(self) -> None:
        """Close the connections that nobody uses, if they are ours."""
        ...


class OwnPools:
    """A pool made from settings."""

    owned = True

    def __init__(self, options: Options) -> None:
        self._options = options
        self._pool: Pool = new_pool(options)

    def pool(self) -> Pool:
        return self._pool

    def moved(self) -> None:
        """Do nothing: it's the URL that names the wrong node."""

    def after_fork(self) -> None:
        self._pool = new_pool(self._options)  # the driver's own care leaves a lock as it was at the fork

    def close(self) -> None:
        self._pool.disconnect(inuse_connections=False)


class ClientPools:
    """The pool of a client that belongs to somebody else; of a cluster's, that of the node that has our keys."""

    owned = False

    def __init__(self, client: Redis | RedisCluster, base: str) -> None:
        self._client: Any = client
        self._base = base
        self._is_cluster = isinstance(client, RedisCluster)

    def pool(self) -> Pool:
        client = self._client
        if self._is_cluster:
            node = client.get_node_from_key(self._base)
            client = client.get_redis_connection(node)
        pool: Pool = client.connection_pool
        return pool

    def moved(self) -> None:
        if self._is_cluster:
            self._client.nodes_manager.initialize()

    def after_fork(self) -> None:
        """Do nothing: the driver's pools look at the process that they are in."""

    def close(self) -> None:
        """Do nothing: who opened it closes it."""
