"""Many payloads at once: one statement for many small ones."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from retryspool.data import Payload, copy_payload
from retryspool.errors import DataExistsError, DataNotFoundError, StorageError, raise_if_refused
from retryspool_pg_data.reader import is_in_row, open_payload
from retryspool_pg_data.store import Store
from retryspool_pg_data.writer import PgDataWriter

__all__ = ["delete_batch", "fetch_batch", "store_batches"]

_MAX_COUNT = 500
_MAX_BYTES = 4 * 1024 * 1024
"""How much one statement stores at most."""


class _Batch:
    """Small payloads, no two of one message, that wait to be stored together."""

    def __init__(self, store: Store, results: dict[int, int | StorageError], *, if_absent: bool) -> None:
        self._store = store
        self.results = results
        self.if_absent = if_absent
        self._waiting: dict[str, tuple[int, bytes]] = {}
        self._bytes = 0

    def add(self, index: int, message_id: str, data: bytes) -> None:
        if message_id in self._waiting or len(self._waiting) == _MAX_COUNT or self._bytes + len(data) > _MAX_BYTES:
            self.store()
        self._waiting[message_id] = index, data
        self._bytes += len(data)

    def store(self) -> None:
        """Store them, and note a result for each."""
        waiting, self._waiting, self._bytes = self._waiting, {}, 0
        if not waiting:
            return
        statements = self._store.statements
        statement = statements.put_many_if_absent if self.if_absent else statements.put_many
        doing = f"storing {len(waiting)} payloads"
        parameters = (list(waiting), [data for _, data in waiting.values()])
        try:
            self._store.check()
            rows = self._store.run(doing, statement, parameters, effect=True)
        except StorageError as error:
            if not self.results:
                raise_if_refused(error)
            self.results.update((index, error) for index, _ in waiting.values())
            return
        replaced: dict[str, UUID | None] = dict(rows)
        for message_id, (index, data) in waiting.items():
            self.results[index] = len(data) if message_id in replaced else DataExistsError(message_id)
        self._store.remove_dropped([each for each in replaced.values() if each is not None], doing)


def store_batches(store: Store, items: Sequence[tuple[str, Payload]], *, if_absent: bool) -> list[int | StorageError]:
    """Store payloads; return the size of each, or its error.

    An error that isn't the store's, such as that of a file to be copied from, is raised.
    """
    results: dict[int, int | StorageError] = {}
    batch = _Batch(store, results, if_absent=if_absent)
    for index, (message_id, data) in enumerate(items):
        try:
            if isinstance(data, bytes) and len(data) <= store.chunk_bytes:
                batch.add(index, message_id, data)
            else:
                _write(store, batch, index, message_id, data)
        except StorageError as error:
            if not results:
                raise_if_refused(error)
            results[index] = error
    batch.store()
    return [results[index] for index in range(len(items))]


def _write(store: Store, batch: _Batch, index: int, message_id: str, data: Payload) -> None:
    """Let it wait with the others if it turns out to be small; else store it."""
    with PgDataWriter(store, message_id, if_absent=batch.if_absent) as writer:
        copy_payload(data, writer)
        content = writer.in_memory
        if content is not None:
            batch.add(index, message_id, bytes(content))
            writer.mark_stored()
        else:
            batch.store()  # an earlier one of the same message may be among them
    if content is None:
        batch.results[index] = writer.size


def fetch_batch(store: Store, message_ids: Sequence[str], max_bytes: int) -> dict[str, bytes]:
    """Return those payloads that have up to `max_bytes`. One that isn't whole is left out: its reader tells."""
    if not message_ids:
        return {}
    doing = f"reading {len(message_ids)} payloads"
    rows = store.run(doing, store.statements.get_small, (list(message_ids), max_bytes), effect=False)
    found: dict[str, bytes] = {}
    for message_id, data, size, generation in rows:
        if not is_in_row(data, size, generation):
            try:
                with open_payload(store, message_id) as reader:
                    content = reader.read(max_bytes + 1)
            except DataNotFoundError:
                continue
            if len(content) <= max_bytes:
                found[message_id] = content
        elif len(data) == size:
            found[message_id] = data
    return found


def delete_batch(store: Store, message_ids: Sequence[str], doing: str) -> None:
    """Delete payloads, all in one step, and the chunks of those that had some."""
    rows = store.run(doing, store.statements.delete, (list(message_ids),), effect=True)
    store.remove_dropped([generation for (generation,) in rows], doing)
