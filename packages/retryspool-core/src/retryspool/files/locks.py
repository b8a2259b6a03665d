"""Locks by key, between the threads of a process and between processes, in one file that doesn't grow.

A key belongs to one of a fixed number of stripes. A stripe is a `threading.Lock` and one byte of the lock file, held by
an open file description lock (`F_OFD_SETLK`, fcntl(2)). The plain POSIX locks won't do: they belong to the process, so
two instances in one process would convert each other's in place of waiting, and closing any descriptor of the file
drops all.

A process that is stopped, or hangs, keeps what it holds. So every wait has an end, and a wait for the file is one by
trying: the kernel's own (`F_OFD_SETLKW`) has no limit. Threads of one process queue for the stripe's `threading.Lock`,
so that one of them at most tries.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType

from retryspool.deadline import remaining
from retryspool.errors import BackendUnavailableError, DeadlineExceededError
from retryspool.files.holders import Holder, advice, holders_of

__all__ = ["Holding", "StripedLocks", "pause_after"]

# struct flock: type, whence, start, length, pid; the pid must be 0 for these locks.
_FLOCK = struct.Struct("hhqqi4x")
_FIRST_PAUSE_S = 0.0005
_LONGEST_PAUSE_S = 0.05
_STUCK_S = 1.0
"""Who was waited for in vain for so long isn't just busy. Where no wait lasts that long, a third of the longest."""
_MOMENT_S = 0.02
"""How long a batch waits for what was waited for in vain before."""

_SEEN_S = 1.0
"""For how long it counts who was seen to hold a stripe: a batch may fail a hundred times for the same reason."""

_batch_until: ContextVar[float | None] = ContextVar("retryspool_locks_batch_until", default=None)
"""Until when waits may last in a batch, by the monotonic clock."""

_opened: weakref.WeakSet[StripedLocks] = weakref.WeakSet()


def _let_go_in_child() -> None:
    # What the parent held when it forked would else stay held for as long as the child lives, even if the parent dies.
    for locks in list(_opened):
        locks.close()


os.register_at_fork(after_in_child=_let_go_in_child)


def pause_after(waited_s: float, longest_s: float = _LONGEST_PAUSE_S) -> float:
    """Return how long to wait before the next try, in seconds: a sixteenth of the time waited, and so no later."""
    return max(_FIRST_PAUSE_S, min(waited_s / 16, longest_s))


