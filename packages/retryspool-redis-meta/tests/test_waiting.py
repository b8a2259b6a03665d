"""Waiting for changes: by a blocking command, beside the calls of others, until the time, the deadline or the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from retryspool import deadline
from retryspool.errors import BackendClosedError, BackendUnavailableError
from retryspool.meta import Move, Store
from retryspool.model import NEVER, MessageMetadata, State
from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.backend import RedisMetaBackend

HOUR = timedelta(hours=1)
LONG_S = 45


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def until_blocked(client: Redis, number: int) -> None:
    """Return once so many clients of the server wait in a blocking command."""
    any_client: Any = client
    until = time.monotonic() + 20
    while any_client.info("clients")["blocked_clients"] < number:
        assert time.monotonic() < until
        threading.Event().wait(0.005)


def blocked(backend: RedisMetaBackend, client: Redis, pool: ThreadPoolExecutor) -> Future[bool]:
    waiting = pool.submit(backend.wait_for_change, LONG_S)
    until_blocked(client, 1)
    return waiting


def test_a_wait_sends_one_command_and_no_more_until_there_is_a_change(new_redis: Any, pool: ThreadPoolExecutor) -> None:
    server = new_redis()
    with RedisMetaFactory(server.url).create() as backend, Redis.from_url(server.url) as client:
        waiting = blocked(backend, client, pool)
        any_client: Any = client
        any_client.config_resetstat()
        threading.Event().wait(0.3)
        commands = set(any_client.info("commandstats"))

        assert {"cmdstat_info", "cmdstat_config|resetstat", "cmdstat_config"} >= commands
        backend.store_meta("a", MessageMetadata("a"))
        assert waiting.result(20)


def test_all_who_wait_hear_of_a_change(new_redis: Any, pool: ThreadPoolExecutor) -> None:
    server = new_redis()
    factory = RedisMetaFactory(server.url)
    with factory.create() as one, factory.create() as other, Redis.from_url(server.url) as client:
        waiting = [pool.submit(each.wait_for_change, LONG_S) for each in (one, other, other)]
        until_blocked(client, 3)
        one.store_meta("a", MessageMetadata("a"))

        assert [True, True, True] == [each.result(20) for each in waiting]


def test_changes_between_waits_are_one_hint(backend: RedisMetaBackend) -> None:
    for number in range(500):
        backend.store_meta(f"m{number}", MessageMetadata(f"m{number}"))

    assert backend.wait_for_change(LONG_S)
    assert not backend.wait_for_change(0)
    assert not backend.wait_for_change(0.02)


def test_a_batch_is_one_change(backend: RedisMetaBackend, client: Redis, base: str) -> None:
    any_client: Any = client
    backend.apply([Store(MessageMetadata(f"m{number}")) for number in range(50)])

    assert 1 == any_client.xlen(f"{base}:changes")


def test_the_memory_for_changes_does_not_grow(backend: RedisMetaBackend, client: Redis, base: str) -> None:
    any_client: Any = client
    backend.store_meta("a", MessageMetadata("a"))
    for _ in range(300):
        backend.apply([Move("a", State.INCOMING, State.HOLD), Move("a", State.HOLD, State.INCOMING)])

    assert any_client.xlen(f"{base}:changes") <= 200


def test_what_is_no_work_for_others_is_no_change(backend: RedisMetaBackend) -> None:
    backend.store_meta("a", MessageMetadata("a"))
    backend.store_meta("b", MessageMetadata("b"))
    assert backend.wait_for_change(0)

    (a, _) = backend.claim([State.INCOMING], limit=2, lease=HOUR, owner="w")
    backend.renew([a], lease=HOUR)
    backend.delete_meta("a")
    backend.store_meta("kept", MessageMetadata("kept", state=State.ARCHIVED, next_retry=NEVER))

    assert not backend.wait_for_change(0)


def test_closing_ends_a_wait_at_once(factory: RedisMetaFactory, client: Redis, pool: ThreadPoolExecutor) -> None:
    backend = factory.create()
    waiting = blocked(backend, client, pool)

    backend.close()

    with pytest.raises(BackendClosedError):
        waiting.result(10)


def test_closing_ends_a_wait_though_the_server_hangs(new_redis: Any, pool: ThreadPoolExecutor) -> None:
    server = new_redis()
    backend = RedisMetaFactory(server.url).create()
    with Redis.from_url(server.url) as client:
        waiting = blocked(backend, client, pool)
        any_client: Any = client
        any_client.execute_command("CLIENT", "PAUSE", 20_000, "ALL")
        backend.close()

        with pytest.raises(BackendClosedError):
            waiting.result(10)


def test_a_wait_ends_with_the_deadline_though_it_may_take_longer(backend: RedisMetaBackend) -> None:
    start = time.monotonic()
    with deadline(0.1):
        assert not backend.wait_for_change(LONG_S)

    assert 0.09 <= time.monotonic() - start < LONG_S / 2


def test_a_wait_for_ever_may_be_asked_for(backend: RedisMetaBackend, client: Redis, pool: ThreadPoolExecutor) -> None:
    waiting = pool.submit(backend.wait_for_change, threading.TIMEOUT_MAX)
    until_blocked(client, 1)
    backend.store_meta("a", MessageMetadata("a"))

    assert waiting.result(20)


def test_who_waits_takes_no_connection_from_those_who_work(
    factory: RedisMetaFactory, client: Redis, pool: ThreadPoolExecutor
) -> None:
    with replace(factory, max_connections=1, timeout=5).create() as backend:
        waiting = [pool.submit(backend.wait_for_change, LONG_S) for _ in range(3)]
        until_blocked(client, 3)

        backend.claim([State.INCOMING], limit=1, lease=HOUR, owner="w")
        backend.store_meta("a", MessageMetadata("a"))

        assert [True] * 3 == [each.result(20) for each in waiting]


def test_a_wait_whose_server_dies_is_told_so_and_the_next_one_works(new_redis: Any, pool: ThreadPoolExecutor) -> None:
    server = new_redis()
    with RedisMetaFactory(server.url).create() as backend:
        with Redis.from_url(server.url) as client:
            waiting = blocked(backend, client, pool)
        server.restart(kill=True)

        with pytest.raises(BackendUnavailableError) as gone:
            waiting.result(20)
        assert "none" == gone.value.outcome
        backend.store_meta("a", MessageMetadata("a"))
        assert backend.wait_for_change(LONG_S)
