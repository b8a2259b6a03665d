"""Mutants that join transactions wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import contextmanager

from sqlite_meta import JoinedSqliteMeta, SqliteMeta

from mutants.kinds import mutant
from retryspool.meta import MetaBackend


@mutant("META-66")
class JoinsBesideTheTransaction(SqliteMeta):
    """What is joined is written by a connection of its own, and there whatever becomes of the caller's."""

    def joining(self, transaction: object) -> MetaBackend:
        if transaction is None:
            return super().joining(transaction)
        if isinstance(transaction, sqlite3.Connection):
            transaction.rollback()
        return JoinsBesideTheTransaction(self._path)

    def is_pending(self, message_id: str) -> bool:
        return False


@mutant("META-66")
class ARefusalEndsTheTransaction(SqliteMeta):
    """A write that is refused rolls back all that the caller has done."""

    def joining(self, transaction: object) -> MetaBackend:
        joined = super().joining(transaction)
        joined.__class__ = _RollsBack
        return joined


class _RollsBack(JoinedSqliteMeta):
    @contextmanager
    def _writing(self) -> Generator[sqlite3.Connection]:
        with self._connected() as db:
            try:
                yield db
            except BaseException:
                db.rollback()
                raise


@mutant("META-66")
class ClosesTheCallersConnection(SqliteMeta):
    """Closing the joined store closes the caller's connection."""

    def joining(self, transaction: object) -> MetaBackend:
        joined = super().joining(transaction)
        joined.__class__ = _Closes
        return joined


class _Closes(JoinedSqliteMeta):
    def close(self) -> None:
        self._connection.close()


@mutant("META-67")
class NothingIsEverPending(SqliteMeta):
    """`is_pending` looks for the record, which nobody sees who isn't in the transaction."""

    def is_pending(self, message_id: str) -> bool:
        return False


@mutant("META-67")
class EverythingIsPending(SqliteMeta):
    """`is_pending` doesn't notice that a transaction has ended."""

    def is_pending(self, message_id: str) -> bool:
        return True
