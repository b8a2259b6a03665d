"""The metadata backend that keeps records as files."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from datetime import datetime, timedelta
from typing import ClassVar

from retryspool import records
from retryspool.errors import (
    CorruptRecordError,
    MessageExistsError,
    MessageNotFoundError,
    StorageError,
)
from retryspool.files import (
    Directory,
    FileSettings,
    Presence,
    StripedLocks,
    SyncMode,
    advice,
    network_file_system,
    storage_error,
    wrapping_disk_errors,
)
from retryspool.ids import validate_message_id
from retryspool.meta import (
    Delete,
    ListOptions,
    ListResult,
    MetaBackend,
    MetaCapabilities,
    Store,
    Update,
    Write,
    WriteResult,
    check_claim,
    check_note,
    check_writes,
)
from retryspool.model import Finding, MessageMetadata, Severity, State, utc_now
from retryspool_fs_meta.batches import free_first
from retryspool_fs_meta.claims import Claimer, Request
from retryspool_fs_meta.gate import Gate
from retryspool_fs_meta.hints import Hints
from retryspool_fs_meta.index import Index
from retryspool_fs_meta.keeper import IndexKeeper
from retryspool_fs_meta.layout import Layout
from retryspool_fs_meta.leases import LeaseTable
from retryspool_fs_meta.notes import Notes
from retryspool_fs_meta.record_files import RecordFiles, Stored
from retryspool_fs_meta.survey import Surveyor

__all__ = ["FsMetaBackend"]

_log = logging.getLogger(__name__)

_STRIPES = 1024
_WRITERS = 8
"""Threads that share a batch of writes: they wait for the disk, whose commits the kernel shares between them."""


class FsMetaBackend(MetaBackend):
    """Records as JSON files, in one folder a state: those of the Go system. See `FsMetaFactory` for the settings."""

    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(
        processes=True, durable=True, server_clock=False, checksums=True, contract="1.1"
    )

    def __init__(self, settings: FileSettings, *, lock_timeout_s: float) -> None:
        self._gate = Gate()
        self._durability = settings.durability()
        shared_mode = 0o666 if settings.file_mode is None else settings.file_mode
        with ExitStack() as opened, wrapping_disk_errors(f"opening the records in {settings.folder!r}"):
            self._layout = Layout(settings.folder, dir_mode=settings.dir_mode, sync=self._durability.content)
            opened.callback(self._layout.close)
            self._locks = StripedLocks(
                f"{self._layout.locks}/stripes", stripes=_STRIPES, mode=shared_mode, timeout_s=lock_timeout_s
            )
            opened.callback(self._locks.close)
            self._leases = LeaseTable(self._layout.locks, stripes=_STRIPES, mode=shared_mode)
            opened.callback(self._leases.close)
            self._presence = Presence(self._layout.locks)
            opened.callback(self._presence.close)
            self._hints = Hints(f"{self._layout.locks}/hints", self._presence.token, shared_mode)
            opened.callback(self._hints.close)
            self._files = RecordFiles(
                self._layout, self._leases, self._locks, self._durability, self._presence, file_mode=settings.file_mode
            )
            self._notes = Notes(self._layout, self._durability, self._presence, file_mode=settings.file_mode)
            self._index = Index()
            self._surveyor = Surveyor(self._layout, self._files, self._locks, self._index)
            if self._leases.is_first:
                self._surveyor.make_doubles_one()
            self._opened = opened.pop_all()
        self._keeper = IndexKeeper(self._layout, self._surveyor, self._index, self._hints)
        self._claimer = Claimer(self._files, self._locks, self._surveyor, self._keeper)
        self._writers = ThreadPoolExecutor(_WRITERS, "retryspool-fs-meta")

    # -- single records ------------------------------------------------------------------------------------------------

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        with self._gate.passing("storing message", message_id):
            with self._locks.holding(message_id):
                self._durability.check()
                if self._files.exists(message_id):
                    self._refuse_existing(message_id)
                record = records.created(metadata, utc_now())
                self._files.create(record)
                self._keeper.note(record)
            self._keeper.wake()
        return record

    def _refuse_existing(self, message_id: str) -> None:
        """Raise `MessageExistsError`, unless what is there is damaged: then that is set aside."""
        stored = self._read_or_set_aside(message_id)
        if stored is not None:
            self._files.make_durable(stored)
            raise MessageExistsError(message_id)

    def _read_or_set_aside(self, message_id: str) -> Stored | None:
        try:
            return self._files.read(message_id, self._index.state_of(message_id))
        except CorruptRecordError:
            self._surveyor.set_aside_locked(message_id)
            return self._files.read(message_id)

    def get_meta(self, message_id: str) -> MessageMetadata:
        validate_message_id(message_id)
        with self._gate.passing("reading message", message_id):
            try:
                stored = self._files.read(message_id, self._index.state_of(message_id))
            except CorruptRecordError:
                stored = None
            if stored is None:
                with self._locks.holding(message_id):
                    stored = self._must_read(message_id)
            return stored.record

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        with self._gate.passing("updating message", message_id):
            with self._locks.holding(message_id):
                stored = self._must_read(message_id)
                record = records.updated(stored.record, metadata, utc_now(), if_version)
                self._replace(stored, record)
            self._keeper.wake()
        return record

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        validate_message_id(message_id)
        with self._gate.passing("moving message", message_id):
            with self._locks.holding(message_id):
                stored = self._must_read(message_id)
                record = records.moved(stored.record, from_state, to_state, utc_now())
                if record is stored.record:
                    self._files.make_durable(stored)
                    return record
                self._replace(stored, record)
            self._keeper.wake()
        return record

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        validate_message_id(message_id)
        with self._gate.passing("deleting message", message_id):
            self._durability.check()
            with self._locks.holding(message_id):
                directory = self._remove(message_id, if_version)
            self._keeper.tell([message_id])
            self._durability.sync_names(directory)

    def _remove(self, message_id: str, if_version: int | None) -> Directory:
        place = None if if_version is None else self._files.is_claimed_as(if_version, message_id)
        if place is None:
            stored = self._must_read(message_id)
            records.check_version(stored.record, if_version)
            place = stored.place
        directory = self._files.remove(message_id, place)
        self._keeper.note_gone(message_id)
        return directory

    def _replace(self, stored: Stored, record: MessageMetadata) -> None:
        self._durability.check()
        self._files.replace(stored, record)
        self._keeper.note(record)

    def _must_read(self, message_id: str) -> Stored:
        """Return what there is; with the lock held, None is no longer a maybe. What can't be read is set aside."""
        stored = self._read_or_set_aside(message_id)
        if stored is not None:
            return stored
        path = self._surveyor.corrupt_path(message_id)
        if path is not None:
            msg = f"the record of message {message_id!r} couldn't be read; it was set aside as {path}"
            raise CorruptRecordError(msg)
        raise MessageNotFoundError(message_id)

    # -- batches -------------------------------------------------------------------------------------------------------

    def claim(
        self,
        sources: Sequence[State],
        *,
        limit: int,
        lease: timedelta,
        owner: str,
        exclude_routes: Collection[str] = (),
        oldest_first: bool = False,
    ) -> list[MessageMetadata]:
        check_claim(sources, limit=limit, lease=lease, owner=owner)
        with self._gate.passing("claiming messages"):
            self._durability.check()
            return self._claimer.claim(
                Request(tuple(sources), limit, lease, owner, frozenset(exclude_routes), oldest_first)
            )

    def renew(self, claims: Sequence[MessageMetadata], *, lease: timedelta) -> list[MessageMetadata | StorageError]:
        records.validate_lease(lease)
        for claim in claims:
            validate_message_id(claim.id)
        with self._gate.passing("renewing leases"):
            self._durability.check()
            with self._locks.batch(lease.total_seconds() / 10):  # and the next renewal comes in time
                return free_first(
                    self._locks, [claim.id for claim in claims], lambda number: self._renew(claims[number], lease)
                )

    def _renew(self, claim: MessageMetadata, lease: timedelta) -> MessageMetadata | StorageError:
        try:
            stored = self._must_read(claim.id)
            record = records.renewed(stored.record, claim, lease=lease, now=utc_now())
            self._files.lease(stored, record)
            self._keeper.note(record)
        except (OSError, StorageError) as error:
            return storage_error(f"renewing message {claim.id!r}", error)
        return record

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        check_writes(writes)
        with self._gate.passing("writing a batch"), self._locks.batch():
            self._durability.check()
            if len({_id_of(write) for write in writes}) < len(writes):
                return super().apply(writes)  # what concerns one message is done in order
            done = iter(self._write_all([write for write in writes if not isinstance(write, Delete)]))
            gone = iter(self._delete_all([write for write in writes if isinstance(write, Delete)]))
            return [next(gone if isinstance(write, Delete) else done) for write in writes]

    def _write_all(self, writes: Sequence[Write]) -> Iterable[WriteResult]:
        if len(writes) == 1:
            return [self._result_of(writes[0])]
        futures = [self._writers.submit(copy_context().run, self._result_of, write) for write in writes]
        return [future.result() for future in futures]

    def _result_of(self, write: Write) -> WriteResult:
        try:
            return self._apply_one(write)
        except StorageError as error:
            return error

    def _delete_all(self, writes: Sequence[Delete]) -> list[WriteResult]:
        directories: set[Directory] = set()

        def delete(number: int) -> StorageError | None:
            try:
                directories.add(self._remove(writes[number].message_id, writes[number].if_version))
            except (OSError, StorageError) as error:
                return storage_error("deleting messages", error)
            return None

        results: list[WriteResult] = [*free_first(self._locks, [write.message_id for write in writes], delete)]
        self._keeper.tell(write.message_id for write, result in zip(writes, results, strict=True) if result is None)
        try:
            self._durability.sync_names(*directories)
        except StorageError as error:
            return [result or error for result in results]
        return results

    # -- many ----------------------------------------------------------------------------------------------------------

    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 -- frozen
        with self._gate.passing("listing messages"):
            return self._keeper.whole_index().list(state, options)

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        with self._gate.passing("listing messages"):
            self._keeper.whole_index()  # by then what a crash has left in the wrong folder is in the right one
            ids = self._surveyor.ids_in(state)
        while chosen := list(itertools.islice(ids, batch_size)):
            with self._gate.passing("listing messages"):
                found = [self._read_listed(message_id, state) for message_id in chosen]
            yield from (record for record in found if record is not None)

    def _read_listed(self, message_id: str, state: State) -> MessageMetadata | None:
        try:
            stored = self._files.read_at(message_id, state)
        except CorruptRecordError:
            self._surveyor.set_aside(message_id)
            return None
        return stored.record if stored is not None and stored.record.state is state else None

    def get_state_count(self, state: State) -> int:
        """Return how many messages are in the state; until the index is filled, how many files are in its folder."""
        with self._gate.passing("counting messages"):
            index = self._keeper.index_if_filled()
            return sum(1 for _ in self._surveyor.ids_in(state)) if index is None else index.count(state)

    def get_oldest_due(self, state: State) -> datetime | None:
        """Return when the message of the state that is due first is or was due, as far as the index is filled."""
        with self._gate.passing("looking for due messages"):
            return self._keeper.index_as_it_is().oldest_due(state)

    def wait_for_change(self, timeout: float) -> bool:
        self._gate.enter()  # and no further: who waits must not keep others from closing
        self._gate.leave()
        return self._keeper.wait_for_change(timeout)

    # -- notes ---------------------------------------------------------------------------------------------------------

    def get_notes(self) -> dict[str, str]:
        """Return all notes that can be read, by name."""
        with self._gate.passing("reading the notes"):
            return self._notes.read()

    def set_note(self, name: str, text: str | None) -> None:
        """Set a note, or remove it if `text` is None."""
        check_note(name, text)
        with self._gate.passing("writing a note"):
            self._notes.set(name, text)
            self._keeper.notes_changed()

    # -- care ----------------------------------------------------------------------------------------------------------

    def check(self) -> Iterator[Finding]:
        with self._gate.passing("checking the records"):
            findings = [*self._setting_findings(), *self._lock_findings()]
            findings += [*self._surveyor.findings(), *self._notes.findings()]
        yield from findings

    def _setting_findings(self) -> Iterator[Finding]:
        base = self._layout.base
        network = network_file_system(self._layout.base)
        if network is not None:
            text = (
                f"lies on a network file system ({network}), whose locks and syncs can't be relied on; use a local disk"
            )
            yield Finding(Severity.WARNING, base, text)
        if self._durability.mode is SyncMode.PERFORMANCE:
            yield Finding(
                Severity.WARNING, base, "is open in performance mode: a power cut loses what isn't on the disk yet"
            )
        elif self._durability.mode is SyncMode.HYBRID:
            yield Finding(Severity.NOTICE, base, "is open in hybrid mode: a power cut loses the last moments")

    def _lock_findings(self) -> Iterator[Finding]:
        for holder in self._locks.holders():
            if holder.is_stopped:
                text = f"messages of its stripe can't be changed, nor handed out: {advice(holder)}"
                yield Finding(Severity.WARNING, f"byte {holder.first} of {self._layout.locks}/stripes", text)

    def close(self) -> None:
        if self._gate.close():
            self._keeper.close()
            self._writers.shutdown()
            try:
                self._durability.close()
            finally:
                self._let_go()

    def _let_go(self) -> None:
        try:
            self._opened.close()  # all of it, even if one can't be
        except OSError as error:  # of nothing that was promised
            _log.warning("closing the records in %s: %s", self._layout.base, error)


def _id_of(write: Write) -> str:
    return write.metadata.id if isinstance(write, (Store, Update)) else write.message_id
