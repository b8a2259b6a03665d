"""Calls that are refused, again and again."""

from __future__ import annotations

import contextlib

from retryspool.conformance.finishing import finish
from retryspool.conformance.marks import clause
from retryspool.conformance.meta_suite import MetaSuite
from retryspool.errors import StorageError
from retryspool.meta import Delete, MetaBackend, Move, Store
from retryspool.model import MessageMetadata, State

__all__ = ["RefusalTests"]

TIMES = 60
"""More than a pool of connections has."""


class RefusalTests(MetaSuite):
    @clause("META-58")
    def test_any_number_of_refused_calls_costs_nothing(self, meta: MetaBackend) -> None:
        stored = meta.store_meta("a", MessageMetadata("a"))
        refused = (
            lambda: meta.store_meta("a", stored),
            lambda: meta.get_meta("b"),
            lambda: meta.update_meta("a", stored, if_version=7),
            lambda: meta.update_meta("b", MessageMetadata("b")),
            lambda: meta.delete_meta("a", if_version=7),
            lambda: meta.delete_meta("b"),
            lambda: meta.move_to_state("a", State.HOLD, State.BOUNCE),
            lambda: meta.move_to_state("b", State.HOLD, State.BOUNCE),
        )

        def refuse_and_go_on() -> MessageMetadata:
            for call in refused:
                for _ in range(TIMES):
                    with contextlib.suppress(StorageError):
                        call()
            for _ in range(TIMES):
                meta.apply([Store(stored), Delete("b"), Move("a", State.HOLD, State.BOUNCE)])
            return meta.update_meta("a", stored, if_version=1)

        assert 2 == finish(refuse_and_go_on).version

    @clause("META-58")
    def test_an_iteration_that_is_left_costs_nothing(self, meta: MetaBackend) -> None:
        for number in range(5):
            meta.store_meta(f"m{number}", MessageMetadata(f"m{number}"))

        def leave_and_go_on() -> int:
            left = [meta.iter_messages(State.INCOMING, 2) for _ in range(TIMES)]
            for iteration in left:
                next(iteration)
            del left
            return len(list(meta.iter_messages(State.INCOMING)))

        assert 5 == finish(leave_and_go_on)
