"""The walk through all records: it fills the index, ends what a crash cut off, and sets aside what can't be read."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterator

from retryspool.errors import CorruptRecordError, RetrySpoolError
from retryspool.files import TEMPORARY_PREFIX, StripedLocks
from retryspool.model import Finding, Severity, State
from retryspool_fs_meta.index import Index
from retryspool_fs_meta.layout import CORRUPT_FOLDER, SUFFIX, Layout, id_of
from retryspool_fs_meta.record_files import RecordFiles, is_of_a_records_size

__all__ = ["Surveyor"]

_log = logging.getLogger(__name__)

_TICK_NS = 50_000_000
_SLACK_NS = 10_000_000_000
_PATIENCE_S = 1.0
"""How long a message is waited for that another process has locked: after that, for as good as stopped."""


class Surveyor:
    """Keeps the index of one spool, and its folders, as they should be."""

    def __init__(self, layout: Layout, files: RecordFiles, locks: StripedLocks, index: Index) -> None:
        self._layout = layout
        self._files = files
        self._locks = locks
        self._index = index
        self._times: list[int] = []
        self._written_since_ns: int | None = None

    def survey(self, stopped: Callable[[], bool]) -> None:
        """Walk through all records; read those that have moved or were written since the last time.

        Ends when `stopped` says so. What can't be read, or is locked and needs care, is left for the next time.
        """
        begun_ns = time.time_ns()
        times = self._modified()
        unread = 0
        seen: set[str] = set()
        self._index.begin_scan()
        try:
            for state in State:
                for message_id, entry in self._records_in(state):
                    if stopped():
                        return
                    unread += not self._tried(self._look_at, message_id, entry, state, message_id in seen)
                    seen.add(message_id)
            unseen = self._index.unseen(seen)
        finally:
            self._index.end_scan()
        for message_id in unseen:
            unread += not self._tried(self.refresh, message_id)
        # A time that is so new may stand for a change that comes within the same tick of the clock.
        self._times = [] if unread or max(times) > begun_ns - _TICK_NS else times
        self._written_since_ns = begun_ns - _SLACK_NS

    @staticmethod
    def _tried(look: Callable[..., bool], message_id: str, *args: object) -> bool:
        try:
            return look(message_id, *args)
        except OSError as error:
            _log.warning("the record of message %s can't be read: %s", message_id, error)
            return False

    def _look_at(self, message_id: str, entry: os.DirEntry[str], state: State, seen: bool) -> bool:  # noqa: FBT001
        if seen:
            return self._make_one(message_id)
        if self._index.state_of(message_id) is not state or self._was_written(entry):
            return self._visit(message_id, state)
        return True

    def _was_written(self, entry: os.DirEntry[str]) -> bool:
        if self._written_since_ns is None:
            return False
        try:
            return entry.stat(follow_symlinks=False).st_mtime_ns > self._written_since_ns
        except FileNotFoundError:  # it's on the move, and will be met where it goes, or told of
            return False

    def has_changed(self) -> bool:
        """Tell whether names have changed since the last survey began, by whomever."""
        return self._modified() != self._times

    def _modified(self) -> list[int]:
        return [os.stat(place.path).st_mtime_ns for place in self._layout.places.values()]

    def ids_in(self, state: State) -> Iterator[str]:
        """Yield the ids of the records in a folder, in constant memory."""
        return (message_id for message_id, _ in self._records_in(state))

    def _records_in(self, state: State) -> Iterator[tuple[str, os.DirEntry[str]]]:
        with os.scandir(self._layout.places[state].path) as entries:
            for entry in entries:
                message_id = id_of(entry.name)
                if message_id is not None:
                    yield message_id, entry

    def _visit(self, message_id: str, state: State) -> bool:
        try:
            stored = self._files.read_at(message_id, state)
        except CorruptRecordError:
            return self.set_aside(message_id)
        if stored is not None and stored.record.state is not stored.place:
            return self.refresh(message_id)
        if stored is not None:
            self._index.put_scanned(stored.record)
        return True

    def make_doubles_one(self) -> None:
        """Look after all messages that lie in two folders, by their names alone: quick enough to be waited for."""
        seen: set[str] = set()
        doubles: set[str] = set()
        for place in self._layout.places.values():
            names = set(os.listdir(place.path))
            doubles |= seen & names
            seen |= names
        for name in doubles:
            message_id = id_of(name)
            if message_id is not None:
                self._tried(self._make_one, message_id)

    def _make_one(self, message_id: str) -> bool:
        """Look after a message that was seen in two folders: it has moved meanwhile, or a crash has left it in both.

        A power cut may, where a claim or a deletion was not synced yet, and a kill of the Go system. The record that
        was written last is the message. False if it's locked.
        """
        with self._locks.trying(message_id, _PATIENCE_S) as is_held:
            if not is_held:
                return False
            self.set_aside_locked(message_id)
            found = [stored for state in State if (stored := self._files.read_at(message_id, state)) is not None]
            found.sort(key=lambda stored: (stored.record.updated, stored.record.version, stored.place.value))
            for stored in found[:-1]:
                why = f"message {message_id!r} lay in {stored.place}/ and, newer, in {found[-1].place}/"
                self._keep_in_corrupt(message_id, stored.place, ".double", why)
            if found:
                self._files.put_in_place(found[-1].record, found[-1].place)
                self._index.put(found[-1].record)
        return True

    def refresh(self, message_id: str, wait_s: float = _PATIENCE_S) -> bool:
        """Look a message up, and note in the index what there is; tell whether that's all that is to be done.

        What lies out of place, or nowhere, is looked at under its lock. If that isn't to be had in time, a record is
        noted as it was read: where it says that it belongs, it will be. That there's none isn't noted then, since it
        may be on the move, unless whoever has the lock is as good as stopped: then nothing moves between two looks.
        """
        stripe = self._locks.stripe_of(message_id)
        try:
            while True:
                number = self._index.number_of(message_id)
                stored = self._files.read(message_id, self._index.state_of(message_id))
                is_settled = stored is not None and stored.record.state is stored.place
                if not is_settled:
                    with self._locks.trying(message_id, wait_s) as is_settled:
                        stored = self._files.read(message_id)
                        if stored is not None and is_settled:
                            self._files.put_in_place(stored.record, stored.place)
                    if stored is None and not is_settled and not self._locks.is_stuck(stripe):
                        return False
                if self._index.put_read(message_id, None if stored is None else stored.record, number):
                    return is_settled
        except CorruptRecordError:
            return self.set_aside(message_id, wait_s)

    def set_aside(self, message_id: str, wait_s: float = _PATIENCE_S) -> bool:
        """Move a record that can't be read to `corrupt/`, if that's so when its lock is held; False if it's locked."""
        with self._locks.trying(message_id, wait_s) as is_held:
            if is_held:
                self.set_aside_locked(message_id)
            else:
                _log.warning("the record of message %s can't be read, and is locked: it stays where it is", message_id)
        return is_held

    def set_aside_locked(self, message_id: str) -> None:
        """Do what `set_aside` does, with the lock held already."""
        for state in State:
            try:
                self._files.read_at(message_id, state)
            except CorruptRecordError as error:
                self._index.remove(message_id)
                # A file without content holds nothing to save, and stands for no message: a power cut hit its writer.
                suffix = ".torn" if _is_torn(self._layout.path(message_id, state)) else SUFFIX
                self._keep_in_corrupt(message_id, state, suffix, str(error))

    def _keep_in_corrupt(self, message_id: str, state: State, suffix: str, why: str) -> None:
        target = self._free_name(message_id, suffix)
        os.rename(self._layout.path(message_id, state), target)
        self._files.sync_names(self._layout.corrupt, self._layout.places[state])
        _log.error("%s; it is kept as %s", why, target)

    def _free_name(self, message_id: str, suffix: str) -> str:
        for number in itertools.count():  # with a character that is in no id, so that it's no other message's name
            path = f"{self._layout.corrupt.path}/{message_id}{f'~{number}' if number else ''}{suffix}"
            if not os.path.lexists(path):
                return path
        raise AssertionError

    def corrupt_path(self, message_id: str) -> str | None:
        """Return where a message's record was set aside, None if it wasn't."""
        path = f"{self._layout.corrupt.path}/{message_id}{SUFFIX}"
        return path if os.path.lexists(path) else None

    def findings(self) -> Iterator[Finding]:
        """Read every record; yield those that can't be, and what doesn't belong here."""
        for state in State:
            place = self._layout.places[state].path
            with os.scandir(place) as entries:
                for entry in entries:
                    message_id = id_of(entry.name)
                    if message_id is not None:
                        yield from self._check(message_id, state)
                    elif not entry.name.startswith(TEMPORARY_PREFIX):
                        text = "is no record's name; it is left alone"
                        yield Finding(Severity.NOTICE, f"{state.label}/{entry.name}", text)
        with os.scandir(self._layout.corrupt.path) as entries:
            for entry in entries:
                subject = f"{CORRUPT_FOLDER}/{entry.name}"
                if entry.name.endswith(".torn"):
                    text = "was cut off while it was written, and is empty; in standard mode nobody was promised it"
                    yield Finding(Severity.WARNING, subject, text)
                elif entry.name.endswith(".double"):
                    text = "lay beside a newer record of the same message, which counts; remove it when it isn't needed"
                    yield Finding(Severity.WARNING, subject, text)
                else:
                    text = "can't be read; mend it and move it back to its state's folder, or remove it"
                    yield Finding(Severity.ERROR, subject, text, id_of(entry.name))

    def _check(self, message_id: str, state: State) -> Iterator[Finding]:
        try:
            try:
                self._files.read_at(message_id, state)
            except CorruptRecordError as error:
                if not self.set_aside(message_id):
                    text = f"can't be read, and is locked by another process, so that it stays where it is: {error}"
                    yield Finding(Severity.ERROR, f"{state.label}/{message_id}{SUFFIX}", text, message_id)
        except OSError as error:
            if isinstance(error, RetrySpoolError):  # a deadline
                raise
            text = f"can't be read ({error.strerror}), so nobody is handed this message"
            yield Finding(Severity.ERROR, f"{state.label}/{message_id}{SUFFIX}", text, message_id)


def _is_torn(path: str) -> bool:
    """Tell whether a file is empty, or holds nothing but the zeros of blocks that were never written."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not is_of_a_records_size(fd):
            return False
        while chunk := os.read(fd, 64 * 1024):
            if chunk.strip(b"\0"):
                return False
    finally:
        os.close(fd)
    return True
