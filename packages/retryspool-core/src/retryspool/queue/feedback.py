"""Feedback: how many deliveries one destination may have at once, learned from how they end.

The window begins small and opens by one with each success; once there was a failure, by one with as many successes as
it's wide. It closes by one with each failure. So it swings about what the destination takes, and a failure in many
doesn't close it. Enough failures in a row, and the destination rests; then one probe tells how to go on.
"""

from __future__ import annotations

import random

from retryspool.queue.routes import RouteOptions, RouteState

__all__ = ["Feedback"]

_LEAST_COHORT = 5
"""So few failures in a row never count as a whole cohort, however narrow the window: they may well be the messages'."""
_LONGEST_S = 24 * 3600.0
"""The longest rest that a destination may ask for."""


class Feedback:
    """What is known of one destination. Times are of the monotonic clock. Not safe to share between threads."""

    __slots__ = (
        "_cohort",
        "_failed",
        "_grown",
        "_is_starting",
        "_options",
        "_rests",
        "last_error",
        "resting_until",
        "state",
        "window",
    )

    def __init__(self, options: RouteOptions) -> None:
        self._options = options
        self._rests = 0
        self.state: RouteState = "open"
        self.resting_until = 0.0
        self.last_error = ""
        self._start()

    def _start(self) -> None:
        self.window = min(self._options.initial_concurrency, self._options.concurrency)
        self._is_starting = True
        self._grown = 0.0
        self._failed = 0.0
        self._cohort = 0

    def answered(self) -> bool:
        """Take note of a delivery that the destination took, or refused for good; tell whether that ends its rest."""
        if self.state == "resting":
            return False  # it was begun before, and says nothing about now
        self._failed = 0
        self.last_error = ""
        if self.state == "probing":
            self.state = "open"
            self._rests = 0
            self._start()
            return True
        if self.window < self._options.concurrency:
            self._grown += 1 if self._is_starting else 1 / self.window
            if self._grown >= 1:
                self._grown = 0
                self.window += 1
        return False

    def failed(self, error: str, now: float) -> bool:
        """Take note of a failure that was the destination's; tell whether it rests from now on."""
        self.last_error = error
        if self.state == "resting":
            return False
        if self.state == "probing":
            self._rest(now, self._delay_s())
            return True
        if not self._failed:
            self._cohort = max(self.window, _LEAST_COHORT)
        self._failed += 1
        self._is_starting = False
        self._grown = 0
        self.window = max(1, self.window - 1)
        if self._failed < self._cohort * self._options.dead_after:
            return False
        self._rest(now, self._delay_s())
        return True

    def refused(self, error: str, now: float, after_s: float | None) -> bool:
        """Take note that the destination takes nothing now, for `after_s` if it said so; tell whether it rests anew."""
        self.last_error = error
        if self.state == "resting":
            if after_s is not None:
                self.resting_until = max(self.resting_until, now + min(after_s, _LONGEST_S))
            return False
        self._rest(now, self._delay_s() if after_s is None else min(after_s, _LONGEST_S))
        return True

    def _rest(self, now: float, delay_s: float) -> None:
        self.state = "resting"
        self.resting_until = now + max(delay_s, 0)
        self.window = 1

    def _delay_s(self) -> float:
        """Return how long it's to rest, longer from time to time."""
        options = self._options
        try:
            delay_s = options.rest_s * float(options.rest_factor) ** self._rests
        except OverflowError:
            delay_s = options.rest_cap_s
        self._rests += 1
        return min(delay_s, options.rest_cap_s) * random.uniform(1 - options.rest_jitter, 1 + options.rest_jitter)

    def probe(self) -> None:
        """End the rest: one message tells how to go on."""
        self.state = "probing"
