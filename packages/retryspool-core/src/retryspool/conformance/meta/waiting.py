"""Waiting for a change: it ends in time, at a change, at close, and at the deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest

from retryspool.conformance.attempts import allowed_s
from retryspool.conformance.finishing import Running, finish
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.acting import claim, store
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta
from retryspool.deadline import deadline
from retryspool.errors import BackendClosedError, DeadlineExceededError
from retryspool.meta import MetaBackend, Move, StateCounter, Store
from retryspool.model import MessageMetadata, State

__all__ = ["WaitingTests"]

_LONG_S = 60.0
"""What nobody waits for."""

_MAKE_WORK: dict[str, Callable[[MetaBackend], object]] = {
    "store": lambda meta: store(meta, "new"),
    "move": lambda meta: meta.move_to_state("hold", State.HOLD, State.INCOMING),
    "update": lambda meta: meta.update_meta("active", MessageMetadata("active", state=State.DEFERRED)),
    "batch": lambda meta: meta.apply([Store(MessageMetadata("new")), Move("hold", State.HOLD, State.INCOMING)]),
}


class WaitingTests(MetaSuite):
    @clause("META-41")
    def test_a_wait_takes_no_longer_than_it_may(self, meta: MetaBackend) -> None:
        for timeout in (-1, 0, 0.001, 0.3, 0.3):
            started = time.monotonic()
            finish(partial(meta.wait_for_change, timeout))
            took = time.monotonic() - started
            assert took <= allowed_s(max(timeout, 0))

    @pytest.mark.parametrize("make", _MAKE_WORK)
    @clause("META-41", level=Level.CONCURRENT)
    def test_a_wait_ends_when_another_instance_makes_work(
        self, meta: MetaBackend, open_meta: OpenMeta, make: str
    ) -> None:
        other = open_meta()
        store(other, "hold", state=State.HOLD)
        store(other, "active", state=State.ACTIVE, lease_owner="w")
        meta.wait_for_change(0.3)  # so that what came before is noticed

        waiting = Running(lambda: meta.wait_for_change(_LONG_S))
        _MAKE_WORK[make](other)

        assert waiting.result()

    @clause("META-41")
    def test_a_change_since_the_last_wait_is_not_missed(self, meta: MetaBackend, open_meta: OpenMeta) -> None:
        other = open_meta()
        for number, writer in enumerate((meta, other)):
            meta.wait_for_change(0)
            store(writer, f"m{number}")
            if isinstance(meta, StateCounter):  # to ask what is due takes no change from those who wait
                meta.get_oldest_due(State.INCOMING)
                meta.get_state_count(State.INCOMING)
            claim(meta, limit=1)

            assert finish(lambda: meta.wait_for_change(_LONG_S))

    @clause("META-41", "META-42", level=Level.CONCURRENT)
    def test_closing_ends_a_wait(self, meta: MetaBackend) -> None:
        def wait_on() -> None:
            while True:
                meta.wait_for_change(_LONG_S)

        waiting = [Running(wait_on) for _ in range(3)]
        assert not any(each.is_over for each in waiting)

        finish(meta.close)

        for each in waiting:
            with pytest.raises(BackendClosedError):
                each.result()

    @clause("META-41", "META-46")
    def test_the_deadline_ends_a_wait(self, meta: MetaBackend) -> None:
        def wait_on() -> None:
            while True:
                meta.wait_for_change(_LONG_S)

        started = time.monotonic()
        with deadline(0.2), pytest.raises(DeadlineExceededError):
            finish(wait_on)
        took = time.monotonic() - started
        assert took <= allowed_s(0.2)

    @clause("META-41", level=Level.CONCURRENT)
    def test_who_waits_keeps_nobody_from_working(self, meta: MetaBackend) -> None:
        waiting = [Running(lambda: meta.wait_for_change(1)) for _ in range(20)]  # more than any pool has connections

        with deadline(30):
            store(meta, "a")
            assert 2 == meta.update_meta("a", MessageMetadata("a")).version
            assert 1 == len(claim(meta))

        for each in waiting:
            each.result()
