"""Files that work by blocks, the settings of middleware, and where they are named."""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retryspool.errors import CorruptDataError, InvalidUrlError, NotSupportedError
from retryspool.middleware import (
    BlockReader,
    BlockWriter,
    Middleware,
    MiddlewareCapabilities,
    read_exactly,
    settings_of,
)
from retryspool.plugins import split_middleware

BLOCK = 10


class Marking(BlockWriter):
    """Puts the length before each block, and a mark before the last."""

    def __init__(self, sink: BinaryIO) -> None:
        super().__init__(sink, BLOCK, b"head")
        self.blocks: list[tuple[bytes, bool]] = []

    def encode_block(self, block: bytes | memoryview, *, is_last: bool) -> Iterable[bytes]:
        self.blocks.append((bytes(block), is_last))
        return (b"!" if is_last else b".", len(block).to_bytes(1), bytes(block))


class Marked(BlockReader):
    def __init__(self, source: BinaryIO) -> None:
        super().__init__(source)
        self._has_ended = False
        self.restart()

    def restart(self) -> None:
        assert b"head" == read_exactly(self._source, 4)
        self._has_ended = False

    def next_block(self) -> bytes:
        if self._has_ended:
            return b""
        mark = read_exactly(self._source, 2)
        if len(mark) < 2:
            raise CorruptDataError("m", "cut off")
        self._has_ended = mark[:1] == b"!"
        return read_exactly(self._source, mark[1])


class Marks(Middleware):
    name = "marks"

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:
        del message_id
        return Marking(sink)

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:
        del message_id
        return Marked(source)


@given(st.lists(st.binary(max_size=35), max_size=8))
def test_a_payload_is_cut_into_blocks_of_which_only_the_last_is_shorter(parts: list[bytes]) -> None:
    sink = io.BytesIO()
    writer = Marking(sink)
    for number, part in enumerate(parts):
        assert len(part) == writer.write((part, bytearray(part), memoryview(part))[number % 3])
    writer.close()
    payload = b"".join(parts)
    blocks = [block for block, _ in writer.blocks]

    assert [payload[at : at + BLOCK] for at in range(0, len(payload), BLOCK)] or [b""] == blocks
    assert payload == b"".join(blocks)
    assert [is_last for _, is_last in writer.blocks] == [False] * (len(blocks) - 1) + [True]
    assert len(payload) == writer.size
    assert payload == Marked(io.BytesIO(sink.getvalue())).read()


def test_what_is_not_contiguous_is_written_too() -> None:
    sink = io.BytesIO()
    with Marking(sink) as writer:
        assert 13 == writer.write(memoryview(bytes(range(26)))[::2])

    assert bytes(range(0, 26, 2)) == Marked(io.BytesIO(sink.getvalue())).read()


@given(
    st.binary(max_size=60), st.lists(st.tuples(st.sampled_from(["read", "read1", "seek", "end"]), st.integers(0, 60)))
)
def test_a_reader_of_blocks_is_as_a_file_of_its_payload(payload: bytes, steps: list[tuple[str, int]]) -> None:
    sink = io.BytesIO()
    with Marking(sink) as writer:
        writer.write(payload)
    reader, file = Marked(io.BytesIO(sink.getvalue())), io.BytesIO(payload)

    for step, number in steps:
        if step == "read":
            assert file.read(number) == reader.read(number)
        elif step == "read1":
            found = reader.read1(number)
            assert file.read(len(found)) == found
            assert found or not number or file.tell() >= len(payload)
        elif step == "seek":
            assert reader.seek(min(number, len(payload))) == file.seek(min(number, len(payload)))
        else:
            back = -min(number, len(payload))
            assert reader.seek(back, io.SEEK_END) == file.seek(back, io.SEEK_END)
        assert file.tell() == reader.tell()


