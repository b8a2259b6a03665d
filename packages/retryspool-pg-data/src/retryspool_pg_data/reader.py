"""How a payload is read: from memory if it was in its row, else chunk by chunk, each with a connection of its own.

What a reader reads is the generation that it was opened on. It says so in the readers' table, so that who replaces or
deletes the payload leaves the chunks alone. So a slow reader holds no connection and no transaction: neither does it
starve others of the pool, nor keep the server from vacuuming, nor break when the server restarts between two chunks.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID, uuid4

from retryspool.deadline import check_deadline
from retryspool.errors import BackendError, CorruptDataError, DataNotFoundError
from retryspool_pg_data.keeper import LEASE, Hold, Kind
from retryspool_pg_data.store import Store

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["is_in_row", "open_payload"]


def is_in_row(data: bytes, size: int, generation: UUID | None) -> bool:
    """Tell whether a payload is in its row: else there's a size without data.

    By that, and not by the generation alone: the Go system, writing over ours, leaves that as it is.
    """
    return generation is None or bool(data) or not size


def open_payload(store: Store, message_id: str) -> BinaryIO:
    """Return a reader of the payload.

    :raises DataNotFoundError: there's none
    :raises CorruptDataError: it hasn't the size that was noted with it
    """
    doing = f"reading the payload of message {message_id!r}"
    while True:
        rows = store.run(doing, store.statements.get, (message_id,), effect=False)
        if not rows:
            raise DataNotFoundError(message_id)
        data, size, generation = rows[0]
        if is_in_row(data, size, generation):
            if len(data) != size:
                raise CorruptDataError(message_id, f"there are {len(data)} bytes, {size} are noted")
            return io.BufferedReader(io.BytesIO(data))  # not to be written to
        hold = Hold(Kind.READER, uuid4(), generation)
        held = store.run(doing, store.statements.hold, (message_id, hold.holder, LEASE), effect=False)
        if held:  # else it was replaced or deleted in between
            generation, size = held[0]
            hold = Hold(Kind.READER, hold.holder, generation)
            store.keeper.keep(hold)
            return io.BufferedReader(_ChunkReader(store, hold, message_id, size))


class _ChunkReader(io.RawIOBase, BinaryIO):
    """Reads one generation, with one chunk in memory. A read that failed may be tried again."""

    def __init__(self, store: Store, hold: Hold, message_id: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._hold = hold
        self._message_id = message_id
        self._size = size
        self._pid = os.getpid()
        self._next = 0
        self._fetched = 0
        self._chunk = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self.closed:
            raise ValueError("read of a closed file")
        if not self._chunk:
            self._chunk = memoryview(self._fetch())
        target = memoryview(buffer).cast("B")
        count = min(len(target), len(self._chunk))
        target[:count] = self._chunk[:count]
        self._chunk = self._chunk[count:]
        return count

    def _fetch(self) -> bytes:
        """Return the next chunk; nothing at the end, if that is where it should be."""
        doing = f"reading the payload of message {self._message_id!r}"
        if os.getpid() != self._pid:
            raise BackendError(f"{doing}: the reader was opened by process {self._pid}, before a fork; open one here")
        check_deadline()
        rows = self._store.run(doing, self._store.statements.chunk, (self._hold.generation, self._next), effect=False)
        data: bytes = rows[0][0] if rows else b""
        found = self._fetched + len(data)
        if found > self._size or (not rows and found < self._size):
            self._check_hold(doing)
            raise CorruptDataError(self._message_id, f"there are {found} bytes in its chunks, {self._size} are noted")
        self._next += 1
        self._fetched = found
        return data

    def _check_hold(self, doing: str) -> None:
        """Do nothing if nobody but a defect of the store can have taken the chunks away."""
        if not self._store.run(doing, self._store.statements.renew_readers, (LEASE, [self._hold.holder]), effect=False):
            raise BackendError(
                f"{doing} failed: it was replaced or deleted, and removed, since this process hasn't been able "
                f"to tell the server for {LEASE} that it was still reading"
            )

    def close(self) -> None:
        """Let go of what is read. It's never an error, nor does it wait: the keeper tells the server."""
        if not self.closed:
            super().close()
            self._chunk = memoryview(b"")
            if os.getpid() == self._pid:
                self._store.keeper.leave(self._hold)
