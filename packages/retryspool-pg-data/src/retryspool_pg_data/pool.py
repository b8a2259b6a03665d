"""The connections: taken from psycopg's pool for one statement at a time, so that nobody waits for who is slow."""

from __future__ import annotations

import math
import os
import random
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, TypeVarTuple

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from retryspool.deadline import remaining
from retryspool.errors import BackendError, BackendUnavailableError
from retryspool_pg_data.connection import BoundedConnection, NoAnswerError, OnFailure
from retryspool_pg_data.failures import RETRIED, storage_error, timed_out

__all__ = ["Connections", "OwnPool", "Pool"]

R = TypeVar("R")
Arguments = TypeVarTuple("Arguments")
Pool = ConnectionPool[BoundedConnection]

_SLICE_S = 0.25
"""How long to wait for a connection before looking whether there can be one."""
_LEAST_S = 0.001
"""How long at least: with nothing at all, the pool doesn't even look."""
_TRIES = 25
"""How often is tried again what the server undoes because of others."""
_PAUSE_S = 0.001
"""How long to wait before that, at first; each time up to twice as long, by chance, so that they get out of step."""
_FRESH_S = 0.01
"""How long ago a connection must have been used for a look whether it's still there: it takes longer than all else."""
_CLOSE_S = 0.1
"""How long to wait for the pool's threads: nearly none, as they may be connecting to a server that hangs."""

_inherited: list[Pool] = []
"""Pools that came by a fork: kept for good, since what they do at their end would reach the parent's connections."""


class _LazyPool(ConnectionPool[BoundedConnection]):
    """A pool that doesn't connect before it's asked for a connection."""

    def keep(self, count: int) -> None:
        """Have so many connections open from now on. psycopg's own `resize` would make them beyond `max_size` too."""
        with self._lock:
            self._min_size = count

    def _get_ready_connection(self, timeout: float | None) -> BoundedConnection | None:
        """Take the connection that was used last: its process in the server has at hand what it needs.

        psycopg's own takes turns, so that one thread would go from one cold process to the next.
        """
        self._pool.rotate(1)
        return super()._get_ready_connection(timeout)

    def disown(self) -> None:
        """Do nothing at its end, as if it were closed: it's the parent's, before a fork."""
        self._closed = True


@dataclass(frozen=True, slots=True)
class OwnPool:
    """What a pool of our own is made of."""

    conninfo: str
    min_size: int
    max_size: int
    connect_timeout: float
    prepare: bool

    def open(self, on_failure: OnFailure) -> Pool:
        """Open it, at once, whether the server is there or not."""
        settings: dict[str, Any] = {
            "autocommit": True,
            "connect_timeout": math.ceil(self.connect_timeout),
            "on_failure": on_failure,
        }
        if not self.prepare:
            settings["prepare_threshold"] = None
        return _LazyPool(
            self.conninfo,
            connection_class=BoundedConnection,
            kwargs=settings,
            min_size=0,  # until two are needed at a time
            max_size=self.max_size,
            name="retryspool-pg-data",
            # It would wait longer and longer between its attempts, and whoever asks meanwhile would wait with it. So
            # it gives up at once, and each that asks has it try again.
            reconnect_timeout=0,
            open=True,
        )


