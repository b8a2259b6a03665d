from __future__ import annotations

import io
from datetime import timedelta
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spools import FaultyData, FaultyMeta, Steps, Xor, Zlib, payloads

from retryspool import (
    BackendClosedError,
    BackendError,
    DataNotFoundError,
    InvalidOptionError,
    MessageMetadata,
    MessageNotFoundError,
    Spool,
    State,
    StateConflictError,
)
from retryspool.memory import MemoryData, MemoryMeta
from retryspool.meta import Delete, Update
from retryspool.middleware import Middleware
from retryspool.spool import ENCODING_HEADER, DiscrepancyKind

A = MessageMetadata(id="a")
NOW = timedelta(0)


def read(spool: Spool, message_id: str) -> bytes:
    with spool.open_payload(spool.get(message_id)) as reader:
        return reader.read()


# -- middleware --------------------------------------------------------------------------------------------------------


def test_a_payload_goes_through_middleware_and_back() -> None:
    spool = Spool(MemoryMeta(), MemoryData(), middleware=[Zlib()])
    body = b"x" * 1_000_000

    stored = spool.enqueue(A, [body[:400_000], body[400_000:]])

    (info,) = spool.data.iter_data()
    assert (len(body), "deflate") == (stored.size, stored.headers[ENCODING_HEADER])
    assert info.size < 10_000
    assert body == read(spool, "a")


def test_middleware_is_stacked_in_the_order_that_is_declared() -> None:
    meta, data = MemoryMeta(), MemoryData()
    spool = Spool(meta, data, middleware=[Zlib(), Xor()])

    assert "deflate,xor" == spool.enqueue(A, b"x" * 1000).headers[ENCODING_HEADER]

    turned = data.get_data_reader("a").read()
    assert b"x" * 1000 == Zlib().decode("a", io.BytesIO(bytes(byte ^ 0xFF for byte in turned))).read()
    assert b"x" * 1000 == read(spool, "a")


@given(st.lists(st.binary(max_size=300), max_size=10), st.permutations([Zlib(), Xor()]), st.integers(0, 2))
def test_what_goes_in_comes_out(chunks: list[bytes], order: list[Middleware], count: int) -> None:
    spool = Spool(MemoryMeta(), MemoryData(), middleware=order[:count])

    stored = spool.enqueue(A, chunks)

    assert (b"".join(chunks), len(b"".join(chunks))) == (read(spool, "a"), stored.size)


def test_a_payload_is_read_by_what_it_went_through_whatever_is_configured_by_then() -> None:
    meta, data = MemoryMeta(), MemoryData()
    Spool(meta, data, middleware=[Zlib()]).enqueue(A, b"compressed")
    later = Spool(meta, data, middleware=[Xor(), Zlib()])
    Spool(meta, data).enqueue(MessageMetadata(id="plain"), b"plain")

    assert (b"compressed", b"plain") == (read(later, "a"), read(later, "plain"))


def test_a_payload_whose_middleware_is_missing_is_not_served_raw() -> None:
    meta, data = MemoryMeta(), MemoryData()
    Spool(meta, data, middleware=[Zlib()]).enqueue(A, b"x")

    with pytest.raises(BackendError, match="encoded with 'deflate'; open the spool with that middleware"):
        Spool(meta, data).open_payload(meta.get_meta("a"))


@pytest.mark.parametrize("stored", [b"", b"\x78\x9c\x4b", b"not zlib"], ids=["empty", "cut", "other"])
def test_a_damaged_payload_is_an_error_never_a_short_payload(stored: bytes) -> None:
    spool = Spool(MemoryMeta(), MemoryData(), middleware=[Zlib()])
    spool.enqueue(A, b"x" * 100)
    spool.data.store_data("a", stored)

    with pytest.raises(OSError, match="the compressed payload is"):
        read(spool, "a")


class _Failing(Middleware):
    def __init__(self, name: str, at: str) -> None:
        self.name = name  # type: ignore[misc]
        self.at = at

    def encode(self, message_id: str, sink: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- it fails for each
        at = self.at
        if at == "encode":
            raise OSError("at encode")

        class Sink(io.BytesIO):
            def write(self, data: bytes, /) -> int:  # type: ignore[override]
                if at == "write":
                    raise OSError("at write")
                return sink.write(data)

            def close(self) -> None:
                if not self.closed:
                    super().close()
                    if at == "close":
                        raise OSError("at close")

        return Sink()

    def decode(self, message_id: str, source: BinaryIO) -> BinaryIO:  # noqa: ARG002 -- never read
        return source


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("at", ["encode", "write", "close"])
def test_whatever_fails_in_middleware_nothing_is_stored(steps: Steps, at: str, place: str) -> None:
    failing = _Failing("failing", at)
    stack = [failing, Xor()] if place == "first" else [Xor(), failing]
    spool = Spool(FaultyMeta(steps), FaultyData(steps), middleware=stack)

    with pytest.raises(OSError, match=f"at {at}"):
        spool.enqueue(A, b"hello")

    assert ([], []) == (steps, payloads(spool))
    with pytest.raises(MessageNotFoundError):
        spool.get("a")


def test_the_word_of_a_header_on_middleware_does_not_count() -> None:
    spool = Spool(MemoryMeta(), MemoryData())
    header = {ENCODING_HEADER: "deflate", "to": "x"}

    spool.enqueue(MessageMetadata(id="a", headers=header), b"a")
    spool.enqueue_many([(MessageMetadata(id="b", headers=header), b"b")], is_new=True)

    assert (b"a", b"b") == (read(spool, "a"), read(spool, "b"))
    assert ("x", None) == (spool.get("a").headers["to"], spool.get("a").headers.get(ENCODING_HEADER))


def test_two_middlewares_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidOptionError, match="must differ"):
        Spool(MemoryMeta(), MemoryData(), middleware=[Zlib(), Zlib()])


