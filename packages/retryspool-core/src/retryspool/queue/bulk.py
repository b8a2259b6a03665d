"""One change to all messages that a filter means, in batches of writes.

A message is changed as it was read, by its version, or not at all: one that a worker claims meanwhile, or somebody else
changes, is left alone and counted. So a run may be cut off anywhere and begun again, and memory doesn't grow with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from retryspool.errors import (
    BackendUnavailableError,
    InvalidOptionError,
    MessageNotFoundError,
    StateConflictError,
    StorageError,
)
from retryspool.meta import Delete, Update, Write, WriteResult
from retryspool.model import ZERO_TIME, MessageMetadata, State, utc_now
from retryspool.queue.changes import Change
from retryspool.queue.filtering import Filter
from retryspool.spool import Spool

__all__ = ["Bulk", "Tally", "at_rest", "batched", "reason_of", "select"]

Item = TypeVar("Item")

_SAMPLE = 10


@dataclass(slots=True)
class Tally:
    """What became of the messages that were meant, so far."""

    looked_at: int = 0
    """All that were read, to find those that are meant."""
    matched: int = 0
    """Those that are meant: changed, skipped or failed."""
    changed: int = 0
    """In a dry run: those that would be."""
    states: Counter[str] = field(default_factory=Counter[str])
    """Those that were changed, or would be, by the state that they were in."""
    skipped: Counter[str] = field(default_factory=Counter[str])
    """Left as they are, by the reason."""
    failed: Counter[str] = field(default_factory=Counter[str])
    """By the error."""
    sample: list[MessageMetadata] = field(default_factory=list[MessageMetadata])
    """The first few that were changed, or would be, as they were before."""


def select(spool: Spool, where: Filter) -> Iterator[MessageMetadata]:
    """Yield the records that are meant, in constant memory; see `MetaBackend.iter_messages`."""
    for state in where.states or State:
        yield from filter(where.matches, map(spool.shown, spool.meta.iter_messages(state)))


def at_rest(record: MessageMetadata, now: datetime) -> MessageMetadata | None:
    """Return the record as it is without a worker: None if one has it; where it was, if its lease is over."""
    if record.state is not State.ACTIVE:
        return record
    if record.lease_expires > now:
        return None
    origin = record.claimed_from or State.INCOMING
    return replace(record, state=origin, lease_owner="", lease_expires=ZERO_TIME, claimed_from=None)


def batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`, the last of which may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


def reason_of(error: object, message_id: str) -> str:
    """Return what an error says but for the message's id, so that it's counted with what others failed of."""
    return str(error).replace(repr(message_id), "…")


class Bulk:
    """A change that is made to all messages that a filter means.

    :param per_second: so many become due each second; all at once if None
    :param before: what is called with the messages of each batch just before they're changed; those that it doesn't
        return are left out
    :raises InvalidOptionError: the rate isn't above 0, or the change makes nothing due
    """

    def __init__(
        self,
        spool: Spool,
        change: Change,
        where: Filter,
        *,
        batch_size: int,
        per_second: float | None = None,
        before: Callable[[Sequence[MessageMetadata]], Iterable[MessageMetadata]] | None = None,
    ) -> None:
        if per_second is not None and (per_second <= 0 or not change.makes_due):
            what = "it must be above 0" if change.makes_due else f"{change.name!r} makes no message due"
            raise InvalidOptionError(f"per_second is {per_second}; {what}")
        self._spool = spool
        self._change = change
        self._where = where
        self._batch_size = batch_size
        self._per_second = per_second
        self._before = before
        self._began = utc_now()
        self._due = 0
        self.tally = Tally()

    def run(self, *, dry_run: bool, progress: Callable[[Tally], object]) -> Tally:
        """Make the change, or only count; `progress` is called after each batch."""
        for batch in batched(self._candidates(), self._batch_size):
            self.tally.looked_at += len(batch)
            meant = [record for record in batch if self._where.matches(self._spool.shown(record))]
            self.tally.matched += len(meant)
            self._change_batch(meant, dry_run=dry_run)
            progress(self.tally)
        return self.tally

    def _candidates(self) -> Iterator[MessageMetadata]:
        # First the states that others are changed into: what is changed there later isn't met again.
        into = {State.HOLD} if self._change.name == "hold" else {State.INCOMING}
        states = self._where.states or (*self._change.states, State.ACTIVE)
        for state in sorted(states, key=lambda state: (state not in into, state.value)):
            yield from self._spool.meta.iter_messages(state, self._batch_size)

    def _change_batch(self, batch: Sequence[MessageMetadata], *, dry_run: bool) -> None:
        planned = {record.id: write for record in batch if (write := self._write(record)) is not None}
        records = [self._spool.shown(record) for record in batch if record.id in planned]
        if records and self._before is not None and not dry_run:
            records = list(self._before(records))
        if dry_run:
            self._done(records)
            return
        if not records:
            return
        results = self._spool.apply([planned[record.id] for record in records])
        _raise_if_unreachable(results)
        self._done([record for record, result in zip(records, results, strict=True) if self._count(record, result)])

    def _write(self, record: MessageMetadata) -> Write | None:
        """Return what is to be written; None, and a reason counted, if the message is to be left as it is."""
        resting = at_rest(record, utc_now())
        if resting is None:
            self.tally.skipped["a worker has it"] += 1
        elif resting.state not in self._change.states:
            self.tally.skipped[f"it's in {resting.state.label}"] += 1
        elif self._change.made is None:
            return Delete(record.id, if_version=record.version)
        else:
            try:
                changed = self._spread(self._spool.changed(resting, self._change.made))
            except StorageError as error:  # sealed headers that can't be read
                self._count(record, error)
                return None
            if changed != record:
                return Update(changed, if_version=record.version)
            self.tally.skipped["nothing to change"] += 1
        return None

    def _spread(self, record: MessageMetadata) -> MessageMetadata:
        if self._per_second is None:
            return record
        due = self._began + timedelta(seconds=self._due / self._per_second)
        self._due += 1
        return replace(record, next_retry=max(record.next_retry, due))

    def _count(self, record: MessageMetadata, result: WriteResult) -> bool:
        """Count what wasn't done; returns whether it was."""
        match result:
            case StateConflictError():
                self.tally.skipped["it changed meanwhile"] += 1
            case MessageNotFoundError():
                self.tally.skipped["it's gone meanwhile"] += 1
            case StorageError():
                reason = reason_of(result, record.id) or type(result).__name__
                self.tally.failed[reason] += 1
            case _:
                return True
        return False

    def _done(self, records: Sequence[MessageMetadata]) -> None:
        self.tally.changed += len(records)
        self.tally.states.update(record.state.label for record in records)
        self.tally.sample += records[: _SAMPLE - len(self.tally.sample)]


def _raise_if_unreachable(results: Sequence[WriteResult]) -> None:
    """Raise the error with which all of a batch has failed, if the store can't be reached: so would the rest."""
    if all(isinstance(result, BackendUnavailableError) for result in results) and isinstance(results[0], StorageError):
        raise results[0]
