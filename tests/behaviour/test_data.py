"""What every data backend promises of payloads: DATA 8, and ids, closing, deadlines, threads."""

from __future__ import annotations

import gc
import io
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, BinaryIO

import pytest
from backends import NewData
from hypothesis import given
from hypothesis import strategies as st
from racing import race
from strategies import FAST, HOSTILE_IDS, TRICKY_IDS, message_ids

from retryspool import deadline
from retryspool.data import DataBackend, DataFactory, Payload
from retryspool.errors import (
    BackendClosedError,
    DataExistsError,
    DataNotFoundError,
    DeadlineExceededError,
    InvalidMessageIdError,
)
from retryspool.model import utc_now

MIB = b"0123456789abcdef" * 65536

CALLS: dict[str, Callable[[DataBackend, Any], object]] = {
    "store": lambda data, it: data.store_data(it, b"x"),
    "write": lambda data, it: data.get_data_writer(it),
    "read": lambda data, it: data.get_data_reader(it),
    "delete": lambda data, it: data.delete_data(it),
    "store many": lambda data, it: data.store_many([("b", b"x"), (it, b"x")]),
    "fetch many": lambda data, it: data.fetch_many([it], max_bytes=1),
    "delete many": lambda data, it: data.delete_many(["a", it]),
}


def read(data: DataBackend, message_id: str) -> bytes:
    with data.get_data_reader(message_id) as reader:
        return reader.read()


def sizes(data: DataBackend) -> dict[str, int]:
    found = [(info.message_id, info.size) for info in data.iter_data()]
    assert len(found) == len(dict(found))
    return dict(found)


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_id_is_refused_and_changes_nothing(data: DataBackend, call: str) -> None:
    data.store_data("a", b"kept")
    for hostile in (*HOSTILE_IDS, None, 7, b"a"):
        with pytest.raises(InvalidMessageIdError):
            CALLS[call](data, hostile)
    assert {"a": 4} == sizes(data)


def test_ids_that_look_alike_are_different_payloads(data: DataBackend) -> None:
    for message_id in TRICKY_IDS:
        data.store_data(message_id, message_id.encode())

    assert {message_id: len(message_id) for message_id in TRICKY_IDS} == sizes(data)
    assert list(TRICKY_IDS) == [read(data, message_id).decode() for message_id in TRICKY_IDS]

    for message_id in TRICKY_IDS[::2]:
        data.delete_data(message_id)
    assert set(TRICKY_IDS[1::2]) == set(sizes(data))


@FAST
@given(payloads=st.dictionaries(message_ids, st.binary(max_size=100), max_size=8))
def test_every_id_has_its_payload(new_data: NewData, payloads: dict[str, bytes]) -> None:
    data = new_data()
    for message_id, payload in payloads.items():
        assert len(payload) == data.store_data(message_id, payload)

    assert payloads == {message_id: read(data, message_id) for message_id in payloads}
    assert {message_id: len(payload) for message_id, payload in payloads.items()} == sizes(data)


# -- store and read ----------------------------------------------------------------------------------------------------


def chunks() -> Iterator[bytes]:
    yield b"one "
    yield b""
    yield b"two"


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: b"bytes", b"bytes"),
        (lambda: b"", b""),
        (lambda: b"\0\r\n\xff" * 3, b"\0\r\n\xff" * 3),
        (lambda: bytearray(b"bytearray"), b"bytearray"),
        (lambda: memoryview(b"a view of it")[2:6], b"view"),
        (lambda: io.BytesIO(b"a file"), b"a file"),
        (lambda: io.BufferedReader(io.BytesIO(b"buffered")), b"buffered"),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        (lambda: [b"a ", b"list"], b"a list"),
        (list, b""),
        (chunks, b"one two"),
        (lambda: iter([MIB, MIB, b"!"]), MIB + MIB + b"!"),
        (lambda: io.BytesIO(MIB * 3), MIB * 3),
    ],
    ids=[
        *("bytes", "no bytes", "any bytes", "bytearray", "memoryview", "file", "buffered file"),
        *("list", "empty list", "generator", "large chunks", "large file"),
    ],
)
def test_a_payload_is_stored_from(data: DataBackend, make: Callable[[], Payload], expected: bytes) -> None:
    assert len(expected) == data.store_data("a", make())
    assert expected == read(data, "a")
    assert {"a": len(expected)} == sizes(data)


def test_a_file_is_stored_from_where_it_stands(data: DataBackend) -> None:
    file = io.BytesIO(b"header body")
    file.seek(7)

    assert 4 == data.store_data("a", file)
    assert b"body" == read(data, "a")


