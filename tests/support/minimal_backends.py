"""The least that a third party has to write: a dict, a lock, the abstract methods, and not one of the defaults."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Self

from retryspool import records
from retryspool.data import DataBackend, DataCapabilities, DataFactory, DataInfo, DataWriter
from retryspool.deadline import check_deadline
from retryspool.errors import (
    BackendClosedError,
    DataExistsError,
    DataNotFoundError,
    MessageExistsError,
    MessageNotFoundError,
)
from retryspool.ids import validate_message_id
from retryspool.meta import ListOptions, ListResult, MetaBackend, MetaCapabilities, MetaFactory
from retryspool.model import MessageMetadata, State, utc_now
from retryspool.namespaces import validate_namespace

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class MinimalMeta(MetaBackend):
    capabilities: ClassVar[MetaCapabilities] = MetaCapabilities(
        processes=False, durable=False, server_clock=False, contract="1.1"
    )

    def __init__(self, stored: dict[str, MessageMetadata], lock: threading.RLock) -> None:
        self._stored = stored
        self._lock = lock
        self._closed = False

    def _check(self) -> None:
        if self._closed:
            raise BackendClosedError
        check_deadline()

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        self._check()
        with self._lock:
            if message_id in self._stored:
                raise MessageExistsError(message_id)
            self._stored[message_id] = record = _copy(records.created(metadata, utc_now()))
        return _copy(record)

    def get_meta(self, message_id: str) -> MessageMetadata:
        validate_message_id(message_id)
        self._check()
        with self._lock:
            if message_id not in self._stored:
                raise MessageNotFoundError(message_id)
            return _copy(self._stored[message_id])

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        self._check()
        with self._lock:
            record = records.updated(self.get_meta(message_id), metadata, utc_now(), if_version)
            self._stored[message_id] = _copy(record)
        return record

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        with self._lock:
            records.check_version(self.get_meta(message_id), if_version)
            del self._stored[message_id]

    def list_messages(self, state: State, options: ListOptions = ListOptions()) -> ListResult:  # noqa: B008 -- frozen
        self._check()
        with self._lock:
            found = [record for record in self._stored.values() if record.state is state]
        if options.since is not None:
            found = [record for record in found if max(record.created, record.updated) >= options.since]
        found.sort(key=lambda r: (getattr(r, options.sort_by.value), r.id), reverse=options.descending)
        end = options.offset + options.limit
        ids = tuple(record.id for record in found[options.offset : end])
        return ListResult(message_ids=ids, total=len(found), has_more=end < len(found))

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:  # noqa: ARG002
        self._check()
        with self._lock:
            found = list(self._stored)
        for message_id in found:
            self._check()
            record = self._stored.get(message_id)
            if record is not None and record.state is state:
                yield _copy(record)

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        with self._lock:
            record = records.moved(self.get_meta(message_id), from_state, to_state, utc_now())
            self._stored[message_id] = record
        return record

    def close(self) -> None:
        self._closed = True


def _copy(record: MessageMetadata) -> MessageMetadata:
    return replace(record, headers=dict(record.headers))


@dataclass(frozen=True)
class MinimalMetaFactory(MetaFactory):
    name: ClassVar[str] = "minimal"
    place: str = ""
    stored: dict[str, MessageMetadata] = field(default_factory=dict, compare=False, repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock, compare=False, repr=False)
    within: dict[str, Self] = field(default_factory=dict, compare=False, repr=False)

    def create(self) -> MinimalMeta:
        return MinimalMeta(self.stored, self.lock)

    @classmethod
    def from_url(cls, url: str) -> Self:
        raise NotImplementedError(url)

    def in_namespace(self, namespace: str) -> Self:
        validate_namespace(namespace)
        return self.within.setdefault(namespace, type(self)(f"{self.place}/{namespace}"))


class MinimalData(DataBackend):
    capabilities: ClassVar[DataCapabilities] = DataCapabilities(processes=False, durable=False)

    def __init__(self, stored: dict[str, tuple[bytes, datetime]], lock: threading.RLock) -> None:
        self._stored = stored
        self._lock = lock
        self._closed = False

    def _check(self) -> None:
        if self._closed:
            raise BackendClosedError
        check_deadline()

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> DataWriter:
        validate_message_id(message_id)
        self._check()

        def put(content: bytes) -> None:
            with self._lock:
                if if_absent and message_id in self._stored:
                    raise DataExistsError(message_id)
                self._stored[message_id] = content, utc_now()

        return MinimalWriter(put)

    def get_data_reader(self, message_id: str) -> BinaryIO:
        validate_message_id(message_id)
        self._check()
        if message_id not in self._stored:
            raise DataNotFoundError(message_id)
        return io.BufferedReader(io.BytesIO(self._stored[message_id][0]))

    def delete_data(self, message_id: str) -> None:
        validate_message_id(message_id)
        self._check()
        self._stored.pop(message_id, None)

    def iter_data(self) -> Iterator[DataInfo]:
        self._check()
        for message_id in list(self._stored):
            self._check()
            if message_id in self._stored:
                content, modified = self._stored[message_id]
                yield DataInfo(message_id, len(content), modified)

    def close(self) -> None:
        self._closed = True


class MinimalWriter(DataWriter):
    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._content = b""

    @property
    def size(self) -> int:
        return len(self._content)

    def write(self, data: ReadableBuffer, /) -> int:
        if self.closed:
            raise ValueError("write to a closed file")
        chunk = bytes(memoryview(data))
        self._content += chunk
        return len(chunk)

    def close(self) -> None:
        if not self.closed:
            self.abort()
            self._put(self._content)

    def abort(self) -> None:
        super().close()


@dataclass(frozen=True)
class MinimalDataFactory(DataFactory):
    name: ClassVar[str] = "minimal"
    place: str = ""
    stored: dict[str, tuple[bytes, datetime]] = field(default_factory=dict, compare=False, repr=False)
    lock: threading.RLock = field(default_factory=threading.RLock, compare=False, repr=False)
    within: dict[str, Self] = field(default_factory=dict, compare=False, repr=False)

    def create(self) -> MinimalData:
        return MinimalData(self.stored, self.lock)

    @classmethod
    def from_url(cls, url: str) -> Self:
        raise NotImplementedError(url)

    def in_namespace(self, namespace: str) -> Self:
        validate_namespace(namespace)
        return self.within.setdefault(namespace, type(self)(f"{self.place}/{namespace}"))
