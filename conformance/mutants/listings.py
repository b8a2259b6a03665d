"""Mutants that list, count, iterate or batch wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from mutants.kinds import mutant
from retryspool.errors import CorruptRecordError, InvalidInputError, MessageNotFoundError, StorageError
from retryspool.memory import MemoryMeta
from retryspool.meta import Delete, ListOptions, ListResult, Write, WriteResult, check_writes
from retryspool.model import Finding, MessageMetadata, State
from retryspool_fs_meta import FsMetaBackend
from retryspool_fs_meta.codec import decode

DEFAULT = ListOptions()


@mutant("META-30")
class BatchStopsAtAnError(MemoryMeta):
    """The first write that fails ends the batch; the others are reported as done."""

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        check_writes(writes)
        for number, write in enumerate(writes):
            (result,) = super().apply([write])
            if isinstance(result, StorageError):
                return [*super().apply([]), *([None] * number), result, *([None] * (len(writes) - number - 1))]
        return super().apply([])


@mutant("META-31")
class BatchDeletesFirst(MemoryMeta):
    """A batch is sorted by kind: all deletions, then the rest."""

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        check_writes(writes)
        order = sorted(range(len(writes)), key=lambda number: not isinstance(writes[number], Delete))
        done = dict(zip(order, super().apply([writes[number] for number in order]), strict=True))
        return [done[number] for number in range(len(writes))]


@mutant("META-32")
class BatchIsHalfDone(MemoryMeta):
    """A batch with an id that is none is carried out up to there."""

    def apply(self, writes: Sequence[Write]) -> list[WriteResult]:
        results: list[WriteResult] = []
        for write in writes:
            try:
                results += super().apply([write])
            except InvalidInputError:
                if not results:
                    raise
                raise
        return results


@mutant("META-33")
class LimitZeroIsTheDefault(MemoryMeta):
    """A limit of 0 means the default of 25."""

    def list_messages(self, state: State, options: ListOptions = DEFAULT) -> ListResult:
        return super().list_messages(state, replace(options, limit=options.limit or 25))


@mutant("META-33")
class MoreIsGuessed(MemoryMeta):
    """There's more whenever the page is full."""

    def list_messages(self, state: State, options: ListOptions = DEFAULT) -> ListResult:
        found = super().list_messages(state, options)
        return replace(found, has_more=len(found.message_ids) == options.limit)


@mutant("META-33")
class TotalIsThePage(MemoryMeta):
    """The total is that of the page."""

    def list_messages(self, state: State, options: ListOptions = DEFAULT) -> ListResult:
        found = super().list_messages(state, options)
        return replace(found, total=len(found.message_ids))


class _Sorts(MemoryMeta):
    """Lists by an order of its own."""

    def in_order(self, found: list[MessageMetadata], options: ListOptions) -> list[MessageMetadata]:
        raise NotImplementedError

    def list_messages(self, state: State, options: ListOptions = DEFAULT) -> ListResult:
        wanted = set(super().list_messages(state, replace(options, limit=10**9, offset=0)).message_ids)
        found = self.in_order([each for each in self.iter_messages(state) if each.id in wanted], options)
        page = found[options.offset : options.offset + options.limit]
        return ListResult(tuple(each.id for each in page), len(found), options.offset + len(page) < len(found))


@mutant("META-34")
class TiesAreUnordered(_Sorts):
    """Records that tie come in the order in which they lie, the newest first."""

    def in_order(self, found: list[MessageMetadata], options: ListOptions) -> list[MessageMetadata]:
        by = options.sort_by.value
        newest_first = found[::-1]
        return sorted(newest_first, key=lambda each: getattr(each, by), reverse=options.descending)


@mutant("META-34")
class DescendingLeavesTies(_Sorts):
    """Descending reverses the order, but not that of ties."""

    def in_order(self, found: list[MessageMetadata], options: ListOptions) -> list[MessageMetadata]:
        by = options.sort_by.value
        return sorted(sorted(found, key=lambda r: r.id), key=lambda r: getattr(r, by), reverse=options.descending)


@mutant("META-34")
class SortsByCreatedOnly(_Sorts):
    """Whatever the listing is to be sorted by, it's by created."""

    def in_order(self, found: list[MessageMetadata], options: ListOptions) -> list[MessageMetadata]:
        return sorted(found, key=lambda each: (each.created, each.id), reverse=options.descending)


