"""What was altered, cut off or added, on its way through whatever stores it."""

from __future__ import annotations

import io
import random
from itertools import accumulate
from typing import TYPE_CHECKING

import pytest

from retryspool.conformance.comparing import assert_same
from retryspool.conformance.marks import clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite, encoded, outcome
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs_capability
from retryspool.errors import StorageError
from retryspool.middleware import Middleware

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["DamageTests"]

_SMALL = (b"", b"x", b"hello, hello, hello, hello", random.Random(4).randbytes(100))
_LARGE = (bytes(2_500_000), random.Random(5).randbytes(2_500_000))
_SAMPLE = 25


class DamageTests(MiddlewareSuite):
    @clause("MIDDLEWARE-7")
    def test_a_payload_that_is_cut_off_anywhere_is_an_error(self, stage: Middleware) -> None:
        needs_capability(stage.capabilities, "integrity")
        for payload in _SMALL:
            stored = encoded(stage, [payload])
            for length in range(len(stored)):
                found = outcome(stage, stored[:length])
                _assert_refused(found, f"{length} bytes of {len(stored)}")

    @clause("MIDDLEWARE-7")
    def test_a_large_payload_that_is_cut_off_is_an_error(self, stage: Middleware, profile: Profile, seed: int) -> None:
        needs_capability(stage.capabilities, "integrity")
        chance = random.Random(seed)
        for payload in _LARGE:
            writes = _writes(stage, payload)
            stored = b"".join(writes)
            cuts = {len(stored) - 1, *(chance.randrange(len(stored)) for _ in range(profile.examples))}
            ends = set(accumulate(map(len, writes))) - {len(stored)}
            for length in cuts | ends | {end + more for end in ends for more in (-1, 1)}:
                found = outcome(stage, stored[:length])
                _assert_refused(found, f"{length} bytes of {len(stored)}")

    @clause("MIDDLEWARE-7")
    def test_a_bit_that_was_turned_over_never_makes_another_payload(self, stage: Middleware) -> None:
        needs_capability(stage.capabilities, "integrity")
        for payload in _SMALL:
            stored = encoded(stage, [payload])
            for at in range(len(stored) * 8):
                _assert_same_or_refused(payload, outcome(stage, _turned(stored, at)), f"bit {at}: the payload")

    @clause("MIDDLEWARE-7")
    def test_a_bit_of_a_large_payload_neither(self, stage: Middleware, seed: int) -> None:
        needs_capability(stage.capabilities, "integrity")
        chance = random.Random(seed)
        for payload in _LARGE:
            stored = encoded(stage, [payload])
            for _ in range(_SAMPLE):
                bit = chance.randrange(len(stored) * 8)
                _assert_same_or_refused(payload, outcome(stage, _turned(stored, bit)), f"bit {bit}: the payload")

    @clause("MIDDLEWARE-7")
    def test_parts_that_are_left_out_repeated_or_swapped_are_an_error(self, stage: Middleware) -> None:
        """A part is what was written to the sink in one go: where there are several, they are its blocks mostly."""
        needs_capability(stage.capabilities, "integrity")
        for payload in _LARGE:
            writes = _writes(stage, payload)
            for at in range(len(writes) - 1):
                one, other = writes[at : at + 2]
                before, after = writes[:at], writes[at + 2 :]
                for wrong in ([other], [one], [one, one, other], [other, one]):
                    found = outcome(stage, b"".join([*before, *wrong, *after]))
                    _assert_same_or_refused(payload, found, f"at part {at} of {len(writes)}: the payload")

    @clause("MIDDLEWARE-7")
    def test_what_follows_the_end_is_an_error(self, stage: Middleware) -> None:
        needs_capability(stage.capabilities, "integrity")
        for payload in (*_SMALL, *_LARGE):
            stored = encoded(stage, [payload])
            for more in (b"\0", b"\n", b"more", bytes(1_000_000), stored):
                _assert_refused(outcome(stage, stored + more), f"{len(more)} bytes more than there were")

    @clause("MIDDLEWARE-10")
    def test_what_is_no_stream_at_all_is_an_error_of_the_tree(self, stage: Middleware, seed: int) -> None:
        """`outcome` lets no other error pass: `struct.error`, `zlib.error` and the like say nothing to anybody."""
        chance = random.Random(seed)
        stored = encoded(stage, [b"hello" * 1000])
        for garbage in (b"", b"\0", bytes(100), b"\xff" * 100, chance.randbytes(100_000), stored[::-1]):
            found = outcome(stage, garbage)
            if stage.capabilities.integrity:
                _assert_refused(found, "what is no stream")
        for length in range(min(len(stored), 64)):
            for noise in range(4):
                found = outcome(stage, stored[:length] + chance.randbytes(noise * 20))
                if stage.capabilities.integrity:
                    _assert_refused(found, f"{length} bytes of {len(stored)}, and others,")

    @clause("MIDDLEWARE-7")
    def test_who_reads_on_after_an_error_is_not_told_of_an_end(self, stage: Middleware) -> None:
        needs_capability(stage.capabilities, "integrity")
        stored = encoded(stage, [_LARGE[1]])
        with stage.decode(MESSAGE, io.BytesIO(stored[: len(stored) // 2])) as reader:
            for _ in range(3):
                with pytest.raises((StorageError, OSError)):
                    reader.read()


def _assert_refused(found: bytes | Exception, what: str) -> None:
    if not isinstance(found, Exception):
        raise AssertionError(f"{what} are a payload of {len(found)} bytes")  # noqa: TRY004 -- that's what it found


def _assert_same_or_refused(payload: bytes, found: bytes | Exception, what: str) -> None:
    if not isinstance(found, Exception):
        assert_same(payload, found, what)


class _Noting(io.BytesIO):
    """A sink that notes what is written in one go."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []

    def write(self, data: ReadableBuffer, /) -> int:
        self.writes.append(bytes(data))
        return super().write(data)


def _writes(stage: Middleware, payload: bytes) -> list[bytes]:
    """Return what is stored of a payload, in the parts in which it was written."""
    sink = _Noting()
    writer = stage.encode(MESSAGE, sink)
    for at in range(0, len(payload), 100_000):
        writer.write(payload[at : at + 100_000])
    writer.close()
    return sink.writes


def _turned(stored: bytes, bit: int) -> bytes:
    turned = bytearray(stored)
    turned[bit // 8] ^= 1 << bit % 8
    return bytes(turned)
