"""The two files of a compressed payload: one compresses what is written, one decompresses what is read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import BinaryIO, Protocol

from retryspool.errors import BackendError, CorruptDataError
from retryspool.middleware import BlockReader, BlockWriter, read_exactly
from retryspool_compression import frame
from retryspool_compression.frame import Head, Kind

__all__ = ["Codec", "CompressingWriter", "DecompressingReader"]

_WORTH_IT = 31 / 32
"""What doesn't shrink to less than this isn't worth the time of decompressing it."""
_MOST_PASSED_OVER = 15


class Codec(Protocol):
    """One method of compression."""

    def compress(self, block: bytes | memoryview, /) -> bytes:
        """Compress a block of up to 1 MiB."""
        ...

    def decompress(self, stored: bytes, plain: int, /) -> bytes:
        """Return the `plain` bytes that these are; never makes more of them.

        :raises ValueError: they are others
        """
        ...


class CompressingWriter(BlockWriter):
    """Compresses each block by itself, and stores as it is what doesn't shrink.

    After a block that didn't, the next ones aren't tried either: first one of them, then more, up to 15.
    """

    def __init__(self, sink: BinaryIO, method: bytes, codec: Codec) -> None:
        super().__init__(sink, frame.BLOCK_BYTES, frame.stream_head(method))
        self._codec = codec
        self._pass_over = 0
        self._left_to_pass = 0

    def encode_block(self, block: bytes | memoryview, *, is_last: bool) -> Iterable[bytes]:
        if block:
            yield from self._block(block)
        if is_last:
            yield from frame.end(self.size)

    def _block(self, block: bytes | memoryview) -> list[bytes]:
        if self._left_to_pass:
            self._left_to_pass -= 1
        else:
            compressed = self._codec.compress(block)
            if len(compressed) < len(block) * _WORTH_IT:
                self._pass_over = 0
                return frame.block(Kind.COMPRESSED, len(block), compressed)
            self._pass_over = self._left_to_pass = min(2 * self._pass_over + 1, _MOST_PASSED_OVER)
        return frame.block(Kind.RAW, len(block), bytes(block))


class DecompressingReader(BlockReader):
    """Decompresses block by block; what is damaged, cut off or added is an error."""

    def __init__(self, message_id: str, source: BinaryIO, name: str, method: bytes, codec: Codec) -> None:
        super().__init__(source)
        self._message_id = message_id
        self._name = name
        self._method = method
        self._codec = codec
        self._total = 0
        self._has_ended = False
        self._read_head()

    def _read_head(self) -> None:
        head = read_exactly(self._source, frame.STREAM_HEAD_BYTES)
        expected = frame.stream_head(self._method)
        if head == expected:
            return
        if head[:3] == expected[:3] and len(head) == len(expected) and head[3] > frame.VERSION:
            msg = (
                f"the payload of message {self._message_id!r} is compressed in format version {head[3]}, this is "
                f"version {frame.VERSION}: pip install --upgrade retryspool-compression"
            )
            raise BackendError(msg)
        raise self._refused(f"it begins with {head!r}, not {expected!r}")

    def restart(self) -> None:
        self._total, self._has_ended = 0, False
        self._read_head()

    def next_block(self) -> bytes:
        if self._has_ended:
            return b""
        raw = read_exactly(self._source, frame.BLOCK_HEAD_BYTES)
        if len(raw) < frame.BLOCK_HEAD_BYTES:
            raise self._refused(f"it is cut off after {self._total} bytes")
        head = Head.parse(raw)
        if not head.is_possible():
            raise self._refused(f"it is damaged after {self._total} bytes")
        stored = read_exactly(self._source, head.stored)
        if len(stored) < head.stored:
            raise self._refused(f"it is cut off after {self._total} bytes")
        if not head.vouches_for(stored):
            raise self._refused(f"it is damaged after {self._total} bytes")
        if head.kind == Kind.END:
            self._end(head, stored)
            return b""
        plain = stored if head.kind == Kind.RAW else self._decompress(stored, head.plain)
        if len(plain) != head.plain:
            raise self._refused(f"a block of it is {len(plain)} bytes, not {head.plain}")
        self._total += len(plain)
        return plain

    def _decompress(self, stored: bytes, plain: int) -> bytes:
        try:
            return self._codec.decompress(stored, plain)
        except ValueError as error:
            raise self._refused(f"it doesn't decompress after {self._total} bytes: {error}") from error

    def _end(self, head: Head, stored: bytes) -> None:
        if not head.is_end_of(self._total, stored):
            raise self._refused(f"it is {self._total} bytes, {int.from_bytes(stored)} were written")
        if self._source.read(1):
            raise self._refused("more follows after its end")
        self._has_ended = True

    def _refused(self, what: str) -> CorruptDataError:
        return CorruptDataError(self._message_id, f"as a {self._name} stream, {what}")
