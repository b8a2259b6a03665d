"""What goes in comes out, however it is written and read."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import strategies as st

from retryspool.conformance.comparing import assert_same
from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite, decoded, encoded
from retryspool.conformance.profiles import Profile
from retryspool.conformance.strategies import TRICKY_IDS
from retryspool.middleware import Middleware

__all__ = ["RoundTripTests"]

_EDGES = [size + more for exponent in range(8, 23, 2) for size in (1 << exponent,) for more in (-1, 0, 1)]
"""Around every size that a block may well have, in bytes."""


def _run(byte: int, count: int) -> bytes:
    return bytes([byte]) * count


def _noise(seed: int, count: int) -> bytes:
    return random.Random(seed).randbytes(count)


_counts = st.integers(0, 400_000)
_parts = st.lists(
    st.one_of(
        st.binary(max_size=300),
        st.builds(_run, st.integers(0, 255), _counts),
        st.builds(_noise, st.integers(), _counts),
    ),
    max_size=8,
)
_reads = st.lists(st.one_of(st.integers(0, 10), st.integers(0, 600_000), st.just(-1)), min_size=1, max_size=8)


class RoundTripTests(MiddlewareSuite):
    @clause("MIDDLEWARE-1")
    def test_what_goes_in_comes_out(self, stage: Middleware, profile: Profile, seed: int) -> None:
        def check(example: tuple[list[bytes], list[int]]) -> None:
            parts, sizes = example
            payload = b"".join(parts)
            with stage.decode(MESSAGE, io.BytesIO(encoded(stage, parts))) as reader:
                found = b"".join(reader.read(size) for size in sizes)
                assert_same(payload, found + reader.read())

        explore(st.tuples(_parts, _reads), check, examples=profile.examples, seed=seed)

    @clause("MIDDLEWARE-1")
    @pytest.mark.parametrize("size", [0, 1, 2, 100])
    def test_a_small_payload_is_a_payload(self, stage: Middleware, size: int) -> None:
        payload = bytes(range(size))

        assert payload == decoded(stage, encoded(stage, [payload]))
        assert payload == decoded(stage, encoded(stage, [payload[at : at + 1] for at in range(size)]))
        assert payload == decoded(stage, encoded(stage, [b"", payload, b"", b""]))

    @clause("MIDDLEWARE-1")
    @pytest.mark.parametrize("kind", ["noise", "zeros"])
    def test_a_payload_of_any_size_comes_out(self, stage: Middleware, kind: str) -> None:
        largest = random.Random(1).randbytes(_EDGES[-1]) if kind == "noise" else bytes(_EDGES[-1])
        for size in _EDGES:
            payload = largest[:size]
            assert_same(payload, decoded(stage, encoded(stage, [payload])), "what was written at once")
            halves = [payload[: size // 2], payload[size // 2 :]]
            assert_same(payload, decoded(stage, encoded(stage, halves)), "what was written in halves")

    @clause("MIDDLEWARE-1")
    def test_what_was_written_may_be_used_again_at_once(self, stage: Middleware) -> None:
        sink = io.BytesIO()
        writer = stage.encode(MESSAGE, sink)
        buffer = bytearray(70_001)
        expected = b""
        for number in range(40):
            buffer[:] = bytes([number]) * len(buffer)
            assert len(buffer) == writer.write(buffer if number % 2 else memoryview(buffer))
            expected += bytes(buffer)
            buffer[:] = bytes(len(buffer))
        writer.close()

        assert_same(expected, decoded(stage, sink.getvalue()))

    @clause("MIDDLEWARE-1")
    def test_a_source_that_gives_little_at_a_time_is_read_to_its_end(self, stage: Middleware) -> None:
        payload = random.Random(2).randbytes(50_000) + bytes(50_000)
        stored = encoded(stage, [payload])

        class Dripping(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                return super().read(min(777, size) if size is not None and size >= 0 else 777)

        assert_same(payload, decoded(stage, Dripping(stored)))

    @clause("MIDDLEWARE-1")
    @pytest.mark.parametrize("message_id", TRICKY_IDS)
    def test_any_message_has_payloads(self, stage: Middleware, message_id: str) -> None:
        assert b"hello" == decoded(stage, encoded(stage, [b"hello"], message_id), message_id)
