"""How a payload is written: gathered up to a part's size and stored by one request, or as a multipart upload."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from retryspool.data import DataWriter
from retryspool.errors import StorageError
from retryspool_s3_data.multipart import MultipartUpload
from retryspool_s3_data.single import put_payload
from retryspool_s3_data.store import Store

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["S3DataWriter"]


class S3DataWriter(DataWriter):
    """Writes one payload. It isn't to be shared between threads, unlike the backend.

    When the backend was closed meanwhile, `close()` raises `BackendClosedError` and nothing becomes visible. After a
    `write()` that failed, so do all others and `close()`.
    """

    def __init__(self, store: Store, message_id: str, *, if_absent: bool) -> None:
        super().__init__()
        self._store = store
        self._message_id = message_id
        self._if_absent = if_absent
        self._buffer = io.BytesIO()  # hands out its bytes without copying them
        self._upload: MultipartUpload | None = None
        self._size = 0
        self._failure: StorageError | None = None

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: ReadableBuffer, /) -> int:
        self._check_open()
        view = memoryview(data).cast("B")
        if view:
            self._store.check()  # with nothing taken yet, what it raises is no failure of this writer
        rest = view
        while rest:
            room = self._part_bytes - self._buffer.tell()
            if not room:
                self._send_part()
                continue
            self._buffer.write(rest[:room])
            rest = rest[room:]
        self._size += len(view)
        return len(view)

    @property
    def _part_bytes(self) -> int:
        return self._store.settings.part_bytes if self._upload is None else self._upload.next_part_bytes

    def _send_part(self) -> None:
        try:
            self._store.check()
            if self._upload is None:
                self._upload = MultipartUpload(self._store, self._message_id)
            self._upload.send(self._take())
            self._buffer = io.BytesIO(bytes(self._upload.next_part_bytes))  # one that grows leaves holes in the heap
        except StorageError as error:  # a part of what was handed in may be taken, so that there's no going on
            self._failure = error
            raise

    def _take(self) -> bytes:
        """Return what was gathered, and forget it."""
        buffer, self._buffer = self._buffer, io.BytesIO()
        buffer.truncate()
        return buffer.getvalue()

    def flush(self) -> None:
        """Do nothing: a part goes out when it's full, and nothing is visible before `close()`."""
        if self.closed:
            raise self._ended()

    def _ended(self) -> ValueError:
        return ValueError(f"write to the payload of message {self._message_id!r} after it was closed or aborted")

    def _check_open(self) -> None:
        if self.closed:
            raise self._ended()
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Make it visible and durable."""
        if self.closed:
            return
        try:
            self._check_open()
            self._store.check()
            if self._upload is None:
                put_payload(self._store, self._message_id, self._take(), if_absent=self._if_absent)
            else:
                self._upload.send(self._take())
                self._upload.complete(if_absent=self._if_absent)
        except BaseException:
            self.abort()
            raise
        self._upload = None
        super().close()

    def abort(self) -> None:
        self._abandon(wait_for_it=True)

    def _abandon(self, *, wait_for_it: bool) -> None:
        if self.closed:
            return
        self._buffer = io.BytesIO()
        upload, self._upload = self._upload, None
        super().close()
        if upload is not None:
            upload.abandon(wait_for_it=wait_for_it)

    def __del__(self) -> None:
        """Abort, without waiting for it: this may run anywhere."""
        self._abandon(wait_for_it=False)
