"""A store that is destroyed leaves no key behind, and others' keys alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from redis import Redis

from retryspool import deadline
from retryspool.errors import BackendError, DeadlineExceededError
from retryspool.meta import Store
from retryspool.model import MessageMetadata, State, utc_now
from retryspool_redis_meta import RedisMetaFactory, removal

HOUR = timedelta(hours=1)


def keys_of(client: Redis, factory: RedisMetaFactory) -> set[bytes]:
    """Return what begins as a prefix does, its braces or not: those of others that begin alike too."""
    return {key for key in client.scan_iter(count=1000) if key.lstrip(b"{").startswith(factory.prefix.encode())}


def fill(factory: RedisMetaFactory, client: Redis, count: int = 10) -> None:
    """Have messages in each state, of several routes, claimed, damaged, and a change that was waited for."""
    with factory.create() as backend:
        for state in State:
            records = [
                MessageMetadata(f"{state.name}{n}", state=state, route=f"r{n % 3}", priority=n % 2)
                for n in range(count)
            ]
            results = backend.apply([Store(record) for record in records])
            assert [record.id for record in records] == [getattr(result, "id", result) for result in results]
        backend.claim([State.INCOMING], limit=3, lease=HOUR, owner="w")
        client.hset(f"{{{factory.prefix}}}:m:{State.DEFERRED.name}1", "head", "nonsense")
        backend.store_meta("later", MessageMetadata("later", next_retry=utc_now() + HOUR))
        backend.claim([State.DEFERRED], limit=1000, lease=HOUR, owner="w")  # it comes across the damaged one
        backend.set_note("pause", "x")
        assert backend.wait_for_change(10)


def test_nothing_of_a_store_remains(factory: RedisMetaFactory, client: Redis) -> None:
    fill(factory, client)
    base = f"{{{factory.prefix}}}".encode()
    kinds = {key.removeprefix(base + b":").partition(b":")[0] for key in keys_of(client, factory)}
    assert {b"m", b"ids", b"lane", b"heads", b"counts", b"damaged", b"notes", b"changes", b"format"} == kinds

    factory.destroy()

    assert set() == keys_of(client, factory)


@pytest.mark.parametrize("destroyed", ["", "a", "ab", "a:b"])
def test_stores_whose_prefixes_begin_alike_are_left_alone(
    factory: RedisMetaFactory, client: Redis, destroyed: str
) -> None:
    stores = {name: replace(factory, prefix=f"{factory.prefix}{name}") for name in ("", "a", "ab", "a:b")}
    for store in stores.values():
        fill(store, client)
    strangers = {f"{factory.prefix}a:x", f"{factory.prefix}:a", f"{{{factory.prefix}a}}x"}
    client.mset(dict.fromkeys(strangers, "x"))
    before = keys_of(client, factory)

    stores[destroyed].destroy()

    removed = f"{{{factory.prefix}{destroyed}}}:".encode()
    assert {key for key in before if not key.startswith(removed)} == keys_of(client, factory)
    for store in stores.values():
        store.destroy()
    client.delete(*strangers)


def test_more_keys_than_one_step_removes_are_removed(
    factory: RedisMetaFactory, client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "_AT_ONCE", 7)
    fill(factory, client, count=50)

    factory.destroy()

    assert set() == keys_of(client, factory)


def test_destroying_a_store_that_is_not_there_makes_none(factory: RedisMetaFactory, client: Redis) -> None:
    factory.destroy()

    assert set() == keys_of(client, factory)


def test_a_store_whose_removal_was_cut_short_is_removed_by_the_next(factory: RedisMetaFactory, client: Redis) -> None:
    fill(factory, client)

    with deadline(0), pytest.raises(DeadlineExceededError):
        factory.destroy()
    client.delete(f"{{{factory.prefix}}}:counts", f"{{{factory.prefix}}}:ids:2")
    factory.destroy()

    assert set() == keys_of(client, factory)


def test_a_store_of_a_later_format_can_be_destroyed(factory: RedisMetaFactory, client: Redis) -> None:
    fill(factory, client)
    client.set(f"{{{factory.prefix}}}:format", 99)
    with pytest.raises(BackendError, match="format 99"):
        factory.create()

    factory.destroy()

    assert set() == keys_of(client, factory)
