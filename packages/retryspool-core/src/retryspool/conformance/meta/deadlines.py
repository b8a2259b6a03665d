"""Deadlines: one that has passed stops all effect."""

from __future__ import annotations

import pytest

from retryspool.conformance.finishing import finish
from retryspool.conformance.marks import clause
from retryspool.conformance.meta.acting import claim, fill, store
from retryspool.conformance.meta.calls import CALLS, COUNTS, SEED
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything, needs_counts
from retryspool.deadline import deadline
from retryspool.errors import DeadlineExceededError
from retryspool.meta import MetaBackend
from retryspool.model import MessageMetadata, State

__all__ = ["DeadlineTests"]


class DeadlineTests(MetaSuite):
    @pytest.mark.parametrize("call", CALLS)
    @clause("META-46")
    def test_a_deadline_that_has_passed_stops_every_call_before_any_effect(
        self, meta: MetaBackend, open_meta: OpenMeta, call: str
    ) -> None:
        stored = {record.id: meta.store_meta(record.id, record) for record in SEED}

        with deadline(0), pytest.raises(DeadlineExceededError):
            finish(lambda: CALLS[call](meta))

        assert stored == everything(meta) == everything(open_meta())

    @clause("META-46")
    def test_a_deadline_that_has_passed_stops_counting(self, meta: MetaBackend) -> None:
        counter = needs_counts(meta)

        for count in COUNTS.values():
            with deadline(0), pytest.raises(DeadlineExceededError):
                count(counter)

    @clause("META-46")
    def test_an_iteration_ends_with_the_deadline(self, meta: MetaBackend) -> None:
        fill(meta, [f"m{number}" for number in range(120)])
        iteration = meta.iter_messages(State.INCOMING, 10)
        next(iteration)

        with deadline(0), pytest.raises(DeadlineExceededError):
            finish(lambda: list(iteration))

    @clause("META-46")
    def test_a_backend_works_on_after_a_deadline(self, meta: MetaBackend) -> None:
        store(meta, "a")
        for _ in range(30):  # more often than any pool has connections
            with deadline(0), pytest.raises(DeadlineExceededError):
                meta.get_meta("a")

        assert 2 == meta.update_meta("a", MessageMetadata("a")).version

    @clause("META-46")
    def test_within_a_deadline_calls_go_on(self, meta: MetaBackend) -> None:
        with deadline(60):
            store(meta, "a")
            assert 1 == len(claim(meta))

    @clause("META-46", "META-42")
    def test_closing_works_after_the_deadline(self, meta: MetaBackend) -> None:
        with deadline(0):
            finish(meta.close)