# -- apply and delete --------------------------------------------------------------------------------------------------


def test_a_batch_deletes_the_payloads_of_what_it_deleted_alone(spool: Spool) -> None:
    for name in ("a", "b", "c"):
        spool.enqueue(MessageMetadata(id=name), b"x")
    deferred = MessageMetadata(id="c", state=State.DEFERRED)

    results = spool.apply([Delete("a", if_version=1), Delete("b", if_version=9), Update(deferred), Delete("nobody")])

    assert [type(None), StateConflictError, MessageMetadata, MessageNotFoundError] == [type(each) for each in results]
    assert ["b", "c"] == payloads(spool)


def test_a_payload_that_cannot_be_deleted_is_left_to_reconcile(spool: Spool, steps: Steps) -> None:
    spool.enqueue(A, b"x")
    steps.fail("delete payload a", BackendError("no"))

    spool.delete("a")

    assert ["a"] == payloads(spool)
    assert ["a"] == [found.message_id for found in spool.reconcile(grace=NOW)]
    assert [] == payloads(spool)


def test_a_deletion_of_another_version_is_refused(spool: Spool) -> None:
    spool.enqueue(A, b"x")

    with pytest.raises(StateConflictError):
        spool.delete("a", if_version=7)

    assert b"x" == read(spool, "a")


# -- reconcile ---------------------------------------------------------------------------------------------------------


def test_reconcile_sweeps_orphans_and_reports_what_is_missing(spool: Spool) -> None:
    for name, state in (("whole", State.INCOMING), ("headless", State.DEFERRED)):
        spool.enqueue(MessageMetadata(id=name, state=state), b"body")
    spool.data.delete_data("headless")
    spool.data.store_data("orphan", b"12345")

    found = {each.message_id: each for each in spool.reconcile(grace=NOW)}

    assert {"orphan", "headless"} == set(found)
    orphan, headless = found["orphan"], found["headless"]
    assert (DiscrepancyKind.ORPHAN_PAYLOAD, 5, None, True) == (orphan.kind, orphan.size, orphan.state, orphan.removed)
    assert (DiscrepancyKind.MISSING_PAYLOAD, 4, State.DEFERRED, False) == (
        headless.kind,
        headless.size,
        headless.state,
        headless.removed,
    )
    assert ["whole"] == payloads(spool)
    assert State.DEFERRED is spool.get("headless").state


def test_a_dry_run_only_reports(spool: Spool) -> None:
    spool.data.store_data("orphan", b"12345")

    (found,) = spool.reconcile(grace=NOW, dry_run=True)

    assert ("orphan", False) == (found.message_id, found.removed)
    assert ["orphan"] == payloads(spool)


def test_a_young_payload_is_not_an_orphan(spool: Spool) -> None:
    spool.data.store_data("on its way".replace(" ", "-"), b"x")

    assert [] == list(spool.reconcile())
    assert 1 == len(payloads(spool))


# -- opening and closing -----------------------------------------------------------------------------------------------


def test_a_spool_is_opened_by_urls() -> None:
    with Spool.open(meta="memory:spool-test", data="memory:spool-test") as first:
        first.enqueue(A, b"x")
    with Spool.open(meta="memory:spool-test", data="memory:spool-test") as second:
        assert b"x" == read(second, "a")
        second.delete("a")


def test_a_spool_is_opened_one_way_or_the_other() -> None:
    for arguments in ({}, {"meta": "memory:"}, {"data": "memory:"}, {"path": "x", "meta": "memory:"}):
        with pytest.raises(InvalidOptionError, match="a spool is opened by"):
            Spool.open(**arguments)  # type: ignore[arg-type]


def test_a_closed_spool_says_so(spool: Spool) -> None:
    spool.enqueue(A, b"x")
    record = spool.get("a")
    spool.close()
    spool.close()

    for call in (
        lambda: spool.get("a"),
        lambda: spool.enqueue(MessageMetadata(id="b"), b"x"),
        lambda: spool.open_payload(record),
        lambda: spool.delete("a"),
    ):
        with pytest.raises(BackendClosedError):
            call()


def test_a_message_without_payload_says_so(spool: Spool) -> None:
    spool.enqueue(A, b"x")
    spool.data.delete_data("a")

    with pytest.raises(DataNotFoundError):
        spool.open_payload(spool.get("a"))
