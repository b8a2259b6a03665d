"""Lanes: where claimed messages wait until their handlers may begin, a lane for each destination.

Destinations take turns. One whose limits let nothing begin keeps no handler from the others, nor much room: it's passed
over by further claims as soon as enough of its messages wait here, and what waits for one that rests goes back at once.

A message that is to run alone takes its turn like any other. From then until it's done nothing else begins or is
added.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from retryspool.model import State, utc_now
from retryspool.queue.lane import Lane
from retryspool.queue.message import Job
from retryspool.queue.outcome import Released
from retryspool.queue.routes import RouteStatus, RouteTable

__all__ = ["Lanes"]

_REMEMBERED = 1000
"""Destinations that nothing is going on with are remembered up to so many."""


class Lanes:
    """The claimed messages of a worker whose handlers haven't begun. Safe to share between threads.

    :param table: the limits by route
    :param handlers: how many handlers there are
    :param turn_back: what is called with messages that are put off or released: their outcome says so
    """

    def __init__(
        self,
        table: RouteTable,
        handlers: int,
        *,
        turn_back: Callable[[Sequence[Job]], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.parked = 0
        """Messages that can't begin yet for the limits' sake."""
        self.openings = 0
        """Raised whenever messages are to be claimed again that were passed over."""
        self._table = table
        self._handlers = handlers
        self._turn_back = turn_back
        self._clock = clock
        self._changed = threading.Condition(threading.Lock())
        self._sleeping = 0
        self._someone_watches = False
        self._closed = False
        self._alone: Job | None = None
        self._bounces = Lane("", None, handlers)
        self._lanes: dict[str, Lane] = {}
        self._sweep_at = _REMEMBERED
        self._turns: deque[Lane] = deque()
        self._wakes: list[tuple[float, int, Lane]] = []
        self._rests: list[tuple[float, int, Lane]] = []
        self._number = 0
        self._due: dict[str, Lane] = {}
        self._excluded: set[str] = set()
        self._snapshot: frozenset[str] | None = frozenset()

    # -- for the dispatcher --------------------------------------------------------------------------------------------

    def put(self, job: Job) -> None:
        """Add a claimed message; one whose destination rests goes back at once, and any while one runs alone."""
        with self._changed:
            now = self._clock()
            lane = self._lane_of(job)
            back = self._turned_back(job, lane, now)
            if not back:
                lane.push(job, now)
                self._keep(lane, now)
        if back:
            self._turn_back(back)

    def _turned_back(self, job: Job, lane: Lane, now: float) -> list[Job]:
        """Return the message, with its outcome, if it can't be added."""
        if self._alone is not None:
            job.outcome = Released()
            return [job]
        if lane.feedback is not None and lane.feedback.state == "resting":
            if now < lane.feedback.resting_until:
                return lane.put_off([job], now)
            self._probe(lane, now)
        return []

    def exclusions(self) -> frozenset[str]:
        """Return the routes that are to be passed over: they rest, or enough of their messages wait here."""
        with self._changed:
            if self._snapshot is None:
                self._snapshot = frozenset(self._excluded)
            return self._snapshot

    @property
    def may_open_soon(self) -> bool:
        """Whether a route that is passed over may be claimed again as soon as handlers end."""
        return len(self._excluded) > len(self._rests)

    @property
    def is_kept_for_one(self) -> bool:
        """Whether one message runs alone, or waits for the others to end."""
        return self._alone is not None

    def probes(self) -> frozenset[str]:
        """Return the routes whose rest is over: one message of each is wanted."""
        with self._changed:
            now = self._clock()
            while self._rests and self._rests[0][0] <= now:
                _, _, lane = heapq.heappop(self._rests)
                if lane.feedback is not None and lane.feedback.state == "resting":
                    if lane.feedback.resting_until > now:
                        self._note_rest(lane)
                    else:
                        self._due[lane.route] = lane
            return frozenset(self._due)

    def but_for(self, routes: frozenset[str]) -> frozenset[str]:
        """Return all routes that are known but for these: a claim that passes them over is most likely for these."""
        with self._changed:
            return frozenset(self._lanes) - routes

    def forgo_probes(self, routes: frozenset[str]) -> None:
        """Look no longer for messages of these that probe: whenever some come, the first of them will."""
        if not routes:
            return
        with self._changed:
            now = self._clock()
            for lane in [lane for route, lane in self._due.items() if route in routes]:
                self._probe(lane, now)

    def give_back(self, count: int) -> list[Job]:
        """Take up to `count` messages out that can't begin yet, from the fullest lanes."""
        given: list[Job] = []
        if count <= 0 or not self.parked:
            return given
        with self._changed:
            now = self._clock()
            for lane in sorted(self._lanes.values(), key=lambda each: each.parked, reverse=True):
                if not lane.parked or len(given) >= count:
                    break
                given += lane.take_back(min(lane.parked, count - len(given)))
                self._keep(lane, now)
        return given

    # -- for those who run handlers ------------------------------------------------------------------------------------

    def take(self) -> Job | None:
        """Wait until a message's handler may begin, and return the message; None once closed."""
        with self._changed:
            while not self._closed:
                now = self._clock()
                job = self._next(now)
                if job is not None:
                    return job
                self._sleep(now)
        return None

    def take_now(self) -> Job | None:
        """Return a message whose handler may begin now, None if there's none."""
        with self._changed:
            return None if self._closed else self._next(self._clock())

    def _next(self, now: float) -> Job | None:
        self._wake(now)
        while self._turns and self._alone is None:
            lane = self._turns.popleft()
            lane.in_turn = False
            if lane.waiting and lane.may_begin(now):
                return self._begin(lane, now)
        return None

    def _begin(self, lane: Lane, now: float) -> Job:
        job = lane.begin(now)
        if job.alone:
            self._alone = job
        self._keep(lane, now)
        if self._sleeping and self._wakes and not self._someone_watches:
            self._changed.notify()
        return job

    def _sleep(self, now: float) -> None:
        """Wait for a change; one of those who wait watches the clock."""
        watches = bool(self._wakes) and not self._someone_watches
        self._sleeping += 1
        self._someone_watches |= watches
        try:
            self._changed.wait(max(0.0, self._wakes[0][0] - now) if watches else None)
        finally:
            self._sleeping -= 1
            if watches:
                self._someone_watches = False

    def _wake(self, now: float) -> None:
        """Let lanes take turns again whose time has come."""
        while self._wakes and self._wakes[0][0] <= now:
            lane = heapq.heappop(self._wakes)[-1]
            lane.wakes_at = 0.0
            self._keep(lane, now)

    def done(self, job: Job) -> None:
        """Take note that what `take()` returned is done: its `outcome` says how it went, None that it never began."""
        with self._changed:
            now = self._clock()
            lane = self._lane_of(job)
            lane.running -= 1
            was = lane.state
            lane.learn(job, now)
            became = lane.state
            begins_to_rest = became == "resting" and was != "resting"
            put_off = lane.put_off(lane.take_all(), now) if begins_to_rest else []
            self._keep(lane, now)
            if begins_to_rest:
                self._note_rest(lane)
            if job is self._alone:
                self._alone = None
                self.openings += 1
                self._changed.notify_all()
        if became != was:
            lane.log_change(became, now, len(put_off))
        if put_off:
            self._turn_back(put_off)

    def close(self) -> None:
        """Let nobody wait any more: from now on `take()` returns None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> list[Job]:
        """Return what hasn't begun, and forget it."""
        with self._changed:
            now = self._clock()
            jobs: list[Job] = []
            for lane in (self._bounces, *self._lanes.values()):
                jobs += lane.take_all()
                self._keep(lane, now)
            return jobs

    def status(self) -> list[RouteStatus]:
        """Return what is known of each destination, by name."""
        with self._changed:
            now, wall = self._clock(), utc_now()
            return [lane.status(now, wall) for _, lane in sorted(self._lanes.items())]

    # -- inside, under the lock ----------------------------------------------------------------------------------------

    def _lane_of(self, job: Job) -> Lane:
        if job.origin is State.BOUNCE:  # goes elsewhere than to its destination
            return self._bounces
        route = job.record.route
        lane = self._lanes.get(route)
        if lane is None:
            if len(self._lanes) >= self._sweep_at:
                self._forget_idle()
            lane = self._lanes[route] = Lane(route, self._table.options_for(route), self._handlers)
        return lane

    def _forget_idle(self) -> None:
        now = self._clock()
        for lane in self._lanes.values():
            self._keep(lane, now)
        self._lanes = {route: lane for route, lane in self._lanes.items() if not lane.is_idle}
        self._sweep_at = max(_REMEMBERED, 2 * len(self._lanes))

    def _keep(self, lane: Lane, now: float) -> None:
        """Bring up to date what is kept of a lane here, after each change of it."""
        left = lane.measure(now)
        self.parked += lane.parked - lane.counted
        lane.counted = lane.parked
        if lane.waiting and not lane.in_turn:
            if left:
                lane.in_turn = True
                self._turns.append(lane)
                if self._sleeping:
                    self._changed.notify()
            else:
                self._note_wake(lane)
        self._note_exclusion(lane)

    def _note_wake(self, lane: Lane) -> None:
        at = lane.next_start()
        if at is not None and at != lane.wakes_at:
            lane.wakes_at = at
            self._number += 1
            heapq.heappush(self._wakes, (at, self._number, lane))
            if self._sleeping and self._wakes[0][-1] is lane:
                self._changed.notify_all()  # whoever watches the clock has to know

    def _note_exclusion(self, lane: Lane) -> None:
        if lane is self._bounces or lane.is_excluded == (lane.route in self._excluded):
            return
        self._snapshot = None
        if lane.is_excluded:
            self._excluded.add(lane.route)
        else:
            self._excluded.remove(lane.route)
            self.openings += 1

    def _note_rest(self, lane: Lane) -> None:
        if lane.feedback is not None:
            self._number += 1
            heapq.heappush(self._rests, (lane.feedback.resting_until, self._number, lane))

    def _probe(self, lane: Lane, now: float) -> None:
        self._due.pop(lane.route, None)
        if lane.feedback is not None:
            lane.feedback.probe()
        self._keep(lane, now)
