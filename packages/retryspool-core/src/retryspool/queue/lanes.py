"""Lanes: where claimed messages wait until their handlers may begin."""

from __future__ import annotations

import threading
from collections import deque

from retryspool.queue.message import Job

__all__ = ["Lanes"]


class Lanes:
    """The claimed messages of a worker whose handlers haven't begun. Safe to share between threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._ready: deque[Job] = deque()
        self._waiting = 0
        self._closed = False

    def put(self, job: Job) -> None:
        """Add a claimed message."""
        with self._changed:
            self._ready.append(job)
            if self._waiting:
                self._changed.notify()

    def take(self) -> Job | None:
        """Wait until a message's handler may begin, and return the message; None once closed."""
        with self._changed:
            while not self._closed:
                if self._ready:
                    return self._ready.popleft()
                self._waiting += 1
                self._changed.wait()
                self._waiting -= 1
        return None

    def done(self, job: Job) -> None:
        """Take note that what `take()` returned is done: its `outcome` says how it went, or None that it never began."""

    def close(self) -> None:
        """Let nobody wait any more: from now on `take()` returns None."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def drain(self) -> list[Job]:
        """Return what hasn't begun, and forget it."""
        with self._changed:
            jobs = list(self._ready)
            self._ready.clear()
            return jobs
