"""Payloads that don't fit into their row: chunks under a generation, which nobody sees before the end or after it."""

from __future__ import annotations

import gc
import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from pg_tables import Tables, wait_until
from processes import processes
from psycopg.conninfo import make_conninfo

from retryspool import deadline
from retryspool.errors import (
    BackendError,
    CorruptDataError,
    DataExistsError,
    DataNotFoundError,
    DeadlineExceededError,
)
from retryspool.model import utc_now
from retryspool_pg_data import PgDataFactory, keeper
from retryspool_pg_data.backend import PgDataBackend

CHUNK = 64 * 1024
LARGE = os.urandom(CHUNK * 3 + 5)
EVER = datetime.max.replace(tzinfo=UTC)
EMPTY = {"data": 0, "chunks": 0, "loose": 0, "readers": 0}


def read(backend: PgDataBackend, message_id: str) -> bytes:
    with backend.get_data_reader(message_id) as reader:
        return reader.read()


# -- where the bytes are -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "chunks"),
    [(0, 0), (CHUNK - 1, 0), (CHUNK, 0), (CHUNK + 1, 2), (CHUNK * 2, 2), (CHUNK * 2 + 1, 3)],
)
@pytest.mark.parametrize("make", [bytes, io.BytesIO, lambda data: [data[:10], data[10:]]], ids=["bytes", "file", "two"])
def test_what_fits_into_a_chunk_is_in_the_row(
    backend: PgDataBackend, tables: Tables, size: int, chunks: int, make: Callable[[bytes], bytes]
) -> None:
    assert size == backend.store_data("a", make(LARGE[:size]))

    assert LARGE[:size] == read(backend, "a")
    assert [(size, 0 if chunks else size)] == tables.ask("SELECT size, octet_length(data) FROM {data}")
    wait_until(lambda: {"data": 1, "chunks": chunks, "loose": 0, "readers": 0} == tables.counts())


@pytest.mark.parametrize(
    "change",
    [
        lambda backend: backend.delete_data("a"),
        lambda backend: backend.delete_many(["b", "a", "a"]),
        lambda backend: backend.store_data("a", b"small"),
        lambda backend: backend.store_data("a", LARGE[1:]),
        lambda backend: backend.store_many([("a", b"small"), ("b", b"")]),
    ],
    ids=["delete", "delete many", "store small", "store large", "store many"],
)
def test_the_chunks_of_what_is_replaced_or_deleted_are_gone(
    backend: PgDataBackend, tables: Tables, change: Callable[[PgDataBackend], object]
) -> None:
    backend.store_data("a", LARGE)
    old = tables.ask("SELECT generation FROM {data}")[0][0]

    change(backend)

    assert [] == tables.ask("SELECT number FROM {chunks} WHERE generation = %s", old)
    assert 0 == tables.count("loose")


def test_more_chunks_than_one_statement_removes_are_removed(backend: PgDataBackend, tables: Tables) -> None:
    backend.store_data("a", bytes(CHUNK * 130))
    assert 130 == tables.count("chunks")

    backend.delete_data("a")

    assert EMPTY == tables.counts()


def test_many_are_stored_and_fetched_small_and_large(backend: PgDataBackend) -> None:
    items = [("a", LARGE), ("b", b"small"), ("a", b"after"), ("c", io.BytesIO(LARGE)), ("c", LARGE[1:]), ("b", [b"x"])]

    assert [len(LARGE), 5, 5, len(LARGE), len(LARGE) - 1, 1] == backend.store_many(items)

    assert [b"after", b"x", LARGE[1:]] == [read(backend, message_id) for message_id in "abc"]
    assert {"a": b"after", "b": b"x", "c": LARGE[1:]} == backend.fetch_many(["a", "b", "c"], max_bytes=len(LARGE))


def test_a_batch_takes_a_thousand(backend: PgDataBackend, tables: Tables) -> None:
    items = [(f"m{number}", b"%d" % number * 1000) for number in range(1200)]

    assert [len(data) for _, data in items] == backend.store_many(items)

    assert dict(items) == backend.fetch_many([message_id for message_id, _ in items], max_bytes=10_000)
    assert [message_id for message_id, _ in sorted(items)] == [info.message_id for info in backend.iter_data()]
    assert [None] * 1200 == backend.delete_many([message_id for message_id, _ in items])
    assert EMPTY == tables.counts()


