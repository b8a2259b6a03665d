"""The complete backends in memory: for tests of what is built on RetrySpool, and to read what the contract asks for.

.. code-block:: python

    spool = Spool(MemoryMeta(), MemoryData())       # gone once nobody holds it

A factory holds its store, so that what `create()` returns can be closed and opened again, as files can. Factories with
the same `store` name, and URLs such as `memory:orders`, open the same one for as long as the process lives.
"""

from __future__ import annotations

import heapq
import io
import threading
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Self

from retryspool import records
from retryspool.data import DataBackend, DataCapabilities, DataFactory, DataInfo, DataWriter
from retryspool.deadline import check_deadline, remaining
from retryspool.errors import (
    BackendClosedError,
    DataExistsError,
    DataNotFoundError,
    InvalidUrlError,
    MessageExistsError,
    MessageNotFoundError,
)
from retryspool.ids import validate_message_id
from retryspool.meta import ListOptions, ListResult, MetaBackend, MetaCapabilities, MetaFactory, check_claim, check_note
from retryspool.model import NOT_DURABLE, Finding, MessageMetadata, State, utc_now
from retryspool.namespaces import validate_namespace
from retryspool.urls import parse_url, redact

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["MemoryData", "MemoryDataFactory", "MemoryMeta", "MemoryMetaFactory"]


class _MetaStore:
    """The records, by id, and each state's by priority and when they are due. Whoever touches it holds `changed`."""

    def __init__(self) -> None:
        self.records: dict[str, MessageMetadata] = {}
        self.due: dict[State, dict[int, list[tuple[datetime, str]]]] = {state: {} for state in State}
        self.notes: dict[str, str] = {}
        self.changed = threading.Condition(threading.RLock())
        self.changes = 0

    def get(self, message_id: str) -> MessageMetadata:
        try:
            return self.records[message_id]
        except KeyError:
            raise MessageNotFoundError(message_id) from None

    def put(self, record: MessageMetadata) -> MessageMetadata:
        self.remove(record.id)
        # The caller goes on owning the headers that it passed, and those that it was given.
        self.records[record.id] = replace(record, headers=dict(record.headers))
        insort(self.due[record.state].setdefault(record.priority, []), (records.due_at(record), record.id))
        if not record.lease_owner:  # a claim, or its renewal, is no work for others
            self.tell()
        return record

    def tell(self) -> None:
        self.changes += 1
        self.changed.notify_all()

    def remove(self, message_id: str) -> None:
        old = self.records.pop(message_id, None)
        if old is not None:
            due = self.due[old.state][old.priority]
            del due[bisect_left(due, (records.due_at(old), old.id))]
            if not due:
                del self.due[old.state][old.priority]

    def by_age(self, state: State) -> Iterator[tuple[datetime, str]]:
        return heapq.merge(*self.due[state].values())

    def in_state(self, state: State) -> Iterator[MessageMetadata]:
        return (self.records[message_id] for _, message_id in self.by_age(state))

    def claimable(self, state: State, now: datetime, *, oldest_first: bool) -> Iterator[MessageMetadata]:
        """Yield what is due by now, in the order of claims."""
        due = self.due[state]
        for queue in [self.by_age(state)] if oldest_first else [due[priority] for priority in sorted(due)]:
            for due_at, message_id in queue:
                if due_at > now:
                    break
                yield self.records[message_id]


