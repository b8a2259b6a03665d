"""Keeps the index current: by this process's own changes, by the hints of others, and by a survey now and then.

A process that only stores or looks up single messages needs no index, and has none: it's filled when first asked for.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Iterable
from contextlib import suppress

from retryspool.deadline import check_deadline, remaining
from retryspool.errors import BackendClosedError, BackendError, DeadlineExceededError, RetrySpoolError
from retryspool.files import sweep_temporary_files
from retryspool.model import MessageMetadata
from retryspool_fs_meta.hints import Hints
from retryspool_fs_meta.index import Index
from retryspool_fs_meta.layout import Layout
from retryspool_fs_meta.survey import Surveyor
from retryspool_fs_meta.watch import FileWatch

__all__ = ["IndexKeeper"]

_log = logging.getLogger(__name__)

_PATIENCE_S = 0.25
"""How long claims wait for a new index, so that in a small spool their order is right from the first."""
_SURVEY_EVERY_S = 60.0
_SURVEY_AGAIN_S = 1.0
"""And so often while the first has not succeeded."""
_LOCKS_S = 1.0
"""How long those who list and count wait for a message that another process has locked."""
_HINTS_EVERY_S = 0.05
"""How often a waiter looks whether another process has changed something, where the system doesn't tell it."""
_LOOK_EVERY_S = 0.25
"""And where it does: other machines, on a folder that is shared, it knows nothing of."""


