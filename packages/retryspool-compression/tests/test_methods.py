"""What the suite of middleware doesn't ask: levels, what is worth it, what lies, and what isn't installed."""

from __future__ import annotations

import io
import random
import struct
import sys
import zlib
from collections.abc import Callable

import lz4.block
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from retryspool import get_middleware
from retryspool.errors import (
    BackendError,
    CorruptDataError,
    InvalidOptionError,
    InvalidUrlError,
    PluginLoadError,
    UnknownPluginError,
)
from retryspool.middleware import Middleware
from retryspool.plugins import middleware_at
from retryspool_compression import Gzip, Lz4, Zlib, Zstd, frame
from retryspool_compression.codecs import ZstdCodec
from retryspool_compression.frame import BLOCK_BYTES, Kind

METHODS: list[type[Zstd | Gzip | Zlib | Lz4]] = [Zstd, Gzip, Zlib, Lz4]
BY_METHOD = pytest.mark.parametrize("method", METHODS)
NOISE = random.Random(1).randbytes(4 * BLOCK_BYTES)
TEXT = b"".join(b"line %d of many\n" % number for number in range(300_000))[: 4 * BLOCK_BYTES]


def encoded(stage: Middleware, *parts: bytes) -> bytes:
    sink = io.BytesIO()
    with stage.encode("m", sink) as writer:
        writer.writelines(parts)
    return sink.getvalue()


def decoded(stage: Middleware, stored: bytes) -> bytes:
    with stage.decode("m", io.BytesIO(stored)) as reader:
        return reader.read()


def kinds(stored: bytes) -> list[int]:
    """Return the kind of each block of a stream."""
    found: list[int] = []
    at = frame.STREAM_HEAD_BYTES
    while at < len(stored):
        head = frame.Head.parse(stored[at : at + frame.BLOCK_HEAD_BYTES])
        found.append(head.kind)
        at += frame.BLOCK_HEAD_BYTES + head.stored
    return found


def block(kind: int, plain: int, stored: bytes) -> bytes:
    """Make a block by hand, with the checksum that it must have."""
    head = struct.pack(">BII", kind, plain, len(stored))
    return head + struct.pack(">I", zlib.crc32(head + stored)) + stored


def end(total: int) -> bytes:
    return block(2, 0, struct.pack(">Q", total))


# -- what is stored ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stage", "letter", "compress"),
    [
        (Zstd(), b"z", zstandard.ZstdCompressor(level=3).compress),
        (Gzip(), b"g", lambda data: zlib.compress(data, 6, 31)),
        (Zlib(), b"d", lambda data: zlib.compress(data, 6)),
        (Lz4(), b"4", lambda data: lz4.block.compress(data, store_size=False)),
    ],
    ids=["zstd", "gzip", "zlib", "lz4"],
)
def test_the_layout_is_the_one_that_is_written_down(
    stage: Middleware, letter: bytes, compress: Callable[[bytes], bytes]
) -> None:
    payload = b"hello " * 1000
    by_hand = b"RSC\x01" + letter + block(1, len(payload), compress(payload)) + end(len(payload))

    assert by_hand == encoded(stage, payload)
    assert payload == decoded(stage, by_hand)


@BY_METHOD
def test_text_shrinks(method: type[Middleware]) -> None:
    assert len(encoded(method.from_url(f"{method.name}:"), TEXT)) < len(TEXT) / 3


@BY_METHOD
def test_what_does_not_shrink_is_stored_as_it_is(method: type[Middleware]) -> None:
    stored = encoded(method.from_url(f"{method.name}:"), NOISE)

    assert [Kind.RAW] * 4 + [Kind.END] == kinds(stored)
    assert len(stored) < len(NOISE) + 200
    assert NOISE[:BLOCK_BYTES] in stored


def test_what_begins_to_shrink_later_is_compressed_from_then_on() -> None:
    stored = encoded(Zstd(), NOISE[:BLOCK_BYTES], TEXT)

    assert [Kind.RAW, Kind.RAW, *[Kind.COMPRESSED] * 3, Kind.END] == kinds(stored)
    assert NOISE[:BLOCK_BYTES] + TEXT == decoded(Zstd(), stored)


def test_what_does_not_shrink_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []
    compress = ZstdCodec.compress

    def counted(self: ZstdCodec, data: bytes | memoryview, /) -> bytes:
        tried.append(len(data))
        return compress(self, data)

    monkeypatch.setattr(ZstdCodec, "compress", counted)
    encoded(Zstd(level=1), *[NOISE] * 16)

    assert 7 == len(tried), "the blocks 0, 2, 6, 14, 30, 46, 62 of 64"


@BY_METHOD
def test_each_level_is_read_by_any(method: type[Zstd | Gzip | Zlib | Lz4]) -> None:
    for level in method.levels:
        assert TEXT[:50_000] == decoded(method.for_reading(), encoded(method(level=level), TEXT[:50_000]))


# -- what is stored, and lies ------------------------------------------------------------------------------------------

