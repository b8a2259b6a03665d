"""What the suite's own processes do to a store of records. Each of these runs in a child."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from retryspool.conformance.histories import Operation, wait_until
from retryspool.conformance.meta.clients import Client
from retryspool.meta import MetaBackend, MetaFactory

__all__ = ["Part", "play_history", "prepare"]

_opened: list[MetaBackend] = []


def prepare(factory: MetaFactory) -> None:
    """Open the store, once for all that follows."""
    _opened.append(factory.create())


@dataclass(frozen=True, slots=True)
class Part:
    """What a client of a history is told."""

    number: int
    ids: Sequence[str]
    seed: str
    lease: timedelta
    operations: int
    start: int
    """By the monotonic clock, so that all begin at the same time."""


def play_history(part: Part) -> list[Operation]:
    """Be a client of a history."""
    client = Client(_opened[-1], part.number, ids=part.ids, seed=part.seed, lease=part.lease)
    wait_until(part.start)
    return [operation for _ in range(part.operations) for operation in client.act()]