# -- readers -----------------------------------------------------------------------------------------------------------


def test_a_reader_reads_in_every_way_that_a_file_does(backend: PgDataBackend) -> None:
    lines = [b"line %d %s\n" % (number, b"x" * (number % 300)) for number in range(3000)]
    backend.store_data("a", lines)
    content = b"".join(lines)

    with backend.get_data_reader("a") as reader:
        assert lines == list(reader)
    with backend.get_data_reader("a") as reader:
        parts = [reader.read(7), reader.read(CHUNK), reader.readline(), reader.read(0)]
        buffer = bytearray(CHUNK * 2)
        assert len(buffer) == reader.readinto(buffer)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
        assert content == b"".join([*parts, buffer, reader.read()])
        assert (b"", b"", b"") == (reader.read(), reader.read(5), reader.readline())
    with backend.get_data_reader("a") as reader, io.TextIOWrapper(reader, "ascii") as text:
        assert content.decode() == text.read()
    with pytest.raises(ValueError, match="closed"):
        reader.read()


def test_a_reader_of_what_was_replaced_or_deleted_reads_on_and_the_last_one_clears_up(
    backend: PgDataBackend, tables: Tables
) -> None:
    backend.store_data("a", LARGE)
    backend.store_data("b", LARGE[::-1])

    with backend.get_data_reader("a") as replaced, backend.get_data_reader("b") as deleted:
        with backend.get_data_reader("b") as other:
            assert LARGE[::-1][:3] == other.read(3)
            backend.store_data("a", b"new")
            backend.delete_data("b")
        assert [] == list(backend.sweep(EVER))
        assert (LARGE, LARGE[::-1]) == (replaced.read(), deleted.read())
        with pytest.raises(DataNotFoundError):
            backend.get_data_reader("b")

    wait_until(lambda: EMPTY | {"data": 1} == tables.counts())


def test_a_reader_that_is_dropped_or_outlives_the_backend_is_cleared_away(factory: PgDataFactory) -> None:
    tables = Tables(factory)
    with tables.connection:
        backend = factory.create()
        backend.store_data("a", LARGE)
        dropped = backend.get_data_reader("a")
        kept = backend.get_data_reader("a")
        assert 2 == tables.count("readers")

        del dropped
        gc.collect()
        wait_until(lambda: 1 == tables.count("readers"))
        backend.delete_data("a")
        backend.close()
        assert LARGE == kept.read()
        kept.close()
        wait_until(lambda: EMPTY == tables.counts())


def test_a_reader_renews_its_hold_for_as_long_as_it_is_open(
    backend: PgDataBackend, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_RENEW_S", 0.05)
    backend.store_data("a", LARGE)

    with backend.get_data_reader("a"):
        (first,) = tables.ask("SELECT expires FROM {readers}")
        wait_until(lambda: tables.ask("SELECT expires FROM {readers}") > [first])


def test_what_a_dead_reader_held_is_swept_once_its_hold_is_over(
    factory: PgDataFactory, backend: PgDataBackend, tables: Tables
) -> None:
    backend.store_data("a", LARGE)
    with processes(1) as (process,):
        process.begin("pg_works:read_for_ever", factory.conninfo, factory.table, "a")
        assert 1 == process.line()
    backend.delete_data("a")
    assert {"data": 0, "chunks": 4, "loose": 1, "readers": 1} == tables.counts()
    assert [] == list(backend.sweep(EVER))

    tables.ask("UPDATE {readers} SET expires = now() - interval '1 second'")

    assert [("a", len(LARGE))] == [(info.message_id, info.size) for info in backend.sweep(EVER, dry_run=True)]
    assert [("a", len(LARGE))] == [(info.message_id, info.size) for info in backend.sweep(EVER)]
    assert EMPTY == tables.counts()


def test_a_reader_whose_hold_was_over_gets_an_error_and_never_less(backend: PgDataBackend, tables: Tables) -> None:
    backend.store_data("a", LARGE)
    with backend.get_data_reader("a") as reader:
        reader.read(5)
        tables.ask("DELETE FROM {readers}")  # as a sweep does after its time
        backend.delete_data("a")

        with pytest.raises(BackendError, match="it was replaced or deleted, and removed"):
            reader.read()


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM {chunks}",
        "DELETE FROM {chunks} WHERE number = 3",
        "DELETE FROM {chunks} WHERE number = 1",
        "UPDATE {chunks} SET data = substr(data, 2) WHERE number = 2",
        "UPDATE {chunks} SET data = data || '!' WHERE number = 3",
        "INSERT INTO {chunks} SELECT generation, 4, data FROM {chunks} WHERE number = 0",
        "UPDATE {data} SET size = size - 1",
        "UPDATE {data} SET size = size + 1",
    ],
)
def test_chunks_that_do_not_add_up_are_told_by_the_reader_and_by_check(
    backend: PgDataBackend, tables: Tables, damage: str
) -> None:
    backend.store_data("a", LARGE)
    backend.store_data("b", LARGE)
    backend.delete_data("b")
    tables.ask(damage)

    with backend.get_data_reader("a") as reader, pytest.raises(CorruptDataError, match="'a'"):
        reader.read()
    (finding,) = backend.check()
    assert "a" == finding.message_id


