"""What a backend, its writers and its readers share: the open tables, and whether they may be used."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from psycopg.rows import TupleRow

from retryspool.deadline import check_deadline
from retryspool.errors import BackendClosedError, StorageError
from retryspool_pg_data.connection import BoundedConnection
from retryspool_pg_data.keeper import Keeper
from retryspool_pg_data.pool import Connections
from retryspool_pg_data.statements import REMOVED_AT_ONCE, Statements
from retryspool_pg_data.table import Table

__all__ = ["Store"]

_EVER = datetime.max.replace(tzinfo=UTC)


class Store:
    """Open tables of payloads."""

    def __init__(self, connections: Connections, table: Table, statements: Statements, *, chunk_bytes: int) -> None:
        self.connections = connections
        self.table = table
        self.statements = statements
        self.chunk_bytes = chunk_bytes
        self.keeper = Keeper(self)
        self._closed = False
        _stores.add(self)

    def reset(self) -> None:
        """Forget all that belongs to the parent, after a fork."""
        self.connections.reset()
        self.keeper = Keeper(self)

    def check(self) -> None:
        """Do nothing while it may be used.

        :raises BackendClosedError: it was closed
        :raises DeadlineExceededError: the time allowed is over
        """
        if self._closed:
            raise BackendClosedError("data backend")
        check_deadline()

    def close(self) -> None:
        """Let go of everything, with the last reader that is still open; may be called again."""
        if not self._closed:
            self._closed = True
            self.keeper.finish()

    # -- statements ----------------------------------------------------------------------------------------------------

    def run(self, doing: str, statement: bytes, parameters: Sequence[object] = (), *, effect: bool) -> list[TupleRow]:
        """Run a statement and return the rows that it answers with.

        :param doing: for the error, such as "storing the payload of message 'a'"
        :param effect: whether it changes something
        :raises BackendError: it failed; see `failures`
        :raises DeadlineExceededError: the caller's time is over
        """
        return self.connections.use(doing, BoundedConnection.run, statement, parameters, effect=effect)

    # -- generations ---------------------------------------------------------------------------------------------------

    def remove_dropped(self, generations: Sequence[UUID], doing: str) -> None:
        """Remove the chunks of generations that were dropped, but for what's still read: its last reader does.

        It's no failure of whatever dropped them if that can't be done now: `sweep` will.
        """
        for generation in generations:
            try:
                self._remove_dropped(generation, doing)
            except StorageError:
                return

    def _remove_dropped(self, generation: UUID, doing: str) -> None:
        removed = REMOVED_AT_ONCE
        while removed == REMOVED_AT_ONCE:
            removed = len(self.run(doing, self.statements.remove_chunks, (generation, generation), effect=True))
        self.run(doing, self.statements.remove, (generation,), effect=True)

    def drop(self, generation: UUID, doing: str, before: datetime = _EVER) -> bool:
        """Drop a generation that isn't published, and remove it; tell whether there was one.

        :param before: only if its writer has last written before that
        """
        dropped = bool(self.run(doing, self.statements.drop, (generation, before), effect=True))
        if dropped:
            self.remove_dropped([generation], doing)
        return dropped


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _reset_all() -> None:
    for store in list(_stores):
        store.reset()


os.register_at_fork(after_in_child=_reset_all)
