"""Calls that are refused, again and again."""

from __future__ import annotations

import contextlib

from retryspool.conformance.data_suite import DataSuite, read
from retryspool.conformance.finishing import finish
from retryspool.conformance.marks import clause
from retryspool.data import DataBackend
from retryspool.errors import StorageError

__all__ = ["RefusalTests"]

TIMES = 60
"""More than a pool of connections has."""


class RefusalTests(DataSuite):
    @clause("DATA-39")
    def test_any_number_of_refused_calls_costs_nothing(self, data: DataBackend) -> None:
        data.store_data("a", b"kept")

        def refuse_and_go_on() -> bytes:
            for _ in range(TIMES):
                with contextlib.suppress(StorageError):
                    data.get_data_reader("b")
                with contextlib.suppress(StorageError):
                    data.store_data("a", b"other", if_absent=True)
                data.delete_data("b")
                data.get_data_writer("c").abort()
            data.store_data("b", b"works")
            return read(data, "a") + read(data, "b")

        assert b"keptworks" == finish(refuse_and_go_on)

    @clause("DATA-39")
    def test_readers_and_iterations_that_are_left_cost_nothing(self, data: DataBackend) -> None:
        for message_id in ("a", "b", "c"):
            data.store_data(message_id, b"x" * 1000)

        def leave_and_go_on() -> int:
            for _ in range(TIMES):
                data.get_data_reader("a").close()
                next(iter(data.iter_data()))
            return len(list(data.iter_data()))

        assert 3 == finish(leave_and_go_on)
