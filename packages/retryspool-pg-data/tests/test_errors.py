"""What becomes of the server's and the network's failures, and how long they may take."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import psycopg
import pytest
from pg_tables import Tables, wait_until
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from retryspool import deadline
from retryspool.conformance.faults import BLACK_HOLE, HALF_OPEN, LOST_REPLY, REFUSED, RESET_REPLY, RESET_REQUEST, Fault
from retryspool.conformance.proxy import Proxy
from retryspool.errors import (
    BackendError,
    BackendUnavailableError,
    DataNotFoundError,
    DeadlineExceededError,
    StorageError,
)
from retryspool_cli.servers import PostgresServer
from retryspool_pg_data import PgDataFactory
from retryspool_pg_data.backend import PgDataBackend

LARGE = os.urandom(300_000)
PASSWORD = "hunter2hunter2"
LATE_S = 15.0
"""Who takes so long hasn't given up in time, however busy the machine is."""

WRITES: dict[str, Callable[[PgDataBackend], object]] = {
    "store": lambda backend: backend.store_data("a", b"new"),
    "store if absent": lambda backend: backend.store_data("new", b"new", if_absent=True),
    "store many": lambda backend: backend.store_many([("a", b"new"), ("b", b"new")]),
    "delete": lambda backend: backend.delete_data("a"),
    "delete many": lambda backend: backend.delete_many(["a", "b"]),
}
READS: dict[str, Callable[[PgDataBackend], object]] = {
    "read": lambda backend: backend.get_data_reader("a").close(),
    "fetch many": lambda backend: backend.fetch_many(["a"], max_bytes=10),
    "iterate": lambda backend: list(backend.iter_data()),
    "check": lambda backend: list(backend.check()),
}


def outcome_of(call: Callable[[], object]) -> StorageError:
    """Return the error that a call ends with; batches may return it."""
    try:
        result = call()
    except StorageError as error:
        return error
    assert isinstance(result, list)
    assert isinstance(result[0], StorageError)
    return result[0]


@pytest.fixture
def remote(factory: PgDataFactory, proxy: Proxy) -> PgDataFactory:
    """The store as it's reached through the proxy."""
    host, port = proxy.address
    return replace(
        factory, conninfo=make_conninfo(factory.conninfo, host=host, port=port), connect_timeout=2, timeout=1.0
    )


@pytest.fixture
def far(remote: PgDataFactory) -> Iterator[PgDataBackend]:
    """Open through the proxy, with a connection in its pool, and a payload `a`."""
    with remote.create() as backend:
        backend.store_data("a", b"old")
        yield backend


