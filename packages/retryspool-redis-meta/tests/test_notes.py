"""Notes in Redis: what lies there, what it costs, and what somebody has damaged."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from retryspool.errors import BackendError
from retryspool.model import MessageMetadata, Severity, State
from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.backend import RedisMetaBackend


def damaged(backend: RedisMetaBackend) -> list[str]:
    return [each.subject for each in backend.check() if each.severity is Severity.ERROR]


def test_notes_are_one_hash(backend: RedisMetaBackend, client: Redis, base: str) -> None:
    backend.set_note("pause", "ä")
    backend.set_note("other", "")

    any_client: Any = client
    assert {b"pause": "ä".encode(), b"other": b""} == any_client.hgetall(f"{base}:notes")
    backend.set_note("pause", None)
    backend.set_note("other", None)
    assert not client.exists(f"{base}:notes")


@pytest.mark.parametrize(
    ("name", "text"),
    [(b"bad", b"\xff"), (b"bad\xff", b"x"), (b"two words", b"x"), (b"bad", b"a\0"), (b"b", b"x" * 70_000)],
)
def test_a_damaged_note_is_a_finding_and_harms_no_other(
    backend: RedisMetaBackend, client: Redis, base: str, name: bytes, text: bytes
) -> None:
    backend.set_note("good", "x")
    any_client: Any = client
    any_client.hset(f"{base}:notes", name, text)

    assert {"good": "x"} == backend.get_notes()
    assert [f"note {name.decode(errors='backslashreplace')}"] == damaged(backend)


def test_notes_that_are_of_another_type_are_an_error_and_a_finding(
    backend: RedisMetaBackend, client: Redis, base: str
) -> None:
    backend.store_meta("m", MessageMetadata("m"))
    client.set(f"{base}:notes", "no hash")

    with pytest.raises(BackendError, match="WRONGTYPE"):
        backend.get_notes()
    with pytest.raises(BackendError, match="WRONGTYPE"):
        backend.set_note("a", "x")
    assert ["notes"] == damaged(backend)
    assert ["m"] == [each.id for each in backend.iter_messages(State.INCOMING)]


def test_a_note_is_set_in_one_step_and_read_in_one(new_redis: Any) -> None:
    server = new_redis(settings={"appendonly": "no"})
    with RedisMetaFactory(server.url).create() as backend, Redis.from_url(server.url) as raw:
        client: Any = raw
        backend.set_note("a", "x")  # the connection is there, the script is known
        client.config_resetstat()
        backend.set_note("a", "y")
        assert {"a": "y"} == backend.get_notes()
        calls = {name: each["calls"] for name, each in client.info("commandstats").items()}

    expected = {"cmdstat_evalsha": 1, "cmdstat_hgetall": 1, "cmdstat_hset": 1}
    assert expected == {name: calls.get(name) for name in expected}
    assert "cmdstat_multi" not in calls


def test_a_full_server_refuses_a_note_and_removes_one(new_redis: Any) -> None:
    server = new_redis(settings={"appendonly": "no"})
    with RedisMetaFactory(server.url).create() as backend, Redis.from_url(server.url) as raw:
        client: Any = raw
        backend.set_note("a", "x")
        client.config_set("maxmemory", 1)

        with pytest.raises(BackendError, match="memory"):
            backend.set_note("b", "y" * 1000)
        backend.set_note("a", None)
        assert {} == backend.get_notes()
