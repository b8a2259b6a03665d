"""What goes wrong with a server, as RetrySpool's errors: by class and outcome, in time, without a password."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis
from redis import exceptions as redis_errors

from retryspool import deadline
from retryspool.conformance.faults import BLACK_HOLE, DRIP, HALF_OPEN, LOST_REPLY, REFUSED, RESET_REPLY, RESET_REQUEST
from retryspool.conformance.proxy import Proxy
from retryspool.errors import (
    BackendClosedError,
    BackendError,
    BackendUnavailableError,
    DeadlineExceededError,
    MessageExistsError,
)
from retryspool.meta import Delete, Store
from retryspool.model import MessageMetadata, State
from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.failures import code_of, failure

HOUR = timedelta(hours=1)
LATE_S = 15.0
"""Who takes so long hasn't given up in time, however busy the machine is."""


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    host, _, port = redis_url.removeprefix("redis://").partition("/")[0].partition(":")
    with Proxy(host, int(port)) as proxy:
        yield proxy


@pytest.fixture
def through(factory: RedisMetaFactory, proxy: Proxy) -> RedisMetaFactory:
    """The store, through the proxy."""
    host, port = proxy.address
    return replace(factory, url=f"redis://{host}:{port}/0", timeout=0.5, connect_timeout=0.5)


