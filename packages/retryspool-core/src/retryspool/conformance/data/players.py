"""What the suite's own processes do to a store of payloads. Each of these runs in a child."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from retryspool.conformance.data.clients import Client
from retryspool.conformance.data.contents import content, name_of
from retryspool.conformance.data_suite import read, sizes
from retryspool.conformance.histories import Operation, wait_until
from retryspool.data import DataBackend, DataFactory
from retryspool.errors import DataExistsError

__all__ = ["all_sizes", "do", "first_all", "named", "play_history", "prepare"]

_opened: list[DataBackend] = []
_APART_NS = 2_000_000


def prepare(factory: DataFactory) -> None:
    """Open the store, once for all that follows."""
    _opened.append(factory.create())


def play_history(number: int, ids: Sequence[str], seed: str, operations: int, start: int) -> list[Operation]:
    """Be a client of a history."""
    client = Client(_opened[-1], number, ids=ids, seed=seed)
    wait_until(start)
    return [operation for _ in range(operations) for operation in client.act()]


def do(method: str, args: Sequence[object]) -> object:
    """Call a method of the store."""
    return getattr(_opened[-1], method)(*args)


def named(message_id: str) -> str:
    """Return the name of a payload."""
    return name_of(read(_opened[-1], message_id))


def all_sizes() -> dict[str, int]:
    """Return the size of each payload."""
    return sizes(_opened[-1])


def first_all(name: str, message_ids: Sequence[str], start: int) -> list[str]:
    """Try to be the first to store each payload; return those where it was."""
    won: list[str] = []
    for number, message_id in enumerate(message_ids):
        wait_until(start + number * _APART_NS)  # so that who is ahead waits for the others
        with suppress(DataExistsError):
            _opened[-1].store_data(message_id, content(name, 1000), if_absent=True)
            won.append(message_id)
    return won
