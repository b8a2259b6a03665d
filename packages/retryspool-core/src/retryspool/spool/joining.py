"""Enqueueing within a transaction of the caller's own.

The payload is stored first, as ever, and at once; the record takes effect when the caller commits. After a rollback the
payload is an orphan, which `reconcile()` sweeps, or the next enqueue of its id replaces.
"""

from __future__ import annotations

from inspect import iscoroutinefunction

from retryspool.errors import NotSupportedError
from retryspool.meta import JoinsTransactions, MetaBackend

__all__ = ["is_pending", "join"]


def join(meta: MetaBackend, transaction: object) -> MetaBackend:
    """Return the store of records as the caller's transaction sees and changes it.

    :raises NotSupportedError: the backend can't, or not with this transaction
    """
    if isinstance(meta, JoinsTransactions):
        if _is_asynchronous(transaction):
            msg = (
                f"{type(transaction).__name__} is an asynchronous connection, by which records aren't written; begin, "
                "enqueue and commit with one of the driver's others, in a thread: asyncio.to_thread, and queue.sync"
            )
            raise NotSupportedError(msg)
        return meta.joining(transaction)
    msg = (
        f"{type(meta).__name__} can't write within a transaction of the caller's; enqueue without one, "
        "or keep the records in the database that the transaction is of"
    )
    raise NotSupportedError(msg)


def _is_asynchronous(transaction: object) -> bool:
    """Tell whether it's a connection for coroutines: one whose `execute` or `commit` is to be awaited."""
    return any(iscoroutinefunction(getattr(transaction, name, None)) for name in ("execute", "commit"))


def is_pending(meta: MetaBackend, message_id: str) -> bool:
    """Tell whether a transaction that is still open may have stored a record of this id."""
    return isinstance(meta, JoinsTransactions) and meta.is_pending(message_id)