@pytest.mark.parametrize("wrong", ["text", "", ["text"], [b"x", 7], 7, None], ids=repr)
def test_what_is_no_payload_is_refused_and_changes_nothing(data: DataBackend, wrong: Any) -> None:
    data.store_data("a", b"kept")

    for message_id in ("a", "b"):
        with pytest.raises(TypeError):
            data.store_data(message_id, wrong)

    assert (b"kept", {"a": 4}) == (read(data, "a"), sizes(data))


def test_a_second_payload_replaces_the_first(data: DataBackend) -> None:
    data.store_data("a", MIB)

    assert 3 == data.store_data("a", b"new")
    assert b"new" == read(data, "a")
    assert {"a": 3} == sizes(data)


def test_a_payload_that_is_there_is_not_replaced_if_absent(data: DataBackend) -> None:
    assert 5 == data.store_data("a", b"first", if_absent=True)

    with pytest.raises(DataExistsError, match="'a'"):
        data.store_data("a", b"second!", if_absent=True)

    assert (b"first", {"a": 5}) == (read(data, "a"), sizes(data))


def test_an_empty_payload_is_there(data: DataBackend) -> None:
    data.store_data("a", b"")

    with pytest.raises(DataExistsError):
        data.store_data("a", b"x", if_absent=True)
    assert (b"", {"a": 0}) == (read(data, "a"), sizes(data))


def test_an_error_in_the_source_leaves_what_was_there(data: DataBackend) -> None:
    data.store_data("a", b"kept")

    def broken() -> Iterator[bytes]:
        yield MIB
        raise RuntimeError("the source broke")

    for message_id in ("a", "b"):
        with pytest.raises(RuntimeError, match="the source broke"):
            data.store_data(message_id, broken())

    assert (b"kept", {"a": 4}) == (read(data, "a"), sizes(data))


def test_a_missing_payload_is_told_before_the_first_read(data: DataBackend) -> None:
    with pytest.raises(DataNotFoundError, match="message 'a' has no payload"):
        data.get_data_reader("a")


def test_a_reader_is_a_binary_file(data: DataBackend) -> None:
    data.store_data("a", b"line one\nline two\nrest")

    with data.get_data_reader("a") as reader:
        assert reader.readable()
        assert not reader.writable()
        assert b"line" == reader.read(4)
        assert b" one\n" == reader.readline()
        buffer = bytearray(6)
        assert 6 == reader.readinto(buffer)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        assert b"line t" == buffer
        assert [b"wo\n", b"rest"] == list(reader)
        assert b"" == reader.read()
    assert reader.closed


def test_a_payload_is_copied_as_any_file_is(data: DataBackend) -> None:
    with data.get_data_writer("a") as writer:
        shutil.copyfileobj(io.BytesIO(MIB), writer)
    sink = io.BytesIO()
    with data.get_data_reader("a") as reader:
        shutil.copyfileobj(reader, sink)

    assert MIB == sink.getvalue()


def test_a_reader_reads_the_payload_that_it_was_opened_on(data: DataBackend) -> None:
    data.store_data("a", MIB * 2)
    data.store_data("b", MIB * 2)

    with data.get_data_reader("a") as replaced, data.get_data_reader("b") as deleted:
        assert MIB[:10] == replaced.read(10)
        data.store_data("a", b"new")
        data.delete_data("b")

        assert (MIB * 2)[10:] == replaced.read()
        assert MIB * 2 == deleted.read()
    assert b"new" == read(data, "a")


# -- writers -----------------------------------------------------------------------------------------------------------


def test_nothing_is_visible_before_close(data: DataBackend) -> None:
    data.store_data("old", b"old")
    new, old = data.get_data_writer("new"), data.get_data_writer("old")
    for writer in (new, old):
        assert len(MIB) == writer.write(MIB)

    assert (b"old", {"old": 3}) == (read(data, "old"), sizes(data))
    with pytest.raises(DataNotFoundError):
        data.get_data_reader("new")

    for writer in (new, old):
        writer.close()
    assert {"old": len(MIB), "new": len(MIB)} == sizes(data)


def test_a_writer_tells_its_size(data: DataBackend) -> None:
    with data.get_data_writer("a") as writer:
        assert 0 == writer.size
        writer.write(b"four")
        writer.writelines([b"five!", memoryview(b"six...")])
        assert 15 == writer.size
    assert 15 == writer.size
    assert writer.closed


