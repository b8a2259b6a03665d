"""Moves: compare and swap, one winner, and what a reader sees meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from itertools import cycle, pairwise

import pytest

from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta_suite import MetaSuite
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.errors import MessageNotFoundError, StateConflictError
from retryspool.meta import MetaBackend
from retryspool.model import ZERO_TIME, MessageMetadata, State, utc_now


class MoveTests(MetaSuite):
    @pytest.mark.parametrize("to", State, ids=str)
    @pytest.mark.parametrize("origin", State, ids=str)
    @clause("META-14")
    def test_a_message_moves_between_any_two_states(self, meta: MetaBackend, origin: State, to: State) -> None:
        meta.store_meta("a", MessageMetadata("a", state=origin, headers={"k": "v"}, attempts=3))

        moved = meta.move_to_state("a", origin, to)

        assert (to, {"k": "v"}, 3) == (moved.state, dict(moved.headers), moved.attempts)
        assert moved == meta.get_meta("a")
        assert {to: ("a",)} == {state: r.message_ids for state in State if (r := meta.list_messages(state)).total}

    @clause("META-10")
    def test_a_move_writes_version_and_time(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        stored = meta.store_meta("a", MessageMetadata("a"))
        before = clock()

        moved = meta.move_to_state("a", State.INCOMING, State.HOLD)

        assert 2 == moved.version
        assert before <= moved.updated <= clock()
        assert stored.created == moved.created

    @clause("META-16")
    def test_a_move_to_the_same_state_writes_nothing(self, meta: MetaBackend) -> None:
        stored = meta.store_meta("a", MessageMetadata("a"))

        assert stored == meta.move_to_state("a", State.INCOMING, State.INCOMING)
        assert stored == meta.get_meta("a")

    @clause("META-16")
    def test_a_move_to_the_same_state_asks_whether_the_message_is_there(self, meta: MetaBackend) -> None:
        with pytest.raises(MessageNotFoundError):
            meta.move_to_state("a", State.INCOMING, State.INCOMING)

        meta.store_meta("a", MessageMetadata("a", state=State.HOLD))
        with pytest.raises(StateConflictError):
            meta.move_to_state("a", State.INCOMING, State.INCOMING)

    @clause("META-14")
    def test_a_move_from_the_wrong_state_tells_the_right_one(self, meta: MetaBackend) -> None:
        stored = meta.store_meta("a", MessageMetadata("a", state=State.DEFERRED))

        with pytest.raises(StateConflictError, match="message 'a' is 'deferred', expected 'incoming'") as conflict:
            meta.move_to_state("a", State.INCOMING, State.HOLD)

        assert (State.DEFERRED, State.INCOMING) == (conflict.value.found, conflict.value.expected)
        assert stored == meta.get_meta("a")

    @clause("META-14")
    def test_a_second_move_from_the_same_state_conflicts(self, meta: MetaBackend) -> None:
        meta.store_meta("a", MessageMetadata("a"))
        meta.move_to_state("a", State.INCOMING, State.HOLD)

        with pytest.raises(StateConflictError):
            meta.move_to_state("a", State.INCOMING, State.HOLD)

    @clause("META-7")
    def test_a_message_that_is_not_there_cannot_move(self, meta: MetaBackend) -> None:
        with pytest.raises(MessageNotFoundError, match="'a'"):
            meta.move_to_state("a", State.INCOMING, State.HOLD)
        assert 0 == meta.list_messages(State.HOLD).total

    @clause("META-17")
    def test_a_lease_ends_with_the_state_that_it_was_for(self, meta: MetaBackend) -> None:
        active = MessageMetadata(
            "a", state=State.ACTIVE, lease_owner="w", lease_expires=utc_now(), claimed_from=State.DEFERRED, deliveries=2
        )
        meta.store_meta("a", active)

        moved = meta.move_to_state("a", State.ACTIVE, State.DEFERRED)

        assert ("", ZERO_TIME, None, 2) == (
            moved.lease_owner,
            moved.lease_expires,
            moved.claimed_from,
            moved.deliveries,
        )
        assert moved == meta.get_meta("a")

    @clause("META-15", level=Level.CONCURRENT)
    def test_of_many_movers_one_wins_each_message(self, meta: MetaBackend, profile: Profile) -> None:
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

        results = race(profile.racers, move_all)

        wins = Counter(message_id for won in results if isinstance(won, list) for message_id in won)
        assert dict.fromkeys(ids, 1) == wins
        assert {2} == {meta.get_meta(message_id).version for message_id in ids}
        assert len(ids) == sum(meta.list_messages(state).total for state in State)

    @clause("META-11", level=Level.CONCURRENT)
    def test_of_many_updates_of_one_version_one_wins(self, meta: MetaBackend) -> None:
        meta.store_meta("a", MessageMetadata("a"))

        results = race(32, lambda racer: meta.update_meta("a", MessageMetadata("a", size=racer), if_version=1))

        winners = [result for result in results if isinstance(result, MessageMetadata)]
        assert [meta.get_meta("a")] == winners
        assert 31 == sum(isinstance(result, StateConflictError) for result in results)

    @clause("META-3", level=Level.CONCURRENT)
    def test_of_many_stores_of_one_id_one_wins(self, meta: MetaBackend) -> None:
        results = race(
            32, lambda racer: meta.store_meta("a", MessageMetadata("a", state=list(State)[racer % 6], size=racer))
        )

        winners = [result for result in results if isinstance(result, MessageMetadata)]
        assert [meta.get_meta("a")] == winners
        assert 1 == sum(meta.list_messages(state).total for state in State)

    @clause("META-10", level=Level.CONCURRENT)
    def test_no_update_without_a_version_is_lost(self, meta: MetaBackend) -> None:
        meta.store_meta("a", MessageMetadata("a"))

        results = race(
            16, lambda racer: [meta.update_meta("a", MessageMetadata("a", size=racer)).version for _ in range(5)]
        )

        versions = sorted(version for result in results if isinstance(result, list) for version in result)
        assert list(range(2, 82)) == versions

    @clause("META-13", level=Level.CONCURRENT)
    def test_a_message_on_the_move_is_always_found(self, meta: MetaBackend) -> None:
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
