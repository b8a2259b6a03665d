"""A store of payloads beside a dictionary of bytes: whatever is done to both must return and leave the same."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

from retryspool.conformance.comparing import assert_all_same, assert_same
from retryspool.conformance.data.contents import content
from retryspool.conformance.data_suite import read, sizes
from retryspool.conformance.stores import Stores
from retryspool.data import DataBackend, DataFactory, DataWriter, Payload
from retryspool.errors import DataExistsError, DataNotFoundError, StorageError

__all__ = ["Both", "SourceError", "Stage"]

_ALL_EVERY = 8
"""At each so manieth look all payloads are read; else those that were touched."""
_MOST_OPEN = 3
"""So many writers, and readers, are open at a time."""


class SourceError(Exception):
    """What a payload's source fails with, if it's to fail."""


class Stage:
    """The store that sequences are run on, one after the other: cleared in between, which costs less than a new one."""

    def __init__(self, stores: Stores[DataFactory, DataBackend]) -> None:
        self._stores = stores
        self._factory: DataFactory | None = None

    def enter(self) -> DataFactory:
        """Return the factory of an empty store."""
        self._factory = self._factory or self._stores.new()
        return self._factory

    def leave(self, data: DataBackend) -> None:
        """Clear the store. One that doesn't get empty isn't used again: what is wrong with it was another run's."""
        try:
            data.delete_many(list(sizes(data)))
            left = bool(sizes(data))
        except (AssertionError, StorageError):
            left = True
        if left:
            self._factory = None
        data.close()


@dataclass(slots=True)
class _Open:
    """A writer in use, and what was written."""

    writer: DataWriter
    message_id: str
    if_absent: bool
    written: list[bytes] = field(default_factory=list[bytes])


