"""A server that Sentinels name: a real master, a real replica and a real Sentinel, and a fail-over."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from retryspool import deadline
from retryspool.errors import BackendUnavailableError, DeadlineExceededError
from retryspool.model import MessageMetadata, State
from retryspool_cli.servers import RedisServer
from retryspool_cli.servers.ports import free_ports
from retryspool_redis_meta import RedisMetaFactory

LATE_S = 15.0
"""Who takes so long hasn't given up in time, however busy the machine is."""


@dataclass
class Watched:
    """A master and its replica, and the port of the Sentinel that watches them."""

    master: RedisServer
    replica: RedisServer
    port: int

    @property
    def url(self) -> str:
        return f"redis+sentinel://:data-pw@127.0.0.1:{self.port}/0?service=mymaster&sentinel_password=sentinel-pw"


@pytest.fixture
def watched(new_redis: Any, tmp_path: Path) -> Iterator[Watched]:
    own = {"requirepass": "data-pw", "masterauth": "data-pw"}
    master = new_redis(settings=own)
    replica = new_redis(settings=own)
    with Redis.from_url(replica.url) as raw:
        follower: Any = raw
        follower.replicaof("127.0.0.1", master.port)
    (port,) = free_ports(1)
    config = tmp_path / "sentinel.conf"
    config.write_text(
        f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\nrequirepass sentinel-pw\n"
        f"sentinel monitor mymaster 127.0.0.1 {master.port} 1\nsentinel auth-pass mymaster data-pw\n"
        "sentinel down-after-milliseconds mymaster 500\nsentinel failover-timeout mymaster 2000\n"
    )
    program = next(iter(master._command()))
    process = subprocess.Popen([program, str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        with Redis(port=port, password="sentinel-pw") as raw:
            client: Any = raw
            _until(lambda: int(client.sentinel_masters()["mymaster"]["num-slaves"]) == 1)
        yield Watched(master, replica, port)
    finally:
        process.kill()
        process.wait(20)


def _until(holds: Any) -> None:
    until = time.monotonic() + 40
    while True:
        with suppress(RedisError):  # it's coming up
            if holds():
                return
        assert time.monotonic() < until
        threading.Event().wait(0.05)


def test_the_master_is_found_and_found_again_after_a_fail_over(watched: Watched) -> None:
    with RedisMetaFactory.from_url(watched.url).create() as backend, Redis.from_url(watched.replica.url) as raw:
        replica: Any = raw
        stored = backend.store_meta("a", MessageMetadata("a"))
        assert ["replication"] == [finding.subject for finding in backend.check()]
        _until(lambda: replica.exists("{retryspool}:m:a"))
        watched.master.kill()

        until = time.monotonic() + 40
        moved = None
        while moved is None:
            assert time.monotonic() < until
            try:
                moved = backend.move_to_state("a", State.INCOMING, State.HOLD)
            except BackendUnavailableError:
                threading.Event().wait(0.1)

        assert (stored.version + 1, State.HOLD) == (moved.version, moved.state)
        assert moved == backend.get_meta("a")


def test_a_service_that_no_sentinel_knows_is_unavailable(watched: Watched) -> None:
    with pytest.raises(BackendUnavailableError, match="nobodys") as unknown:
        RedisMetaFactory.from_url(watched.url.replace("mymaster", "nobodys")).create()

    assert "none" == unknown.value.outcome
    assert not {"data-pw", "sentinel-pw"} & set(str(unknown.value).split())


def test_sentinels_that_are_not_there_are_passed_over(watched: Watched) -> None:
    (closed,) = free_ports(1)
    url = watched.url.replace("@127", f"@127.0.0.1:{closed},127")

    with RedisMetaFactory.from_url(url).create() as backend:
        assert 1 == backend.store_meta("a", MessageMetadata("a")).version


def test_a_deadline_ends_asking_sentinels_that_hang() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        ports = [each.getsockname()[1] for each in (one, other)]
        factory = RedisMetaFactory(
            f"redis+sentinel://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/0", service="s", timeout=300
        )
        start = time.monotonic()
        with deadline(0.3), pytest.raises(DeadlineExceededError):
            factory.create()

    assert time.monotonic() - start < LATE_S
