"""Single records as files: read, made, replaced, leased, removed. Whoever changes one holds the lock of its id.

What a record says is decided by three things, read in this order so that no reader needs a lock: the lease (see
`leases`), which wins if it was made for these bytes; the record's content; and, for one of the Go system, the folder it
lies in. That a record of ours lies in another folder than its state's is a move that was cut off between its two steps:
it has happened, and only the file isn't where it will be.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from threading import get_ident

from retryspool.errors import CorruptRecordError, InvalidMetadataError, StorageError
from retryspool.files import (
    Directory,
    Durability,
    Presence,
    StripedLocks,
    SyncMode,
    start_writeback,
    unlink_if_there,
)
from retryspool.model import MessageMetadata, State
from retryspool_fs_meta.codec import Fields, decode, encode
from retryspool_fs_meta.layout import SUFFIX, Layout
from retryspool_fs_meta.leases import Lease, LeaseTable, digest_of
from retryspool_fs_meta.temporary import READ_FLAGS, TemporaryFiles, close_written

__all__ = ["RecordFiles", "Stored", "is_of_a_records_size"]

_log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024
_MOST_BYTES = 256 * 1024 * 1024
_NOT_A_RECORD = {errno.ELOOP, errno.EISDIR, errno.ENXIO}
_SEARCH = tuple(State)
_CLAIMED_FROM = {State.INCOMING, State.DEFERRED, State.BOUNCE}


@dataclass(frozen=True, slots=True)
class Stored:
    """A record as it was found."""

    record: MessageMetadata
    """What it says, lease and folder considered."""
    place: State
    """The folder that it lies in."""
    fields: Fields
    digest: str


class RecordFiles:
    """The record files of one spool."""

    def __init__(
        self,
        layout: Layout,
        leases: LeaseTable,
        locks: StripedLocks,
        durability: Durability,
        presence: Presence,
        *,
        file_mode: int | None,
    ) -> None:
        self._layout = layout
        self._leases = leases
        self._stripe_of = locks.stripe_of
        self._durability = durability
        self._temporary = TemporaryFiles(durability, presence, file_mode=file_mode)
        self._path = layout.path
        self._directories = tuple(layout.places.values())
        self._creating: set[int] = set()
        """The threads that are making a record right now."""

    # -- read ----------------------------------------------------------------------------------------------------------

    def read(self, message_id: str, likely: State | None = None) -> Stored | None:
        """Return a message's record. Without the lock, None may mean that it was on the move.

        :param likely: where to look first
        :raises CorruptRecordError: it can't be read
        """
        return self._read(message_id, _SEARCH if likely is None else (likely, *_SEARCH))

    def read_at(self, message_id: str, place: State) -> Stored | None:
        """Return a message's record if it lies in this folder.

        :raises CorruptRecordError: it can't be read
        """
        return self._read(message_id, (place,))

    def _read(self, message_id: str, places: Iterable[State]) -> Stored | None:
        lease = self._leases.find(message_id, self._stripe_of(message_id))
        raw, place = self._find(message_id, places)
        return None if raw is None else self._stored(raw, message_id, place, lease)

    def is_claimed_as(self, claim_version: int, message_id: str) -> State | None:
        """Return the folder of a record that lies under a lease of this version, None if it doesn't."""
        lease = self._leases.find(message_id, self._stripe_of(message_id))
        if lease is not None and lease.version == claim_version:
            raw, place = self._find(message_id, (State.ACTIVE, *_SEARCH))
            if raw is not None and digest_of(raw) == lease.base:
                return place
        return None

    def _find(self, message_id: str, places: Iterable[State]) -> tuple[bytes | None, State]:
        for place in places:
            raw = self._content(self._path(message_id, place), message_id)
            if raw is not None:
                return raw, place
        return None, State.INCOMING

    def _content(self, path: str, message_id: str) -> bytes | None:
        try:
            fd = os.open(path, READ_FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            if error.errno in _NOT_A_RECORD:
                raise CorruptRecordError(f"the record of message {message_id!r} is no regular file: {path}") from error
            raise
        try:
            raw = os.read(fd, _READ_BYTES)
            if len(raw) == _READ_BYTES:
                if not is_of_a_records_size(fd):
                    raise CorruptRecordError(f"the record of message {message_id!r} is too big, or no file: {path}")
                chunks = [raw]
                while chunk := os.read(fd, _READ_BYTES):
                    chunks.append(chunk)
                raw = b"".join(chunks)
        except (IsADirectoryError, BlockingIOError) as error:
            raise CorruptRecordError(f"the record of message {message_id!r} is no regular file: {path}") from error
        finally:
            os.close(fd)
        return raw

    def _stored(self, raw: bytes, message_id: str, place: State, lease: Lease | None) -> Stored:
        record, fields = decode(raw, message_id)
        digest = digest_of(raw)
        if not record.version and record.state is not place:  # of the Go system
            if place is State.ACTIVE:  # perhaps by a claim that was made between the looks for a lease and for the file
                lease = self._leases.find(message_id, self._stripe_of(message_id))
                origin = record.state if record.state in _CLAIMED_FROM else None
                record = replace(record, state=place, claimed_from=origin)
            else:
                record = replace(record, state=place)
        if lease is not None and lease.base == digest:
            record = lease.over(record)
        return Stored(record, place, fields, digest)

    def exists(self, message_id: str) -> bool:
        """Tell whether there's a record, in whatever condition. Needs the lock."""
        name = message_id + SUFFIX
        for directory in self._directories:
            if os.access(name, os.F_OK, dir_fd=directory.fd, follow_symlinks=False):
                return True
        return False

    # -- write; each needs the lock ------------------------------------------------------------------------------------

    def create(self, record: MessageMetadata) -> None:
        """Write a new record; in standard mode it's safe when this returns.

        A lease that an earlier message of this id has left behind isn't for these bytes, which tell another time.

        There the file gets its name first and is synced then, which costs the disk one commit in place of two. A power
        cut in between may leave a file without its content, whose writer was promised nothing.
        """
        place = self._layout.places[record.state]
        path = self._path(record.id, record.state)
        named_first = self._durability.mode is SyncMode.STANDARD
        fd, temporary = self._temporary.write(place, _limited(encode(record)), sync=not named_first)
        self._creating.add(get_ident())
        try:
            try:
                os.rename(temporary, path)
            except BaseException:
                unlink_if_there(temporary)
                raise
            try:
                if named_first:
                    self._sync_named(fd, place)
                else:
                    self._durability.sync_names(place)
            except StorageError:  # it must not be there for those who would take it for durable
                with contextlib.suppress(OSError):
                    unlink_if_there(path)
                raise
        finally:
            self._creating.discard(get_ident())
            close_written(fd)

    def _sync_named(self, fd: int, place: Directory) -> None:
        """Make a file that has its name survive.

        Alone, the file first: the commit that it waits for holds its name too. Among other threads, which change the
        folder all the time and so its last commit, the folder first, with the content on its way: that commit holds
        both.
        """
        if len(self._creating) > 1:
            start_writeback(fd)
            self._durability.sync_names(place)
            self._durability.sync_content(fd)
        else:
            self._durability.sync_content(fd)
            self._durability.sync_names(place)

    def make_durable(self, stored: Stored) -> None:
        """Sync a record that is there: whoever wrote it may have been killed before it did."""
        fd = os.open(self._path(stored.record.id, stored.place), READ_FLAGS)
        try:
            self._durability.sync_content(fd)
        finally:
            os.close(fd)
        self._durability.sync_names(self._layout.places[stored.place])

    def replace(self, stored: Stored, record: MessageMetadata) -> None:
        """Write a record over the one that was found, and move it where it belongs; in standard mode it's safe then."""
        place = self._layout.places[stored.place]
        raw = _limited(encode(record, stored.fields))
        self._temporary.replace(place, raw, self._path(record.id, stored.place))
        self.end_lease(record.id)
        if self.put_in_place(record, stored.place):
            self._durability.sync_names(self._layout.places[record.state], place)
        else:
            self._durability.sync_names(place)

    def remove(self, message_id: str, place: State) -> Directory:
        """Remove a record; return the directory to be synced before anybody is told."""
        os.unlink(self._path(message_id, place))
        self.end_lease(message_id)
        return self._layout.places[place]

    def lease(self, stored: Stored, record: MessageMetadata) -> None:
        """Put a claimed or renewed record over the one that was found. It survives the kill of this process."""
        self._leases.put(Lease.of(record, stored.digest), self._stripe_of(record.id))
        self.put_in_place(record, stored.place)

    def sync_names(self, *directories: Directory) -> None:
        """Make names in directories survive, where the mode wants that."""
        self._durability.sync_names(*directories)

    def end_lease(self, message_id: str) -> None:
        """Remove a lease that is void, or whose message is gone; if it can't be, it's void all the same."""
        try:
            self._leases.clear(message_id, self._stripe_of(message_id))
        except OSError as error:
            _log.warning("the lease of message %s, which is over, can't be removed: %s", message_id, error)

    def put_in_place(self, record: MessageMetadata, place: State) -> bool:
        """Rename a record's file into the folder of its state; tell whether it had to be, and was.

        That it can't be, on a disk that is full, is no failure: its content, or its lease, says where it belongs.
        """
        if place is record.state:
            return False
        try:
            os.rename(self._path(record.id, place), self._path(record.id, record.state))
        except OSError as error:
            _log.warning("message %s stays in %s/ although it is %s: %s", record.id, place, record.state, error)
            return False
        return True


def _limited(raw: bytes) -> bytes:
    """Return the bytes of a record if they aren't more than it may take."""
    if len(raw) > _MOST_BYTES:
        raise InvalidMetadataError(f"the record takes {len(raw)} bytes; it must be at most {_MOST_BYTES}")
    return raw


def is_of_a_records_size(fd: int) -> bool:
    """Tell whether a file may be read to its end: one that is huge, or a device that has none, is no record."""
    status = os.fstat(fd)
    return stat.S_ISREG(status.st_mode) and status.st_size <= _MOST_BYTES
