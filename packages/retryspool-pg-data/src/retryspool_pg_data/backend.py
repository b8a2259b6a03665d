"""The data backend on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import BinaryIO, ClassVar
from uuid import UUID

import psycopg

from retryspool.data import DataBackend, DataCapabilities, DataInfo, Payload, copy_payload
from retryspool.errors import StorageError, raise_if_refused
from retryspool.ids import validate_message_id
from retryspool.model import Finding
from retryspool_pg_data.batch import delete_batch, fetch_batch, store_batches
from retryspool_pg_data.checks import findings
from retryspool_pg_data.reader import open_payload
from retryspool_pg_data.store import Store
from retryspool_pg_data.writer import PgDataWriter, put

__all__ = ["PgDataBackend"]

_PAGE = 1000
"""How many payloads one statement lists."""


class PgDataBackend(DataBackend):
    """Payloads in a table of PostgreSQL. Made by `PgDataFactory`.

    Several processes may open the same table. Readers that are open go on reading what they opened, whatever becomes of
    the payload or the backend. After a fork, parent and child may both go on; readers and writers stay with the parent.
    """

    capabilities: ClassVar[DataCapabilities] = DataCapabilities(processes=True, durable=True)

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        return f"PgDataBackend({str(self._store.table)!r})"

    def store_data(self, message_id: str, data: Payload, *, if_absent: bool = False) -> int:
        if not isinstance(data, bytes) or len(data) > self._store.chunk_bytes:
            with self.get_data_writer(message_id, if_absent=if_absent) as writer:
                copy_payload(data, writer)
            return writer.size
        validate_message_id(message_id)
        self._store.check()
        put(self._store, message_id, data, if_absent=if_absent)
        return len(data)

    def get_data_writer(self, message_id: str, *, if_absent: bool = False) -> PgDataWriter:
        validate_message_id(message_id)
        self._store.check()
        return PgDataWriter(self._store, message_id, if_absent=if_absent)

    def get_data_reader(self, message_id: str) -> BinaryIO:
        validate_message_id(message_id)
        self._store.check()
        return open_payload(self._store, message_id)

    def delete_data(self, message_id: str) -> None:
        validate_message_id(message_id)
        self._store.check()
        delete_batch(self._store, [message_id], f"deleting the payload of message {message_id!r}")

    def iter_data(self) -> Iterator[DataInfo]:
        self._store.check()
        return self._iterate()

    def _iterate(self) -> Iterator[DataInfo]:
        """Yield page by page, each a statement of its own: who takes their time holds no connection meanwhile."""
        after = ""
        while True:
            rows = self._store.run("listing the payloads", self._store.statements.list, (after, _PAGE), effect=False)
            for message_id, size, updated in rows:
                self._store.check()
                yield DataInfo(message_id, size, updated.astimezone(UTC))
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def store_many(self, items: Iterable[tuple[str, Payload]], *, if_absent: bool = False) -> list[int | StorageError]:
        items = list(items)
        for message_id, _ in items:
            validate_message_id(message_id)
        self._store.check()
        return store_batches(self._store, items, if_absent=if_absent)

    def fetch_many(self, message_ids: Sequence[str], *, max_bytes: int) -> Mapping[str, bytes]:
        for message_id in message_ids:
            validate_message_id(message_id)
        self._store.check()
        return fetch_batch(self._store, message_ids, max_bytes)

    def delete_many(self, message_ids: Sequence[str]) -> list[StorageError | None]:
        for message_id in message_ids:
            validate_message_id(message_id)
        self._store.check()
        if message_ids:
            try:
                delete_batch(self._store, sorted(set(message_ids)), f"deleting {len(message_ids)} payloads")
            except StorageError as error:
                raise_if_refused(error)
                return [error] * len(message_ids)
        return [None] * len(message_ids)

    def check(self) -> Iterator[Finding]:
        self._store.check()
        return findings(self._store)

    def sweep(self, before: datetime, *, dry_run: bool = False) -> Iterator[DataInfo]:
        self._store.check()
        return self._sweep(before, dry_run=dry_run)

    def _sweep(self, before: datetime, *, dry_run: bool) -> Iterator[DataInfo]:
        doing = "sweeping what writers have left behind"
        statements = self._store.statements
        if not dry_run:
            self._store.run(doing, statements.forget_readers, effect=True)
        after = UUID(int=0)
        while True:
            rows = self._store.run(doing, statements.list_loose, (before, after, _PAGE), effect=False)
            for generation, message_id, touched, size in rows:
                self._store.check()
                if dry_run or self._store.drop(generation, doing, before):
                    yield DataInfo(message_id, size, touched.astimezone(UTC))
            if len(rows) < _PAGE:
                return
            after = rows[-1][0]

    def versions(self) -> Mapping[str, str]:
        self._store.check()
        number = self._store.connections.use(
            "asking for versions", lambda connection: connection.info.server_version, effect=False
        )
        return {
            "backend": f"retryspool-pg-data {version('retryspool-pg-data')}",
            "driver": f"psycopg {psycopg.__version__}",
            "server": f"PostgreSQL {number // 10_000}.{number % 10_000}",
        }

    def close(self) -> None:
        self._store.close()
