"""Opening again, closing, and sharing an instance between threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest

from retryspool.conformance.finishing import Running, finish
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import HOUR, claim, fill, ids, populated, record_of, renewed, store
from retryspool.conformance.meta.calls import CALLS, COUNTS, SEED
from retryspool.conformance.meta_suite import MetaSuite, NewMeta, OpenMeta, everything, needs_counts
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.errors import BackendClosedError, MessageExistsError, MessageNotFoundError, StateConflictError
from retryspool.meta import Delete, MetaBackend, Move, Store, Update
from retryspool.model import MessageMetadata, State

__all__ = ["LifetimeTests"]


class LifetimeTests(MetaSuite):
    # -- closing -------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("call", CALLS)
    @clause("META-42")
    def test_a_closed_backend_refuses_every_call(self, meta: MetaBackend, open_meta: OpenMeta, call: str) -> None:
        stored = {record.id: meta.store_meta(record.id, record) for record in SEED}
        meta.close()

        with pytest.raises(BackendClosedError):
            finish(lambda: CALLS[call](meta))

        assert stored == everything(open_meta())

    @clause("META-42")
    def test_a_closed_backend_counts_nothing(self, meta: MetaBackend) -> None:
        counter = needs_counts(meta)
        meta.close()

        for count in COUNTS.values():
            with pytest.raises(BackendClosedError):
                count(counter)

    @clause("META-42")
    def test_an_iteration_ends_with_an_error_when_the_backend_is_closed_under_it(self, meta: MetaBackend) -> None:
        fill(meta, [f"m{number}" for number in range(120)])
        iteration = meta.iter_messages(State.INCOMING, 10)
        next(iteration)

        meta.close()

        with pytest.raises(BackendClosedError):
            finish(lambda: list(iteration))

    @clause("META-42")
    def test_a_backend_may_be_closed_again(self, meta: MetaBackend) -> None:
        for _ in range(3):
            finish(meta.close)

    @clause("META-42")
    def test_a_backend_is_closed_at_the_end_of_its_block(self, meta: MetaBackend) -> None:
        with meta as same:
            assert same is meta
        with pytest.raises(BackendClosedError):
            meta.get_meta("a")

    @clause("META-42")
    def test_closing_one_instance_leaves_the_others_open(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        other = open_meta()
        open_meta().close()

        assert 1 == store(meta, "a").version
        assert 2 == other.update_meta("a", MessageMetadata("a")).version

    @clause("META-42", "META-43", level=Level.CONCURRENT)
    def test_calls_under_way_end_when_the_backend_is_closed(self, new_meta: NewMeta) -> None:
        for _ in range(3):
            meta = new_meta()
            store(meta, "a")
            started = threading.Semaphore(0)

            def work(meta: MetaBackend = meta, started: threading.Semaphore = started) -> None:
                while True:
                    meta.update_meta("a", MessageMetadata("a"))
                    meta.list_messages(State.INCOMING)
                    claim(meta, limit=1)
                    started.release()

            working = [Running(work) for _ in range(4)]
            for _ in working:
                assert started.acquire(timeout=30)

            finish(meta.close)

            for each in working:
                with pytest.raises(BackendClosedError):
                    each.result()

    # -- opening again -------------------------------------------------------------------------------------------------

    @clause("META-47")
    def test_what_was_written_is_there_when_the_store_is_opened_again(
        self, meta: MetaBackend, open_meta: OpenMeta
    ) -> None:
        fields = {"headers": {"k": "é"}, "last_error": "e", "route": "r", "attempts": 2, "checksum": "00c0ffee"}
        expected = {state.label: store(meta, state.label, state=state, **fields) for state in State}
        for changed in (
            *claim(meta, State.INCOMING),
            meta.move_to_state("hold", State.HOLD, State.DEFERRED),
            meta.update_meta("archived", replace(expected["archived"], state=State.BOUNCE, size=7)),
        ):
            expected[changed.id] = changed
        meta.delete_meta("bounce")
        del expected["bounce"]
        meta.close()

        again = open_meta()

        assert expected == everything(again)
        states = {
            State.ACTIVE: ["active", "incoming"],
            State.BOUNCE: ["archived"],
            State.DEFERRED: ["deferred", "hold"],
        }
        assert states == populated(again)

    @clause("META-47", "META-24")
    def test_a_claim_and_its_renewal_are_there_when_the_store_is_opened_again(
        self, meta: MetaBackend, open_meta: OpenMeta
    ) -> None:
        fill(meta, "abc")
        claimed = claim(meta)
        kept = [*renewed(meta, claimed[:2], 2 * HOUR), claimed[2]]
        meta.close()

        again = open_meta()

        assert {record.id: record for record in kept} == everything(again)
        assert [] == claim(again, owner="w2")
        assert [4, 4, 3] == [record.version for record in renewed(again, kept)]
        (done,) = again.apply([Delete("c", if_version=3)])
        assert (None, ["a", "b"]) == (done, sorted(everything(again)))

    @clause("META-47")
    def test_a_batch_is_there_when_the_store_is_opened_again(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        fill(meta, "abc", headers={"k": "v"})
        results = meta.apply(
            [
                Store(MessageMetadata("d", size=4)),
                Update(MessageMetadata("a", state=State.DEFERRED), if_version=1),
                Move("b", State.INCOMING, State.HOLD),
                Delete("c"),
            ]
        )
        expected = {record.id: record for record in map(record_of, results[:3])}
        meta.close()

        assert expected == everything(open_meta())

    @clause("META-47")
    def test_a_deletion_stays_done(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        store(meta, "a")
        (claimed,) = claim(meta)
        meta.delete_meta("a", if_version=claimed.version)
        meta.close()

        again = open_meta()
        assert {} == everything(again)
        with pytest.raises(MessageNotFoundError):
            again.get_meta("a")
        assert 1 == store(again, "a").version

    @clause("META-47", "META-44")
    def test_instances_see_what_the_others_have_written(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        other = open_meta()
        stored = store(meta, "a")
        assert stored == other.get_meta("a")

        moved = other.move_to_state("a", State.INCOMING, State.HOLD)
        assert moved == meta.get_meta("a")
        assert [[], [moved]] == [list(meta.iter_messages(state)) for state in (State.INCOMING, State.HOLD)]
        assert ("a",) == meta.list_messages(State.HOLD).message_ids

        updated = meta.update_meta("a", replace(moved, state=State.DEFERRED))
        assert [updated] == list(other.iter_messages(State.DEFERRED))
        (claimed,) = claim(other)
        assert [claimed] == list(meta.iter_messages(State.ACTIVE))
        assert [] == claim(meta, owner="w2")

        meta.delete_meta("a", if_version=claimed.version)
        assert {} == everything(other)
        assert 0 == sum(other.list_messages(state).total for state in State)

    # -- threads -------------------------------------------------------------------------------------------------------

    @clause("META-43", level=Level.CONCURRENT)
    def test_threads_share_an_instance(self, meta: MetaBackend, profile: Profile) -> None:
        def live(racer: int) -> list[int]:
            versions: list[int] = []
            for number in range(3):
                name = f"m{racer}-{number}"
                record = store(meta, name, headers={"n": name}, state=State.HOLD)
                record = meta.update_meta(name, replace(record, size=racer), if_version=1)
                record = meta.move_to_state(name, State.HOLD, State.BOUNCE)
                assert name in ids(meta.iter_messages(State.BOUNCE, 5))
                assert {"n": name} == dict(meta.get_meta(name).headers)
                (record,) = map(record_of, meta.apply([Update(replace(record, state=State.DEFERRED, route=name))]))
                assert name in meta.list_messages(State.DEFERRED).message_ids
                versions.append(record.version)
                meta.delete_meta(name, if_version=record.version)
            return versions

        assert [[4, 4, 4]] * profile.racers == race(profile.racers, live)
        assert {} == everything(meta)

    @clause("META-43", level=Level.CONCURRENT)
    def test_every_call_may_be_made_from_many_threads_at_once(self, meta: MetaBackend, profile: Profile) -> None:
        for record in SEED:
            meta.store_meta(record.id, record)
        calls: list[Callable[[MetaBackend], object]] = [call for name, call in CALLS.items() if name != "wait"]

        def run(racer: int) -> int:
            for call in calls[racer % len(calls) :] + calls[: racer % len(calls)]:
                with suppress(MessageExistsError, MessageNotFoundError, StateConflictError):
                    call(meta)
            return 1

        assert [1] * profile.racers == race(profile.racers, run)
        assert set(everything(meta)) <= {"a", "held", "new"}
