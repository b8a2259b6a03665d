"""One lane: the claimed messages of one destination, and what is known of it."""

from __future__ import annotations

import heapq
import logging
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta

from retryspool.queue.feedback import Feedback
from retryspool.queue.message import Job
from retryspool.queue.outcome import Failed, PutOff, Succeeded, storable
from retryspool.queue.rates import Pace, Rate
from retryspool.queue.routes import RouteOptions, RouteState, RouteStatus

__all__ = ["Lane"]

_log = logging.getLogger(__name__)

_NO_LIMIT = sys.maxsize
_OVERTAKEN = 16
"""So many earlier messages are overtaken by one whose priority is better by 1, and no more: none waits for ever."""


class Lane:
    """The claimed messages of one destination. Not safe to share between threads.

    :param options: its limits; None for none
    :param handlers: how many handlers the worker has: a window that is no narrower holds nothing up
    """

    __slots__ = (
        "_handlers",
        "_heap",
        "_number",
        "_refill_at",
        "counted",
        "feedback",
        "in_turn",
        "is_full",
        "pace",
        "parked",
        "route",
        "running",
        "wakes_at",
    )

    def __init__(self, route: str, options: RouteOptions | None, handlers: int) -> None:
        self.route = route
        self.feedback = None if options is None else Feedback(options)
        self.pace = None if options is None or options.rate is None else Pace(Rate.parse(options.rate))
        self.running = 0
        self.parked = 0
        """Messages that can't begin yet for the limits' sake, as of the last `measure()`."""
        self.is_full = False
        """Whether enough is parked, until about half of it has begun."""
        self.counted = 0
        self.in_turn = False
        self.wakes_at = 0.0
        """What its keeper has noted of it: how many are parked, whether it takes turns, when it's to be woken."""
        self._handlers = handlers
        self._heap: list[tuple[int, int, Job]] = []
        self._number = 0
        self._refill_at = 0

    @property
    def waiting(self) -> int:
        """Messages that haven't begun."""
        return len(self._heap)

    @property
    def state(self) -> RouteState:
        """How its destination takes messages; without limits it's open."""
        return "open" if self.feedback is None else self.feedback.state

    @property
    def is_idle(self) -> bool:
        """Whether it can be forgotten: it has no messages, and nothing that is known of it keeps any from beginning."""
        return self.state == "open" and not self._heap and not self.running and (self.pace is None or self.pace.is_idle)

    @property
    def is_excluded(self) -> bool:
        """Whether no more of its messages are to be claimed."""
        if self.feedback is None:
            return False
        state = self.feedback.state
        return self.is_full or state == "resting" or (state == "probing" and bool(self._heap or self.running))

    def may_begin(self, now: float) -> int:
        """Return how many more may begin now."""
        if self.feedback is None:
            return _NO_LIMIT
        left = 0 if self.feedback.state == "resting" else max(0, self.feedback.window - self.running)
        return left if self.pace is None else min(left, self.pace.left(now))

    def measure(self, now: float) -> int:
        """Bring `parked` and `is_full` up to date, and return how many may begin now."""
        left = self.may_begin(now)
        waiting = len(self._heap)
        holds_up = self.feedback is not None and (self.pace is not None or self.feedback.window < self._handlers)
        self.parked = max(0, waiting - left) if holds_up else 0
        if self.is_full and (not holds_up or waiting <= self._refill_at or waiting < left):
            self.is_full = False
        return left

    def next_start(self) -> float | None:
        """Return when messages may begin that only the rate keeps from it, None if there are none."""
        if self.feedback is None or self.pace is None or not self._heap or self.feedback.window <= self.running:
            return None
        return self.pace.next_at()

    def push(self, job: Job, now: float) -> None:
        """Add a message."""
        self._number += 1
        heapq.heappush(self._heap, (job.record.priority * _OVERTAKEN + self._number, self._number, job))
        self.measure(now)
        if self.feedback is not None and self.parked >= self.feedback.window:
            self.is_full = True
            self._refill_at = len(self._heap) // 2

    def begin(self, now: float) -> Job:
        """Take the first message out; it runs from now on."""
        self.running += 1
        if self.pace is not None:
            self.pace.started(now)
        return heapq.heappop(self._heap)[-1]

    def take_back(self, count: int) -> list[Job]:
        """Take the last `count` messages out, and no more until one could begin at once."""
        self._heap.sort()
        jobs = [self._heap.pop()[-1] for _ in range(min(count, len(self._heap)))]
        self.is_full = True
        self._refill_at = -1
        return jobs

    def take_all(self) -> list[Job]:
        """Take all messages out that haven't begun."""
        jobs = [job for _, _, job in sorted(self._heap)]
        self._heap.clear()
        return jobs

    def put_off(self, jobs: Iterable[Job], now: float) -> list[Job]:
        """Let messages wait elsewhere until its rest is over: their outcome says so."""
        if self.feedback is None:
            return []
        after = timedelta(seconds=self.feedback.resting_until - now)
        error = storable(f"put off: route {self.route!r} takes nothing now: {self.feedback.last_error}")
        put_off = list(jobs)
        for job in put_off:
            job.outcome = PutOff(error, after)
        return put_off

    def learn(self, job: Job, now: float) -> None:
        """Take note of how a message that has run ended: its `outcome` says so, None that it never began."""
        outcome, feedback = job.outcome, self.feedback
        if feedback is None:
            return
        if isinstance(outcome, Failed) and not outcome.permanent and outcome.concerns == "route":
            if outcome.route_is_out:
                after_s = None if outcome.after is None else outcome.after.total_seconds()
                feedback.refused(outcome.error, now, after_s)
            else:
                feedback.failed(outcome.error, now)
        elif isinstance(outcome, (Failed, Succeeded)):
            feedback.answered()

    def status(self, now: float, wall: datetime) -> RouteStatus:
        """Return what is known of its destination; `wall` is the time of day at the moment that is `now`."""
        feedback = self.feedback
        if feedback is None:
            return RouteStatus(self.route, "open", None, self.running, self.waiting, None, "")
        until = wall + timedelta(seconds=feedback.resting_until - now) if feedback.state == "resting" else None
        return RouteStatus(
            self.route, feedback.state, feedback.window, self.running, self.waiting, until, feedback.last_error
        )

    def log_change(self, became: RouteState, now: float, put_off: int) -> None:
        """Log that its destination has come to rest, or answers again."""
        feedback = self.feedback
        if feedback is None:
            return
        extra = {"route": self.route}
        if became == "open":
            _log.info("route %r: answers again", self.route, extra=extra)
        elif became == "resting":
            rest_s = feedback.resting_until - now
            text = "route %r: takes nothing, and is left alone for %.1f s; %d messages are put off until then: %s"
            _log.warning(text, self.route, rest_s, put_off, feedback.last_error, extra=extra)