def test_a_writer_is_a_writable_file(data: DataBackend) -> None:
    with data.get_data_writer("a") as writer:
        assert writer.writable()
        assert not writer.readable()
        assert not writer.closed
        writer.flush()


def test_a_writer_may_be_closed_again(data: DataBackend) -> None:
    writer = data.get_data_writer("a")
    writer.write(b"x")
    writer.close()
    data.delete_data("a")

    writer.close()
    writer.abort()

    assert {} == sizes(data)


def test_an_empty_writer_stores_an_empty_payload(data: DataBackend) -> None:
    data.get_data_writer("a").close()

    assert (b"", {"a": 0}) == (read(data, "a"), sizes(data))


def test_an_aborted_writer_leaves_what_was_there(data: DataBackend) -> None:
    data.store_data("old", b"old")
    for message_id in ("old", "new"):
        writer = data.get_data_writer(message_id)
        writer.write(MIB)
        writer.abort()
        writer.abort()
        writer.close()
        assert writer.closed

    assert (b"old", {"old": 3}) == (read(data, "old"), sizes(data))


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_writer_that_has_ended_takes_nothing_more(data: DataBackend, end: str) -> None:
    writer = data.get_data_writer("a")
    getattr(writer, end)()

    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, GeneratorExit])
def test_an_exception_inside_with_aborts(data: DataBackend, error: type[BaseException]) -> None:
    data.store_data("old", b"old")
    for message_id in ("old", "new"):
        with pytest.raises(error), data.get_data_writer(message_id) as writer:  # noqa: PT012 -- the block is what is tested
            writer.write(b"half of")
            raise error

    assert (b"old", {"old": 3}) == (read(data, "old"), sizes(data))


def test_a_writer_that_is_dropped_leaves_nothing(data: DataBackend) -> None:
    data.store_data("old", b"old")
    for message_id in ("old", "new"):
        writer = data.get_data_writer(message_id)
        writer.write(b"half of")
        del writer
        gc.collect()

    assert (b"old", {"old": 3}) == (read(data, "old"), sizes(data))


def test_of_two_writers_the_last_one_closed_stays(data: DataBackend) -> None:
    first, second = data.get_data_writer("a"), data.get_data_writer("a")
    second.write(b"second")
    first.write(b"first")
    second.close()
    first.close()

    assert b"first" == read(data, "a")


def test_of_two_writers_if_absent_the_first_one_closed_stays(data: DataBackend) -> None:
    first, second = data.get_data_writer("a", if_absent=True), data.get_data_writer("a", if_absent=True)
    second.write(b"second")
    first.write(b"first")
    second.close()
    with pytest.raises(DataExistsError, match="'a'"):
        first.close()
    first.abort()

    assert first.closed
    assert (b"second", {"a": 6}) == (read(data, "a"), sizes(data))


# -- delete and iterate ------------------------------------------------------------------------------------------------


def test_a_deleted_payload_is_gone_and_may_be_deleted_again(data: DataBackend) -> None:
    data.store_data("a", b"x")
    data.store_data("b", b"y")

    data.delete_data("a")
    data.delete_data("a")

    with pytest.raises(DataNotFoundError):
        data.get_data_reader("a")
    assert {"b": 1} == sizes(data)
    assert 3 == data.store_data("a", b"new", if_absent=True)


def test_an_iteration_tells_when_each_payload_was_stored(data: DataBackend) -> None:
    before = utc_now() - timedelta(seconds=1)  # a file system's clock may lag behind by a tick
    data.store_data("a", b"x")

    (info,) = data.iter_data()

    assert before <= info.modified <= utc_now() + timedelta(seconds=1)
    assert timedelta(0) == info.modified.utcoffset()


def test_an_empty_store_yields_nothing(data: DataBackend) -> None:
    assert [] == list(data.iter_data())
    assert ([] if data.capabilities.durable else ["durability"]) == [each.subject for each in data.check()]


def test_what_stays_is_yielded_once_while_others_come_and_go(data: DataBackend) -> None:
    stay = {f"{number:02}stay" for number in range(20)}
    for message_id in stay:
        data.store_data(message_id, b"x")
        data.store_data(f"gone-{message_id}", b"x")

    found: list[str] = []
    for number, info in enumerate(data.iter_data()):
        found.append(info.message_id)
        data.delete_data(f"gone-{number % 20:02}stay")
        data.store_data(f"come-{number}" if number < 20 else f"{number % 20:02}stay", b"xx")

    assert stay == stay & set(found)
    assert len(set(found) & stay) == sum(message_id in stay for message_id in found)


# -- many at once ------------------------------------------------------------------------------------------------------


