"""Locks by key, between the threads of a process and between processes, in one file that doesn't grow.

A key belongs to one of a fixed number of stripes. A stripe is a `threading.Lock` and one byte of the lock file, held by
an open file description lock (`F_OFD_SETLK`, fcntl(2)). The plain POSIX locks won't do: they belong to the process, so
two instances in one process would convert each other's in place of waiting, and closing any descriptor of the file
drops all.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
import weakref
import zlib
from types import TracebackType

from retryspool.deadline import remaining
from retryspool.errors import DeadlineExceededError

__all__ = ["Holding", "StripedLocks"]

# struct flock: type, whence, start, length, pid; the pid must be 0 for these locks.
_FLOCK = struct.Struct("hhqqi4x")
_LONGEST_PAUSE_S = 0.05

_opened: weakref.WeakSet[StripedLocks] = weakref.WeakSet()


def _let_go_in_child() -> None:
    # What the parent held when it forked would else stay held for as long as the child lives, even if the parent dies.
    for locks in list(_opened):
        locks.close()


os.register_at_fork(after_in_child=_let_go_in_child)


class StripedLocks:
    """Locks by key. Not re-entrant; not to be used after a fork."""

    def __init__(self, path: str, *, stripes: int = 1024, mode: int = 0o666) -> None:
        self.stripes = stripes
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, mode)
        _opened.add(self)
        self._locks = [threading.Lock() for _ in range(stripes)]
        self._take = [_FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, stripe, 1, 0) for stripe in range(stripes)]
        self._drop = [_FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, stripe, 1, 0) for stripe in range(stripes)]

    def stripe_of(self, key: str) -> int:
        """Return the stripe of a key, the same in every process."""
        return zlib.crc32(key.encode()) % self.stripes

    def acquire(self, stripe: int) -> None:
        """Wait for a stripe.

        :raises DeadlineExceededError: the time allowed by `deadline()` is over
        """
        left = remaining()
        lock = self._locks[stripe]
        if not lock.acquire(timeout=-1 if left is None else left):
            raise _late()
        try:
            if left is None:
                fcntl.fcntl(self._fd, fcntl.F_OFD_SETLKW, self._take[stripe])
            else:
                self._acquire_in_time(stripe)
        except BaseException:
            lock.release()
            raise

    def _acquire_in_time(self, stripe: int) -> None:
        pause = 0.0005
        while not self._try_file(stripe):
            left = remaining()
            if not left:
                raise _late()
            threading.Event().wait(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)

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

    def _try_file(self, stripe: int) -> bool:
        try:
            fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._take[stripe])
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EACCES}:
                return False
            raise
        return True

    def release(self, stripe: int) -> None:
        """Give a stripe back."""
        fcntl.fcntl(self._fd, fcntl.F_OFD_SETLK, self._drop[stripe])
        self._locks[stripe].release()

    def holding(self, key: str) -> Holding:
        """Hold the stripe of a key for a block. Never two: others may take them in another order."""
        return Holding(self, self.stripe_of(key))

    def close(self) -> None:
        """Close the file; may be called again."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)


class Holding:
    """A stripe that is held for a block."""

    __slots__ = ("_locks", "_stripe")

    def __init__(self, locks: StripedLocks, stripe: int) -> None:
        self._locks = locks
        self._stripe = stripe

    def __enter__(self) -> None:
        self._locks.acquire(self._stripe)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._locks.release(self._stripe)


def _late() -> DeadlineExceededError:
    return DeadlineExceededError("the deadline passed while waiting for a lock; nothing was changed")
