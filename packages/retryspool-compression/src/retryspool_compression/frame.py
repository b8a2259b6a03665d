"""What is stored, format version 1; it is read for ever.

.. code-block:: text

    stream  "RSC" version:1 method:1  block … end
    block   kind:1 plain:4 stored:4 crc:4  the stored bytes

Numbers are big-endian. A block holds up to 1 MiB, `plain` bytes, in `stored` bytes: as they are (kind 0) or compressed
by the method (kind 1), each block by itself. The end is a block too (kind 2): its stored bytes are the number of all
plain ones, as eight bytes. The CRC-32 is that of the block's first nine bytes and its stored ones.
"""

from __future__ import annotations

import enum
import struct
import zlib
from dataclasses import dataclass

__all__ = ["BLOCK_BYTES", "BLOCK_HEAD_BYTES", "STREAM_HEAD_BYTES", "Head", "Kind", "block", "end", "stream_head"]

BLOCK_BYTES = 1024 * 1024
"""What a block holds at the most, plain or stored, in bytes."""
MAGIC = b"RSC"
VERSION = 1
STREAM_HEAD_BYTES = 5
_HEAD = struct.Struct(">BII")
_CRC = struct.Struct(">I")
_TOTAL = struct.Struct(">Q")
BLOCK_HEAD_BYTES = _HEAD.size + _CRC.size


class Kind(enum.IntEnum):
    """What a block's stored bytes are."""

    RAW = 0
    COMPRESSED = 1
    END = 2


def stream_head(method: bytes) -> bytes:
    """Return what a stream begins with."""
    return MAGIC + bytes([VERSION]) + method


def block(kind: Kind, plain: int, stored: bytes) -> list[bytes]:
    """Return a block, in parts."""
    head = _HEAD.pack(kind, plain, len(stored))
    return [head + _CRC.pack(zlib.crc32(stored, zlib.crc32(head))), stored]


def end(total: int) -> list[bytes]:
    """Return the end of a stream of so many plain bytes."""
    return block(Kind.END, 0, _TOTAL.pack(total))


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a block."""

    kind: int
    plain: int
    stored: int
    raw: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Take the bytes apart; whether they are right shows with those that follow."""
        kind, plain, stored = _HEAD.unpack_from(raw)
        return cls(kind, plain, stored, raw)

    def vouches_for(self, stored: bytes) -> bool:
        """Tell whether the checksum is that of this head and these bytes."""
        (crc,) = _CRC.unpack_from(self.raw, _HEAD.size)
        return bool(crc == zlib.crc32(stored, zlib.crc32(self.raw[: _HEAD.size])))

    def is_possible(self) -> bool:
        """Tell whether a block may be of this size: else it isn't even read."""
        if self.kind == Kind.END:
            return self.plain == 0 and self.stored == _TOTAL.size
        return self.kind in {Kind.RAW, Kind.COMPRESSED} and 0 < self.plain <= BLOCK_BYTES >= self.stored

    def is_end_of(self, total: int, stored: bytes) -> bool:
        """Tell whether this is the end of a stream of so many plain bytes."""
        return self.kind == Kind.END and _TOTAL.pack(total) == stored
