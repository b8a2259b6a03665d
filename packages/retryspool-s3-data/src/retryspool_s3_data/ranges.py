"""How a large payload is read: in parts, some of which are under way while others are handed out."""

from __future__ import annotations

import io
import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from itertools import pairwise
from typing import Any

from retryspool.deadline import check_deadline, remaining
from retryspool.errors import BackendError, DeadlineExceededError
from retryspool_s3_data.stream import Source, Stream
from retryspool_s3_data.transport import abandoned

__all__ = ["Parallel"]


class Parallel(io.RawIOBase):
    """A payload in parts. So many of them are in memory as the store's concurrency says, and the one being read.

    Nothing but the first bytes of a whole stream is asked for before the first read. Each later part is asked for under
    the condition that the payload is still the one that was opened. Not for use after a fork.
    """

    def __init__(self, source: Source) -> None:
        super().__init__()
        size, part = source.size, source.store.settings.part_bytes
        self._source = source
        self._to_come = deque(pairwise([*range(0, size, part), size]))
        self._coming: deque[Future[bytearray]] = deque()
        self._part = memoryview(b"")
        self._threads: ThreadPoolExecutor | None = None
        self._abandoned = threading.Event()
        self._pid = os.getpid()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self._check_process()
        check_deadline()
        view = memoryview(buffer).cast("B")
        if view and not self._part:
            self._part = memoryview(b"")  # given back before the next one is asked for
            self._part = self._next_part()
        count = min(len(view), len(self._part))
        view[:count] = self._part[:count]
        self._part = self._part[count:]
        return count

    def _next_part(self) -> memoryview:
        self._fill()
        if not self._coming:
            return memoryview(b"")
        try:
            content = self._coming[0].result(timeout=remaining())
        except FutureTimeoutError as error:
            if isinstance(error, DeadlineExceededError):
                raise
            raise DeadlineExceededError(
                f"reading the payload of message {self._source.message_id!r}: the deadline passed before its next part "
                "had come"
            ) from None
        self._coming.popleft()
        return memoryview(content)

    def _fill(self) -> None:
        settings = self._source.store.settings
        while self._to_come and len(self._coming) < settings.concurrency:
            start, end = self._to_come.popleft()
            if self._threads is None:
                self._threads = ThreadPoolExecutor(settings.concurrency, "retryspool-s3-read", self._begin_thread)
                whole = self._source.whole
            else:
                whole = None
            self._coming.append(self._threads.submit(_fetch, self._source, whole, start, end))

    def _begin_thread(self) -> None:
        abandoned.set(self._abandoned)

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            raise BackendError(
                f"the reader of the payload of message {self._source.message_id!r} was opened by process {self._pid}, "
                f"before a fork; open another in this process, {os.getpid()}"
            )

    def close(self) -> None:
        if self.closed:
            return
        super().close()
        self._part = memoryview(b"")
        if self._pid != os.getpid():
            return
        self._abandoned.set()
        if self._threads is None:
            self._source.whole.close()
        else:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._source.store.forget_connections()


def _fetch(source: Source, whole: Stream | None, start: int, end: int) -> bytearray:
    """Fetch a part, the first one from the stream that is open already."""
    return (whole or source.stream(start, end)).read_all(end - start)
