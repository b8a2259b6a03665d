"""How a payload is read: from memory if it was in its row, else chunk by chunk, each with a connection of its own.

What a reader reads is the generation that it was opened on. It says so in the readers' table, so that who replaces or
deletes the payload leaves the chunks alone. So a slow reader holds no connection and no transaction: neither does it
starve others of the pool, nor keep the server from vacuuming, nor break when the server restarts between two chunks.
"""

from __future__ import annotations

import io
import math
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

_PEEKED = 8 * 1024


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
            generation, size, _ = held[0]
            hold = Hold(Kind.READER, hold.holder, generation)
            store.keeper.keep(hold)
            return _ChunkReader(store, hold, message_id, size)


class _ChunkReader(io.BufferedIOBase, BinaryIO):
    """Reads one generation, with one chunk in memory, which it hands out as it is where it can: copies take their time.

    A read that failed may be tried again. It isn't to be shared between threads, unlike the backend.
    """

    def __init__(self, store: Store, hold: Hold, message_id: str, size: int) -> None:
        super().__init__()
        self._store = store
        self._hold = hold
        self._message_id = message_id
        self._size = size
        self._pid = os.getpid()
        self._next = 0
        self._fetched = 0
        self._chunk = b""
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        left = math.inf if size is None or size < 0 else size
        parts: list[bytes] = []
        try:
            while left > 0 and (part := self._take(left)):
                parts.append(part)
                left -= len(part)
        except BaseException:
            self._chunk, self._position = b"".join(parts), 0  # so that nothing is missing when it's tried again
            raise
        return b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        return self._take(math.inf if size < 0 else size)

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        data = self.read(len(target))
        target[: len(data)] = data
        return len(data)

    def readinto1(self, buffer: WriteableBuffer, /) -> int:
        target = memoryview(buffer).cast("B")
        data = self.read1(len(target))
        target[: len(data)] = data
        return len(data)

    def peek(self, size: int = 0, /) -> bytes:
        """Return some of what comes next, without taking it: what `readline` looks for the end of a line in."""
        self._fill()
        return self._chunk[self._position : self._position + max(size, _PEEKED)]

    def _take(self, size: float) -> bytes:
        """Take up to so much, of one chunk; nothing at the end."""
        self._fill()
        start = self._position
        end = min(start + size, len(self._chunk))
        self._position = int(end)
        return self._chunk[start : int(end)]  # of the whole chunk, that is no copy

    def _fill(self) -> None:
        if self.closed:
            raise ValueError("read of a closed file")
        if self._position == len(self._chunk):
            # The old one stays until the new one is there: with all freed in between, the allocator would give memory
            # back to the system, only to ask for it again, which takes as long as the reading.
            self._chunk, self._position = self._fetch(), 0

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
            self._chunk = b""
            if os.getpid() == self._pid:
                self._store.keeper.leave(self._hold)
