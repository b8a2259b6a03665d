"""How a payload is read: whole if it's small, in one stream, or, if it's large, in parts: see `ranges`."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, BinaryIO

from retryspool_s3_data.ranges import Parallel
from retryspool_s3_data.stream import Source

if TYPE_CHECKING:
    from retryspool_s3_data.store import Store

__all__ = ["WHOLE_BYTES", "open_reader"]

WHOLE_BYTES = 1024 * 1024
"""What is no larger is fetched when it's opened, and held in memory."""

_BUFFER_BYTES = 256 * 1024


class _Whole(io.BytesIO):
    """A payload in memory, not to be written to."""

    def writable(self) -> bool:
        return False

    def write(self, *_: object) -> int:
        raise io.UnsupportedOperation("a payload's reader can't be written to")


class _Streamed(io.RawIOBase):
    """A payload in one stream."""

    def __init__(self, source: Source) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._source.whole.readinto(memoryview(buffer).cast("B"))

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.whole.close()
            self._source.store.forget_connections()


def open_reader(store: Store, message_id: str) -> BinaryIO:
    """Open a payload to be read.

    :raises DataNotFoundError: there's none
    """
    source = Source(store, message_id)
    if source.size <= WHOLE_BYTES:
        return _Whole(source.read_whole())
    settings = store.settings
    parallel = settings.concurrency > 1 and source.size > settings.part_bytes
    raw = Parallel(source) if parallel else _Streamed(source)
    return io.BufferedReader(raw, _BUFFER_BYTES)
