"""When what is written reaches the disk, and what follows when it can't.

A failed fsync is final. The kernel reports it once and then drops the pages, so that a second fsync of the same file
succeeds without anything on the disk (PostgreSQL's "fsyncgate", 2018). So the first failure ends all writing through
this instance; a new one starts from what is really there.
"""

from __future__ import annotations

import enum
import errno
import os
import threading
from collections.abc import Generator
from contextlib import contextmanager

from retryspool.errors import (
    BackendError,
    BackendUnavailableError,
    DeadlineExceededError,
    InvalidOptionError,
    Outcome,
    StorageError,
)
from retryspool.files.directory import Directory

__all__ = ["Durability", "SyncMode", "disk_error", "storage_error", "wrapping_disk_errors"]

_REFUSED = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.EFBIG}


class SyncMode(enum.Enum):
    """What a power cut may take. `kill -9` takes nothing in any mode."""

    STANDARD = "standard"
    """Nothing: content and names are synced before a call returns."""
    HYBRID = "hybrid"
    """The last moments: content is synced, names are within `sync_interval`. Nothing is torn."""
    PERFORMANCE = "performance"
    """What the system had not written yet, and what is torn is set aside: nothing is synced."""


def disk_error(what: str, error: OSError, *, outcome: Outcome = "none") -> BackendError:
    """Make the error to raise for a failed file operation, from `error`.

    :param what: what was tried, as in "storing message 'a1'"
    :param outcome: whether it may have happened all the same
    """
    reason = f"{error.strerror or error}" + (f" ({error.filename})" if error.filename else "")
    if error.errno in _REFUSED:
        return BackendUnavailableError(f"{what} failed: {reason}", outcome=outcome)
    return BackendError(f"{what} failed: {reason}")


def storage_error(what: str, error: OSError | StorageError) -> StorageError:
    """Return `error` if it is one of ours (a deadline's is both), else what `disk_error` makes of it."""
    return error if isinstance(error, StorageError) else disk_error(what, error)


@contextmanager
def wrapping_disk_errors(what: str) -> Generator[None]:
    """Raise an `OSError` from inside as a `BackendError` that says what was tried."""
    try:
        yield
    except DeadlineExceededError:  # an OSError by way of TimeoutError, and no failure of the disk
        raise
    except OSError as error:
        raise disk_error(what, error) from error


class Durability:
    """The syncs of one backend instance, by its mode.

    :param sync_interval_s: how long names may wait in hybrid mode, in seconds
    """

    def __init__(self, mode: SyncMode, sync_interval_s: float = 1.0) -> None:
        if not 0 < sync_interval_s <= 3600:  # noqa: PLR2004 -- an hour is more than anybody wants to lose
            msg = f"sync_interval is {sync_interval_s}; it must be more than 0 and at most 3600 seconds"
            raise InvalidOptionError(msg)
        self.mode = mode
        self.content = mode is not SyncMode.PERFORMANCE
        """Whether content is synced."""
        self.names = mode is SyncMode.STANDARD
        """Whether names are synced before a call returns."""
        self._interval_s = sync_interval_s
        self._failure: OSError | None = None
        self._dirty: set[Directory] = set()
        self._dirty_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Do nothing while writing is possible.

        :raises BackendUnavailableError: a sync has failed
        """
        if self._failure is not None:
            msg = (
                f"an earlier sync to the disk failed ({self._failure.strerror}), so nothing more is written; "
                "look at the disk and the system's log, then open the spool anew"
            )
            raise BackendUnavailableError(msg, outcome="none") from self._failure

    def sync_content(self, fd: int, *, outcome: Outcome = "unknown") -> None:
        """Make a file's content survive, where the mode wants that.

        :param outcome: whether what is being done may have happened if this fails: not while the file has no name yet
        :raises BackendUnavailableError: it failed, now and for good
        """
        if self.content:
            self._check_sync(outcome)
            try:
                os.fsync(fd)
            except OSError as error:
                raise self._failed(error, outcome) from error
            self._check_sync(outcome)

    def sync_names(self, *directories: Directory) -> None:
        """Make the names in directories survive, where the mode wants that: now, or within the interval.

        :raises BackendUnavailableError: it failed, now and for good
        """
        if self.names:
            self._check_sync("unknown")
            try:
                for directory in directories:
                    directory.sync()
            except OSError as error:
                raise self._failed(error, "unknown") from error
            self._check_sync("unknown")
        elif self.content:
            self._sync_later(directories)

    def _check_sync(self, outcome: Outcome) -> None:
        # Of two threads that sync the same directory the kernel tells only one of a failure.
        if self._failure is not None:
            raise self._failed(self._failure, outcome) from self._failure

    def _failed(self, error: OSError, outcome: Outcome) -> BackendUnavailableError:
        self._failure = error
        text = f"a sync to the disk failed ({error.strerror}), so nothing more is written"
        return BackendUnavailableError(text, outcome=outcome)

    def _sync_later(self, directories: tuple[Directory, ...]) -> None:
        with self._dirty_lock:
            self._dirty.update(directories)
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._sync_now_and_then, name="retryspool-sync", daemon=True)
                self._thread.start()
        if self._stop.is_set():  # closed while this write was under way: nobody comes by later
            self.flush()

    def _sync_now_and_then(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.flush()

    def flush(self) -> None:
        """Sync the names that are waiting. A failure shows at the next write."""
        with self._dirty_lock:
            dirty, self._dirty = self._dirty, set()
        try:
            for directory in dirty:
                directory.sync()
        except OSError as error:
            self._failure = error

    def close(self) -> None:
        """Sync what is waiting, and end.

        :raises BackendUnavailableError: it failed
        """
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        known = self._failure
        self.flush()
        if self._failure is not None and self._failure is not known:  # no later write will tell
            raise self._failed(self._failure, "unknown") from self._failure
