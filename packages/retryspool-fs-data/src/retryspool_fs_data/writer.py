"""How a payload is written: into a temporary file, whose content is synced *before* it gets the payload's name.

A new record may get its name first: one commit of the file system's journal in place of two, and a cut in between
leaves a torn file that its reader recognises. A payload may be any bytes: nobody recognises a torn one. Mostly it would
have no record and be an orphan. But a record can be older than its payload (an operator restores one, a tool
copies the records first), and whoever reads this store without records would get half a payload for a whole one. It
costs about half of the speed of single small payloads on ext4. `store_many` wins more than that without the risk, by
sharing commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from retryspool.data import DataWriter
from retryspool.errors import StorageError
from retryspool.files import Directory, start_writeback, storage_error, wrapping_disk_errors
from retryspool_fs_data.store import Store
from retryspool_fs_data.temporary import TemporaryFile

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["FsDataWriter"]

_BUFFER_BYTES = 128 * 1024
_SLICE_BYTES = 8 * 1024 * 1024
"""How much is written at a time at most: a deadline is looked at in between."""


class FsDataWriter(DataWriter):
    """Writes one payload. It isn't to be shared between threads, unlike the backend.

    When the backend was closed meanwhile, `close()` raises `BackendClosedError` and nothing becomes visible. After a
    `write()` that failed, so do all others and `close()`.
    """

    def __init__(self, store: Store, file: TemporaryFile, message_id: str, *, if_absent: bool) -> None:
        super().__init__()
        self._store = store
        self._file = file
        self._message_id = message_id
        self._if_absent = if_absent
        self._buffer = bytearray()
        self._size = 0
        self._failure: StorageError | None = None

    @classmethod
    def open(cls, store: Store, message_id: str, *, if_absent: bool) -> Self:
        """Begin to write a payload."""
        with wrapping_disk_errors(_storing(message_id)):
            return cls(store, store.temporary.open(), message_id, if_absent=if_absent)

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: ReadableBuffer, /) -> int:
        self._check_open()
        view = memoryview(data).cast("B")
        if len(self._buffer) + len(view) <= _BUFFER_BYTES:
            self._buffer += view
        else:
            self._write_out()
            if len(view) <= _BUFFER_BYTES:
                self._buffer += view
            else:
                self._write_to_file(view)
        self._size += len(view)
        return len(view)

    def flush(self) -> None:
        """Hand what was written to the system. It's not visible, nor durable, before `close()`."""
        self._check_open()
        self._write_out()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError(f"write to the payload of message {self._message_id!r} after it was closed or aborted")
        if self._failure is not None:
            raise self._failure

    def _write_out(self) -> None:
        if self._buffer:
            self._write_to_file(self._buffer)
            self._buffer = bytearray()

    def _write_to_file(self, data: bytearray | memoryview) -> None:
        self._store.check()  # with nothing written yet, what it raises is no failure of this writer
        view = memoryview(data)
        try:
            for start in range(0, len(view), _SLICE_BYTES):
                self._store.check()
                self._file.write(view[start : start + _SLICE_BYTES])
        except (OSError, StorageError) as error:  # a part of it may be there, so that there's no going on
            failed = storage_error(_storing(self._message_id), error)
            self._failure = failed
            if failed is error:
                raise
            raise failed from error

    def start_writeback(self) -> None:
        """Let the system begin to write it to the disk: with many at once, the first sync commits them all."""
        self.flush()
        start_writeback(self._file.fd)

    def finish_content(self) -> None:
        """Write everything, and make it as durable as the mode wants; still nothing is visible."""
        self._store.check_writing()
        self.flush()
        with wrapping_disk_errors(_storing(self._message_id)):
            self._store.durability.sync_content(self._file.fd, outcome="none")

    def publish(self) -> Directory:
        """Give it its name; return the directory that is to be synced for it. The writer is closed then."""
        self._store.check_writing()
        with wrapping_disk_errors(_storing(self._message_id)):
            shard = self._store.shards.put(self._file, self._message_id, if_absent=self._if_absent)
        self._file.close()
        super().close()
        return shard

    def close(self) -> None:
        """Make it visible and durable."""
        if self.closed:
            return
        try:
            self._check_open()
            self.finish_content()
            shard = self.publish()
        except BaseException:
            self.abort()
            raise
        self._store.durability.sync_names(shard)

    def abort(self) -> None:
        if not self.closed:
            self._buffer = bytearray()
            self._failure = None
            self._file.discard()
            super().close()


def _storing(message_id: str) -> str:
    return f"storing the payload of message {message_id!r}"