# -- opening -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"password": PASSWORD}, "password authentication failed"),
        ({"port": 1}, "Connection refused|can't be reached"),
        ({"dbname": "no-such-database"}, "does not exist"),
        ({"host": "/nowhere"}, "No such file"),
        ({"sslmode": "require"}, "SSL"),
    ],
    ids=str,
)
def test_what_cannot_be_opened_says_why_and_not_with_which_password(
    factory: PgDataFactory, change: dict[str, str], text: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = replace(factory, conninfo=make_conninfo(factory.conninfo, **change))
    secrets = {PASSWORD, str(conninfo_to_dict(factory.conninfo)["password"])}

    with pytest.raises(BackendUnavailableError, match=text) as caught:
        wrong.create()

    assert "none" == caught.value.outcome
    assert isinstance(caught.value.__cause__, psycopg.Error)
    shown = f"{caught.value} {caught.value.__cause__} {wrong!r} {caplog.text}"
    assert [] == [secret for secret in secrets if secret in shown]


@pytest.mark.parametrize("fault", [BLACK_HOLE, HALF_OPEN], ids=str)
def test_opening_at_a_server_that_does_not_answer_is_given_up(
    remote: PgDataFactory, proxy: Proxy, fault: Fault
) -> None:
    proxy.inflict(fault)

    began = time.monotonic()
    with deadline(0.5), pytest.raises(DeadlineExceededError, match="nothing was changed"):
        remote.create()
    assert time.monotonic() - began < LATE_S

    with pytest.raises(BackendUnavailableError) as caught:
        replace(remote, timeout=300.0).create()
    assert "none" == caught.value.outcome
    assert time.monotonic() - began < LATE_S


# -- a server that doesn't answer --------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [BLACK_HOLE, LOST_REPLY, HALF_OPEN], ids=str)
@pytest.mark.parametrize("call", [*WRITES, *READS])
def test_a_server_that_hangs_is_given_up_at_the_deadline(
    far: PgDataBackend, proxy: Proxy, fault: Fault, call: str
) -> None:
    proxy.inflict(fault)

    began = time.monotonic()
    with deadline(0.3):
        error = outcome_of(lambda: {**WRITES, **READS}[call](far))
    assert time.monotonic() - began < LATE_S
    assert isinstance(error, DeadlineExceededError)
    assert ("unknown" if call in WRITES else "nothing was changed") in str(error)


@pytest.mark.parametrize("call", ["store", "delete many", "read"])
def test_a_server_that_hangs_is_given_up_without_a_deadline(far: PgDataBackend, proxy: Proxy, call: str) -> None:
    proxy.inflict(LOST_REPLY)

    began = time.monotonic()
    error = outcome_of(lambda: {**WRITES, **READS}[call](far))
    assert time.monotonic() - began < LATE_S
    assert isinstance(error, BackendUnavailableError)
    assert ("none" if call == "read" else "unknown") == error.outcome


def test_it_works_again_soon_after_the_network_does(far: PgDataBackend, proxy: Proxy) -> None:
    def works() -> bool:
        try:
            far.store_data("b", b"stored")
        except BackendUnavailableError:  # on a connection of which the end is still on its way
            return False
        return True

    for fault in (BLACK_HOLE, REFUSED, HALF_OPEN):
        proxy.inflict(fault)
        with deadline(0.2), pytest.raises(StorageError):
            far.store_data("a", b"lost")
        proxy.heal()
        began = time.monotonic()
        wait_until(works)
        assert time.monotonic() - began < LATE_S


def test_a_statement_that_takes_too_long_is_cancelled_and_changes_nothing(
    factory: PgDataFactory, backend: PgDataBackend, tables: Tables
) -> None:
    backend.store_data("a", b"old")

    with tables.connection.transaction():
        tables.ask("SELECT 1 FROM {data} FOR UPDATE")
        with deadline(0.2), pytest.raises(DeadlineExceededError, match=r"has cancelled it; .* nothing was changed"):
            backend.store_data("a", b"new")
        with pytest.raises(BackendUnavailableError, match="nothing was changed") as caught:
            replace(factory, timeout=0.2, pool=None).create().store_data("a", b"new")
        assert "none" == caught.value.outcome
        assert 0 == tables.waiting(factory.table)

    with backend.get_data_reader("a") as reader:
        assert b"old" == reader.read()
    stats = backend._store.connections._pool
    assert stats is not None
    assert 0 == stats.get_stats().get("returns_bad", 0)


def test_closing_does_not_wait_for_a_server_that_hangs(remote: PgDataFactory, proxy: Proxy) -> None:
    backend = replace(remote, timeout=300.0).create()
    writer = backend.get_data_writer("a")
    writer.write(LARGE)
    proxy.inflict(BLACK_HOLE)
    writer.abort()

    began = time.monotonic()
    backend.close()

    assert time.monotonic() - began < LATE_S


# -- connections that are lost -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", [*WRITES, *READS])
@pytest.mark.parametrize("fault", [RESET_REQUEST, RESET_REPLY], ids=str)
def test_a_connection_lost_in_the_middle_tells_what_may_have_happened(
    far: PgDataBackend, proxy: Proxy, fault: Fault, call: str
) -> None:
    proxy.inflict(fault.once_after(0))

    error = outcome_of(lambda: {**WRITES, **READS}[call](far))

    assert isinstance(error, BackendUnavailableError)
    assert ("unknown" if call in WRITES else "none") == error.outcome
    far.store_data("a", b"again")


def test_connections_that_ended_while_idle_are_replaced_unnoticed(far: PgDataBackend, proxy: Proxy) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: far.store_data(f"m{number}", b"x"), range(64)))
    time.sleep(0.6)  # longer than a connection counts as just used

    proxy.cut()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: far.store_data(f"m{number}", b"y"), range(64)))