class Both:
    """Does everything twice, to the store and to a dictionary, and compares what it returns and leaves."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._factory = stage.enter()
        self._payloads = 0
        self._touched: set[str] = set()
        self.looks = 0
        self.data = self._factory.create()
        self.model: dict[str, bytes] = {}
        self.writers: list[_Open] = []
        self.readers: list[tuple[BinaryIO, bytes]] = []

    def end(self) -> None:
        """Leave the store to the next."""
        self._let_go()
        self._stage.leave(self.data)

    def reopen(self) -> None:
        """Close the store and open it again."""
        self._let_go()
        self.data.close()
        self.data = self._factory.create()
        self._touched.update(self.model)

    def _let_go(self) -> None:
        for each in self.writers:
            each.writer.abort()
        for reader, _ in self.readers:
            reader.close()
        self.writers.clear()
        self.readers.clear()

    def payload(self, size: int) -> bytes:
        """Make a payload that there wasn't yet."""
        self._payloads += 1
        return content(str(self._payloads), size) if size else b""

    # -- whole payloads ------------------------------------------------------------------------------------------------

    def stores(self, message_id: str, payload: bytes, how: str, *, if_absent: bool) -> None:
        """Store one, handed in as bytes, as a file or in chunks."""
        ways: dict[str, Payload] = {"bytes": payload, "file": io.BytesIO(payload), "chunks": _chunks(payload)}
        refused = if_absent and message_id in self.model
        try:
            found: object = self.data.store_data(message_id, ways[how], if_absent=if_absent)
        except DataExistsError:
            found = DataExistsError
        expected = DataExistsError if refused else len(payload)
        assert expected == found
        if not refused:
            self._keep(message_id, payload)

    def stores_from_what_fails(self, message_id: str, payload: bytes) -> None:
        """Store one whose source fails: nothing is changed."""

        def failing() -> Iterator[bytes]:
            yield from _chunks(payload)
            raise SourceError

        self._touched.add(message_id)
        try:
            self.data.store_data(message_id, failing())
        except SourceError:
            return
        raise AssertionError("the source's error didn't reach who stored")

    def stores_many(self, payloads: Mapping[str, bytes], *, if_absent: bool) -> None:
        """Store several."""
        results = self.data.store_many(payloads.items(), if_absent=if_absent)
        assert len(payloads) == len(results)
        for (message_id, payload), result in zip(payloads.items(), results, strict=True):
            if if_absent and message_id in self.model:
                assert isinstance(result, DataExistsError)
            else:
                size = len(payload)
                assert size == result
                self._keep(message_id, payload)

    def deletes(self, message_ids: Sequence[str]) -> None:
        """Delete one, or several in a batch."""
        if len(message_ids) == 1:
            self.data.delete_data(message_ids[0])
        else:
            assert [None] * len(message_ids) == self.data.delete_many(message_ids)
        for message_id in message_ids:
            self.model.pop(message_id, None)
            self._touched.add(message_id)

    def fetches(self, message_ids: Sequence[str], max_bytes: int) -> None:
        """Fetch the small ones."""
        small = {each: self.model[each] for each in message_ids if len(self.model.get(each, b"x" * 2**20)) <= max_bytes}
        assert_all_same(small, self.data.fetch_many(message_ids, max_bytes=max_bytes))

    # -- files ---------------------------------------------------------------------------------------------------------

    def opens_a_writer(self, message_id: str, *, if_absent: bool) -> None:
        """Open a writer; one that is to be the first may be refused by now, or by its close."""
        if len(self.writers) == _MOST_OPEN:
            return
        try:
            writer = self.data.get_data_writer(message_id, if_absent=if_absent)
        except DataExistsError:
            assert if_absent
            assert message_id in self.model
        else:
            self.writers.append(_Open(writer, message_id, if_absent))

    def writes(self, which: int, payload: bytes) -> None:
        """Write more, which nobody sees."""
        if self.writers:
            each = self.writers[which % len(self.writers)]
            each.writer.write(payload)
            each.written.append(payload)
            assert sum(map(len, each.written)) == each.writer.size

    def closes(self, which: int) -> None:
        """Close a writer: now what it wrote is there."""
        if self.writers:
            each = self.writers.pop(which % len(self.writers))
            refused = each.if_absent and each.message_id in self.model
            try:
                each.writer.close()
            except DataExistsError:
                assert refused
            else:
                assert not refused
                self._keep(each.message_id, b"".join(each.written))
            self._touched.add(each.message_id)

    def aborts(self, which: int) -> None:
        """Abort a writer: nothing was."""
        if self.writers:
            each = self.writers.pop(which % len(self.writers))
            each.writer.abort()
            each.writer.close()
            self._touched.add(each.message_id)

    def opens_a_reader(self, message_id: str) -> None:
        """Open a reader: it has what is there now, whenever it's read."""
        if len(self.readers) == _MOST_OPEN:
            return
        try:
            reader = self.data.get_data_reader(message_id)
        except DataNotFoundError:
            assert message_id not in self.model
        else:
            self.readers.append((reader, self.model.get(message_id, b"nothing")))

    def reads_on(self, which: int, size: int) -> None:
        """Read a part, or the rest, of what a reader has."""
        if self.readers:
            which %= len(self.readers)
            reader, left = self.readers.pop(which)
            part = reader.read(size)
            assert_same(left[:size], part)
            if part:
                self.readers.insert(which, (reader, left[len(part) :]))
            else:
                reader.close()

    # -- what must always hold -----------------------------------------------------------------------------------------

    def look(self) -> None:
        """Find each payload that there is, and no other."""
        self.looks += 1
        if self.looks % _ALL_EVERY == 0:
            self._touched.update(self.model)
        assert {message_id: len(payload) for message_id, payload in self.model.items()} == sizes(self.data)
        for message_id in self._touched:
            try:
                found = read(self.data, message_id)
            except DataNotFoundError:
                found = None
            assert_same(self.model.get(message_id), found, f"payload {message_id!r}")
        self._touched.clear()

    def _keep(self, message_id: str, payload: bytes) -> None:
        self.model[message_id] = payload
        self._touched.add(message_id)


def _chunks(payload: bytes) -> Iterator[bytes]:
    for at in range(0, len(payload), 30_000):
        yield payload[at : at + 30_000]