def test_a_read_that_failed_may_be_tried_again(backend: PgDataBackend) -> None:
    backend.store_data("a", LARGE)

    with backend.get_data_reader("a") as reader:
        begin = reader.read(10)
        with deadline(0), pytest.raises(DeadlineExceededError):
            reader.read()
        assert LARGE == begin + reader.read()


# -- writers and sweeping ----------------------------------------------------------------------------------------------


def test_a_writer_that_is_aborted_or_dropped_is_cleared_away(backend: PgDataBackend, tables: Tables) -> None:
    aborted, dropped = backend.get_data_writer("a"), backend.get_data_writer("a")
    for writer in (aborted, dropped):
        writer.write(LARGE)
    assert {"data": 0, "chunks": 6, "loose": 2, "readers": 0} == tables.counts()

    aborted.abort()
    del writer, dropped
    gc.collect()

    wait_until(lambda: EMPTY == tables.counts())


def test_a_writer_refused_at_its_end_is_cleared_away(backend: PgDataBackend, tables: Tables) -> None:
    with pytest.raises(DataExistsError), backend.get_data_writer("a", if_absent=True) as writer:  # noqa: PT012
        writer.write(LARGE)
        backend.store_data("a", b"first")

    assert b"first" == read(backend, "a")
    wait_until(lambda: EMPTY | {"data": 1} == tables.counts())


def test_what_is_closed_with_its_backend_is_cleared_away_first(factory: PgDataFactory) -> None:
    with factory.create() as backend:
        writer = backend.get_data_writer("a")
        writer.write(LARGE)
        writer.abort()

    tables = Tables(factory)
    with tables.connection:
        wait_until(lambda: EMPTY == tables.counts())


def test_what_a_killed_writer_left_is_invisible_and_is_swept(
    factory: PgDataFactory, backend: PgDataBackend, tables: Tables
) -> None:
    backend.store_data("kept", LARGE)
    with processes(1) as (process,):
        process.begin("pg_works:write_for_ever", factory.conninfo, factory.table, "a")
        for _ in range(4):
            assert "written" == process.line()
        process.kill()

    assert ["kept"] == [info.message_id for info in backend.iter_data()]
    assert [] == list(backend.sweep(utc_now() - timedelta(minutes=5)))
    (found,) = backend.sweep(EVER, dry_run=True)
    assert ("a", True, 1) == (found.message_id, found.size >= 2 * CHUNK, tables.count("loose"))
    assert ["a"] == [info.message_id for info in backend.sweep(EVER)]
    assert LARGE == read(backend, "kept")
    wait_until(lambda: {"data": 1, "chunks": 4, "loose": 0, "readers": 0} == tables.counts())


def test_a_writer_that_was_swept_stores_nothing(backend: PgDataBackend, tables: Tables) -> None:
    for at_the_end in (False, True):
        writer = backend.get_data_writer("a")
        writer.write(LARGE)
        assert ["a"] == [info.message_id for info in backend.sweep(EVER)]
        with pytest.raises(BackendError, match="swept"):
            writer.close() if at_the_end else writer.write(LARGE)
        with pytest.raises(ValueError if at_the_end else BackendError, match=r"swept|closed"):
            writer.write(b"x")
        writer.abort()

    wait_until(lambda: EMPTY == tables.counts())