def test_a_reader_reads_on_after_the_connection_was_lost(far: PgDataBackend, proxy: Proxy) -> None:
    far.store_data("large", LARGE)
    with far.get_data_reader("large") as reader:
        begin = reader.read(1000)
        proxy.inflict(RESET_REPLY.once_after(0))
        with pytest.raises(BackendUnavailableError):
            reader.read()
        assert LARGE == begin + reader.read()


@pytest.mark.parametrize(("fault", "is_there"), [(RESET_REQUEST, False), (RESET_REPLY, True)], ids=["request", "reply"])
def test_a_large_payload_whose_end_is_lost_is_there_or_is_not(
    far: PgDataBackend,
    proxy: Proxy,
    tables: Tables,
    fault: Fault,
    is_there: bool,  # noqa: FBT001 -- of the examples
) -> None:
    writer = far.get_data_writer("b")
    writer.write(LARGE[:-1])
    proxy.inflict(fault.once_after(1))  # the last chunk passes
    writer.write(LARGE[-1:])
    with pytest.raises(BackendUnavailableError) as caught:
        writer.close()
    assert "unknown" == caught.value.outcome

    if is_there:
        with far.get_data_reader("b") as reader:
            assert LARGE == reader.read()
    else:
        with pytest.raises(DataNotFoundError):
            far.get_data_reader("b")
    left = (2, 5, 0) if is_there else (1, 0, 0)
    wait_until(lambda: left == (tables.count("data"), tables.count("chunks"), tables.count("loose")))


def test_the_server_may_be_restarted_under_load(new_postgres: Callable[..., PostgresServer]) -> None:
    server = new_postgres()
    factory = PgDataFactory.from_url(server.url)
    with factory.create() as backend:
        backend.store_data("large", bytes(5_000_000))
        reader = backend.get_data_reader("large")
        stored: list[str] = []
        done = False

        def store(worker: int) -> None:
            number = 0
            while not done:
                number += 1
                message_id = f"m{worker}-{number}"
                try:
                    backend.store_data(message_id, b"x")
                except BackendUnavailableError:
                    continue
                stored.append(message_id)

        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(store, worker) for worker in range(4)]
            for kill in (False, True):
                before = len(stored)
                wait_until(lambda before=before: len(stored) > before + 20)
                server.restart(kill=kill)
                before = len(stored)
                wait_until(lambda before=before: len(stored) > before + 20)
            done = True
            for each in running:
                each.result()

        assert set(stored) <= {info.message_id for info in backend.iter_data()}
        assert 5_000_000 == len(reader.read())
        reader.close()


# -- what the server refuses -------------------------------------------------------------------------------------------


def test_a_standby_takes_nothing_and_says_so(factory: PgDataFactory) -> None:
    with factory.create() as backend:
        backend.store_data("a", b"kept")
    standby = replace(factory, conninfo=make_conninfo(factory.conninfo, options="-c default_transaction_read_only=on"))

    with standby.create() as backend:
        with backend.get_data_reader("a") as reader:
            assert b"kept" == reader.read()
        for call in WRITES.values():
            error = outcome_of(lambda call=call: call(backend))
            assert isinstance(error, BackendUnavailableError)
            assert "none" == error.outcome


def test_a_statement_that_the_server_does_not_take_is_an_error_of_the_store(
    backend: PgDataBackend, tables: Tables
) -> None:
    tables.ask("ALTER TABLE {data} ADD CHECK (size < 3)")

    with pytest.raises(BackendError, match="violates check constraint") as caught:
        backend.store_data("a", b"four")

    assert BackendError is type(caught.value)
    assert isinstance(caught.value.__cause__, psycopg.errors.CheckViolation)
    backend.store_data("a", b"ok")


def test_what_others_have_the_server_undo_is_done_again(factory: PgDataFactory) -> None:
    strict = replace(
        factory, conninfo=make_conninfo(factory.conninfo, options="-c default_transaction_isolation=serializable")
    )

    with strict.create() as backend, ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda number: backend.store_data("a", b"%d" % number), range(120)))

        assert ["a"] == [info.message_id for info in backend.iter_data()]
