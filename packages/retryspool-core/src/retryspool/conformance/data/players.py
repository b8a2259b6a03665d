"""What the suite's own processes do to a store of payloads. Each of these runs in a child."""

from __future__ import annotations

from collections.abc import Sequence

from retryspool.conformance.data.clients import Client
from retryspool.conformance.histories import Operation, wait_until
from retryspool.data import DataBackend, DataFactory

__all__ = ["play_history", "prepare"]

_opened: list[DataBackend] = []


def prepare(factory: DataFactory) -> None:
    """Open the store, once for all that follows."""
    _opened.append(factory.create())


def play_history(number: int, ids: Sequence[str], seed: str, operations: int, start: int) -> list[Operation]:
    """Be a client of a history."""
    client = Client(_opened[-1], number, ids=ids, seed=seed)
    wait_until(start)
    return [operation for _ in range(operations) for operation in client.act()]
