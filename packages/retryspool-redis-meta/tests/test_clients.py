"""Ways to a server: by its socket, through a client that is passed in, on a node of a cluster; and across a fork."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis, RedisCluster

from retryspool import deadline
from retryspool.conformance.faults import BLACK_HOLE
from retryspool.conformance.proxy import Proxy
from retryspool.errors import BackendClosedError, BackendError, DeadlineExceededError
from retryspool.meta import Delete, ListOptions, Move, SortBy, Store, Update
from retryspool.model import MessageMetadata, State, utc_now
from retryspool_cli.servers import RedisServer
from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.backend import RedisMetaBackend

HOUR = timedelta(hours=1)
LATE_S = 15.0
"""Who takes so long hasn't given up in time, however busy the machine is."""


def use(backend: RedisMetaBackend) -> None:
    """Do everything once."""
    stored = backend.store_meta("a", MessageMetadata("a", headers={"für": "dich"}, route="r"))
    assert stored == backend.get_meta("a")
    assert backend.wait_for_change(10)
    assert not backend.wait_for_change(0.01)
    (claimed,) = backend.claim([State.INCOMING], limit=5, lease=HOUR, owner="w", exclude_routes=["s"])
    (renewed,) = backend.renew([claimed], lease=HOUR)
    assert isinstance(renewed, MessageMetadata)
    assert [renewed] == list(backend.iter_messages(State.ACTIVE))
    options = ListOptions(since=utc_now() - HOUR, sort_by=SortBy.PRIORITY)
    assert ("a",) == backend.list_messages(State.ACTIVE, options).message_ids
    assert renewed.lease_expires == backend.get_oldest_due(State.ACTIVE)
    moved = backend.move_to_state("a", State.ACTIVE, State.HOLD)
    results = backend.apply([Update(moved), Move("a", State.HOLD, State.BOUNCE), Store(moved), Delete("a")])
    assert ["MessageMetadata", "MessageMetadata", "MessageExistsError", "NoneType"] == [
        type(each).__name__ for each in results
    ]
    assert {0} == {backend.get_state_count(state) for state in State}
    assert [] == [each for each in backend.check() if each.subject == "record"]


def test_a_server_is_reached_by_its_socket(new_redis: Any, tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    new_redis(settings={"unixsocket": str(path), "requirepass": "pw"})

    with RedisMetaFactory(f"redis+unix://:pw@{path}").create() as backend:
        use(backend)
        assert f"RedisMetaBackend('redis+unix://{path}', keys='{{retryspool}}')" == repr(backend)


def test_another_database_is_another_store(redis_url: str, factory: RedisMetaFactory) -> None:
    with factory.create() as backend, replace(factory, url=redis_url.replace("/0", "/5")).create() as other:
        use(other)
        other.store_meta("a", MessageMetadata("a"))

        assert [0, 1] == [each.get_state_count(State.INCOMING) for each in (backend, other)]
        other.delete_meta("a")


# -- clients that are passed in ----------------------------------------------------------------------------------------

CLIENTS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "protocol 2": {"protocol": 2},
    "protocol 3": {"protocol": 3},
    "that decodes": {"decode_responses": True},
    "without time-outs": {"socket_timeout": None, "socket_connect_timeout": None},
}


@pytest.fixture(params=CLIENTS)
def passed_in(request: pytest.FixtureRequest, redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url, **CLIENTS[request.param]) as client:
        yield client


def test_a_client_that_is_passed_in_is_used_and_left_open(factory: RedisMetaFactory, passed_in: Redis) -> None:
    with replace(factory, url="redis://no-such-host.invalid/0", client=passed_in).create() as backend:
        use(backend)

    assert passed_in.ping()
    with pytest.raises(BackendClosedError):
        backend.get_meta("a")


def test_deadlines_hold_whatever_the_client_that_was_passed_in_would_do(
    factory: RedisMetaFactory, redis_url: str
) -> None:
    host, _, port = redis_url.removeprefix("redis://").partition("/")[0].partition(":")
    with (
        Proxy(host, int(port)) as proxy,
        Redis(host=proxy.address[0], port=proxy.address[1], socket_timeout=None) as client,
        replace(factory, client=client).create() as backend,
    ):
        backend.store_meta("a", MessageMetadata("a"))
        proxy.inflict(BLACK_HOLE)
        start = time.monotonic()
        with deadline(0.2), pytest.raises(DeadlineExceededError):
            backend.get_meta("a")
        assert time.monotonic() - start < LATE_S
        proxy.heal()

        backend.get_meta("a")


def test_a_backend_without_a_client_closes_its_connections(factory: RedisMetaFactory, client: Redis) -> None:
    any_client: Any = client
    before = any_client.info("clients")["connected_clients"]
    backend = factory.create()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: backend.store_meta(f"m{n}", MessageMetadata(f"m{n}")), range(20)))
    port = {each["addr"] for each in any_client.client_list()}
    backend.close()

    until = time.monotonic() + 10
    while len(port & {each["addr"] for each in any_client.client_list()}) > before:
        assert time.monotonic() < until
        threading.Event().wait(0.01)


