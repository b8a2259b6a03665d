"""Connections that give up on a server which doesn't answer.

A server's own `statement_timeout` would cost a round trip to set, and helps nothing against a server that hangs or a
network that swallows packets. So the waiting itself is bounded, here, at no cost to the statement.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import Any, LiteralString, Self, TypeVar, cast

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.rows import TupleRow, tuple_row
from psycopg_pool import ConnectionPool

__all__ = ["BoundedConnection", "NoAnswerError", "OnFailure"]

R = TypeVar("R")

Statement = LiteralString | bytes | sql.SQL | sql.Composed
OnFailure = Callable[[float, psycopg.Error], None]
"""Is told of a connection that couldn't be made: when that was begun, by the monotonic clock, and the error."""

_KEPT = 16 * 1024
"""How long what a cursor goes on holding may be."""
_HELD = frozenset({bytearray, memoryview, list})
"""What may be long, and isn't looked into."""
_CANCEL_S = 0.3
"""How long cancelling a statement may take, and then its answer: with both, a deadline is kept within a second."""


class NoAnswerError(Exception):
    """The server hasn't answered in time, nor to the request to cancel the statement."""


class BoundedConnection(psycopg.Connection[TupleRow]):
    """A connection that may be told until when to wait. Without that it is what any connection of psycopg's is."""

    expires: float = math.inf
    """Until when to wait for the server, by the monotonic clock."""
    cancelled: bool = False
    """Whether it was too late, so that the statement was cancelled."""
    lender: ConnectionPool[Self] | None = None
    """The pool that it was taken from, while it's in use."""
    _cursor: psycopg.Cursor[TupleRow] | None = None
    used: float = -math.inf
    """When it was last taken, by the monotonic clock."""
    was_autocommit: bool = True
    """What its owner had set before we took it from a pool of theirs."""

    @classmethod
    def connect(  # type: ignore[override]  # all of psycopg's settings may be among `kwargs`
        cls, conninfo: str = "", *, on_failure: OnFailure | None = None, **kwargs: Any
    ) -> Self:
        """Connect as psycopg does.

        :param on_failure: called with the error if that fails, which is raised all the same
        """
        began = time.monotonic()
        try:
            return super().connect(conninfo, **kwargs)
        except psycopg.Error as error:
            if on_failure is not None:
                on_failure(began, error)
            raise

    def run(self, statement: Statement, parameters: Sequence[object] = ()) -> list[TupleRow]:
        """Run a statement and return the rows that it answers with."""
        # Kept, as making one takes long; with our kind of rows, whatever the pool's owner has set.
        cursor, self._cursor = self._cursor or self.cursor(binary=True, row_factory=tuple_row), None
        cursor.execute(statement, parameters)
        result = cursor.pgresult  # not the cursor's `description`, which makes an object of each column
        rows = cursor.fetchall() if result is not None and result.nfields else []
        if len(rows) <= 1 and not _are_large(parameters) and not (rows and _are_large(rows[0])):
            self._cursor = cursor  # one that keeps no payload in memory
        return rows

    def wait(self, gen: PQGen[R], *args: Any, **kwargs: Any) -> R:
        """Wait for the server, but not longer than until `expires`.

        :raises NoAnswerError: it's over; the connection is of no use any more
        """
        return super().wait(gen if self.expires == math.inf else self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: PQGen[R]) -> Generator[Any, Any, R]:
        """Do what `gen` does, and look at the clock whenever psycopg says "nothing yet": ten times a second."""
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() >= self.expires:
                    self._expire()
                wanted = gen.send(ready)
        except StopIteration as end:
            result: R = end.value
            return result

    def _expire(self) -> None:
        """Ask the server once to cancel the statement, and grant it a moment for the answer."""
        if self.cancelled or not psycopg.capabilities.has_cancel_safe():  # what there is else may hang itself
            raise NoAnswerError
        self.cancelled = True
        with suppress(psycopg.Error):
            self.cancel_safe(timeout=_CANCEL_S)
        self.expires = time.monotonic() + _CANCEL_S


def _are_large(values: Sequence[object]) -> bool:
    for value in values:  # in the shortest way that there is: each small statement comes by here twice
        kind = type(value)
        if kind is bytes and len(cast("bytes", value)) > _KEPT:
            return True
        if kind in _HELD:
            return True
    return False
