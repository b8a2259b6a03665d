"""What lies in Redis beside the records: counts, pages and lanes say what the records say, after whatever was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis_indexes import Looked

from retryspool.errors import MessageExistsError, StateConflictError
from retryspool.meta import Delete, Move, Store, Update, Write
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State, utc_now
from retryspool_redis_meta import RedisMetaFactory
from retryspool_redis_meta.backend import RedisMetaBackend

HOUR = timedelta(hours=1)


IDS = [f"m{number}" for number in range(8)]
ids = st.sampled_from(IDS)
dues = st.sampled_from([ZERO_TIME, NEVER, NEVER - HOUR, utc_now() - HOUR, utc_now() + HOUR])
metadata = st.builds(
    MessageMetadata,
    id=ids,
    state=st.sampled_from(State),
    next_retry=dues,
    lease_expires=dues,
    priority=st.sampled_from([0, 5, 10, 2**63 - 1]),
    route=st.sampled_from(["", "r", "a:b"]),
    claimed_from=st.none() | st.sampled_from(State),
)
writes = st.one_of(
    st.builds(Store, metadata),
    st.builds(Update, metadata),
    st.builds(Move, ids, st.sampled_from(State), st.sampled_from(State)),
    st.builds(Delete, ids),
)
claims = st.tuples(
    st.lists(st.sampled_from([state for state in State if state is not State.ACTIVE]), max_size=3),
    st.integers(1, 5),
    st.lists(st.sampled_from(["", "r", "a:b"]), max_size=2),
    st.booleans(),
)
actions = st.lists(st.one_of(st.lists(writes, min_size=1, max_size=6), claims), max_size=12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(actions)
def test_indexes_say_what_the_records_say(
    client: Redis, factory: RedisMetaFactory, done: Sequence[list[Write] | tuple[list[State], int, list[str], bool]]
) -> None:
    inside = replace(factory, prefix=f"{factory.prefix}{uuid4().hex}")
    with inside.create() as backend:
        for action in done:
            if isinstance(action, list):
                backend.apply(action)
            else:
                sources, limit, excluded, oldest_first = action
                claimed = backend.claim(
                    sources, limit=limit, lease=HOUR, owner="w", exclude_routes=excluded, oldest_first=oldest_first
                )
                backend.renew(claimed[:1], lease=HOUR)
            Looked(client, f"{{{inside.prefix}}}").check()


def fill(backend: RedisMetaBackend, message_ids: Sequence[str], **fields: object) -> None:
    for start in range(0, len(message_ids), 100):
        batch = message_ids[start : start + 100]
        results = backend.apply([Store(replace(MessageMetadata(each), **fields)) for each in batch])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert not [each for each in results if isinstance(each, Exception)]


def test_claims_renewals_and_results_keep_the_indexes(backend: RedisMetaBackend, client: Redis, base: str) -> None:
    for number in range(12):
        message_id = f"m{number:02}"
        backend.store_meta(message_id, MessageMetadata(message_id, priority=number % 2, route=f"r{number % 3}"))

    claimed = backend.claim([State.INCOMING], limit=7, lease=HOUR, owner="w", exclude_routes=["r2"])
    Looked(client, base).check()
    assert 7 == len(claimed)
    renewed = [each for each in backend.renew(claimed[:3], lease=2 * HOUR) if isinstance(each, MessageMetadata)]
    Looked(client, base).check()
    backend.apply(
        [
            Delete(renewed[0].id, renewed[0].version),
            Update(replace(renewed[1], state=State.DEFERRED, next_retry=utc_now() + HOUR), renewed[1].version),
            Move(renewed[2].id, State.ACTIVE, State.HOLD),
        ]
    )
    Looked(client, base).check()


@pytest.mark.parametrize("order", ["rising", "falling", "mixed"])
def test_pages_split_and_merge_in_any_order(backend: RedisMetaBackend, client: Redis, base: str, order: str) -> None:
    message_ids = [f"m{number:04}" for number in range(700)]
    ordered = {
        "rising": message_ids,
        "falling": message_ids[::-1],
        "mixed": sorted(message_ids, key=lambda each: each[::-1]),
    }[order]

    fill(backend, ordered)
    looked = Looked(client, base)
    looked.check()
    assert 700 / 64 <= len(looked.pages[0]) <= 700 / 30

    gone = [each for number, each in enumerate(ordered) if number % 20]
    assert {None} == set(backend.apply([Delete(each) for each in gone]))
    looked = Looked(client, base)
    looked.check()
    assert len(looked.pages[0]) <= 12
    assert [each for each in message_ids if each not in set(gone)] == [
        record.id for record in backend.iter_messages(State.INCOMING, 7)
    ]

    backend.apply([Delete(each) for each in ordered])
    assert {f"{base}:counts", f"{base}:changes", f"{base}:format"} == set(Looked(client, base).keys)


def test_all_keys_of_a_store_lie_in_one_slot(backend: RedisMetaBackend, client: Redis, base: str) -> None:
    fill(backend, ["a", "b{c}"[:1], "c"], route="x{y}z")
    backend.claim([State.INCOMING], limit=1, lease=HOUR, owner="w")

    assert all(key.startswith(f"{base}:") for key in Looked(client, base).keys)


# -- exactness ---------------------------------------------------------------------------------------------------------


def test_a_number_of_63_bits_is_raised_by_one_exactly(backend: RedisMetaBackend) -> None:
    for deliveries in (
        0,
        9,
        99,
        999_999_999_999_999,
        2**53,
        2**53 + 1,
        10**18 - 1,
        2**62 - 1,
        1_999_999_999_999_999_999,
    ):
        backend.store_meta("a", MessageMetadata("a", deliveries=deliveries))
        (claimed,) = backend.claim([State.INCOMING], limit=1, lease=HOUR, owner="w")

        assert deliveries + 1 == claimed.deliveries
        backend.delete_meta("a")


def test_priorities_of_63_bits_are_in_order(backend: RedisMetaBackend) -> None:
    priorities = [2**63 - 1, 2**63 - 2, 2**53 + 1, 2**53, 100, 10, 9, 1, 0]
    for number, priority in enumerate(priorities):
        backend.store_meta(f"m{number}", MessageMetadata(f"m{number}", priority=priority))

    claimed = backend.claim([State.INCOMING], limit=20, lease=HOUR, owner="w")

    assert sorted(priorities) == [record.priority for record in claimed]


def test_times_that_differ_by_a_microsecond_are_in_order(backend: RedisMetaBackend) -> None:
    due = utc_now() - HOUR
    dues = [ZERO_TIME + timedelta(microseconds=1), ZERO_TIME, due + timedelta(microseconds=1), due]
    for number, each in enumerate(dues):
        backend.store_meta(f"m{number}", MessageMetadata(f"m{number}", next_retry=each))

    assert ZERO_TIME == backend.get_oldest_due(State.INCOMING)
    claimed = backend.claim([State.INCOMING], limit=20, lease=HOUR, owner="w")
    assert sorted(dues) == [record.next_retry for record in claimed]


@pytest.mark.parametrize("oldest_first", [False, True], ids=["by priority", "by age"])
def test_messages_of_many_routes_are_claimed_in_one_order(backend: RedisMetaBackend, oldest_first: bool) -> None:  # noqa: FBT001
    now = utc_now()
    stored = [
        backend.store_meta(
            f"m{number:03}",
            MessageMetadata(
                f"m{number:03}",
                route=f"r{number * 7 % 5}",
                priority=number % 3,
                next_retry=now - timedelta(seconds=number * 11 % 17),
            ),
        )
        for number in range(150)
    ]
    expected = sorted(stored, key=lambda r: (0 if oldest_first else r.priority, r.next_retry, r.id))

    claimed = [
        record.id
        for limit in (1, 2, 30, 17, 100)
        for record in backend.claim([State.INCOMING], limit=limit, lease=HOUR, owner="w", oldest_first=oldest_first)
    ]

    assert [record.id for record in expected] == claimed


# -- what it costs -----------------------------------------------------------------------------------------------------


def commands_of(client: Redis, work: Any) -> Counter[str]:
    """Return the commands that the server carried out meanwhile, those in scripts too; nobody else may be at work."""
    any_client: Any = client
    any_client.config_resetstat()
    work()
    stats = any_client.info("commandstats")
    return Counter({name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()})


@pytest.mark.parametrize("oldest_first", [False, True], ids=["by priority", "by age"])
def test_a_claim_costs_the_same_whatever_is_not_due_or_excluded(new_redis: Any, oldest_first: bool) -> None:  # noqa: FBT001
    server = new_redis(settings={"appendonly": "no"})
    factory = RedisMetaFactory(server.url)
    costs: list[Counter[str]] = []
    with Redis.from_url(server.url) as client:
        for others in (10, 3000):
            with factory.in_namespace(f"with{others}").create() as backend:
                for number in range(10):
                    due = utc_now() - HOUR * number
                    record = MessageMetadata(f"due{number}", State.DEFERRED, priority=number % 3, next_retry=due)
                    backend.store_meta(record.id, record)
                fill(backend, [f"next{number}" for number in range(others)], state=State.DEFERRED, priority=7)
                fill(backend, [f"later{number}" for number in range(others)], next_retry=utc_now() + HOUR)
                fill(backend, [f"never{number}" for number in range(others)], next_retry=NEVER, state=State.DEFERRED)
                fill(backend, [f"dead{number}" for number in range(others)], route="dead", state=State.DEFERRED)
                fill(backend, [f"held{number}" for number in range(others)], state=State.HOLD)

                def claim(backend: RedisMetaBackend = backend) -> None:
                    found = backend.claim(
                        [State.INCOMING, State.DEFERRED],
                        limit=10,
                        lease=HOUR,
                        owner="w",
                        exclude_routes=["dead"],
                        oldest_first=oldest_first,
                    )
                    assert 10 == len(found)

                costs.append(commands_of(client, claim))

    few, many = costs
    assert 1 == few["evalsha"] == many["evalsha"]
    assert sum(few.values()) * 1.2 >= sum(many.values()) > 50


def test_a_write_is_one_command_and_so_is_a_batch(new_redis: Any) -> None:
    server = new_redis(settings={"appendonly": "no"})
    with RedisMetaFactory(server.url).create() as backend, Redis.from_url(server.url) as client:
        backend.store_meta("x", MessageMetadata("x"))  # the connection is there, the script is known
        calls = {
            "store": lambda: backend.store_meta("a", MessageMetadata("a")),
            "move": lambda: backend.move_to_state("a", State.INCOMING, State.HOLD),
            "apply": lambda: fill(backend, [f"m{number}" for number in range(100)]),
            "delete": lambda: backend.delete_meta("a"),
        }

        for name, call in calls.items():
            commands = commands_of(client, call)
            assert 1 == commands["evalsha"], name
            assert 0 == commands["eval"] + commands["multi"] + commands["ping"], name


def test_a_message_takes_200_bytes_beyond_its_record_at_most(new_redis: Any) -> None:
    server = new_redis(settings={"appendonly": "no"})
    with RedisMetaFactory(server.url).create() as backend, Redis.from_url(server.url) as raw:
        client: Any = raw
        # More than fill a table of the server's, which then is twice as large as it need be: what costs most.
        message_ids = [f"0193f1c0-5a3e-7{number % 4096:03x}-9{number:011x}" for number in range(17_000)]
        fill(backend, message_ids, headers={"to": "https://example.com/hook"}, size=1024)
        both = client.info("memory")["used_memory"]
        client.delete(*(key for key in client.scan_iter(count=1000) if b":m:" not in key))
        records_alone = client.info("memory")["used_memory"]

    assert (both - records_alone) / 17_000 <= 200


# -- scripts -----------------------------------------------------------------------------------------------------------


def test_scripts_that_were_flushed_are_loaded_again(new_redis: Any) -> None:
    server = new_redis()
    with RedisMetaFactory(server.url).create() as backend, Redis.from_url(server.url) as raw:
        client: Any = raw
        calls = [
            lambda: backend.store_meta("a", MessageMetadata("a")),
            lambda: backend.get_meta("a"),
            lambda: backend.claim([State.INCOMING], limit=1, lease=HOUR, owner="w"),
            lambda: list(backend.iter_messages(State.ACTIVE)),
            lambda: backend.list_messages(State.ACTIVE),
            lambda: backend.get_oldest_due(State.ACTIVE),
            lambda: backend.apply([Delete("a"), Store(MessageMetadata("a"))]),
        ]
        for call in calls:
            client.script_flush()
            call()

        assert 1 == backend.get_meta("a").version


def test_a_write_that_failed_in_a_batch_leaves_the_others_done(
    backend: RedisMetaBackend, client: Redis, base: str
) -> None:
    any_client: Any = client
    any_client.set(f"{base}:lane:0:7:-", "this is no zset")

    results = backend.apply(
        [
            Store(MessageMetadata("a")),
            Store(MessageMetadata("b", priority=7)),
            Store(MessageMetadata("a")),
            Move("a", State.HOLD, State.INCOMING),
        ]
    )

    assert ["MessageMetadata", "BackendError", "MessageExistsError", "StateConflictError"] == [
        type(each).__name__ for each in results
    ]
    assert isinstance(results[2], MessageExistsError)
    assert isinstance(results[3], StateConflictError)
    assert State.INCOMING is results[3].found
