"""Mutants that keep records wrong."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from mutants.kinds import mutant
from retryspool import records
from retryspool.errors import BackendError, MessageNotFoundError, StateConflictError
from retryspool.memory import MemoryMeta
from retryspool.model import ZERO_TIME, MessageMetadata, State, utc_now


@mutant("META-3")
class StoreReplaces(MemoryMeta):
    """Storing an id that has a record replaces that."""

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        with self._store() as store:
            return store.put(records.created(metadata, utc_now()))


@mutant("META-9")
class UpdateCreates(MemoryMeta):
    """An update of what isn't there creates it."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        try:
            return super().update_meta(message_id, metadata, if_version=if_version)
        except MessageNotFoundError:
            return self.store_meta(message_id, metadata)


@mutant("META-8")
class UpdateLeavesTheState(MemoryMeta):
    """An update to another state changes all but the state."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        stored = replace(metadata, state=self.get_meta(message_id).state)
        return super().update_meta(message_id, stored, if_version=if_version)


@mutant("META-8")
class UpdateMergesHeaders(MemoryMeta):
    """An update keeps headers that the new record doesn't have."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        merged = replace(metadata, headers={**self.get_meta(message_id).headers, **metadata.headers})
        return super().update_meta(message_id, merged, if_version=if_version)


@mutant("META-7")
class DeleteOfMissingPasses(MemoryMeta):
    """Deleting what isn't there is a success."""

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        try:
            super().delete_meta(message_id, if_version=if_version)
        except MessageNotFoundError:
            return


@mutant("META-7")
class NotFoundIsAnyError(MemoryMeta):
    """What isn't there is a plain backend error."""

    def get_meta(self, message_id: str) -> MessageMetadata:
        try:
            return super().get_meta(message_id)
        except MessageNotFoundError as error:
            raise BackendError(f"no rows: {error}") from None


@mutant("META-7")
class MoveOfMissingConflicts(MemoryMeta):
    """Moving what isn't there is a conflict of states."""

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        try:
            return super().move_to_state(message_id, from_state, to_state)
        except MessageNotFoundError:
            raise StateConflictError(message_id, found=to_state, expected=from_state) from None


class _Stores(MemoryMeta):
    """Stores something else than it was given."""

    def altered(self, metadata: MessageMetadata) -> MessageMetadata:
        raise NotImplementedError

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        return super().store_meta(message_id, self.altered(metadata))


@mutant("META-4")
class MicrosecondsAreCut(_Stores):
    """Times are kept in whole seconds."""

    def altered(self, metadata: MessageMetadata) -> MessageMetadata:
        return replace(metadata, next_retry=metadata.next_retry.replace(microsecond=0))


@mutant("META-4")
class LocalTime(_Stores):
    """Times are kept as local ones, and taken for UTC when they are read."""

    def altered(self, metadata: MessageMetadata) -> MessageMetadata:
        if metadata.next_retry == ZERO_TIME or metadata.next_retry.year > 9000:
            return metadata
        return replace(metadata, next_retry=metadata.next_retry + timedelta(hours=1))


@mutant("META-4")
class NumbersAreFloats(_Stores):
    """Integers go through a double, as JSON's do in other languages."""

    def altered(self, metadata: MessageMetadata) -> MessageMetadata:
        return replace(metadata, size=min(int(float(metadata.size)), 2**63 - 1))


@mutant("META-4")
class HeaderNamesAreFolded(_Stores):
    """Header names are kept in lower case."""

    def altered(self, metadata: MessageMetadata) -> MessageMetadata:
        return replace(metadata, headers={key.lower(): value for key, value in metadata.headers.items()})


class _NamesIds(MemoryMeta):
    """Keeps records under another name than the id."""

    def named(self, message_id: str) -> str:
        raise NotImplementedError

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        records.validate_record(message_id, metadata)
        name = self.named(message_id)
        return super().store_meta(name, replace(metadata, id=name))

    def get_meta(self, message_id: str) -> MessageMetadata:
        return super().get_meta(self.named(message_id))


@mutant("META-1")
class IdsFoldCase(_NamesIds):
    """`A` and `a` are the same message."""

    def named(self, message_id: str) -> str:
        return message_id.lower()


