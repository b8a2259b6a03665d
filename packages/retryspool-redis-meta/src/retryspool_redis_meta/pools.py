"""Where a backend takes its connections from: by its settings, or to where a client that was passed in has its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from redis import Redis, RedisCluster
from redis.exceptions import RedisError

from retryspool_redis_meta.connections import Options, new_pool, pool_like

__all__ = ["Argument", "Pool", "Pools", "Wire", "own_pools", "pools_of"]

Argument = bytes | str | int


class Wire(Protocol):
    """What is used of a connection of the driver's, which leaves it without types."""

    _sock: Any

    def send_packed_command(self, command: list[bytes], /) -> None: ...

    def read_response(self, *, disable_decoding: bool) -> Any: ...

    def disconnect(self) -> None: ...


class Pool(Protocol):
    """What is used of a pool of the driver's."""

    def get_connection(self) -> Wire: ...

    def release(self, connection: Wire, /) -> None: ...

    def disconnect(self, *, inuse_connections: bool) -> None: ...


class Pools:
    """Where a backend takes its connections from.

    :param new_pool: makes a pool of connections to where the keys are now
    :param look_again: finds out where they are, for a cluster; None: they don't move
    """

    def __init__(self, new_pool: Callable[[], Pool], look_again: Callable[[], None] | None = None) -> None:
        self._new_pool = new_pool
        self._look_again = look_again
        self._pool = new_pool()

    def pool(self) -> Pool:
        """Return the pool to take the next connection from."""
        return self._pool

    def moved(self) -> None:
        """Go to where the keys are now: the server says, or doesn't answer any more, that it isn't there."""
        if self._look_again is None:
            return
        try:
            self._look_again()
        except RedisError:  # no node answers; who called has an error to tell of that
            return
        before, self._pool = self._pool, self._new_pool()
        before.disconnect(inuse_connections=False)

    def after_fork(self) -> None:
        """Start anew in the child of a fork: the driver's own care leaves a lock as it was at the fork."""
        self._pool = self._new_pool()

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._pool.disconnect(inuse_connections=False)


def own_pools(options: Options) -> Pools:
    """Return pools made from settings."""
    return Pools(lambda: new_pool(options))


def pools_of(client: Redis | RedisCluster, base: str, *, timeout: float, connect_timeout: float) -> Pools:
    """Return pools like that of a client that was passed in; of a cluster's, that of the node that has our keys."""
    any_client: Any = client
    if not isinstance(client, RedisCluster):
        return Pools(lambda: pool_like(any_client.connection_pool, timeout, connect_timeout))

    def new_pool_of_node() -> Pool:
        node = any_client.get_redis_connection(any_client.get_node_from_key(base))
        pool: Pool = pool_like(node.connection_pool, timeout, connect_timeout)
        return pool

    return Pools(new_pool_of_node, any_client.nodes_manager.initialize)