class _Since(MemoryMeta):
    """Takes `since` for another time."""

    def matches(self, record: MessageMetadata, since: datetime) -> bool:
        raise NotImplementedError

    def list_messages(self, state: State, options: ListOptions = DEFAULT) -> ListResult:
        if options.since is None:
            return super().list_messages(state, options)
        listed = super().list_messages(state, replace(options, since=None, limit=10**9, offset=0)).message_ids
        found = [each for each in listed if self.matches(self.get_meta(each), options.since)]
        page = found[options.offset : options.offset + options.limit]
        return ListResult(tuple(page), len(found), options.offset + len(page) < len(found))


@mutant("META-35")
class SinceIsCreated(_Since):
    """`since` looks at `created` alone."""

    def matches(self, record: MessageMetadata, since: datetime) -> bool:
        return record.created >= since


@mutant("META-35")
class SinceIsWholeSeconds(_Since):
    """`since` is cut to seconds, and its own moment is left out."""

    def matches(self, record: MessageMetadata, since: datetime) -> bool:
        return max(record.created, record.updated) > since


class _Pages(MemoryMeta):
    """Iterates a page at a time, by offset."""

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        offset = 0
        while ids := self.list_messages(state, ListOptions(limit=batch_size, offset=offset)).message_ids:
            for message_id in ids:
                try:
                    record = self.get_meta(message_id)
                except MessageNotFoundError:
                    continue
                if record.state is state:
                    yield record
            offset += len(ids)


@mutant("META-36")
class IteratesByOffset(_Pages):
    """The iterator's next page begins at an offset, which changes move."""


@mutant("META-37")
class IteratesUnderItsFeet(MemoryMeta):
    """The iterator goes over the live index, and fails when that changes."""

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        with self._store() as store:
            live = store.records
        for record in live.values():
            if record.state is state:
                with self._store():
                    yield record


@mutant("META-36")
class IteratesOnePage(MemoryMeta):
    """The iterator ends after its first batch."""

    def iter_messages(self, state: State, batch_size: int = 100) -> Iterator[MessageMetadata]:
        for number, record in enumerate(super().iter_messages(state, batch_size)):
            if number == batch_size:
                return
            yield record


class _Counts(MemoryMeta):
    """Keeps a counter beside the records."""

    def plant(self) -> None:
        self._shared.__dict__.setdefault("extra", dict.fromkeys(State, 0))

    @property
    def extra(self) -> dict[State, int]:
        return self._shared.__dict__["extra"]

    def get_state_count(self, state: State) -> int:
        return super().get_state_count(state) + self.extra[state]


@mutant("META-38")
class CounterCountsOverwrites(_Counts):
    """The counter adds one for each update."""

    def update_meta(
        self, message_id: str, metadata: MessageMetadata, *, if_version: int | None = None
    ) -> MessageMetadata:
        updated = super().update_meta(message_id, metadata, if_version=if_version)
        self.extra[updated.state] += 1
        return updated


@mutant("META-38")
class CounterDropsStateZero(MemoryMeta):
    """The counter takes state 0, incoming, for none."""

    def get_state_count(self, state: State) -> int:
        return super().get_state_count(state) if state.value else 0


@mutant("META-39")
class OldestDueIsTheNewest(MemoryMeta):
    """The oldest due is the last one."""

    def get_oldest_due(self, state: State) -> datetime | None:
        with self._store() as store:
            return max((queue[-1][0] for queue in store.due[state].values()), default=None)


@mutant("META-39")
class OldestDueOfTheClaimedIsTheirRetry(MemoryMeta):
    """For claimed messages too it tells `next_retry`, not the end of the lease."""

    def get_oldest_due(self, state: State) -> datetime | None:
        return min((record.next_retry for record in self.iter_messages(state)), default=None)


@mutant("META-40")
class CorruptIsHidden(FsMetaBackend):
    """A record that can't be read is "not found", and `check()` says nothing of it."""

    def get_meta(self, message_id: str) -> MessageMetadata:
        try:
            return super().get_meta(message_id)
        except CorruptRecordError:
            raise MessageNotFoundError(message_id) from None

    def check(self) -> Iterator[Finding]:
        return (finding for finding in super().check() if finding.message_id is None)


@mutant("META-59")
class AlteredIsHandedOut(FsMetaBackend):
    """The checksum of a record isn't looked at."""

    def get_meta(self, message_id: str) -> MessageMetadata:
        try:
            return super().get_meta(message_id)
        except CorruptRecordError:
            for path in Path(self._layout.base).glob(f"*/{message_id}.*"):
                unsealed = re.sub(rb',\n  "RecordChecksum": "[^"]*"', b"", path.read_bytes())
                return decode(unsealed, message_id)[0]
            raise
