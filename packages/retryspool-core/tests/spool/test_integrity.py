from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retryspool import CorruptDataError, MessageMetadata, Spool
from retryspool.data import Payload
from retryspool.memory import MemoryData, MemoryMeta

A = MessageMetadata(id="a")
BODY = bytes(range(256)) * 4096


def damaged(change: Callable[[bytes], bytes]) -> tuple[Spool, MessageMetadata]:
    spool = Spool(MemoryMeta(), MemoryData())
    record = spool.enqueue(A, BODY)
    spool.data.store_data("a", change(BODY))
    return spool, record


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda body: body[:-1], "it ends after 1048575 bytes of 1048576"),
        (lambda _: b"", "it ends after 0 bytes of 1048576"),
        (lambda body: body + b"x", "it is longer than 1048576 bytes"),
        (lambda body: bytes(len(body)), "its checksum is "),
        (lambda body: body[:5000] + b"?" + body[5001:], "its checksum is "),
    ],
    ids=["short", "empty", "long", "zeros", "byte"],
)
def test_a_payload_that_is_not_what_was_handed_in_cannot_be_read_to_its_end(
    change: Callable[[bytes], bytes], why: str
) -> None:
    spool, record = damaged(change)

    with spool.open_payload(record) as payload, pytest.raises(CorruptDataError, match=why):
        list(iter(lambda: payload.read(10_000), b""))
    with spool.open_payload(record) as payload, pytest.raises(CorruptDataError, match=why):
        payload.read()


@given(cut=st.integers(0, len(BODY) - 1))
def test_a_payload_cut_anywhere_is_found_out(cut: int) -> None:
    spool, record = damaged(lambda body: body[:cut])

    with pytest.raises(CorruptDataError):
        spool.open_payload(record).read()


def test_a_payload_read_from_the_start_again_is_compared_again() -> None:
    spool, record = damaged(lambda body: body[:-1] + b"?")

    with spool.open_payload(record) as payload:
        payload.seek(-10, io.SEEK_END)
        assert BODY[-10:-1] + b"?" == payload.read()
        payload.seek(0)
        with pytest.raises(CorruptDataError):
            payload.read()


def test_a_payload_behaves_as_a_file() -> None:
    spool = Spool(MemoryMeta(), MemoryData())
    record = spool.enqueue(A, b"one\ntwo\nthree")

    with spool.open_payload(record) as payload:
        assert (True, True, False) == (payload.readable(), payload.seekable(), payload.writable())
        assert [b"one\n", b"two\n", b"three"] == list(payload)
        assert 13 == payload.tell()
        assert b"" == payload.read()
        payload.seek(4)
        assert b"two\n" == payload.readline()
    assert payload.closed


@pytest.mark.parametrize(
    "hand_in",
    [
        lambda: BODY,
        lambda: bytearray(BODY),
        lambda: memoryview(BODY).cast("I"),
        lambda: io.BytesIO(BODY),
        lambda: iter([BODY[:1000], b"", BODY[1000:]]),
    ],
    ids=["bytes", "bytearray", "memoryview", "file", "chunks"],
)
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_whatever_a_payload_is_handed_in_as_its_size_and_checksum_are_the_same(
    hand_in: Callable[[], Payload], *, many: bool
) -> None:
    payload = hand_in()
    spool = Spool(MemoryMeta(), MemoryData())

    if many:
        (record,) = spool.enqueue_many([(A, payload)], is_new=True)
    else:
        record = spool.enqueue(A, payload)

    assert isinstance(record, MessageMetadata)
    assert (len(BODY), "04d0e435") == (record.size, record.checksum)
    assert BODY == spool.open_payload(record).read()


def test_a_record_without_a_checksum_is_read_as_it_is() -> None:
    spool = Spool(MemoryMeta(), MemoryData())
    spool.data.store_data("a", b"from elsewhere")
    record = spool.meta.store_meta("a", A)

    assert b"from elsewhere" == spool.open_payload(record).read()
