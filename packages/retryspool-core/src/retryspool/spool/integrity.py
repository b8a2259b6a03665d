"""Payloads that are what was handed in, to the last byte, or an error.

The record, which is written after the payload, vouches for it: by its size and a CRC-32 of its bytes as they came in.
So what a power cut has torn in a mode that syncs nothing, what a disk has forgotten, and what a middleware gets wrong,
is found out before the reader comes to the end.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, cast

from retryspool.data import CHUNK_BYTES, Payload
from retryspool.errors import CorruptDataError
from retryspool.model import MessageMetadata
from retryspool.spool.chunks import chunks_of
from retryspool.spool.headers import ENCODING_HEADER

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["Fingerprint", "damage_of", "fingerprinting", "verified"]


class Fingerprint:
    """The size and the CRC-32 of bytes that go by."""

    __slots__ = ("_crc", "size")

    def __init__(self) -> None:
        self.size = 0
        self._crc = 0

    def update(self, data: ReadableBuffer) -> int:
        """Take note of the next bytes; return how many they are."""
        with memoryview(data) as view:
            self._crc = zlib.crc32(view, self._crc)
            self.size += view.nbytes
            return view.nbytes

    @property
    def checksum(self) -> str:
        """The CRC-32 of all of them, in eight hexadecimal digits."""
        return f"{self._crc:08x}"


def fingerprinting(payload: Payload, fingerprint: Fingerprint) -> Payload:
    """Return the payload, of which note is taken as it is read."""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        fingerprint.update(payload)
        return payload

    def passing() -> Iterator[bytes]:
        for chunk in chunks_of(payload):
            fingerprint.update(chunk)
            yield chunk

    return passing()


def verified(record: MessageMetadata, source: BinaryIO) -> BinaryIO:
    """Return a reader of `source` that ends with `CorruptDataError` where it isn't the payload of this record.

    A record of the Go system has no checksum: its payload is read as it is. That of an encrypted payload has none
    either: its bytes are vouched for by the encryption, and its size is compared.
    """
    if not record.checksum and ENCODING_HEADER not in record.headers:
        return source
    return cast("BinaryIO", io.BufferedReader(_Verifying(record, source), min(record.size + 1, CHUNK_BYTES)))


def damage_of(reader: BinaryIO) -> CorruptDataError | None:
    """Return the error with which reading from what `verified` returned has ended, None if it hasn't."""
    raw: object = getattr(reader, "raw", None)
    return raw.damage if isinstance(raw, _Verifying) else None


class _Verifying(io.RawIOBase):
    """Compares at the end. After a seek only what is read from the start again can be."""

    def __init__(self, record: MessageMetadata, source: BinaryIO) -> None:
        self._record = record
        self._source = source
        self._seen: Fingerprint | None = Fingerprint()
        self.damage: CorruptDataError | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        with memoryview(buffer).cast("B") as view:
            try:
                chunk = self._source.read(len(view))
            except CorruptDataError as damage:  # found out by middleware
                self.damage = damage
                raise
            view[: len(chunk)] = chunk
            if self._seen is not None and len(view):
                self._seen.update(chunk)
                self._compare(self._seen, at_end=not chunk)
            return len(chunk)

    def _compare(self, seen: Fingerprint, *, at_end: bool) -> None:
        size = self._record.size
        if seen.size > size:
            self._refuse(f"it is longer than {size} bytes")
        if at_end and seen.size < size:
            self._refuse(f"it ends after {seen.size} bytes of {size}")
        if at_end and self._record.checksum and seen.checksum != self._record.checksum:
            self._refuse(f"its checksum is {seen.checksum}, not {self._record.checksum}")

    def _refuse(self, what: str) -> None:
        self.damage = CorruptDataError(self._record.id, what)
        raise self.damage

    def seekable(self) -> bool:
        return self._source.seekable()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        position = self._source.seek(offset, whence)
        self._seen = None if position else Fingerprint()
        return position

    def tell(self) -> int:
        return self._source.tell()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()