class MemoryMeta(MetaBackend):
    """Records in memory. Of the defaults it replaces those that need more than one step, or that would poll."""

    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(
        processes=False, durable=False, server_clock=False, contract="1.1"
    )

    def __init__(self, store: _MetaStore | None = None) -> None:
        self._shared = store or _MetaStore()
        self._closed = False
        self._seen = self._shared.changes

    @contextmanager
    def _store(self) -> Generator[_MetaStore]:
        with self._shared.changed:
            if self._closed:
                raise BackendClosedError
            check_deadline()
            yield self._shared

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        with self._store() as store:
            if message_id in store.records:
                raise MessageExistsError(message_id)
            return store.put(records.created(metadata, utc_now()))

    def get_meta(self, message_id: str) -> MessageMetadata:
        validate_message_id(message_id)
        with self._store() as store:
            return _copy(store.get(message_id))

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        with self._store() as store:
            return store.put(records.updated(store.get(message_id), metadata, utc_now(), if_version))

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        validate_message_id(message_id)
        with self._store() as store:
            records.check_version(store.get(message_id), if_version)
            store.remove(message_id)

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        validate_message_id(message_id)
        with self._store() as store:
            stored = store.get(message_id)
            moved = records.moved(stored, from_state, to_state, utc_now())
            return _copy(stored) if moved is stored else store.put(moved)

    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 -- frozen
        by = attrgetter(options.sort_by.value, "id")
        since = options.since
        with self._store() as store:
            matching = [r for r in store.in_state(state) if since is None or r.created >= since or r.updated >= since]
        matching.sort(key=by, reverse=options.descending)
        page = matching[options.offset : options.offset + options.limit]
        return ListResult(
            message_ids=tuple(record.id for record in page),
            total=len(matching),
            has_more=options.offset + len(page) < len(matching),
        )

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:  # noqa: ARG002 -- nothing to fetch
        with self._store() as store:
            ids = [message_id for _, message_id in store.by_age(state)]
        for message_id in ids:
            with self._store() as store:
                record = store.records.get(message_id)
            if record is not None and record.state is state:
                yield _copy(record)

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
        excluded = frozenset(exclude_routes)
        origins = {None, *sources}
        claimed: list[MessageMetadata] = []
        with self._store() as store:
            now = utc_now()
            for state in (State.ACTIVE, *sources):
                candidates = (
                    record
                    for record in store.claimable(state, now, oldest_first=oldest_first)
                    if record.route not in excluded and (state is not State.ACTIVE or record.claimed_from in origins)
                )
                claimed += [
                    store.put(records.claimed(record, owner=owner, lease=lease, now=now))
                    for record in list(islice(candidates, limit - len(claimed)))
                ]
        return claimed

    def wait_for_change(self, timeout: float) -> bool:
        left = remaining()
        timeout = min(timeout, threading.TIMEOUT_MAX if left is None else left)
        with self._store() as store:
            # Counted from the last wait on, so that a change while the caller was busy isn't missed.
            seen = self._seen
            store.changed.wait_for(lambda: self._closed or store.changes != seen, timeout)
            if self._closed:
                raise BackendClosedError
            self._seen = store.changes
            return self._seen != seen

    def get_state_count(self, state: State) -> int:
        """Return how many messages are in the state."""
        with self._store() as store:
            return sum(map(len, store.due[state].values()))

    def get_oldest_due(self, state: State) -> datetime | None:
        """Return the earliest time at which a message of the state is due or was."""
        with self._store() as store:
            return min((queue[0][0] for queue in store.due[state].values()), default=None)

    def get_notes(self) -> Mapping[str, str]:
        """Return all notes, by name."""
        with self._store() as store:
            return dict(store.notes)

    def set_note(self, name: str, text: str | None) -> None:
        """Set a note, or remove it if `text` is None."""
        check_note(name, text)
        with self._store() as store:
            if text is None:
                store.notes.pop(name, None)
            else:
                store.notes[name] = text
            store.tell()

    def check(self) -> Iterator[Finding]:
        with self._store():
            return iter([NOT_DURABLE])

    def close(self) -> None:
        with self._shared.changed:
            self._closed = True
            self._shared.changed.notify_all()


def _copy(record: MessageMetadata) -> MessageMetadata:
    return replace(record, headers=dict(record.headers))


