"""How a payload is read: in one stream, which goes on over another connection where the first one broke off.

One stream, and not several parts at a time: whatever becomes of a payload, the bucket serves it to its end to whom it
has begun to serve it. Parts that are asked for later would find another one, or none.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from botocore.exceptions import ClientError

from retryspool.deadline import check_deadline, deadline
from retryspool.errors import BackendError, BackendUnavailableError, StorageError
from retryspool_s3_data.failures import is_missing, is_taken, translating

if TYPE_CHECKING:
    from retryspool_s3_data.store import Store

__all__ = ["PayloadStream", "open_reader"]

_WHOLE_BYTES = 1024 * 1024
"""What is no larger is fetched when it's opened, and held in memory."""
_BUFFER_BYTES = 256 * 1024
_WORTH_DRAINING_BYTES = 64 * 1024
_DRAIN_S = 0.1


def open_reader(store: Store, message_id: str) -> BinaryIO:
    """Open a payload to be read.

    :raises DataNotFoundError: there's none
    """
    stream = PayloadStream.open(store, message_id)
    if stream.size > _WHOLE_BYTES:
        return io.BufferedReader(stream, _BUFFER_BYTES)
    with stream:
        return io.BufferedReader(io.BytesIO(stream.readall()))


class PayloadStream(io.RawIOBase):
    """The bytes of one payload, as it was when this was opened.

    After a read that failed, so do all others: `io.BufferedReader` forgets what it had when this raises, and who read
    on would get the payload with a hole.
    """

    def __init__(self, store: Store, message_id: str, reply: Any) -> None:
        super().__init__()
        self.size: int = reply["ContentLength"]
        self._store = store
        self._message_id = message_id
        self._same = {**store.at(message_id), "IfMatch": reply["ETag"]}
        if reply.get("VersionId", "null") != "null":
            self._same["VersionId"] = reply["VersionId"]  # it stays, whatever is stored after it
        self._body: Any = reply["Body"]
        self._pid = os.getpid()
        self._position = 0
        self._breaks = 0
        self._failure: StorageError | None = None

    @classmethod
    def open(cls, store: Store, message_id: str) -> Self:
        """Ask for a payload.

        :raises DataNotFoundError: there's none
        """
        where = store.at(message_id)
        with translating(store.call(_reading(message_id), message_id=message_id)):
            reply = store.client.get_object(**where)
        return cls(store, message_id, reply)

    def readable(self) -> bool:
        return True

    def readall(self) -> bytes:
        content = io.BytesIO()  # hands out its bytes without copying them
        buffer = bytearray(min(_BUFFER_BYTES, self.size - self._position))
        while count := self.readinto(buffer):
            content.write(memoryview(buffer)[:count])
        return content.getvalue()

    def readinto(self, buffer: Any, /) -> int:
        """Read at least a byte, unless it's the end or there's no room for it; return how many.

        :raises CorruptDataError: what was read to the end isn't what its checksum says
        :raises BackendError: the connection broke, and the payload was replaced or deleted since
        """
        if self.closed:
            raise ValueError(f"read from the payload of message {self._message_id!r} after its reader was closed")
        if self._failure is not None:
            raise self._failure
        view = memoryview(buffer).cast("B")[: self.size - self._position]
        try:
            return self._receive(view) if view else 0
        except StorageError as error:
            self._failure = error
            raise

    def _receive(self, view: memoryview) -> int:
        """Read at least a byte, over as many connections as it takes."""
        while True:
            check_deadline()
            try:
                with translating(self._store.call(_reading(self._message_id), message_id=self._message_id)):
                    count = self._read_some(view)
            except BackendUnavailableError:
                self._drop()
                self._breaks += 1
                if self._breaks >= self._store.settings.max_attempts:
                    raise
            else:
                self._breaks = 0
                return count

    def _read_some(self, view: memoryview) -> int:
        if self._pid != os.getpid():  # the connection is the parent's
            self._body, self._pid = None, os.getpid()
        body = self._body = self._body or self._ask_for_rest()
        count: int = body.readinto(view)
        if not count:
            raise ConnectionResetError("the connection ended before the payload did")
        if self._position + count == self.size:
            body.readinto(bytearray(1))  # the end: only now its checksum is looked at
            self._body = None
        self._position += count
        return count

    def _ask_for_rest(self) -> Any:
        try:
            return self._store.client.get_object(Range=f"bytes={self._position}-", **self._same)["Body"]
        except ClientError as error:
            if not (is_taken(error) or is_missing(error)):
                raise
            what = "replaced" if is_taken(error) else "deleted"
            raise BackendError(
                f"{_reading(self._message_id)}: the connection broke after {self._position} of {self.size} bytes, and "
                f"the payload was {what} since; read it again"
            ) from error

    def close(self) -> None:
        """Let go of the connection: what little is left is read, so that it can be used again, else it's closed."""
        if self.closed:
            return
        super().close()
        if self._body is not None and self._pid == os.getpid():
            if self.size - self._position <= _WORTH_DRAINING_BYTES:
                self._drain()
            self._drop()
        self._store.forget_connections()

    def _drain(self) -> None:
        try:
            with deadline(_DRAIN_S):
                self._body.read()
        except Exception:  # noqa: BLE001 -- whatever it is, nobody wants these bytes
            return

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()


def _reading(message_id: str) -> str:
    return f"reading the payload of message {message_id!r}"
