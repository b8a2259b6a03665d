"""Batches: many writes, each as its single method would carry it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import claim, fill, forget, populated, record_of, store
from retryspool.conformance.meta_suite import MetaSuite, NewMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.errors import (
    InvalidInputError,
    MessageExistsError,
    MessageNotFoundError,
    StateConflictError,
)
from retryspool.meta import Delete, MetaBackend, Move, Store, Update, Write, WriteResult
from retryspool.model import ZERO_TIME, MessageMetadata, State

__all__ = ["BatchTests"]

_IMPOSSIBLE: dict[str, Write] = {
    "store id": Store(MessageMetadata("../x")),
    "store record": Store(MessageMetadata("x", attempts=-1)),
    "update id": Update(MessageMetadata("..")),
    "update record": Update(MessageMetadata("x", last_error="\0")),
    "move": Move("", State.INCOMING, State.HOLD),
    "delete": Delete("a/b"),
}


def _writes() -> st.SearchStrategy[list[Write]]:
    names = st.sampled_from("ab")
    states = st.sampled_from([State.INCOMING, State.HOLD])
    made = st.builds(MessageMetadata, names, states, st.integers(0, 3))
    versions = st.none() | st.integers(1, 3)
    one = (
        st.builds(Store, made)
        | st.builds(Update, made, versions)
        | st.builds(Move, names, states, states)
        | st.builds(Delete, names, versions)
    )
    return st.lists(one, max_size=8)


class BatchTests(MetaSuite):
    @clause("META-30")
    def test_an_empty_batch_does_nothing(self, meta: MetaBackend) -> None:
        assert [] == meta.apply([])

    @clause("META-30")
    def test_each_write_of_a_batch_has_its_result(self, meta: MetaBackend, clock: Callable[[], datetime]) -> None:
        stored = fill(meta, "abcd", headers={"k": "v"})
        before = clock()

        results = meta.apply(
            [
                Store(MessageMetadata("new", size=1)),
                Update(MessageMetadata("a", state=State.DEFERRED)),
                Move("b", State.INCOMING, State.HOLD),
                Delete("c"),
                Delete("d", if_version=1),
            ]
        )

        after = clock()
        new, updated, moved = map(record_of, results[:3])
        assert [None, None] == results[3:]
        assert all(before <= record.updated <= after for record in (new, updated, moved))
        expected = MessageMetadata("new", size=1, version=1, created=new.created, updated=new.updated)
        assert (expected, new.updated) == (new, new.created)
        expected = MessageMetadata("a", state=State.DEFERRED, version=2, created=stored[0].created)
        assert replace(expected, updated=updated.updated) == updated
        assert replace(stored[1], state=State.HOLD, version=2, updated=moved.updated) == moved
        assert {"new": new, "a": updated, "b": moved} == everything(meta)
        assert {State.INCOMING: ["new"], State.DEFERRED: ["a"], State.HOLD: ["b"]} == populated(meta)

    @clause("META-30")
    def test_what_fails_in_a_batch_stops_nothing_else(self, meta: MetaBackend) -> None:
        fill(meta, "abcd")

        results = meta.apply(
            [
                Store(MessageMetadata("a")),
                Update(MessageMetadata("x")),
                Update(MessageMetadata("b"), if_version=9),
                Update(MessageMetadata("b", size=2), if_version=1),
                Move("x", State.INCOMING, State.HOLD),
                Move("c", State.HOLD, State.INCOMING),
                Delete("x"),
                Delete("d", if_version=2),
                Delete("d"),
            ]
        )

        assert [
            MessageExistsError,
            MessageNotFoundError,
            StateConflictError,
            MessageMetadata,
            MessageNotFoundError,
            StateConflictError,
            MessageNotFoundError,
            StateConflictError,
            type(None),
        ] == _kinds(results)
        assert {"a": 1, "b": 2, "c": 1} == {name: record.version for name, record in everything(meta).items()}

    @clause("META-30", "META-11")
    def test_the_errors_of_a_batch_tell_what_was_found(self, meta: MetaBackend) -> None:
        fill(meta, "ab", state=State.HOLD)

        wrong_version, wrong_state, missing, exists = meta.apply(
            [
                Update(MessageMetadata("a"), if_version=7),
                Move("b", State.INCOMING, State.BOUNCE),
                Delete("x"),
                Store(MessageMetadata("a")),
            ]
        )

        assert isinstance(wrong_version, StateConflictError)
        found = wrong_version.message_id, wrong_version.found, wrong_version.found_version
        assert ("a", State.HOLD, 1, 7) == (*found, wrong_version.expected_version)
        assert isinstance(wrong_state, StateConflictError)
        assert ("b", State.HOLD, State.INCOMING) == (wrong_state.message_id, wrong_state.found, wrong_state.expected)
        assert isinstance(missing, MessageNotFoundError)
        assert isinstance(exists, MessageExistsError)
        assert ("x", "a") == (missing.message_id, exists.message_id)

    @clause("META-31", "META-30")
    def test_the_writes_of_one_message_take_effect_in_order(self, meta: MetaBackend) -> None:
        results = meta.apply(
            [
                Delete("a"),
                Store(MessageMetadata("a")),
                Store(MessageMetadata("a")),
                Update(MessageMetadata("a", size=1), if_version=1),
                Update(MessageMetadata("a", size=2), if_version=1),
                Move("a", State.INCOMING, State.HOLD),
                Move("a", State.INCOMING, State.HOLD),
                Delete("a", if_version=3),
                Move("a", State.HOLD, State.INCOMING),
                Store(MessageMetadata("a", size=7)),
            ]
        )

        assert [
            MessageNotFoundError,
            MessageMetadata,
            MessageExistsError,
            MessageMetadata,
            StateConflictError,
            MessageMetadata,
            StateConflictError,
            type(None),
            MessageNotFoundError,
            MessageMetadata,
        ] == _kinds(results)
        assert {"a": results[-1]} == everything(meta)
        assert (1, 7) == (meta.get_meta("a").version, meta.get_meta("a").size)

    @clause("META-30", "META-31")
    def test_a_batch_does_what_its_writes_do_one_by_one(self, new_meta: NewMeta, profile: Profile, seed: int) -> None:
        batched, single = new_meta(), new_meta()

        def check(writes: list[Write]) -> None:
            results = batched.apply(writes)

            expected = [single.apply([write])[0] for write in writes]
            assert list(map(_timeless, expected)) == list(map(_timeless, results))
            kept = {name: _timeless(record) for name, record in everything(single).items()}
            assert kept == {name: _timeless(record) for name, record in everything(batched).items()}
            for each in (batched, single):
                forget(each, "ab")

        explore(_writes(), check, examples=profile.examples, seed=seed)

    @clause("META-16", "META-30")
    def test_a_move_to_the_same_state_in_a_batch_writes_nothing(self, meta: MetaBackend) -> None:
        stored = store(meta, "a")

        missing, same = meta.apply([Move("x", State.HOLD, State.HOLD), Move("a", State.INCOMING, State.INCOMING)])

        assert (MessageNotFoundError, stored) == (type(missing), same)
        assert stored == meta.get_meta("a")

    @clause("META-17", "META-30")
    def test_a_move_in_a_batch_ends_the_lease(self, meta: MetaBackend) -> None:
        store(meta, "a")
        claim(meta)

        (moved,) = map(record_of, meta.apply([Move("a", State.ACTIVE, State.DEFERRED)]))

        assert ("", ZERO_TIME, None) == (moved.lease_owner, moved.lease_expires, moved.claimed_from)
        assert moved == meta.get_meta("a")

    @pytest.mark.parametrize("impossible", _IMPOSSIBLE)
    @clause("META-32", "META-2", "META-5")
    def test_what_could_never_be_carried_out_stops_the_batch_before_it_begins(
        self, meta: MetaBackend, impossible: str
    ) -> None:
        stored = store(meta, "a")

        with pytest.raises(InvalidInputError):
            meta.apply([Delete("a"), _IMPOSSIBLE[impossible], Store(MessageMetadata("b"))])
        with pytest.raises(InvalidInputError):
            meta.apply([Delete("a"), Store(MessageMetadata("b")), _IMPOSSIBLE[impossible]])

        assert {"a": stored} == everything(meta)

    @clause("META-30")
    def test_a_large_batch_is_done_whole(self, meta: MetaBackend) -> None:
        names = [f"m{number}" for number in range(300)]

        stored = meta.apply([Store(MessageMetadata(name)) for name in names])
        assert names == [record_of(result).id for result in stored]
        assert 300 == meta.list_messages(State.INCOMING).total
        results = meta.apply([Delete(name, if_version=1) for name in names])

        assert [None] * 300 == results
        assert {} == everything(meta)

    @clause("META-30", "META-11", level=Level.CONCURRENT)
    def test_batches_that_race_have_one_winner_for_each_write(self, meta: MetaBackend, profile: Profile) -> None:
        stored = fill(meta, [f"m{number}" for number in range(20)])

        def settle(racer: int) -> list[WriteResult]:
            ordered = stored if racer % 2 else stored[::-1]
            return meta.apply([Update(replace(record, size=racer), if_version=1) for record in ordered])

        results = race(profile.racers, settle)

        answers = [result for each in results if isinstance(each, list) for result in each]
        won = [record for record in answers if isinstance(record, MessageMetadata)]
        assert (profile.racers * 20, 20) == (len(answers), len(won))
        assert (profile.racers - 1) * 20 == sum(isinstance(result, StateConflictError) for result in answers)
        assert {record.id: record for record in won} == everything(meta)


def _kinds(results: Sequence[WriteResult]) -> list[type]:
    return [type(result) for result in results]


def _timeless(result: WriteResult) -> object:
    """Return what is the same at another time: the record but for its times, or the error's kind and text."""
    if isinstance(result, MessageMetadata):
        return replace(result, created=ZERO_TIME, updated=ZERO_TIME)
    return None if result is None else (type(result), str(result))
