"""What check() says of a server's settings, and what durability="fsync" waits for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from redis import Redis

from retryspool.errors import BackendUnavailableError, MessageExistsError, NotSupportedError
from retryspool.meta import Store
from retryspool.model import MessageMetadata, Severity, State
from retryspool_redis_meta import RedisMetaFactory

HOUR = timedelta(hours=1)


def test_a_server_that_loses_nothing_is_found_healthy(new_redis: Any) -> None:
    with RedisMetaFactory(new_redis().url).create() as backend:
        backend.store_meta("a", MessageMetadata("a"))

        assert [] == list(backend.check())


@pytest.mark.parametrize(
    ("settings", "severity", "subject", "says"),
    [
        ({"appendonly": "no"}, Severity.WARNING, "appendonly", "set appendonly to 'yes'"),
        ({"appendfsync": "everysec"}, Severity.WARNING, "appendfsync", "last second or two"),
        ({"appendfsync": "no"}, Severity.WARNING, "appendfsync", "half a minute"),
        ({"maxmemory-policy": "allkeys-lru", "maxmemory": "500mb"}, Severity.ERROR, "maxmemory-policy", "noeviction"),
        ({"maxmemory-policy": "volatile-lru"}, Severity.WARNING, "maxmemory-policy", "noeviction"),
        ({"rename-command": "CONFIG nothing"}, Severity.NOTICE, "CONFIG GET", "can't be seen"),
    ],
)
def test_a_setting_that_endangers_messages_is_found(
    new_redis: Any, settings: dict[str, str], severity: Severity, subject: str, says: str
) -> None:
    server = new_redis(settings={} if "rename-command" in settings else settings)
    with RedisMetaFactory(server.url).create() as backend:
        if "rename-command" in settings:
            with Redis.from_url(server.url) as raw:
                client: Any = raw
                client.acl_setuser("default", commands=["-config"])
        (finding,) = backend.check()

    assert (severity, subject) == (finding.severity, finding.subject)
    assert says in finding.text


def test_every_record_is_looked_at(factory: RedisMetaFactory, client: Redis, base: str) -> None:
    with factory.create() as backend:
        for start in range(0, 700, 100):
            backend.apply([Store(MessageMetadata(f"m{number:03}")) for number in range(start, start + 100)])
        for number in (0, 199, 200, 650, 699):
            client.hset(f"{base}:m:m{number:03}", "body", "rubbish")

        found = [finding.message_id for finding in backend.check() if finding.severity is Severity.ERROR]
        assert ["m000", "m199", "m200", "m650", "m699"] == found


# -- durability="fsync" ------------------------------------------------------------------------------------------------


class ServerThatSyncs:
    """A double, for want of a Redis 7.2 in a wheel: the server there is, with a WAITAOF that answers as it's told."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"redis://127.0.0.1:{self._listener.getsockname()[1]}/0"
        self.answer = b"*2\r\n:1\r\n:0\r\n"
        self.waits = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError), client, socket.create_connection(self._target) as server:
            while request := client.recv(1 << 20):
                request, waitaof, _ = request.partition(b"*4\r\n$7\r\nWAITAOF\r\n")
                server.sendall(request)
                reply = server.recv(1 << 20).replace(b"redis_version:6.2.5", b"redis_version:7.2.5")
                self.waits += bool(waitaof)  # before the answer: whoever gets that may look at it
                client.sendall(reply + (self.answer if waitaof else b""))

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def syncs(redis_url: str) -> Iterator[ServerThatSyncs]:
    host, _, port = redis_url.removeprefix("redis://").partition("/")[0].partition(":")
    server = ServerThatSyncs((host, int(port)))
    yield server
    server.close()


@pytest.fixture
def synced(factory: RedisMetaFactory, syncs: ServerThatSyncs) -> RedisMetaFactory:
    return replace(factory, url=syncs.url, durability="fsync", timeout=5)


def test_a_server_that_cannot_wait_for_its_disk_is_refused(factory: RedisMetaFactory, client: Redis) -> None:
    any_client: Any = client
    version = any_client.info("server")["redis_version"]
    if tuple(map(int, version.split(".")[:2])) >= (7, 2):
        replace(factory, durability="fsync").create().close()
        return
    with pytest.raises(NotSupportedError, match=f"is Redis {version}, which has no WAITAOF"):
        replace(factory, durability="fsync").create()


def test_a_server_without_a_file_to_sync_is_refused(new_redis: Any) -> None:
    server = new_redis(settings={"appendonly": "no"})
    syncs = ServerThatSyncs((server.host, server.port))
    try:
        with pytest.raises(NotSupportedError, match="keeps no append-only file"):
            RedisMetaFactory(syncs.url, durability="fsync").create()
    finally:
        syncs.close()


def test_a_write_waits_for_the_disk_once_and_so_does_a_batch(synced: RedisMetaFactory, syncs: ServerThatSyncs) -> None:
    with synced.create() as backend:
        backend.store_meta("a", MessageMetadata("a"))
        counts = [syncs.waits]
        for work in (
            lambda: backend.apply([Store(MessageMetadata(f"m{number}")) for number in range(20)]),
            lambda: backend.move_to_state("a", State.INCOMING, State.HOLD),
            lambda: backend.move_to_state("a", State.HOLD, State.HOLD),
            lambda: backend.get_meta("a"),
            lambda: backend.renew(backend.claim([State.INCOMING], limit=1, lease=HOUR, owner="w"), lease=HOUR),
        ):
            work()
            counts.append(syncs.waits)

        steps = [after - before for before, after in pairwise(counts)]
        assert [1, 1, 1, 0, 0] == steps
        assert [] == list(backend.check())


def test_a_message_that_exists_is_on_the_disk_before_it_is_said_to(
    synced: RedisMetaFactory, factory: RedisMetaFactory, client: Redis, base: str
) -> None:
    """To wait for what others wrote, this connection writes: else it would wait for nothing."""
    with synced.create() as backend, factory.create() as other:
        other.store_meta("a", MessageMetadata("a"))
        assert not client.exists(f"{base}:synced")
        with pytest.raises(MessageExistsError):
            backend.store_meta("a", MessageMetadata("a"))

        assert client.exists(f"{base}:synced")


@pytest.mark.parametrize("answer", [b"*2\r\n:0\r\n:0\r\n", b"-ERR WAITAOF cannot be used\r\n"])
def test_a_change_that_is_not_known_to_be_on_the_disk_is_unknown(
    synced: RedisMetaFactory, syncs: ServerThatSyncs, answer: bytes
) -> None:
    with synced.create() as backend:
        backend.store_meta("x", MessageMetadata("x"))
        syncs.answer = answer
        with pytest.raises(BackendUnavailableError, match="on its disk") as unknown:
            backend.store_meta("a", MessageMetadata("a"))

        assert "unknown" == unknown.value.outcome
        assert 1 == backend.get_meta("a").version
