"""What a queue has done since it was made, in numbers."""

from __future__ import annotations

import threading
from typing import Literal

__all__ = ["CounterName", "Counters"]

CounterName = Literal[
    "accepted",
    "claimed",
    "delivered",
    "deferred",
    "bounced",
    "bounces_handled",
    "archived",
    "set_aside",
    "put_off",
    "released",
    "lost_leases",
    "pruned",
    "handler_seconds",
]

_NAMES: tuple[CounterName, ...] = (
    "accepted",  # messages enqueued
    "claimed",  # deliveries begun
    "delivered",  # handled with success, and settled
    "deferred",  # failed, to be tried again
    "bounced",  # failed for good
    "bounces_handled",  # bounced messages that a bounce handler has dealt with
    "archived",  # of those delivered and of the bounces handled: kept in the archive
    "set_aside",  # returned for a while: no handler takes them, or their payload can't be read
    "put_off",  # returned unhandled until their destination's rest is over, or they can be handled alone
    "released",  # returned unhandled by a stop, or because others had to go first or one is handled alone
    "lost_leases",  # results discarded, because the message wasn't this worker's any more
    "pruned",  # archived messages deleted by age
    "handler_seconds",  # time spent in handlers
)


class Counters:
    """What a queue has done since it was made. Safe to share between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[CounterName, float] = dict.fromkeys(_NAMES, 0)

    def add(self, name: CounterName, amount: float = 1) -> None:
        """Raise one counter."""
        with self._lock:
            self._values[name] += amount

    def snapshot(self) -> dict[CounterName, float]:
        """Return all counters as they are at one moment; `handler_seconds` in seconds, the others in messages."""
        with self._lock:
            return dict(self._values)
