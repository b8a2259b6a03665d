"""A payload on its way into the spool, and out again, through the middleware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, BinaryIO

from retryspool.data import DataWriter
from retryspool.errors import BackendError
from retryspool.middleware import Middleware
from retryspool.model import MessageMetadata
from retryspool.spool.integrity import Fingerprint

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["ENCODING_HEADER", "PayloadWriter", "decoding"]

ENCODING_HEADER = "x-retryspool-encoding"
"""The header that names the middleware a payload went through, in order, separated by commas."""


class PayloadWriter(DataWriter):
    """A writer whose bytes go through the middleware into the data backend.

    Its `close()` fails if anything on the way does.
    """

    def __init__(self, message_id: str, sink: DataWriter, middleware: Sequence[Middleware]) -> None:
        self._sink = sink
        self.fingerprint = Fingerprint()
        """Of the bytes written so far, as they came in."""
        self._stages: list[BinaryIO] = [sink]  # from the backend outwards
        for stage in reversed(middleware):
            self._stages.append(stage.encode(message_id, self._stages[-1]))

    @property
    def size(self) -> int:
        return self.fingerprint.size

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`."""
        if self.closed:
            msg = "write to a payload that is closed"
            raise ValueError(msg)
        self._stages[-1].write(data)
        return self.fingerprint.update(data)

    def close(self) -> None:
        """Finish the payload: when this returns, it's stored."""
        if self.closed:
            return
        try:
            for stage in reversed(self._stages):
                stage.close()
        except BaseException:
            self._sink.abort()
            raise
        finally:
            super().close()

    def abort(self) -> None:
        """Throw away what was written. Does nothing after `close()`."""
        if not self.closed:
            self._sink.abort()
            super().close()


def decoding(record: MessageMetadata, source: BinaryIO, middleware: Mapping[str, Middleware]) -> BinaryIO:
    """Return a reader of a payload as it was handed in, `source` being what is stored.

    :raises BackendError: it went through middleware that isn't there
    """
    names = [name for name in record.headers.get(ENCODING_HEADER, "").split(",") if name]
    for name in reversed(names):
        if name not in middleware:
            source.close()
            msg = f"the payload of message {record.id!r} is encoded with {name!r}; open the spool with that middleware"
            raise BackendError(msg)
        source = middleware[name].decode(record.id, source)
    return source
