"""Waiting for a file to be written to, without looking again and again: by inotify, where the system has it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
import threading

__all__ = ["FileWatch"]

_IN_MODIFY = 0x2
_READ_BYTES = 64 * 1024


class FileWatch:
    """Tells of writes to a file by any process of this machine; those of others, over a network, it doesn't see.

    :raises OSError: there's no inotify here, or none is left
    """

    def __init__(self, path: str) -> None:
        if sys.platform != "linux":
            raise OSError(errno.ENOSYS, "there's no inotify")
        self._lock = threading.Lock()  # of the next two
        self._waiting = 0
        self._closed = False
        with contextlib.ExitStack() as opened:
            self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            opened.callback(os.close, self._bell)
            self._inotify = _inotify_of(path)
            opened.callback(os.close, self._inotify)
            self._files = opened.pop_all()

    def wait(self, timeout: float) -> None:
        """Wait until the file has been written to since the last wait, or `ring()` or `close()` is called.

        Of several threads that wait one may be the only one to be told, but for `close()`.
        """
        with self._lock:
            if self._closed:
                return
            self._waiting += 1
        poll = select.poll()
        for fd in (self._bell, self._inotify):
            poll.register(fd, select.POLLIN)
        try:
            for fd, _ in poll.poll(timeout * 1000):
                if not self._closed:  # then all are to see it
                    with contextlib.suppress(BlockingIOError):  # another thread was faster
                        os.read(fd, _READ_BYTES)
        finally:
            with self._lock:
                self._waiting -= 1
                self._close_if_left()

    def ring(self) -> None:
        """End the waits that are under way, or the next one."""
        with self._lock:
            if not self._closed:
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """End all waits; may be called again."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.eventfd_write(self._bell, 1)
                self._close_if_left()

    def _close_if_left(self) -> None:
        if self._closed and not self._waiting:
            self._files.close()


def _inotify_of(path: str) -> int:
    """Return a file descriptor of the writes to a file."""
    import ctypes  # noqa: PLC0415 -- only those who wait need it

    libc = ctypes.CDLL(None, use_errno=True)
    fd: int = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if fd < 0 or libc.inotify_add_watch(fd, os.fsencode(path), _IN_MODIFY) < 0:
        number = ctypes.get_errno()
        if fd >= 0:
            os.close(fd)
        raise OSError(number, os.strerror(number), path)
    return fd
