"""Backends in memory that note what they do, and fail where a test tells them to; and small, real middleware."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from retryspool import BackendUnavailableError, MessageMetadata, Spool
from retryspool.data import DataWriter
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.meta import Delete, Write, WriteResult
from retryspool.middleware import Middleware

if TYPE_CHECKING:
    from collections.abc import Sequence

    from _typeshed import ReadableBuffer


class Killed(BaseException):
    """The process ends here: what comes after this in the code doesn't happen."""


class Steps(list[str]):
    """The writes of both backends, in order: `payload a`, `record a`, `delete record a`, `delete payload a`."""

    fail_at: str | None = None
    error: BaseException | None = None
    after: bool = False
    """Whether the step has its effect before it fails."""

    def fail(self, step: str, error: BaseException, *, after: bool = False) -> None:
        self.fail_at, self.error, self.after = step, error, after

    def before_step(self, step: str) -> None:
        if isinstance(self.error, Killed) and self.fail_at is None:
            raise self.error  # nothing happens any more
        if step == self.fail_at and not self.after and self.error is not None:
            self.fail_at = None
            raise self.error

    def after_step(self, step: str) -> None:
        self.append(step)
        if step == self.fail_at and self.after and self.error is not None:
            self.fail_at = None
            raise self.error


class FaultyMeta(MemoryMeta):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        self.steps.before_step(f"record {message_id}")
        stored = super().store_meta(message_id, metadata)
        self.steps.after_step(f"record {message_id}")
        return stored

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        for write in writes:
            if isinstance(write, Delete):
                self.steps.before_step(f"delete record {write.message_id}")
        results = super().apply(writes)
        for write, result in zip(writes, results, strict=True):
            if isinstance(write, Delete) and result is None:
                self.steps.after_step(f"delete record {write.message_id}")
        return results


class FaultyData(MemoryData):
    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        return _NotingWriter(super().get_data_writer(message_id, if_absent=if_absent), message_id, self.steps)

    def delete_data(self, message_id: str) -> None:
        self.steps.before_step(f"delete payload {message_id}")
        super().delete_data(message_id)
        self.steps.after_step(f"delete payload {message_id}")


class _NotingWriter(DataWriter):
    def __init__(self, inner: DataWriter, message_id: str, steps: Steps) -> None:
        self._inner = inner
        self._step = f"payload {message_id}"
        self._steps = steps

    @property
    def size(self) -> int:
        return self._inner.size

    def write(self, data: ReadableBuffer, /) -> int:
        return self._inner.write(data)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._steps.before_step(self._step)
            self._inner.close()
            self._steps.after_step(self._step)

    def abort(self) -> None:
        super().close()
        self._inner.abort()


def away(outcome: str) -> BackendUnavailableError:
    return BackendUnavailableError("away", outcome=outcome)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


def payloads(spool: Spool) -> list[str]:
    """Return the ids of the payloads that are stored."""
    return sorted(info.message_id for info in spool.data.iter_data())


class Zlib(Middleware):
    """Compression, streamed both ways."""

    name: ClassVar[str] = "deflate"

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- the same for each
        return _Deflating(sink)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- the same for each
        return io.BufferedReader(_Inflating(source))


class _Deflating(io.BufferedIOBase, BinaryIO):
    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._deflate = zlib.compressobj()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        self._sink.write(self._deflate.compress(data))
        return memoryview(data).nbytes

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._sink.write(self._deflate.flush())


class _Inflating(io.RawIOBase):
    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._inflate = zlib.decompressobj()
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override] # pyright: ignore[reportIncompatibleMethodOverride]
        while not self._rest and not self._inflate.eof:
            chunk = self._source.read(4096)
            if not chunk:
                raise OSError("the compressed payload is cut off")
            try:
                self._rest = self._inflate.decompress(chunk)
            except zlib.error as error:
                raise OSError("the compressed payload is damaged") from error
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()


class Xor(Middleware):
    """Each byte turned over: not its own inverse after compression, so that the order shows."""

    name: ClassVar[str] = "xor"

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- the same for each
        return _Turning(sink)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- the same for each
        with source:
            return io.BytesIO(bytes(byte ^ 0xFF for byte in source.read()))


class _Turning(io.BufferedIOBase, BinaryIO):
    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        return self._sink.write(bytes(byte ^ 0xFF for byte in memoryview(data).cast("B")))