class IndexKeeper:
    """The index of one backend instance, and the thread that keeps it."""

    def __init__(self, layout: Layout, surveyor: Surveyor, index: Index, hints: Hints) -> None:
        self._layout = layout
        self._surveyor = surveyor
        self._index = index
        self._hints = hints
        self._hints_lock = threading.Lock()
        self._unread: set[str] = set()
        self._wanted = threading.Event()
        self._filled = threading.Event()
        self._failure: Exception | None = Exception("nothing was read yet")
        """Why the index was never filled, None once it was."""
        self._patient_until = 0.0
        self._changed = threading.Event()
        self._watch: FileWatch | None = None
        self._is_watched = False
        self._watch_lock = threading.Lock()  # of the two above
        self._survey_now = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._keep, name="retryspool-fs-meta", daemon=True)
        self._thread.start()

    # -- told by the backend -------------------------------------------------------------------------------------------

    def note(self, record: MessageMetadata) -> None:
        """Take up a record that this instance has written, while it holds the lock, and tell the others.

        At once: if this process is killed before, the others find it by their next survey only.
        """
        self._hints.tell([record.id])
        if self._wanted.is_set():
            self._index.put(record)

    def note_gone(self, message_id: str) -> None:
        """Take up that this instance has deleted a record."""
        if self._wanted.is_set():
            self._index.remove(message_id)

    def tell(self, message_ids: Iterable[str]) -> None:
        """Tell the others what this instance has claimed or deleted, in one go."""
        self._hints.tell(message_ids)

    def notes_changed(self) -> None:
        """Tell all who wait, here and elsewhere, that this instance has changed a note."""
        self._hints.tell_of_notes()
        self.wake()

    def wake(self) -> None:
        """Tell who waits here that this instance has written something; once its lock is free, or they find it held."""
        if not self._changed.is_set():
            self._changed.set()
            if self._watch is not None:
                self._watch.ring()

    # -- asked by the backend ------------------------------------------------------------------------------------------

    def whole_index(self) -> Index:
        """Return the index when it is filled.

        :raises DeadlineExceededError: the time allowed is over before
        """
        self._want()
        if not self._filled.wait(remaining()):
            msg = "the deadline passed while the records were read for the first time; nothing was changed"
            raise DeadlineExceededError(msg)
        if self._stopped:
            raise BackendClosedError
        if self._failure is not None:
            self._survey_now.set()
            msg = f"the records in {self._layout.base} can't all be listed: {self._failure}"
            raise BackendError(msg) from self._failure
        return self._poll_patiently()

    def index_if_filled(self) -> Index | None:
        """Return the index if it is filled, or will be in a moment."""
        self._be_patient()
        return self._poll_patiently() if self._filled.is_set() else None

    def index_as_it_is(self) -> Index:
        """Return the index, however much of it is filled, after a moment's patience."""
        self._be_patient()
        return self._poll_patiently()

    def index_to_claim_from(self) -> Index:
        """Return the index as it is; what changes from now on is news to those who wait."""
        self._be_patient()
        self._changed.clear()
        return self.poll()

    def _be_patient(self) -> None:
        self._want()
        self._filled.wait(max(0.0, self._patient_until - time.monotonic()))

    def _want(self) -> None:
        if not self._wanted.is_set():
            self._patient_until = time.monotonic() + _PATIENCE_S
            self._wanted.set()
            self._survey_now.set()

    def poll(self) -> Index:
        """Take up what other processes have changed; what one of them has locked may have to wait."""
        if self._unread or self._hints.news():
            with self._hints_lock:
                changed, missed = self._hints.read()
                self._unread |= changed
                for message_id in list(self._unread):
                    if self._is_read(message_id):
                        self._unread.discard(message_id)
            if missed:
                self._survey_now.set()
        return self._index

    def _poll_patiently(self) -> Index:
        """Take up what other processes have changed, and wait for what one of them has locked, but not without end."""
        self.poll()
        if self._unread:
            with self._hints_lock:
                unread = list(self._unread)
            for message_id in unread:  # without the lock: claims don't wait meanwhile
                if self._is_read(message_id, _LOCKS_S):
                    with self._hints_lock:
                        self._unread.discard(message_id)
            check_deadline()
        return self._index

    def _is_read(self, message_id: str, wait_s: float = 0.0) -> bool:
        """Look up what has changed; tell whether that's done. What can't be read is looked up again the next time."""
        try:
            return self._surveyor.refresh(message_id, wait_s)
        except OSError as error:
            if isinstance(error, RetrySpoolError):
                raise
            _log.warning("message %s has changed and can't be read: %s", message_id, error)
            return False

    def wait_for_change(self, timeout: float) -> bool:
        """Wait until something has changed since the last claim or wait, here or in another process."""
        left = remaining()
        until = time.monotonic() + (timeout if left is None else min(timeout, left))
        own_until = math.inf
        while not self._stopped:
            left = until - time.monotonic()
            if left <= 0:
                return False
            heard = self._listen(min(left, own_until - time.monotonic()))
            news = self._hints.news_to_a_waiter()
            if (heard or news == "others" or time.monotonic() >= own_until) and not self._stopped:
                self._changed.clear()  # else who is paused, and claims nothing, would be told of it without end
                return True
            if news == "own":  # a claim has seen it, most likely: there's no hurry to look again
                own_until = min(own_until, time.monotonic() + _HINTS_EVERY_S)
        raise BackendClosedError

    def _listen(self, timeout: float) -> bool:
        """Wait for a while, or until something has changed; tell whether it was this instance that changed it."""
        with self._watch_lock:
            if not self._is_watched:
                self._is_watched = True
                with suppress(OSError):  # there's none, or too many are in use
                    self._watch = self._hints.watch()
        timeout = max(0.0, timeout)
        if self._watch is None:
            return self._changed.wait(min(timeout, _HINTS_EVERY_S))
        if not self._changed.is_set():
            self._watch.wait(min(timeout, _LOOK_EVERY_S))
        return self._changed.is_set()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _keep(self) -> None:
        folders = [self._layout.notes.path, *(place.path for place in self._layout.places.values())]
        try:
            sweep_temporary_files(self._layout.locks, folders)
        except OSError as error:
            _log.warning("temporary files in %s can't be swept: %s", self._layout.base, error)
        while not self._stopped:
            every_s = _SURVEY_EVERY_S if self._failure is None else _SURVEY_AGAIN_S
            asked = self._survey_now.wait(every_s if self._wanted.is_set() else None)
            self._survey_now.clear()
            if self._stopped:
                break
            try:
                if asked or self._failure is not None or self._surveyor.has_changed():
                    self._surveyor.survey(lambda: self._stopped)
            except Exception as error:  # noqa: BLE001 -- whatever it is, those who wait for the index must be told
                _log.warning("the records in %s can't be surveyed: %s", self._layout.base, error)
                if self._failure is not None:
                    self._failure = error
            else:
                self._failure = None
            self._filled.set()
            self.wake()

    def close(self) -> None:
        """End the thread."""
        self._stopped = True
        self._survey_now.set()
        self._changed.set()
        with self._watch_lock:
            self._is_watched = True  # none is opened any more
            if self._watch is not None:
                self._watch.close()
        self._thread.join()
        self._filled.set()
