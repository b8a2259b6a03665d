"""Clients of a history of payloads: each does at random what callers do, and notes what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import BinaryIO

from retryspool.conformance import histories
from retryspool.conformance.data.contents import content, name_of
from retryspool.conformance.data.sequential import MISSING, STORED, Call, Delete, Read, Refused, Store
from retryspool.conformance.histories import Open, Operation, timed
from retryspool.data import DataBackend
from retryspool.errors import DataExistsError, DataNotFoundError, StorageError

__all__ = ["Client"]

_SIZES = (100, 5_000, 300_000)
"""Below and above what is kept together, by most."""


class Client(histories.Client[Call, object]):
    """One client of a store.

    :param announce: called with what is about to begin, as open operations
    """

    def __init__(
        self,
        data: DataBackend,
        number: int,
        *,
        ids: Sequence[str],
        seed: str,
        announce: Callable[[Sequence[Operation]], object] = lambda _: None,
    ) -> None:
        super().__init__(number, ids=ids, seed=seed, announce=announce)
        self._data = data

    def act(self) -> list[Operation]:
        """Do one thing; return the operations that it came to, one for each payload concerned."""
        kinds = (self._read, self._store, self._write, self._delete, self._store_many, self._fetch_many)
        (kind,) = self._random.choices(kinds, (4, 3, 3, 2, 1, 1))
        return kind()

    def look(self) -> list[Operation]:
        """Read every payload."""
        return [operation for message_id in self._ids for operation in self._read_one(message_id)]

    # -- what it does --------------------------------------------------------------------------------------------------

    def _read(self) -> list[Operation]:
        return self._read_one(self._any_id())

    def _read_one(self, message_id: str) -> list[Operation]:
        """Open a reader: what it has is that of its opening, though it is read afterwards."""
        self._begin([(message_id, Read())])
        had = timed(lambda: self._open(message_id))
        if had is None:
            return []
        result: object = had.result
        if not isinstance(had.result, (Open, Refused)):
            with had.result as reader:
                result = name_of(reader.read())
        return [Operation(self._number, message_id, Read(), result, had.began, had.ended)]

    def _open(self, message_id: str) -> BinaryIO | Refused:
        try:
            return self._data.get_data_reader(message_id)
        except DataNotFoundError:
            return MISSING

    def _store(self) -> list[Operation]:
        call, payload = self._new(if_absent=self._random.choice((True, False)))
        message_id = self._any_id()
        store = self._data.store_data
        return self._single(message_id, call, lambda: store(message_id, payload, if_absent=call.if_absent), payload)

    def _write(self) -> list[Operation]:
        call, payload = self._new(if_absent=self._random.choice((True, False)))
        message_id, at = self._any_id(), self._random.randrange(len(payload))

        def write() -> int:
            with self._data.get_data_writer(message_id, if_absent=call.if_absent) as writer:
                writer.write(payload[:at])
                writer.write(payload[at:])
            return writer.size

        return self._single(message_id, call, write, payload)

    def _delete(self) -> list[Operation]:
        message_id = self._any_id()
        return self._batch([(message_id, Delete())], lambda: self._data.delete_many([message_id]))

    def _store_many(self) -> list[Operation]:
        if_absent = self._random.choice((True, False))
        made = [(message_id, *self._new(if_absent=if_absent)) for message_id in self._ids]
        items = [(message_id, payload) for message_id, _, payload in made]

        def store() -> Sequence[object]:
            sizes = self._data.store_many(items, if_absent=if_absent)
            return [_stored(size, payload) for size, (_, payload) in zip(sizes, items, strict=True)]

        return self._batch([(message_id, call) for message_id, call, _ in made], store)

    def _fetch_many(self) -> list[Operation]:
        def fetch() -> Sequence[object]:
            found = self._data.fetch_many(self._ids, max_bytes=max(_SIZES))
            return [name_of(found[each]) if each in found else MISSING for each in self._ids]

        return self._batch([(each, Read()) for each in self._ids], fetch)

    # -- what it notes -------------------------------------------------------------------------------------------------

    def _single(self, message_id: str, call: Store, perform: Callable[[], int], payload: bytes) -> list[Operation]:
        def answer() -> Sequence[object]:
            try:
                return [_stored(perform(), payload)]
            except DataExistsError as error:
                return [error]

        return self._batch([(message_id, call)], answer)

    def _noted(self, message_id: str, call: Call, result: object) -> object:
        del message_id, call
        if isinstance(result, StorageError):
            if not isinstance(result, DataExistsError):
                raise result
            return Refused(DataExistsError)
        return result

    def _new(self, *, if_absent: bool) -> tuple[Store, bytes]:
        name = self._content()
        return Store(name, if_absent), content(name, self._random.choice(_SIZES))


def _stored(size: object, payload: bytes) -> object:
    """Return what a store came to: that it says the right size belongs to it."""
    return STORED if size == len(payload) else size
