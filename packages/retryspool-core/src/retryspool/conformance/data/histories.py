"""Histories of clients that do as they like at the same time: each must be linearizable, payload by payload."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import cast

from retryspool.conformance.checker import explain
from retryspool.conformance.children import children
from retryspool.conformance.data.clients import Client
from retryspool.conformance.data.players import play_history, prepare
from retryspool.conformance.data.sequential import step
from retryspool.conformance.data_suite import DataSuite, OpenData, sizes
from retryspool.conformance.histories import Operation, in_threads
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs_capability
from retryspool.data import DataBackend, DataFactory

__all__ = ["HistoryTests", "end_history"]

IDS = ("a", "b")
_READER = -1


class HistoryTests(DataSuite):
    @clause("DATA-30", "DATA-24", level=Level.CONCURRENT)
    def test_what_threads_do_at_once_has_an_order(
        self, data: DataBackend, open_data: OpenData, profile: Profile, seed: int
    ) -> None:
        own = [open_data() for _ in range(profile.clients)]
        for history in range(profile.histories):
            instances = own if history % 2 else [data] * profile.clients
            clients = [
                Client(instance, number, ids=IDS, seed=f"{seed} {history}") for number, instance in enumerate(instances)
            ]

            done = in_threads([client.act for client in clients], profile.operations)

            wrong = explain([*done, *end_history(own[0])], None, step)
            assert not wrong, f"history {history} of seed {seed}\n{wrong}"

    @clause("DATA-30", "DATA-25", level=Level.CONCURRENT)
    def test_what_processes_do_at_once_has_an_order(
        self, data: DataBackend, data_factory: DataFactory, profile: Profile, seed: int
    ) -> None:
        needs_capability(data.capabilities, "processes")
        with children(profile.clients) as clients:
            for client in clients:
                client.call(prepare, data_factory)
            for history in range(profile.histories):
                start = time.monotonic_ns() + 2_000_000
                for number, client in enumerate(clients):
                    client.begin(play_history, number, IDS, f"{seed} {history}", profile.operations, start)
                done = [each for client in clients for each in cast("Sequence[Operation]", client.line())]

                wrong = explain([*done, *end_history(data)], None, step)
                assert not wrong, f"history {history} of seed {seed}\n{wrong}"


def end_history(data: DataBackend) -> Sequence[Operation]:
    """Read what a history has left, which its operations must explain too; and leave nothing for the next."""
    seen = Client(data, _READER, ids=IDS, seed="").look()
    data.delete_many(IDS)
    assert {} == sizes(data)
    return seen
