"""Payloads larger than the memory that they may cost."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from typing import cast

from retryspool.conformance.children import children
from retryspool.conformance.comparing import assert_same
from retryspool.conformance.data.payloads import KIB, MIB, pieces
from retryspool.conformance.data.streaming import peak_bytes
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite, pickled
from retryspool.conformance.profiles import Profile
from retryspool.middleware import Middleware

__all__ = ["StreamingTests"]

_LIMIT = 32 * MIB
_ENOUGH = 64 * MIB
"""A payload that doesn't fit into the limit."""


class StreamingTests(MiddlewareSuite):
    @clause("MIDDLEWARE-6", level=Level.DURABLE)
    def test_memory_does_not_grow_with_the_payload(self, stage: Middleware, profile: Profile) -> None:
        with children(1) as (child,):
            grown = cast("dict[str, int]", child.call(_stream, pickled(stage), max(profile.payload_bytes, _ENOUGH)))

        assert _LIMIT > max(grown.values()), {step: f"{more / MIB:.1f} MiB more" for step, more in grown.items()}


def _zeros(size: int) -> Iterator[bytes]:
    piece = bytes(MIB)
    for at in range(0, size, MIB):
        yield piece[: size - at]


_KINDS: dict[str, Callable[[int], Iterator[bytes]]] = {"noise": pieces, "zeros": _zeros}
"""What doesn't shrink, and what shrinks to next to nothing, and so comes out of few bytes."""


def _stream(stage: Middleware, size: int) -> dict[str, int]:
    """Encode and decode large payloads; return how much more memory was needed up to each step."""
    for make in _KINDS.values():  # what is imported and made at first isn't the payload's
        _encode_and_decode(stage, make, 1 * KIB)
    before = peak_bytes()
    grown: dict[str, int] = {}
    for kind, make in _KINDS.items():
        _encode_and_decode(stage, make, size)
        grown[kind] = peak_bytes() - before
    return grown


def _encode_and_decode(stage: Middleware, make: Callable[[int], Iterator[bytes]], size: int) -> None:
    with tempfile.TemporaryFile() as file:
        with stage.encode(MESSAGE, file) as writer:
            for piece in make(size):
                writer.write(piece)
        file.seek(0)
        with stage.decode(MESSAGE, file) as reader:
            for piece in make(size):
                assert_same(piece, reader.read(len(piece)), "what is read")
            assert b"" == reader.read(1)
