"""A payload in chunks, whatever it was handed in as."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import BinaryIO, cast

from retryspool.data import CHUNK_BYTES, Payload

__all__ = ["chunks_of"]


def chunks_of(payload: Payload) -> Iterator[bytes]:
    """Return the chunks of a payload, read as they are asked for: bytes are one, however many."""
    if isinstance(payload, (bytes, bytearray, memoryview)):
        return iter((cast("bytes", payload),))
    if hasattr(payload, "read"):
        return iter(partial(cast("BinaryIO", payload).read, CHUNK_BYTES), b"")
    return iter(payload)
