"""Counts and the oldest due, of the backends that have them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from hypothesis import strategies as st

from retryspool.conformance.exploring import explore
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import HOUR, claim, fill, forget, ids, renewed, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, needs_counts
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.meta import Delete, ListOptions, MetaBackend, Move, Store, Update
from retryspool.model import NEVER, ZERO_TIME, MessageMetadata, State

__all__ = ["CounterTests"]


class CounterTests(MetaSuite):
    @clause("META-38", "META-39")
    def test_a_backend_has_both_counts_or_neither(self, meta: MetaBackend) -> None:
        has = [callable(getattr(meta, name, None)) for name in ("get_state_count", "get_oldest_due")]

        assert has in ([True, True], [False, False])

    @clause("META-38")
    def test_counts_follow_every_write(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        others = [open_meta()]

        def check(*expected: int) -> None:
            for each in (meta, *others):
                assert list(expected) == [needs_counts(each).get_state_count(state) for state in State]
                options = ListOptions(limit=0)
                assert list(expected) == [each.list_messages(state, options).total for state in State]

        check(0, 0, 0, 0, 0, 0)
        fill(meta, "abcd")
        check(4, 0, 0, 0, 0, 0)
        claimed = claim(meta, limit=2)
        renewed(meta, claimed)
        check(2, 2, 0, 0, 0, 0)
        meta.update_meta("a", MessageMetadata("a", state=State.DEFERRED))
        meta.update_meta(
            "a", MessageMetadata("a", state=State.DEFERRED, next_retry=NEVER)
        )  # written over, counted once
        meta.move_to_state("c", State.INCOMING, State.ARCHIVED)
        meta.move_to_state("d", State.INCOMING, State.INCOMING)
        check(1, 1, 1, 0, 0, 1)
        meta.apply([Store(MessageMetadata("d")), Store(MessageMetadata("e", state=State.HOLD)), Delete("x")])
        meta.apply([Move("d", State.INCOMING, State.BOUNCE), Move("d", State.INCOMING, State.HOLD)])
        check(0, 1, 1, 1, 1, 1)
        meta.delete_meta("c")
        meta.apply([Delete("e"), Update(MessageMetadata("b")), Delete("x")])
        check(1, 0, 1, 0, 1, 0)
        others.append(open_meta())  # which finds what it didn't count itself
        check(1, 0, 1, 0, 1, 0)

    @clause("META-39")
    def test_the_oldest_due_is_the_earliest_of_its_state(
        self, meta: MetaBackend, open_meta: OpenMeta, clock: Callable[[], datetime]
    ) -> None:
        counters = [needs_counts(meta), needs_counts(open_meta())]

        def check(state: State, due: datetime | None) -> None:
            assert [due] * len(counters) == [counter.get_oldest_due(state) for counter in counters]

        for state in State:
            check(state, None)
        now = clock()
        for message_id, due in {"a": now + HOUR, "b": now - HOUR, "c": NEVER}.items():
            store(meta, message_id, state=State.DEFERRED, next_retry=due)
        check(State.DEFERRED, now - HOUR)
        check(State.INCOMING, None)
        meta.delete_meta("b")
        check(State.DEFERRED, now + HOUR)
        meta.update_meta("a", MessageMetadata("a", state=State.DEFERRED, next_retry=ZERO_TIME))
        check(State.DEFERRED, ZERO_TIME)
        (claimed,) = claim(meta)
        check(State.ACTIVE, claimed.lease_expires)
        check(State.DEFERRED, NEVER)
        (held,) = renewed(meta, [claimed], 2 * HOUR)
        check(State.ACTIVE, held.lease_expires)
        meta.update_meta("c", MessageMetadata("c", state=State.DEFERRED, next_retry=now + timedelta(microseconds=1)))
        check(State.DEFERRED, now + timedelta(microseconds=1))
        meta.move_to_state("c", State.DEFERRED, State.HOLD)
        check(State.DEFERRED, None)
        check(State.HOLD, now + timedelta(microseconds=1))
        counters.append(needs_counts(open_meta()))
        check(State.ACTIVE, held.lease_expires)
        check(State.HOLD, now + timedelta(microseconds=1))

    @clause("META-38", "META-39")
    def test_counts_and_the_oldest_due_are_those_of_the_records(
        self, meta: MetaBackend, clock: Callable[[], datetime], profile: Profile, seed: int
    ) -> None:
        counter, now = needs_counts(meta), clock()
        names, states = "abcdef", [State.INCOMING, State.DEFERRED]

        def check(steps: list[tuple[str, State, int | None]]) -> None:
            expected: dict[str, tuple[State, datetime]] = {}
            for name, state, due in steps:
                if due is None:
                    forget(meta, [name])
                    expected.pop(name, None)
                    continue
                metadata = MessageMetadata(name, state=state, next_retry=now + due * HOUR)
                (meta.update_meta if name in expected else meta.store_meta)(name, metadata)
                expected[name] = state, metadata.next_retry
            for state in states:
                dues = [due for where, due in expected.values() if where is state]
                assert len(dues) == counter.get_state_count(state)
                assert min(dues, default=None) == counter.get_oldest_due(state)
            forget(meta, names)

        step = st.tuples(st.sampled_from(names), st.sampled_from(states), st.none() | st.integers(-3, 3))
        explore(st.lists(step, max_size=10), check, examples=profile.examples, seed=seed)

    @clause("META-38", level=Level.CONCURRENT)
    def test_counts_are_right_after_a_race(self, meta: MetaBackend, open_meta: OpenMeta, profile: Profile) -> None:
        counter = needs_counts(meta)
        names = [f"m{number}" for number in range(20)]
        fill(meta, names)
        instances = [meta, open_meta()]

        def run(racer: int) -> int:
            each = instances[racer % 2]
            for number in range(racer % 3, 20, 2):
                each.apply([Move(names[number], State.INCOMING, State.HOLD)])
                each.apply([Update(MessageMetadata(names[number], state=State.DEFERRED)), Delete(names[number - 1])])
                each.apply([Store(MessageMetadata(names[number - 1]))])
            return 1

        assert [1] * profile.racers == race(profile.racers, run)

        for state in State:
            iterated = len(ids(meta.iter_messages(state)))
            assert iterated == counter.get_state_count(state) == meta.list_messages(state).total
