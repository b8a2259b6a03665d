"""Whether a queue's stores answer, looked at in the background: nobody waits for one that hangs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from retryspool import DataNotFoundError, NotSupportedError, Queue
from retryspool.queue import Paused
from retryspool.queue.backlog import Backlog, read_backlog
from retryspool.queue.latest import Latest, Reading

__all__ = ["HANGING_S", "Records", "Stores", "look_at_payloads", "look_at_records", "trouble"]

HANGING_S = 15.0
"""A store that hasn't answered for so long counts as one that can't be reached."""

_NO_MESSAGE = "retryspool-health"
"""An id that no message has: asking for its payload shows that the store answers."""


@dataclass(frozen=True, slots=True)
class Records:
    """What the metadata backend said."""

    backlog: Backlog
    paused: Paused | None
    """None if it keeps no notes."""


class Stores:
    """Both stores of a queue, looked at every few seconds at the most."""

    def __init__(self, queue: Queue) -> None:
        self.records = Latest(lambda: look_at_records(queue))
        self.payloads = Latest(lambda: look_at_payloads(queue))


def look_at_records(queue: Queue) -> Records:
    """Ask the metadata backend what waits, and what is paused.

    :raises StorageError: it doesn't answer
    """
    try:
        paused = queue.paused()
    except NotSupportedError:
        paused = None
    return Records(read_backlog(queue.spool.meta), paused)


def look_at_payloads(queue: Queue) -> bool:
    """Ask the data backend for a payload that isn't there.

    :raises StorageError: it doesn't answer
    """
    with suppress(DataNotFoundError):
        queue.spool.data.get_data_reader(_NO_MESSAGE).close()
    return True


def trouble(reading: Reading[Records] | Reading[bool]) -> str:
    """Return what is wrong with a store; nothing if it answers."""
    if reading.error is not None:
        return f"{type(reading.error).__name__}: {reading.error}"
    if reading.pending_s > HANGING_S or reading.value is None:
        return f"no answer for {reading.pending_s:.0f} s"
    return ""