# -- a cluster ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cluster(new_redis: Any) -> str:
    """A cluster of one node that has all slots: it refuses commands whose keys lie in several, and scripts too."""
    server = new_redis(settings={"cluster-enabled": "yes", "cluster-config-file": "nodes.conf"})
    with Redis.from_url(server.url) as client:
        any_client: Any = client
        any_client.execute_command("CLUSTER", "ADDSLOTS", *range(16384))
        until = time.monotonic() + 20
        while b"cluster_state:ok" not in _info(any_client):
            assert time.monotonic() < until
            threading.Event().wait(0.02)
    return server.url


def _info(client: Any) -> bytes:
    found = client.execute_command("CLUSTER", "INFO")
    return str(found).replace("'cluster_state': 'ok'", "cluster_state:ok").encode()


def test_all_of_a_store_lies_in_one_slot_of_a_cluster(cluster: str) -> None:
    with RedisMetaFactory(cluster).create() as backend, Redis.from_url(cluster) as client:
        use(backend)
        backend.apply([Store(MessageMetadata(f"m{number}", route=f"{{r{number}}}")) for number in range(200)])
        any_client: Any = client
        slots = {any_client.execute_command("CLUSTER", "KEYSLOT", key) for key in any_client.scan_iter("*")}

    assert 1 == len(slots)


def test_the_client_of_a_cluster_may_be_passed_in(cluster: str) -> None:
    client = RedisCluster.from_url(cluster)
    with RedisMetaFactory(client=client).create() as backend:
        use(backend)
    client.close()


def test_a_store_on_a_cluster_is_destroyed(cluster: str) -> None:
    with RedisCluster.from_url(cluster) as client:
        for factory in (RedisMetaFactory(cluster), RedisMetaFactory(client=client)):
            with factory.create() as backend:
                backend.store_meta("a", MessageMetadata("a"))

            factory.destroy()

            assert [] == client.keys("*")


def test_a_node_of_a_cluster_that_has_not_got_the_keys_says_so_when_a_store_is_to_be_destroyed(cluster: str) -> None:
    with Redis.from_url(cluster) as client:
        any_client: Any = client
        slot = any_client.execute_command("CLUSTER", "KEYSLOT", "{retryspool}")
        any_client.execute_command("CLUSTER", "DELSLOTS", slot)

    with pytest.raises(BackendError, match=r"CLUSTERDOWN|cluster"):
        RedisMetaFactory(cluster).destroy()


# -- forks -------------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> None:
    """Do the work in the child of a fork; it must return True."""
    pid = os.fork()
    if pid == 0:
        try:
            os._exit(0 if work() is True else 1)
        except BaseException:  # noqa: BLE001 -- whatever it was, the child ends here
            os._exit(2)
    until = time.monotonic() + 30
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.kill(pid, 9)
        threading.Event().wait(0.005)
    assert 0 == status


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_has_connections_of_its_own_and_the_parent_goes_on(new_redis: Callable[..., RedisServer]) -> None:
    url = new_redis().url  # nobody else's connections come and go there
    any_client: Any
    with Redis.from_url(url) as any_client, RedisMetaFactory(url).create() as backend:
        stored = backend.store_meta("a", MessageMetadata("a"))
        ours = {each["id"] for each in any_client.client_list()}

        def work() -> bool:
            mine = backend.get_meta("a") == stored
            backend.store_meta("child", MessageMetadata("child"))
            backend.close()
            return mine

        in_child(work)

        assert "child" == backend.get_meta("child").id
        assert ours <= {each["id"] for each in any_client.client_list()}, "the parent's connections were ended"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_others_calls_leaves_no_lock_behind(factory: RedisMetaFactory) -> None:
    with replace(factory, max_connections=2).create() as backend:
        backend.store_meta("a", MessageMetadata("a"))
        done = threading.Event()
        failed: list[BaseException] = []

        def busy() -> None:
            while not done.is_set():
                try:
                    backend.get_meta("a")
                except BaseException as error:  # noqa: BLE001 -- the test looks at it
                    failed.append(error)

        def waits() -> None:
            while not done.is_set():
                backend.wait_for_change(0.2)

        team = [threading.Thread(target=each) for each in (busy, busy, busy, waits)]
        for thread in team:
            thread.start()
        for _ in range(10):
            in_child(lambda: backend.get_meta("a").id == "a" and backend.wait_for_change(0.01) in {True, False})
        done.set()
        for thread in team:
            thread.join()

    assert [] == failed


def test_a_factory_with_a_client_says_so_and_shows_nothing(redis_url: str) -> None:
    with Redis.from_url(redis_url) as client:
        assert "RedisMetaFactory('a client', prefix='retryspool', durability='ack')" == repr(
            RedisMetaFactory("redis://me:hunter2@h/0", client=client)
        )


def test_a_client_of_a_server_that_is_gone_is_an_error_of_ours(new_redis: Any) -> None:
    server = new_redis()
    with Redis.from_url(server.url, retry=None) as client:
        server.kill()
        with pytest.raises(BackendError):
            RedisMetaFactory(client=client).create()
