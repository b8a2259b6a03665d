"""Histories of clients that do as they like at the same time: each must be linearizable, message by message."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import cast

from retryspool.conformance.checker import explain
from retryspool.conformance.children import children
from retryspool.conformance.histories import Operation, in_threads
from retryspool.conformance.marks import Level, clause
from retryspool.conformance.meta.clients import Client
from retryspool.conformance.meta.players import Part, play_history, prepare
from retryspool.conformance.meta.sequential import judged, step
from retryspool.conformance.meta_suite import MetaSuite, OpenMeta, everything
from retryspool.conformance.profiles import Profile
from retryspool.conformance.suite import needs_capability
from retryspool.meta import MetaBackend, MetaFactory

__all__ = ["HistoryTests", "end_history"]

IDS = ("a", "b")
LONG = timedelta(hours=1)
SHORT = timedelta(milliseconds=1)
"""A lease that is over within a history, so that messages are taken over while their first owner still works."""
_READER = -1


class HistoryTests(MetaSuite):
    @clause("META-49", "META-43", level=Level.CONCURRENT)
    def test_what_threads_do_at_once_has_an_order(
        self, meta: MetaBackend, open_meta: OpenMeta, profile: Profile, seed: int
    ) -> None:
        own = [open_meta() for _ in range(profile.clients)]
        for history in range(profile.histories):
            # One instance that all share, or one each; leases that live on, or that don't.
            instances = own if history % 2 else [meta] * profile.clients
            clients = [
                Client(instance, number, ids=IDS, seed=f"{seed} {history}", lease=SHORT if history % 4 > 1 else LONG)
                for number, instance in enumerate(instances)
            ]

            done = in_threads([client.act for client in clients], profile.operations)

            wrong = explain(judged([*done, *end_history(own[0])]), None, step)
            assert not wrong, f"history {history} of seed {seed}\n{wrong}"

    @clause("META-49", "META-44", level=Level.CONCURRENT)
    def test_what_processes_do_at_once_has_an_order(
        self, meta: MetaBackend, meta_factory: MetaFactory, profile: Profile, seed: int
    ) -> None:
        needs_capability(meta.capabilities, "processes")
        with children(profile.clients) as clients:
            for client in clients:
                client.call(prepare, meta_factory)
            for history in range(profile.histories):
                start = time.monotonic_ns() + 2_000_000
                lease = SHORT if history % 2 else LONG
                for number, client in enumerate(clients):
                    part = Part(number, IDS, f"{seed} {history}", lease, profile.operations, start)
                    client.begin(play_history, part)
                done = [each for client in clients for each in cast("Sequence[Operation]", client.line())]

                wrong = explain(judged([*done, *end_history(meta)]), None, step)
                assert not wrong, f"history {history} of seed {seed}\n{wrong}"


def end_history(meta: MetaBackend) -> Sequence[Operation]:
    """Read what a history has left, which its operations must explain too; and leave nothing for the next."""
    seen = Client(meta, _READER, ids=IDS, seed="", lease=LONG).look()
    for message_id in everything(meta):
        meta.delete_meta(message_id)
    return seen
