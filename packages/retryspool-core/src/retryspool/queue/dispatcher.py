"""Claiming: the thread that finds out when there's work, claims it and hands it out."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from retryspool.errors import BackendClosedError, StorageError
from retryspool.meta import StateCounter
from retryspool.model import MessageMetadata, State, utc_now
from retryspool.queue.capacity import Capacity
from retryspool.queue.claiming import Claiming
from retryspool.queue.handlers import Handlers
from retryspool.queue.lanes import Lanes
from retryspool.queue.options import QueueOptions
from retryspool.queue.pausing import Paused, Pausing
from retryspool.spool import Spool

__all__ = ["Dispatcher"]

_log = logging.getLogger(__name__)

_LISTEN_S = 0.25
"""How long one wait for changes lasts at the most: so soon a stop is noticed."""

_FIRST_PAUSE_S = 0.01
_LONGEST_PAUSE_S = 5.0
"""Between two tries, if the last failed or didn't get what should have been due."""

_PASSED_OVER_PAUSE_S = 1.0
"""The same, while routes are passed over: theirs may be what is due, or hide when others' messages will be."""


class Dispatcher:
    """Claims messages as fast as they can be handled.

    :param hand_out: what is called with claimed messages, and when their claim began by the monotonic clock
    :param until_idle: end once nothing is due and everything is settled
    """

    def __init__(
        self,
        spool: Spool,
        options: QueueOptions,
        handlers: Handlers,
        capacity: Capacity,
        lanes: Lanes,
        *,
        owner: str,
        hand_out: Callable[[Sequence[MessageMetadata], float], None],
        until_idle: bool,
    ) -> None:
        self._spool = spool
        self._options = options
        self._handlers = handlers
        self._capacity = capacity
        self._lanes = lanes
        self._claiming = Claiming(spool.meta, options, lanes, owner)
        self._hand_out = hand_out
        self._until_idle = until_idle
        self._counter = spool.meta if isinstance(spool.meta, StateCounter) else None
        self._pausing = Pausing(spool.meta)
        self._paused = Paused(None, {})
        self._turn = 0
        self._failing_s = _FIRST_PAUSE_S
        self._missing_s = _FIRST_PAUSE_S
        self._trying_since: float | None = None
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Claim nothing any more; `run()` ends soon."""
        self._stopped.set()
        self._capacity.stop()

    @property
    def stalled_s(self) -> float:
        """For how long it has tried in vain to claim, in seconds; 0 if it can, or needn't."""
        since = self._trying_since
        return 0.0 if since is None else time.monotonic() - since

    def is_paused(self, record: MessageMetadata) -> bool:
        """Tell whether a message that was claimed shouldn't begin: it, or the spool, was paused meanwhile."""
        return self._paused.spool is not None or record.route in self._paused.routes

    def run(self) -> None:
        """Claim and hand out until stopped."""
        while limit := self._capacity.wait():
            try:
                if not self._claim(limit):
                    return
            except BackendClosedError as error:
                _log.error("the worker ends: %s", error)
                return
            except Exception as error:  # noqa: BLE001 -- whatever a backend raises, the worker goes on
                known = isinstance(error, StorageError)
                _log.error("claiming failed, trying again in %.2f s: %s", self._failing_s, error, exc_info=not known)
                self._stopped.wait(self._failing_s)
                self._failing_s = min(self._failing_s * 2, _LONGEST_PAUSE_S)

    def _claim(self, limit: int) -> bool:
        """Claim once, and wait if that was all; returns False at the end."""
        was_idle = not self._capacity.unsettled
        since = time.monotonic()
        if self._trying_since is None:
            self._trying_since = since
        sources = self._sources()
        openings = self._lanes.openings
        claimed, is_all = self._claim_from(sources, limit)
        self._trying_since = None
        self._failing_s = _FIRST_PAUSE_S
        if claimed:
            if not self._claiming.has_passed_over:
                self._missing_s = _FIRST_PAUSE_S
            self._hand_out(claimed, since)
        elif self._until_idle and was_idle and is_all:
            return False
        if is_all:
            if self._until_idle:
                self._capacity.wait_until_settled(_LISTEN_S, lambda: self._lanes.openings != openings)
            else:
                self._wait(sources, openings)
        return True

    def _claim_from(self, sources: Sequence[State], limit: int) -> tuple[Sequence[MessageMetadata], bool]:
        """Return what is claimed, and whether that was all."""
        self._paused = self._pausing.get()
        if self._paused.spool is not None:
            return (), True
        claimed = self._claiming.claim(sources, limit, self._paused.exclusions())
        return claimed, self._claiming.is_all

    def _sources(self) -> Sequence[State]:
        """Return the states to claim from, each of them first in its turn, so that none starves the others."""
        sources = deque(self._handlers.sources)
        sources.rotate(self._turn)
        self._turn += 1
        return sources

    def _wait(self, sources: Sequence[State], openings: int) -> None:
        """Wait until something has changed, or is due, or it's time to look whatever one was told.

        :param openings: how often routes were opened again when it was decided to wait
        """
        until = time.monotonic() + min(self._options.poll_s, self._due_in_s(sources))
        # A backend's wait isn't ended by a route that may be claimed again. So that is looked for, ever less often:
        # seen late by what it took to come about, at most, while as much as has begun by then still waits to.
        listen_s = _FIRST_PAUSE_S if self._lanes.may_open_soon else _LISTEN_S
        while (left := until - time.monotonic()) > 0 and not self._stopped.is_set():
            if self._lanes.openings != openings or self._spool.meta.wait_for_change(min(left, listen_s)):
                return
            listen_s = min(listen_s * 2, _LISTEN_S)

    def _due_in_s(self, sources: Sequence[State]) -> float:
        counter = self._counter
        if counter is None:
            return self._options.poll_s
        now = utc_now()
        due = [counter.get_oldest_due(state) for state in (State.ACTIVE, *sources)]
        left_s = [(oldest - now).total_seconds() for oldest in due if oldest is not None]
        if any(left <= 0 for left in left_s):
            # What is due and yet wasn't claimed isn't for this worker, or not in the index yet: not without a pause.
            left_s.append(self._missing_s)
            longest_s = _PASSED_OVER_PAUSE_S if self._claiming.has_passed_over else _LONGEST_PAUSE_S
            self._missing_s = min(self._missing_s * 2, longest_s)
        return min((left for left in left_s if left > 0), default=self._options.poll_s)