class Connections:
    """Gives out connections in autocommit mode. A fork's child makes a pool of its own."""

    def __init__(self, source: OwnPool | Pool, *, timeout: float) -> None:
        self.timeout = timeout
        self._source = source
        self._opened_by = os.getpid()
        self.reset()

    def reset(self) -> None:
        """Forget all that belongs to the parent, after a fork."""
        if (pool := getattr(self, "_pool", None)) is not None:
            _inherited.append(pool)
            if isinstance(pool, _LazyPool):
                pool.disown()
        self._pool: Pool | None = None
        self._lock = threading.Lock()
        self._taken: set[BoundedConnection] = set()
        self._is_grown = False
        self._failure: tuple[float, psycopg.Error] | None = None

    def use(
        self, doing: str, do: Callable[[BoundedConnection, *Arguments], R], *arguments: *Arguments, effect: bool
    ) -> R:
        """Return what `do` returns for a connection and `arguments`; again and again while the server undoes it.

        :param doing: for the error, such as "storing the payload of message 'a'"
        :param effect: whether it changes something
        :raises BackendError: it failed; see `failures`
        :raises DeadlineExceededError: the caller's time is over
        """
        attempt = 0
        while True:
            connection = self.take(doing)
            try:
                return do(connection, *arguments)
            except (psycopg.Error, NoAnswerError) as error:
                if attempt == _TRIES or not isinstance(error, RETRIED):
                    raise storage_error(doing, error, effect=effect, cancelled=connection.cancelled) from error
            finally:
                self.give_back(connection)
            time.sleep(random.uniform(0, _PAUSE_S * 2 ** min(attempt, 6)))
            attempt += 1

    def take(self, doing: str) -> BoundedConnection:
        """Return a connection, to be given back to `give_back`. It waits for the server no longer than the caller may.

        :raises BackendUnavailableError: the server can't be reached, or all connections are in use; nothing was changed
        :raises DeadlineExceededError: likewise, by the caller's deadline
        """
        left = remaining()
        now = time.monotonic()
        until = now + (self.timeout if left is None else min(left, self.timeout))
        pool = self._pool or self._open()
        while True:
            connection = self._wait_for_one(pool, now, until, doing)
            if now - connection.used < _FRESH_S or _is_alive(connection):
                break
            self._return(pool, connection)
        connection.used = now
        connection.expires = until
        connection.cancelled = False
        connection.lender = pool
        if not connection.autocommit:
            connection.was_autocommit = False
            connection.autocommit = True
        return connection

    def give_back(self, connection: BoundedConnection) -> None:
        """Take a connection back. One in the middle of something is closed, and the pool makes another in its place."""
        connection.expires = math.inf
        pool, connection.lender = connection.lender, None
        if pool is None:  # given back before
            return
        if connection.pgconn.transaction_status != TransactionStatus.IDLE:
            connection.pgconn.finish()
        elif not connection.was_autocommit:
            connection.was_autocommit = True
            connection.autocommit = False
        self._return(pool, connection)

    def close(self) -> None:
        """Close the pool, unless it's the user's."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None and pool is not self._source:
            pool.close(_CLOSE_S)

    def _open(self) -> Pool:
        if (pool := self._pool) is not None:
            return pool
        with self._lock:
            if self._pool is None:
                if isinstance(self._source, OwnPool):
                    self._pool = self._source.open(self._note_failure)
                elif os.getpid() != self._opened_by:
                    raise BackendError(
                        f"the pool of connections that was passed in belongs to process {self._opened_by}, before a "
                        f"fork; make a pool and a backend in this process, {os.getpid()}"
                    )
                else:
                    self._pool = self._source
            return self._pool

    def _wait_for_one(self, pool: Pool, began: float, until: float, doing: str) -> BoundedConnection:
        left = until - began
        while True:
            try:
                connection = pool.getconn(_SLICE_S if left > _SLICE_S else max(left, _LEAST_S))
            except PoolClosed as error:
                raise BackendUnavailableError(f"{doing} failed: {error}", outcome="none") from error
            except PoolTimeout as error:
                failed = self._failure
                if failed is not None and failed[0] >= began and not self._taken:
                    text = f"{doing} failed: PostgreSQL can't be reached: {' '.join(str(failed[1]).split())}"
                    raise BackendUnavailableError(text, outcome="none") from failed[1]
                left = until - time.monotonic()
                if left <= 0:
                    text = f"{doing} failed: there was no free connection to PostgreSQL among {pool.max_size}"
                    raise timed_out(text, "none") from (failed[1] if failed else error)
            else:
                self._taken.add(connection)
                if len(self._taken) > 1 and not self._is_grown:
                    self._grow(pool)
                return connection

    def _grow(self, pool: Pool) -> None:
        with self._lock:
            grown, self._is_grown = self._is_grown, True
        if not grown and isinstance(pool, _LazyPool) and isinstance(self._source, OwnPool):
            pool.keep(self._source.min_size)

    def _return(self, pool: Pool, connection: BoundedConnection) -> None:
        self._taken.discard(connection)
        pool.putconn(connection)

    def _note_failure(self, began: float, error: psycopg.Error) -> None:
        self._failure = began, error


def _is_alive(connection: BoundedConnection) -> bool:
    """Tell whether the connection has lived until now, without asking the server: whether its end has come in."""
    pgconn = connection.pgconn
    try:
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        while poll.poll(0):  # what else comes in unasked, such as a changed setting, is read away
            pgconn.consume_input()
    except (psycopg.Error, OSError):
        pgconn.finish()
        return False
    return True
