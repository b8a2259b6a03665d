"""move_to_state, a compare and swap: META 4; and what readers see meanwhile: META 2."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from itertools import cycle, pairwise

import pytest
from racing import race

from retryspool.errors import MessageNotFoundError, StateConflictError
from retryspool.meta import MetaBackend
from retryspool.model import ZERO_TIME, MessageMetadata, State, utc_now


@pytest.mark.parametrize("to", State, ids=str)
@pytest.mark.parametrize("origin", State, ids=str)
def test_a_message_moves_between_any_two_states(meta: MetaBackend, origin: State, to: State) -> None:
    meta.store_meta("a", MessageMetadata("a", state=origin, headers={"k": "v"}, attempts=3))

    moved = meta.move_to_state("a", origin, to)

    assert (to, {"k": "v"}, 3) == (moved.state, dict(moved.headers), moved.attempts)
    assert moved == meta.get_meta("a")
    assert {to: ("a",)} == {state: r.message_ids for state in State if (r := meta.list_messages(state)).total}


def test_a_move_writes_version_and_time(meta: MetaBackend) -> None:
    stored = meta.store_meta("a", MessageMetadata("a"))
    before = utc_now()

    moved = meta.move_to_state("a", State.INCOMING, State.HOLD)

    assert 2 == moved.version
    assert before <= moved.updated <= utc_now()
    assert stored.created == moved.created


def test_a_move_to_the_same_state_writes_nothing(meta: MetaBackend) -> None:
    stored = meta.store_meta("a", MessageMetadata("a"))

    assert stored == meta.move_to_state("a", State.INCOMING, State.INCOMING)
    assert stored == meta.get_meta("a")


def test_a_move_to_the_same_state_asks_whether_the_message_is_there(meta: MetaBackend) -> None:
    with pytest.raises(MessageNotFoundError):
        meta.move_to_state("a", State.INCOMING, State.INCOMING)

    meta.store_meta("a", MessageMetadata("a", state=State.HOLD))
    with pytest.raises(StateConflictError):
        meta.move_to_state("a", State.INCOMING, State.INCOMING)


def test_a_move_from_the_wrong_state_tells_the_right_one(meta: MetaBackend) -> None:
    stored = meta.store_meta("a", MessageMetadata("a", state=State.DEFERRED))

    with pytest.raises(StateConflictError, match="message 'a' is 'deferred', expected 'incoming'") as conflict:
        meta.move_to_state("a", State.INCOMING, State.HOLD)

    assert (State.DEFERRED, State.INCOMING) == (conflict.value.found, conflict.value.expected)
    assert stored == meta.get_meta("a")


def test_a_second_move_from_the_same_state_conflicts(meta: MetaBackend) -> None:
    meta.store_meta("a", MessageMetadata("a"))
    meta.move_to_state("a", State.INCOMING, State.HOLD)

    with pytest.raises(StateConflictError):
        meta.move_to_state("a", State.INCOMING, State.HOLD)


def test_a_message_that_is_not_there_cannot_move(meta: MetaBackend) -> None:
    with pytest.raises(MessageNotFoundError, match="'a'"):
        meta.move_to_state("a", State.INCOMING, State.HOLD)
    assert 0 == meta.list_messages(State.HOLD).total


def test_a_lease_ends_with_the_state_that_it_was_for(meta: MetaBackend) -> None:
    active = MessageMetadata(
        "a", state=State.ACTIVE, lease_owner="w", lease_expires=utc_now(), claimed_from=State.DEFERRED, deliveries=2
    )
    meta.store_meta("a", active)

    moved = meta.move_to_state("a", State.ACTIVE, State.DEFERRED)

    assert ("", ZERO_TIME, None, 2) == (moved.lease_owner, moved.lease_expires, moved.claimed_from, moved.deliveries)
    assert moved == meta.get_meta("a")


def test_of_64_movers_one_wins_each_message(meta: MetaBackend) -> None:
    ids = [f"m{number}" for number in range(40)]
    for message_id in ids:
        meta.store_meta(message_id, MessageMetadata(message_id))
    targets = [state for state in State if state is not State.INCOMING]

    def move_all(racer: int) -> list[str]:
        won: list[str] = []
        for message_id in ids[racer % 40 :] + ids[: racer % 40]:
            with contextlib.suppress(StateConflictError):
                meta.move_to_state(message_id, State.INCOMING, targets[racer % len(targets)])
                won.append(message_id)
        return won

    results = race(64, move_all)

    wins = Counter(message_id for won in results if isinstance(won, list) for message_id in won)
    assert dict.fromkeys(ids, 1) == wins
    assert {2} == {meta.get_meta(message_id).version for message_id in ids}
    assert len(ids) == sum(meta.list_messages(state).total for state in State)


def test_of_many_updates_of_one_version_one_wins(meta: MetaBackend) -> None:
    meta.store_meta("a", MessageMetadata("a"))

    results = race(32, lambda racer: meta.update_meta("a", MessageMetadata("a", size=racer), if_version=1))

    winners = [result for result in results if isinstance(result, MessageMetadata)]
    assert [meta.get_meta("a")] == winners
    assert 31 == sum(isinstance(result, StateConflictError) for result in results)


def test_of_many_stores_of_one_id_one_wins(meta: MetaBackend) -> None:
    results = race(
        32, lambda racer: meta.store_meta("a", MessageMetadata("a", state=list(State)[racer % 6], size=racer))
    )

    winners = [result for result in results if isinstance(result, MessageMetadata)]
    assert [meta.get_meta("a")] == winners
    assert 1 == sum(meta.list_messages(state).total for state in State)


def test_no_update_without_a_version_is_lost(meta: MetaBackend) -> None:
    meta.store_meta("a", MessageMetadata("a"))

    results = race(
        16, lambda racer: [meta.update_meta("a", MessageMetadata("a", size=racer)).version for _ in range(5)]
    )

    versions = sorted(version for result in results if isinstance(result, list) for version in result)
    assert list(range(2, 82)) == versions


def test_a_message_on_the_move_is_always_found(meta: MetaBackend) -> None:
    meta.store_meta("a", MessageMetadata("a", headers={"k": "v"}))
    route = [State.INCOMING, State.ACTIVE, State.DEFERRED, State.ACTIVE, State.BOUNCE, State.HOLD, State.INCOMING]
    moving = threading.Event()
    moving.set()

    def run(racer: int) -> int:
        if racer == 0:
            try:
                for _, (origin, to) in zip(range(200), cycle(pairwise(route)), strict=False):
                    meta.move_to_state("a", origin, to)
            finally:
                moving.clear()
            return 200
        seen = 0
        while moving.is_set():
            record = meta.get_meta("a")
            assert {"k": "v"} == dict(record.headers)
            assert 1 >= sum(found.id == "a" for found in meta.iter_messages(State.HOLD))
            seen += 1
        return seen

    results = race(4, run)

    assert [] == [result for result in results if not isinstance(result, int)]
    assert 201 == meta.get_meta("a").version
