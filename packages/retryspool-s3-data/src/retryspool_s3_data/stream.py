"""One payload's bytes, from a connection and, should that break, from others that go on where it did."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from retryspool.deadline import check_deadline, remaining
from retryspool.errors import BackendError, BackendUnavailableError
from retryspool_s3_data.failures import is_missing, is_taken, translating

if TYPE_CHECKING:
    from retryspool_s3_data.store import Store

__all__ = ["Source", "Stream"]

_PIECE_BYTES = 256 * 1024
_WORTH_DRAINING_BYTES = 64 * 1024


class Source:
    """One version of one payload, and the bytes of it that are asked for, from wherever a connection broke off."""

    def __init__(self, store: Store, message_id: str) -> None:
        """Ask for the whole payload.

        :raises DataNotFoundError: there's none
        """
        self.store = store
        self.message_id = message_id
        self._call = store.call(f"reading the payload of message {message_id!r}", message_id=message_id)
        where = store.at(message_id)
        with translating(self._call):
            reply = store.client.get_object(**where)
        self.size = reply["ContentLength"]
        self._same: dict[str, Any] = {**where, "IfMatch": reply["ETag"]}
        if reply.get("VersionId", "null") != "null":
            self._same["VersionId"] = reply["VersionId"]  # which stays, whatever is stored after it
        self.whole: Stream = Stream(self, reply["Body"], 0, self.size)

    def stream(self, start: int, end: int) -> Stream:
        """Ask for a part of the payload.

        :raises BackendError: it was replaced or deleted since
        """
        return Stream(self, self.body(start, end), start, end)

    def body(self, start: int, end: int) -> Any:
        """Ask for a part of the payload, once."""
        with self.translating():
            try:
                return self.store.client.get_object(Range=f"bytes={start}-{end - 1}", **self._same)["Body"]
            except ClientError as error:
                if not (is_taken(error) or is_missing(error)):
                    raise
                what = "replaced" if is_taken(error) else "deleted"
                raise BackendError(
                    f"the payload of message {self.message_id!r} was {what} while it was read; read it again"
                ) from error

    def read_whole(self) -> bytearray:
        """Read all of the payload into memory."""
        return self.whole.read_all(self.size)

    def translating(self) -> AbstractContextManager[None]:
        """Return what turns the errors of reading into those of the tree."""
        return translating(self._call)


class Stream:
    """Some bytes of a payload, from one connection and, should that break, from others that go on where it did."""

    def __init__(self, source: Source, body: Any, start: int, end: int) -> None:
        self._source = source
        self._body: Any = body
        self._position = start
        self._end = end
        self._failures = 0
        self._pid = os.getpid()

    def readinto(self, buffer: memoryview) -> int:
        """Read at least a byte into the buffer, unless it or the stream is at its end; return how many.

        :raises CorruptDataError: at the end: the payload isn't what its checksum says
        """
        wanted = min(len(buffer), self._end - self._position)
        if not wanted:
            return 0
        while True:
            check_deadline()
            try:
                with self._source.translating():
                    count = self._read_some(buffer[:wanted])
            except BackendUnavailableError:
                self._drop()
                self._failures += 1
                if self._failures >= self._source.store.settings.max_attempts:
                    raise
                continue
            self._failures = 0
            return count

    def _read_some(self, buffer: memoryview) -> int:
        if self._pid != os.getpid():  # the connection is the parent's
            self._body = None
            self._pid = os.getpid()
        if self._body is None:
            self._body = self._source.body(self._position, self._end)
        left, timeout = remaining(), self._source.store.settings.timeout
        if left is not None:
            self._body.set_socket_timeout(max(0.001, min(left, timeout)))
        body = self._body
        count: int = body.readinto(buffer)
        if not count:
            raise ConnectionResetError("the connection ended before the payload did")
        if self._position + count == self._end:
            body.readinto(bytearray(1))  # the end: only now the checksum is looked at
            self._body = None
        self._position += count
        return count

    def read_all(self, size: int) -> bytearray:
        """Read all that is to come, which is `size` bytes, and let go of the connection."""
        content = bytearray(size)
        view, position = memoryview(content), 0
        try:
            while position < size:
                position += self.readinto(view[position : position + _PIECE_BYTES])
        finally:
            self.close()
        return content

    def close(self) -> None:
        """Let go of the connection: what little is left is read, so that it can be used again, else it's closed."""
        body = self._body
        if body is None or self._pid != os.getpid():
            return
        if self._end - self._position <= _WORTH_DRAINING_BYTES:
            buffer = memoryview(bytearray(_WORTH_DRAINING_BYTES))
            try:
                body.set_socket_timeout(0.1)
                while body.readinto(buffer):
                    pass
            except Exception:  # noqa: BLE001 -- whatever it is, nobody wants these bytes
                self._drop()
            self._body = None
        else:
            self._drop()

    def _drop(self) -> None:
        body, self._body = self._body, None
        if body is not None:
            body.close()
