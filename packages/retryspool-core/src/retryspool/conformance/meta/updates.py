"""Replacing and deleting a record, and the version that both go by."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import HOUR, claim, forget, populated, renewed, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.conformance.strategies import records
from retryspool.errors import MessageNotFoundError, StateConflictError
from retryspool.meta import ListOptions, MetaBackend
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["UpdateTests"]


class UpdateTests(MetaSuite):
    # -- what an update leaves -----------------------------------------------------------------------------------------

    @clause("META-8", "META-4")
    def test_an_update_replaces_all_of_a_record(
        self, meta: MetaBackend, open_meta: OpenMeta, profile: Profile, seed: int
    ) -> None:
        other = open_meta()

        def check(pair: tuple[MessageMetadata, MessageMetadata]) -> None:
            first, second = pair
            forget(meta, ["m"])
            stored = meta.store_meta("m", first)

            updated = meta.update_meta("m", second)

            created = stored.created if second.created == ZERO_TIME else second.created
            assert replace(second, version=2, created=created, updated=updated.updated) == updated
            assert stored.updated <= updated.updated
            assert updated == meta.get_meta("m") == other.get_meta("m")
            assert [updated] == list(meta.iter_messages(second.state))

        explore(st.tuples(records(), records()), check, examples=profile.examples, seed=seed)

    @clause("META-8")
    def test_an_update_with_defaults_leaves_nothing_of_what_was_there(self, meta: MetaBackend) -> None:
        lease = {"lease_owner": "w", "lease_expires": NEVER, "claimed_from": State.HOLD}
        texts = {"last_error": "e", "retry_policy_name": "p", "route": "r", "checksum": "c", "headers": {"k": "v"}}
        numbers = {"attempts": 1, "max_attempts": 2, "size": 3, "priority": 4, "deliveries": 5}
        stored = store(meta, "a", state=State.ACTIVE, next_retry=NEVER, **lease, **texts, **numbers)

        updated = meta.update_meta("a", MessageMetadata("a"))

        expected = replace(MessageMetadata("a"), version=2, created=stored.created, updated=updated.updated)
        assert expected == updated == meta.get_meta("a")

    @clause("META-8", "META-13")
    def test_an_update_relocates_a_message(self, meta: MetaBackend) -> None:
        steps = [(origin, to) for origin in State for to in State]
        for origin, to in steps:
            store(meta, f"{origin}-{to}", state=origin)

        for origin, to in steps:
            assert to is meta.update_meta(f"{origin}-{to}", MessageMetadata(f"{origin}-{to}", state=to)).state

        assert {to: sorted(f"{origin}-{to}" for origin in State) for to in State} == populated(meta)

    @clause("META-6")
    def test_an_update_sets_its_time_and_keeps_that_of_creation(
        self, meta: MetaBackend, clock: Callable[[], datetime]
    ) -> None:
        stored = store(meta, "a")
        before = clock()

        kept = meta.update_meta("a", MessageMetadata("a", updated=before - HOUR))
        between = clock()
        given = meta.update_meta("a", MessageMetadata("a", created=before - HOUR, updated=before + HOUR))
        again = meta.update_meta("a", MessageMetadata("a"))

        assert before <= kept.updated <= between <= given.updated <= again.updated <= clock()
        assert [stored.created, before - HOUR, before - HOUR] == [kept.created, given.created, again.created]
        assert again == meta.get_meta("a")

    # -- what isn't there ----------------------------------------------------------------------------------------------

    @clause("META-9", "META-7")
    def test_an_update_creates_nothing(self, meta: MetaBackend) -> None:
        for state in State:
            for if_version in (None, 0, 1):
                with pytest.raises(MessageNotFoundError, match="'a'"):
                    meta.update_meta("a", MessageMetadata("a", state=state), if_version=if_version)

        assert {} == everything(meta)
        assert {} == populated(meta)

    @clause("META-9")
    def test_an_update_brings_nothing_back(self, meta: MetaBackend) -> None:
        stored = store(meta, "a")
        meta.delete_meta("a")

        for if_version in (None, stored.version):
            with pytest.raises(MessageNotFoundError):
                meta.update_meta("a", stored, if_version=if_version)
        assert {} == everything(meta)

    @clause("META-7")
    def test_what_is_missing_is_a_key_error_that_names_it(self, meta: MetaBackend) -> None:
        for missing in (
            lambda: meta.get_meta("nobody"),
            lambda: meta.update_meta("nobody", MessageMetadata("nobody")),
            lambda: meta.delete_meta("nobody"),
            lambda: meta.delete_meta("nobody", if_version=1),
            lambda: meta.move_to_state("nobody", State.INCOMING, State.HOLD),
            lambda: meta.move_to_state("nobody", State.HOLD, State.HOLD),
        ):
            with pytest.raises(MessageNotFoundError) as error:
                missing()
            assert isinstance(error.value, KeyError)
            assert ("nobody", "message 'nobody' does not exist") == (error.value.message_id, str(error.value))

    # -- versions ------------------------------------------------------------------------------------------------------

    @clause("META-10")
    def test_every_write_raises_the_version_by_one(self, meta: MetaBackend) -> None:
        written = [
            store(meta, "a", version=77),
            meta.update_meta("a", MessageMetadata("a")),
            meta.update_meta("a", MessageMetadata("a", version=5), if_version=2),
            meta.move_to_state("a", State.INCOMING, State.DEFERRED),
            *claim(meta),
        ]
        written += renewed(meta, written[-1:])
        written += renewed(meta, written[-1:])
        written.append(meta.move_to_state("a", State.ACTIVE, State.HOLD))
        written.append(meta.update_meta("a", MessageMetadata("a", version=2)))

        assert list(range(1, 10)) == [record.version for record in written]
        assert written[-1] == meta.get_meta("a")
        assert all(earlier.updated <= later.updated for earlier, later in pairwise(written))

    @clause("META-11")
    def test_an_update_of_another_version_changes_nothing(self, meta: MetaBackend) -> None:
        store(meta, "a")
        second = meta.update_meta("a", MessageMetadata("a", state=State.HOLD))

        for stale in (0, 1, 3, 2**63 - 1):
            with pytest.raises(StateConflictError) as conflict:
                meta.update_meta("a", MessageMetadata("a", size=9), if_version=stale)
            found = conflict.value.found, conflict.value.found_version, conflict.value.expected_version
            assert (State.HOLD, 2, stale) == found

        assert {"a": second} == everything(meta)
        assert 3 == meta.update_meta("a", MessageMetadata("a"), if_version=2).version

    @clause("META-11")
    def test_a_delete_of_another_version_changes_nothing(self, meta: MetaBackend) -> None:
        store(meta, "a")
        second = meta.update_meta("a", MessageMetadata("a", state=State.HOLD))

        for stale in (0, 1, 3):
            with pytest.raises(StateConflictError) as conflict:
                meta.delete_meta("a", if_version=stale)
            found = conflict.value.found, conflict.value.found_version, conflict.value.expected_version
            assert (State.HOLD, 2, stale) == found
        assert {"a": second} == everything(meta)

        meta.delete_meta("a", if_version=2)
        assert {} == everything(meta)

    # -- deletions -----------------------------------------------------------------------------------------------------

    @clause("META-12", "META-7")
    def test_what_is_deleted_is_gone_from_everywhere(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        other = open_meta()
        for state in State:
            store(meta, state.label, state=state)
        kept = store(meta, "kept", state=State.ARCHIVED)

        for state in State:
            meta.delete_meta(state.label)

        for each in (meta, other):
            for state in State:
                with pytest.raises(MessageNotFoundError, match=f"'{state.label}'"):
                    each.get_meta(state.label)
                with pytest.raises(MessageNotFoundError, match=f"'{state.label}'"):
                    each.delete_meta(state.label)
            assert {State.ARCHIVED: ["kept"]} == populated(each)
            assert [] == claim(each, *(state for state in State if state not in {State.ACTIVE, State.ARCHIVED}))
            options = ListOptions(since=kept.created - timedelta(days=9))
            assert 1 == sum(each.list_messages(state, options).total for state in State)

    @clause("META-12")
    def test_a_message_that_was_deleted_can_be_stored_again(self, meta: MetaBackend) -> None:
        store(meta, "a", headers={"k": "v"}, route="r", next_retry=NEVER)
        meta.update_meta("a", MessageMetadata("a", state=State.HOLD))
        meta.delete_meta("a")

        again = store(meta, "a")

        assert replace(MessageMetadata("a"), version=1, created=again.created, updated=again.updated) == again
        assert {"a": again} == everything(meta)
        assert {State.INCOMING: ["a"]} == populated(meta)
        assert ["a"] == [record.id for record in claim(meta)]

    # -- races ---------------------------------------------------------------------------------------------------------

    @clause("META-11", level=Level.CONCURRENT)
    def test_of_many_updates_of_one_version_one_wins(self, meta: MetaBackend, profile: Profile) -> None:
        current = store(meta, "a")

        for _ in range(5):

            def run(racer: int, version: int = current.version) -> MessageMetadata:
                return meta.update_meta("a", MessageMetadata("a", size=racer), if_version=version)

            results = race(profile.racers, run)

            current = meta.get_meta("a")
            assert [current] == [result for result in results if isinstance(result, MessageMetadata)]
            assert profile.racers - 1 == sum(isinstance(result, StateConflictError) for result in results)
        assert 6 == current.version

    @clause("META-11", level=Level.CONCURRENT)
    def test_a_deletion_and_an_update_of_one_version_never_both_win(self, meta: MetaBackend, profile: Profile) -> None:
        for number in range(profile.messages // 10):
            name = f"m{number}"
            store(meta, name)

            def run(racer: int, name: str = name) -> bool:
                if racer % 2:
                    meta.delete_meta(name, if_version=1)
                else:
                    meta.update_meta(name, MessageMetadata(name), if_version=1)
                return True

            assert 1 == sum(result is True for result in race(4, run))

    @clause("META-10", level=Level.CONCURRENT)
    def test_no_update_without_a_version_is_lost(self, meta: MetaBackend, profile: Profile) -> None:
        store(meta, "a")
        updates = 5

        results = race(
            profile.racers,
            lambda racer: [meta.update_meta("a", MessageMetadata("a", size=racer)).version for _ in range(updates)],
        )

        versions = sorted(version for result in results if isinstance(result, list) for version in result)
        assert list(range(2, 2 + updates * profile.racers)) == versions

    @clause("META-8", "META-7", level=Level.CONCURRENT)
    def test_no_reader_sees_a_mix_of_two_updates(
        self, meta: MetaBackend, open_meta: OpenMeta, profile: Profile
    ) -> None:
        def made(number: int) -> MessageMetadata:
            state = State.HOLD if number % 2 else State.DEFERRED
            text = f"{number} " * (1 + number % 50)
            return MessageMetadata("a", state=state, size=number, last_error=text, headers={"n": text})

        meta.store_meta("a", made(0))
        other = open_meta()
        over = threading.Event()

        def run(racer: int) -> int:
            if racer == 0:
                try:
                    for number in range(1, 2 * profile.messages):
                        meta.update_meta("a", made(number))
                finally:
                    over.set()
                return 1
            reader = meta if racer == 1 else other
            while not over.is_set():
                for read in (reader.get_meta("a"), *reader.iter_messages(State.HOLD)):
                    whole = made(read.size)
                    assert (whole.state, whole.last_error) == (read.state, read.last_error)
                    assert dict(whole.headers) == dict(read.headers)
                    assert read.size + 1 == read.version
            return 1

        assert [1, 1, 1] == race(3, run)
