"""What the tests of data backends store: of any size, and such that a part of another one shows."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

from retryspool.conformance.comparing import assert_same
from retryspool.data import DataBackend

__all__ = ["CALLS", "KIB", "MIB", "broken", "content", "pieces", "signature", "signed"]

KIB = 1024
MIB = 1024 * KIB

_HEADER = struct.Struct(">IIQ")
_BLOCK = random.Random("block").randbytes(MIB - 8)

CALLS: dict[str, Callable[[DataBackend, Any], object]] = {
    "store": lambda data, it: data.store_data(it, b"x"),
    "store if absent": lambda data, it: data.store_data(it, b"x", if_absent=True),
    "write": lambda data, it: data.get_data_writer(it),
    "write if absent": lambda data, it: data.get_data_writer(it, if_absent=True),
    "read": lambda data, it: data.get_data_reader(it),
    "delete": lambda data, it: data.delete_data(it),
    "store many": lambda data, it: data.store_many([("b", b"x"), (it, b"x")]),
    "store many, this one first": lambda data, it: data.store_many([(it, b"x"), ("b", b"x")]),
    "fetch many": lambda data, it: data.fetch_many(["a", it], max_bytes=9),
    "delete many": lambda data, it: data.delete_many(["a", it]),
    "delete many, this one first": lambda data, it: data.delete_many([it, "a"]),
}
"""Every method that takes an id."""


def pieces(size: int) -> Iterator[bytes]:
    """Make a payload of this size in pieces of up to 1 MiB, no two of them alike, and none kept."""
    number = 0
    while size > 0:
        piece = number.to_bytes(8, "big") + _BLOCK
        yield piece[:size]
        size -= len(piece)
        number += 1


def content(size: int) -> bytes:
    """Return the payload that `pieces` makes."""
    return b"".join(pieces(size))


def broken(size: int, error: BaseException) -> Iterator[bytes]:
    """Make a payload, and raise where it should go on."""
    yield from pieces(size)
    raise error


def signed(writer: int, turn: int, size: int) -> bytes:
    """Return a payload that tells whose it is, of which turn and size; the rest of it follows from that."""
    return _HEADER.pack(writer, turn, size) + random.Random(f"{writer} {turn}").randbytes(size - _HEADER.size)


def signature(payload: bytes) -> tuple[int, int]:
    """Return writer and turn of a payload that `signed` made.

    :raises AssertionError: it isn't the whole of one such payload and nothing else
    """
    __tracebackhide__ = True  # what called it tells more
    found = len(payload)  # counted here, for in an assertion it would be shown with the whole payload
    assert found >= _HEADER.size, f"a payload of {found} bytes, which nobody stored"
    writer, turn, size = _HEADER.unpack_from(payload)
    assert size == found, f"a payload of {size} bytes has {found}"
    assert_same(signed(writer, turn, size), payload, "a payload is a mix of two: it")
    return writer, turn
