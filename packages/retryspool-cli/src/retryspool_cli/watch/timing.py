"""What is measured of each message, for Prometheus."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager

from retryspool import Message, Observer
from retryspool.queue import Settled
from retryspool.queue.backlog import waited_s
from retryspool_cli.watch.distribution import Distribution

__all__ = ["Timing"]

_DURATIONS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_DELAYS_S = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)
_ATTEMPTS = (1, 2, 3, 5, 8, 10, 15, 20, 50)


class Timing(Observer):
    """Measures how long handlers take, how late they begin, and how many attempts it takes."""

    def __init__(self) -> None:
        self.returned = Distribution(_DURATIONS_S)
        self.raised = Distribution(_DURATIONS_S)
        self.delay = Distribution(_DELAYS_S)
        self.delivered = Distribution(_ATTEMPTS)
        self.bounced = Distribution(_ATTEMPTS)

    @contextmanager
    def attempt(self, message: Message) -> Generator[None]:
        waited = waited_s(message.record)
        if waited is not None:
            self.delay.add(waited)
        began = time.perf_counter()
        duration = self.raised
        try:
            yield
            duration = self.returned
        finally:
            duration.add(time.perf_counter() - began)

    def settled(self, settled: Settled) -> None:
        if settled.outcome == "delivered":
            self.delivered.add(settled.record.attempts + 1)
        elif settled.outcome == "bounced" and settled.became is not None:
            self.bounced.add(settled.became.attempts)
