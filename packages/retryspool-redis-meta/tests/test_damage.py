"""Records that somebody has damaged: an error, a finding, and never in the way of others."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from redis import Redis

from retryspool.errors import CorruptRecordError, MessageExistsError, MessageNotFoundError
from retryspool.meta import ListOptions
from retryspool.model import MessageMetadata, Severity, State
from retryspool_redis_meta.backend import RedisMetaBackend

HOUR = timedelta(hours=1)

Damage = Callable[[Any, str], object]
DAMAGES: dict[str, Damage] = {
    "head": lambda client, key: client.hset(key, "head", "rubbish"),
    "head of another length": lambda client, key: client.hset(key, "head", client.hget(key, "head")[:-20]),
    "no head": lambda client, key: client.hdel(key, "head"),
    "body": lambda client, key: client.hset(key, "body", "{"),
    "no body": lambda client, key: client.hdel(key, "body"),
    "another type": lambda client, key: (client.delete(key), client.set(key, "x")),
}


@pytest.fixture(params=DAMAGES)
def damage(request: pytest.FixtureRequest, client: Redis, base: str) -> Callable[[str], object]:
    return lambda message_id: DAMAGES[request.param](client, f"{base}:m:{message_id}")


def claimed(backend: RedisMetaBackend, limit: int = 10) -> list[str]:
    return [r.id for r in backend.claim([State.INCOMING], limit=limit, lease=HOUR, owner="w")]


def test_a_damaged_record_is_an_error_to_who_reads_it(
    backend: RedisMetaBackend, damage: Callable[[str], object]
) -> None:
    backend.store_meta("a", MessageMetadata("a"))
    damage("a")

    with pytest.raises(CorruptRecordError, match="'a'"):
        backend.get_meta("a")
    with pytest.raises(MessageExistsError):
        backend.store_meta("a", MessageMetadata("a"))


def test_a_damaged_record_is_in_nobody_s_way(backend: RedisMetaBackend, damage: Callable[[str], object]) -> None:
    for message_id in "abc":
        backend.store_meta(message_id, MessageMetadata(message_id))
    damage("b")

    assert ["a", "c"] == [record.id for record in backend.iter_messages(State.INCOMING, 1)]
    assert {"a", "c"} <= set(backend.list_messages(State.INCOMING, ListOptions(limit=3)).message_ids)
    assert ["a", "c"] == claimed(backend)
    assert [] == claimed(backend)
    assert [0, 2] == [backend.get_state_count(state) for state in (State.INCOMING, State.ACTIVE)]


def test_a_claim_is_not_empty_because_of_a_damaged_record(
    backend: RedisMetaBackend, damage: Callable[[str], object]
) -> None:
    for message_id in "abc":
        backend.store_meta(message_id, MessageMetadata(message_id))
    damage("a")
    damage("b")

    assert ["c"] == claimed(backend, limit=1)


def test_a_damaged_record_is_found_before_and_after_claims_have_passed_it_over(
    backend: RedisMetaBackend, base: str, damage: Callable[[str], object]
) -> None:
    for message_id in "abc":
        backend.store_meta(message_id, MessageMetadata(message_id))
    damage("b")

    for _ in range(2):
        (finding,) = [each for each in backend.check() if each.severity is Severity.ERROR]
        assert ("b", "record") == (finding.message_id, finding.subject)
        assert f"HGETALL {base}:m:b" in finding.text
        claimed(backend)


def test_a_damaged_record_is_kept_until_it_is_deleted(
    backend: RedisMetaBackend, client: Redis, base: str, damage: Callable[[str], object]
) -> None:
    backend.store_meta("a", MessageMetadata("a"))
    damage("a")
    claimed(backend)
    assert client.exists(f"{base}:m:a")

    backend.delete_meta("a")

    with pytest.raises(MessageNotFoundError):
        backend.get_meta("a")
    assert [] == [each for each in backend.check() if each.severity is Severity.ERROR]
    assert {0} == {backend.get_state_count(state) for state in State}
    backend.store_meta("a", MessageMetadata("a"))
    assert ["a"] == claimed(backend)


def test_changing_a_head_that_cannot_be_read_is_refused(backend: RedisMetaBackend, client: Redis, base: str) -> None:
    stored = backend.store_meta("a", MessageMetadata("a"))
    client.hset(f"{base}:m:a", "head", "rubbish")

    for call in (
        lambda: backend.update_meta("a", stored),
        lambda: backend.move_to_state("a", State.INCOMING, State.HOLD),
        lambda: backend.delete_meta("a", if_version=1),
    ):
        with pytest.raises(CorruptRecordError):
            call()
    assert b"rubbish" == client.hget(f"{base}:m:a", "head")


def test_an_update_makes_a_record_whole_that_claims_had_set_aside(
    backend: RedisMetaBackend, client: Redis, base: str
) -> None:
    stored = backend.store_meta("a", MessageMetadata("a"))
    client.hset(f"{base}:m:a", "body", "{")
    assert [] == claimed(backend)

    backend.update_meta("a", stored)

    assert [] == [each for each in backend.check() if each.severity is Severity.ERROR]
    assert 1 == backend.get_state_count(State.INCOMING)
    assert ["a"] == claimed(backend)


def test_a_record_that_is_gone_behind_the_backend_s_back_is_found_and_passed_over(
    backend: RedisMetaBackend, client: Redis, base: str
) -> None:
    for message_id in "ab":
        backend.store_meta(message_id, MessageMetadata(message_id))
    client.delete(f"{base}:m:a")

    assert ["a"] == [each.message_id for each in backend.check() if each.severity is Severity.ERROR]
    assert ["b"] == claimed(backend)
    assert 0 == backend.get_state_count(State.INCOMING)
