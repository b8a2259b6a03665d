"""Commands to the server and back: within the deadline, never sent twice if they write, with errors of our own."""

from __future__ import annotations

import os
import queue
import socket
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

from redis import exceptions as redis_errors

from retryspool.deadline import check_deadline, remaining
from retryspool.errors import (
    BackendClosedError,
    BackendUnavailableError,
    DeadlineExceededError,
    Outcome,
    StorageError,
)
from retryspool_redis_meta.failures import failure
from retryspool_redis_meta.pools import Argument, Pool, Pools, Wire
from retryspool_redis_meta.scripts import Script

__all__ = ["Link", "Reply"]

Reply = Any
"""What the server replied to one command: bytes, a number, None, or a list of these."""

_LOADING_PAUSE_S = 0.05
_DEADLINE_SLACK_S = 0.005
"""A time-out may end a little before the deadline that it was made from."""
_DRIVER_ERRORS = (redis_errors.RedisError, OSError)


class _LostError(Exception):
    """The connection failed while a command was under way."""

    def __init__(self, error: StorageError) -> None:
        super().__init__()
        self.error = error


class Link:
    """What a backend says to its server. Threads share it.

    :param where: what errors call the server
    :param base: what all keys begin with
    :param max_connections: how many calls may be under way at once, on connections of ours; the others wait
    :param fsync: whether writes wait until they are on the server's disk
    """

    def __init__(
        self, pools: Pools, *, where: str, base: str, timeout: float, max_connections: int, fsync: bool
    ) -> None:
        self.where = where
        self._pools = pools
        self._base = base
        self._timeout = timeout
        self._max_connections = max_connections
        self._fsync = fsync
        self._closed = threading.Event()
        self._begin()
        _links.add(self)

    def _begin(self) -> None:
        self._slots: queue.SimpleQueue[None] = queue.SimpleQueue()  # a semaphore, at a tenth of the time of threading's
        for _ in range(self._max_connections):
            self._slots.put(None)
        self._lock = threading.Lock()
        self._blocked: set[Wire] = set()

    def after_fork(self) -> None:
        """Start anew in the child: connections are the parent's, and threads that held a lock aren't here."""
        self._begin()
        self._pools.after_fork()

    def check(self) -> None:
        """Do nothing while calls are allowed.

        :raises BackendClosedError: the link is closed
        :raises DeadlineExceededError: the deadline has passed
        """
        if self._closed.is_set():
            raise BackendClosedError
        check_deadline()

    def close(self) -> None:
        """End who waits, and the connections that nobody uses; the others end with the call that they are used for."""
        with self._lock:
            self._closed.set()
            for connection in self._blocked:
                _shut(connection)
        self._pools.close()

    # -- commands ------------------------------------------------------------------------------------------------------

    def ask(self, *command: Argument, refused: Reply = ...) -> Reply:
        """Have one command that only reads.

        :param refused: what to return if the server refuses it; it's raised without
        """
        (reply,) = self._exchange([command], writes=False)
        if isinstance(reply, Exception):
            if refused is not ...:
                return refused
            raise failure(self.where, reply, "none") from reply
        return reply

    def read(self, script: Script, *arguments: Argument) -> Reply:
        """Run a script that only reads."""
        return self._run(script, arguments, writes=False, fsync=False)

    def write(self, script: Script, *arguments: Argument, durable: bool = True) -> Reply:
        """Run a script that writes.

        :param durable: whether to wait until it's on the disk, where writes do
        """
        return self._run(script, arguments, writes=True, fsync=self._fsync and durable)

    @property
    def waits_for_disk(self) -> bool:
        """Whether writes wait until they are on the server's disk."""
        return self._fsync

    def _run(self, script: Script, arguments: Sequence[Argument], *, writes: bool, fsync: bool) -> Reply:
        wait: list[tuple[Argument, ...]] = [("WAITAOF", 1, 0, self._patience_ms())] if fsync else []
        replies = self._exchange([("EVALSHA", script.sha, 1, self._base, *arguments), *wait], writes=writes)
        if isinstance(replies[0], redis_errors.NoScriptError):  # a new server, or one whose scripts were flushed
            replies = self._exchange([("EVAL", script.text, 1, self._base, *arguments), *wait], writes=writes)
        if isinstance(replies[0], Exception):
            raise failure(self.where, replies[0], "none") from replies[0]
        if fsync:
            self._check_synced(replies[1])
        return replies[0]

    def _patience_ms(self) -> int:
        left = remaining()
        return max(1, int(900 * (self._timeout if left is None else min(left, self._timeout))))

    def _check_synced(self, reply: Reply) -> None:
        is_refused = isinstance(reply, Exception)
        if is_refused or reply[0] < 1:
            why = reply if is_refused else "not in time"
            msg = (
                f"{self.where} made the change, and didn't say that it's on its disk, so a power cut may take it: {why}"
            )
            raise BackendUnavailableError(msg, outcome="unknown") from reply if is_refused else None

    def _exchange(self, commands: Sequence[Sequence[Argument]], *, writes: bool) -> list[Reply]:
        """Send commands at once; return a reply each, which is an exception where the server replied with an error."""
        self.check()
        patient_until = time.monotonic() + self._timeout
        may_repeat = not writes  # a write whose reply was lost may have been done: it's never sent again
        has_moved = False
        while True:
            try:
                replies = self._once(commands, writes=writes)
            except redis_errors.BusyLoadingError as error:
                if time.monotonic() >= patient_until:
                    raise failure(self.where, error, "none") from error
                self._closed.wait(_LOADING_PAUSE_S)
                self.check()
            except _LostError as lost:
                if not may_repeat or self._closed.is_set():
                    raise lost.error from lost.__cause__
                may_repeat = False
            else:
                if has_moved or not isinstance(replies[0], redis_errors.MovedError):
                    return replies
                self._pools.moved()
                has_moved = True

    def _once(self, commands: Sequence[Sequence[Argument]], *, writes: bool) -> list[Reply]:
        self._take_slot()
        try:
            pool = self._pools.pool()
            connection = self._opened(pool)
            try:
                return self._sent(connection, commands, writes=writes)
            finally:
                self._give_back(pool, connection)
        finally:
            self._slots.put(None)

    def _sent(self, connection: Wire, commands: Sequence[Sequence[Argument]], *, writes: bool) -> list[Reply]:
        is_sent = False
        try:
            connection.send_packed_command([b"".join([_packed(command) for command in commands])])
            is_sent = True
            return [_reply(connection) for _ in commands]
        except BaseException as error:
            connection.disconnect()
            if not isinstance(error, _DRIVER_ERRORS) or isinstance(error, redis_errors.BusyLoadingError):
                raise
            # A single command that wasn't sent to its end wasn't carried out.
            is_unknown = writes and (is_sent or len(commands) > 1)
            raise _LostError(self._failed(error, "unknown" if is_unknown else "none")) from error

    # -- waiting -------------------------------------------------------------------------------------------------------

    def block(self, seconds: float, *command: Argument) -> Reply:
        """Have one command that blocks for so long, on a connection beside those of calls; `close` ends it.

        :returns: its reply; None if the deadline ends it
        """
        self.check()
        pool = self._pools.pool()
        connection = self._opened(pool)
        try:
            self._let_close_end(connection)
            _sock(connection).settimeout(seconds + self._timeout)
            connection.send_packed_command([_packed(command)])
            reply = _reply(connection)
        except BaseException as error:
            connection.disconnect()
            if not isinstance(error, _DRIVER_ERRORS):
                raise
            if self._closed.is_set():
                raise BackendClosedError from error
            lost = self._failed(error, "none")
            if isinstance(lost, DeadlineExceededError):
                return None
            raise lost from error
        finally:
            with self._lock:
                self._blocked.discard(connection)
            self._give_back(pool, connection)
        if isinstance(reply, Exception):
            raise failure(self.where, reply, "none") from reply
        return reply

    def _let_close_end(self, connection: Wire) -> None:
        with self._lock:
            if self._closed.is_set():
                raise BackendClosedError
            self._blocked.add(connection)

    # -- connections ---------------------------------------------------------------------------------------------------

    def _take_slot(self) -> None:
        try:
            self._slots.get(timeout=self._bounded(self._timeout))
        except queue.Empty:
            check_deadline()
            msg = f"{self.where}: all {self._max_connections} connections are in use, and were for {self._timeout} s"
            raise BackendUnavailableError(msg, outcome="none") from None

    def _opened(self, pool: Pool) -> Wire:
        try:
            return pool.get_connection()
        except redis_errors.BusyLoadingError:
            raise
        except _DRIVER_ERRORS as error:
            self._pools.moved()
            raise self._failed(error, "none") from error

    def _give_back(self, pool: Pool, connection: Wire) -> None:
        if self._closed.is_set():
            connection.disconnect()
        pool.release(connection)

    def _bounded(self, seconds: float) -> float:
        left = remaining()
        return seconds if left is None else min(seconds, left)

    def _failed(self, error: Exception, outcome: Outcome) -> StorageError:
        """Return our error for one that ended a connection."""
        found = failure(self.where, error, outcome)
        left = remaining()
        if left is None or left > _DEADLINE_SLACK_S or not isinstance(found, BackendUnavailableError):
            return found
        said = "it isn't known whether the change was made" if outcome == "unknown" else "nothing was changed"
        return DeadlineExceededError(f"the deadline passed while waiting for {self.where}; {said}")


def _packed(command: Sequence[Argument]) -> bytes:
    """Return a command as it's sent: half of the driver's time for it, which looks at what else arguments may be."""
    parts = [b"*%d" % len(command)]
    for argument in command:
        data = argument if isinstance(argument, bytes) else str(argument).encode()
        parts += (b"$%d" % len(data), data)
    parts.append(b"")
    return b"\r\n".join(parts)


def _reply(connection: Wire) -> Reply:
    try:
        return connection.read_response(disable_decoding=True)
    except redis_errors.ResponseError as error:
        return error


def _sock(connection: Wire) -> Any:
    return connection._sock  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] -- the driver has no other way


def _shut(connection: Wire) -> None:
    sock = _sock(connection)
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:  # it's gone already
            return


_links: weakref.WeakSet[Link] = weakref.WeakSet()


def _after_fork() -> None:
    for link in list(_links):
        link.after_fork()


os.register_at_fork(after_in_child=_after_fork)
