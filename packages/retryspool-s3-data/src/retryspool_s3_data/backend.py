"""The data backend on S3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import BinaryIO, ClassVar

from retryspool.data import DataBackend, DataCapabilities, DataInfo, Payload
from retryspool.errors import StorageError
from retryspool.ids import validate_message_id
from retryspool.model import Finding
from retryspool_s3_data.batch import delete_batch, fetch_batch, store_batch
from retryspool_s3_data.factory import S3DataFactory
from retryspool_s3_data.failures import translating
from retryspool_s3_data.findings import find_dangers
from retryspool_s3_data.listing import list_payloads, sweep_uploads
from retryspool_s3_data.reader import open_reader
from retryspool_s3_data.single import put_payload
from retryspool_s3_data.store import Store
from retryspool_s3_data.writer import S3DataWriter

__all__ = ["S3DataBackend", "open_backend"]


class S3DataBackend(DataBackend):
    """Payloads as objects, one each. Made by `S3DataFactory`.

    Several processes may open the same bucket and prefix. Readers that are open go on when the backend is closed. One
    whose connection broke asks for the rest: if the payload was replaced or deleted since, it raises `BackendError`,
    unless the bucket keeps versions.
    """

    capabilities: ClassVar[DataCapabilities] = DataCapabilities(processes=True, durable=True)

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"S3DataBackend({self._store.bucket!r}, prefix={self._store.prefix!r})"

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> S3DataWriter:
        validate_message_id(message_id)
        self._store.check()
        return S3DataWriter(self._store, message_id, if_absent=if_absent)

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        if not isinstance(data, bytes) or len(data) > self._store.settings.part_bytes:
            return super().store_data(message_id, data, if_absent=if_absent)
        validate_message_id(message_id)
        self._store.check()
        put_payload(self._store, message_id, data, if_absent=if_absent)
        return len(data)

    def get_data_reader(self, message_id: str) -> BinaryIO:
        validate_message_id(message_id)
        self._store.check()
        return open_reader(self._store, message_id)

    def delete_data(self, message_id: str) -> None:
        validate_message_id(message_id)
        self._store.check()
        with translating(self._store.call(f"deleting the payload of message {message_id!r}", writes=True)):
            self._store.client.delete_object(**self._store.at(message_id))

    def iter_data(self) -> Iterator[DataInfo]:
        self._store.check()
        return list_payloads(self._store)

    def store_many(self, items: Iterable[tuple[str, Payload]], *, if_absent: bool = False) -> list[int | StorageError]:
        items = list(items)
        for message_id, _ in items:
            validate_message_id(message_id)
        self._store.check()
        return store_batch(self._store, items, if_absent=if_absent)

    def fetch_many(self, message_ids: Sequence[str], *, max_bytes: int) -> Mapping[str, bytes]:
        for message_id in message_ids:
            validate_message_id(message_id)
        self._store.check()
        return fetch_batch(self._store, message_ids, max_bytes)

    def delete_many(self, message_ids: Sequence[str]) -> list[StorageError | None]:
        for message_id in message_ids:
            validate_message_id(message_id)
        self._store.check()
        return delete_batch(self._store, message_ids)

    def sweep(self, before: datetime, *, dry_run: bool = False) -> Iterator[DataInfo]:
        """Abort the uploads that got their last part before a time."""
        self._store.check()
        return sweep_uploads(self._store, before, dry_run=dry_run)

    def check(self) -> Iterator[Finding]:
        self._store.check()
        return find_dangers(self._store)

    def versions(self) -> Mapping[str, str]:
        found = {
            "backend": f"retryspool-s3-data {version('retryspool-s3-data')}",
            "driver": f"botocore {version('botocore')}",
            "server": self._store.server,
        }
        return {what: name for what, name in found.items() if name}

    def close(self) -> None:
        self._store.close()


def open_backend(settings: S3DataFactory) -> S3DataBackend:
    """Open a backend by its settings."""
    return S3DataBackend(Store.open(settings))