@mutant("META-1")
class IdsLoseASuffix(_NamesIds):
    """`a.json` and `a` are the same message."""

    def named(self, message_id: str) -> str:
        return message_id.removesuffix(".json")


@mutant("META-1")
class TemporaryNamesAreSwept(MemoryMeta):
    """At opening, messages with `.tmp.` in their id are taken for left-over files."""

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        return (record for record in super().iter_messages(state, batch_size) if ".tmp." not in record.id)


@mutant("META-2")
class IdsAreUnchecked(MemoryMeta):
    """Any text is an id, `../x` too."""

    def get_meta(self, message_id: str) -> MessageMetadata:
        with self._store() as store:
            return store.get(message_id)


@mutant("META-5")
class RefusedTooLate(MemoryMeta):
    """A record that can't be stored is refused when it's there already."""

    def store_meta(self, message_id: str, metadata: MessageMetadata) -> MessageMetadata:
        super().store_meta(message_id, MessageMetadata(message_id))
        records.validate_record(message_id, metadata)
        return super().update_meta(message_id, metadata)


@mutant("META-6")
class CreatedIsOverwritten(MemoryMeta):
    """An update sets `created` to now."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        return super().update_meta(message_id, replace(metadata, created=utc_now()), if_version=if_version)


@mutant("META-10")
class MoveKeepsTheVersion(MemoryMeta):
    """A move doesn't raise the version."""

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        moved = super().move_to_state(message_id, from_state, to_state)
        with self._store() as store:
            return store.put(replace(moved, version=max(1, moved.version - 1)))


@mutant("META-10")
class VersionsAreRandom(MemoryMeta):
    """An update gives any version that is greater."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        updated = super().update_meta(message_id, metadata, if_version=if_version)
        with self._store() as store:
            return store.put(replace(updated, version=updated.version + random.randrange(1, 9)))


@mutant("META-11")
class DeletionIgnoresTheVersion(MemoryMeta):
    """A deletion doesn't look at `if_version`."""

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        super().delete_meta(message_id)


@mutant("META-12")
class DeletedIsStillListed(MemoryMeta):
    """What was deleted stays in the listings of its state."""

    def plant(self) -> None:
        self._ghosts: dict[str, MessageMetadata] = {}

    def delete_meta(self, message_id: str, *, if_version: int | None = None) -> None:
        with self._store() as store:
            stored = store.get(message_id)
            super().delete_meta(message_id, if_version=if_version)
            store.due[stored.state].setdefault(stored.priority, []).append((records.due_at(stored), message_id))
            self._ghosts[message_id] = stored
            store.records = _Ghosts(store.records, self._ghosts)


class _Ghosts(dict[str, MessageMetadata]):
    def __init__(self, records: dict[str, MessageMetadata], ghosts: dict[str, MessageMetadata]) -> None:
        super().__init__(records)
        self._ghosts = ghosts

    def get(self, message_id: str, default: object = None) -> object:  # type: ignore[override]
        return super().get(message_id) or self._ghosts.get(message_id, default)


@mutant("META-14")
class ConflictsNameTheWrongState(MemoryMeta):
    """The error of a move from the wrong state tells the expected one as found."""

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        try:
            return super().move_to_state(message_id, from_state, to_state)
        except StateConflictError:
            raise StateConflictError(message_id, found=from_state, expected=from_state) from None


@mutant("META-16")
class SameStateIsUnchecked(MemoryMeta):
    """A move to the same state succeeds whatever there is, or isn't."""

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        if from_state is to_state:
            return MessageMetadata(message_id, state=from_state, version=1)
        return super().move_to_state(message_id, from_state, to_state)


@mutant("META-17")
class MoveKeepsTheLease(MemoryMeta):
    """A move out of `ACTIVE` leaves the owner on the record."""

    def move_to_state(self, message_id: str, from_state: State, to_state: State) -> MessageMetadata:
        owner = self.get_meta(message_id).lease_owner
        moved = super().move_to_state(message_id, from_state, to_state)
        with self._store() as store:
            return store.put(replace(moved, lease_owner=owner))