LIES = {
    "a block says that it is larger than any is": block(1, BLOCK_BYTES + 1, b"x"),
    "a block says that it takes more than any does": block(0, 1, bytes(BLOCK_BYTES + 1)),
    "a block is of no kind": block(3, 1, b"x"),
    "a block is empty": block(0, 0, b""),
    "a raw block has another size": block(0, 2, b"x"),
    "the end has another size": block(2, 0, b"x"),
    "the end has plain bytes": block(2, 1, bytes(8)),
    "the end counts others": end(1),
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_a_block_that_can_not_be_is_refused(lie: bytes) -> None:
    with pytest.raises(CorruptDataError):
        decoded(Zstd(), b"RSC\x01z" + lie + end(0))


@pytest.mark.parametrize(
    ("method", "compress"),
    [
        (Zstd, zstandard.ZstdCompressor(level=19).compress),
        (Zstd, lambda data: zstandard.ZstdCompressor(level=19, write_content_size=False).compress(data)),
        (Gzip, lambda data: zlib.compress(data, 9, 31)),
        (Zlib, lambda data: zlib.compress(data, 9)),
        (Lz4, lambda data: lz4.block.compress(data, store_size=False)),
    ],
    ids=["zstd", "zstd without a size", "gzip", "zlib", "lz4"],
)
def test_a_block_that_makes_more_than_it_says_is_refused_before_it_does(
    method: type[Middleware], compress: Callable[[bytes], bytes]
) -> None:
    """A hundred megabytes of zeros in a block of a kilobyte."""
    bomb = compress(bytes(100 * BLOCK_BYTES))[: BLOCK_BYTES - 1]
    letter = encoded(method.from_url(f"{method.name}:"))[4:5]
    stored = b"RSC\x01" + letter + block(1, 1024, bomb) + end(1024)

    with pytest.raises(CorruptDataError, match="doesn't decompress"):
        decoded(method.for_reading(), stored)


@BY_METHOD
@settings(max_examples=200, deadline=None)
@given(stored=st.binary(min_size=1, max_size=200), plain=st.integers(1, BLOCK_BYTES), at=st.integers(0, 1000))
def test_a_block_of_anything_at_all_is_read_or_refused(
    method: type[Middleware], stored: bytes, plain: int, at: int
) -> None:
    """With a checksum that is right, so that the library itself gets it: noise, and what it wrote, altered."""
    good = encoded(method.from_url(f"{method.name}:"), TEXT[:1000])
    whole = bytearray(good[frame.STREAM_HEAD_BYTES + frame.BLOCK_HEAD_BYTES : -frame.BLOCK_HEAD_BYTES - 8])
    whole[at % len(whole)] ^= stored[0]
    for content, size in ((stored, plain), (bytes(whole), 1000)):
        try:
            found = decoded(method.for_reading(), good[:5] + block(1, size, content) + end(size))
        except CorruptDataError:
            continue
        assert size == len(found)


def test_another_method_is_not_guessed() -> None:
    with pytest.raises(CorruptDataError, match="as a gzip stream, it begins with"):
        decoded(Gzip(), encoded(Zstd(), b"hello"))


def test_a_format_of_the_future_says_what_to_do() -> None:
    stored = b"RSC\x02" + encoded(Zstd(), b"hello")[4:]

    with pytest.raises(
        BackendError, match=r"format version 2.*pip install --upgrade retryspool-compression"
    ) as refused:
        decoded(Zstd(), stored)
    assert not isinstance(refused.value, CorruptDataError), "nothing is damaged"


# -- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "levels"), [(Zstd, (-8, 23, 100)), (Gzip, (-1, 10)), (Zlib, (-1, 10)), (Lz4, (-1, 13))]
)
def test_a_level_that_there_is_not_is_refused(method: type[Zstd], levels: tuple[int, ...]) -> None:
    for level in levels:
        with pytest.raises(InvalidOptionError, match=f"level is {level}; those of {method.name} are"):
            method(level=level)
        with pytest.raises(InvalidUrlError, match="'level' isn't right"):
            middleware_at(f"{method.name}:?level={level}")
    for wrong in ("", "fast", "3.0", "1e1"):
        with pytest.raises(InvalidUrlError, match="'level' isn't right"):
            middleware_at(f"{method.name}:?level={wrong}")
    with pytest.raises(InvalidOptionError):
        method(level=True)


def test_all_are_found_by_name() -> None:
    assert [Zstd, Gzip, Zlib, Lz4] == [get_middleware(name) for name in ("zstd", "gzip", "zlib", "lz4")]
    assert Zstd(level=3) == middleware_at("zstd") == middleware_at("zstd:") == middleware_at("zstd:?level=3")
    with pytest.raises(
        UnknownPluginError, match=r"there is no middleware 'snappy'; installed: .*gzip, lz4, zlib, zstd"
    ):
        middleware_at("snappy:?level=1")


def test_lz4_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lz4.block", None)

    with pytest.raises(PluginLoadError, match=r'pip install "retryspool-compression\[lz4\]"'):
        middleware_at("lz4")
