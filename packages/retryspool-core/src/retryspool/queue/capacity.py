"""How many more messages a worker may claim, and waiting until it's more than none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from retryspool.queue.options import QueueOptions

__all__ = ["Capacity"]

_AHEAD_S = 0.05
"""What handlers would finish in so many seconds may be claimed ahead of them.

So a worker of quick handlers isn't bound by the round trips of its claims, while one of slow handlers claims no more
than can start now: what it took ahead would wait here while another worker is idle.
"""


class Capacity:
    """The messages under this worker's lease: those whose handler isn't done, and those that aren't settled.

    :param parked: returns how many of them can't begin yet, for the sake of their destination: no handler waits for
        these, and so others may be claimed instead
    :param is_kept: tells whether nothing is to be claimed for now; that ends with a message that is `handled()`
    """

    def __init__(
        self,
        options: QueueOptions,
        parked: Callable[[], int] = lambda: 0,
        is_kept: Callable[[], bool] = lambda: False,
    ) -> None:
        self._options = options
        self._parked = parked
        self._is_kept = is_kept
        self._changed = threading.Condition()
        self._waiting = False
        self._stopped = False
        self._unhandled = 0
        self._unsettled = 0
        self._ahead = 0
        self._most = options.batch_size
        self._finished = 0
        self._since = time.monotonic()

    @property
    def unsettled(self) -> int:
        """Messages that are claimed and not settled yet."""
        return self._unsettled

    @property
    def shortage(self) -> int:
        """How many more messages should be settled, or given back, for a claim of some size to be possible."""
        options = self._options
        reserve = max(1, min(options.batch_size, options.max_active // 4))
        return self._unsettled + reserve - options.max_active

    def wait(self) -> int:
        """Wait until messages may be claimed, and return how many; 0 once stopped."""
        with self._changed:
            self._look_ahead()
            self._waiting = True
            self._changed.wait_for(lambda: self._stopped or self._room())
            self._waiting = False
            return 0 if self._stopped else self._room()

    def _room(self) -> int:
        """Return how many messages may be claimed; none while enough are claimed ahead to go on claiming in batches."""
        ahead = self._unhandled - self._parked() - self._options.concurrency
        if (ahead >= 0 and ahead >= (self._ahead + 1) // 2) or self._is_kept():
            return 0
        room = min(self._most, self._ahead - ahead, self._options.max_active - self._unsettled)
        return max(room, 0)

    def _look_ahead(self) -> None:
        now = time.monotonic()
        if now - self._since >= _AHEAD_S:
            self._ahead = min(self._options.batch_size, int(self._finished * _AHEAD_S / (now - self._since)))
            self._since = now
            self._finished = 0

    def wait_until_settled(self, timeout_s: float, or_if: Callable[[], bool] = lambda: False, but_for: int = 0) -> bool:
        """Wait until nothing is unsettled or `or_if()`, at the most for `timeout_s` seconds, or until stopped.

        :param but_for: so many are left out of account
        :returns: whether nothing is unsettled
        """
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._unsettled <= but_for or or_if(), timeout_s)
            return self._unsettled <= but_for

    def claimed(self, count: int, *, singly: bool = False) -> None:
        """Take note of claimed messages.

        :param singly: claim one at a time next, and then ever more again: what comes with one that is to be handled
            alone goes back at once
        """
        with self._changed:
            self._most = 1 if singly else min(self._most * 2, self._options.batch_size)
            self._unhandled += count
            self._unsettled += count

    def handled(self) -> None:
        """Take note that a message's handler is done."""
        with self._changed:
            self._unhandled -= 1
            self._finished += 1
            if self._waiting and self._room():
                self._changed.notify_all()

    def settled(self, count: int) -> None:
        """Take note that messages are settled."""
        with self._changed:
            self._unsettled -= count
            self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
