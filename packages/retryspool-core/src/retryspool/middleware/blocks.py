"""Files that work by blocks: what a middleware is made of that transforms so many bytes at a time.

The writer cuts what it is given into blocks of one size, of which only the last may be shorter; the reader hands out
what it is given by blocks. Nothing is copied that comes in blocks already.
"""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, BinaryIO

from retryspool.data import DataWriter

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["BlockReader", "BlockWriter", "read_exactly"]

_GATHERED = 64 * 1024
"""So many bytes are gathered for one write to the sink, in bytes: a small payload is one write."""


def read_exactly(source: BinaryIO, size: int) -> bytes:
    """Read `size` bytes, fewer only at the end of the file: a reader may return less at a time."""
    chunk = source.read(size)
    if len(chunk) == size or not chunk:
        return chunk
    parts = [chunk]
    missing = size - len(chunk)
    while missing and (chunk := source.read(missing)):
        parts.append(chunk)
        missing -= len(chunk)
    return b"".join(parts)


class BlockWriter(DataWriter):
    """A writer that encodes block by block. One is held back, so that the last one is known as such.

    :param sink: where what is encoded goes
    :param block_bytes: the size of a block
    :param head: what goes before the first block
    """

    def __init__(self, sink: BinaryIO, block_bytes: int, head: bytes = b"") -> None:
        self._sink = sink
        self._block_bytes = block_bytes
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._out: list[bytes] = [head]
        self._out_bytes = len(head)
        self._size = 0
        self._is_broken = False

    @abstractmethod
    def encode_block(self, block: bytes | memoryview, *, is_last: bool) -> Iterable[bytes]:
        """Return what a block becomes, in parts. Each is full but the last, which may be empty where it is the only."""

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of `data`."""
        if self.closed:
            raise ValueError("write to a payload that is closed")
        view = memoryview(data)
        view = view.cast("B") if view.c_contiguous else memoryview(view.tobytes())
        size, at = view.nbytes, 0
        while at < size:
            if self._held_bytes == self._block_bytes:
                self._encode_held(is_last=False)
            take = min(self._block_bytes - self._held_bytes, size - at)
            if take == self._block_bytes and at + take < size:
                self._encode(view[at : at + take], is_last=False)
            else:
                self._held.append(data if isinstance(data, bytes) and take == size else bytes(view[at : at + take]))
                self._held_bytes += take
            at += take
        self._size += size
        return size

    def _encode_held(self, *, is_last: bool) -> None:
        block = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held, self._held_bytes = [], 0
        self._encode(block, is_last=is_last)

    def _encode(self, block: bytes | memoryview, *, is_last: bool) -> None:
        if self._is_broken:
            raise OSError("a write before this one failed: what is encoded isn't whole")
        self._is_broken = True  # until this has gone well
        for part in self.encode_block(block, is_last=is_last):
            self._out.append(part)
            self._out_bytes += len(part)
        if self._out_bytes >= _GATHERED or is_last:
            self._flush_out()
        self._is_broken = False

    def _flush_out(self) -> None:
        out, self._out, self._out_bytes = self._out, [], 0
        gathered: list[bytes] = []
        for part in out:
            if len(part) < _GATHERED:
                gathered.append(part)
                continue
            if gathered:
                self._sink.write(b"".join(gathered))
                gathered = []
            self._sink.write(part)
        if gathered:
            self._sink.write(b"".join(gathered))

    def close(self) -> None:
        """Encode the last block. The sink stays open."""
        if self.closed:
            return
        try:
            self._encode_held(is_last=True)
        finally:
            io.BufferedIOBase.close(self)

    def flush(self) -> None:
        """Do nothing: a block that isn't full has to wait, and what is gathered goes with it."""

    def abort(self) -> None:
        """Write no more, so that what is in the sink has no end. Does nothing after `close()`."""
        if not self.closed:
            self._held, self._out = [], []
            io.BufferedIOBase.close(self)


class BlockReader(io.BufferedIOBase, BinaryIO):
    """A reader that decodes block by block. It is seekable where its source is, by reading from the start again.

    :param source: what is stored; closed with the reader
    """

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self._block = b""
        self._at = 0
        self._position = 0
        self._error: Exception | None = None

    @abstractmethod
    def next_block(self) -> bytes:
        """Return the next block, an empty one only at an end that was proven to be the end.

        :raises CorruptDataError: it isn't what was written
        """

    @abstractmethod
    def restart(self) -> None:
        """Begin anew: the source is at its start again."""

    def _advance(self) -> bool:
        """Take the next block; tell whether there was one. What failed once fails again: nobody reads past damage."""
        if self._error is not None:
            raise self._error
        try:
            self._block, self._at = self.next_block(), 0
        except Exception as error:
            self._block, self._at, self._error = b"", 0, error
            raise
        return bool(self._block)

    def _take(self, size: int) -> bytes:
        """Return up to `size` bytes of the current block."""
        block, at = self._block, self._at
        if at == 0 and len(block) <= size:
            self._at = len(block)
            return block
        part = block[at : at + size]
        self._at = at + len(part)
        return part

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a payload that is closed")

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Read `size` bytes, fewer only at the end; all that is left if it's negative or None."""
        self._check_open()
        parts: list[bytes] = []
        left = -1 if size is None or size < 0 else size
        while left:
            if self._at >= len(self._block) and not self._advance():
                break
            part = self._take(len(self._block) if left < 0 else left)
            parts.append(part)
            self._position += len(part)
            left -= len(part) if left > 0 else 0
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def read1(self, size: int = -1, /) -> bytes:
        """Read up to `size` bytes of what is at hand, an empty one only at the end."""
        self._check_open()
        if size == 0 or (self._at >= len(self._block) and not self._advance()):
            return b""
        part = self._take(len(self._block) if size < 0 else size)
        self._position += len(part)
        return part

    def seekable(self) -> bool:
        """Whether the source is."""
        self._check_open()
        return self._source.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a position, by reading what lies before it."""
        if not self.seekable():
            raise io.UnsupportedOperation("what is stored can't be read from the start again")
        if whence == io.SEEK_CUR:
            offset += self._position
        elif whence == io.SEEK_END:
            while self.read1():
                pass
            offset += self._position
        elif whence != io.SEEK_SET:
            raise ValueError(f"whence is {whence}; it must be 0, 1 or 2")
        if offset < 0:
            raise ValueError(f"a seek to {offset} is one before the start")
        if offset < self._position:
            self._source.seek(0)
            self._block, self._at, self._position, self._error = b"", 0, 0, None
            self.restart()
        while self._position < offset and self.read1(offset - self._position):
            pass
        return self._position

    def tell(self) -> int:
        """Return the position."""
        self._check_open()
        return self._position

    def close(self) -> None:
        """Close the source too."""
        if not self.closed:
            super().close()
            self._source.close()
