"""A payload on its way into the spool, and out again, through the middleware."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, BinaryIO

from retryspool.data import CHUNK_BYTES, DataWriter, Payload
from retryspool.middleware import Middleware
from retryspool.model import MessageMetadata
from retryspool.spool.chunks import chunks_of
from retryspool.spool.headers import ENCODING_HEADER
from retryspool.spool.integrity import Fingerprint
from retryspool.spool.stages import Stages

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["PayloadWriter", "decoding", "encoding"]

_AT_ONCE_BYTES = 4 * CHUNK_BYTES
"""Up to so many bytes are encoded in memory."""


class PayloadWriter(DataWriter):
    """A writer whose bytes go through the middleware into the data backend.

    Its `close()` fails if anything on the way does.
    """

    def __init__(self, message_id: str, sink: DataWriter, middleware: Sequence[Middleware]) -> None:
        self._sink = sink
        self.fingerprint = Fingerprint()
        """Of the bytes written so far, as they came in."""
        self._stages: list[BinaryIO] = [sink]  # from the backend outwards
        _add_stages(self._stages, message_id, middleware)

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
            _abort(self._stages)
            super().close()


def _add_stages(files: list[BinaryIO], message_id: str, middleware: Sequence[Middleware]) -> None:
    """Put the middleware's files before the sink: what is written to the last file arrives in the first."""
    for stage in reversed(middleware):
        files.append(stage.encode(message_id, files[-1]))


def _abort(files: Sequence[BinaryIO]) -> None:
    for file in reversed(files):
        abort = getattr(file, "abort", None)
        if abort is not None:
            abort()


class _Gathering(io.BufferedIOBase, BinaryIO):
    """Keeps what is written until it's taken."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        part = bytes(data)  # bytes stay the same object
        self._parts.append(part)
        return len(part)

    def take(self) -> list[bytes]:
        parts, self._parts = self._parts, []
        return parts


def encoding(message_id: str, payload: Payload, middleware: Sequence[Middleware]) -> Payload:
    """Return a payload as it is to be stored: at once if it's small, else encoded as it is read."""
    chunks = _encoded(message_id, payload, middleware)
    if isinstance(payload, (bytes, bytearray, memoryview)) and memoryview(payload).nbytes <= _AT_ONCE_BYTES:
        return b"".join(chunks)
    return chunks


def _encoded(message_id: str, payload: Payload, middleware: Sequence[Middleware]) -> Iterator[bytes]:
    sink = _Gathering()
    files: list[BinaryIO] = [sink]
    try:
        _add_stages(files, message_id, middleware)
        for chunk in chunks_of(payload):
            files[-1].write(chunk)
            yield from sink.take()
        for file in reversed(files[1:]):
            file.close()
    except BaseException:  # the reader has gone too
        _abort(files)
        raise
    yield from sink.take()


def decoding(record: MessageMetadata, source: BinaryIO, stages: Stages) -> BinaryIO:
    """Return a reader of a payload as it was handed in, `source` being what is stored.

    :raises BackendError: it went through middleware that isn't there, or whose key is missing
    :raises CorruptDataError: it didn't go through what its record names
    """
    names = [name for name in record.headers.get(ENCODING_HEADER, "").split(",") if name]
    try:
        for name in reversed(names):
            source = stages.decoder(name, f"the payload of message {record.id!r}").decode(record.id, source)
    except BaseException:
        source.close()
        raise
    return source