class _DataStore:
    """The payloads and when each was stored, by id."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.payloads: dict[str, tuple[bytes, datetime]] = {}


class MemoryData(DataBackend):
    """Payloads in memory."""

    capabilities: ClassVar[DataCapabilities] = DataCapabilities(processes=False, durable=False)

    def __init__(self, store: _DataStore | None = None) -> None:
        self._shared = store or _DataStore()
        self._closed = False

    @contextmanager
    def _payloads(self) -> Generator[dict[str, tuple[bytes, datetime]]]:
        with self._shared.lock:
            if self._closed:
                raise BackendClosedError
            check_deadline()
            yield self._shared.payloads

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        validate_message_id(message_id)

        def put(content: bytes | None) -> None:
            with self._payloads() as payloads:
                if if_absent and message_id in payloads:
                    raise DataExistsError(message_id)
                if content is not None:
                    payloads[message_id] = content, utc_now()

        put(None)  # refuses at once what it would refuse in the end
        return _Writer(put)

    def get_data_reader(self, message_id: str) -> BinaryIO:
        validate_message_id(message_id)
        with self._payloads() as payloads:
            if message_id not in payloads:
                raise DataNotFoundError(message_id)
            return io.BufferedReader(io.BytesIO(payloads[message_id][0]))  # not to be written to

    def delete_data(self, message_id: str) -> None:
        validate_message_id(message_id)
        with self._payloads() as payloads:
            payloads.pop(message_id, None)

    def iter_data(self) -> Iterator[DataInfo]:
        with self._payloads() as payloads:
            ids = list(payloads)
        for message_id in ids:
            with self._payloads() as payloads:
                found = payloads.get(message_id)
            if found is not None:
                content, modified = found
                yield DataInfo(message_id, len(content), modified)

    def check(self) -> Iterator[Finding]:
        with self._payloads():
            return iter([NOT_DURABLE])

    def close(self) -> None:
        with self._shared.lock:
            self._closed = True


class _Writer(DataWriter):
    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._buffer = io.BytesIO()
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: ReadableBuffer, /) -> int:
        written = self._buffer.write(data)
        self._size += written
        return written

    def close(self) -> None:
        if not self.closed:
            content = self._buffer.getvalue()
            self.abort()
            self._put(content)

    def abort(self) -> None:
        super().close()
        self._buffer.close()


@dataclass(frozen=True, slots=True)
class MemoryMetaFactory(MetaFactory):
    """Makes `MemoryMeta`: all of one factory, and of factories of one `store` name, open the same store."""

    name: ClassVar[str] = "memory"
    _named: ClassVar[dict[str, _MetaStore]] = {}

    store: str = ""
    """A name within the process; empty for a store of the factory's own."""
    _own: _MetaStore = field(default_factory=_MetaStore, init=False, repr=False, compare=False)

    def create(self) -> MemoryMeta:
        return MemoryMeta(self._named.setdefault(self.store, self._own) if self.store else self._own)

    def destroy(self) -> None:
        MetaFactory.destroy(self)  # super() means another class in one with slots
        self._named.pop(self.store, None)

    def in_namespace(self, namespace: str) -> Self:
        """Return a factory of the store `store/namespace`; of one of its own if this one's is."""
        validate_namespace(namespace)
        return type(self)(f"{self.store}/{namespace}" if self.store else "")

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the store's name from `memory:name`, or none from `memory:`."""
        return cls(_store_name(url))


@dataclass(frozen=True, slots=True)
class MemoryDataFactory(DataFactory):
    """Makes `MemoryData`: all of one factory, and of factories of one `store` name, open the same store."""

    name: ClassVar[str] = "memory"
    _named: ClassVar[dict[str, _DataStore]] = {}

    store: str = ""
    """A name within the process; empty for a store of the factory's own."""
    _own: _DataStore = field(default_factory=_DataStore, init=False, repr=False, compare=False)

    def create(self) -> MemoryData:
        return MemoryData(self._named.setdefault(self.store, self._own) if self.store else self._own)

    def destroy(self) -> None:
        DataFactory.destroy(self)  # super() means another class in one with slots
        self._named.pop(self.store, None)

    def in_namespace(self, namespace: str) -> Self:
        """Return a factory of the store `store/namespace`; of one of its own if this one's is."""
        validate_namespace(namespace)
        return type(self)(f"{self.store}/{namespace}" if self.store else "")

    @classmethod
    def from_url(cls, url: str) -> Self:
        """Take the store's name from `memory:name`, or none from `memory:`."""
        return cls(_store_name(url))


def _store_name(url: str) -> str:
    parsed = parse_url(url, {})
    if parsed.host:  # a host would lose its upper-case letters
        msg = f"{redact(url)!r} has a host; the URL of a store in memory is memory: or memory:name"
        raise InvalidUrlError(msg)
    return parsed.path