def test_many_are_stored_with_a_result_each(data: DataBackend) -> None:
    data.store_data("b", b"kept")

    results = data.store_many([("a", b"1"), ("b", b"22"), ("c", io.BytesIO(b"333")), ("a", [b"4"])], if_absent=True)

    assert [1, DataExistsError, 3, DataExistsError] == [r if isinstance(r, int) else type(r) for r in results]
    assert {"a": b"1", "b": b"kept", "c": b"333"} == {message_id: read(data, message_id) for message_id in "abc"}


def test_many_replace_what_was_there(data: DataBackend) -> None:
    data.store_data("a", b"old")

    assert [3, 0, 5] == data.store_many(iter([("a", b"new"), ("b", b""), ("a", b"newer")]))
    assert {"a": 5, "b": 0} == sizes(data)


def test_the_small_ones_among_many_are_fetched(data: DataBackend) -> None:
    for message_id, size in {"none": 0, "small": 9, "limit": 10, "over": 11, "large": 500_000}.items():
        data.store_data(message_id, b"x" * size)

    fetched = data.fetch_many(["large", "limit", "missing", "none", "over", "small", "small"], max_bytes=10)

    assert {"limit": b"x" * 10, "none": b"", "small": b"x" * 9} == dict(fetched)


def test_many_are_deleted_whether_they_are_there_or_not(data: DataBackend) -> None:
    for message_id in "abc":
        data.store_data(message_id, b"x")

    assert [None, None, None] == data.delete_many(["a", "missing", "c"])
    assert {"b": 1} == sizes(data)


def test_none_at_all_are_many_too(data: DataBackend) -> None:
    assert ([], {}, []) == (data.store_many([]), dict(data.fetch_many([], max_bytes=9)), data.delete_many([]))


# -- threads -----------------------------------------------------------------------------------------------------------


def test_of_many_writers_if_absent_one_wins(data: DataBackend) -> None:
    results = race(16, lambda racer: data.store_data("a", b"%d" % racer * 1000, if_absent=True))

    assert 15 == sum(isinstance(result, DataExistsError) for result in results)
    (winner,) = [number for number, result in enumerate(results) if isinstance(result, int)]
    assert b"%d" % winner * 1000 == read(data, "a")


def test_no_reader_ever_gets_a_mix_of_two(data: DataBackend) -> None:
    data.store_data("a", b"0" * 50_000)

    def run(racer: int) -> int:
        for _ in range(10):
            if racer % 2:
                data.store_data("a", (b"%d" % racer * 1000 for _ in range(50)))
            else:
                content = read(data, "a")
                assert (50_000, 1) == (len(content), len(set(content)))
        return racer

    assert list(range(8)) == race(8, run)


# -- closing and deadlines ---------------------------------------------------------------------------------------------

UNCHANGED: dict[str, Callable[[DataBackend], object]] = {
    **{name: lambda data, call=call: call(data, "a") for name, call in CALLS.items()},
    "iterate": lambda data: list(data.iter_data()),
}


@pytest.mark.parametrize("call", UNCHANGED)
def test_a_closed_backend_refuses_every_call(data: DataBackend, data_factory: DataFactory, call: str) -> None:
    data.store_data("a", b"kept")
    data.close()

    with pytest.raises(BackendClosedError):
        UNCHANGED[call](data)

    with data_factory.create() as again:
        assert (b"kept", {"a": 4}) == (read(again, "a"), sizes(again))


@pytest.mark.parametrize("call", UNCHANGED)
def test_a_deadline_that_has_passed_stops_every_call_before_any_effect(data: DataBackend, call: str) -> None:
    data.store_data("a", b"kept")

    with deadline(0), pytest.raises(DeadlineExceededError):
        UNCHANGED[call](data)

    assert (b"kept", {"a": 4}) == (read(data, "a"), sizes(data))


def test_a_backend_may_be_closed_again(data: DataBackend) -> None:
    with data as same:
        assert same is data
    data.close()
    with deadline(0):
        data.close()


def test_a_reader_goes_on_after_the_backend_is_closed(data: DataBackend) -> None:
    data.store_data("a", MIB)
    reader: BinaryIO = data.get_data_reader("a")
    data.close()

    with reader:
        assert MIB == reader.read()


def test_two_instances_see_what_the_other_has_stored(data: DataBackend, data_factory: DataFactory) -> None:
    with data_factory.create() as other:
        data.store_data("a", b"x")
        assert b"x" == read(other, "a")
        other.delete_data("a")
    assert {} == sizes(data)