def test_a_seek_that_can_not_be_is_refused() -> None:
    sink = io.BytesIO()
    with Marking(sink) as writer:
        writer.write(b"hello")
    reader = Marked(io.BytesIO(sink.getvalue()))

    assert 3 == reader.seek(3) == reader.seek(0, io.SEEK_CUR)
    assert 5 == reader.seek(100), "there's nothing behind the end"
    for offset, whence in ((-1, 0), (-9, 1), (-9, 2), (0, 3)):
        with pytest.raises(ValueError, match=r"before the start|whence is 3"):
            reader.seek(offset, whence)
    reader.close()
    for call in (reader.read, reader.read1, reader.tell, reader.seekable, lambda: reader.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            call()


def test_what_failed_once_fails_until_it_is_read_from_the_start() -> None:
    sink = io.BytesIO()
    with Marking(sink) as writer:
        writer.write(b"0123456789abcde")
    reader = Marked(io.BytesIO(sink.getvalue()[:16]))

    for _ in range(2):
        with pytest.raises(CorruptDataError):
            reader.read()
    reader.seek(0)
    assert b"0123456789" == reader.read(10)


def test_nobody_reads_past_damage_to_the_end() -> None:
    class Once(Marked):
        failures = 1

        def next_block(self) -> bytes:
            block = super().next_block()
            if block == b"b" * BLOCK and self.failures:
                self.failures -= 1
                raise CorruptDataError("m", "damaged")
            return block

    sink = io.BytesIO()
    with Marking(sink) as writer:
        writer.write(b"a" * BLOCK + b"b" * BLOCK + b"c")
    reader = Once(io.BytesIO(sink.getvalue()))

    assert b"a" * BLOCK == reader.read(BLOCK)
    for _ in range(3):
        with pytest.raises(CorruptDataError, match="damaged"):
            reader.read(1)
    assert 0 == reader.seek(0)
    assert b"a" * BLOCK + b"b" * BLOCK + b"c" == reader.read()


def test_a_writer_that_failed_makes_no_whole_stream() -> None:
    class Failing(io.BytesIO):
        fails = True

        def write(self, data: object, /) -> int:
            if self.fails:
                raise OSError("full")
            return super().write(data)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    sink = Failing()
    writer = Marking(sink)
    with pytest.raises(OSError, match="full"):
        writer.write(bytes(100_000))
    sink.fails = False
    with pytest.raises(OSError, match="a write before this one failed"):
        writer.close()
    assert writer.closed
    assert b"" == sink.getvalue()


def test_what_little_a_payload_is_goes_out_in_one_write() -> None:
    writes: list[bytes] = []

    class Noting(io.BytesIO):
        def write(self, data: object, /) -> int:
            writes.append(bytes(data))  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
            return len(writes[-1])

    with Marking(Noting()) as writer:
        writer.write(bytes(95))

    assert 1 == len(writes)


# -- settings ----------------------------------------------------------------------------------------------------------


def test_settings_are_all_that_a_url_has() -> None:
    assert {"level": 3} == settings_of("marks:?level=3", {"level": int})
    assert {} == settings_of("marks:", {"level": int})
    for wrong in ("marks:x", "marks:/x", "marks://x", "marks://me@x", "marks:?level=x", "marks:?level=1&level=2"):
        with pytest.raises(InvalidUrlError):
            settings_of(wrong, {"level": int})
    with pytest.raises(InvalidUrlError) as refused:
        settings_of("marks://me:hunter2@x", {})
    assert "hunter2" not in str(refused.value)


def test_a_middleware_of_one_page_has_correct_defaults() -> None:
    assert isinstance(Marks.from_url("marks:"), Marks)
    with pytest.raises(InvalidUrlError, match="there is no setting 'level'"):
        Marks.from_url("marks:?level=1")
    with pytest.raises(NotSupportedError, match="open the spool with that middleware"):
        Marks.for_reading()
    marks = Marks()
    assert (False, False, ()) == (marks.decode_only, marks.seals_headers, marks.reads)
    assert MiddlewareCapabilities() == marks.capabilities
    for call in (lambda: marks.seal_headers("m", {}), lambda: marks.open_headers("m", "")):
        with pytest.raises(NotSupportedError, match="'marks' seals no headers"):
            call()


@pytest.mark.parametrize(
    ("url", "rest", "named"),
    [
        ("fs:x", "fs:x", []),
        ("fs:x?sync=hybrid", "fs:x?sync=hybrid", []),
        ("fs:x?middleware=zstd", "fs:x", ["zstd"]),
        ("fs:x?middleware=", "fs:x", []),
        ("fs:x?sync=hybrid&middleware=zstd,lz4&file_mode=1", "fs:x?sync=hybrid&file_mode=1", ["zstd", "lz4"]),
        ("fs:x?middleware=zstd:%3Flevel%3D3%26a=b,lz4", "fs:x", ["zstd:?level=3&a=b", "lz4"]),
    ],
)
def test_middleware_stands_in_the_url_of_the_payloads(url: str, rest: str, named: list[str]) -> None:
    assert (rest, named) == split_middleware(url)


def test_middleware_twice_in_a_url_is_refused() -> None:
    with pytest.raises(InvalidUrlError, match="the setting 'middleware' is given twice"):
        split_middleware("fs:x?middleware=a&middleware=b")
