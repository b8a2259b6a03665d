"""Moves: compare and swap, one winner, and what a reader sees meanwhile."""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from itertools import cycle, pairwise

import pytest

from retryspool.conformance.comparing import assert_all_same
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import HOUR, claim, fill, populated, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.errors import MessageNotFoundError, StateConflictError
from retryspool.meta import MetaBackend
from retryspool.model import ZERO_TIME, MessageMetadata, State, utc_now

__all__ = ["MoveTests"]


class MoveTests(MetaSuite):
    @clause("META-14", "META-13")
    def test_a_message_moves_between_any_two_states(self, meta: MetaBackend) -> None:
        steps = [(origin, to) for origin in State for to in State]
        stored = {
            (origin, to): store(meta, f"{origin}-{to}", state=origin, headers={"k": "v"}, attempts=3)
            for origin, to in steps
        }

        for origin, to in steps:
            moved = meta.move_to_state(f"{origin}-{to}", origin, to)
            raised = replace(stored[origin, to], state=to, version=1 if origin is to else 2, updated=moved.updated)
            assert raised == moved == meta.get_meta(moved.id)

        assert {to: sorted(f"{origin}-{to}" for origin in State) for to in State} == populated(meta)

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
    def test_a_message_in_any_other_state_does_not_move(self, meta: MetaBackend) -> None:
        stored = [store(meta, state.label, state=state) for state in State]

        for state in State:
            for wrong in set(State) - {state}:
                with pytest.raises(StateConflictError) as conflict:
                    meta.move_to_state(state.label, wrong, State.HOLD if state is not State.HOLD else State.BOUNCE)
                assert (state, wrong, state.label) == (
                    conflict.value.found,
                    conflict.value.expected,
                    conflict.value.message_id,
                )

        assert {record.id: record for record in stored} == everything(meta)

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
        assert {} == everything(meta)

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

    @clause("META-17")
    def test_what_was_moved_to_active_has_no_lease(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        store(meta, "a", next_retry=clock() + HOUR)

        moved = meta.move_to_state("a", State.INCOMING, State.ACTIVE)

        assert ("", ZERO_TIME, None) == (moved.lease_owner, moved.lease_expires, moved.claimed_from)
        assert ["a"] == [record.id for record in claim(meta)]

    @clause("META-16", "META-17")
    def test_a_move_from_active_to_active_leaves_the_lease(self, meta: MetaBackend) -> None:
        store(meta, "a")
        claimed = claim(meta)

        assert claimed == [meta.move_to_state("a", State.ACTIVE, State.ACTIVE)]
        assert claimed == [meta.get_meta("a")]

    @clause("META-15", level=Level.CONCURRENT)
    def test_of_many_movers_one_wins_each_message(self, meta: MetaBackend, profile: Profile) -> None:
        ids = [f"m{number}" for number in range(max(20, profile.messages // 5))]
        fill(meta, ids)
        targets = [state for state in State if state is not State.INCOMING]

        def move_all(racer: int) -> list[str]:
            won: list[str] = []
            for message_id in ids[racer:] + ids[:racer]:
                with contextlib.suppress(StateConflictError):
                    meta.move_to_state(message_id, State.INCOMING, targets[racer % len(targets)])
                    won.append(message_id)
            return won

        results = race(profile.racers, move_all)

        wins = Counter(message_id for won in results if isinstance(won, list) for message_id in won)
        assert_all_same(dict.fromkeys(ids, 1), wins, "the number of moves of")
        versions = {record.id: record.version for record in everything(meta).values()}
        assert_all_same(dict.fromkeys(ids, 2), versions, "the version of")

    @clause("META-13", "META-7", level=Level.CONCURRENT)
    def test_a_message_on_the_move_is_always_found(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        store(meta, "a", headers={"k": "v"})
        other = open_meta()  # which can't know from its own calls where the message is
        route = [State.INCOMING, State.ACTIVE, State.DEFERRED, State.ACTIVE, State.BOUNCE, State.HOLD, State.INCOMING]
        over = threading.Event()

        def run(racer: int) -> int:
            if racer == 0:
                try:
                    for _, (origin, to) in zip(range(200), cycle(pairwise(route)), strict=False):
                        meta.move_to_state("a", origin, to)
                finally:
                    over.set()
                return 1
            reader = meta if racer == 1 else other
            while not over.is_set():
                assert {"k": "v"} == dict(reader.get_meta("a").headers)
                assert 1 >= sum(found.id == "a" for found in reader.iter_messages(State.HOLD))
            return 1

        assert [1, 1, 1, 1] == race(4, run)
        assert 201 == meta.get_meta("a").version