def test_a_slow_writer_is_not_taken_for_a_dead_one(
    backend: PgDataBackend, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "_RENEW_S", 0.05)

    with backend.get_data_writer("a") as writer:
        writer.write(LARGE)
        tables.ask("UPDATE {loose} SET touched = now() - interval '1 day'")
        wait_until(lambda: bool(tables.ask("SELECT 1 FROM {loose} WHERE touched > now() - interval '1 minute'")))
        assert [] == list(backend.sweep(utc_now() - timedelta(hours=1)))

    assert LARGE == read(backend, "a")


def test_a_writer_that_goes_on_while_it_is_being_swept_is_spared(
    factory: PgDataFactory, backend: PgDataBackend, tables: Tables
) -> None:
    """The sweeper must not go by what it saw before it had to wait."""
    writer = backend.get_data_writer("a")
    writer.write(LARGE)
    tables.ask("UPDATE {loose} SET touched = now() - interval '1 day'")

    with ThreadPoolExecutor(1) as pool:
        with tables.connection.transaction():
            tables.ask("UPDATE {loose} SET touched = now()")  # as the next chunk does
            sweeping = pool.submit(lambda: list(backend.sweep(utc_now() - timedelta(hours=1))))
            wait_until(lambda: 1 == tables.waiting(factory.table))
        assert [] == sweeping.result()

    writer.close()
    assert LARGE == read(backend, "a")


def test_a_writer_swept_between_its_last_chunk_and_its_end_stores_nothing(
    backend: PgDataBackend, tables: Tables
) -> None:
    writer = backend.get_data_writer("a")
    writer.write(LARGE)
    assert writer._hold is not None
    assert ["a"] == [info.message_id for info in backend.sweep(EVER)]

    with pytest.raises(BackendError, match="swept"):
        writer._publish(writer._hold)
    assert {"data": 0, "chunks": 0, "loose": 0, "readers": 0} == tables.counts()
    tables.ask("INSERT INTO {loose} (generation, message_id, dropped) VALUES (%s, 'a', true)", writer._hold.generation)
    with pytest.raises(BackendError, match="swept"):
        writer._publish(writer._hold)
    assert 0 == tables.count("data")
    writer.abort()


@pytest.mark.parametrize("change", ["delete", "replace", "replace in chunks"])
def test_opening_a_reader_while_the_payload_goes_gets_it_all_or_the_next(
    factory: PgDataFactory, backend: PgDataBackend, tables: Tables, change: str
) -> None:
    backend.store_data("a", LARGE)
    jobs: dict[str, Callable[[], object]] = {
        "delete": lambda: backend.delete_data("a"),
        "replace": lambda: backend.store_data("a", b"new"),
        "replace in chunks": lambda: backend.store_data("a", LARGE[::-1]),
    }
    expected = {"delete": None, "replace": b"new", "replace in chunks": LARGE[::-1]}

    with ThreadPoolExecutor(2) as pool:
        with tables.connection.transaction():
            tables.ask("SELECT 1 FROM {data} FOR UPDATE")
            changing = pool.submit(jobs[change])
            wait_until(lambda: 1 == tables.waiting(factory.table))
            reading = pool.submit(read, backend, "a")
            wait_until(lambda: 2 == tables.waiting(factory.table))
        changing.result()
        if expected[change] is None:
            assert DataNotFoundError is type(reading.exception())
        else:
            assert expected[change] == reading.result()

    wait_until(lambda: (0, 0) == (tables.count("loose"), tables.count("readers")))


def test_destroying_it_goes_on_after_a_deadlock_with_who_clears_up(
    factory: PgDataFactory, backend: PgDataBackend, tables: Tables
) -> None:
    backend.store_data("a", b"x")
    # The server looks for a deadlock once a wait has lasted so long, and ends that wait: theirs, not ours.
    looking = replace(factory, conninfo=make_conninfo(factory.conninfo, options="-c deadlock_timeout=4s"))

    with ThreadPoolExecutor(1) as pool:
        with tables.connection.transaction():
            tables.connection.execute("SET LOCAL deadlock_timeout = '40s'")
            tables.ask("DELETE FROM {loose}")
            destroying = pool.submit(looking.destroy)
            wait_until(lambda: 1 == tables.waiting(factory.table))
            assert 0 == tables.count("chunks")  # which is dropped already, unless it's undone
        destroying.result()

    assert [(None,)] == tables.ask("SELECT to_regclass(%s)", factory.table)
