"""What an operator does to messages by hand: each is one write, if the message still is as it was when looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta

from retryspool.errors import MessageNotFoundError, StateConflictError, StorageError
from retryspool.meta import Delete
from retryspool.model import NEVER, MessageMetadata, State, utc_now
from retryspool.queue import changes
from retryspool.queue.bulk import Bulk, Tally, at_rest, batched
from retryspool.queue.changes import Change
from retryspool.queue.filtering import Filter
from retryspool.queue.policy import Policies
from retryspool.spool import Spool

__all__ = ["Operations"]

_TRIES = 100


class Operations:
    """Changes by hand. One that a worker has under its lease is refused unless forced: its result would be lost."""

    def __init__(self, spool: Spool, policies: Policies) -> None:
        self._spool = spool
        self._policies = policies

    def change(self, message_id: str, change: Change, *, force: bool) -> MessageMetadata:
        """Change one message.

        :raises StateConflictError: it's in none of the states that the change is for, or under a lease
        """
        made = change.made
        if made is None:
            raise AssertionError
        self._require(change)
        return self._try(
            message_id,
            change,
            lambda record: self._spool.shown(
                self._spool.meta.update_meta(message_id, self._spool.changed(record, made), if_version=record.version)
            ),
            force=force,
        )

    def delete(self, message_id: str, *, force: bool) -> None:
        """Delete a message, its record and its payload."""

        def deleted(record: MessageMetadata) -> MessageMetadata:
            self._spool.delete(message_id, if_version=record.version)
            return record

        self._try(message_id, changes.delete(), deleted, force=force)

    def change_all(
        self,
        change: Change,
        where: Filter,
        *,
        batch_size: int,
        dry_run: bool,
        per_second: float | None,
        progress: Callable[[Tally], object],
        before: Callable[[Sequence[MessageMetadata]], Iterable[MessageMetadata]] | None,
    ) -> Tally:
        """Change all messages that a filter means."""
        self._require(change)
        bulk = Bulk(self._spool, change, where, batch_size=batch_size, per_second=per_second, before=before)
        return bulk.run(dry_run=dry_run, progress=progress)

    def prune(self, state: State, retention: timedelta, batch_size: int) -> int:
        """Delete a state's messages that were last written longer ago than `retention`; returns how many."""
        pruned = 0
        for batch in batched(self._older(state, retention, batch_size), batch_size):
            for result in self._spool.apply(batch):
                if result is None:
                    pruned += 1
                elif isinstance(result, StorageError) and not isinstance(
                    result, (StateConflictError, MessageNotFoundError)
                ):
                    raise result
        return pruned

    def _older(self, state: State, retention: timedelta, batch_size: int) -> Iterator[Delete]:
        newest = utc_now() - retention
        for record in self._spool.meta.iter_messages(state, batch_size):
            if record.updated < newest:
                yield Delete(record.id, if_version=record.version)

    def _require(self, change: Change) -> None:
        if change.retry_policy:
            self._policies.require(change.retry_policy)

    def _try(
        self, message_id: str, change: Change, write: Callable[[MessageMetadata], MessageMetadata], *, force: bool
    ) -> MessageMetadata:
        for attempt in range(1, _TRIES + 1):
            record = self._spool.get(message_id)
            resting = at_rest(record, NEVER if force else utc_now())
            if resting is None or resting.state not in change.states:
                expected = tuple(state for state in State if state in change.states)
                raise StateConflictError(message_id, found=record.state, expected=expected)
            try:
                return write(resting)
            except StateConflictError:
                if attempt == _TRIES:
                    raise
        raise AssertionError
