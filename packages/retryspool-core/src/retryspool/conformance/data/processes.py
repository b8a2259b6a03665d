"""Several processes on one store of payloads."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Sequence
from typing import cast

import pytest

from retryspool.conformance.children import Child, children
from retryspool.conformance.data.contents import content, name_of
from retryspool.conformance.data.players import all_sizes, do, first_all, named, prepare
from retryspool.conformance.data_suite import DataSuite, read, sizes
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs_capability, needs_no_capability
from retryspool.data import DataBackend, DataFactory
from retryspool.errors import DataNotFoundError

__all__ = ["ProcessTests"]


class ProcessTests(DataSuite):
    @pytest.fixture
    def workers(self, data: DataBackend, data_factory: DataFactory, profile: Profile) -> Iterator[Sequence[Child]]:
        """Other processes that have this test's store open."""
        needs_capability(data.capabilities, "processes")
        with children(profile.processes) as started:
            for child in started:
                child.call(prepare, data_factory)
            yield started

    @clause("DATA-25", "DATA-7", level=Level.CONCURRENT)
    def test_of_processes_that_store_if_absent_one_wins(
        self, data: DataBackend, workers: Sequence[Child], profile: Profile
    ) -> None:
        ids = [f"m{number}" for number in range(min(profile.messages, 1000) // 4)]
        start = time.monotonic_ns() + 5_000_000
        for number, worker in enumerate(workers):
            worker.begin(first_all, f"worker-{number}", ids, start)
        won = [cast("list[str]", worker.line()) for worker in workers]

        assert ids == sorted((each for those in won for each in those), key=ids.index)
        winners = {message_id: f"worker-{number}" for number, those in enumerate(won) for message_id in those}
        assert winners == {message_id: name_of(read(data, message_id)) for message_id in ids}

    @clause("DATA-25", level=Level.CONCURRENT)
    def test_what_one_process_has_stored_another_sees_at_once(
        self, data: DataBackend, workers: Sequence[Child], profile: Profile
    ) -> None:
        worker = workers[0]
        for number in range(profile.examples):
            message_id, size = f"m{number}", 40 + number * 1000
            data.store_data(message_id, content("here", size))
            assert ("here", {message_id: size}) == (worker.call(named, message_id), worker.call(all_sizes))
            worker.call(do, "store_data", [message_id, content("there", size + 1)])
            assert ("there", {message_id: size + 1}) == (name_of(read(data, message_id)), sizes(data))
            worker.call(do, "delete_data", [message_id])
            with pytest.raises(DataNotFoundError):
                data.get_data_reader(message_id)
            assert {} == sizes(data)

    @clause("DATA-25", "FACTORY-3", level=Level.CONCURRENT)
    def test_what_cannot_be_shared_by_processes_does_not_look_so(
        self, data: DataBackend, data_factory: DataFactory
    ) -> None:
        needs_no_capability(data.capabilities, "processes")
        data.store_data("m", b"m")
        try:
            pickle.dumps(data_factory)
        except (TypeError, AttributeError, pickle.PicklingError):
            return  # nobody gets a wrong store
        with children(1) as (child,):
            child.call(prepare, data_factory)
            assert {} == child.call(all_sizes)
            child.call(do, "store_data", ["other", b"other"])
        assert {"m": 1} == sizes(data)
