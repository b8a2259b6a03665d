"""How a payload is written: into its row in one statement if it's small, else in chunks that nobody sees.

The chunks of one writer are a generation, listed as loose until one statement, at the end, gives it to the payload's
row. Each chunk is stored on its own, with a connection for that moment only: who produces slowly holds nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from uuid import uuid4

from psycopg.rows import TupleRow

from retryspool.data import DataWriter
from retryspool.errors import BackendError, DataExistsError, StorageError
from retryspool_pg_data.keeper import Hold, Kind
from retryspool_pg_data.store import Store

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["PgDataWriter", "put"]


def put(store: Store, message_id: str, data: bytes | bytearray | memoryview, *, if_absent: bool) -> None:
    """Store a payload in its row.

    :raises DataExistsError: there's one; only with `if_absent`
    """
    statement = store.statements.put_if_absent if if_absent else store.statements.put
    doing = _storing(message_id)
    rows = store.run(doing, statement, (message_id, data, len(data)), effect=True)
    _put(store, message_id, rows, doing)


def _put(store: Store, message_id: str, rows: list[TupleRow], doing: str) -> None:
    if not rows:
        raise DataExistsError(message_id)
    if (replaced := rows[0][0]) is not None:
        store.remove_dropped([replaced], doing)


class PgDataWriter(DataWriter):
    """Writes one payload. It isn't to be shared between threads, unlike the backend.

    When the backend was closed meanwhile, `close()` raises `BackendClosedError` and nothing becomes visible. After a
    `write()` that failed, so do all others and `close()`.
    """

    _hold: Hold | None = None

    def __init__(self, store: Store, message_id: str, *, if_absent: bool) -> None:
        super().__init__()
        self._store = store
        self._message_id = message_id
        self._if_absent = if_absent
        self._pid = os.getpid()
        self._buffer: bytes | bytearray = b""
        self._size = 0
        self._chunks = 0
        self._failure: StorageError | None = None

    @property
    def size(self) -> int:
        return self._size

    @property
    def in_memory(self) -> bytes | bytearray | None:
        """What was written, if it fits into the row; None once there are chunks."""
        return self._buffer if self._hold is None else None

    def write(self, data: ReadableBuffer, /) -> int:
        self._check_open()
        view = memoryview(data).cast("B")
        most = self._store.chunk_bytes
        if len(self._buffer) + len(view) > most:
            self._store.check()  # with nothing written yet, what it raises is no failure of this writer
        left = view
        while len(self._buffer) + len(left) > most:
            room = most - len(self._buffer)
            if self._buffer:
                self._append(left[:room])
                self._store_chunk(self._buffer)
                self._buffer = b""
            else:
                self._store_chunk(left[:room])
            left = left[room:]
        if isinstance(data, bytes) and len(left) == len(data) and not self._buffer:
            self._buffer = data  # nobody can change it: chunks that come whole are never copied
        else:
            self._append(left)
        self._size += len(view)
        return len(view)

    def _append(self, data: memoryview) -> None:
        if data:
            if isinstance(self._buffer, bytes):
                self._buffer = bytearray(self._buffer)
            self._buffer += data

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"write to the payload of message {self._message_id!r} after it was closed or aborted")
        if os.getpid() != self._pid:
            raise BackendError(
                f"{_storing(self._message_id)} failed: it was begun by process {self._pid}, before a fork; begin anew"
            )
        if self._failure is not None:
            raise self._failure

    def _store_chunk(self, data: bytes | bytearray | memoryview) -> None:
        statements = self._store.statements
        doing = _storing(self._message_id)
        try:
            if self._hold is None:
                generation = uuid4()
                self._hold = Hold(Kind.WRITER, generation, generation)
                self._store.keeper.keep(self._hold)
                self._store.run(doing, statements.begin, (generation, self._message_id, data), effect=False)
            else:
                parameters = (self._hold.generation, self._chunks, data)
                if not self._store.run(doing, statements.append, parameters, effect=False):
                    raise _swept(self._message_id)
        except StorageError as error:  # the chunk may be there, so that there's no going on
            self._failure = error
            raise
        self._chunks += 1

    def close(self) -> None:
        """Make it visible and durable."""
        if self.closed:
            return
        try:
            self._check_open()
            self._store.check()
            if self._hold is None:
                put(self._store, self._message_id, self._buffer, if_absent=self._if_absent)
            else:
                if self._buffer:
                    self._store_chunk(self._buffer)
                self._publish(self._hold)
        except BaseException:
            self.abort()
            raise
        self.mark_stored()

    def mark_stored(self) -> None:
        """Close it, since what it has in memory was stored otherwise."""
        self._buffer = b""
        super().close()

    def _publish(self, hold: Hold) -> None:
        statements = self._store.statements
        statement = statements.publish_if_absent if self._if_absent else statements.publish
        doing = _storing(self._message_id)
        rows = self._store.run(doing, statement, (hold.generation, self._message_id, self._size), effect=True)
        if not rows:
            raise _swept(self._message_id)
        generation, replaced = rows[0]
        if generation is None:
            raise DataExistsError(self._message_id)
        self._store.keeper.settle(hold)
        if replaced is not None:
            self._store.remove_dropped([replaced], doing)

    def abort(self) -> None:
        if not self.closed:
            self.mark_stored()
            self._failure = None
            if self._hold is not None and os.getpid() == self._pid:
                self._store.keeper.leave(self._hold)


def _storing(message_id: str) -> str:
    return f"storing the payload of message {message_id!r}"


def _swept(message_id: str) -> BackendError:
    return BackendError(f"{_storing(message_id)} failed: its chunks were swept meanwhile, as if their writer were dead")
