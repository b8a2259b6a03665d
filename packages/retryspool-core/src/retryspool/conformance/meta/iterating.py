"""Iterating a state: once each, whatever changes meanwhile, in memory that doesn't grow."""

from __future__ import annotations

import threading
import tracemalloc
from collections import Counter
from operator import attrgetter

from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import HOUR, fill, ids, record_of, store
from retryspool.conformance.meta_suite import MetaSuite
from retryspool.conformance.profiles import Profile
from retryspool.conformance.racing import race
from retryspool.meta import MetaBackend, Store, Update
from retryspool.model import NEVER, MessageMetadata, State

__all__ = ["IterationTests"]

_KIB = 1024


class IterationTests(MetaSuite):
    @clause("META-36")
    def test_an_iteration_yields_each_record_of_the_state_once(self, meta: MetaBackend) -> None:
        stored = fill(meta, [f"m{number}" for number in range(20)])
        store(meta, "other", state=State.HOLD)

        for batch_size in (1, 2, 7, 20, 100):
            found = list(meta.iter_messages(State.INCOMING, batch_size))
            assert sorted(stored, key=attrgetter("id")) == sorted(found, key=attrgetter("id"))

    @clause("META-36")
    def test_an_iteration_of_an_empty_state_yields_nothing(self, meta: MetaBackend) -> None:
        store(meta, "a")

        assert [[]] * 5 == [list(meta.iter_messages(state)) for state in State if state is not State.INCOMING]

    @clause("META-36")
    def test_an_iteration_goes_on_behind_the_first_hundreds(self, meta: MetaBackend) -> None:
        names = sorted(ids(fill(meta, [f"m{number:03}" for number in range(330)])))

        assert names == sorted(ids(meta.iter_messages(State.INCOMING)))

    @clause("META-36", "META-37")
    def test_what_stays_is_yielded_once_while_others_come_and_go(self, meta: MetaBackend) -> None:
        stay = {f"stay{number}" for number in range(15)}
        fill(meta, [*stay, *(f"move{number}" for number in range(15)), *(f"gone{number}" for number in range(15))])

        found: Counter[str] = Counter()
        for number, record in enumerate(meta.iter_messages(State.INCOMING, 4)):
            assert State.INCOMING is record.state
            found[record.id] += 1
            if number < 15:
                meta.move_to_state(f"move{number}", State.INCOMING, State.HOLD)
                meta.delete_meta(f"gone{14 - number}")
                store(meta, f"come{number}")

        assert dict.fromkeys(stay, 1) == {message_id: found[message_id] for message_id in stay}
        assert {1} == set(found.values())

    @clause("META-36", "META-37")
    def test_what_stays_is_yielded_once_though_it_is_written_meanwhile(self, meta: MetaBackend) -> None:
        names = [f"m{number:02}" for number in range(20)]
        fill(meta, names)

        found: list[str] = []
        for record in meta.iter_messages(State.INCOMING, 3):
            found.append(record.id)
            due, created = NEVER - len(found) * HOUR, NEVER - len(found) * HOUR  # whatever it's sorted by inside
            for number in (0, 7, 19):
                name, priority = names[number], 50 - len(found)
                meta.update_meta(name, MessageMetadata(name, next_retry=due, created=created, priority=priority))

        assert names == sorted(found)

    @clause("META-37", "META-36")
    def test_each_record_may_be_deleted_or_moved_as_it_comes(self, meta: MetaBackend) -> None:
        names = sorted(ids(fill(meta, [f"m{number:03}" for number in range(60)])))

        found: list[str] = []
        for record in meta.iter_messages(State.INCOMING, 7):
            found.append(record.id)
            if len(found) % 2:
                meta.delete_meta(record.id)
            else:
                meta.move_to_state(record.id, State.INCOMING, State.HOLD)

        assert names == sorted(found)
        assert 0 == meta.list_messages(State.INCOMING).total

    @clause("META-36")
    def test_several_iterations_do_not_disturb_each_other(self, meta: MetaBackend) -> None:
        fill(meta, "abcdef")

        pairs = zip(meta.iter_messages(State.INCOMING, 2), meta.iter_messages(State.INCOMING, 3), strict=True)

        assert [set("abcdef")] * 2 == [{record.id for record in side} for side in zip(*pairs, strict=True)]

    @clause("META-37")
    def test_an_iteration_may_be_dropped_half_way(self, meta: MetaBackend) -> None:
        fill(meta, "abcdef")

        next(iter(meta.iter_messages(State.INCOMING, 2)))

        assert 6 == len(list(meta.iter_messages(State.INCOMING)))
        assert 2 == meta.update_meta("a", MessageMetadata("a")).version

    @clause("META-36")
    def test_the_memory_of_an_iteration_does_not_grow_with_the_state(self, meta: MetaBackend) -> None:
        for first in range(0, 96, 8):
            made = [MessageMetadata(f"m{first + number}", last_error="x" * 64 * _KIB) for number in range(8)]
            for result in meta.apply([Store(record) for record in made]):
                record_of(result)

        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            assert 96 == sum(1 for _ in meta.iter_messages(State.INCOMING, 2))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

        assert peak - before < 3 * _KIB * _KIB, "half of all records, or more, were in memory at once"

    @clause("META-36", "META-37", level=Level.CONCURRENT)
    def test_what_stays_is_yielded_by_every_iteration_while_threads_move_the_others(
        self, meta: MetaBackend, profile: Profile
    ) -> None:
        stay = {f"stay{number}" for number in range(10)}
        fill(meta, [*stay, *(f"move{number}" for number in range(10))])
        over = threading.Event()

        def run(racer: int) -> int:
            if racer:
                while not over.is_set():
                    for number in range(racer - 1, 10, 2):
                        name = f"move{number}"
                        meta.move_to_state(name, State.INCOMING, State.HOLD)
                        meta.apply([Update(MessageMetadata(name, priority=number))])
                return 1
            try:
                for _ in range(profile.messages // 10):
                    found = Counter(record.id for record in meta.iter_messages(State.INCOMING, 3))
                    assert dict.fromkeys(stay, 1) == {message_id: found[message_id] for message_id in stay}
            finally:
                over.set()
            return 1

        assert [1, 1, 1] == race(3, run)
