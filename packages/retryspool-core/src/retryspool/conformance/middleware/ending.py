"""How a stream ends: by a close, by an abort, or by a failure on the way."""

from __future__ import annotations

import gc
import io
import random
from typing import BinaryIO

import pytest

from retryspool.conformance.marks import clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite, decoded, encoded, outcome
from retryspool.conformance.suite import needs_capability
from retryspool.middleware import Middleware

__all__ = ["EndingTests"]

_PAYLOAD = random.Random(3).randbytes(3_000_000)


class _FailingError(Exception):
    """What a sink or a source fails with."""


class _FailingSink(io.BytesIO):
    def __init__(self, after: int) -> None:
        super().__init__()
        self.left = after

    def write(self, data: object, /) -> int:
        written = super().write(data)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        self.left -= written
        if self.left < 0:
            raise _FailingError
        return written


class _FailingSource(io.BytesIO):
    def __init__(self, stored: bytes, after: int) -> None:
        super().__init__(stored[:after])

    def read(self, size: int | None = -1, /) -> bytes:
        found = super().read(size)
        if not found and size:
            raise _FailingError
        return found


def _write_and_close(writer: BinaryIO, payload: bytes) -> None:
    writer.writelines(payload[at : at + 100_000] for at in range(0, len(payload), 100_000))
    writer.close()


class EndingTests(MiddlewareSuite):
    @clause("MIDDLEWARE-3")
    def test_closing_writes_the_rest_and_leaves_the_sink_open(self, stage: Middleware) -> None:
        sink = io.BytesIO()
        writer = stage.encode(MESSAGE, sink)
        writer.write(b"hello")
        writer.close()
        stored = sink.getvalue()
        writer.close()

        assert writer.closed
        assert not sink.closed
        assert stored == sink.getvalue(), "a second close writes again"
        assert b"hello" == decoded(stage, stored)
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")
        assert stored == sink.getvalue()

    @clause("MIDDLEWARE-3")
    def test_nothing_is_written_once_the_sink_is_closed(self, stage: Middleware) -> None:
        """A writer that was dropped must not end its stream by itself, as `io`'s own classes would."""
        sink = io.BytesIO()
        writer = stage.encode(MESSAGE, sink)
        writer.write(b"hello")
        abort = getattr(writer, "abort", None)
        if abort is None:
            pytest.skip("its writers have no abort()")
        abort()
        stored = sink.getvalue()
        abort()
        writer.close()
        del writer
        gc.collect()

        assert stored == sink.getvalue()
        assert not sink.closed

    @clause("MIDDLEWARE-5")
    @pytest.mark.parametrize("size", [0, 5, len(_PAYLOAD)])
    @pytest.mark.parametrize("how", ["abort", "drop"])
    def test_what_was_not_closed_is_no_payload(self, stage: Middleware, size: int, how: str) -> None:
        needs_capability(stage.capabilities, "integrity")
        sink = io.BytesIO()
        writer = stage.encode(MESSAGE, sink)
        writer.write(_PAYLOAD[:size])
        if how == "abort":
            abort = getattr(writer, "abort", None)
            if abort is None:
                pytest.skip("its writers have no abort()")
            abort()
        del writer
        gc.collect()

        refused = isinstance(outcome(stage, sink.getvalue()), Exception)
        assert refused

    @clause("MIDDLEWARE-4")
    @pytest.mark.parametrize("after", [0, 10, 100_000, 1_500_000])
    def test_what_the_sink_fails_with_is_raised(self, stage: Middleware, after: int) -> None:
        sink = _FailingSink(after)
        writer = stage.encode(MESSAGE, sink)

        with pytest.raises(_FailingError):
            _write_and_close(writer, _PAYLOAD)

    @clause("MIDDLEWARE-4")
    def test_what_the_sink_fails_with_at_the_close_is_raised(self, stage: Middleware) -> None:
        complete = len(encoded(stage, [b"hello"]))
        sink = _FailingSink(complete - 1)
        writer = stage.encode(MESSAGE, sink)

        with pytest.raises(_FailingError):
            _write_and_close(writer, b"hello")

    @clause("MIDDLEWARE-4")
    @pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
    def test_what_the_source_fails_with_is_raised(self, stage: Middleware, part: float) -> None:
        stored = encoded(stage, [_PAYLOAD])

        with pytest.raises(_FailingError):
            decoded(stage, _FailingSource(stored, int(len(stored) * part)))
