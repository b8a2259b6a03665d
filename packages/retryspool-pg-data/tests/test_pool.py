"""The connections: how many, for how long, whose, and in which process."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from pg_tables import Tables, wait_until
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg_pool import ConnectionPool

from retryspool import deadline
from retryspool.errors import BackendError, BackendUnavailableError, DataExistsError, DataNotFoundError, StorageError
from retryspool_pg_data import BoundedConnection, PgDataFactory
from retryspool_pg_data.backend import PgDataBackend

LARGE = os.urandom(300_000)


@pytest.fixture
def narrow(factory: PgDataFactory) -> Iterator[PgDataBackend]:
    """A backend that has one connection, and payloads `a` and `large`."""
    with replace(factory, max_size=1, timeout=2.0).create() as backend:
        backend.store_data("a", b"kept")
        backend.store_data("large", LARGE)
        yield backend


def pool_of(backend: PgDataBackend) -> ConnectionPool[Any]:
    pool = backend._store.connections._pool
    assert pool is not None
    return pool


def abandon_iteration(backend: PgDataBackend) -> None:
    next(backend.iter_data())


def abandon_reader(backend: PgDataBackend) -> None:
    backend.get_data_reader("large").read(3)


def break_source(backend: PgDataBackend) -> None:
    def source() -> Iterator[bytes]:
        yield LARGE
        raise KeyError("the source broke")

    with suppress(KeyError):
        backend.store_data("a", source())


def refuse(backend: PgDataBackend) -> None:
    with pytest.raises(DataExistsError):
        backend.store_data("a", b"x", if_absent=True)
    with pytest.raises(DataExistsError):
        backend.store_data("a", LARGE, if_absent=True)
    with pytest.raises(DataNotFoundError):
        backend.get_data_reader("missing")


def be_late(backend: PgDataBackend) -> None:
    with deadline(0), pytest.raises(StorageError):
        backend.store_data("a", b"x")


def fail_in_the_server(backend: PgDataBackend) -> None:
    with pytest.raises(BackendError):
        backend._store.run("dividing", b"SELECT 1 / %s", (0,), effect=False)
    with pytest.raises(BackendError):
        backend._store.run("asking", b"SELECT nothing", (), effect=False)


def lose_the_connection(backend: PgDataBackend) -> None:
    with pytest.raises(BackendUnavailableError):
        backend._store.run("ending", b"SELECT pg_terminate_backend(pg_backend_pid())", (), effect=True)


def be_interrupted(backend: PgDataBackend) -> None:
    def interrupt(_: BoundedConnection) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend._store.connections.use("waiting", interrupt, effect=False)


@pytest.mark.parametrize(
    "misfortune",
    [
        *(abandon_iteration, abandon_reader, break_source, refuse, be_late),
        *(fail_in_the_server, lose_the_connection, be_interrupted),
    ],
)
def test_the_only_connection_comes_back_whatever_happens(
    narrow: PgDataBackend, misfortune: Callable[[PgDataBackend], None]
) -> None:
    for _ in range(3):
        misfortune(narrow)

    narrow.store_data("b", b"x")
    narrow.store_data("large", LARGE)
    assert not narrow._store.connections._taken
    wait_until(
        lambda: (1, 1) == (pool_of(narrow).get_stats()["pool_size"], pool_of(narrow).get_stats()["pool_available"])
    )


def test_slow_readers_writers_and_iterations_hold_no_connection(narrow: PgDataBackend) -> None:
    readers = [narrow.get_data_reader("large") for _ in range(30)]
    writers = [narrow.get_data_writer(f"w{number}") for number in range(30)]
    iteration = narrow.iter_data()
    next(iteration)
    for reader, writer in zip(readers, writers, strict=True):
        assert LARGE[:7] == reader.read(7)
        writer.write(LARGE)

    narrow.store_data("b", b"x")

    assert 1 == len([info.message_id for info in iteration])
    for reader, writer in zip(readers, writers, strict=True):
        assert LARGE[7:] == reader.read()
        reader.close()
        writer.close()
    assert 33 == len(list(narrow.iter_data()))


def test_who_gets_no_connection_in_time_is_told(narrow: PgDataBackend) -> None:
    entered, leave = threading.Event(), threading.Event()

    def occupy(_: BoundedConnection) -> None:
        entered.set()
        leave.wait(20)

    with ThreadPoolExecutor(1) as pool:
        occupied = pool.submit(narrow._store.connections.use, "occupying it", occupy, effect=False)
        entered.wait(20)
        with pytest.raises(BackendUnavailableError, match="no free connection to PostgreSQL among 1") as caught:
            narrow.store_data("b", b"x")
        assert "none" == caught.value.outcome
        leave.set()
        occupied.result()
    narrow.store_data("b", b"x")


def test_one_thread_needs_one_connection_and_many_get_many(factory: PgDataFactory) -> None:
    name = f"test {factory.table}"
    named = replace(factory, conninfo=make_conninfo(factory.conninfo, application_name=name), max_size=7)
    tables = Tables(factory)

    def connections() -> int:
        return tables.ask("SELECT count(*) FROM pg_stat_activity WHERE application_name = %s", name)[0][0]

    with tables.connection:
        with named.create() as backend:
            for number in range(20):
                backend.store_data(f"m{number}", b"x")
            assert 1 == connections()
            with ThreadPoolExecutor(20) as pool:
                list(pool.map(lambda number: backend.store_data(f"m{number}", LARGE), range(60)))
            assert 5 <= connections() <= 7
        wait_until(lambda: 0 == connections())


def test_one_thread_goes_on_with_the_connection_that_was_used_last(backend: PgDataBackend) -> None:
    connections = backend._store.connections
    taken = [connections.take("taking it") for _ in range(4)]
    for connection in taken[1:] + taken[:1]:
        connections.give_back(connection)

    used = [connections.use("asking", lambda connection: connection.info.backend_pid, effect=False) for _ in range(9)]

    assert [taken[0].info.backend_pid] * 9 == used


# -- a pool that is passed in ------------------------------------------------------------------------------------------


def test_a_pool_that_is_passed_in_is_used_left_open_and_left_as_it_was(factory: PgDataFactory) -> None:
    with ConnectionPool(
        factory.conninfo, connection_class=BoundedConnection, kwargs={"row_factory": dict_row}, min_size=1, max_size=2
    ) as pool:
        with PgDataFactory(table=factory.table, pool=pool).create() as backend:
            backend.store_data("a", LARGE)
            with backend.get_data_reader("a") as reader:
                assert LARGE == reader.read()
            assert ["a"] == [info.message_id for info in backend.iter_data()]
            assert [] == list(backend.check())
        with pool.connection() as connection:
            assert not connection.autocommit
            assert {"one": 1} == connection.execute("SELECT 1 AS one").fetchone()
        wait_until(lambda: pool.get_stats()["pool_size"] == pool.get_stats()["pool_available"])


def test_a_pool_that_its_owner_has_closed_is_told(factory: PgDataFactory) -> None:
    pool = ConnectionPool(factory.conninfo, connection_class=BoundedConnection, min_size=1, max_size=2, open=True)
    with PgDataFactory(table=factory.table, pool=pool).create() as backend:
        pool.close()
        with pytest.raises(BackendUnavailableError, match="closed") as caught:
            backend.store_data("a", b"x")
        assert "none" == caught.value.outcome


# -- proxies -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prepare", [True, False])
def test_nothing_is_kept_in_a_session_but_what_prepare_allows(factory: PgDataFactory, *, prepare: bool) -> None:
    def session(connection: BoundedConnection) -> list[tuple[Any, ...]]:
        query = """
            SELECT (SELECT count(*) FROM pg_prepared_statements),
                (SELECT count(*) FROM pg_cursors),
                (SELECT count(*) FROM pg_listening_channels()),
                (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
                (SELECT count(*) FROM pg_settings WHERE source = 'session' AND name <> 'transaction_isolation')"""
        return connection.execute(query, prepare=False).fetchall()

    with replace(factory, max_size=1, prepare=prepare).create() as backend:
        for _ in range(10):
            backend.store_data("a", b"x")
            backend.store_data("large", LARGE)
            with backend.get_data_reader("large") as reader:
                reader.read()
            backend.delete_many(["a", "large"])
            list(backend.iter_data())
        ((prepared, *others),) = backend._store.connections.use("looking", session, effect=False)

    assert prepare == bool(prepared)
    assert [0, 0, 0, 0] == others


# -- forks -------------------------------------------------------------------------------------------------------------


def in_child(run: Callable[[], None]) -> str:
    """Run something in a fork's child; return what went wrong."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        try:
            run()
            os.write(writing, b"fine")
        except BaseException:  # noqa: BLE001 -- the parent tells
            os.write(writing, traceback.format_exc().encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        text = pipe.read()
    os.waitpid(process, 0)
    return text


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_after_a_fork_both_go_on_and_readers_and_writers_stay_with_the_parent(backend: PgDataBackend) -> None:
    backend.store_data("a", LARGE)
    reader, writer = backend.get_data_reader("a"), backend.get_data_writer("b")
    reader.read(1)
    writer.write(LARGE)

    def child() -> None:
        for _ in range(20):
            backend.store_data("child", LARGE)
            with backend.get_data_reader("child") as own:
                assert LARGE == own.read()
        with pytest.raises(BackendError, match="before a fork"):
            reader.read()
        with pytest.raises(BackendError, match="before a fork"):
            writer.write(b"x")
        with pytest.raises(BackendError, match="before a fork"):
            writer.close()
        reader.close()
        backend.close()

    assert "fine" == in_child(child)

    assert LARGE[1:] == reader.read()
    reader.close()
    writer.close()
    assert {"a", "b", "child"} == {info.message_id for info in backend.iter_data()}


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_fork_in_the_middle_of_others_work_stops_nobody(backend: PgDataBackend) -> None:
    done = False

    def work(worker: int) -> int:
        count = 0
        while not done:
            backend.store_data(f"w{worker}", b"%d" % count)
            count += 1
        return count

    def child() -> None:
        with deadline(20):
            backend.store_data("child", b"x")

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, worker) for worker in range(4)]
        told = [in_child(child) for _ in range(5)]
        done = True
        assert all(each.result() for each in working)
    assert ["fine"] * 5 == told


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_a_pool_that_was_passed_in_is_not_shared_with_a_child(factory: PgDataFactory) -> None:
    with (
        ConnectionPool(factory.conninfo, connection_class=BoundedConnection, min_size=1, max_size=2) as pool,
        PgDataFactory(table=factory.table, pool=pool).create() as backend,
    ):

        def child() -> None:
            with pytest.raises(BackendError, match="belongs to process"):
                backend.store_data("a", b"x")

        assert "fine" == in_child(child)
        backend.store_data("a", b"x")
