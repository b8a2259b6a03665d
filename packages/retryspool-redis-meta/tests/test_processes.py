"""Several processes on one store, killed processes, and a server that dies under load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from processes import Process, processes
from redis import Redis
from redis_indexes import Looked

from retryspool.meta import Store
from retryspool.model import MessageMetadata, State
from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.backend import RedisMetaBackend

WORKS = "redis_works"


def test_what_processes_take_from_one_store_they_take_once(
    backend: RedisMetaBackend, factory: RedisMetaFactory, client: Redis, base: str
) -> None:
    expected = {f"m{number}" for number in range(1000)}
    for start in range(0, 1000, 100):
        backend.apply([Store(MessageMetadata(f"m{number}")) for number in range(start, start + 100)])

    with processes(3) as team:
        for number, each in enumerate(team):
            each.begin(f"{WORKS}:drain", factory.url, factory.prefix, f"w{number}")
        taken: Counter[Any] = Counter()
        for each in team:
            result = each.line()
            assert isinstance(result, list)
            taken.update(result)

    assert expected == set(taken)
    assert {1} == set(taken.values())
    looked = Looked(client, base)
    looked.check()
    assert {} == looked.records


def test_what_a_process_was_told_is_stored_is_there_when_it_is_killed(
    backend: RedisMetaBackend, factory: RedisMetaFactory, client: Redis, base: str
) -> None:
    told: set[object] = set()
    for kill in range(3):
        with processes(2) as team:
            for number, each in enumerate(team):
                each.begin(f"{WORKS}:store_for_ever", factory.url, factory.prefix, f"k{kill}w{number}")
            for _ in range(40):
                told.update(each.line() for each in team)

    stored = {record.id for record in backend.iter_messages(State.INCOMING)}
    assert told <= stored
    assert len(stored) <= len(told) + 3 * 2 * 200
    Looked(client, base).check()


@pytest.mark.timeout(180)
def test_a_server_that_is_killed_under_load_loses_nothing(new_redis: Any) -> None:
    server = new_redis()
    told: set[object] = set()
    outcomes: set[object] = set()

    def listen(team: Sequence[Process], stored: int) -> None:
        for each in team:
            heard = 0
            while heard < stored:
                line = each.line()
                if isinstance(line, list):
                    outcomes.update(line)
                else:
                    told.add(line)
                    heard += 1

    with processes(2) as team:
        for number, each in enumerate(team):
            each.begin(f"{WORKS}:store_through_restarts", server.url, "load", f"w{number}")
        for _ in range(4):
            listen(team, 40)
            server.restart(kill=True)
        while not outcomes:
            listen(team, 1)
        listen(team, 40)

    with RedisMetaFactory(server.url, prefix="load").create() as backend, Redis.from_url(server.url) as client:
        stored = {record.id for record in backend.iter_messages(State.INCOMING)}
        assert told <= stored
        Looked(client, "{load}").check()
        claimed = backend.claim([State.INCOMING], limit=100_000, lease=timedelta(hours=1), owner="w")
        assert stored == {record.id for record in claimed}
