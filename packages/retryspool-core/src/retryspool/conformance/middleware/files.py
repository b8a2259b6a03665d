"""Readers and writers are binary files."""

from __future__ import annotations

import io
import shutil

import pytest

from retryspool.conformance.comparing import assert_same
from retryspool.conformance.marks import clause
from retryspool.conformance.middleware_suite import MESSAGE, MiddlewareSuite, encoded
from retryspool.middleware import Middleware

__all__ = ["FileTests"]

_LINES = b"".join(b"line %d\n" % number for number in range(50_000))


class _NotSeekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        del offset, whence
        raise io.UnsupportedOperation("this one isn't seekable")


class FileTests(MiddlewareSuite):
    @clause("MIDDLEWARE-2")
    def test_a_reader_is_a_binary_file(self, stage: Middleware) -> None:
        stored = encoded(stage, [_LINES])
        with stage.decode(MESSAGE, io.BytesIO(stored)) as reader:
            assert reader.readable()
            assert not reader.writable()
            assert b"" == reader.read(0)
            assert _LINES[:7] == reader.readline()
            assert _LINES[7:14] == reader.readline()
            assert_same(_LINES[14:], b"".join(reader))
            assert b"" == reader.read(1) == reader.read() == reader.readline()
        with stage.decode(MESSAGE, io.BytesIO(stored)) as reader:
            sink = io.BytesIO()
            shutil.copyfileobj(reader, sink, 1000)
            assert_same(_LINES, sink.getvalue())

    @clause("MIDDLEWARE-2")
    def test_a_reader_gives_all_that_was_asked_for(self, stage: Middleware) -> None:
        payload = _LINES * 8
        with stage.decode(MESSAGE, io.BytesIO(encoded(stage, [payload]))) as reader:
            for at in range(0, len(payload), 99_991):
                assert_same(payload[at : at + 99_991], reader.read(99_991), f"what is read at byte {at}")

    @clause("MIDDLEWARE-2")
    def test_closing_a_reader_closes_its_source(self, stage: Middleware) -> None:
        source = io.BytesIO(encoded(stage, [_LINES]))
        reader = stage.decode(MESSAGE, source)
        reader.read(5)
        reader.close()
        reader.close()

        assert reader.closed
        assert source.closed
        with pytest.raises(ValueError, match="closed"):
            reader.read(1)

    @clause("MIDDLEWARE-2")
    def test_a_reader_that_says_it_is_seekable_starts_again(self, stage: Middleware) -> None:
        stored = encoded(stage, [_LINES])
        with stage.decode(MESSAGE, io.BytesIO(stored)) as reader:
            if not reader.seekable():
                with pytest.raises(OSError):  # noqa: PT011 -- io.UnsupportedOperation is one
                    reader.seek(0)
                return
            assert _LINES[:100] == reader.read(100)
            assert 0 == reader.seek(0)
            assert 0 == reader.tell()
            assert_same(_LINES, reader.read())
            assert 0 == reader.seek(0)
            assert _LINES[:10] == reader.read(10)
            assert 10 == reader.tell()

    @clause("MIDDLEWARE-2")
    def test_a_reader_of_what_is_not_seekable_does_not_say_it_were(self, stage: Middleware) -> None:
        with stage.decode(MESSAGE, _NotSeekable(encoded(stage, [_LINES]))) as reader:
            if reader.seekable():  # it may have kept what it read
                reader.read(10)
                assert 0 == reader.seek(0)
            assert_same(_LINES, reader.read())

    @clause("MIDDLEWARE-2")
    def test_a_writer_is_a_binary_file(self, stage: Middleware) -> None:
        sink = io.BytesIO()
        with stage.encode(MESSAGE, sink) as writer:
            assert writer.writable()
            assert not writer.closed
            shutil.copyfileobj(io.BytesIO(_LINES), writer, 1000)
            writer.writelines([b"a", b"b"])

        assert writer.closed
        assert_same(_LINES + b"ab", stage.decode(MESSAGE, io.BytesIO(sink.getvalue())).read())