@contextmanager
def deaf() -> Iterator[int]:
    """Listen on a port, and never answer."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


# -- opening -----------------------------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    with pytest.raises(BackendUnavailableError, match=f"127.0.0.1:{port}") as gone:
        RedisMetaFactory(f"redis://:hunter2@127.0.0.1:{port}/0").create()

    assert "none" == gone.value.outcome
    assert "hunter2" not in str(gone.value)
    assert isinstance(gone.value.__cause__, redis_errors.ConnectionError)


def test_a_host_that_has_no_address_is_unavailable() -> None:
    with pytest.raises(BackendUnavailableError):
        RedisMetaFactory("redis://no-such-host.invalid/0").create()


def test_a_server_that_never_answers_is_unavailable_after_the_time_out() -> None:
    with deaf() as port, pytest.raises(BackendUnavailableError, match="can't be reached") as silent:
        RedisMetaFactory(f"redis://127.0.0.1:{port}/0", timeout=0.2).create()

    assert "none" == silent.value.outcome


def test_a_deadline_ends_opening_a_server_that_never_answers() -> None:
    start = time.monotonic()
    with deaf() as port, deadline(0.2), pytest.raises(DeadlineExceededError, match="nothing was changed"):
        RedisMetaFactory(f"redis://127.0.0.1:{port}/0", timeout=300, connect_timeout=300).create()

    assert time.monotonic() - start < LATE_S


@pytest.mark.parametrize("user", ["", "me"])
def test_a_wrong_password_is_an_error_that_does_not_show_it(new_redis: Any, user: str) -> None:
    server = new_redis(settings={"requirepass": "s3cret"})
    url = server.url.replace(":s3cret", f"{user}:hunter2")

    with pytest.raises(BackendError, match="user or password") as refused:
        RedisMetaFactory(url).create()

    assert not isinstance(refused.value, BackendUnavailableError)
    assert "hunter2" not in str(refused.value)


def test_no_password_where_one_is_wanted_is_an_error(new_redis: Any) -> None:
    server = new_redis(settings={"requirepass": "s3cret"})

    with pytest.raises(BackendError, match="user or password"):
        RedisMetaFactory(server.url.replace(":s3cret@", "")).create()
    RedisMetaFactory(server.url).create().close()


def test_a_database_that_there_is_not_is_an_error(redis_url: str) -> None:
    with pytest.raises(BackendError):
        RedisMetaFactory(redis_url.replace("/0", "/9999")).create()


def test_a_user_who_may_not_is_told_so(new_redis: Any) -> None:
    server = new_redis()
    with Redis.from_url(server.url) as client:
        any_client: Any = client
        any_client.acl_setuser("reader", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@read", "+info"])

    with pytest.raises(BackendError, match="user or password, or what the user may do"):
        RedisMetaFactory(server.url.replace("redis://", "redis://reader:pw@")).create()


def test_a_store_of_a_later_format_is_not_touched(factory: RedisMetaFactory, client: Redis, base: str) -> None:
    client.set(f"{base}:format", "2")

    with pytest.raises(BackendError, match="the store has format 2, this version knows 1: upgrade"):
        factory.create()


# -- refusals of the server --------------------------------------------------------------------------------------------


def test_a_server_out_of_memory_refuses_records_and_lets_the_queue_be_emptied(new_redis: Any) -> None:
    server = new_redis()
    with RedisMetaFactory(server.url).create() as backend, Redis.from_url(server.url) as client:
        backend.apply([Store(MessageMetadata(f"m{number}")) for number in range(50)])
        any_client: Any = client
        any_client.config_set("maxmemory", 1)

        with pytest.raises(BackendUnavailableError, match="maxmemory") as full:
            backend.store_meta("new", MessageMetadata("new"))
        assert "none" == full.value.outcome
        (refused,) = backend.apply([Store(MessageMetadata("new"))])
        assert isinstance(refused, BackendUnavailableError)

        claimed = backend.claim([State.INCOMING], limit=60, lease=HOUR, owner="w")
        assert 50 == len(claimed)
        assert [None] * 50 == backend.apply([Delete(record.id, record.version) for record in claimed])
        any_client.config_set("maxmemory", 0)
        assert 1 == backend.store_meta("new", MessageMetadata("new")).version


def test_a_replica_takes_no_writes_and_says_so(new_redis: Any) -> None:
    server = new_redis()
    with RedisMetaFactory(server.url).create() as backend, Redis.from_url(server.url) as client:
        stored = backend.store_meta("a", MessageMetadata("a"))
        any_client: Any = client
        with socket.create_server(("127.0.0.1", 0)) as nobody:
            any_client.replicaof("127.0.0.1", nobody.getsockname()[1])

            for write in (
                lambda: backend.store_meta("b", MessageMetadata("b")),
                lambda: backend.delete_meta("a"),
                lambda: backend.claim([State.INCOMING], limit=1, lease=HOUR, owner="w"),
            ):
                with pytest.raises(BackendUnavailableError, match="replica") as refused:
                    write()
                assert "none" == refused.value.outcome
            assert stored == backend.get_meta("a")


def test_a_server_that_is_loading_is_waited_for(new_redis: Any) -> None:
    server = new_redis(settings={"appendonly": "no", "key-load-delay": "300"})
    with RedisMetaFactory(server.url, timeout=30).create() as backend, Redis.from_url(server.url) as client:
        any_client: Any = client
        backend.store_meta("a", MessageMetadata("a"))
        any_client.mset({f"x{number}": "x" for number in range(3000)})
        any_client.save()
        server.kill()
        starting = threading.Thread(target=server.start)
        starting.start()
        found = None
        until = time.monotonic() + 30
        while found is None:
            assert time.monotonic() < until
            with suppress(BackendUnavailableError):  # it isn't listening yet
                found = backend.get_meta("a")
        starting.join()

    assert 1 == found.version


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ("OOM command not allowed when used memory > 'maxmemory'.", "OOM"),
        ("MISCONF Redis is configured to save RDB snapshots, but", "MISCONF"),
        ("ERR Error running script (call to f_5f): @user_script:67: @user_script: 67: -OOM command not allowed", "OOM"),
        ("@user_script: 12: -READONLY You can't write against a read only replica.", "READONLY"),
        ("ERR unknown command", "ERR"),
    ],
)
def test_a_reply_is_told_by_its_code(reply: str, code: str) -> None:
    assert code == code_of(reply)


@pytest.mark.parametrize(
    ("error", "kind", "outcome"),
    [
        (redis_errors.ReadOnlyError("You can't write"), BackendUnavailableError, "none"),
        (redis_errors.OutOfMemoryError("command not allowed"), BackendUnavailableError, "none"),
        (redis_errors.BusyLoadingError("loading"), BackendUnavailableError, "none"),
        (redis_errors.ClusterDownError("Hash slot not served"), BackendUnavailableError, "none"),
        (redis_errors.MaxConnectionsError("Too many connections"), BackendUnavailableError, "unknown"),
        (redis_errors.ResponseError("MISCONF Redis is configured"), BackendUnavailableError, "none"),
        (redis_errors.ConnectionError("Connection reset"), BackendUnavailableError, "unknown"),
        (OSError("broken pipe"), BackendUnavailableError, "unknown"),
        (redis_errors.ResponseError("ERR whatever"), BackendError, None),
        (redis_errors.NoPermissionError("no"), BackendError, None),
        (redis_errors.AuthenticationError("no"), BackendError, None),
    ],
)
def test_an_error_of_the_driver_is_one_of_ours(error: Exception, kind: type[BackendError], outcome: str | None) -> None:
    found = failure("redis://h", error, "unknown")

    assert (kind, outcome) == (type(found), getattr(found, "outcome", None))


# -- the network -------------------------------------------------------------------------------------------------------


def test_a_write_whose_reply_is_lost_is_unknown_and_was_not_sent_twice(through: RedisMetaFactory, proxy: Proxy) -> None:
    with through.create() as backend:
        backend.store_meta("x", MessageMetadata("x"))
        proxy.inflict(RESET_REPLY)
        with pytest.raises(BackendUnavailableError) as lost:
            backend.store_meta("a", MessageMetadata("a"))
        assert "unknown" == lost.value.outcome
        assert 1 == proxy.hits
        proxy.heal()

        assert 1 == backend.get_meta("a").version
        with pytest.raises(MessageExistsError):
            backend.store_meta("a", MessageMetadata("a"))


def test_a_batch_whose_reply_is_lost_is_unknown_for_each_and_the_rest_is_not_tried(
    through: RedisMetaFactory, proxy: Proxy
) -> None:
    with through.create() as backend:
        backend.store_meta("a", MessageMetadata("a"))
        proxy.inflict(RESET_REPLY)
        results = backend.apply([Store(MessageMetadata(f"m{number}")) for number in range(150)])
        proxy.heal()

        outcomes = [each.outcome for each in results if isinstance(each, BackendUnavailableError)]
        assert ["unknown"] * 100 + ["none"] * 50 == outcomes
        assert 101 == backend.get_state_count(State.INCOMING)


def test_a_read_whose_connection_breaks_is_tried_once_more(through: RedisMetaFactory, proxy: Proxy) -> None:
    with through.create() as backend:
        stored = backend.store_meta("a", MessageMetadata("a"))
        proxy.inflict(RESET_REQUEST)
        with pytest.raises(BackendUnavailableError) as lost:
            backend.get_meta("a")
        assert "none" == lost.value.outcome
        assert 2 == proxy.hits
        proxy.heal()
        assert stored == backend.get_meta("a")


def test_connections_that_ended_meanwhile_are_made_anew_without_an_error(
    through: RedisMetaFactory, proxy: Proxy
) -> None:
    with through.create() as backend, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: backend.store_meta(f"m{n}", MessageMetadata(f"m{n}")), range(20)))
        proxy.cut()

        assert 1 == backend.store_meta("a", MessageMetadata("a")).version
        list(pool.map(lambda n: backend.get_meta(f"m{n}"), range(20)))


CALLS: dict[str, Callable[[Any], object]] = {
    "store": lambda backend: backend.store_meta("new", MessageMetadata("new")),
    "get": lambda backend: backend.get_meta("a"),
    "apply": lambda backend: backend.apply([Delete("a")]),
    "claim": lambda backend: backend.claim([State.INCOMING], limit=1, lease=HOUR, owner="w"),
    "list": lambda backend: backend.list_messages(State.INCOMING),
    "wait": lambda backend: backend.wait_for_change(0),
}


@pytest.mark.parametrize("fault", [BLACK_HOLE, LOST_REPLY, DRIP, HALF_OPEN], ids=lambda fault: fault.name)
@pytest.mark.parametrize("call", CALLS)
def test_a_deadline_holds_whatever_the_network_does(
    through: RedisMetaFactory, proxy: Proxy, call: str, fault: Any
) -> None:
    with replace(through, timeout=300, connect_timeout=300).create() as backend:
        backend.store_meta("a", MessageMetadata("a", last_error="x" * 2000))
        proxy.inflict(fault)
        start = time.monotonic()
        with deadline(0.3), pytest.raises(DeadlineExceededError) as late:
            CALLS[call](backend)
        took = time.monotonic() - start
        proxy.heal()

        assert took < LATE_S
        said = "isn't known" if call in {"store", "apply", "claim"} else "nothing was changed"
        assert said in str(late.value)
        backend.get_meta("a") if call != "apply" else backend.get_state_count(State.INCOMING)


def test_a_hung_server_is_an_error_after_the_time_out_without_a_deadline(
    through: RedisMetaFactory, proxy: Proxy
) -> None:
    with through.create() as backend:
        proxy.inflict(BLACK_HOLE)
        for name in ("store", "get"):
            with pytest.raises(BackendUnavailableError) as hung:
                CALLS[name](backend)
            assert ("unknown" if name == "store" else "none") == hung.value.outcome


def test_the_pool_does_not_shrink_through_errors(through: RedisMetaFactory, proxy: Proxy) -> None:
    with replace(through, max_connections=2, timeout=0.3).create() as backend:
        for fault in (RESET_REPLY, RESET_REQUEST, REFUSED, BLACK_HOLE) * 2:
            proxy.inflict(fault)
            with ThreadPoolExecutor(4) as pool:
                calls = [pool.submit(backend.get_meta, "a") for _ in range(4)]
            assert all(isinstance(each.exception(), BackendUnavailableError) for each in calls)
        proxy.heal()

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda n: backend.store_meta(f"m{n}", MessageMetadata(f"m{n}")), range(20)))
        assert proxy.open_connections <= 2


def test_who_finds_all_connections_in_use_waits_for_one_and_not_for_ever(
    through: RedisMetaFactory, proxy: Proxy
) -> None:
    with replace(through, max_connections=1, timeout=2).create() as backend, ThreadPoolExecutor(1) as pool:
        proxy.inflict(LOST_REPLY)
        first = pool.submit(backend.get_meta, "a")
        while not proxy.hits:
            threading.Event().wait(0.005)
        with deadline(0.1), pytest.raises(DeadlineExceededError):
            backend.get_meta("a")
        proxy.heal()
        first.exception()

        backend.store_meta("a", MessageMetadata("a"))


def test_calls_after_closing_are_refused_and_those_under_way_end(through: RedisMetaFactory, proxy: Proxy) -> None:
    backend = replace(through, timeout=5).create()
    with ThreadPoolExecutor(1) as pool:
        proxy.inflict(LOST_REPLY)
        under_way = pool.submit(backend.get_meta, "a")
        while not proxy.hits:
            threading.Event().wait(0.005)
        backend.close()
        proxy.heal()

        assert isinstance(under_way.exception(10), BackendUnavailableError)
    with pytest.raises(BackendClosedError):
        backend.get_meta("a")
    assert 0 == proxy.open_connections
