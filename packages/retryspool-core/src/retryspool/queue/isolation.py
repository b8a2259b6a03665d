"""Isolation: a message on its last chance is handled while nothing else of its worker is under way.

If its process dies then, it is the message's fault; and no other is charged for that, nor it for another's.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from retryspool.queue.capacity import Capacity
from retryspool.queue.lanes import Lanes
from retryspool.queue.losses import begun_alone
from retryspool.queue.message import Job
from retryspool.queue.outcome import Outcome, PutOff, Released
from retryspool.queue.settler import Settler

__all__ = ["Isolation"]

_log = logging.getLogger(__name__)

_PATIENCE_S = 60.0
"""How long handlers that run may take to end, at first."""
_GROWTH = 4
_LONGEST_S = 3600.0
"""How much longer they may take the next time, if they took too long, and at the most."""
_PAUSE = 10
"""So many times as long nobody waits again: a handler that never ends costs its worker a tenth of its time."""


class Isolation:
    """Lets one message after the other begin alone. Its lanes let nothing begin from when one's turn has come.

    :param release: what is called with messages that have been claimed and haven't begun
    :param is_stopping: tells whether the worker stops
    """

    def __init__(
        self,
        lanes: Lanes,
        capacity: Capacity,
        settler: Settler,
        *,
        release: Callable[[Job], None],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._lanes = lanes
        self._capacity = capacity
        self._settler = settler
        self._release = release
        self._is_stopping = is_stopping
        self._patience_s = _PATIENCE_S
        self._waits_again_at = 0.0

    def enter(self, job: Job) -> Outcome | None:
        """Wait until a message that the lanes have handed out is alone; returns an outcome if it isn't to begin.

        What hasn't begun goes back, so that other workers may have it. What runs ends, and is settled. That the message
        begins alone is stored before it does.
        """
        left_s = self._waits_again_at - time.monotonic()
        if left_s > 0:
            return self._put_off(left_s)
        for other in self._lanes.drain():
            self._release(other)
        if not self._capacity.wait_until_settled(self._patience_s, self._is_stopping, but_for=1):
            return Released() if self._is_stopping() else self._given_up(job)
        self._patience_s = _PATIENCE_S
        if not self._settler.rewrite(job, begun_alone):
            return Released()
        text = "message %s: delivery %d begins alone, since the end of those before was never heard of"
        _log.info(text, job.record.id, job.record.deliveries)
        return None

    def _given_up(self, job: Job) -> PutOff:
        waited_s, self._patience_s = self._patience_s, min(self._patience_s * _GROWTH, _LONGEST_S)
        pause_s = waited_s * _PAUSE
        self._waits_again_at = time.monotonic() + pause_s
        text = "message %s: it's to be handled alone, but other handlers run on after %.0f s; put off for %.0f s"
        _log.warning(text, job.record.id, waited_s, pause_s)
        return self._put_off(pause_s)

    @staticmethod
    def _put_off(pause_s: float) -> PutOff:
        error = "put off: it's on its last chance, to be handled alone, but other handlers don't end"
        return PutOff(error, timedelta(seconds=pause_s))
