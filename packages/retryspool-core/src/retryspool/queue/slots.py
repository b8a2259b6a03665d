"""Slots: how many handlers may still begin."""

from __future__ import annotations

import threading

__all__ = ["Slots"]


class Slots:
    """A semaphore that wakes one thread at a time.

    Who wakes wakes the next if slots are left. So one thread takes as many as become free while it works, and others
    join in only when it has to wait for something else; a plain semaphore wakes a thread for each slot, and with
    coroutines that end by the hundred they would all stand in line for the interpreter.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = count
        self._sleeping = 0
        self._someone_wakes = False
        self._changed = threading.Condition(threading.Lock())

    def acquire(self) -> None:
        """Wait for a slot, and take it."""
        with self._changed:
            while self._free <= 0:
                self._sleeping += 1
                self._changed.wait()
                self._sleeping -= 1
                self._someone_wakes = False
            self._free -= 1
            self._wake()

    def release(self) -> None:
        """Give a slot back."""
        with self._changed:
            self._free += 1
            self._wake()

    def resize(self, count: int) -> None:
        """Let there be so many; those that are too many are taken away as they're given back."""
        with self._changed:
            self._free += count - self._count
            self._count = count
            self._wake()

    def _wake(self) -> None:
        if self._free > 0 and self._sleeping and not self._someone_wakes:
            self._someone_wakes = True
            self._changed.notify()