class StripedLocks:
    """Locks by key. Not re-entrant; not to be used after a fork.

    :param timeout_s: how long a stripe is waited for at most, in seconds
    """

    def __init__(self, path: str, *, stripes: int = 1024, mode: int = 0o666, timeout_s: float = 30.0) -> None:
        self.stripes = stripes
        self.timeout_s = timeout_s
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        _opened.add(self)
        self._locks = [threading.Lock() for _ in range(stripes)]
        self._take = [_FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, stripe, 1, 0) for stripe in range(stripes)]
        self._drop = [_FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, stripe, 1, 0) for stripe in range(stripes)]
        self._stuck: set[int] = set()
        self._holders: dict[int, tuple[float, Holder | None]] = {}

    def stripe_of(self, key: str) -> int:
        """Return the stripe of a key, the same in every process."""
        return zlib.crc32(key.encode()) % self.stripes

    def acquire(self, stripe: int, key: str = "") -> None:
        """Wait for a stripe.

        :param key: for whose sake, for the error's text
        :raises DeadlineExceededError: the time allowed by `deadline()` is over
        :raises BackendUnavailableError: it was held by others for all of `timeout_s`; the text says by whom, if that
            can be told
        """
        if not self.try_acquire(stripe):
            self._acquire_in_time(stripe, key)

    def _acquire_in_time(self, stripe: int, key: str) -> None:
        begun = time.monotonic()
        left = remaining()
        if not self._take_in_time(stripe, self.timeout_s if left is None else min(left, self.timeout_s)):
            if left is not None and not remaining():
                raise _late()
            raise self._held(stripe, key, time.monotonic() - begun)

    def _take_in_time(self, stripe: int, limit_s: float) -> bool:
        begun = time.monotonic()
        # What other threads hold is waited for in a batch as well: this process isn't stopped.
        taken = self._locks[stripe].acquire(timeout=limit_s) and self._with_file(stripe, begun + limit_s)
        if not taken and min(limit_s, time.monotonic() - begun) >= min(_STUCK_S, self.timeout_s / 3):
            self._stuck.add(stripe)
        return taken

    def _with_file(self, stripe: int, until: float) -> bool:
        """Wait for a stripe's byte, with its thread lock held; give that back if it isn't had."""
        batch_until = _batch_until.get()
        if batch_until is not None:
            moment = time.monotonic() + _MOMENT_S
            until = min(until, batch_until, moment if stripe in self._stuck else until)
        taken = False
        try:
            taken = self._wait_for_file(stripe, until)
        finally:
            if not taken:
                self._locks[stripe].release()
        return taken

    def _wait_for_file(self, stripe: int, until: float) -> bool:
        begun = time.monotonic()
        while not self._try_file(stripe):
            now = time.monotonic()
            if now >= until:
                return False
            threading.Event().wait(min(pause_after(now - begun), until - now))
        return True

    def try_acquire(self, stripe: int) -> bool:
        """Take a stripe if nobody holds it; tell whether."""
        lock = self._locks[stripe]
        if not lock.acquire(blocking=False):
            return False
        taken = False
        try:
            taken = self._try_file(stripe)
        finally:
            if not taken:
                lock.release()
        return taken

    def try_for(self, stripe: int, seconds: float) -> bool:
        """Wait for a stripe for so long at most, and not beyond the deadline; tell whether it was had."""
        left = remaining()
        return self._take_in_time(stripe, min(seconds, self.timeout_s, seconds if left is None else left))

    @contextmanager
    def trying(self, key: str, seconds: float = 0.0) -> Generator[bool]:
        """Hold the stripe of a key for a block, if it's free, or will be within so many seconds; tell whether.

        What is known as stuck isn't waited for.
        """
        stripe = self.stripe_of(key)
        taken = self.try_acquire(stripe) or (not self.is_stuck(stripe) and self.try_for(stripe, seconds))
        try:
            yield taken
        finally:
            if taken:
                self.release(stripe)

    def is_stuck(self, stripe: int) -> bool:
        """Tell whether a stripe was waited for in vain, and not had since: its holder may be stopped."""
        return stripe in self._stuck

    def note_stuck(self, stripe: int) -> None:
        """Take note that a stripe was waited for in vain."""
        self._stuck.add(stripe)

    @contextmanager
    def batch(self, most_s: float | None = None) -> Generator[None]:
        """Let the calls inside wait for other processes for a third of `timeout_s` in all, or for `most_s` if less.

        What is known as stuck is waited for only a moment. So one holder that is stopped holds up no others for long.
        """
        patience_s = self.timeout_s / 3 if most_s is None else min(most_s, self.timeout_s / 3)
        token = _batch_until.set(time.monotonic() + patience_s)
        try:
            yield
        finally:
            _batch_until.reset(token)

    def holders(self) -> Iterator[Holder]:
        """Yield the processes that hold stripes right now, as far as they can be told."""
        return holders_of(self._path)

    def _held(self, stripe: int, key: str, waited_s: float) -> BackendUnavailableError:
        whose = f"the lock of {key!r}" if key else "a lock"
        text = (
            f"{whose} (byte {stripe} of {self._path!r}) couldn't be had within {waited_s:.1f} s, and nothing was "
            f"changed; {advice(self._holder_of(stripe))}"
        )
        return BackendUnavailableError(text, outcome="none")

    def _holder_of(self, stripe: int) -> Holder | None:
        now = time.monotonic()
        seen = self._holders.get(stripe)
        if seen is None or now - seen[0] > _SEEN_S:
            seen = self._holders[stripe] = now, next(holders_of(self._path, first=stripe, last=stripe), None)
        return seen[1]

    def _try_file(self, stripe: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._take[stripe])
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EACCES}:
                return False
            raise
        if self._stuck:
            self._stuck.discard(stripe)
        return True

    def release(self, stripe: int) -> None:
        """Give a stripe back."""
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._drop[stripe])
        self._locks[stripe].release()

    def holding(self, key: str) -> Holding:
        """Hold the stripe of a key for a block. Never two: others may take them in another order."""
        return Holding(self, self.stripe_of(key), key)

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Holding:
    """A stripe that is held for a block."""

    __slots__ = ("_key", "_locks", "_stripe")

    def __init__(self, locks: StripedLocks, stripe: int, key: str) -> None:
        self._locks = locks
        self._stripe = stripe
        self._key = key

    def __enter__(self) -> None:
        self._locks.acquire(self._stripe, self._key)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._locks.release(self._stripe)


def _late() -> DeadlineExceededError:
    return DeadlineExceededError("the deadline passed while waiting for a lock; nothing was changed")
